"""Keyword search by field: weights of words by where they stand, and the field that has most.

Beside all words of a passage an index of documents with fields holds each as ``field:word``. With
weights w a passage scores ``w₀ BM25(all) + Σ_f (w_f − w₀) BM25(f)``, w₀ the least weight of any
field, with the idf of all fields: BM25 over all where weights are equal, and never less for a
higher one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import log1p
from typing import Any

from .keyword_query import MAX_CLAUSES, Group, Words

BODY = "body"
"""The engine's field that holds all words."""

PARTS = "parts"
"""The engine's field that holds words with the names of their fields."""

Analyse = Callable[[str], list[str]]


def parts_text(parts: Mapping[str, str], analyse: Analyse) -> str:
    """Return the words of a passage's fields with the names of the fields, between spaces."""
    return " ".join(f"{name}:{term}" for name, text in parts.items() for term in analyse(text))


def weighted_query(
    everything: Any,
    terms: Sequence[str],
    schema: Any,
    weights: Mapping[str, float],
    idf: Callable[[str, str], float],
) -> Any:
    """Score what a query matches by the weights of the fields its words stand in.

    A word counts in each field by its idf over all of them, as in BM25F: by the field's own, words
    that are common but rare in titles would decide.

    Args:
        everything: The engine's query over all fields; it decides what matches.
        terms: What the query looks for.
        schema: Of the engine.
        weights: Of every field that the index holds.
        idf: Of a term in one of the engine's fields, 0 where none holds it.
    """
    from tantivy import Occur, Query

    least = min(weights.values())
    clauses = [(Occur.Must, Query.boost_query(everything, least))]
    for name, weight in weights.items():
        for term in terms if weight > least else ():
            marked = f"{name}:{term}"
            if own := idf(PARTS, marked):
                boost = (weight - least) * idf(BODY, term) / own
                held = Query.term_query(schema, PARTS, marked)
                clauses.append((Occur.Should, Query.boost_query(held, boost)))
    return Query.boolean_query(clauses)


def _positive(group: Group) -> Iterator[Words]:
    for need, clause in group.clauses:
        if need != "must_not":
            yield from _positive(clause) if isinstance(clause, Group) else (clause,)


def asked_terms(group: Group, analyse: Analyse) -> list[str]:
    """Return the terms that a query looks for, repeated ones as often, as many as are searched."""
    return [term for words in _positive(group) for term in analyse(words.text)[:MAX_CLAUSES]]


def fullest_field(
    idf: Mapping[str, float],
    parts: Mapping[str, str],
    analyse: Analyse,
    weights: Mapping[str, float],
) -> str | None:
    """Return the field that holds most of a query's terms; of equals the first, None without any.

    Args:
        idf: Of each term of the query.
        parts: What the passage says by field.
        analyse: Gives index terms.
        weights: By field, 1 where nothing is said.
    """
    totals: dict[str, float] = {}
    for name, text in parts.items():
        held = idf.keys() & set(analyse(text))
        totals[name] = weights.get(name, 1.0) * sum(idf[term] for term in sorted(held))
    best = max(totals, key=lambda name: totals[name], default=None)
    return best if best is not None and totals[best] > 0 else None


def inverse_frequency(documents: int, holding: int) -> float:
    """Return BM25's idf of a term (Robertson & Zaragoza 2009, eq. 3.3, kept above 0)."""
    return log1p((documents - holding + 0.5) / (holding + 0.5))
