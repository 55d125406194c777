"""Export of a loaded encoder for onnxruntime, checked against the original before it is used.

The whole model is traced, pooling and normalisation included, so every sentence-transformers
bi-encoder with a fast tokenizer can be exported; of a multi-vector model all but the choice of
scored tokens, which the card describes. What cannot, or gives other vectors, stays with
torch: an export is a matter of speed, never of results.
"""

import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .encoder import Encoded, Encoder
from .multi_vector import scoring_card
from .onnx_encoder import MODEL, TOKENIZER, Card, OnnxEncoder, cache_root, sweep_cache

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

TOLERANCE = 1e-3
"""Largest difference of a component of a unit vector that counts as the same."""

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_PROBES = ("a", "Which river flows through Kraków, and since when?", "late interaction " * 300)


def export(encoder: Encoder) -> OnnxEncoder | None:
    """Export an encoder into the cache; None where that cannot be done, with the reason logged."""
    root = cache_root()
    folder = root / f"{encoder.fingerprint}.{os.getpid()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        made = OnnxEncoder(folder, _write(encoder, folder))
        if not _same(encoder, made):
            raise ValueError("the exported model gives other vectors")
        final = root / encoder.fingerprint
        shutil.rmtree(final, ignore_errors=True)
        folder.rename(final)
        sweep_cache(root)
    except Exception as reason:  # noqa: BLE001  (tracing foreign models fails in many ways)
        logger.info("encoder %r is not exported, torch encodes queries: %s", encoder.name, reason)
        return None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return OnnxEncoder.open(encoder.fingerprint)


def _write(encoder: Encoder, folder: Path) -> Card:
    import torch

    model: Any = deepcopy(encoder.model).to("cpu").float().eval()
    features = model.preprocess(["a probe of two texts", "another"])
    scoring = scoring_card(model) if encoder.multi_vector else None
    names = [name for name in _INPUTS if isinstance(features.get(name), torch.Tensor)]
    tensors = [name for name, value in features.items() if isinstance(value, torch.Tensor)]
    if set(tensors) != set(names):
        raise ValueError(f"the model reads {tensors}")
    constants = {name: value for name, value in features.items() if name not in names}
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # of the tracer, about what the check below would find
        torch.onnx.export(
            _traceable(model, names, constants),
            tuple(features[name] for name in names),
            str(folder / MODEL),
            dynamo=False,
            opset_version=17,
            input_names=names,
            output_names=["tokens"] if scoring else ["tokens", "dense"],
            dynamic_axes={name: {0: "texts", 1: "tokens"} for name in (*names, "tokens")}
            | ({} if scoring else {"dense": {0: "texts"}}),
        )
    tokenizer: Any = model.tokenizer
    (folder / TOKENIZER).write_text(tokenizer.backend_tokenizer.to_str(), encoding="utf-8")
    card = Card(
        max_tokens=model.max_seq_length,
        pad_id=tokenizer.pad_token_id,
        pad_token=tokenizer.pad_token,
        prompts={kind: text for kind, text in (model.prompts or {}).items() if text},
        scoring=scoring,
        dense_dim=encoder.reading.dense_dim,
        long_texts=encoder.reading.long_texts,
        encoder_tokenizer=encoder.reading.encoder_tokenizer,
    )
    card.save(folder)
    return card


def _traceable(model: Any, names: list[str], constants: dict[str, Any]) -> "torch.nn.Module":
    import torch

    class Vectors(torch.nn.Module):
        """The model as a function of tensors, with its token vectors and its dense ones if any."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *tensors: "torch.Tensor") -> tuple["torch.Tensor", ...]:
            given = dict(zip(names, tensors, strict=True))
            output = self.model.forward(given | constants)
            found = [output.get(name) for name in ("token_embeddings", "sentence_embedding")]
            unit = torch.nn.functional.normalize
            return tuple(unit(vectors, dim=-1) for vectors in found if vectors is not None)

    return Vectors().eval()


def _same(encoder: Encoder, made: OnnxEncoder) -> bool:
    for ours, theirs in _probes(encoder, made):
        if ours.tokens.shape != theirs.tokens.shape:
            return False
        apart = max(
            float(np.abs(ours.dense - theirs.dense).max()),
            float(np.abs(ours.tokens - theirs.tokens).max()),
        )
        if not apart < TOLERANCE:  # a NaN is no match either
            return False
    return True


def _probes(encoder: Encoder, made: OnnxEncoder) -> Iterator[tuple[Encoded, Encoded]]:
    for probe in _PROBES:
        yield encoder.query(probe), made.query(probe)
    ours, theirs = dict(encoder.documents(_PROBES, exact=True)), dict(made.documents(_PROBES))
    yield from ((ours[n], theirs[n]) for n in ours)
