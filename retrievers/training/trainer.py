"""Train the dense encoder on examples with sentence-transformers' trainer.

Ours are the data and the loss; batching, optimiser and schedule are the library's. The model that
serves is never touched: a copy is trained and saved to a folder of its own.
"""

import random
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ...core.errors import ConfigError
from ..builder import Progress, quiet
from ..encoder import Encoder, has_bfloat16
from .examples import Example

Texts = Callable[[Sequence[str]], dict[str, str]]
"""Looks up what the encoder reads of passages, by passage id; ids that are gone are left out."""


class Hyperparameters(BaseModel):
    """How to train; the defaults suit some hundred runs and a processor without a GPU."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(default=2, ge=1)
    batch_size: int = Field(default=16, ge=2)
    negatives: int = Field(default=2, ge=1)
    learning_rate: float = Field(default=3e-5, gt=0)
    temperature: float = Field(default=0.05, gt=0)
    warmup: float = Field(default=0.1, ge=0, lt=1)
    max_tokens: int = Field(default=128, ge=16)
    """Tokens of a text that training reads."""
    seed: int = 0


def train(
    base: Encoder,
    examples: Sequence[Example],
    texts: Texts,
    corpus: Sequence[str],
    target: Path,
    hyper: Hyperparameters,
    progress: Progress = quiet,
) -> None:
    """Fine-tune a copy of an encoder and save it.

    Args:
        base: Where to start from; unchanged.
        examples: What to learn.
        texts: Looks passages up.
        corpus: Passage ids to fill missing negatives from.
        target: Folder to save to.
        hyper: How to train.
        progress: Is told about training steps.

    Raises:
        ConfigError: The encoder is not a bi-encoder, or no example can be used.
    """
    import torch
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer

    if not isinstance(base.model, SentenceTransformer):
        raise ConfigError(
            f"encoder {base.name!r} gives no dense vectors of its own to train",
            fix="train a sentence-transformers bi-encoder",
        )
    rows = build_rows(examples, texts, corpus, hyper)
    torch.manual_seed(hyper.seed)
    with TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own; ours are errors in the tests
        base.model.save_pretrained(scratch, create_model_card=False)
        model = SentenceTransformer(scratch, device=str(base.model.device))
        model.model_card_data.widget = [{"text": ""}]  # no card is written; spare its examples
        model.max_seq_length = min(hyper.max_tokens, base.model.max_seq_length or hyper.max_tokens)
        trainer = SentenceTransformerTrainer(
            model=model,
            args=_arguments(scratch, hyper, model.device.type),
            train_dataset=Dataset.from_list(rows),
            loss=_loss(model, hyper),
            callbacks=[_reporter(progress)],
        )
        trainer.remove_callback(_printer())
        trainer.train()
        model.max_seq_length = base.model.max_seq_length
        model.save_pretrained(str(target), create_model_card=False)


def build_rows(
    examples: Sequence[Example], texts: Texts, corpus: Sequence[str], hyper: Hyperparameters
) -> list[dict[str, Any]]:
    """Turn examples into rows of equal width, short ones filled with random passages.

    Raises:
        ConfigError: No example has a positive that is still in the corpus.
    """
    rng = random.Random(hyper.seed)
    positives: dict[str, set[str]] = {}
    for example in examples:
        positives.setdefault(example.query, set()).add(example.positive)
    drawn = [
        (e, [*e.negatives[: hyper.negatives], *rng.choices(corpus, k=2 * hyper.negatives)])
        for e in examples
    ]
    known = texts(list({i for e, pool in drawn for i in (e.positive, *pool)}))
    rows: list[dict[str, Any]] = []
    for example, pool in drawn:
        usable = [
            i for i in dict.fromkeys(pool) if i in known and i not in positives[example.query]
        ]
        if example.positive in known and len(usable) >= hyper.negatives:
            row: dict[str, Any] = {"query": example.query, "positive": known[example.positive]}
            for n, identifier in enumerate(usable[: hyper.negatives]):
                row[f"negative_{n}"] = known[identifier]
            rows.append(row | {"label": example.weight})
    if not rows:
        raise ConfigError(
            "no training example refers to this corpus", fix="record trajectories over it first"
        )
    return rows


def _arguments(scratch: str, hyper: Hyperparameters, device: str) -> Any:
    from sentence_transformers import SentenceTransformerTrainingArguments
    from sentence_transformers.base.sampler import BatchSamplers

    return SentenceTransformerTrainingArguments(
        output_dir=scratch,
        num_train_epochs=hyper.epochs,
        per_device_train_batch_size=hyper.batch_size,
        learning_rate=hyper.learning_rate,
        warmup_steps=hyper.warmup,
        bf16=has_bfloat16(device),
        use_cpu=device == "cpu",
        seed=hyper.seed,
        batch_sampler=BatchSamplers.NO_DUPLICATES,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def _loss(model: Any, hyper: Hyperparameters) -> Any:
    from .loss import WeightedInfoNCE

    return WeightedInfoNCE(model, hyper.temperature)


def _printer() -> Any:
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback


def _reporter(progress: Progress) -> Any:
    from transformers.trainer_callback import TrainerCallback

    class Reporter(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            progress("training", state.global_step, state.max_steps)

    return Reporter()
