"""Documentation of installed packages, read from their source without running any of it.

A package's public face is mostly re-exports from private modules, so names are resolved in two
steps: every file is parsed to its definitions and imports, then each public module's names are
followed to their definition, which is documented once, under its shortest public path.
"""

import ast
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from .python_items import UNKNOWN_SIGNATURE, Item, Kind, is_public, join_docs, shortest
from .report import ReadReport, Unreadable

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Block = (ast.If, ast.Try, ast.With)


class SourceFile(NamedTuple):
    """A module's name and where its source lies."""

    module: str
    path: Path

    @property
    def is_package(self) -> bool:
        """Tell whether relative imports start at the module itself."""
        return self.path.stem == "__init__"


class _Target(NamedTuple):
    """Where an import points to."""

    module: str
    name: str


class _Definition(NamedTuple):
    """A class or function as it is written."""

    kind: Kind
    signature: str
    doc: str
    members: dict[str, "_Definition"]


@dataclass(slots=True)
class _Module:
    """What one file defines, imports and exports."""

    is_package: bool
    doc: str = ""
    definitions: dict[str, _Definition] = field(default_factory=dict[str, _Definition])
    imports: dict[str, _Target] = field(default_factory=dict[str, _Target])
    stars: list[str] = field(default_factory=list[str])
    exported: set[str] | None = None
    """``__all__`` as far as it is written out."""


def source_items(files: Iterable[SourceFile], report: ReadReport) -> list[Item]:
    """Collect the documented public names of one package's files, sorted by name."""
    modules: dict[str, _Module] = {}
    for file in files:
        try:
            modules[file.module] = _parse(file)
        except Unreadable as problem:
            report.skip(str(file.path), problem)
    items: dict[str, Item] = {}
    for item in [*_definition_items(modules), *_module_items(modules)]:
        items.setdefault(item.name, item)
    return [items[name] for name in sorted(items)]


def _parse(file: SourceFile) -> _Module:
    try:
        source = file.path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except OSError as error:
        raise Unreadable("unreadable file", str(error)) from error
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Unreadable("unparseable source", str(error)) from error
    module = _Module(file.is_package, ast.get_docstring(tree) or "")
    package = file.module if file.is_package else file.module.rpartition(".")[0]
    for statement in _statements(tree.body):
        _collect(statement, module, package)
    return module


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield what runs when a module or class is made, also under conditions."""
    for statement in body:
        yield statement
        if isinstance(statement, _Block):
            yield from _statements(statement.body)
            if not isinstance(statement, ast.With):
                yield from _statements(statement.orelse)
        if isinstance(statement, ast.Try):
            for handler in statement.handlers:
                yield from _statements(handler.body)


def _collect(statement: ast.stmt, module: _Module, package: str) -> None:
    if isinstance(statement, ast.ImportFrom):
        parts = package.split(".") if statement.level else []
        base = parts[: len(parts) + 1 - statement.level]
        source = ".".join([*base, *([statement.module] if statement.module else [])])
        for alias in statement.names:
            if alias.name == "*":
                module.stars.append(source)
            else:
                module.imports[alias.asname or alias.name] = _Target(source, alias.name)
    elif isinstance(statement, ast.Assign | ast.AugAssign | ast.AnnAssign):
        _collect_all(statement, module)
    elif isinstance(statement, ast.ClassDef | _Function):
        _define(statement, module.definitions)


def _collect_all(statement: ast.Assign | ast.AugAssign | ast.AnnAssign, module: _Module) -> None:
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    if not any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
        return
    if isinstance(statement.value, ast.List | ast.Tuple):
        names = {e.value for e in statement.value.elts if isinstance(e, ast.Constant)}
        module.exported = (module.exported or set()) | {n for n in names if isinstance(n, str)}


def _define(node: ast.ClassDef | _Function, into: dict[str, _Definition]) -> None:
    if node.name.startswith("_") or node.name in into or _is_overload(node):
        return
    doc = ast.get_docstring(node) or ""
    if isinstance(node, ast.ClassDef):
        into[node.name] = _class(node, doc)
    elif doc:
        into[node.name] = _Definition("function", _signature(node), doc, {})


def _class(node: ast.ClassDef, doc: str) -> _Definition:
    signature = UNKNOWN_SIGNATURE
    for statement in node.body:
        if isinstance(statement, _Function) and statement.name == "__init__":
            signature = _signature(statement, bound=True)
            doc = join_docs(doc, ast.get_docstring(statement) or "")
    return _Definition("class", signature, doc, _methods(node))


def _methods(node: ast.ClassDef) -> dict[str, _Definition]:
    methods: dict[str, _Definition] = {}
    for statement in _statements(node.body):
        if isinstance(statement, _Function):
            doc = ast.get_docstring(statement) or ""
            public = not statement.name.startswith("_") and not _is_overload(statement)
            if doc and public and statement.name not in methods:
                signature = _method_signature(statement)
                methods[statement.name] = _Definition("method", signature, doc, {})
    return methods


def _decorators(node: ast.ClassDef | _Function) -> set[str]:
    """Name the decorators by their last part: ``functools.cached_property`` is the last word."""
    calls = (d.func if isinstance(d, ast.Call) else d for d in node.decorator_list)
    return {ast.unparse(call).rpartition(".")[2] for call in calls}


def _is_overload(node: ast.ClassDef | _Function) -> bool:
    return "overload" in _decorators(node)


def _method_signature(node: _Function) -> str:
    decorators = _decorators(node)
    if any(name.endswith("property") for name in decorators):
        return ""
    return _signature(node, bound="staticmethod" not in decorators)


def _signature(node: _Function, *, bound: bool = False) -> str:
    """Write the parameters as they stand, without the one that a call on the object fills."""
    arguments = node.args
    if bound and (arguments.posonlyargs or arguments.args):
        (arguments.posonlyargs or arguments.args).pop(0)
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"({ast.unparse(arguments)}){returns}"


def _definition_items(modules: dict[str, _Module]) -> Iterator[Item]:
    paths: dict[_Target, list[str]] = {}
    for module in sorted(modules):
        if is_public(module):
            for name, target in _face(module, modules).items():
                paths.setdefault(target, []).append(f"{module}.{name}")
    for target, found in paths.items():
        definition = modules[target.module].definitions[target.name]
        path = shortest(found, target.name)[0]
        module = path.rpartition(".")[0]
        yield from _items(path, module, definition)


def _items(path: str, module: str, definition: _Definition) -> Iterator[Item]:
    if definition.doc:
        yield Item(path, module, definition.kind, definition.signature, definition.doc)
    for name, member in definition.members.items():
        yield from _items(f"{path}.{name}", module, member)


def _module_items(modules: dict[str, _Module]) -> Iterator[Item]:
    for name, module in modules.items():
        if module.doc and is_public(name):
            yield Item(name, name, "module", "", module.doc)


def _face(name: str, modules: dict[str, _Module]) -> dict[str, _Target]:
    """Name what users find in a public module, each with its definition.

    Imports count where ``__all__`` lists them, and in a package that has no ``__all__``.
    """
    module = modules[name]
    face = {n: _Target(name, n) for n in module.definitions}
    if module.is_package or module.exported is not None:
        names = module.exported
        if names is None:
            names = {*module.imports, *_star_names(name, modules, set())}
        for n in sorted(names - face.keys()):
            target = _resolve(_Target(name, n), modules, set())
            if is_public(n) and target is not None:
                face[n] = target
    return face


def _star_names(name: str, modules: dict[str, _Module], seen: set[str]) -> set[str]:
    """Name what the star imports of a module bring in."""
    seen.add(name)
    names: set[str] = set()
    for source in modules[name].stars:
        module = modules.get(source)
        if module is None or source in seen:
            continue
        if module.exported is not None:
            names |= module.exported
        else:
            names |= {*module.definitions, *module.imports, *_star_names(source, modules, seen)}
    return names


def _resolve(target: _Target, modules: dict[str, _Module], seen: set[_Target]) -> _Target | None:
    """Follow imports to the file that defines a name."""
    module = modules.get(target.module)
    if module is None or target in seen:
        return None
    seen.add(target)
    if target.name in module.definitions:
        return target
    if target.name in module.imports:
        return _resolve(module.imports[target.name], modules, seen)
    for source in module.stars:
        found = _resolve(_Target(source, target.name), modules, seen)
        if found is not None:
            return found
    return None
