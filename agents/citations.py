"""Citations: tie the sentences of an answer to exact spans of passages that were opened.

A marker ``[passage id]`` that names something never opened is removed from the text: a citation
either points at words that are there, or does not exist. Brackets that belong to a word before them
or to a link, such as ``list[int]``, are no markers.
"""

import re
from collections.abc import Sequence

from ..core.documents import Passage
from ..core.trajectories import Answer, Citation
from ..retrievers.chunker import Span, sentence_spans
from .text import content_words

_MARKER = re.compile(r"\s?\[([^\[\]\n]{1,1100})\]")
_SEPARATOR = re.compile(r"\s*[,;]\s*")


def check_citations(text: str, opened: Sequence[Passage], language: str = "en") -> Answer:
    """Resolve the markers of an answer against the opened passages.

    Args:
        text: The model's answer with ``[passage id]`` or ``[document id]`` markers.
        opened: Passages that the run has read.
        language: For splitting sentences.
    """
    by_id = {passage.id: passage for passage in opened}
    by_id |= {p.doc_id: p for p in reversed(opened) if p.doc_id not in by_id}
    citations: list[Citation] = []
    kept: list[str] = []
    at, claim = 0, ""
    for marker in _MARKER.finditer(text):
        named = marker.group(1)
        ids = [named] if named in by_id else _SEPARATOR.split(named)
        known = [by_id[i] for i in ids if i in by_id]
        if not known and _is_prose(text, marker):
            continue
        kept.append(text[at : marker.start()])
        claim = kept[-1] if content_words(kept[-1]) else claim
        for passage in known:
            citations.append(cite(passage, best_sentence(passage, claim, language)))
        kept.append("".join(f" [{passage.id}]" for passage in known))
        at = marker.end()
    kept.append(text[at:])
    return Answer(text="".join(kept).strip(), citations=list(dict.fromkeys(citations)))


def _is_prose(text: str, marker: re.Match[str]) -> bool:
    """Say whether brackets belong to a word before them, as in code, or to a link."""
    attached = marker.group()[0] == "[" and text[: marker.start()][-1:].isalnum()
    link = text[marker.end() : marker.end() + 1] == "("
    return (attached or link) and "#" not in marker.group(1)


def cite(passage: Passage, span: Span) -> Citation:
    """Cite a span of a passage's text, in its document's coordinates."""
    quote = passage.text[span.start : span.end]
    lead = len(quote) - len(quote.lstrip())
    start = passage.start + span.start + lead
    return Citation(
        doc_id=passage.doc_id,
        start=start,
        end=start + len(quote.strip()),
        quote=quote.strip(),
        passage_id=passage.id,
    )


def best_sentence(passage: Passage, claim: str, language: str = "en") -> Span:
    """Return the sentence of a passage that shares most words with a claim."""
    wanted = content_words(claim)
    spans = list(sentence_spans(passage.text, language)) or [Span(0, len(passage.text))]
    return max(
        spans, key=lambda s: (len(wanted & content_words(passage.text[s.start : s.end])), -s.start)
    )
