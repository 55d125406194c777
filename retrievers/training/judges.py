"""Judges: what the words after an opening say of the document, behind one protocol.

A judge reads many openings at once and gives one opinion each. It is asked only about documents
that neither a citation nor a person has settled. Saying nothing is no judgement, except where
opening is all that can be said: after a ``fetch``, a tool that takes no thought, and in logs of
people, which tell how long something was read. A judge that fails has no opinion, which is not a no
(in LRAT's released builder it is).
"""

import re
from collections.abc import Sequence
from enum import Enum
from typing import Protocol

from .openings import Opening

THOUGHTLESS = "fetch"
"""The tool whose callers have no way to say what a passage gave."""


class Opinion(Enum):
    """What a judge makes of one opening."""

    USEFUL = "useful"
    REJECTED = "rejected"
    SILENT = "silent"
    """Nothing was said, or what was said does not tell."""
    FAILED = "failed"
    """The judge could not do its work."""


class Judge(Protocol):
    """Reads openings and gives one opinion each, in their order."""

    def __call__(self, openings: Sequence[Opening], /) -> Sequence[Opinion]:
        """Judge."""
        ...


_NOT = r"(?:\bnot|n['’]t)"
_OUTRIGHT = re.compile(
    rf"{_NOT} (?:(?:at all|very|really|directly|particularly) )?(?:relevant|useful|helpful)\b|"
    rf"{_NOT} what\b|\b(?:does|did) ?{_NOT} help\b|"
    r"\b(?:irrelevant|off[- ]topic|unrelated|no (?:use(?:ful)?|relevant|help(?:ful)?)|"
    r"nothing (?:new|useful|relevant|helpful)|wrong (?:one|page|document|function|passage))\b",
    re.IGNORECASE,
)
"""A verdict on the whole document."""

_LACKING = re.compile(
    rf"\b(?:does|did) ?{_NOT} (?:\w+ly )?"
    r"(?:answer|contain|cover|fit|give|match|mention|say|state|tell)\b|"
    r"\b(?:gives?|mentions?|offers?|says?|states?) no(?:thing)?\b|"
    r"\bnothing (?:about|of|on)\b|\bcan(?:not|['’]t) answer\b",
    re.IGNORECASE,
)
"""Something that was looked for is not there, whatever else is."""

_CLAUSE = re.compile(r"[.;:!?,](?:\s+|$)|\s(?:and|although|but|so|though|which|while|yet)\s", re.I)
_REPORTS = re.compile(
    r"\b(?:adds?|calls?|confirms?|describes?|explains?|gives?|ha[ds]|identif(?:y|ies)|links?|lists?|"
    r"mentions?|names?|places?|reports?|says?|shows?|states?|tells?|ties)\b",
    re.IGNORECASE,
)
_FACT = re.compile(r"\b(?:is|are|was|were)\b", re.IGNORECASE)
_NO_GAIN = re.compile(
    rf"{_NOT}\b|\b(?:no|none|nothing|neither|without|I|let me|next|now|only about|about|another|"
    r"different|unclear|unknown|question|search)\b",
    re.IGNORECASE,
)
"""In clauses that deny, plan, or say what a document is about."""
_OF_DOCUMENT = re.compile(
    r"\s*(?:it|this|that|these|(?:\w+ )?(?:article|document|page|passage|result|text))\b", re.I
)
"""As the subject of *is*, where a report would have a verb of saying."""


def judged_against(thought: str) -> bool:
    """Say whether the words of a thought speak against what was read.

    To lack something is not to be of no use: what a thought takes from a document beside stands.

    >>> judged_against("This is not relevant, I try another."), judged_against("Good.")
    (True, False)
    >>> judged_against("It does not say when."), judged_against("It names him, but not when.")
    (True, False)
    """
    if _OUTRIGHT.search(thought):
        return True
    return _LACKING.search(thought) is not None and not _gained(thought)


def _gained(thought: str) -> bool:
    """Say whether a clause reports something of what was read."""
    return any(
        _REPORTS.search(clause) or (_FACT.search(clause) and not _OF_DOCUMENT.match(clause))
        for clause in _CLAUSE.split(thought)
        if not _NO_GAIN.search(clause)
    )


def silence(opening: Opening) -> Opinion | None:
    """Return the opinion on an opening after which nothing was said, None if something was."""
    if opening.thought and opening.thought.strip():
        return None
    speechless = opening.tool == THOUGHTLESS or opening.dwell_ms is not None
    return Opinion.USEFUL if speechless else Opinion.SILENT


def patient(judge: Judge, seconds: float) -> Judge:
    """Let a judge have no opinion on what was read for less, where a log tells for how long."""

    def is_brief(opening: Opening) -> bool:
        return opening.dwell_ms is not None and opening.dwell_ms < 1000 * seconds

    def judged(openings: Sequence[Opening], /) -> list[Opinion]:
        return [
            Opinion.SILENT if is_brief(opening) else opinion
            for opening, opinion in zip(openings, judge(openings), strict=True)
        ]

    return judged


def explicit_negation(openings: Sequence[Opening], /) -> list[Opinion]:
    """Judge by the words of the thought: useful unless they say otherwise."""
    return [
        silence(opening)
        or (Opinion.REJECTED if judged_against(opening.thought or "") else Opinion.USEFUL)
        for opening in openings
    ]


def cited_only(openings: Sequence[Opening], /) -> list[Opinion]:
    """Have no opinion, so that only citations and people count."""
    return [Opinion.SILENT] * len(openings)


def every_opening(openings: Sequence[Opening], /) -> list[Opinion]:
    """Count every opening as useful, which LRAT calls naive."""
    return [Opinion.USEFUL] * len(openings)
