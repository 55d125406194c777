"""Quality beside the peers: nDCG@10 and R@100 of every retriever and of what one would use instead.

``python benchmarks/quality.py [SET…] [with-ragatouille]``: what was measured before is kept, an
engine and a set at a time, so that a run that was stopped goes on; the table shows all there is.
RAGatouille, which encodes each corpus twice, runs by itself on sets of at most 3,500 documents, on
larger ones with ``with-ragatouille``.
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import peers
from common import WORK, dataset, dev_half, workspace, write_table
from peers import K, Missing, Search, Texts
from retrail.core.metrics import per_query
from retrail.core.significance import paired_bootstrap
from retrail.evals import Dataset
from retrail.retrievers.precision import is_int8
from retrail.retrievers.staging import encoder_text

from retrail import Workspace

KEPT = WORK / "quality"
SETS = ("scifact", "cosqa", "cranfield", "cacm", "limit_small")
METRICS = ("nDCG@10", "R@100")
OURS = ("keyword", "dense", "late", "hybrid")
PEERS: dict[str, Callable[[Workspace, Texts, Path], Search]] = {
    "bm25s": peers.bm25s,
    "sentence-transformers, Chroma": peers.sentence_transformers,
    "RAGatouille": peers.ragatouille,
}
SMALL = 3_500
"""Documents up to which RAGatouille is measured without being asked for."""
NOTES = """Documents unchunked, title and text, 256 tokens; weights of all-MiniLM-L6-v2 wherever
there are any; late with 192 dimensions, standard scores summed for hybrid. SciFact is the dev half
of its queries, the others are all that are judged. bm25s reads the words that our stemmer gives,
with its own k1 of 1.5 (ours is 1.2); sentence-transformers encodes in float32 and Chroma searches
at its defaults; RAGatouille gets the weights as a ColBERT checkpoint, with the mends that make it
import. The last column is our best row of the set minus the row, nDCG@10 with the 95 % interval of
a paired bootstrap over queries; as the best is picked on the same queries it is a little
flattered. LIMIT has 46 documents: every one of 100 is found.""".replace("\n", " ")


def main() -> None:
    """Measure what has not been, then write the table of all there is."""
    peers.quiet_libraries()
    wanted = [name for name in sys.argv[1:] if name != "with-ragatouille"] or SETS
    for name in wanted:
        _measure(name, large="with-ragatouille" in sys.argv)
    _write()


def _measure(name: str, *, large: bool) -> None:
    data = dataset(name)
    with workspace(f"{name}-192", data, chunk_tokens=0, late_dim=192) as opened:
        vectors = opened.index.snapshot().manifest["vectors"]
        (KEPT / name).mkdir(parents=True, exist_ok=True)
        (KEPT / name / "vectors.txt").write_text(vectors, encoding="utf-8")
        texts = {each.id: encoder_text(each.title, each.text) for each in data.documents()}
        for by in OURS:
            search = _ours(opened, by)
            _kept(name, by, data, lambda search=search: search)
        for peer, build in PEERS.items():
            if peer == "RAGatouille" and len(texts) > SMALL and not large:
                continue
            with TemporaryDirectory(dir=WORK, ignore_cleanup_errors=True) as place:
                _kept(name, peer, data, lambda b=build, p=place: b(opened, texts, Path(p)))


def _ours(opened: Workspace, by: Any) -> Search:
    return lambda query: {hit.doc_id: hit.score for hit in opened.search(query, by=by, k=K)}


def _kept(name: str, engine: str, data: Dataset, build: Callable[[], Search]) -> None:
    """Measure an engine on a set once; a peer that is missing is asked again by each run."""
    path = KEPT / name / f"{engine}.json"
    if path.exists():
        return
    try:
        search = build()
    except Missing as reason:
        print(f"{name}, {engine}: {reason}", file=sys.stderr, flush=True)
        return
    ids = dev_half(data) if name == "scifact" else [query.id for query in data.evaluated()]
    run = {query: search(data.queries[query].text) for query in ids}
    found = per_query({query: data.qrels[query] for query in ids}, run, METRICS)
    path.write_text(json.dumps(found), encoding="utf-8")
    print(f"{name}, {engine}: measured", flush=True)


def _write() -> None:
    rows: list[tuple[object, ...]] = []
    for name in SETS:
        found = {
            engine: json.loads(path.read_text(encoding="utf-8"))
            for engine in (*OURS, *PEERS)
            if (path := KEPT / name / f"{engine}.json").exists()
        }
        if found:
            rows += _rows(name, found)
    header = ("set", "queries", "engine", *METRICS, "our best − this, 95 %")
    kept = {name: KEPT / name / "vectors.txt" for name in SETS}
    int8 = [n for n, p in kept.items() if p.exists() and is_int8(p.read_text(encoding="utf-8"))]
    notes = f"{NOTES} Sets whose passages `auto` encoded in int8: {', '.join(int8) or 'none'}."
    write_table("quality", "Quality beside the peers", header, rows, notes)


def _rows(name: str, found: dict[str, Any]) -> list[tuple[object, ...]]:
    means = {
        engine: [_mean(list(scores[metric].values())) for metric in METRICS]
        for engine, scores in found.items()
    }
    best = max((engine for engine in OURS if engine in found), key=lambda each: means[each][0])
    rows: list[tuple[object, ...]] = []
    for engine in (*OURS, *PEERS):
        shown = engine if engine in PEERS else f"ours, {engine}"
        if engine not in found:
            why = "not measured" if _can_run(engine) else "not installed"
            rows.append((name, "", shown, why, "", ""))
            continue
        scores = found[engine]["nDCG@10"]
        against = "" if engine == best else _difference(scores, found[best]["nDCG@10"])
        rows.append((name, len(scores), shown, *means[engine], against))
    return rows


def _can_run(engine: str) -> bool:
    from importlib.util import find_spec

    module = {"bm25s": "bm25s", "RAGatouille": "ragatouille"}.get(engine, "retrail")
    return find_spec(module) is not None


def _difference(other: dict[str, float], best: dict[str, float]) -> str:
    found = paired_bootstrap([other[query] for query in best], list(best.values()))
    return f"{found.difference:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    main()
