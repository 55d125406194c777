"""The standard library's documentation, taken from its imported modules.

Much of the library is written in C, and much of its public face is made on import (``os.listdir``,
``random.choice``, ``re.Pattern``), so only the objects themselves tell what users can call.
Identity finds re-exports: one object gives one item, under its shortest public path.
"""

import importlib
import importlib.util
import inspect
import pkgutil
import sys
import sysconfig
import types
import warnings
from collections.abc import Collection, Iterator
from functools import cached_property
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, NamedTuple

from .python_items import UNKNOWN_SIGNATURE, Item, Kind, is_public, is_selected, join_docs, shortest

_SKIPPED = frozenset(
    # Importing these acts (opens a browser, prints, patches), and the rest is not for users:
    # os and os.path have the names of posix, ntpath and their like.
    {"antigravity", "distutils", "genericpath", "idlelib", "lib2to3", "nt", "ntpath", "posix"}
    | {"posixpath", "pydoc_data", "this", "turtledemo"}
)
_TESTS = frozenset({"test", "tests"})
_PROPERTIES = (
    property,
    cached_property,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
)
_PLAIN = frozenset({bool, bytes, complex, float, int, str, type(None)})

_Key = tuple[int, int]
_IN_CLASS = 1


class _Member(NamedTuple):
    """A documented object at one of its paths."""

    path: str
    module: str
    kind: Kind
    value: Any
    name: str
    """What the object calls itself."""


def stdlib_items(modules: Collection[str] | None = None) -> list[Item]:
    """Collect the documented public names of the running Python's own modules, sorted by name.

    Args:
        modules: Only these modules and what lies below them.
    """
    # All are imported before any is looked at: an import may put a submodule in a name's place.
    loaded = {name: _load(name) for name in stdlib_modules() if is_selected(name, modules)}
    by_object: dict[_Key, dict[str, _Member]] = {}
    for name, module in loaded.items():
        for key, member in _module_members(name, module) if module else ():
            by_object.setdefault(key, {})[member.path] = member
    items: dict[str, Item] = {}
    for by_path in by_object.values():
        own_name = next(iter(by_path.values())).name
        item = _item(by_path[shortest(by_path, own_name)[0]])
        # A function may hide the submodule of its name, as it does for whoever writes that name.
        if item and (item.name not in items or items[item.name].kind == "module"):
            items[item.name] = item
    return [items[name] for name in sorted(items)]


def stdlib_modules() -> Iterator[str]:
    """Name the public modules of this Python, packages before what lies in them."""
    for name in sorted(sys.stdlib_module_names - _SKIPPED - _TESTS):
        if is_public(name) and (spec := _stdlib_spec(name)) is not None:
            yield name
            yield from _submodules(name, spec.submodule_search_locations or [])
            if name == "os":
                yield "os.path"


def _stdlib_spec(name: str) -> ModuleSpec | None:
    """Find a module, unless another file of that name is in front of the library's own."""
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:
        return None
    if spec is None or spec.origin in ("built-in", "frozen"):
        return spec
    roots = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    origin = Path(spec.origin or "")
    inside = any(origin.is_relative_to(root) for root in roots if root)
    return spec if inside and not {"site-packages", "dist-packages"} & set(origin.parts) else None


def _submodules(package: str, locations: list[str]) -> Iterator[str]:
    for info in pkgutil.iter_modules(locations, f"{package}."):
        name = info.name.rpartition(".")[2]
        if is_public(name) and name not in _TESTS:
            yield info.name
            if info.ispkg:
                inner = [str(Path(location, name)) for location in locations]
                yield from _submodules(info.name, inner)


def _load(name: str) -> types.ModuleType | None:
    """Import a module of the library; some of those listed belong to other platforms."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except (ImportError, OSError):
            return None


def _module_members(name: str, module: types.ModuleType) -> Iterator[tuple[_Key, _Member]]:
    yield (id(module), 0), _Member(name, name, "module", module, name.split(".")[-1])
    prefix = "" if name == "builtins" else f"{name}."
    for attribute, value in _exports(name, module):
        kind = _kind(value)
        if kind is not None:
            path = prefix + attribute
            own_name = getattr(value, "__name__", attribute)
            yield _key(value, in_class=False), _Member(path, name, kind, value, own_name)
            if kind == "class":
                yield from _class_members(path, name, value)


def _exports(name: str, module: types.ModuleType) -> Iterator[tuple[str, Any]]:
    names = getattr(module, "__all__", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = [(n, getattr(module, n, None)) for n in (names or list(vars(module)))]
    for attribute, value in values:
        if is_public(attribute) and (names or _is_from(value, name)):
            yield attribute, value


def _is_from(value: object, module: str) -> bool:
    """Tell what a module without ``__all__`` offers from what it merely imported."""
    home = getattr(value, "__module__", None)
    return isinstance(home, str) and (
        home == module or home.startswith((f"{module}.", "_")) or value is open
    )


def _kind(value: object) -> Kind | None:
    if inspect.isclass(value):
        return "class"
    is_own_doc = getattr(value, "__doc__", None) != type(value).__doc__
    if inspect.isroutine(value) or (callable(value) and is_own_doc):
        return "function"
    return None


def _class_members(path: str, module: str, cls: type) -> Iterator[tuple[_Key, _Member]]:
    for owner in cls.__mro__:
        if owner is not cls and is_public(f"{owner.__module__}.{owner.__name__}"):
            continue
        for name, value in vars(owner).items():
            if is_public(name) and _is_method(value):
                own_name = getattr(value, "__name__", name)
                member = _Member(f"{path}.{name}", module, "method", value, own_name)
                yield _key(value, in_class=True), member


def _is_method(value: object) -> bool:
    wrapped = isinstance(value, staticmethod | classmethod) or hasattr(value, "__wrapped__")
    is_class = inspect.isclass(value)
    return not is_class and (wrapped or inspect.isroutine(value) or isinstance(value, _PROPERTIES))


def _key(value: Any, *, in_class: bool) -> _Key:
    """Identify an object; a method bound to an instance of its own class is that method.

    So ``random.choice`` is one thing with ``random.Random.choice``, and ``secrets.choice``, which
    is bound to a subclass, another.
    """
    if isinstance(value, types.MethodType):
        cls = value.__self__ if inspect.isclass(value.__self__) else type(value.__self__)
        own = _unwrapped(vars(cls).get(value.__name__)) is value.__func__
        return id(value.__func__), _IN_CLASS if own else id(cls)
    return id(_unwrapped(value)), _IN_CLASS if in_class else 0


def _unwrapped(value: Any) -> Any:
    return value.__func__ if isinstance(value, staticmethod | classmethod) else value


def _item(member: _Member) -> Item | None:
    doc = _doc(member.value)
    if member.kind == "class":
        init = vars(member.value).get("__init__")
        # Only what is written in Python: C classes share "Initialize self."
        doc = join_docs(doc, _doc(init) if isinstance(init, types.FunctionType) else "")
    if not doc:
        return None
    return Item(member.path, member.module, member.kind, _signature(member), doc)


def _doc(value: object) -> str:
    doc = getattr(_unwrapped(value), "__doc__", None)
    return inspect.cleandoc(doc).strip() if isinstance(doc, str) else ""


def _signature(member: _Member) -> str:
    value = member.value
    if member.kind == "module" or isinstance(value, _PROPERTIES):
        return ""
    try:
        signature = inspect.signature(_unwrapped(value))
    except (AttributeError, NameError, TypeError, ValueError):
        return UNKNOWN_SIGNATURE
    parameters = list(signature.parameters.values())
    if member.kind == "method" and not isinstance(value, staticmethod | types.MethodType):
        parameters = parameters[1:]
    return str(signature.replace(parameters=[_with_stable_default(p) for p in parameters]))


class _Name(str):
    """A default value that is shown by name, without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def _with_stable_default(parameter: inspect.Parameter) -> inspect.Parameter:
    """Show only defaults that look the same in every process, and tell nothing of this one."""
    default = parameter.default
    if default is parameter.empty or _is_plain(default):
        return parameter
    name = str(getattr(default, "__name__", "_"))
    return parameter.replace(
        default=_Name(name if name.isidentifier() and is_public(name) else "...")
    )


def _is_plain(value: object) -> bool:
    if type(value) is tuple:
        return all(map(_is_plain, value))
    return type(value) in _PLAIN or value in ([], {})
