"""Checkpoints of a training, taken up by the next training on the same data.

They are written after every epoch and every two minutes, and hold what is trained, not what is
frozen.

They lie in the version's folder under ``checkpoints/<key>``, where the key is a hash of everything
the result depends on. A checkpoint counts once ``trainer_state.json``, written last, can be read.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...core.errors import Interrupted
from ..encoder import Encoder
from ..progress import Progress
from .hyper import Hyperparameters
from .registry import CHECKPOINTS
from .rows import Row

PERIOD = 120.0
"""Seconds of training between checkpoints; writing one takes about one."""

_WEIGHTS = "trained.safetensors"


def checkpoint_folder(
    target: Path, base: Encoder, rows: Sequence[Row], known: dict[str, str], hyper: Hyperparameters
) -> Path:
    """Return the folder of a training's checkpoints, and delete those of other trainings."""
    told = json.dumps([base.fingerprint, hyper.model_dump(), rows, known], sort_keys=True)
    key = hashlib.blake2b(told.encode(), digest_size=16).hexdigest()
    for other in (target / CHECKPOINTS).glob("*"):
        if other.name != key:
            shutil.rmtree(other)
    folder = target / CHECKPOINTS / key
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def last_checkpoint(folder: Path) -> str | None:
    """Return the newest complete checkpoint; incomplete ones, of a kill, are deleted."""
    found: dict[int, Path] = {}
    for path in folder.glob("checkpoint-*"):
        try:
            state = json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(path)
        else:
            found[state["global_step"]] = path
    return str(found[max(found)]) if found else None


def checkpointing(trainer: type) -> type:
    """Let a trainer's checkpoints hold the parameters that are trained, and nothing else.

    The library's own hold a whole model, or with LoRA an adapter that cannot be loaded without the
    model it was made for.
    """
    from safetensors.torch import load_file, save_file

    class Checkpointing(trainer):
        def _save(self, output_dir: str, state_dict: Any = None) -> None:
            folder = Path(output_dir)
            folder.mkdir(parents=True, exist_ok=True)
            named = self.model.named_parameters()
            trained = {n: p.detach().contiguous() for n, p in named if p.requires_grad}
            save_file(trained, folder / _WEIGHTS)

        def _load_from_checkpoint(self, checkpoint_path: str) -> None:
            found = load_file(Path(checkpoint_path) / _WEIGHTS)
            self.model.load_state_dict(found, strict=False)

    return Checkpointing


def reporter(progress: Progress) -> Any:
    """Make a trainer's callback: tells the steps, and saves from time to time, and when stopped."""
    from transformers.trainer_callback import TrainerCallback

    class Reporter(TrainerCallback):
        stopped: Interrupted | None = None

        def __init__(self) -> None:
            self._saved = time.monotonic()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if time.monotonic() - self._saved >= PERIOD:
                control.should_save = True
            try:
                progress("training", state.global_step, state.max_steps)
            except Interrupted as stopped:  # after a checkpoint of this very step
                self.stopped = stopped
                control.should_save = control.should_training_stop = True

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self._saved = time.monotonic()

    return Reporter()
