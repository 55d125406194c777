"""Our vector engines against the suite that any engine must pass, and what is theirs alone."""

import os
import sys
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import chromadb
import numpy as np
import pytest
from chromadb.config import Settings as ChromaSettings
from retrail.core.errors import BackendUnavailable, CorruptStore, IndexMismatch
from retrail.core.filters import parse_filter
from retrail.retrievers import Ranked
from retrail.retrievers.backends import (
    UnsupportedByBackend,
    VectorBackend,
    VectorError,
    VectorSchema,
    check_backend,
)
from retrail.retrievers.backends.chroma import ChromaBackend
from retrail.retrievers.backends.conformance import Factory
from retrail.retrievers.backends.qdrant import MEMORY, QdrantBackend
from retrail.retrievers.backends.samples import DIM, make_corpus, make_queries

SCHEMA = VectorSchema(DIM)
Place = Path | str


@pytest.fixture(params=["chroma folder", "chroma server", "qdrant folder"])
def factory(request: pytest.FixtureRequest, tmp_path: Path) -> Factory:
    """Open collections of each engine: folders hold one each, a server all of them."""
    url = request.getfixturevalue("chroma_url") if request.param == "chroma server" else None
    engine = QdrantBackend if request.param == "qdrant folder" else ChromaBackend

    def opened(name: str, schema: VectorSchema, *, create: bool) -> VectorBackend:
        return engine(url or tmp_path / name, name, schema, create=create)

    return opened


def test_engine_conforms(factory: Factory):
    report = check_backend(factory)
    assert report.passed, str(report)
    skipped = {o.check for o in report.outcomes if o.state == "skipped"}
    assert skipped <= {"multivector", "sparse"}
    assert len(report.outcomes) == 12


class Table(VectorBackend):
    """What somebody else's engine may look like, here over plain memory."""

    capabilities = frozenset({"delete", "dense"})

    def __init__(self, schema: VectorSchema, stored: dict[int, Any]) -> None:
        super().__init__(schema)
        self.stored = stored

    def count(self) -> int:
        return len(self.stored)

    def close(self) -> None:
        pass

    def _add(self, rows: Any, dense: Any, multi: Any, sparse: Any, payload: Any) -> None:
        self.stored.update(zip(rows.tolist(), dense, strict=True))

    def _delete(self, rows: Any) -> None:
        for row in rows.tolist():
            self.stored.pop(row, None)

    def _search(self, vector: Any, k: int, within: Any, where: Any) -> Ranked:
        ids = [row for row in self.stored if within is None or row in set(within.tolist())]
        return Ranked.of(ids, [float(self.stored[row] @ vector) for row in ids]).top(k)


class Careless(Table):
    """One that deletes nothing and forgets what it was asked to rank among."""

    def _delete(self, rows: Any) -> None:
        pass

    def _search(self, vector: Any, k: int, within: Any, where: Any) -> Ranked:
        return super()._search(vector, k, None, None)


def in_memory(engine: type[Table]) -> Factory:
    stored: defaultdict[str, dict[int, Any]] = defaultdict(dict)
    return lambda name, schema, *, create: engine(schema, stored[name])


def test_an_engine_of_few_lines_conforms():
    report = check_backend(in_memory(Table))
    assert report.passed, str(report)
    assert {o.check for o in report.outcomes if o.state == "skipped"} == {
        "filters",
        "multivector",
        "sparse",
    }


def test_suite_finds_what_is_wrong():
    report = check_backend(in_memory(Careless))
    assert {outcome.check for outcome in report.failures} >= {"delete", "within"}
    assert "nearest" not in {outcome.check for outcome in report.failures}
    assert "delete failed AssertionError: found 300 where 200 belongs" in str(report)


@pytest.mark.parametrize("engine", [ChromaBackend, QdrantBackend])
def test_folder_without_a_collection(engine: type[VectorBackend], tmp_path: Path):
    with pytest.raises(CorruptStore, match=r"is missing: retrail doctor --rebuild"):
        engine(tmp_path / "none", "passages", SCHEMA)  # type: ignore[call-arg]
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("engine", [ChromaBackend, QdrantBackend])
def test_collection_of_another_dimension(engine: type[VectorBackend], tmp_path: Path):
    engine(tmp_path, "passages", SCHEMA, create=True).close()  # type: ignore[call-arg]
    with pytest.raises(IndexMismatch, match=r"other|another"):
        engine(tmp_path, "passages", VectorSchema(DIM + 1))  # type: ignore[call-arg]
    engine(tmp_path, "passages", SCHEMA).close()  # type: ignore[call-arg]


@pytest.mark.parametrize("engine", [ChromaBackend, QdrantBackend])
@pytest.mark.parametrize("claimed", [True, False], ids=["refused", "not theirs"])
@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
def test_server_that_is_none(
    engine: type[VectorBackend], claimed: bool, monkeypatch: pytest.MonkeyPatch
):
    for name in ("CHROMA_API_KEY", "QDRANT_API_KEY"):
        monkeypatch.setenv(name, "secret-key")
    with serving(claimed) as url, pytest.raises(BackendUnavailable, match=r"vector_url") as raised:
        engine(url, "passages", SCHEMA, create=True)  # type: ignore[call-arg]
    assert repr(url) in str(raised.value)
    assert "secret-key" not in str(raised.value)


class NotFound(BaseHTTPRequestHandler):
    """A web server that knows nothing of vectors."""

    def do_GET(self) -> None:
        keys = f"{self.headers.get('api-key')} {self.headers.get('x-chroma-token')}"
        self.send_error(503, "down for maintenance", f"it repeats what it got: {keys}")

    do_POST = do_PUT = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


class serving:
    """A URL where nothing listens, or where something else answers."""

    def __init__(self, listening: bool) -> None:
        self.server = HTTPServer(("127.0.0.1", 0), NotFound)
        if not listening:
            self.server.server_close()
        else:
            Thread(target=self.server.serve_forever, daemon=True).start()
        self.listening = listening

    def __enter__(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def __exit__(self, *_: object) -> None:
        if self.listening:
            self.server.shutdown()
            self.server.server_close()


def test_chroma_server_lists_and_drops_collections(chroma_url: str):
    for name in ("ours-1", "ours-2"):
        ChromaBackend(chroma_url, name, SCHEMA, create=True).close()
    assert {"ours-1", "ours-2"} <= set(ChromaBackend.collections(chroma_url))
    ChromaBackend.drop(chroma_url, "ours-1")
    assert "ours-1" not in ChromaBackend.collections(chroma_url)
    with pytest.raises(CorruptStore, match="ours-1"):
        ChromaBackend(chroma_url, "ours-1", SCHEMA)


class Forgetful(ChromaBackend):
    """Chroma, with a graph that has lost some passages for certain, not by chance."""

    lost = (1, 31, 61)

    def _follow(self, vector: Any, k: int, within: Any, where: Any) -> Ranked:
        found = super()._follow(vector, k, within, where)
        kept = ~np.isin(found.ids, self.lost)
        return Ranked(found.ids[kept], found.scores[kept])


@pytest.mark.parametrize("change", ["replaced", "deleted"])
def test_what_chromas_graph_lost_is_compared_exactly(tmp_path: Path, change: str):
    corpus = make_corpus(300)
    writer = ChromaBackend(tmp_path, "passages", SCHEMA, create=True)
    corpus.add_to(writer)
    writer.delete([4]) if change == "deleted" else corpus.add_to(writer)
    writer.close()
    reader = Forgetful(tmp_path, "passages", SCHEMA)
    here = parse_filter("even = true")
    for row in Forgetful.lost:
        at = corpus.ids.tolist().index(row)
        own = corpus.dense[at]
        assert reader.search(own, 1).ids.tolist() == [row]
        assert reader.search(own, 1, within=np.array([row, 7])).ids.tolist() == [row]
        found = row in reader.search(own, 5, where=here).ids
        assert found == (at % 2 == 0)
        assert len(reader.search(own, 400).ids) == reader.count()
    reader.close()


def test_collection_of_an_older_release_opens(tmp_path: Path):
    corpus = make_corpus(50)
    client: Any = chromadb.PersistentClient(
        str(tmp_path), settings=ChromaSettings(anonymized_telemetry=False)
    )
    collection = client.create_collection(
        "passages", embedding_function=None, configuration={"hnsw": {"space": "ip"}}
    )
    collection.add(ids=[str(row) for row in corpus.ids], embeddings=corpus.dense)
    client.close()
    backend = ChromaBackend(tmp_path, "passages", SCHEMA)
    query = make_queries()[0]
    assert backend.search(query, 1).ids.tolist() == corpus.ranked(query).top(1).ids.tolist()
    backend.close()


def test_qdrant_in_memory():
    corpus = make_corpus(50)
    backend = QdrantBackend(MEMORY, "passages", SCHEMA, create=True)
    corpus.add_to(backend)
    query = make_queries()[0]
    assert backend.search(query, 3).ids.tolist() == corpus.ranked(query).top(3).ids.tolist()
    backend.close()


def test_qdrant_damaged_folder(tmp_path: Path):
    QdrantBackend(tmp_path, "passages", SCHEMA, create=True).close()
    (tmp_path / "collection" / "passages" / "storage.sqlite").write_bytes(os.urandom(4096))
    with pytest.raises(CorruptStore, match="cannot be opened"):
        QdrantBackend(tmp_path, "passages", SCHEMA)


def test_readers_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    QdrantBackend(tmp_path / "kb", "passages", SCHEMA, create=True).close()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "kb").rglob("*")}
    reader = QdrantBackend(tmp_path / "kb", "passages", SCHEMA)
    assert reader.count() == 0
    assert list((tmp_path / "tmp").iterdir())
    reader.close()
    assert not list((tmp_path / "tmp").iterdir())
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "kb").rglob("*")} == before


def test_schema_beyond_the_engine(tmp_path: Path):
    with pytest.raises(UnsupportedByBackend, match="'multivector'"):
        ChromaBackend(tmp_path, "passages", VectorSchema(DIM, multi=8), create=True)


def test_named_vectors_must_fit_the_schema():
    corpus = make_corpus(5)
    backend = QdrantBackend(MEMORY, "passages", VectorSchema(DIM, multi=8), create=True)
    with pytest.raises(UnsupportedByBackend, match="needs 'multi'"):
        backend.add(corpus.ids, dense=corpus.dense)
    with pytest.raises(UnsupportedByBackend, match="no 'sparse'"):
        backend.add(corpus.ids, dense=corpus.dense, multi=corpus.multi, sparse=corpus.sparse)
    with pytest.raises(VectorError, match=r"shape \(1, 7\)"):
        backend.add([1], dense=corpus.dense[:1], multi=[np.ones((1, 7), np.float32)])
    backend.close()


def test_qdrant_without_its_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    with pytest.raises(BackendUnavailable, match=r"pip install 'retrail\[qdrant\]'"):
        QdrantBackend(tmp_path / "kb", "passages", SCHEMA, create=True)
    assert not (tmp_path / "kb").exists()
