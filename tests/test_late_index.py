"""The late index in every form: built, searched, changed, compacted, rebuilt, never mixed up."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from retrail.core.documents import Document
from retrail.core.errors import IndexMismatch
from retrail.core.settings import EMBEDDED_ENCODER, Settings
from retrail.retrievers import Encoder, Index, vector_build
from retrail.retrievers.staging import Staging
from retrail.retrievers.training.frozen import stored_vectors
from retrail.retrievers.vectors import VectorFiles

PLAIN: dict[str, Any] = {"chunk_tokens": 0, "late_dim": 32, "precision": "float32"}
SUBJECTS = ["cats that purr", "dogs that herd sheep", "ships at sea", "cells and sugar"]
DOCUMENTS = [
    Document(
        id=f"d{n}",
        title=f"News {n}",
        text=f"This is about {SUBJECTS[n % 4]}, amazingly. Number {n}, and so on. " * (1 + n % 3),
    )
    for n in range(16)
]
CATS = {"d0", "d4", "d8", "d12"}
NEW = Document(id="new", text="A walrus rests on the ice.")
FORMS: list[dict[str, Any]] = [
    {"late_codec": "int8"},
    {"late_codec": "kmeans", "late_tokens": "pooled:2"},
    {"late_codec": "binary", "late_tokens": "words"},
    {"late_tokens": "content", "late_pooling": "topk"},
    {"late_bytes": 256 * 16},
]


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
def index(tmp_path: Path, built: Path, encoder: Encoder) -> Iterator[Index]:
    shutil.copytree(built, tmp_path / "kb")
    opened = Index(tmp_path / "kb", Settings(**PLAIN), encoder)
    yield opened
    opened.close()


def found(index: Index, query: str = "which animal purrs", k: int = 8) -> list[tuple[str, float]]:
    return [(hit.doc_id, round(hit.score, 4)) for hit in index.search(query, by="late", k=k)]


def stored_bytes(index: Index) -> int:
    return sum(path.stat().st_size for path in index.root.glob("vectors/*/tokens.*"))


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_form_finds_and_grows(form: dict[str, Any], tmp_path: Path, encoder: Encoder):
    settings = Settings(**PLAIN | form)
    index = Index(tmp_path, settings, encoder)
    index.add(DOCUMENTS)
    index.add([NEW])
    index.remove(["d0"])
    names = [name for name, _ in found(index, k=20)]
    assert names[0] in CATS
    assert "d0" not in names
    assert found(index, "a walrus on ice", k=1)[0][0] == "new"
    index.close()
    again = Index(tmp_path, settings, encoder)
    assert [name for name, _ in found(again, k=20)] == names
    assert stored_vectors(again).vectors(["new#0"])["new#0"].tokens.shape[1] > 0
    again.close()


def test_smaller_forms_take_fewer_bytes(index: Index, tmp_path: Path, encoder: Encoder):
    sizes = [stored_bytes(index)]
    for n, form in enumerate(FORMS[:3]):
        other = Index(tmp_path / str(n), Settings(**PLAIN | form), encoder)
        other.add(DOCUMENTS)
        sizes.append(stored_bytes(other))
        other.close()
    assert sizes[1] * 2 == sizes[0]
    assert sizes == sorted(sizes, reverse=True)


def test_an_index_from_before_codecs_opens_unchanged(index: Index, encoder: Encoder):
    before = found(index)
    index.close()
    path = index.root / "index" / "1" / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    del manifest["late_codec"], manifest["late_tokens"]
    path.write_text(json.dumps(manifest), encoding="utf-8")
    again = Index(index.root, Settings(**PLAIN), encoder)
    assert found(again) == before
    again.add([NEW])
    assert found(again, "a walrus on ice", k=1)[0][0] == "new"
    again.close()


@pytest.mark.parametrize("form", FORMS[:2], ids=str)
def test_another_form_is_never_mixed_in(index: Index, form: dict[str, Any], encoder: Encoder):
    before = found(index)
    changed = Index(index.root, Settings(**PLAIN | form), encoder)
    with pytest.raises(IndexMismatch, match="built with another 'late_"):
        found(changed)
    with pytest.raises(IndexMismatch, match="built with another 'late_"):
        changed.add([NEW])
    assert found(index) == before
    changed.rebuild()
    assert found(changed, k=1)[0][0] in CATS
    back = Index(index.root, Settings(**PLAIN), encoder)
    back.rebuild()
    assert dict(found(back)) == pytest.approx(dict(before), abs=0.02)
    back.close()
    changed.close()


def test_pooling_changes_scores_without_building_anything(index: Index, encoder: Encoder):
    softer = Index(index.root, Settings(**PLAIN, late_pooling="softmax"), encoder)
    best, soft = dict(found(index, k=16)), dict(found(softer, k=16))
    assert best.keys() == soft.keys()
    assert all(soft[name] < best[name] for name in best)
    softer.close()


# Compacting


def test_mostly_dead_vectors_are_left_behind(index: Index, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(vector_build, "MIN_DEAD_TOKENS", 0)
    encoded = index.encoder().texts_encoded
    size, before = stored_bytes(index), dict(found(index, k=16))
    index.remove([f"d{n}" for n in range(4)])
    assert stored_bytes(index) == size, "a quarter is not worth a copy"
    reader = Index(index.root, index.settings, index.encoder())
    assert len(found(reader, k=16)) == 12
    index.remove([f"d{n}" for n in range(4, 12)])
    left = dict(found(index, k=16))
    assert left == {name: before[name] for name in ("d12", "d13", "d14", "d15")}
    index.add([NEW])
    index.add([Document(id="last", text="The last of them.")])
    assert stored_bytes(index) < size / 2, "nobody can still read the old files"
    assert len(found(reader, k=16)) == 6
    assert index.encoder().texts_encoded - encoded <= 6, "copied, not encoded again"
    reader.close()


@pytest.mark.parametrize("point", [(VectorFiles, "compact"), (Staging, "encoded")], ids=str)
def test_a_process_killed_while_compacting_loses_nothing(
    index: Index, point: tuple[Any, str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(vector_build, "MIN_DEAD_TOKENS", 0)
    before, (owner, name) = dict(found(index, k=16)), point
    original = getattr(owner, name)

    def killed(*args: Any, **kwargs: Any) -> Any:
        original(*args, **kwargs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, killed)
        with pytest.raises(KeyboardInterrupt):
            index.remove([f"d{n}" for n in range(12)])
    assert dict(found(index, k=16)) == before
    encoded = index.encoder().texts_encoded
    index.remove(["d0"])
    kept = {name: before[name] for name in ("d12", "d13", "d14", "d15")}
    assert dict(found(index, k=16)) == kept
    assert index.encoder().texts_encoded - encoded <= 1
