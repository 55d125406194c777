"""Encoding in int8 with onnxruntime: an exported encoder with 8-bit weights, one scale a channel.

Dynamic quantisation: weights are rounded once, activations as they come. One scale for a whole
matrix would lose much more (token cosine 0.935 against 0.989 for all-MiniLM-L6-v2). The weights lie
beside the export in the user's cache. Only passages are encoded so: queries stay in float32.
"""

import os
from pathlib import Path

from ..core.errors import ConfigError
from .encoder import Encoder
from .onnx_encoder import MODEL, OnnxEncoder
from .onnx_export import export

INT8_MODEL = "model.int8.onnx"


def int8_encoder(encoder: Encoder) -> OnnxEncoder:
    """Open an encoder's int8 form, making it first where the cache has none that works.

    Raises:
        ConfigError: The encoder cannot be exported.
    """
    exact = OnnxEncoder.open(encoder.fingerprint) or export(encoder)
    if exact is None:
        raise ConfigError(
            f"encoder {encoder.name!r} cannot be exported for int8",
            fix="set precision = 'auto', which takes what the encoder can do",
        )
    try:
        return _opened(exact)
    except Exception:  # noqa: BLE001  (onnxruntime's errors share no base; a cache may be lost)
        _quantise(exact.folder)
    return _opened(exact)


def _opened(exact: OnnxEncoder) -> OnnxEncoder:
    import torch

    # Passages come one batch at a time: as many threads as torch would use, OMP_NUM_THREADS of them
    # where that is set.
    threads = torch.get_num_threads()
    encoder = OnnxEncoder(exact.folder, exact.card, model=INT8_MODEL, threads=threads)
    for _ in encoder.documents(["ready"]):  # loaded now: the folder may be swept while in use
        pass
    return encoder


def _quantise(folder: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = folder / f"prepared.{os.getpid()}.part"
    made = folder / f"{INT8_MODEL}.{os.getpid()}.part"
    try:
        quant_pre_process(folder / MODEL, prepared, skip_symbolic_shape=True)
        quantize_dynamic(prepared, made, per_channel=True)
        made.replace(folder / INT8_MODEL)
    finally:
        prepared.unlink(missing_ok=True)
        made.unlink(missing_ok=True)
