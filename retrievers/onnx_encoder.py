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

from ..core.settings import LongTexts
from .encoded import Encoded, Kind
from .reading import Reading, shortened
from .scoring_card import ScoringCard, TokenBatch
from .token_spans import TokenSpan, spans_of
from .whole_texts import WholeTexts
from .windows import Token

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
    scoring: ScoringCard | None = None
    """Of a multi-vector model."""
    dense_dim: int | None = None
    """Components of a dense vector that are kept; all for None."""
    long_texts: LongTexts = "cut"
    encoder_tokenizer: str = ""

    def save(self, folder: Path) -> None:
        """Write it beside the model."""
        scoring = self.scoring and self.scoring._asdict()
        content = self._asdict() | {"scoring": scoring}
        (folder / CARD).write_text(json.dumps(content), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "Card":
        """Read it from a folder."""
        content = json.loads((folder / CARD).read_text(encoding="utf-8"))
        scoring = content.pop("scoring", None)
        return cls(**content, scoring=ScoringCard(**scoring) if scoring else None)


def cache_root() -> Path:
    """Return the folder of exported encoders: ``RETRAIL_CACHE``, else the user's cache."""
    from platformdirs import user_cache_path

    named = os.environ.get("RETRAIL_CACHE")
    return (Path(named) if named else user_cache_path("retrail")) / "encoders"


class OnnxEncoder(WholeTexts):
    """An exported encoder; open it with :meth:`open`. Safe for threads."""

    def __init__(self, folder: Path, card: Card, *, model: str = MODEL, threads: int = 1) -> None:
        """Read from a folder; the model loads with the first text.

        Args:
            folder: Holds model and tokenizer.
            card: What they need beside.
            model: The file.
            threads: Of a batch. Several searches at once share the cores better than the threads
                of one.
        """
        self.folder = folder
        self.card = card
        self._path = folder / model
        self._threads = threads
        self._tokenizers: dict[int, Tokenizer] = {}

    @classmethod
    def open(cls, fingerprint: str) -> "OnnxEncoder | None":
        """Return the exported encoder of a fingerprint, or None if there is none that works."""
        folder = cache_root() / fingerprint
        try:
            encoder = cls(folder, Card.read(folder))
            encoder.query("ready")
            if encoder.card.long_texts != "cut":
                encoder._tokenizer("document", whole=True)
            encoder._tokenizer("document")  # now: the folder may be swept while this is in use
            os.utime(folder)
        except Exception:  # noqa: BLE001  (onnxruntime's errors share no base; a cache may be lost)
            return None
        return encoder

    def query(self, text: str) -> Encoded:
        """Encode one query; equal to :meth:`Encoder.query` up to rounding."""
        return self._batch([self.as_read(text)], "query")[0]

    @property
    def reading(self) -> Reading:
        """How texts are read, as far as it is not in the model's files."""
        card = self.card
        return Reading(
            dense_dim=card.dense_dim,
            long_texts=card.long_texts,
            encoder_tokenizer=card.encoder_tokenizer,
        )

    def _parts(self, texts: Sequence[str], *, exact: bool) -> Iterator[tuple[int, Encoded]]:
        del exact  # always
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        for start in range(0, len(order), _BATCH):
            at = order[start : start + _BATCH]
            yield from zip(at, self._batch([texts[i] for i in at], "document"), strict=True)

    def _tokens(self, text: str) -> list[Token]:
        tokenizer = self._tokenizer("document", whole=True)
        read = tokenizer.encode(text, add_special_tokens=False)
        places = zip(read.offsets, read.word_ids, strict=True)
        return [Token(*place, word) for place, word in places]

    def _room(self) -> int:
        added = self._tokenizer("document").encode(self.card.prompts.get("document") or "")
        return self._limit("document") - len(added.ids)

    def _part_spans(self, text: str, kind: Kind) -> list[TokenSpan]:
        prompt = self.card.prompts.get(kind) or ""
        read = self._tokenizer(kind).encode(prompt + text)
        scored = self._read([text], kind).scored[0]
        spans = spans_of(read.offsets, read.word_ids, prompt, text)
        spans += [TokenSpan(0, 0, None)] * (len(scored) - len(spans))
        return [span for span, kept in zip(spans, scored, strict=True) if kept]

    def _batch(self, texts: list[str], kind: Kind) -> list[Encoded]:
        read = self._read(texts, kind)
        features = {
            "input_ids": read.input_ids,
            "attention_mask": read.attention_mask,
            "token_type_ids": np.zeros_like(read.input_ids),
        }
        wanted = [node.name for node in self._session.get_inputs()]
        given = ["tokens"] if self.card.scoring else ["tokens", "dense"]
        outputs: Any = self._session.run(given, {name: features[name] for name in wanted})
        tokens: NDArray[np.float32] = outputs[0]
        if self.card.scoring:
            found = [_pooled(tokens[i][kept]) for i, kept in enumerate(read.scored)]
        else:
            found = [Encoded(outputs[1][i], tokens[i][kept]) for i, kept in enumerate(read.scored)]
        return [Encoded(shortened(e.dense, self.card.dense_dim), e.tokens) for e in found]

    def _read(self, texts: list[str], kind: Kind) -> TokenBatch:
        prompt = self.card.prompts.get(kind) or ""
        encodings = self._tokenizer(kind).encode_batch([prompt + text for text in texts])
        ids = np.array([e.ids for e in encodings], np.int64)
        mask = np.array([e.attention_mask for e in encodings], np.int64)
        if self.card.scoring:
            return self.card.scoring.batch(ids, mask, kind)
        return TokenBatch(ids, mask, mask.astype(bool))

    @cached_property
    def _session(self) -> "InferenceSession":
        import onnxruntime
        from onnxruntime import InferenceSession

        options: Any = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = self._threads
        # As in `load_model`: threads that spin while they wait make two processes crawl.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return InferenceSession(str(self._path), options, providers=["CPUExecutionProvider"])

    def _limit(self, kind: Kind) -> int:
        scoring = self.card.scoring
        return scoring.length(kind) if scoring else self.card.max_tokens

    def _tokenizer(self, kind: Kind, *, whole: bool = False) -> "Tokenizer":
        from tokenizers import Tokenizer

        limit = 0 if whole else self._limit(kind)
        if limit not in self._tokenizers:
            tokenizer = Tokenizer.from_file(str(self.folder / TOKENIZER))
            if whole:
                tokenizer.no_truncation()  # what it was saved with
                tokenizer.no_padding()
            else:
                tokenizer.enable_truncation(limit)
                tokenizer.enable_padding(pad_id=self.card.pad_id, pad_token=self.card.pad_token)
            self._tokenizers[limit] = tokenizer
        return self._tokenizers[limit]


def _pooled(tokens: NDArray[np.float32]) -> Encoded:
    """Give a multi-vector model's text its dense vector, as :class:`Encoder` does."""
    tokens = tokens if len(tokens) else np.zeros((1, tokens.shape[1]), np.float32)
    mean = tokens.mean(0)
    return Encoded(mean / max(float(np.linalg.norm(mean)), 1e-12), tokens)


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
