"""What kind of query it is, by its form alone, so that gains can be read by kind.

Four small heuristics for English; a query of another language is of the kind ``none`` in the first
and last. They sort what is reported and decide nothing.
"""

import re

_WORDS = {
    "who": "who",
    "whose": "who",
    "whom": "who",
    "what": "what",
    "which": "what",
    "when": "when",
    "where": "where",
    "why": "why",
    "how": "how",
} | dict.fromkeys(
    ("is", "are", "was", "were", "do", "does", "did", "has", "have", "had", "can", "could", "will"),
    "yes or no",
)
_COMPARES = re.compile(
    r"\b(both|same|than|between|versus|vs|compared?|differences?|or|either|older|younger|earlier|"
    r"later|first|more|fewer|larger|smaller|longer)\b",
    re.IGNORECASE,
)
_NESTED = re.compile(r"\w.*\b(that|which|who|whose|where|of the|by the)\b", re.IGNORECASE)


def query_types(query: str, relevant: int) -> dict[str, str]:
    """Name a query's kind in four ways.

    Args:
        query: Its text.
        relevant: Documents that are relevant to it.

    >>> query_types("Which band is older, Muse or Blur?", 2)["reasoning"]
    'comparison'
    """
    words = query.split()
    return {
        "question word": _question_word(words),
        "length": _length(len(words)),
        "relevant documents": "one" if relevant == 1 else "several",
        "reasoning": _reasoning(query),
    }


def _question_word(words: list[str]) -> str:
    """Find the first question word; auxiliaries ask only where they begin."""
    lower = [word.casefold().strip("\"'“”‘’.,:;?!()") for word in words]
    if lower and _WORDS.get(lower[0]):
        return _WORDS[lower[0]]
    asked = (_WORDS[word] for word in lower if _WORDS.get(word, "yes or no") != "yes or no")
    return next(asked, "none")


def _length(words: int) -> str:
    return "1 to 4 words" if words < 5 else "5 to 9 words" if words < 10 else "10 words or more"


def _reasoning(query: str) -> str:
    """Comparison of things; nested, as ``the author of the book that …``; or plain."""
    if _COMPARES.search(query):
        return "comparison"
    return "nested" if _NESTED.search(query) else "plain"
