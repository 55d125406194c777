"""The compression ladder of the late index on SciFact: bytes a passage against nDCG@10.

Every rung is derived with the product's codecs from token vectors stored once, in half precision
with 192 dimensions: fewer dimensions are their first ones, scaled again, as PCA orders its axes.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from common import RESULTS, dataset, dev_half, workspace, write_table
from numpy.typing import NDArray
from retrail.core.metrics import mean, per_query
from retrail.core.settings import LateCodec
from retrail.evals import Dataset
from retrail.retrievers import Index
from retrail.retrievers.codecs import CODECS, Codec
from retrail.retrievers.late import Layout
from retrail.retrievers.staging import encoder_text
from retrail.retrievers.token_reduction import clustered, content, factor_of, whole_words
from retrail.retrievers.vectors import SAMPLE_TEXTS, VectorFiles, vectors_of

CODEC_DIMS = [(codec, dim) for codec in CODECS for dim in (192, 128, 96, 64, 32)]
REDUCED = [
    (codec, dim, tokens)
    for tokens in ("words", "content", "pooled:2", "pooled:3", "pooled:4")
    for codec, dim in (("fp16", 192), ("int8", 128), ("int8", 64))
]
Passages = dict[int, NDArray[np.float32]]


class Rung(NamedTuple):
    """One measured form of the index."""

    codec: LateCodec
    dim: int
    tokens: str
    bytes_per_passage: float
    ndcg: float


class Stored(NamedTuple):
    """What is measured: passages by row id, and what each query is to rank."""

    passages: Passages
    sample: list[int]
    """Passages that codecs are fitted to, as the index would choose them."""
    queries: dict[str, tuple[NDArray[np.float32], NDArray[np.int64]]]
    """Token vectors and the candidates of dense and keyword search."""
    names: dict[int, str]
    """Document ids by row id."""
    judged: dict[str, dict[str, int]]


def main() -> None:
    """Measure every rung, write the table and the plot."""
    data = dataset("scifact")
    with workspace("scifact-192", data, chunk_tokens=0, late_dim=192) as opened:
        stored = read(opened.index, data)
        rungs = [*rungs_of(stored.passages, stored, "all", CODEC_DIMS)]
        exact = ndcg(stored, lambda _: np.array(sorted(stored.passages)), stored.passages.get)
        for tokens in dict.fromkeys(tokens for *_, tokens in REDUCED):
            fewer = reduced(opened.index, stored.passages, tokens)
            wanted = [(codec, dim) for codec, dim, name in REDUCED if name == tokens]
            rungs += rungs_of(fewer, stored, tokens, wanted)
    plot(rungs)
    table(rungs, exact, len(stored.queries))


def read(index: Index, data: Dataset) -> Stored:
    """Read the stored token vectors, and let the index find candidates for half the queries."""
    snapshot = index.snapshot()
    folder = index.root / "vectors" / vectors_of(snapshot.manifest)
    files = VectorFiles(folder, dim=snapshot.manifest["dim"], late_dim=192)
    layout: Layout = snapshot.layout
    tokens, basis = files.tokens(192), files.basis
    assert basis is not None
    spans = zip(layout.ids, layout.offsets, layout.lengths, strict=True)
    passages = {int(row): np.float32(tokens[at : at + n]) for row, at, n in spans}
    queries = {}
    for query in dev_half(data):
        text = data.queries[query].text
        found = [snapshot.rank(by, text, 100).ids for by in ("keyword", "dense")]
        queries[query] = basis.project(snapshot.encode(text).tokens), np.union1d(*found)
    documents = index.corpus.passages(list(passages))
    order = np.argsort(layout.rows)[:SAMPLE_TEXTS]
    return Stored(
        passages,
        layout.ids[order].tolist(),
        queries,
        {row: passage.doc_id for row, passage in documents.items()},
        {query: data.qrels[query] for query in queries},
    )


def rungs_of(
    passages: Passages, stored: Stored, tokens: str, wanted: list[tuple[LateCodec, int]]
) -> Iterator[Rung]:
    """Measure codecs at dimensions over the same passages."""
    for name, dim in wanted:
        kind = CODECS[name]
        codec = kind(kind.fit(np.concatenate([cut(passages[row], dim) for row in stored.sample])))
        kept = {row: codec.encode(cut(matrix, dim)) for row, matrix in passages.items()}
        size = float(np.mean([matrix.nbytes for matrix in kept.values()]))
        score = ndcg(stored, lambda found: found, kept.get, codec, dim)
        rung = Rung(name, dim, tokens, size, score)
        print(*rung, flush=True)
        yield rung


def ndcg(
    stored: Stored,
    among: Callable[[NDArray[np.int64]], NDArray[np.int64]],
    tokens_of: Callable[[int], NDArray[np.generic] | None],
    codec: Codec | None = None,
    dim: int = 192,
) -> float:
    """Rank what ``among`` makes of the candidates by MaxSim; the vectors as they are, or coded."""
    run: dict[str, dict[str, float]] = {}
    scratch = np.empty((1024, 200), np.float32)
    for query, (vectors, candidates) in stored.queries.items():
        asked = cut(vectors, dim)
        factor = codec.query(asked) if codec else asked.T.copy()
        out = np.empty((512, len(factor)), np.float32) if codec else scratch
        scores: dict[str, float] = {}
        for row in among(candidates):
            kept = tokens_of(int(row))
            wide = codec.widen(kept, out) if codec else kept
            scores[stored.names[int(row)]] = float((wide @ factor).max(axis=0).sum())
        run[query] = scores
    return mean(per_query(stored.judged, run, ["nDCG@10"])["nDCG@10"])


def reduced(index: Index, passages: Passages, tokens: str) -> Passages:
    """Keep fewer token vectors of each passage."""
    encoder, texts = index.encoder(), index.corpus.passages(list(passages))
    found: Passages = {}
    for row, matrix in passages.items():
        text = encoder_text(texts[row].title, texts[row].text)
        if tokens == "words":
            found[row] = whole_words(matrix, encoder.token_spans(text, "document"))
        elif tokens == "content":
            found[row] = matrix[content(encoder.token_spans(text, "document"), text, "en")]
        else:
            found[row] = clustered(matrix, factor_of(tokens))
    return found


def cut(vectors: NDArray[np.float32], dim: int) -> NDArray[np.float32]:
    """Keep the first dimensions, at unit length."""
    kept = vectors[:, :dim]
    return kept / np.maximum(np.linalg.norm(kept, axis=1, keepdims=True), 1e-12)


def plot(rungs: list[Rung]) -> None:
    """Draw one line a codec, and the reduced forms as dots."""
    from matplotlib.figure import Figure

    axes = (figure := Figure(figsize=(7, 4.5), layout="constrained")).add_subplot()
    for name in CODECS:
        line = [rung for rung in rungs if rung.codec == name and rung.tokens == "all"]
        axes.plot([r.bytes_per_passage for r in line], [r.ndcg for r in line], "o-", label=name)
    for tokens in dict.fromkeys(rung.tokens for rung in rungs if rung.tokens != "all"):
        dots = [rung for rung in rungs if rung.tokens == tokens]
        axes.plot([r.bytes_per_passage for r in dots], [r.ndcg for r in dots], "x", label=tokens)
    axes.set_xscale("log")
    axes.set(xlabel="bytes per passage", ylabel="nDCG@10", title="SciFact, late interaction")
    axes.grid(alpha=0.3)
    axes.legend()
    RESULTS.mkdir(exist_ok=True)
    figure.savefig(RESULTS / "late_ladder.svg", metadata={"Date": None})


def table(rungs: list[Rung], exact: float, queries: int) -> None:
    """Write the rungs, best first for each number of bytes."""
    rows = [
        (rung.codec, rung.dim, rung.tokens, f"{rung.bytes_per_passage:,.0f}", rung.ndcg)
        for rung in sorted(rungs, key=lambda rung: -rung.bytes_per_passage)
    ]
    notes = (
        f"Exact MaxSim over all passages with the vectors of the first row's kind: {exact:.3f}. "
        "Title and text unchunked, 256 tokens, all-MiniLM-L6-v2; candidates are the 100 best of "
        "dense and of keyword search.\n\n![Bytes against nDCG@10](late_ladder.svg)"
    )
    title = f"Late index: bytes against nDCG@10, SciFact, {queries} queries"
    write_table(
        "late_ladder", title, ("codec", "dim", "tokens", "bytes a passage", "nDCG@10"), rows, notes
    )


if __name__ == "__main__":
    main()
