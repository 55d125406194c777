"""Extractive answers: the opened sentences that say most about the question, each cited.

Sentences are scored by the encoder's cosine with the question, helped by the question's words they
hold. What nothing supports is not answered: below the floor the answer is "not found".
"""

from typing import NamedTuple

from ..core.documents import Passage
from ..core.trajectories import Answer
from ..retrievers.chunker import Span, sentence_spans
from ..tools.render import render_table
from .citations import cite
from .run import Run
from .text import content_words

MAX_SENTENCES = 3
FLOOR = 0.35
"""Score below which a sentence supports nothing."""

_WORD_SHARE = 0.3
_KEEP = 0.8
"""Further sentences must score at least this share of the best one."""

_MAX_CANDIDATES = 60
_LONGEST_SENTENCE = 600

_FEWEST_WORDS = 3
"""Words a sentence must say beyond its document's title."""

NOT_FOUND = "not found in the corpus"


class _Sentence(NamedTuple):
    passage: Passage
    span: Span
    text: str
    words: float
    """Share of the question's words."""


def extract_answer(run: Run) -> Answer:
    """Answer a question from what its run has read."""
    table = next((s.observation.table for s in reversed(run.steps) if s.observation.table), None)
    if table is not None:
        return Answer(text=render_table(table))
    found = _candidates(run)
    if not found:
        return Answer(text="", missing=NOT_FOUND)
    cosines = run.session.index.similarities(
        run.question, [f"{item.passage.title}\n{item.text}" for item in found]
    )
    scored = sorted(
        ((c + _WORD_SHARE * item.words, item) for c, item in zip(cosines, found, strict=True)),
        key=lambda pair: -pair[0],
    )
    best = scored[0][0]
    if best < FLOOR:
        return Answer(text="", missing=NOT_FOUND)
    chosen = [item for score, item in scored[:MAX_SENTENCES] if score >= _KEEP * best]
    chosen.sort(key=lambda item: found.index(item))
    return Answer(
        text=" ".join(f"{item.text} [{item.passage.id}]" for item in chosen),
        citations=[cite(item.passage, item.span) for item in chosen],
    )


def _candidates(run: Run) -> list[_Sentence]:
    """Return the opened sentences that share most words with the question, in reading order."""
    asked = content_words(run.question)
    language = run.session.index.settings.language
    found: list[_Sentence] = []
    for passage in run.opened():
        for span in sentence_spans(passage.text, language):
            text = " ".join(passage.text[span.start : span.end].split())
            said = content_words(text) - content_words(passage.title)
            if len(said) >= _FEWEST_WORDS and len(text) <= _LONGEST_SENTENCE:
                share = len(asked & content_words(f"{passage.title} {text}")) / max(1, len(asked))
                found.append(_Sentence(passage, span, text, share))
    best = sorted(range(len(found)), key=lambda i: -found[i].words)[:_MAX_CANDIDATES]
    return [found[i] for i in sorted(best)]
