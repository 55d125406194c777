"""Sparse retrieval through the index: the library's own scores, built once, kept over changes."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from retrail.core.documents import Document
from retrail.core.errors import ConfigError, CorruptStore, IndexMismatch
from retrail.core.settings import EMBEDDED_ENCODER, FusionWeights, Settings
from retrail.retrievers import Encoder, Index, sparse_build
from retrail.retrievers.staging import encoder_text, text_hash
from sentence_transformers import SparseEncoder

QUERY = "which animals herd sheep in the news"
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
NEW = Document(id="new", text="Sheep rest on the ice.", metadata={"n": 99})


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load(EMBEDDED_ENCODER, precision="float32")


def settings(sparse: str, **more: Any) -> Settings:
    small = {"chunk_tokens": 0, "late_dim": 16, "precision": "float32", "sparse_encoder": sparse}
    return Settings(**small | more)


@pytest.fixture(scope="module")
def built(
    tmp_path_factory: pytest.TempPathFactory, encoder: Encoder, static_sparse: str, splade: str
) -> dict[str, Path]:
    roots = {}
    for name, path in (("static", static_sparse), ("splade", splade)):
        index = Index(tmp_path_factory.mktemp(name), settings(path), encoder)
        index.add(DOCUMENTS)
        index.close()
        roots[name] = index.root
    return roots


@pytest.fixture
def copied(
    tmp_path: Path, built: dict[str, Path], encoder: Encoder, static_sparse: str, splade: str
) -> Iterator[Callable[[str], Index]]:
    opened: list[Index] = []
    paths = {"static": static_sparse, "splade": splade}

    def copy(name: str) -> Index:
        shutil.copytree(built[name], tmp_path / name)
        opened.append(Index(tmp_path / name, settings(paths[name]), encoder))
        return opened[-1]

    yield copy
    for index in opened:
        index.close()


@pytest.fixture
def index(copied: Callable[[str], Index]) -> Index:
    return copied("static")


def scores(index: Index, query: str = QUERY, **options: Any) -> dict[str, float]:
    hits = index.search(query, by="sparse", k=100, **options)
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    return {hit.doc_id: hit.score for hit in hits}


def library_scores(path: str, documents: list[Document], query: str = QUERY) -> dict[str, Any]:
    model = SparseEncoder(path)
    texts = [encoder_text(document.title, document.text) for document in documents]
    asked = model.encode_query(query, convert_to_sparse_tensor=False)
    rows = model.encode_document(texts, convert_to_sparse_tensor=False)
    found = model.similarity(asked, rows)[0].tolist()
    return {
        document.id: pytest.approx(score, rel=2e-3)
        for document, score in zip(documents, found, strict=True)
        if score
    }


# Scores


@pytest.mark.parametrize("name", ["static", "splade"])
def test_scores_are_those_of_the_library(copied: Callable[[str], Index], name: str):
    index = copied(name)
    path = index.settings.sparse_encoder
    assert scores(index) == library_scores(path, DOCUMENTS)
    assert len(scores(index)) == 24
    index.remove(["d1", "d2"])
    index.add([NEW, DOCUMENTS[0].model_copy(update={"text": "All about sheep."})])
    now = [DOCUMENTS[0].model_copy(update={"text": "All about sheep."}), *DOCUMENTS[3:], NEW]
    assert scores(index) == library_scores(path, now)


def test_the_best_are_cut_off_exactly_and_ties_go_by_row(index: Index):
    everything = index.search(QUERY, by="sparse", k=100)
    for k in (1, 2, 5, 23):
        assert index.search(QUERY, by="sparse", k=k) == everything[:k]


def test_a_filter_changes_no_score(index: Index):
    everywhere = scores(index)
    admitted = {f"d{n}" for n in range(7)}
    found = scores(index, where="n < 7")
    assert found == {name: score for name, score in everywhere.items() if name in admitted}
    ranked = index.search(QUERY, by="filtered", rank_by="sparse", where="n < 7", k=100)
    assert {hit.doc_id: hit.score for hit in ranked} == found
    assert scores(index, where="n > 1000") == {}


def test_hybrid_takes_sparse_candidates_and_weighs_them(
    index: Index, encoder: Encoder, static_sparse: str
):
    index.add([Document(id="odd", title="Other", text="Herded.")])
    sparse = scores(index)
    for weight in (1e6, 0.0):
        weights = FusionWeights(sparse=weight)
        fusing = Index(index.root, settings(static_sparse, weights=weights), encoder)
        hits = fusing.search(QUERY, k=100)
        assert len(hits) == 25
        assert (hits[0].score > 1e5) is (weight > 0)
        if weight:
            ranked = [sparse.get(hit.doc_id, 0.0) for hit in hits]
            assert ranked == sorted(ranked, reverse=True)
        fusing.close()
    narrow = Index(index.root, settings(static_sparse, candidates=1), encoder)
    (top,) = narrow.search(QUERY, by="sparse", k=1)
    assert top.doc_id in {hit.doc_id for hit in narrow.search(QUERY, by="hybrid", k=1_000)}
    narrow.close()


def test_odd_queries_give_nothing_and_no_error(index: Index):
    model = SparseEncoder(index.settings.sparse_encoder)
    for query in ("\x00", "\u200b"):
        assert model.encode_query(query).to_dense().count_nonzero() == 0
        assert scores(index, query) == {}
        assert index.search(query, by="hybrid", k=3)
    assert scores(index, "zebra") == {}


def test_texts_without_terms_are_indexed_and_never_found(index: Index):
    blank = Document(id="blank", text="\u200b \u200b")
    index.add([blank, Document(id="empty", title="", text="")])
    assert index.corpus.counts(index.generation)[0] == 26
    assert set(scores(index)) == {document.id for document in DOCUMENTS}


def test_an_index_of_nothing_answers(tmp_path: Path, encoder: Encoder, static_sparse: str):
    index = Index(tmp_path, settings(static_sparse), encoder)
    index.add([NEW])
    index.remove(["new"])
    assert scores(index) == {}
    index.close()


# Each text once


def test_nothing_is_encoded_twice(index: Index):
    model = index.sparse.model()
    index.add([DOCUMENTS[0].model_copy(update={"metadata": {"n": 70}})])
    index.add([Document(id="twin", title="News 3", text=DOCUMENTS[3].text)])
    index.remove(["d4"])
    index.add([DOCUMENTS[4]])
    assert model.texts_encoded == 0
    index.add([NEW])
    assert model.texts_encoded == 1
    assert scores(index)["twin"] == scores(index)["d3"]


def test_changes_that_encode_nothing_load_no_model(index: Index):
    index.remove(["d4"])
    assert "d4" not in scores(index)
    assert index.sparse._model is None


def test_searching_an_inference_free_index_needs_neither_torch_nor_the_checkpoint(
    index: Index, tmp_path: Path
):
    expected = scores(index)
    code = """
import json, sys
from pathlib import Path
from retrail.core.settings import Settings
from retrail.retrievers import Index
index = Index(Path(sys.argv[1]), Settings(**json.loads(sys.argv[2])))
hits = index.search(sys.argv[3], by="sparse", k=100)
assert "torch" not in sys.modules
print(json.dumps({hit.doc_id: hit.score for hit in hits}))
"""
    named = index.settings.model_dump_json()
    run = [sys.executable, "-P", "-c", code, str(index.root), named, QUERY]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == pytest.approx(expected)


def test_dead_terms_are_compacted_away(index: Index, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sparse_build, "MIN_DEAD_TERMS", 0)
    expected = scores(index)
    (before,) = (index.root / "sparse").glob("*/terms.bin")
    size, kept = before.stat().st_size, [f"d{n}" for n in range(6)]
    index.remove([document.id for document in DOCUMENTS if document.id not in kept])
    index.remove(["unknown"])
    assert scores(index) == {name: expected[name] for name in kept}
    index.add([NEW])  # the generation before last is gone, and its files
    (after,) = (index.root / "sparse").glob("*/terms.bin")
    assert after.stat().st_size < size / 2
    assert {*scores(index)} == {*kept, "new"}
    assert index.sparse.model().texts_encoded == 1


# Settings


def test_without_the_setting_it_is_an_error_that_names_it(tmp_path: Path, encoder: Encoder):
    index = Index(tmp_path, settings(""), encoder)
    index.add(DOCUMENTS[:3])
    for options in ({"by": "sparse"}, {"by": "filtered", "rank_by": "sparse", "where": "n < 2"}):
        with pytest.raises(ConfigError, match=r"no sparse index: set 'sparse_encoder' .*--rebuild"):
            index.search(QUERY, **options)
    assert not (tmp_path / "sparse").exists()
    manifest = index.snapshot().folder / "manifest.json"
    old = json.loads(manifest.read_text())
    for name in ("sparse", "sparse_encoder"):  # as indexes were written before
        del old[name]
    manifest.write_text(json.dumps(old))
    again = Index(tmp_path, settings(""), encoder)
    assert again.search(QUERY, k=3)
    index.close()
    again.close()


def test_a_changed_setting_is_refused_and_rebuilding_applies_it(
    index: Index, encoder: Encoder, splade: str
):
    for name in (splade, ""):
        other = Index(index.root, settings(name), encoder)
        with pytest.raises(IndexMismatch, match=r"another 'sparse_encoder' .*--rebuild"):
            other.search(QUERY)
        with pytest.raises(IndexMismatch):
            other.add([NEW])
        other.rebuild()
        if name:
            assert scores(other) == library_scores(splade, DOCUMENTS)
        else:
            assert not list((index.root / "sparse").glob("*")) or other.remove(["d0"])
            with pytest.raises(ConfigError, match="no sparse index"):
                other.search(QUERY, by="sparse")
        other.close()


def test_changed_weights_under_the_same_name_are_refused(
    copied: Callable[[str], Index], encoder: Encoder, splade: str, tmp_path: Path
):
    index = copied("splade")
    moved = tmp_path / "model"
    shutil.copytree(splade, moved)
    model = SparseEncoder(str(moved))
    model[0].model.cls.predictions.bias.data.add_(0.01)
    model.save_pretrained(str(moved), create_model_card=False)
    manifest = index.snapshot().folder / "manifest.json"
    said = json.loads(manifest.read_text()) | {"sparse_encoder": str(moved)}
    manifest.write_text(json.dumps(said))
    changed = Index(index.root, settings(str(moved)), encoder)
    for use in (lambda: changed.search(QUERY, by="sparse"), lambda: changed.add([NEW])):
        with pytest.raises(IndexMismatch, match=r"of sparse encoder .* changed .*--rebuild"):
            use()
    changed.rebuild()
    assert scores(changed) == library_scores(str(moved), [*DOCUMENTS, NEW])
    changed.close()


def test_another_dense_encoder_keeps_the_terms(index: Index, encoder: Encoder):
    before = scores(index)
    with index.candidate(encoder) as candidate:
        found = index.search_in(candidate.snapshot, QUERY, "sparse", 100)
        assert {hit.doc_id: hit.score for hit in found} == before
        candidate.publish()
    assert scores(index) == before
    assert index.sparse._model is None


# Damage


def damage(path: Path, how: str) -> None:
    if how == "missing":
        path.unlink()
    elif how == "shorter":
        path.write_bytes(path.read_bytes()[:-2])
    else:
        content = bytearray(path.read_bytes())
        content[-2] ^= 0x40
        path.write_bytes(content)


@pytest.mark.parametrize("how", ["missing", "shorter", "changed"])
@pytest.mark.parametrize(
    "file", ["index/1/sparse/starts.npy", "index/1/sparse/passages.npy",
             "index/1/sparse/weights.npy", "query/tokenizer.json", "query/weights.npy",
             "query/card.json"],
)  # fmt: skip
def test_damage_is_named_and_rebuilding_mends_it(
    index: Index, built: dict[str, Path], file: str, how: str
):
    expected = library_scores(index.settings.sparse_encoder, DOCUMENTS)
    folder = index.root
    if file.startswith("query"):
        (folder,) = (index.root / "sparse").iterdir()
    damage(folder / file, how)
    with pytest.raises(CorruptStore, match="missing or damaged: retrail doctor --rebuild"):
        index.search(QUERY, by="sparse")
    if (file, how) == ("query/card.json", "missing"):  # one is enough: it encodes everything
        index.rebuild()
        assert scores(index) == expected


@pytest.mark.parametrize("how", ["missing", "shorter", "changed"])
def test_damaged_terms_build_no_generation(index: Index, how: str):
    before = scores(index)
    (path,) = (index.root / "sparse").glob("*/terms.bin")
    if how == "changed":  # the last weight becomes infinite, whatever it was
        path.write_bytes(path.read_bytes()[:-2] + np.float16(np.inf).tobytes())
    else:
        damage(path, how)
    with pytest.raises(CorruptStore, match=r"terms.bin.*retrail doctor --rebuild"):
        index.add([NEW])
    assert scores(index) == before
    index.rebuild()
    assert scores(index) == library_scores(index.settings.sparse_encoder, [*DOCUMENTS, NEW])


# Killed


def test_a_killed_encoding_goes_on_where_it_was(
    tmp_path: Path, encoder: Encoder, splade: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("retrail.retrievers.sparse_encoder._WINDOW", 8)
    index = Index(tmp_path, settings(splade), encoder)
    encoded = index.sparse.model().documents

    def killed(texts: list[str]) -> Iterator[Any]:
        for window in (found := encoded(texts)):
            yield window
            if index.sparse.model().texts_encoded == 16:
                found.close()
                raise KeyboardInterrupt

    monkeypatch.setattr(index.sparse.model(), "documents", killed)
    with pytest.raises(KeyboardInterrupt):
        index.add(DOCUMENTS)
    index.close()
    (path,) = (tmp_path / "sparse").glob("*/terms.bin")
    with path.open("ab") as file:
        file.write(b"torn")
    again = Index(tmp_path, settings(splade), encoder)
    again.add([])
    assert again.sparse.model().texts_encoded == 8
    assert scores(again) == library_scores(splade, DOCUMENTS)
    keys = again.corpus.rows("SELECT encoder, count(*) FROM encodings GROUP BY encoder")
    texts = {text_hash(document.title, document.text) for document in DOCUMENTS}
    assert (f"sparse/{path.parent.name}", len(texts)) in keys
    again.close()
