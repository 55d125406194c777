"""Another encoder: what serves stays as it was until its successor is whole, then all changes."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from retrail.core.documents import Document
from retrail.core.errors import IndexMismatch, RetrailError
from retrail.core.settings import EMBEDDED_ENCODER, Settings
from retrail.retrievers import Encoder, Index, Retriever, Snapshot

SETTINGS = Settings(chunk_tokens=12, late_dim=32, precision="float32")
RANKERS: tuple[Retriever, ...] = ("keyword", "dense", "late", "hybrid")
QUERIES = ("which animal purrs", "sheep dogs", "news 7 about the sea")
SUBJECTS = ["cats that purr", "dogs that herd sheep", "ships at sea", "cells and sugar"]
DOCUMENTS = [
    Document(
        id=f"d{n}",
        title=f"News {n}",
        text=f"This is about {SUBJECTS[n % 4]}. It is number {n}, and it goes on. " * (1 + n % 3),
        metadata={"n": n},
    )
    for n in range(12)
]
NEW = Document(id="new", text="A walrus rests on the ice.", metadata={"n": 99})


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load(EMBEDDED_ENCODER, precision="float32")


@pytest.fixture(scope="module")
def second(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """The embedded encoder with its weights shaken, saved and loaded as a model of its own."""
    folder = tmp_path_factory.mktemp("models") / "shaken"
    encoder.model.save_pretrained(str(folder), create_model_card=False)
    shaken = Encoder.load(str(folder), precision="float32")
    torch.manual_seed(1)
    with torch.no_grad():
        for weights in shaken.model.parameters():
            weights.add_(torch.randn_like(weights) * 0.1 * weights.std(correction=0))
    shaken.model.save_pretrained(str(folder), create_model_card=False)
    return Encoder.load(str(folder), precision="float32")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Path:
    index = Index(tmp_path_factory.mktemp("built"), SETTINGS, encoder)
    index.add(DOCUMENTS)
    index.close()
    return index.root


@pytest.fixture
def index(tmp_path: Path, built: Path, encoder: Encoder) -> Iterator[Index]:
    shutil.copytree(built, tmp_path / "kb")
    opened = Index(tmp_path / "kb", SETTINGS, encoder)
    yield opened
    opened.close()


def scores(index: Index, snapshot: Snapshot | None = None) -> dict[tuple[str, str], Any]:
    """Score everything by everything, comparable between indexes of the same documents."""
    within = snapshot or index.snapshot()
    return {
        (query, by): {h.passage.id: h.score for h in index.search_in(within, query, by, 50)}
        for query in QUERIES
        for by in ("keyword", "dense", "late", "hybrid")
    }


def close_to(expected: dict[tuple[str, str], Any]) -> dict[tuple[str, str], Any]:
    return {key: pytest.approx(found, abs=2e-3) for key, found in expected.items()}


def fresh_scores(folder: Path, settings: Settings, encoder: Encoder, *more: Document) -> Any:
    named = settings.model_copy(update={"encoder": encoder.name})
    fresh = Index(folder, named, encoder)
    fresh.add([*DOCUMENTS, *more])
    found = scores(fresh)
    fresh.close()
    return found


def files(root: Path) -> dict[str, int]:
    """List what a workspace holds beside its database."""
    return {
        str(path.relative_to(root)): path.stat().st_size
        for folder in ("index", "vectors")
        for path in (root / folder).rglob("*")
    }


# Another encoder


def test_the_two_encoders_differ(encoder: Encoder, second: Encoder):
    assert encoder.fingerprint != second.fingerprint
    cosine = encoder.query("a cat").dense @ second.query("a cat").dense
    assert 0.2 < cosine < 0.99


def test_a_candidate_that_is_not_published_leaves_no_trace(index: Index, second: Encoder):
    before, listed = scores(index), files(index.root)
    with index.candidate(second) as candidate:
        assert scores(index) == before
        measured = scores(index, candidate.snapshot)
    assert measured.keys() == before.keys()
    assert measured[QUERIES[0], "dense"] != before[QUERIES[0], "dense"]
    assert files(index.root) == listed
    assert index.generation == 1
    assert index.corpus.rows("SELECT DISTINCT encoder FROM encodings") == [
        (index.encoder().fingerprint,)
    ]
    assert scores(index) == before
    assert index.encoder().name == EMBEDDED_ENCODER


def test_a_candidate_whose_measuring_fails_leaves_no_trace(index: Index, second: Encoder):
    before, listed = scores(index), files(index.root)
    with pytest.raises(RuntimeError, match="measuring"), index.candidate(second):
        raise RuntimeError("measuring failed")
    assert files(index.root) == listed
    assert scores(index) == before


def test_a_published_candidate_serves_as_if_it_had_built_everything(
    index: Index, second: Encoder, tmp_path: Path
):
    reader = Index(index.root, SETTINGS, index.encoder())
    assert scores(reader) == scores(index)
    with index.candidate(second) as candidate:
        measured = scores(index, candidate.snapshot)
        candidate.publish()
    expected = close_to(fresh_scores(tmp_path / "fresh", SETTINGS, second))
    assert measured == expected
    assert scores(index) == expected
    assert scores(reader) == expected
    assert index.encoder() is second
    assert index.published.base == EMBEDDED_ENCODER
    assert index.published.encoder == second.name
    reader.close()


def test_a_search_in_progress_keeps_its_encoder(index: Index, second: Encoder):
    reader = Index(index.root, SETTINGS, index.encoder())
    old, unread = index.snapshot(), reader.snapshot()
    before = {by: old.rank(by, QUERIES[0], 50) for by in RANKERS if by != "filtered"}
    index.swap(second)
    new = index.snapshot()
    for by, ranked in before.items():
        for snapshot in (old, unread):
            found = snapshot.rank(by, QUERIES[0], 50)
            assert found.ids.tolist() == ranked.ids.tolist()
            assert found.scores.tolist() == pytest.approx(ranked.scores.tolist(), abs=1e-4)
        if by != "keyword":
            assert new.rank(by, QUERIES[0], 50).scores.tolist() != ranked.scores.tolist()
    reader.close()


def test_what_is_added_later_is_encoded_by_the_model_that_serves(
    index: Index, second: Encoder, tmp_path: Path
):
    index.swap(second)
    base, taken = index.encoders.given, second.texts_encoded
    assert base is not None
    idle = base.texts_encoded
    index.add([NEW])
    assert (base.texts_encoded - idle, second.texts_encoded - taken) == (0, 1)
    assert index.search("walrus", by="late", k=1)[0].doc_id == "new"
    expected = fresh_scores(tmp_path / "fresh", SETTINGS, second, NEW)
    found = scores(index)
    for query in QUERIES:  # the projection of late vectors was fitted before the last document
        assert found[query, "dense"] == pytest.approx(expected[query, "dense"], abs=2e-3)


def test_going_back_encodes_nothing(index: Index, second: Encoder):
    before, base = scores(index), index.encoder()
    index.swap(second)
    encoded = base.texts_encoded
    assert index.swap(base) == 3
    assert base.texts_encoded == encoded
    assert scores(index) == before


def test_vectors_of_two_encoders_are_kept_and_no_more(index: Index, second: Encoder):
    third = Encoder(second.model, "third", max_tokens=128, precision="float32")
    try:
        for model in (second, third):
            index.swap(model)
        kept = {path.name for path in (index.root / "vectors").iterdir()}
        assert kept == {index.published.fingerprint, third.fingerprint} | {
            row[0]
            for row in index.corpus.rows("SELECT fingerprint FROM generations WHERE number = 2")
        }
        assert {path.name for path in (index.root / "index").iterdir()} == {"2", "3"}
    finally:
        second.model.max_seq_length = 256


def test_changed_weights_under_the_same_name_are_refused(index: Index, second: Encoder):
    impostor = Encoder(second.model, EMBEDDED_ENCODER, precision="float32")
    other = Index(index.root, SETTINGS, impostor)
    for use in (lambda: other.search("cat", by="dense"), lambda: other.add([NEW])):
        with pytest.raises(IndexMismatch, match=r"weights .* changed .*retrail doctor --rebuild"):
            use()
    assert other.search("cats", by="keyword")[0].retriever == "keyword"
    other.close()


def test_a_trained_encoder_survives_a_rebuild(index: Index, second: Encoder):
    index.swap(second)
    index.rebuild()
    assert index.published.encoder == second.name
    assert index.published.fingerprint == second.fingerprint


def test_an_index_opened_without_an_encoder_loads_the_one_it_names(index: Index, second: Encoder):
    index.swap(second)
    before = scores(index)
    index.close()
    opened = Index(index.root, SETTINGS)
    assert scores(opened) == close_to(before)
    assert opened.encoder().fingerprint == second.fingerprint
    opened.close()


def test_weights_that_another_process_put_in_their_place_are_taken_up(
    encoder: Encoder, second: Encoder, tmp_path: Path
):
    folder = tmp_path / "model"
    encoder.model.save_pretrained(str(folder), create_model_card=False)
    settings = SETTINGS.model_copy(update={"encoder": str(folder)})
    server, other = (Index(tmp_path / "other", settings) for _ in range(2))
    server.add(DOCUMENTS[:2])
    second.model.save_pretrained(str(folder), create_model_card=False)
    other.rebuild()
    assert server.add([NEW]).added == 1
    assert server.published.fingerprint == other.published.fingerprint
    for opened in (server, other):
        opened.close()


def test_a_model_that_is_gone_is_named(
    index: Index, second: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RETRAIL_CACHE", str(tmp_path / "cache"))
    moved = Encoder(second.model, str(tmp_path / "gone"), precision="float32")
    index.swap(moved)
    opened = Index(index.root, SETTINGS)
    with pytest.raises(RetrailError, match=r"gone' cannot be loaded"):
        opened.search("cat")
    assert opened.search("cats", by="keyword")
    opened.close()
