"""Low-rank training: only the attention changes, and what is saved is an ordinary model."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from retrail.core.errors import BackendUnavailable
from retrail.core.settings import EMBEDDED_ENCODER
from retrail.retrievers.encoder import Encoder
from retrail.retrievers.query_side import ENCODER
from retrail.retrievers.training import Example, Hyperparameters, checkpoints, train

TEXTS = {f"d{n}#0": f"Text number {n} about animals." for n in range(24)}
EXAMPLES = [Example(f"g{n}", f"query {n}", f"d{n}#0", (), 1.0) for n in range(12)]
HYPER = Hyperparameters(lora=2, epochs=2, batch_size=2, negatives=1, max_tokens=16)


@pytest.fixture(scope="module")
def base() -> Encoder:
    return Encoder.load(EMBEDDED_ENCODER, precision="float32")


def known(identifiers: Sequence[str]) -> dict[str, str]:
    return {i: TEXTS[i] for i in identifiers if i in TEXTS}


def changed(base: Encoder, folder: Path) -> set[str]:
    """Names of the weights that differ; all names and shapes are the same."""
    old, new = base.model.state_dict(), Encoder.load(str(folder)).model.state_dict()
    assert {n: v.shape for n, v in old.items()} == {n: v.shape for n, v in new.items()}
    return {name for name, value in old.items() if not torch.equal(value, new[name])}


@pytest.mark.parametrize(("mode", "place"), [("full", ""), ("query", ENCODER)])
def test_only_the_attention_changes_and_loads_without_peft(
    base, tmp_path, monkeypatch, mode, place
):
    hyper = HYPER.model_copy(update={"mode": mode})
    train(base, EXAMPLES, known, sorted(TEXTS), tmp_path, hyper)
    names = {p.name for p in (tmp_path / place).rglob("*")}
    assert "model.safetensors" in names
    assert not {name for name in names if "adapter" in name}
    monkeypatch.setitem(sys.modules, "peft", None)
    found = changed(base, tmp_path / place)
    layers = len(base.model.transformers_model.encoder.layer)
    parts = ("query", "key", "value", "output.dense")
    assert len(found) == len(parts) * layers
    assert all(".attention." in name and name.endswith(".weight") for name in found)


class Killed(Exception):
    pass


def test_a_training_killed_within_an_epoch_goes_on(base, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "PERIOD", 0.0)
    hyper = HYPER.model_copy(update={"dropout": True})
    steps: list[int] = []

    def kill(stage: str, done: int, total: int | None) -> None:
        if done == 10:  # of 12, in the second epoch
            raise Killed

    train(base, EXAMPLES, known, sorted(TEXTS), tmp_path / "whole", hyper)
    (tmp_path / "cut").mkdir()
    with pytest.raises(Killed):
        train(base, EXAMPLES, known, sorted(TEXTS), tmp_path / "cut", hyper, kill)
    train(
        base,
        EXAMPLES,
        known,
        sorted(TEXTS),
        tmp_path / "cut",
        hyper,
        lambda stage, done, total: steps.append(done),
    )
    assert steps == [10, 11, 12]
    whole, cut = (Encoder.load(str(tmp_path / name)).fingerprint for name in ("whole", "cut"))
    assert whole == cut


def test_without_peft_it_says_what_to_install(base, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(BackendUnavailable, match=r"retrail\[lora\]"):
        train(base, EXAMPLES, known, sorted(TEXTS), tmp_path, HYPER)


def test_it_goes_with_an_encoder_and_takes_longer_steps():
    with pytest.raises(ValidationError, match="trains no encoder"):
        Hyperparameters(mode="adapter", lora=2)
    assert Hyperparameters(learning_rate=1e-5).pace == 1e-5
    assert HYPER.pace == Hyperparameters(mode="adapter").pace == 10 * HYPER.learning_rate
