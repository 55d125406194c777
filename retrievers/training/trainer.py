"""Train an encoder, its query side, or a map of query vectors, on examples.

Ours are the data and the losses; batching, optimiser, schedule and checkpoints are
sentence-transformers' trainer's. The model that serves is never touched: a copy is trained and
saved to a folder of its own. A killed training goes on from its last checkpoint; these stay until
the version is registered, so that a finished one is not repeated when what follows it fails.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ...core.errors import ConfigError
from ..encoder import Encoder, has_bfloat16
from ..progress import Progress, quiet
from .checkpoints import checkpoint_folder, checkpointing, last_checkpoint, reporter
from .curve import points_every, points_of, save_curve
from .examples import Example
from .hyper import Hyperparameters
from .lora import add_lora, merge_lora
from .rows import Row, Texts, build_rows, columns, select_rows

if TYPE_CHECKING:
    from .frozen import Stored

__all__ = ["Hyperparameters", "Texts", "build_rows", "train"]


def train(
    base: Encoder,
    examples: Sequence[Example],
    texts: Texts,
    corpus: Sequence[str],
    target: Path,
    hyper: Hyperparameters,
    progress: Progress = quiet,
    *,
    stored: "Stored | None" = None,
) -> None:
    """Train as the hyperparameters say, and save.

    In mode ``full`` the folder becomes a model that encodes queries and passages; in the others
    a query side (see ``query_side``), for passages that keep the vectors of ``base``.

    Args:
        base: Where to start from; unchanged.
        examples: What to learn.
        texts: Looks passages up.
        corpus: Passage ids to fill missing negatives from.
        target: Folder to save to.
        hyper: How to train.
        progress: Is told about training steps.
        stored: Vectors of an index, which spare encoding passages where they are not trained.

    Raises:
        ConfigError: The encoder is not a bi-encoder, or no example can be used.
        Interrupted: ``progress`` raised it; a checkpoint of that step is kept.
    """
    from sentence_transformers import SentenceTransformer

    if not isinstance(base.model, SentenceTransformer):
        raise ConfigError(
            f"encoder {base.name!r} gives no dense vectors of its own to train",
            fix="train a sentence-transformers bi-encoder",
        )
    rows, known = select_rows(examples, texts, corpus, hyper)
    if hyper.mode == "adapter":
        from .adapter import train_adapter

        train_adapter(base, rows, known, target, hyper, progress, stored)
    else:
        _fine_tune(base, rows, known, target, hyper, progress, stored)


def _fine_tune(
    base: Encoder,
    rows: Sequence[Row],
    known: dict[str, str],
    target: Path,
    hyper: Hyperparameters,
    progress: Progress,
    stored: "Stored | None",
) -> None:
    import torch
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer

    prompts: dict[str, str | None] = base.model.prompts or {}
    told = columns(
        [row._replace(query=base.as_read(row.query)) for row in rows],
        {i: base.as_read(text) for i, text in known.items()},
        prompts.get("query") or "",
        prompts.get("document") or "",
    )
    checkpoints = checkpoint_folder(target, base, rows, known, hyper)
    torch.manual_seed(hyper.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own; ours are errors in the tests
        model = _copy(base, hyper)
        model.max_seq_length = min(hyper.max_tokens, base.model.max_seq_length or hyper.max_tokens)
        if hyper.lora:
            add_lora(model, hyper.lora)
        told_of = reporter(progress)
        trainer = checkpointing(SentenceTransformerTrainer)(
            model=model,
            args=_arguments(
                checkpoints,
                hyper,
                model.device.type,
                _sampler(base, rows, known, hyper),
                points_every(hyper.epochs * len(rows) // hyper.batch_size),
            ),
            train_dataset=Dataset.from_list(told),
            loss=_loss(model, base, rows, known, hyper, stored),
            callbacks=[told_of],
        )
        trainer.remove_callback(_printer())
        trainer.train(resume_from_checkpoint=last_checkpoint(checkpoints))
        if told_of.stopped is not None:
            raise told_of.stopped
        if hyper.lora:
            merge_lora(model)
        _average(model, base.model, hyper.average)
        model.max_seq_length = base.model.max_seq_length
        _save(model, base, target, hyper)
    save_curve(target, points_of(trainer.state.log_history))


def _copy(base: Encoder, hyper: Hyperparameters) -> Any:
    import torch
    from sentence_transformers import SentenceTransformer

    with TemporaryDirectory() as scratch:
        base.model.save_pretrained(scratch, create_model_card=False)
        model = SentenceTransformer(scratch, device=str(base.model.device))
    model.model_card_data.widget = [{"text": ""}]  # no card is written; spare its examples
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout) and not hyper.dropout:
            module.p = 0.0  # of this copy in memory; the saved configuration keeps its own
    return model


def _average(model: Any, old: Any, share: float) -> None:
    """Move a model's weights towards those it started from, in place."""
    import torch

    before = old.state_dict()
    with torch.no_grad():
        for name, weights in model.state_dict().items():
            if weights.is_floating_point():
                weights.lerp_(before[name], share)


def _save(model: Any, base: Encoder, target: Path, hyper: Hyperparameters) -> None:
    from ..query_side import ENCODER, QuerySide

    if hyper.mode == "full":
        model.save_pretrained(str(target), create_model_card=False)
        return
    model.save_pretrained(str(target / ENCODER), create_model_card=False)
    limit = base.model.max_seq_length or 256
    trained = Encoder.load(str(target / ENCODER), max_tokens=limit, reading=base.reading)
    QuerySide(kind="encoder", passages=base.fingerprint, model=trained.fingerprint).save(target)


def _arguments(
    folder: Path, hyper: Hyperparameters, device: str, sampler: Any, point_every: int
) -> Any:
    from sentence_transformers import SentenceTransformerTrainingArguments

    return SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=hyper.epochs,
        per_device_train_batch_size=hyper.batch_size,
        learning_rate=hyper.pace,
        warmup_steps=hyper.warmup,
        bf16=has_bfloat16(device),
        use_cpu=device == "cpu",
        seed=hyper.seed,
        batch_sampler=sampler,
        save_strategy="epoch",
        save_total_limit=1,
        logging_strategy="steps",
        logging_steps=point_every,
        report_to="none",
        disable_tqdm=True,
    )


def _sampler(
    base: Encoder, rows: Sequence[Row], known: dict[str, str], hyper: Hyperparameters
) -> Any:
    """Batch by topic where the loss distils, else so that no text comes twice."""
    from sentence_transformers.base.sampler import BatchSamplers

    if hyper.loss != "margin_mse":
        return BatchSamplers.NO_DUPLICATES
    from .batches import sampling

    return sampling(base, rows, known, hyper.batch_size)


def _loss(
    model: Any,
    base: Encoder,
    rows: Sequence[Row],
    known: dict[str, str],
    hyper: Hyperparameters,
    stored: "Stored | None",
) -> Any:
    from .loss import RetrievalLoss, needs_tokens

    frozen = None
    if hyper.mode == "query":
        from .frozen import frozen_passages

        frozen = frozen_passages(base, rows, known, stored, late=needs_tokens(hyper))
    return RetrievalLoss(model, hyper, old=base.model, frozen=frozen)


def _printer() -> Any:
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback
