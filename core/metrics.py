"""Retrieval metrics per query, computed by ir_measures, and TREC run files.

A query without results counts as zero for every metric; it is never dropped.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Run = Mapping[str, Mapping[str, float]]
"""query id → document id → score."""
Qrels = Mapping[str, Mapping[str, int]]
"""query id → document id → gain."""


def per_query(qrels: Qrels, run: Run, measures: Sequence[str]) -> dict[str, dict[str, float]]:
    """Compute measures such as ``nDCG@10`` or ``R@100`` for every judged query.

    Returns:
        measure → query id → value.
    """
    import ir_measures

    parsed = {name: ir_measures.parse_measure(name) for name in measures}
    values = {name: dict.fromkeys(qrels, 0.0) for name in measures}
    names = {str(measure): name for name, measure in parsed.items()}
    judged = {query: dict(found) for query, found in qrels.items()}
    scored = {query: dict(run.get(query, {})) for query in qrels}
    library: Any = ir_measures
    for metric in library.iter_calc(list(parsed.values()), judged, scored):
        values[names[str(metric.measure)]][metric.query_id] = metric.value
    return values


def mean(values: Mapping[str, float]) -> float:
    """Average over queries; zero for none."""
    return sum(values.values()) / len(values) if values else 0.0


def write_trec_run(
    path: Path, rankings: Iterable[tuple[str, Sequence[tuple[str, float]]]], tag: str
) -> int:
    """Write ``(query id, [(document id, score)])`` best first, as a TREC run, in one step.

    Ids with white space cannot be written and raise ValueError. Returns the number of queries.
    """
    temporary = path.with_name(path.name + ".tmp")
    count = 0
    try:
        with temporary.open("w", encoding="utf-8") as file:
            for query_id, ranked in rankings:
                count += 1
                file.writelines(_trec_lines(query_id, ranked, tag))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return count


def _trec_lines(query_id: str, ranked: Sequence[tuple[str, float]], tag: str) -> Iterator[str]:
    for rank, (doc_id, score) in enumerate(ranked, 1):
        if any(character.isspace() for character in query_id + doc_id):
            raise ValueError(f"{query_id!r} or {doc_id!r} has white space, TREC has none")
        yield f"{query_id} Q0 {doc_id} {rank} {score:.6f} {tag}\n"
