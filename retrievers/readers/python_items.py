"""Item: one documented thing of Python, and the naming rules that both collectors share.

Kept free of imports, so that collectors can run under any Python version on their own.
"""

from collections.abc import Collection, Iterable
from typing import Literal, NamedTuple

Kind = Literal["module", "class", "function", "method"]

UNKNOWN_SIGNATURE = "(...)"


class Item(NamedTuple):
    """A module, class, function or method with its documentation."""

    name: str
    """The shortest public path, such as ``json.dumps``."""
    module: str
    """The module of that path."""
    kind: Kind
    signature: str
    """From the opening bracket; empty for modules and properties."""
    doc: str


def is_public(path: str) -> bool:
    """Tell whether no part of a dotted path has a leading underscore.

    >>> is_public("json.decoder"), is_public("concurrent.futures._base"), is_public("str.__len__")
    (True, False, False)
    """
    return not any(part.startswith("_") for part in path.split("."))


def is_selected(module: str, modules: Collection[str] | None) -> bool:
    """Tell whether a module is named, or lies below one that is.

    >>> is_selected("os.path", ["os"]), is_selected("os", ["os.path"]), is_selected("os", None)
    (True, False, True)
    """
    if modules is None:
        return True
    parts = module.split(".")
    return any(".".join(parts[:n]) in modules for n in range(1, len(parts) + 1))


def shortest(paths: Iterable[str], name: str) -> list[str]:
    """Sort paths: first those that end in the thing's own name, then by depth, then as given.

    >>> shortest(["json.decoder.JSONDecoder", "json.JSONDecoder"], "JSONDecoder")
    ['json.JSONDecoder', 'json.decoder.JSONDecoder']
    """
    return sorted(paths, key=lambda path: (path.split(".")[-1] != name, path.count(".")))


def join_docs(doc: str, init_doc: str) -> str:
    """Join what a class and its constructor say, for many classes are explained in the latter.

    >>> join_docs("", "Open the file.")
    'Open the file.'
    """
    return "\n\n".join(filter(None, (doc, init_doc)))
