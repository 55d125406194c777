"""Export of our encoder as a ColBERT checkpoint, for engines that read nothing else.

ColBERT is a BERT whose last hidden states go through a linear map without bias and are normalised:
the weights are ours as they are, the map is an orthonormal basis, so that inner products survive.
What differs from our own late index: a marker token in front ([Q], [D]), punctuation of passages
left out, and no centring, which takes a bias.
"""

import json
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ConfigError
from .encoder import Encoder, Vectors

QUERY_MARKER, DOCUMENT_MARKER = "[unused0]", "[unused1]"
"""Tokens of BERT's vocabulary that no text holds; ColBERT calls them [Q] and [D]."""


def export_colbert(encoder: Encoder, folder: Path, *, dim: int, sample: Sequence[str]) -> Path:
    """Write a ColBERT checkpoint that gives nearly the encoder's own MaxSim.

    Args:
        encoder: A bi-encoder over BERT, without prompts.
        folder: Is created; existing files of a checkpoint are replaced.
        dim: Length of a token vector; from the encoder's own width on, nothing is lost.
            PLAID wants a multiple of 32.
        sample: Texts whose token vectors the basis is fitted to, as found in the corpus.

    Returns:
        The folder.

    Raises:
        ConfigError: The encoder is none that ColBERT can express, or there is no sample.
    """
    backbone = _backbone(encoder)
    basis = _basis(encoder, dim, sample)
    folder.mkdir(parents=True, exist_ok=True)
    _write_weights(backbone, basis, folder)
    _write_tokenizer(encoder, folder)
    settings = _settings(encoder, basis.shape[1], folder)
    (folder / "artifact.metadata").write_text(json.dumps(settings, indent=1), encoding="utf-8")
    return folder


def _backbone(encoder: Encoder) -> Any:
    backbone = None if encoder.multi_vector else getattr(encoder.model[0], "auto_model", None)
    kind = getattr(getattr(backbone, "config", None), "model_type", None)
    if kind != "bert" or any((encoder.model.prompts or {}).values()):
        raise ConfigError(
            f"encoder {encoder.name!r} cannot be written as a ColBERT checkpoint",
            fix="choose a bi-encoder over BERT without prompts, or give a ColBERT checkpoint",
        )
    return backbone


def _basis(encoder: Encoder, dim: int, sample: Sequence[str]) -> Vectors:
    """Return orthonormal columns, shape ``(width, dim)``: the main axes of the sample."""
    if not sample:
        raise ConfigError("there is no text to fit a basis to", fix="give some of the corpus")
    tokens = np.concatenate([encoded.tokens for _, encoded in encoder.documents(sample)])
    _, axes = np.linalg.eigh(tokens.T @ tokens)
    return np.ascontiguousarray(axes[:, ::-1][:, :dim])


def _write_weights(backbone: Any, basis: Vectors, folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    prefix = backbone.base_model_prefix
    weights = {
        f"{prefix}.{name}": tensor.detach().float().cpu().contiguous()
        for name, tensor in backbone.state_dict().items()
    }
    weights["linear.weight"] = torch.from_numpy(basis.T.copy())
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = copy(backbone.config)
    config.architectures = ["HF_ColBERT"]
    config.save_pretrained(folder)


def _write_tokenizer(encoder: Encoder, folder: Path) -> None:
    encoder.model.tokenizer.save_pretrained(str(folder))
    # ColBERT fills queries up with the mask token and scores what a model trained for that makes
    # of it. Ours was not: a mask that is padding is left out of the score.
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["mask_token"] = settings["pad_token"]
    path.write_text(json.dumps(settings, indent=1), encoding="utf-8")


def _settings(encoder: Encoder, dim: int, folder: Path) -> dict[str, Any]:
    return {
        "attend_to_mask_tokens": False,
        "checkpoint": str(folder),
        "dim": dim,
        "doc_maxlen": encoder.model.max_seq_length,
        "doc_token": "[D]",
        "doc_token_id": DOCUMENT_MARKER,
        # Without a root and an experiment an index can be built but not searched.
        "experiment": "colbert",
        "interaction": "colbert",
        "mask_punctuation": True,
        "query_maxlen": 32,
        "query_token": "[Q]",
        "query_token_id": QUERY_MARKER,
        "root": str(folder),
        "similarity": "cosine",
    }
