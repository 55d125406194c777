"""Guard queries: general ones that a candidate must not lose by learning what was asked lately.

They come from a file or a dataset that the user names, else from the corpus itself: known items, a
passage's document to be found by the first half of one of its middle sentences. That form was
chosen by measuring (nDCG@10 of the embedded encoder over 14,298 Wikipedia passages; dense, late,
hybrid): titles .97, .99, .99 and whole sentences .85, .98, .99 are at the ceiling; three rare words
.50, .96, .97 are a keyword list that late interaction cannot miss; half sentences .53, .90, .93
leave room to lose. With 200 of them an interval is some 0.02 wide on either side: a training that
forgot nothing reached down to -0.011, one that gained 0.054 on what was asked lost 0.014, down to
-0.035. A margin of 0.05 lets both serve, and not what forgets in earnest. Nothing of them comes
from logs, so nobody who writes logs can move them.

Held-out queries of earlier versions are no guard of their own: a question is held out by a hash of
itself and the seed, so they are among the held-out queries already; under another seed they may
have been trained on since, and would guard nothing.
"""

import json
import random
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from ...core.documents import Passage, split_passage_id
from ...core.errors import ConfigError
from ...core.lines import numbered_lines, parsing
from ..beir import existing_file, identifier, judgements_file, query_text, read_qrels, read_queries
from ..index import Index
from .examples import Example, HeldOut
from .gate import FEWEST

KNOWN_ITEMS = 200
_LEAST_ITEMS = 50
"""Known items below which there is no guard: no interval would be narrow enough to pass."""
_DRAWN = 2_000
_WORD = re.compile(r"\w+")
_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s*(?=\S)")
_LEAST_WORDS = 8
"""Of a sentence, so that its half says something."""

FROM_CORPUS = "known items of the corpus"


class Guard(NamedTuple):
    """Guard queries and where they come from."""

    source: str
    queries: list[HeldOut]
    left_out: int = 0
    """Queries that cannot guard: nothing relevant to them is in the corpus."""


def guard_queries(
    index: Index, examples: Sequence[Example], source: str | Path = "", seed: int = 0
) -> Guard:
    """Return the guard queries.

    Args:
        index: Over the corpus.
        examples: What is trained; known items that these mention are left out.
        source: A ``.jsonl`` file of ``{"_id": …, "text": …, "relevant": {document id: gain}}`` or
            a dataset's folder in BEIR layout, relative to the workspace; empty for known items.
        seed: Of the known items.

    Raises:
        ConfigError: The file is missing or malformed, or nothing in it is about this corpus.
    """
    if not str(source):
        mentioned = {d for e in examples for d in map(_document, (e.positive, *e.negatives))}
        return Guard(FROM_CORPUS, known_items(index, mentioned, seed))
    path = index.root / source
    given = _from_dataset(path) if path.is_dir() else _from_file(path)
    queries = [item for item in given if any(index.texts(f"{d}#0" for d in item.relevant))]
    if len(queries) < FEWEST:
        raise ConfigError(
            f"{len(queries)} of the {len(given)} guard queries of {str(source)!r} have a relevant "
            f"document in this corpus, at least {FEWEST} are needed",
            fix="add queries about this corpus, or remove the guard",
        )
    return Guard(str(source), queries, len(given) - len(queries))


def known_items(
    index: Index, without: Collection[str] = (), seed: int = 0, count: int = KNOWN_ITEMS
) -> list[HeldOut]:
    """Make queries of random passages; none where too few passages are left.

    Args:
        index: Over the corpus.
        without: Documents that are not asked for.
        seed: The same corpus and seed give the same queries.
        count: Queries at most, one a document.
    """
    chance = random.Random(seed)
    found: dict[str, str] = {}
    names = index.sample(_DRAWN, seed)
    chance.shuffle(names)  # they come in the order of the corpus
    for passage in (p for name in names for p in index.passages([name]).values()):
        if len(found) == count:
            break
        if passage.doc_id not in without and passage.doc_id not in found:
            query = half_sentence(passage, chance)
            found |= {passage.doc_id: query} if query else {}
    enough = len(found) >= min(count, _LEAST_ITEMS)
    return [HeldOut(query, {doc_id: 1}) for doc_id, query in found.items()] if enough else []


def half_sentence(passage: Passage, chance: random.Random) -> str | None:
    """Return the first half of a sentence, not the first or last one where there are others."""
    sentences = [s for s in _SENTENCE_END.split(passage.text) if len(_words(s)) >= _LEAST_WORDS]
    inner = sentences[1:-1] or sentences
    if not inner:
        return None
    words = _words(chance.choice(inner))
    return " ".join(words[: len(words) // 2])


def _words(text: str) -> list[str]:
    return _WORD.findall(text)


def _document(passage_id: str) -> str:
    return split_passage_id(passage_id)[0]


def _from_file(path: Path) -> list[HeldOut]:
    found: dict[str, HeldOut] = {}
    for number, line in numbered_lines(path):
        with parsing(path, number, '{"_id": …, "text": …, "relevant": {document id: gain}}'):
            row = json.loads(line)
            name = identifier(row)
            if name in found:
                raise ValueError(f"_id {name!r} was there before")
            gains = {str(doc_id): _gain(gain) for doc_id, gain in row["relevant"].items()}
            found[name] = HeldOut(query_text(row["text"]), _positive(gains))
    return [item for item in found.values() if item.relevant]


def _from_dataset(folder: Path) -> list[HeldOut]:
    queries = read_queries(existing_file(folder, "queries.jsonl"))
    qrels = read_qrels(judgements_file(folder))
    judged = ((queries[q].text, _positive(qrels[q])) for q in queries if q in qrels)
    return [HeldOut(text, relevant) for text, relevant in judged if relevant]


def _gain(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"gain {value!r} is no whole number")
    return value


def _positive(gains: dict[str, int]) -> dict[str, int]:
    return {doc_id: gain for doc_id, gain in gains.items() if gain > 0}
