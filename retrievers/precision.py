"""Precision: the arithmetic of passages, by what was measured on this machine.

``auto`` encodes a few texts in each arithmetic at hand, leaves out those whose vectors are not
float32's, and takes the fastest. The verdict is kept in the user's cache under encoder and
processor. Float32 and bfloat16 give the same vectors for what searching needs (mean cosine 0.99997)
and may share an index; int8 (0.99) may not: an index keeps to one side until it is rebuilt.
"""

import hashlib
import logging
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from ..core.errors import ConfigError, RetrailError
from .calibration_texts import calibration_texts
from .encoder import Encoded, Encoder, has_bfloat16
from .int8 import int8_encoder
from .onnx_encoder import cache_root
from .progress import Progress, quiet
from .whole_texts import WholeTexts

logger = logging.getLogger(__name__)

Arithmetic = Literal["float32", "bfloat16", "int8"]

FORMAT = 1

AGREEMENT = 0.98
"""Mean cosine with float32, of dense and of token vectors, from which an arithmetic may be used.
At 0.989 of tokens and 0.994 of dense vectors, SciFact's nDCG@10 stays within 0.002."""

WORTH = 1.25
"""How many times as fast a less exact arithmetic must be. Less may be noise of a busy machine, and
is not worth an index that only int8 can add to."""

CALIBRATE_FROM = 1_000
"""Texts from which measuring costs little of what it may save."""

_ROUNDS = 3
_MARK = "-q8"


class Measured(BaseModel):
    """One arithmetic on this machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    passages_per_second: float
    cosine: float
    """With float32; the lower of the means of dense and of token vectors."""


class Verdict(BaseModel):
    """What was measured, and what ``auto`` takes by it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = FORMAT
    encoder: str
    """Fingerprint."""
    machine: str
    chosen: Arithmetic
    measured: dict[Arithmetic, Measured]
    excluded: dict[Arithmetic, str]
    """Why."""

    def __str__(self) -> str:
        """Say it in one line."""
        speeds = [
            f"{name} {found.passages_per_second:.1f} passages/s (cosine {found.cosine:.4f})"
            for name, found in self.measured.items()
        ]
        reasons = [f"not {name}: {reason}" for name, reason in self.excluded.items()]
        return f"{self.chosen}, of {'; '.join(speeds + reasons)}"


def is_int8(vectors: str) -> bool:
    """Tell by the name of vector files whether int8 arithmetic made them.

    >>> is_int8("ab12-q8.7"), is_int8("ab12-int8-all")
    (True, False)
    """
    return vectors.partition(".")[0].endswith(_MARK)


def mark(int8: bool) -> str:
    """Return what the names of vector files end in, before the generation's number."""
    return _MARK if int8 else ""


def suits(precision: str, int8: bool) -> bool:
    """Say whether vectors are of an arithmetic that the setting allows."""
    return precision == "auto" or int8 == (precision == "int8")


def choose(encoder: Encoder, texts: int, progress: Progress = quiet) -> bool:
    """Decide for an index that has no vectors yet; says whether int8 encodes its passages.

    Args:
        encoder: Of the passages.
        texts: How many there are to encode; few are not worth measuring.
        progress: Is told about measuring.

    Raises:
        ConfigError: Int8 was asked for, and the encoder cannot be exported or loses too much.
    """
    if encoder.precision == "int8":
        if reason := verdict(encoder, progress).excluded.get("int8"):
            raise ConfigError(
                f"encoder {encoder.name!r} cannot encode in int8: {reason}",
                fix="set precision = 'auto', then retrail doctor --rebuild",
            )
        return True
    found = _settle(encoder, texts, progress)
    return found is not None and found.chosen == "int8"


def passage_encoder(
    encoder: Encoder, *, int8: bool, texts: int, progress: Progress = quiet
) -> WholeTexts:
    """Return what encodes passages for an index.

    Args:
        encoder: Of the passages.
        int8: What the index holds, or is to hold.
        texts: How many there are to encode.
        progress: Is told about measuring.
    """
    if int8:
        return int8_encoder(encoder)
    if encoder.automatic is None:
        _settle(encoder, texts, progress)
    return encoder


def verdict(encoder: Encoder, progress: Progress = quiet) -> Verdict:
    """Return the verdict on an encoder, measured now if it was not yet on this machine."""
    return stored(encoder) or _calibrate(encoder, progress)


def _settle(encoder: Encoder, texts: int, progress: Progress) -> Verdict | None:
    """Let ``auto`` go by the verdict, which is measured if the texts are worth it.

    On a GPU there is nothing to choose: torch encodes there.
    """
    if encoder.precision != "auto" or encoder.model.device.type != "cpu":
        return None
    found = verdict(encoder, progress) if texts >= CALIBRATE_FROM else stored(encoder)
    if found:
        encoder.automatic = _fastest(found.measured, found.excluded, ("bfloat16",))
    return found


def stored(encoder: Encoder) -> Verdict | None:
    """Return the verdict that was kept; None if there is none that can be read."""
    path = _path(encoder)
    try:
        found = Verdict.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError):
        logger.warning("%r cannot be read; the precision of passages is measured again", str(path))
        return None
    return found if (found.encoder, found.machine) == (encoder.fingerprint, _machine()) else None


def _calibrate(encoder: Encoder, progress: Progress) -> Verdict:
    """Measure every arithmetic at hand and keep the verdict."""
    encoders, excluded = _at_hand(encoder)
    measured = _measured(encoders, progress)
    for name, found in measured.items():
        if not found.cosine >= AGREEMENT:
            excluded[name] = f"its mean cosine with float32 is below {AGREEMENT}"
    made = Verdict(
        encoder=encoder.fingerprint,
        machine=_machine(),
        chosen=_fastest(measured, excluded, ("bfloat16", "int8")),
        measured=measured,
        excluded=excluded,
    )
    logger.info("passages of encoder %r are encoded in %s", encoder.name, made)
    _keep(made, _path(encoder))
    return made


def _measured(
    encoders: Mapping[Arithmetic, WholeTexts], progress: Progress
) -> dict[Arithmetic, Measured]:
    """Encode the sample in turns, so that whatever else runs here slows all of them alike."""
    texts = calibration_texts()
    seconds: dict[Arithmetic, float] = {}
    vectors: dict[Arithmetic, dict[int, Encoded]] = {}
    for done in range(_ROUNDS):
        progress("measuring arithmetic", done, _ROUNDS)
        for name, each in encoders.items():
            began = time.perf_counter()
            vectors[name] = dict(each.documents(texts))
            taken = time.perf_counter() - began
            seconds[name] = min(taken, seconds.get(name, taken))
    progress("measuring arithmetic", _ROUNDS, _ROUNDS)
    return {
        name: Measured(
            passages_per_second=len(texts) / seconds[name],
            cosine=_agreement(vectors["float32"], vectors[name]),
        )
        for name in encoders
    }


def _at_hand(encoder: Encoder) -> tuple[dict[Arithmetic, WholeTexts], dict[Arithmetic, str]]:
    found: dict[Arithmetic, WholeTexts] = {"float32": encoder.sharing("float32")}
    excluded: dict[Arithmetic, str] = {}
    if has_bfloat16(encoder.model.device.type):
        found["bfloat16"] = encoder.sharing("bfloat16")
    else:
        excluded["bfloat16"] = "not native to this processor"
    try:
        found["int8"] = int8_encoder(encoder)
    except RetrailError as error:
        excluded["int8"] = str(error)
    except Exception as error:  # noqa: BLE001  (of onnx, which has many, on foreign models)
        excluded["int8"] = f"{type(error).__name__}: {error}"
    return found, excluded


def _agreement(exact: dict[int, Encoded], other: dict[int, Encoded]) -> float:
    if any(exact[n].tokens.shape != other[n].tokens.shape for n in exact):
        return 0.0
    dense = [float(exact[n].dense @ other[n].dense) for n in exact]
    tokens = np.concatenate([(exact[n].tokens * other[n].tokens).sum(axis=1) for n in exact])
    lowest = min(float(np.mean(dense)), float(tokens.mean()))
    return lowest if np.isfinite(lowest) else 0.0


def _fastest(
    measured: Mapping[Arithmetic, Measured],
    excluded: Mapping[Arithmetic, str],
    others: tuple[Arithmetic, ...],
) -> Arithmetic:
    """Go from float32 to the less exact, and on only where that pays."""
    best: Arithmetic = "float32"
    for name in others:
        if name in measured and name not in excluded:
            speeds = [measured[each].passages_per_second for each in (name, best)]
            best = name if speeds[0] > WORTH * speeds[1] else best
    return best


def _keep(made: Verdict, path: Path) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(made.model_dump_json(indent=1), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        logger.warning("the precision of passages is measured each time: %s", error)


def _path(encoder: Encoder) -> Path:
    machine = hashlib.blake2b(_machine().encode(), digest_size=4).hexdigest()
    return cache_root().parent / "precision" / f"{encoder.fingerprint}-{machine}.json"


def _machine() -> str:
    """Name the processor with what it can do, the threads, and the libraries that use it."""
    import onnxruntime
    import torch

    able = getattr(torch.cpu, "get_capabilities", dict)()
    processor = " ".join(f"{name}={value}" for name, value in sorted(able.items()) if value)
    versions = f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}"
    return f"{platform.machine()} {processor}, {torch.get_num_threads()} threads, {versions}"
