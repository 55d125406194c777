"""Speed beside the peers, as ratios: encoding passages, keyword search, encoding queries.

``python benchmarks/speed.py [PASSAGES]``: of SciFact, 320 if not said. Ours and the peer take turns
on the same cores, so that whatever else runs there slows both alike.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from common import WORK, dataset, dev_half, workspace, write_table
from peers import plain_encoder, quiet_libraries
from retrail.core.settings import EMBEDDED_ENCODER
from retrail.retrievers.encoder import Encoder
from retrail.retrievers.int8 import int8_encoder
from retrail.retrievers.precision import verdict
from retrail.retrievers.staging import encoder_text

from retrail import Workspace

SLICE = 32
QUERIES = 200
Row = tuple[object, ...]
Timed = dict[str, list[float]]
"""Seconds by who took them."""


def main() -> None:
    """Measure and write the table."""
    quiet_libraries()
    data = dataset("scifact")
    texts = [encoder_text(each.title, each.text) for each in data.documents()]
    queries = [data.queries[query].text for query in dev_half(data)][:QUERIES]
    count = int(sys.argv[1]) if sys.argv[1:] else 320
    encoder = Encoder.load(EMBEDDED_ENCODER)
    chosen = verdict(encoder)
    rows = list(_passages(encoder, texts[:count]))
    with workspace("scifact-192", data, chunk_tokens=0, late_dim=192) as opened:
        rows += _keyword(opened, texts, queries)
        rows += _query_encoding(opened, encoder, queries)
    header = ("what", "ours, median ms", "p95", "the peer, median ms", "p95", "peer / ours")
    notes = (
        f"Passages: {count} of SciFact, 256 tokens, by slices of {SLICE}; ms a passage. Ours gives "
        "dense and token vectors, the peer, plain sentence-transformers in float32, only dense "
        f"ones. `auto` takes {chosen} (measured on the built-in sample). Keyword search: 10 hits "
        "of 5,183 documents, `ranking` over the same index files, `hits` with titles and texts, "
        "ours from SQLite, the peer's stored in tantivy. Above 1 ours is faster. Ratios are of "
        f"the medians. Load of the machine while this ran: {os.getloadavg()[0]:.1f}; above 1 for "
        "each core, single times and 95th percentiles are those of a busy machine."
    )
    write_table("speed", "Speed beside the peers", header, rows, notes)


def _passages(encoder: Encoder, texts: Sequence[str]) -> Iterator[Row]:
    """Time each arithmetic against float32 as sentence-transformers does it."""
    engines: dict[str, Callable[[list[str]], object]] = {
        "float32": lambda part: list(encoder.sharing("float32").documents(part)),
        "int8": lambda part: list(quantised.documents(part)),
    }
    if "bfloat16" in verdict(encoder).measured:
        engines["bfloat16"] = lambda part: list(encoder.sharing("bfloat16").documents(part))
    quantised, plain = int8_encoder(encoder), plain_encoder()
    engines["peer"] = lambda part: plain.encode(part, batch_size=SLICE, normalize_embeddings=True)
    ordered = sorted(texts, key=len)  # both sort by length, but see one slice at a time here
    parts = [ordered[at : at + SLICE] for at in range(0, len(ordered), SLICE)]
    taken = _in_turns(engines, parts)
    totals = {name: sum(seconds) for name, seconds in taken.items()}
    for name in ("float32", "bfloat16", "int8"):
        if name in totals:
            ours, peer = (1000 * totals[each] / len(texts) for each in (name, "peer"))
            yield (f"encode passages, {name} (mean)", f"{ours:.1f}", "", f"{peer:.1f}", "",
                   f"{peer / ours:.2f}")  # fmt: skip


def _keyword(opened: Workspace, texts: Sequence[str], queries: Sequence[str]) -> Iterator[Row]:
    """Time search against tantivy called directly: for ids, and for hits with their texts."""
    snapshot = opened.index.snapshot()
    engine, searcher = snapshot._keyword._index, snapshot._keyword._searcher

    def raw(query: str) -> object:
        parsed, _ = engine.parse_query_lenient(query, ["body"])
        found = searcher.search(parsed, 10, count=False).hits
        return searcher.fast_field_values("id", [address for _, address in found])

    yield _row(
        "keyword search, ranking",
        _in_turns({"ours": lambda q: snapshot.keyword(q, 10), "peer": raw}, queries),
    )
    with TemporaryDirectory(dir=WORK, ignore_cleanup_errors=True) as place:
        peer = _stored(Path(place), texts)
        ours = lambda query: opened.search(query, by="keyword", k=10)  # noqa: E731
        yield _row("keyword search, hits", _in_turns({"ours": ours, "peer": peer}, queries))


def _stored(place: Path, texts: Sequence[str]) -> Callable[[str], object]:
    """Index with tantivy alone, texts and all, as its manual shows."""
    import tantivy

    schema: Any = tantivy.SchemaBuilder()
    schema.add_text_field("body", stored=True, tokenizer_name="en_stem")
    index: Any = tantivy.Index(schema.build(), str(place))
    writer = index.writer()
    for text in texts:
        writer.add_document(tantivy.Document(body=text))
    writer.commit()
    writer.wait_merging_threads()
    index.reload()
    searcher = index.searcher()

    def search(query: str) -> object:
        parsed, _ = index.parse_query_lenient(query, ["body"])
        found = searcher.search(parsed, 10).hits
        return [(score, searcher.doc(address)["body"]) for score, address in found]

    return search


def _query_encoding(opened: Workspace, encoder: Encoder, queries: Sequence[str]) -> Iterator[Row]:
    """Time onnxruntime, which queries meet, against torch."""
    reader = opened.index.encoders.reader(opened.index.published)
    taken = _in_turns({"ours": reader.query, "peer": encoder.query}, queries)
    yield _row("encode a query, against torch", taken)


def _in_turns(engines: dict[str, Callable[[Any], object]], items: Sequence[Any]) -> Timed:
    """Give every item to each engine, in an order that alternates; the first does not count."""
    taken: Timed = {name: [] for name in engines}
    for n, item in enumerate([items[0], *items]):
        for name, call in list(engines.items())[:: 1 if n % 2 else -1]:
            began = time.perf_counter()
            call(item)
            if n:
                taken[name].append(time.perf_counter() - began)
    return taken


def _row(what: str, taken: Timed) -> Row:
    shown: list[str] = []
    for name in ("ours", "peer"):
        p95 = statistics.quantiles(taken[name], n=20)[18]
        shown += [f"{1000 * each:.2f}" for each in (statistics.median(taken[name]), p95)]
    ratio = statistics.median(taken["peer"]) / statistics.median(taken["ours"])
    return (what, *shown, f"{ratio:.2f}")


if __name__ == "__main__":
    main()
