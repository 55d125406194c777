"""Plain-text analysis for the offline planner: words that carry meaning, names, what is asked.

Rules over the surface of the text, deterministic and without a model. Words are compared by a
crude stem, enough to see that "performed" and "performer" belong together.
"""

import re
from typing import NamedTuple

from ..retrievers.scripts import CHARACTERS

_LETTER = rf"[^\W_{CHARACTERS}]"
_WORD = re.compile(rf"[{CHARACTERS}]|{_LETTER}+(?:['’]{_LETTER}+)?")
_NAME_WORD = r"(?:(?:Mr|Mrs|Ms|Dr|St|Jr|Sr)\.|(?:[A-Z]\.)+|[A-Z][\w’'&-]*)"
_NAME = re.compile(
    rf"(?:{_NAME_WORD}|\d{{1,4}}(?=\s+[A-Z]))"
    rf"(?:\s+(?:(?:of|the|and the|de|la|von|van|&)\s+)*(?:{_NAME_WORD}|\d{{1,4}}\b))*"
)
_SENTENCE_START = re.compile(r"(?:^|[.!?:]\s|\n)\W*$")
_QUOTED = re.compile(r"[\"“”]([^\"“”]{2,120})[\"“”]|(?<!\w)'([^']{2,120})'(?!\w)|`([^`]{2,120})`")
_IDENTIFIER = re.compile(
    r"\b(?:[A-Za-z_]\w*(?:\.\w+)+|[a-z]+_\w+|[a-z]+[A-Z]\w*|__\w+__)\b(?:\(\))?"
)
_COUNTING = re.compile(r"\b(how many|number of|count (?:the|all|of)|list (?:all|every))\b", re.I)
_YEAR = re.compile(r"\b(1[0-9]{3}|20[0-9]{2})\b")
_STOP = frozenset(
    _WORD.findall("""
    a about after all also an and any are as at be because been before being between both but by
    can could did do does doing during each few for from further had has have having he her here
    him his how i if in into is it its itself just made make may me more most much my no nor not
    of off on once only or other our out over own same she should so some such than that the
    their them then there these they this those through to too under until up use used very was
    we were what when where which while who whom whose why will with would you your
    """)
)
_SUFFIXES = (
    *(("ations", ""), ("ation", ""), ("ings", ""), ("ing", ""), ("ers", ""), ("ies", "i")),
    *(("ied", "i"), ("er", ""), ("ed", ""), ("es", ""), ("s", ""), ("e", ""), ("y", "i")),
)
"""Endings with what takes their place."""

_SHORTEST_STEM = 4


class Asked(NamedTuple):
    """What the surface of a question shows."""

    words: frozenset[str]
    """Stems of content words."""
    names: tuple[str, ...]
    quoted: tuple[str, ...]
    identifiers: tuple[str, ...]
    years: tuple[str, ...]
    counting: bool
    """Asks for a number or a complete list."""


def analyse(question: str) -> Asked:
    """Read a question.

    >>> asked = analyse("How many stores are in the state where Juan Gabriel died in 2016?")
    >>> asked.names, asked.years, asked.counting
    (('Juan Gabriel',), ('2016',), True)
    """
    quoted = tuple(next(filter(None, match)) for match in _QUOTED.findall(question))
    return Asked(
        words=content_words(question),
        names=names(question),
        quoted=quoted,
        identifiers=tuple(dict.fromkeys(m.rstrip("()") for m in _IDENTIFIER.findall(question))),
        years=tuple(_YEAR.findall(question)),
        counting=_COUNTING.search(question) is not None,
    )


def stem(word: str) -> str:
    """Reduce a word to a crude stem.

    >>> stem("Performers"), stem("performed"), stem("copies"), stem("copy"), stem("was")
    ('perform', 'perform', 'copi', 'copi', 'was')
    """
    word = word.casefold().removesuffix("'s").removesuffix("’s")
    for suffix, instead in _SUFFIXES:
        root = word.removesuffix(suffix) + instead
        if word.endswith(suffix) and len(root) >= _SHORTEST_STEM:
            return root
    return word


def content_words(text: str) -> frozenset[str]:
    """Return the stems of the words that carry meaning."""
    return frozenset(stem(word) for word in _WORD.findall(text) if word.casefold() not in _STOP)


def names(text: str) -> tuple[str, ...]:
    """Return capitalised names, longest stretches, without sentence openers like "The".

    A single word that opens a sentence is a name only if it is capitalised elsewhere too.

    >>> names("The president of France met Bill Gates. He left. Create it.")
    ('France', 'Bill Gates')
    """
    found: list[str] = []
    for match in _NAME.finditer(text):
        words = match.group().rstrip(".,'’").split()
        opener = _SENTENCE_START.search(text[: match.start()]) is not None
        while words and (words[0].casefold() in _STOP or (words[0].isdigit() and len(words) == 1)):
            words, opener = words[1:], False
        if opener and len(words) == 1 and not _inside(words[0], text):
            continue
        if words and len("".join(words)) > 1:
            found.append(" ".join(words))
    return tuple(dict.fromkeys(found))


def _inside(word: str, text: str) -> bool:
    """Say whether a word also stands in the middle of a sentence."""
    return re.search(rf"[a-z,;]\s+{re.escape(word)}\b", text) is not None
