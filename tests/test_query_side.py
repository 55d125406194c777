"""Query sides: published by one row, kept by what comes after, and never half of anything."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from retrail.core.documents import Document
from retrail.core.errors import CorruptStore, IndexMismatch
from retrail.core.settings import EMBEDDED_ENCODER, Settings
from retrail.retrievers import Encoder, Index, Retriever
from retrail.retrievers.query_side import Drift, QueryAdapter, QuerySide, query_encoder
from retrail.retrievers.staging import Staging
from retrail.retrievers.training.drift import measure_drift, save_drift

SETTINGS = Settings(chunk_tokens=12, late_dim=32, precision="float32")
RANKERS: tuple[Retriever, ...] = ("keyword", "dense", "late", "hybrid")
QUERIES = ("which animal purrs", "sheep dogs", "news 7 about the sea")
SUBJECTS = ["cats that purr", "dogs that herd sheep", "ships at sea", "cells and sugar"]
DOCUMENTS = [
    Document(
        id=f"d{n}",
        title=f"News {n}",
        text=f"This is about {SUBJECTS[n % 4]}. It is number {n}, and it goes on. " * (1 + n % 3),
    )
    for n in range(12)
]
NEW = Document(id="new", text="A walrus rests on the ice.")
ONE = "models/dense/0001"


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load(EMBEDDED_ENCODER, precision="float32")


def shaken(encoder: Encoder, folder: Path, seed: int) -> Encoder:
    """Save an encoder with noise on its weights, as training would, and load it again."""
    encoder.model.save_pretrained(str(folder), create_model_card=False)
    loaded = Encoder.load(str(folder), precision="float32")
    torch.manual_seed(seed)
    with torch.no_grad():
        for weights in loaded.model.parameters():
            weights.add_(torch.randn_like(weights) * 0.1 * weights.std(correction=0))
    loaded.model.save_pretrained(str(folder), create_model_card=False)
    return Encoder.load(str(folder), precision="float32")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Path:
    """An index with an adapter as version 1 and a query encoder as version 2."""
    index = Index(tmp_path_factory.mktemp("built"), SETTINGS, encoder)
    index.add(DOCUMENTS)
    index.close()
    adapter(index.root / ONE, encoder, seed=1)
    other = index.root / "models" / "dense" / "0002"
    model = shaken(encoder, other / "query_encoder", seed=2)
    side = QuerySide(kind="encoder", passages=encoder.fingerprint, model=model.fingerprint)
    side.save(other)
    return index.root


def adapter(folder: Path, encoder: Encoder, seed: int | None) -> QueryAdapter:
    """Write an adapter near the identity, or the identity itself."""
    rng = np.random.default_rng(seed)
    noise = 0.0 if seed is None else 0.05
    size = encoder.dim
    dense, tokens = (
        (np.eye(size) + noise * rng.standard_normal((size, size))).astype(np.float32)
        for _ in range(2)
    )
    folder.mkdir(parents=True, exist_ok=True)
    made = QueryAdapter(dense, tokens)
    made.save(folder)
    QuerySide(kind="adapter", passages=encoder.fingerprint).save(folder)
    return made


@pytest.fixture
def index(tmp_path: Path, built: Path, encoder: Encoder) -> Iterator[Index]:
    shutil.copytree(built, tmp_path / "kb")
    opened = Index(tmp_path / "kb", SETTINGS, encoder)
    yield opened
    opened.close()


def scores(index: Index) -> dict[tuple[str, str], Any]:
    return {
        (query, by): {hit.passage.id: hit.score for hit in index.search(query, by=by, k=50)}
        for query in QUERIES
        for by in RANKERS
    }


def close_to(expected: dict[tuple[str, str], Any]) -> dict[tuple[str, str], Any]:
    return {key: pytest.approx(found, abs=2e-3) for key, found in expected.items()}


def files(root: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(root)): (path.stat().st_size, path.stat().st_ino)
        for folder in ("index", "vectors")
        for path in (root / folder).rglob("*")
        if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    }


def generations(root: Path) -> list[Any]:
    with sqlite3.connect(root / "corpus.db") as db:
        found = db.execute("SELECT number, query, folder FROM generations").fetchall()
    db.close()
    return found


@pytest.mark.parametrize("version", [ONE, "models/dense/0002"])
def test_it_is_published_by_one_row_that_every_reader_notices(index: Index, version: str):
    reader = Index(index.root, SETTINGS, index.encoder())
    before, listed = scores(index), files(index.root)
    assert scores(reader) == before
    counted = index.encoder().texts_encoded
    assert index.serve(EMBEDDED_ENCODER, version) == 2
    assert index.encoder().texts_encoded - counted < 3 + len(DOCUMENTS)  # probes, no passages
    assert files(index.root) == listed
    assert generations(index.root) == [(1, "", None), (2, version, 1)]
    published = index.published
    assert (published.encoder, published.query, published.folder) == (EMBEDDED_ENCODER, version, 1)
    assert published.serving == version
    assert published.id.endswith(f"+{version[-4:]}")
    now = scores(index)
    assert scores(reader) == now
    for query in QUERIES:
        assert now[query, "keyword"] == before[query, "keyword"]
        for by in ("dense", "late", "hybrid"):
            assert now[query, by] != before[query, by]
    assert index.serve(EMBEDDED_ENCODER) == 3
    assert scores(index) == scores(reader) == before
    assert files(index.root) == listed
    reader.close()


def test_dense_scores_are_products_with_the_mapped_query(index: Index, encoder: Encoder):
    index.serve(EMBEDDED_ENCODER, ONE)
    mapped = QueryAdapter.load(index.root / ONE).map(encoder.query(QUERIES[0]))
    hits = index.search(QUERIES[0], by="dense", k=3)
    texts = index.texts([hit.passage.id for hit in hits])
    passages = dict(encoder.documents(list(texts.values())))
    for at, hit in enumerate(hits):
        assert hit.score == pytest.approx(float(passages[at].dense @ mapped.dense), abs=2e-3)
    vector = index.snapshot().encode("a cat").dense
    (text,) = [encoded.dense for _, encoded in encoder.documents(["a dog"])]
    assert index.similarities("a cat", ["a dog"]) == pytest.approx([float(text @ vector)], abs=2e-3)


@pytest.fixture(scope="module")
def pair(
    built: Path, encoder: Encoder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Index, Index]]:
    """The same index without a query side and with the identity."""
    opened = []
    for name in ("plain", "identity"):
        root = tmp_path_factory.mktemp("pair") / name
        shutil.copytree(built, root)
        opened.append(Index(root, SETTINGS, encoder))
    adapter(opened[1].root / ONE, encoder, seed=None)
    opened[1].serve(EMBEDDED_ENCODER, ONE)
    yield opened[0], opened[1]
    for index in opened:
        index.close()


@settings(max_examples=25)
@given(query=st.text("acdgehps 7.?", min_size=1, max_size=30).filter(str.strip))
def test_an_identity_adapter_changes_no_search(pair: tuple[Index, Index], query: str):
    for by in RANKERS:
        plain, same = (
            {hit.passage.id: hit.score for hit in index.search(query, by=by, k=50)}
            for index in pair
        )
        assert same == pytest.approx(plain, abs=1e-4)


def test_a_candidate_that_is_not_published_changes_nothing(index: Index):
    before, rows = scores(index), generations(index.root)
    with index.query_candidate(ONE) as candidate:
        found = index.search_in(candidate.snapshot, QUERIES[0], "dense", 3)
    assert [hit.score for hit in found] != [*before[QUERIES[0], "dense"].values()][:3]
    with suppress(RuntimeError), index.query_candidate(ONE) as candidate:
        candidate.publish()
        raise RuntimeError("stopped before its end")
    assert (scores(index), generations(index.root)) == (before, rows)


def test_documents_added_and_removed_later_keep_it(index: Index, encoder: Encoder, tmp_path: Path):
    index.serve(EMBEDDED_ENCODER, ONE)
    index.add([NEW])
    index.remove(["d3"])
    assert index.published.query == ONE
    assert index.published.folder == index.generation == 4
    fresh = Index(tmp_path / "fresh", SETTINGS, encoder)
    fresh.add([*(d for d in DOCUMENTS if d.id != "d3"), NEW])
    shutil.copytree(index.root / "models", fresh.root / "models")
    fresh.serve(EMBEDDED_ENCODER, ONE)
    expected = close_to(scores(fresh))
    for query in QUERIES:  # the basis of token vectors stays that of the first texts
        assert scores(index)[query, "dense"] == expected[query, "dense"]
    index.rebuild()
    assert index.published.query == ONE
    assert scores(index) == expected
    fresh.close()


def test_another_encoder_of_the_passages_drops_it(index: Index, encoder: Encoder, tmp_path: Path):
    index.serve(EMBEDDED_ENCODER, ONE)
    index.swap(shaken(encoder, tmp_path / "model", seed=3))
    assert index.published.query == ""
    assert index.serve(EMBEDDED_ENCODER, ONE) == 4  # both at once
    assert (index.published.query, index.published.folder) == (ONE, 4)


def test_folders_that_generations_read_are_kept(index: Index):
    for version in (ONE, "", ONE):
        index.serve(EMBEDDED_ENCODER, version)
    folders = lambda: {path.name for path in (index.root / "index").iterdir()}  # noqa: E731
    assert (index.generation, folders()) == (4, {"1"})
    index.add([NEW])
    assert folders() == {"1", "5"}
    index.serve(EMBEDDED_ENCODER)
    index.add([NEW.model_copy(update={"id": "newer"})])
    assert folders() == {"5", "7"}
    assert index.search("walrus", by="dense", k=1)[0].doc_id in {"new", "newer"}


def test_what_was_staged_is_published_first(index: Index):
    staging = Staging(index.corpus, chunk_tokens=12, language="en")
    staging.stage([NEW])  # of a killed process
    index.serve(EMBEDDED_ENCODER, ONE)
    assert generations(index.root) == [(1, "", None), (2, "", None), (3, ONE, 2)]
    assert "new" in {hit.doc_id for hit in index.search("walrus on ice", by="dense", k=20)}


def test_a_workspace_of_version_1_opens_unchanged(built: Path, encoder: Encoder, tmp_path: Path):
    shutil.copytree(built, tmp_path / "kb")
    plain = Index(tmp_path / "kb", SETTINGS, encoder)
    expected = scores(plain)
    plain.close()
    with sqlite3.connect(tmp_path / "kb" / "corpus.db") as db:
        for statement in (
            "DROP INDEX encodings_cut",
            "ALTER TABLE encodings DROP COLUMN cut",
            "ALTER TABLE documents DROP COLUMN fields",
            "DROP TABLE field_names",
            "ALTER TABLE generations DROP COLUMN query",
            "ALTER TABLE generations DROP COLUMN folder",
            "PRAGMA user_version = 1",
        ):
            db.execute(statement)
    db.close()
    index = Index(tmp_path / "kb", SETTINGS, encoder)
    assert (index.published.query, index.published.folder) == ("", 1)
    assert scores(index) == expected
    assert index.serve(EMBEDDED_ENCODER, ONE) == 2
    assert index.add([NEW]).generation == 3
    index.close()


@pytest.mark.parametrize("damage", ["gone", "manifest", "matrices"])
def test_damage_is_named_with_its_mend_and_refused_beforehand(index: Index, damage: str):
    index.serve(EMBEDDED_ENCODER, ONE)
    if damage == "gone":
        shutil.rmtree(index.root / ONE)
    else:
        name = {"manifest": "query_side.json", "matrices": "query_adapter.npz"}[damage]
        (index.root / ONE / name).write_bytes(b"PK\x03\x04 torn")
    reader = Index(index.root, SETTINGS, index.encoder())
    for by in ("dense", "late", "hybrid"):
        with pytest.raises(CorruptStore, match="is missing or damaged") as caught:
            reader.search("cats", by=by)
        assert caught.value.fix
        assert caught.value.fix.startswith("retrail models promote 0")
    assert reader.search("cats", by="keyword")
    reader.close()
    assert index.serve(EMBEDDED_ENCODER) == 3
    with pytest.raises(CorruptStore):
        index.serve(EMBEDDED_ENCODER, ONE)
    assert index.search("cats", by="dense")
    assert generations(index.root)[-1] == (3, "", 1)


def test_weights_that_changed_are_refused(index: Index, tmp_path: Path):
    version = "models/dense/0002"
    told = json.loads((index.root / version / "query_side.json").read_text("utf-8"))
    QuerySide.model_validate(told | {"model": "another"}).save(index.root / version)
    with pytest.raises(IndexMismatch, match="changed since it was trained"):
        index.serve(EMBEDDED_ENCODER, version)
    assert index.published.query == ""


def test_a_query_side_for_other_passages_is_refused(index: Index):
    QuerySide(kind="adapter", passages="others").save(index.root / ONE)
    with pytest.raises(IndexMismatch, match="other passage vectors"):
        index.serve(EMBEDDED_ENCODER, ONE)
    assert index.generation == 1


# Processes of their own

SEARCH = """if True:
    import sys
    from pathlib import Path
    from retrail.core.settings import Settings
    from retrail.retrievers import Index
    index = Index(Path(sys.argv[1]), Settings(chunk_tokens=12, late_dim=32, precision="float32"))
    found = [hit.doc_id for hit in index.search("cats that purr")]
    print(found, index.published.query, "torch" in sys.modules)
"""

KILLED = """if True:
    import os, signal, sys
    from pathlib import Path
    from retrail.core.settings import Settings
    from retrail.retrievers import Index
    from retrail.retrievers.staging import Staging
    publish = Staging.publish
    def killed(self, **row):
        if sys.argv[2] == "after":
            publish(self, **row)
        os.kill(os.getpid(), signal.SIGKILL)
    Staging.publish = killed
    index = Index(Path(sys.argv[1]), Settings(chunk_tokens=12, late_dim=32, precision="float32"))
    index.serve("all-MiniLM-L6-v2", "models/dense/0001")
"""


@pytest.mark.parametrize("version", [ONE, "models/dense/0002"])
def test_another_process_searches_with_it_and_imports_no_torch(index: Index, version: str):
    index.serve(EMBEDDED_ENCODER, version)
    expected = [hit.doc_id for hit in Index(index.root, SETTINGS).search("cats that purr")]
    command = [sys.executable, "-c", SEARCH, str(index.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{expected} {version} False"


@pytest.mark.parametrize(("when", "query"), [("before", ""), ("after", ONE)])
def test_killed_at_the_row_either_side_serves_whole(index: Index, when: str, query: str):
    command = [sys.executable, "-c", KILLED, str(index.root), when]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert index.published.query == query
    assert index.search("cats", by="dense")
    assert index.add([NEW]).added == 1
    assert index.published.query == query


def test_drift_leads_back_on_average(encoder: Encoder, tmp_path: Path):
    moved = shaken(encoder, tmp_path / "0001", seed=4)
    drift = measure_drift(encoder, moved, QUERIES)
    apart = [
        moved.query(query).dense - drift.dense - encoder.query(query).dense for query in QUERIES
    ]
    np.testing.assert_allclose(np.mean(apart, axis=0), 0, atol=1e-6)
    save_drift(encoder, moved, QUERIES, tmp_path / "0001")
    asked = query_encoder(tmp_path / "0001", encoder)("which animal purrs")
    assert np.linalg.norm(asked.dense) == pytest.approx(1, abs=1e-5)
    old, new = (e.query("which animal purrs") for e in (encoder, moved))
    assert asked.dense @ old.dense > new.dense @ old.dense
    near = lambda tokens: float((tokens * old.tokens).sum(1).mean())  # noqa: E731
    assert near(asked.tokens) > near(new.tokens)


def test_drifts_add_up_along_their_chain(encoder: Encoder, tmp_path: Path):
    first = shaken(encoder, tmp_path / "0001", seed=4)
    second = shaken(first, tmp_path / "0002", seed=5)
    first.name = "models/dense/0001"
    save_drift(encoder, first, QUERIES, tmp_path / "0001")
    save_drift(first, second, QUERIES, tmp_path / "0002")
    steps = [Drift.load(tmp_path / name) for name in ("0001", "0002")]
    total = Drift(steps[0].dense + steps[1].dense, steps[0].tokens + steps[1].tokens)
    query = second.query("sheep")
    over_all = query_encoder(tmp_path / "0002", encoder)("sheep")
    np.testing.assert_allclose(over_all.dense, total.undo(query).dense, atol=1e-6)
    np.testing.assert_allclose(over_all.tokens, total.undo(query).tokens, atol=1e-6)
    over_last = query_encoder(tmp_path / "0002", first)("sheep")
    np.testing.assert_allclose(over_last.dense, steps[1].undo(query).dense, atol=1e-6)
    with pytest.raises(IndexMismatch, match="other passage vectors"):
        query_encoder(tmp_path / "0001", second)
    shutil.rmtree(tmp_path / "0001")
    with pytest.raises(CorruptStore, match="0001"):
        query_encoder(tmp_path / "0002", encoder)
