"""An index with each first stage: the same answers, filters, changes, and no silent other stage."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from retrail.core.documents import Document
from retrail.core.errors import IndexMismatch
from retrail.core.settings import EMBEDDED_ENCODER, Settings
from retrail.retrievers import Encoder, Index, first_stage

PLAIN: dict[str, Any] = {"chunk_tokens": 0, "late_dim": 32, "precision": "float32"}
SUBJECTS = ["cats that purr", "dogs that herd sheep", "ships at sea", "cells and sugar"]
DOCUMENTS = [
    Document(
        id=f"d{n}",
        title=f"News {n}",
        text=f"Report {n} is about {SUBJECTS[n % 4]}, amazingly, and so on. " * (1 + n % 3),
        metadata={"even": n % 2 == 0, "n": n},
    )
    for n in range(24)
]
NEW = Document(id="new", text="A walrus rests on the ice.", metadata={"even": True})
STAGES = ["centroids", "muvera"]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load(EMBEDDED_ENCODER, precision="float32")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Path:
    index = Index(tmp_path_factory.mktemp("built"), Settings(**PLAIN), encoder)
    index.add(DOCUMENTS)
    index.close()
    return index.root


@pytest.fixture
def root(tmp_path: Path, built: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "kb"))


@pytest.fixture(params=STAGES)
def index(request: pytest.FixtureRequest, root: Path, encoder: Encoder) -> Iterator[Index]:
    """An index of before that has got a first stage by its next change."""
    opened = Index(root, Settings(**PLAIN, late_stage=request.param, candidates=6), encoder)
    opened.add([NEW])
    yield opened
    opened.close()


def found(index: Index, query: str, k: int = 5, **options: Any) -> list[str]:
    return [hit.doc_id for hit in index.search(query, by="late", k=k, **options)]


def test_it_finds_what_the_union_finds(index: Index, encoder: Encoder):
    union = Index(index.root, Settings(**PLAIN, late_stage="union"), encoder)
    for subject in SUBJECTS:
        ours = index.search(f"news about {subject}", by="late", k=1)
        assert [(hit.doc_id, hit.score) for hit in ours] == [
            (hit.doc_id, hit.score) for hit in union.search(f"news about {subject}", by="late", k=1)
        ]
    assert index.search("a walrus on ice", by="hybrid", k=1)[0].doc_id == "new"
    union.close()


def test_changes_are_seen_at_once(index: Index):
    assert found(index, "a walrus on ice", 1) == ["new"]
    index.add([Document(id="newer", text="Two walruses rest on the ice, asleep.")])
    assert set(found(index, "walruses asleep on ice", 2)) == {"new", "newer"}
    index.remove(["new", "d0", "d4"])
    names = found(index, "walrus and cats that purr on ice", 30)
    assert not {"new", "d0", "d4"} & set(names)
    assert len(names) == 23
    index.add([NEW])
    assert "new" in found(index, "a walrus on ice", 2)


def test_filters_hold_at_any_depth(index: Index):
    for where, allowed in (
        ("even = true", {f"d{n}" for n in range(0, 24, 2)} | {"new"}),
        ("n > 20", {"d21", "d22", "d23"}),
        ("n > 99", set[str]()),
    ):
        names = found(index, "cats", 50, where=where)
        assert set(names) == allowed
        assert set(found(index, "cats", 2, where=where)) <= allowed


def test_all_are_found_when_all_are_asked_for(index: Index):
    assert set(found(index, "zebra", 99)) == {d.id for d in DOCUMENTS} | {"new"}


def test_a_stage_that_is_not_built_is_never_replaced_silently(root: Path, encoder: Encoder):
    index = Index(root, Settings(**PLAIN, late_stage="centroids"), encoder)
    with pytest.raises(IndexMismatch, match="built with another 'late_stage'") as caught:
        found(index, "cats")
    assert "the next change of the corpus builds it" in str(caught.value)
    assert index.search("cats", by="dense", k=1)
    index.add([NEW])
    assert found(index, "a walrus on ice", 1) == ["new"]
    other = Index(root, Settings(**PLAIN, late_stage="muvera"), encoder)
    with pytest.raises(IndexMismatch, match="late_stage"):
        found(other, "cats")
    auto = Index(root, Settings(**PLAIN), encoder)
    assert found(auto, "a walrus on ice", 1) == ["new"]
    for opened in (index, other, auto):
        opened.close()


def test_auto_builds_nothing_until_a_corpus_is_large(
    root: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
):
    index = Index(root, Settings(**PLAIN), encoder)
    before = found(index, "cats", 24)
    index.add([NEW])
    index.remove(["new"])
    assert not list(root.glob("index/*/first_stage"))
    monkeypatch.setattr(first_stage, "AUTO_CENTROIDS", 25)
    index.add([NEW])
    assert list(root.glob("index/*/first_stage"))
    index.remove(["new"])
    assert not (root / "index" / str(index.published.folder) / "first_stage").exists()
    assert found(index, "cats", 24) == before
    index.close()


def test_an_index_from_before_first_stages_opens(root: Path, encoder: Encoder):
    path = root / "index" / "1" / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    del manifest["late_stage"]
    path.write_text(json.dumps(manifest), encoding="utf-8")
    index = Index(root, Settings(**PLAIN), encoder)
    assert found(index, "cats that purr", 1)[0] in {"d0", "d4", "d8", "d12", "d16", "d20"}
    index.close()


def test_another_encoding_of_the_corpus_gets_a_stage_of_its_own(index: Index):
    before = found(index, "a walrus on ice", 3)
    index.rebuild()
    assert found(index, "a walrus on ice", 3)[0] == before[0]
    index.remove(["d1"])
    assert "d1" not in found(index, "dogs", 30)


@pytest.mark.parametrize("stage", STAGES)
def test_a_corpus_may_be_empty(tmp_path: Path, encoder: Encoder, stage: Any):
    index = Index(tmp_path / "kb", Settings(**PLAIN, late_stage=stage), encoder)
    index.add([])
    assert not found(index, "a walrus on ice")
    for _ in range(2):
        index.add([NEW])
        assert found(index, "a walrus on ice") == ["new"]
        index.remove(["new"])
        assert not found(index, "a walrus on ice")
        index.rebuild()
        assert not index.search("a walrus on ice", by="hybrid")
    index.close()


def test_plaid_takes_the_place_of_every_stage(root: Path, encoder: Encoder):
    index = Index(root, Settings(**PLAIN), encoder)
    snapshot = index.snapshot()
    told = {"late_stage": "centroids", "ragatouille": "some/checkpoint"}
    snapshot.settings = snapshot.settings.model_copy(update=told)
    assert snapshot._stage is None
    index.close()
