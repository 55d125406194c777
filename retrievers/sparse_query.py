"""Queries of inference-free sparse encoders: tokens and a table of weights, without torch.

Where a checkpoint's query side is a static embedding, its tokenizer and weights are kept beside the
stored terms when the corpus is encoded. A search then loads two files and no model. What is kept
was compared with the model first; where it differs, the model itself encodes queries.
"""

import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import CorruptStore
from .append_only import RE_ENCODE
from .sparse_encoder import SparseModel, Terms

TOKENIZER, WEIGHTS, CARD = "tokenizer.json", "weights.npy", "card.json"

_PROBES = ("a", "", "Which river flows through Kraków, and since when?", "sparse retrieval " * 600)


class StaticQueries:
    """An exported query side. Safe for threads."""

    def __init__(self, folder: Path) -> None:
        """Read from a folder.

        Raises:
            CorruptStore: A file is missing or damaged.
        """
        from tokenizers import Tokenizer

        try:
            card: dict[str, Any] = json.loads((folder / CARD).read_text(encoding="utf-8"))
            if card["checksums"] != _checksums(folder):
                raise ValueError("checksums differ")
            self._weights: NDArray[np.float32] = np.load(folder / WEIGHTS)
            self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
            self._prompt, self._cosine = str(card["prompt"]), bool(card["cosine"])
            self._tokenizer.enable_truncation(card["max_tokens"])
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise CorruptStore(
                f"the query side {str(folder)!r} is missing or damaged", fix=RE_ENCODE
            ) from error
        self._tokenizer.no_padding()

    def __call__(self, text: str) -> Terms:
        """Encode one query; each token counts once, however often it is said."""
        read = self._tokenizer.encode(self._prompt + text, add_special_tokens=False)
        ids = np.unique(np.array(read.ids, np.uint32))
        weights = self._weights[ids]
        if self._cosine:
            weights = weights / np.maximum(np.linalg.norm(weights), 1e-12)
        known = weights != 0
        return Terms(ids[known], weights[known])


def export_queries(model: SparseModel, folder: Path) -> bool:
    """Keep the query side of an inference-free model; False if it has to be computed."""
    module = _static(model.model)
    backend = getattr(getattr(module, "tokenizer", None), "backend_tokenizer", None)
    if module is None or backend is None or model.model.max_active_dims is not None:
        return False
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / TOKENIZER).write_text(backend.to_str(), encoding="utf-8")
    np.save(folder / WEIGHTS, module.weight.detach().cpu().float().numpy())
    card = {
        "prompt": (model.model.prompts or {}).get("query") or "",
        "cosine": model.cosine,
        "max_tokens": module.tokenizer.model_max_length,
        "checksums": _checksums(folder),
    }
    (folder / CARD).write_text(json.dumps(card), encoding="utf-8")
    if _same(model, StaticQueries(folder)):
        return True
    shutil.rmtree(folder)
    return False


def _static(model: Any) -> Any:
    """Return the one module that queries pass through, if it only looks weights up."""
    from sentence_transformers.base.modules import Router
    from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding

    route = list(model)
    if len(route) == 1 and isinstance(route[0], Router):
        routes: dict[str, Any] = dict(route[0].sub_modules.items())
        route = list(routes.get("query", ()))
    return route[0] if len(route) == 1 and isinstance(route[0], SparseStaticEmbedding) else None


def _same(model: SparseModel, made: StaticQueries) -> bool:
    for probe in _PROBES:
        theirs, ours = model.query(probe), made(probe)
        if not np.array_equal(theirs.ids, ours.ids):
            return False
        if not np.allclose(theirs.weights, ours.weights, rtol=1e-5):
            return False
    return True


def _checksums(folder: Path) -> dict[str, int]:
    return {name: zlib.crc32((folder / name).read_bytes()) for name in (TOKENIZER, WEIGHTS)}
