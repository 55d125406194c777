"""Encoding on the processor with onnxruntime: the same vectors in half the time, without torch.

Queries meet this encoder, not torch: a process that only searches never imports torch. It is made
from a loaded :class:`Encoder` (``onnx_export``) and kept in the user's cache under the encoder's
fingerprint, so it can never be that of other weights; losing the cache costs one export.
"""

import json
import os
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from .encoder import Encoded, Kind
from .token_spans import TokenSpan, spans_of

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

MODEL, TOKENIZER, CARD = "model.onnx", "tokenizer.json", "card.json"

_KEEP = 8
"""Encoders kept in the cache, those used last."""

_BATCH = 32


class TextEncoder(Protocol):
    """What searching asks of an encoder."""

    def query(self, text: str) -> Encoded:
        """Encode one query."""
        ...

    def documents(self, texts: Sequence[str]) -> Iterator[tuple[int, Encoded]]:
        """Encode texts, yielding ``(position, vectors)``."""
        ...

    def token_spans(self, text: str, kind: Kind) -> list[TokenSpan]:
        """Return the characters that each token vector of a text stands for."""
        ...


class Card(NamedTuple):
    """What the tokenizer and the model need beside their files."""

    max_tokens: int
    pad_id: int
    pad_token: str
    prompts: dict[str, str]


def cache_root() -> Path:
    """Return the folder of exported encoders: ``RETRAIL_CACHE``, else the user's cache."""
    from platformdirs import user_cache_path

    named = os.environ.get("RETRAIL_CACHE")
    return (Path(named) if named else user_cache_path("retrail")) / "encoders"


class OnnxEncoder:
    """An exported encoder; open it with :meth:`open`. Safe for threads."""

    def __init__(self, folder: Path, card: Card) -> None:
        """Read from a folder; the model loads with the first text."""
        self.folder = folder
        self.card = card

    @classmethod
    def open(cls, fingerprint: str) -> "OnnxEncoder | None":
        """Return the exported encoder of a fingerprint, or None if there is none that works."""
        folder = cache_root() / fingerprint
        try:
            card = Card(**json.loads((folder / CARD).read_text(encoding="utf-8")))
            encoder = cls(folder, card)
            encoder.query("ready")
            os.utime(folder)
        except Exception:  # noqa: BLE001  (onnxruntime's errors share no base; a cache may be lost)
            return None
        return encoder

    def query(self, text: str) -> Encoded:
        """Encode one query; equal to :meth:`Encoder.query` up to rounding."""
        return self._batch([text], "query")[0]

    def documents(self, texts: Sequence[str]) -> Iterator[tuple[int, Encoded]]:
        """Encode texts once each, those of like length together."""
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        for start in range(0, len(order), _BATCH):
            at = order[start : start + _BATCH]
            yield from zip(at, self._batch([texts[i] for i in at], "document"), strict=True)

    def token_spans(self, text: str, kind: Kind) -> list[TokenSpan]:
        """Return the characters that each token vector of a text stands for."""
        prompt = self.card.prompts.get(kind) or ""
        read = self._tokenizer.encode(prompt + text)
        return spans_of(read.offsets, read.word_ids, prompt, text)

    def _batch(self, texts: list[str], kind: Kind) -> list[Encoded]:
        prompt = self.card.prompts.get(kind) or ""
        encodings = self._tokenizer.encode_batch([prompt + text for text in texts])
        features = {
            "input_ids": [e.ids for e in encodings],
            "attention_mask": [e.attention_mask for e in encodings],
            "token_type_ids": [e.type_ids for e in encodings],
        }
        wanted = [node.name for node in self._session.get_inputs()]
        outputs: Any = self._session.run(
            ["dense", "tokens"], {name: np.array(features[name], np.int64) for name in wanted}
        )
        dense: NDArray[np.float32] = outputs[0]
        tokens: NDArray[np.float32] = outputs[1]
        masks = [np.array(e.attention_mask, bool) for e in encodings]
        return [Encoded(dense[i], tokens[i][mask]) for i, mask in enumerate(masks)]

    @cached_property
    def _session(self) -> "InferenceSession":
        import onnxruntime
        from onnxruntime import InferenceSession

        options: Any = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # Several searches at once share the cores better than the threads of one.
        options.intra_op_num_threads = 1
        path = str(self.folder / MODEL)
        return InferenceSession(path, options, providers=["CPUExecutionProvider"])

    @cached_property
    def _tokenizer(self) -> "Tokenizer":
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.folder / TOKENIZER))
        tokenizer.enable_truncation(self.card.max_tokens)
        tokenizer.enable_padding(pad_id=self.card.pad_id, pad_token=self.card.pad_token)
        return tokenizer


def sweep_cache(root: Path) -> None:
    """Delete the encoders that were not used for longest, and what a killed export left."""
    import shutil

    folders = sorted(root.glob("*"), key=_last_used, reverse=True)
    whole = [folder for folder in folders if folder.suffix != ".part"]
    stale = [f for f in folders if f.suffix == ".part" and time.time() - _last_used(f) > 3600]
    for folder in whole[_KEEP:] + stale:
        shutil.rmtree(folder, ignore_errors=True)


def _last_used(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0
