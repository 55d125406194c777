"""Plain text from HTML: what a reader of the page sees, one line a block.

The tree is walked with an explicit stack, so nesting depth costs no Python stack. Scripts, styles,
navigation, templates and hidden elements are left out; ``<pre>`` keeps its line breaks and indents.
"""

import re
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag
    from bs4.element import PageElement

_DROPPED = frozenset(
    {"head", "iframe", "nav", "noscript", "object", "script", "style", "svg", "template", "title"}
)
_INLINE = re.compile(
    "a|abbr|acronym|b|bdi|bdo|big|cite|code|data|del|dfn|em|font|i|img|ins|kbd|label|mark|q|rp|rt|"
    "ruby|s|samp|small|span|strike|strong|sub|sup|time|tt|u|var|wbr"
)
_HIDDEN_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)

# Ends whatever construct the page leaves open: html.parser re-reads the rest of the page once for
# every unfinished "<a b=" or "<!--", which makes hostile pages quadratic.
_TERMINATOR = "<!--]]>-->"


def html_to_text(html: str) -> tuple[str, str]:
    r"""Return the title and the visible text of a page.

    Raises:
        ValueError: the markup is beyond repair.

    >>> html_to_text("<title>T</title><h1>Head</h1><p>one <b>two</b><br>three<script>x</script>")
    ('T', 'Head\none two\nthree')
    """
    try:
        soup = _parse(html)
        title = " ".join(soup.title.get_text().split()) if soup.title else ""
        return title, _tidy("".join(_pieces(soup)))
    except RecursionError as error:
        raise ValueError("elements are nested too deeply") from error


def _parse(html: str) -> "BeautifulSoup":
    from bs4 import BeautifulSoup
    from bs4.exceptions import ParserRejectedMarkup

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return BeautifulSoup(html + _TERMINATOR, "html.parser")
        except ParserRejectedMarkup as error:
            raise ValueError(str(error)) from error


def _pieces(soup: "BeautifulSoup") -> Iterator[str]:
    last = "\n"
    for text, preformatted in _strings(soup):
        if not preformatted:
            text = _collapse(text) if not last.isspace() else _collapse(text).lstrip()
        if text:
            last = text[-1]
            yield text


def _strings(soup: "BeautifulSoup") -> Iterator[tuple[str, bool]]:
    """Walk the tree; breaks count as preformatted when white space must not swallow them."""
    from bs4 import Tag
    from bs4.element import NavigableString, PreformattedString

    stack: list[tuple[str, Iterator[PageElement]]] = [("", iter(soup.contents))]
    preformatted = 0
    while stack:
        name, children = stack[-1]
        node = next(children, None)
        if node is None:
            stack.pop()
            preformatted -= name == "pre"
            yield _break(name)
        elif isinstance(node, Tag):
            if not _is_dropped(node):
                preformatted += node.name == "pre"
                yield _break(node.name)
                stack.append((node.name, iter(node.contents)))
        elif isinstance(node, NavigableString) and not isinstance(node, PreformattedString):
            yield str(node), preformatted > 0


def _break(name: str) -> tuple[str, bool]:
    """Return what stands at both edges of an element: a cell gap, nothing, or a new line."""
    if name in ("td", "th"):
        return " ", False
    return "" if _INLINE.fullmatch(name) else "\n", True


def _is_dropped(tag: "Tag") -> bool:
    return (
        tag.name in _DROPPED
        or tag.has_attr("hidden")
        or tag.get("aria-hidden") == "true"
        or _HIDDEN_STYLE.search(str(tag.get("style", ""))) is not None
    )


def _collapse(text: str) -> str:
    r"""Turn each run of white space into one space.

    >>> _collapse("  a\n  b ")
    ' a b '
    """
    return re.sub(r"\s+", " ", text)


def _tidy(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.split("\n") if line.strip())
