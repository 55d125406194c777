"""The plan of the house, held by tests: floors, cycles, public names, cheap import."""

import ast
import graphlib
import importlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import retrail

ROOT = Path(__file__).resolve().parent.parent
FLOORS = {
    "core": 0,
    "retrievers": 1,
    "memory": 1,
    "tools": 2,
    "agents": 3,
    "evals": 4,
    "serving": 5,
}
HEAVY = ("torch", "chromadb", "langchain", "langgraph", "transformers", "numpy")


class Import(NamedTuple):
    """One imported module or name, as a full dotted name."""

    target: str
    line: int
    relative: bool
    runtime: bool
    """False for imports that only type checkers see."""


class Module(NamedTuple):
    """A source file under its installed name."""

    name: str
    path: Path
    tree: ast.Module
    imports: tuple[Import, ...]

    @property
    def room(self) -> str:
        return self.name.split(".")[1]

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"

    def at(self, line: int) -> str:
        return f"{self.path.relative_to(ROOT)}:{line}"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("retrail", *(parts[:-1] if parts[-1] == "__init__" else parts)))


def type_only_nodes(tree: ast.Module) -> set[ast.AST]:
    guarded = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
    )
    return {inner for node in guarded for child in node.body for inner in ast.walk(child)}


def read_imports(name: str, is_package: bool, tree: ast.Module) -> Iterator[Import]:
    package = name.split(".") if is_package else name.split(".")[:-1]
    type_only = type_only_nodes(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets, relative = [alias.name for alias in node.names], False
        elif isinstance(node, ast.ImportFrom):
            relative = node.level > 0
            base = package[: len(package) - node.level + 1] if relative else []
            base = [*base, *([node.module] if node.module else [])]
            targets = [".".join([*base, alias.name]) for alias in node.names]
        else:
            continue
        for target in targets:
            yield Import(target, node.lineno, relative, node not in type_only)


def read_module(path: Path) -> Module:
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    name = module_name(path)
    return Module(name, path, tree, tuple(read_imports(name, path.name == "__init__.py", tree)))


MODULES = {
    module.name: module
    for room in FLOORS
    for module in map(read_module, sorted((ROOT / room).rglob("*.py")))
}
PACKAGES = [name for name, module in MODULES.items() if module.is_package]


def owner(target: str) -> str | None:
    """Return the module of ours that an imported name belongs to."""
    parent = target.rpartition(".")[0]
    return next((name for name in (target, parent) if name in MODULES), None)


def is_ours(target: str) -> bool:
    return target.split(".")[0] in {"retrail", *FLOORS}


def test_every_room_was_read():
    assert {module.room for module in MODULES.values()} == set(FLOORS)


def test_imports_of_ours_are_relative():
    absolute = [
        f"{module.at(found.line)} imports {found.target}"
        for module in MODULES.values()
        for found in module.imports
        if not found.relative and is_ours(found.target)
    ]
    assert absolute == [], "inside the rooms, import with dots: from ..core.errors import ..."


def test_relative_imports_lead_to_a_module_of_ours():
    astray = [
        f"{module.at(found.line)} imports {found.target}"
        for module in MODULES.values()
        for found in module.imports
        if found.relative and found.target != "retrail.__version__" and not owner(found.target)
    ]
    assert astray == []


def test_imports_go_down_the_floors():
    upward = [
        f"{module.at(found.line)} ({module.room}) imports {found.target}"
        for module in MODULES.values()
        for found in module.imports
        if (target := owner(found.target))
        and (room := MODULES[target].room) != module.room
        and FLOORS[room] >= FLOORS[module.room]
    ]
    assert upward == [], f"a room may import from lower floors only: {FLOORS}"


def test_no_import_cycles():
    graph = {
        module.name: {
            target
            for found in module.imports
            if found.runtime and (target := owner(found.target)) and target != module.name
        }
        for module in MODULES.values()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_no_print_calls():
    calls = [
        module.at(node.lineno)
        for module in MODULES.values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert calls == []


def test_files_are_at_most_400_lines():
    lengths = {
        module.at(1): len(module.path.read_text(encoding="utf-8").splitlines())
        for module in MODULES.values()
    }
    assert {where: lines for where, lines in lengths.items() if lines > 400} == {}


def test_every_module_has_a_docstring():
    assert [name for name, module in MODULES.items() if not ast.get_docstring(module.tree)] == []


def targets_of(node: ast.Assign | ast.AnnAssign) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def bound_names(module: Module) -> set[str]:
    """Names a package's file offers: imports of ours, definitions, and lazily loaded names."""
    names: set[str] = set()
    for node in module.tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            names.update(targets_of(node))
            if "_HOME" in targets_of(node) and isinstance(node.value, ast.Dict):
                names.update(ast.literal_eval(key) for key in node.value.keys if key)
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            names.update(alias.asname or alias.name for alias in node.names)
    return {name for name in names if not name.startswith("_")}


def declared_all(module: Module) -> list[str]:
    for node in module.tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and "__all__" in targets_of(node):
            return list(getattr(importlib.import_module(module.name), "__all__"))  # noqa: B009
    return []


def sort_key(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest: the order ruff keeps ``__all__`` in."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("name", PACKAGES)
def test_package_lists_its_public_names(name: str):
    listed = declared_all(MODULES[name])
    assert sorted(listed) == sorted(bound_names(MODULES[name]))
    assert listed == sorted(listed, key=sort_key)
    package = importlib.import_module(name)
    assert [public for public in listed if not hasattr(package, public)] == []


@pytest.mark.parametrize("room", FLOORS)
def test_room_has_public_names(room: str):
    assert declared_all(MODULES[f"retrail.{room}"])


def test_front_page_names_agree_with_its_stub():
    stub = ast.parse((ROOT / "retrail" / "__init__.pyi").read_text(encoding="utf-8"))
    homes = {
        alias.name: node.module
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }
    values = {
        name for node in stub.body if isinstance(node, ast.AnnAssign) for name in targets_of(node)
    }
    assert homes == vars(retrail)["_HOME"]
    assert values == {"__all__", "__version__"}
    assert retrail.__all__ == [*sorted(homes), "__version__"]
    assert dir(retrail) == sorted(retrail.__all__)


@pytest.mark.parametrize("name", retrail.__all__)
def test_front_page_name_resolves(name: str):
    assert getattr(retrail, name) is not None


def test_unknown_front_page_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'Nothing'"):
        _ = retrail.Nothing  # type: ignore[attr-defined]


def test_the_tests_themselves_are_offline():
    with pytest.raises(pytest.fail.Exception, match=r"'198\.51\.100\.1'"):
        socket.create_connection(("198.51.100.1", 80))
    with pytest.raises(pytest.fail.Exception, match=r"'example\.org'"):
        socket.getaddrinfo("example.org", 443)
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()


def test_importing_retrail_loads_nothing_heavy():
    code = "import retrail, sys; sys.stdout.write('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "retrail" in loaded
    assert {name for name in loaded if name.startswith(HEAVY)} == set()
