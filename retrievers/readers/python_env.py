"""The documentation of the Python at hand: its standard library and what is installed beside it.

One document a public module, class, function or method that has a docstring. Installed packages
are parsed, never imported; only the standard library, which ships with the interpreter, is.
"""

import builtins
import platform
import re
from collections.abc import Collection, Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Literal

from ...core.documents import Document
from ...core.errors import ConfigError
from .python_items import Item, is_selected
from .python_source import SourceFile, source_items
from .python_stdlib import stdlib_items
from .report import ReadReport, Unreadable

STANDARD_PACKAGE = "python"
"""The package name under which the standard library is selected and filed."""

_DOCS = "https://docs.python.org/3/library"
_TESTS = frozenset({"conftest", "test", "tests", "_vendor"})
_STDTYPES = frozenset(
    {"bytearray", "bytes", "dict", "frozenset", "list", "memoryview", "range", "set", "str"}
    | {"tuple"}
)


def read_python_env(
    report: ReadReport,
    *,
    packages: Collection[str] | None = None,
    modules: Collection[str] | None = None,
) -> Iterator[Document]:
    """Read the documentation of the running Python, the standard library first.

    Args:
        report: Receives the counts and problems while the documents are consumed.
        packages: Distribution names to read, ``"python"`` for the standard library; all if None.
        modules: Only these modules and what lies below them; all if None.

    Raises:
        ConfigError: a package is not installed; nothing has been read then.
    """
    installed = _installed()
    everything = [STANDARD_PACKAGE, *installed]
    wanted = {_normalized(name) for name in (everything if packages is None else packages)}
    for name in sorted(wanted - {STANDARD_PACKAGE, *installed}):
        raise ConfigError(f"package {name!r} is not installed here", fix="check the name")
    return _read_all(report, {n: d for n, d in installed.items() if n in wanted}, wanted, modules)


def _read_all(
    report: ReadReport,
    installed: dict[str, Distribution],
    wanted: set[str],
    modules: Collection[str] | None,
) -> Iterator[Document]:
    seen: set[str] = set()
    for document in _documents(report, installed, wanted, modules):
        if document.id not in seen:
            seen.add(document.id)
            report.documents += 1
            yield document
    for module in sorted(modules or []):
        if not any(is_selected(name, [module]) for name in seen):
            report.skip(module, Unreadable("module not found"))


def _documents(
    report: ReadReport,
    installed: dict[str, Distribution],
    wanted: set[str],
    modules: Collection[str] | None,
) -> Iterator[Document]:
    if STANDARD_PACKAGE in wanted:
        for item in stdlib_items(modules):
            yield _document(item, STANDARD_PACKAGE, platform.python_version(), "standard")
    for _, distribution in sorted(installed.items()):
        files = [f for f in _source_files(distribution) if _may_hold(f.module, modules)]
        if not files:
            continue
        # Each look at a distribution's name or version parses its metadata file anew.
        package, version = distribution.name, distribution.version
        for item in source_items(files, report):
            if is_selected(item.module, modules):
                yield _document(item, package, version, "installed")


def _installed() -> dict[str, Distribution]:
    """Map normalized names to distributions; of duplicates the first on the path counts."""
    found: dict[str, Distribution] = {}
    for distribution in distributions():
        # A half-removed package leaves metadata without a name.
        if distribution.metadata["Name"]:
            found.setdefault(_normalized(distribution.name), distribution)
    return found


def _normalized(name: str) -> str:
    """Spell a distribution name as package indexes compare it.

    >>> _normalized("Ruamel.YAML_clib")
    'ruamel-yaml-clib'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def _source_files(distribution: Distribution) -> list[SourceFile]:
    files: dict[str, SourceFile] = {}
    for path in distribution.files or []:
        parts = (*path.parts[:-1], path.stem)
        if path.suffix == ".py" and all(p.isidentifier() for p in parts):
            names = parts[:-1] if path.stem == "__init__" else parts
            if names and not _TESTS & set(names):
                module = ".".join(names)
                files[module] = SourceFile(module, Path(str(distribution.locate_file(path))))
    return [files[module] for module in sorted(files)]


def _may_hold(module: str, modules: Collection[str] | None) -> bool:
    """Keep all files of a selected top-level package: they hold what its public names import."""
    return modules is None or module.split(".")[0] in {name.split(".")[0] for name in modules}


def _document(
    item: Item, package: str, version: str, library: Literal["standard", "installed"]
) -> Document:
    head = f"{item.name}{item.signature}\n\n" if item.kind != "module" else ""
    return Document(
        id=item.name,
        title=item.name,
        text=head + item.doc,
        url=_docs_url(item) if library == "standard" else None,
        metadata={
            "module": item.module,
            "package": package,
            "version": version,
            "kind": item.kind,
            "signature": item.signature,
            "name": item.name.rpartition(".")[2],
            "library": library,
        },
    )


def _docs_url(item: Item) -> str:
    """Address the page and anchor of the official documentation.

    >>> _docs_url(Item("json", "json", "module", "", "")).removeprefix(_DOCS)
    '/json.html#module-json'
    >>> _docs_url(Item("str.split", "builtins", "method", "", "")).removeprefix(_DOCS)
    '/stdtypes.html#str.split'
    """
    page = item.module.lower()
    if item.kind == "module":
        return f"{_DOCS}/{page}.html#module-{item.name}"
    if item.module == "builtins":
        owner = getattr(builtins, item.name.split(".")[0], None)
        if isinstance(owner, type) and issubclass(owner, BaseException):
            page = "exceptions"
        else:
            is_type = item.kind == "method" or item.name in _STDTYPES
            page = "stdtypes" if is_type else "functions"
    return f"{_DOCS}/{page}.html#{item.name}"
