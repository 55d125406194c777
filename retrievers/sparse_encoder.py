"""One learned sparse encoder: every text becomes terms of a vocabulary with weights.

Wraps any ``SparseEncoder`` checkpoint of sentence-transformers: SPLADE (Formal et al. 2021, arXiv
2109.10086), its kin on decoders, and inference-free models whose queries only look weights up.
Documents are rounded to half precision here, so what is stored is what was checked. A weight that
is not finite is an error, never a rank.
"""

import hashlib
import json
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError
from .encoder import Kind, has_bfloat16

if TYPE_CHECKING:
    from sentence_transformers import SparseEncoder

Matrix = NDArray[np.float32] | NDArray[np.float16]

_BATCH = 8
"""Texts a forward pass: each takes a number for every token and term, 30 MB of BERT's at 256."""

_WINDOW = 64
"""Texts sorted together by length; as many rows of the vocabulary's width are in memory."""

_WANTED = "name a SparseEncoder of sentence-transformers, such as a SPLADE model, by name or path"


class Terms(NamedTuple):
    """A sparse vector: the terms of a text, rising, with their weights, none of them 0."""

    ids: NDArray[np.uint32]
    weights: Matrix
    """Half precision for documents, single for queries."""

    @classmethod
    def of(cls, row: Matrix) -> "Terms":
        """Take what is not 0 out of a vector over the whole vocabulary."""
        ids = np.flatnonzero(row)
        return cls(ids.astype(np.uint32), row[ids])


class SparseModel:
    """A loaded sparse encoder; create it with :meth:`load`."""

    def __init__(
        self, model: "SparseEncoder", name: str, *, max_tokens: int = 256, precision: str = "auto"
    ) -> None:
        """Wrap a model that is already in memory.

        Args:
            model: The model; its token limits are lowered to ``max_tokens``, never raised.
            name: How it is called in manifests and messages.
            max_tokens: Tokens of a text that are read.
            precision: ``auto``, ``float32`` or ``bfloat16``; concerns documents only.

        Raises:
            ConfigError: Its vectors are not compared by inner product or cosine.
        """
        self.model = model
        self.name = name
        self.texts_encoded = 0
        self.cosine = model.similarity_fn_name == "cosine"
        if model.similarity_fn_name not in ("dot", "cosine"):
            raise ConfigError(
                f"sparse encoder {name!r} compares by {model.similarity_fn_name!r}",
                fix="use one that compares by inner product ('dot') or cosine",
            )
        self._precision = precision
        self._lock = threading.Lock()
        for module in model.modules():
            limit = getattr(module, "max_seq_length", None)
            positions = getattr(getattr(module, "config", None), "max_position_embeddings", None)
            tokenizer: Any = getattr(module, "tokenizer", None)
            if limit and tokenizer is not None:
                tokenizer.model_max_length = min(limit, max_tokens, positions or max_tokens)
        model.eval()

    @classmethod
    def load(
        cls, location: str, name: str, *, max_tokens: int = 256, precision: str = "auto"
    ) -> "SparseModel":
        """Load a model.

        Args:
            location: A path, or a name of the model hub.
            name: See above, here and below.
            max_tokens: Of a text.
            precision: Of documents.

        Raises:
            ConfigError: Nothing loadable is there, or it is no sparse encoder.
        """
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in Encoder.load
        from safetensors import SafetensorError
        from sentence_transformers import SparseEncoder
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
        logging.getLogger("sentence_transformers").setLevel(logging.WARNING)
        kind = _kind(location)
        if kind is not None:
            # The library would put untrained weights on top of it and rank at random.
            raise ConfigError(f"{name!r} is a {kind}, no sparse encoder", fix=_WANTED)
        try:
            model = SparseEncoder(location)
        # Of foreign files: missing, truncated, of other shapes, with unknown classes.
        except (OSError, ValueError, LookupError, RuntimeError, TypeError, AttributeError,
                ImportError, SafetensorError) as error:  # fmt: skip
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConfigError(
                f"sparse encoder {name!r} cannot be loaded ({reason})", fix=_WANTED
            ) from error
        return cls(model, name, max_tokens=max_tokens, precision=precision)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of weights, modules, tokenizers, prompts and limits: equal prints, equal vectors."""
        digest = hashlib.blake2b(digest_size=8)
        model: Any = self.model
        for name, module in model.named_modules():
            settings = dict(getattr(module, "get_config_dict", dict)())
            settings.pop("embedding_dimension", None)  # is filled in by the first forward pass
            digest.update(f"{name} {type(module).__name__} {sorted(settings.items())}".encode())
            tokenizer = getattr(module, "tokenizer", None)
            if settings and tokenizer is not None:
                digest.update(_tokenizer_state(tokenizer))
        said = (sorted((model.prompts or {}).items()), model.similarity_fn_name)
        digest.update(repr((*said, model.max_active_dims)).encode())
        for key, tensor in sorted(model.state_dict().items()):
            digest.update(key.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().float().numpy().tobytes())
        return digest.hexdigest()

    @cached_property
    def size(self) -> int:
        """Terms of the vocabulary.

        Raises:
            ConfigError: Queries and documents have vocabularies of different sizes.
        """
        query, document = (len(self._encode(["size"], kind)[0]) for kind in ("query", "document"))
        if query != document:
            raise ConfigError(
                f"sparse encoder {self.name!r} has {query} terms for queries, {document} for "
                "documents",
                fix="use one whose routes share a vocabulary",
            )
        return document

    def query(self, text: str) -> Terms:
        """Encode one query in full precision.

        Raises:
            ConfigError: The model gives weights that are not finite.
        """
        return Terms.of(self._encode([text], "query")[0])

    def documents(self, texts: Sequence[str]) -> Iterator[list[Terms]]:
        """Encode texts once each, in order, window by window.

        Raises:
            ConfigError: The model gives weights that half precision cannot hold.
        """
        for start in range(0, len(texts), _WINDOW):
            window = list(texts[start : start + _WINDOW])
            self.texts_encoded += len(window)
            yield [Terms.of(row) for row in self._encode(window, "document")]

    def _encode(self, texts: list[str], kind: Kind) -> Matrix:
        """Return vectors over the vocabulary, shape ``(texts, size)``."""
        import torch

        encode: Any = getattr(self.model, f"encode_{kind}")
        device = self.model.device.type
        fast = kind == "document" and (
            self._precision == "bfloat16" or (self._precision == "auto" and has_bfloat16(device))
        )
        with self._lock, torch.autocast(device, torch.bfloat16, enabled=fast):
            tensor = encode(
                texts,
                batch_size=_BATCH,
                show_progress_bar=False,
                convert_to_sparse_tensor=False,
                save_to_cpu=True,
            )
        matrix: Matrix = tensor.float().numpy()
        if self.cosine:
            matrix = matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)
        if kind == "document":
            with np.errstate(over="ignore"):
                matrix = matrix.astype(np.float16)
        if not np.isfinite(matrix).all():
            raise ConfigError(
                f"sparse encoder {self.name!r} gives weights that are not finite",
                fix="its weights are damaged or were trained badly; use another checkpoint",
            )
        return matrix


def _kind(location: str) -> str | None:
    """Return what a checkpoint is if it is no sparse encoder; None if it is one, or is nothing."""
    from sentence_transformers.util import load_file_path

    def read(file: str) -> dict[str, Any]:
        path = load_file_path(location, file)
        with suppress(OSError, ValueError):
            return dict(json.loads(Path(path).read_text(encoding="utf-8"))) if path else {}
        return {}

    if load_file_path(location, "modules.json") is not None:
        said = read("config_sentence_transformers.json").get("model_type", "SentenceTransformer")
        return None if said == "SparseEncoder" else str(said)
    architectures = read("config.json").get("architectures") or []
    if any(str(name).endswith("ForMaskedLM") for name in architectures):
        return None
    return str(architectures[0]) if architectures else None


def _tokenizer_state(tokenizer: Any) -> bytes:
    """Return all of a tokenizer that decides which terms a text has."""
    state: dict[str, Any] = {"vocabulary": tokenizer.get_vocab()}
    if (backend := getattr(tokenizer, "backend_tokenizer", None)) is not None:
        state = json.loads(backend.to_str())
        state.pop("truncation", None)  # states of its last use
        state.pop("padding", None)
    state["limit"] = tokenizer.model_max_length
    return json.dumps(state, sort_keys=True).encode()
