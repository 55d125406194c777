"""One encoder, one forward pass: a dense vector and the token vectors of every text.

Wraps any sentence-transformers bi-encoder or multi-vector (ColBERT-like) checkpoint by name or
path. For a bi-encoder the token vectors are its last hidden states, normalised; for a multi-vector
model the dense vector is the normalised mean of its token vectors. All vectors have unit length,
so that inner products are cosines.
"""

import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import ConfigError
from .checkpoint import load_model
from .encoded import Encoded, Kind, Vectors
from .multi_vector import limit_document, positions_of, scored_spans
from .reading import Reading, shortened
from .token_spans import TokenSpan, spans_of
from .tokenizers import identity_of
from .whole_texts import WholeTexts
from .windows import Token

if TYPE_CHECKING:
    from sentence_transformers import MultiVectorEncoder, SentenceTransformer

_LONGEST_FIRST = 64
"""Batches whose texts are sorted together by length, so that little of a batch is padding."""


class Encoder(WholeTexts):
    """A loaded model; create it with :meth:`load`."""

    def __init__(
        self,
        model: "SentenceTransformer | MultiVectorEncoder",
        name: str,
        *,
        max_tokens: int = 256,
        precision: str = "auto",
        batch_size: int = 32,
        reading: Reading = Reading(),  # noqa: B008  (immutable)
    ) -> None:
        """Wrap a model that is already in memory.

        Args:
            model: The model; its token limit is lowered to ``max_tokens``, never raised above
                what its positions allow.
            name: How the model is called in manifests and messages.
            max_tokens: Tokens of a text that are read.
            precision: As in the settings; concerns documents only. Here ``int8`` is as ``auto``:
                torch encodes what few texts are left to it, see :mod:`precision`.
            batch_size: Texts a forward pass.
            reading: Prefixes, the dense dimension, and what becomes of long texts.
        """
        self.model = model
        self.name = name
        self.batch_size = batch_size
        self.forward_passes = 0
        self.texts_encoded = 0
        self._reading = reading
        self.precision = precision
        self.automatic: str | None = None
        """What ``auto`` was measured to be best; bfloat16 where it is native if None."""
        self._lock = threading.Lock()
        self.multi_vector = type(model).__name__ == "MultiVectorEncoder"
        model.max_seq_length = min(max_tokens, positions_of(model) or max_tokens)
        limit_document(model, max_tokens)
        model.prompts = reading.prompts(model.prompts or {}, marked=self.multi_vector)
        backend = getattr(model.tokenizer, "backend_tokenizer", None)
        if backend is not None:
            # Some packages ship a tokenizer that pads every text to a fixed length.
            backend.no_padding()
            backend.no_truncation()
        model.eval()

    @classmethod
    def load(
        cls,
        name: str,
        *,
        max_tokens: int = 256,
        precision: str = "auto",
        reading: Reading = Reading(),  # noqa: B008  (immutable)
    ) -> "Encoder":
        """Load a model by name or path.

        Raises:
            ConfigError: Nothing loadable is there, or what is there gives no vectors to search by.
            BackendUnavailable: The embedded weights are not installed.
        """
        model = load_model(name)
        encoder = cls(model, name, max_tokens=max_tokens, precision=precision, reading=reading)
        encoder._probe()
        return encoder

    @cached_property
    def fingerprint(self) -> str:
        """Hash of weights, modules, prompts and token limit: equal prints give equal vectors."""
        digest = hashlib.blake2b(digest_size=8)
        for module in self.model:
            settings = getattr(module, "get_config_dict", dict)()
            digest.update(f"{type(module).__name__} {sorted(settings.items())}".encode())
        digest.update(repr(sorted((self.model.prompts or {}).items())).encode())
        for key, tensor in sorted(self.model.state_dict().items()):
            digest.update(key.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().float().numpy().tobytes())
        digest.update(str(self.model.max_seq_length).encode())
        if self.reading.dense_dim is not None:
            digest.update(f"dense_dim {self.reading.dense_dim}".encode())
        if self.reading.long_texts != "cut":
            digest.update(f"long_texts {self.reading.long_texts}".encode())
        if self.reading.encoder_tokenizer:
            tokenizer = identity_of(self.reading.encoder_tokenizer)
            digest.update(f"encoder_tokenizer {tokenizer}".encode())
        return digest.hexdigest()

    @property
    def reading(self) -> Reading:
        """How texts are read."""
        return self._reading

    @property
    def id(self) -> str:
        """Short identity for manifests and trajectories: ``name@fingerprint``."""
        return f"{Path(self.name).name}@{self.fingerprint[:8]}"

    @cached_property
    def dim(self) -> int:
        """Length of a dense vector."""
        return int(self.query("dimension").dense.shape[0])

    def sharing(self, precision: str) -> "Encoder":
        """Return an encoder of the same model in memory, with another arithmetic."""
        other = copy(self)
        other.precision = precision
        return other

    def query(self, text: str) -> Encoded:
        """Encode one query in full precision."""
        return next(iter(self._batch([self.as_read(text)], "query")))

    def _parts(self, texts: Sequence[str], *, exact: bool) -> Iterator[tuple[int, Encoded]]:
        window = self.batch_size * _LONGEST_FIRST
        for start in range(0, len(texts), window):
            order = sorted(
                range(start, min(start + window, len(texts))), key=lambda i: -len(texts[i])
            )
            for at in range(0, len(order), self.batch_size):
                positions = order[at : at + self.batch_size]
                batch = [texts[i] for i in positions]
                yield from zip(positions, self._batch(batch, "document", exact=exact), strict=True)

    def _part_spans(self, text: str, kind: Kind) -> list[TokenSpan]:
        with self._lock:  # truncation is a state of the tokenizer
            spans = self._multi_spans(text, kind) if self.multi_vector else self._spans(text, kind)
        if spans is None:
            raise self._no_places()
        return spans

    def _no_places(self) -> ConfigError:
        return ConfigError(
            f"encoder {self.name!r} cannot tell which words its token vectors stand for",
            fix="set an encoder with a fast tokenizer and a vector for each token",
        )

    def _tokens(self, text: str) -> list[Token]:
        tokenizer: Any = self.model.tokenizer
        fast = bool(getattr(tokenizer, "is_fast", False))
        if not fast and self.reading.long_texts != "cut":
            raise self._no_places()
        with self._lock:
            read = tokenizer(
                text, add_special_tokens=False, return_offsets_mapping=fast, verbose=False
            )
        if not fast:
            return [Token(0, 0, None)] * len(read["input_ids"])
        places = zip(read["offset_mapping"], read.word_ids(0), strict=True)
        return [Token(start, end, word) for (start, end), word in places]

    def _room(self) -> int:
        own = getattr(self.model[0], "document_length", None) if self.multi_vector else None
        with self._lock:
            added = self.model.tokenizer((self.model.prompts or {}).get("document") or "")
        return int(own or self.model.max_seq_length or 0) - len(added["input_ids"])

    def _spans(self, text: str, kind: Kind) -> list[TokenSpan] | None:
        tokenizer: Any = self.model.tokenizer
        if not getattr(tokenizer, "is_fast", False):
            return None
        prompt = (self.model.prompts or {}).get(kind) or ""
        read = tokenizer(
            prompt + text,
            truncation="longest_first",
            max_length=self.model.max_seq_length,
            return_offsets_mapping=True,
        )
        return spans_of(read["offset_mapping"], read.word_ids(0), prompt, text)

    def _multi_spans(self, text: str, kind: Kind) -> list[TokenSpan] | None:
        model: Any = self.model
        return scored_spans(model, text, kind)

    def _probe(self) -> None:
        """Encode a text, to refuse at once what would rank wrongly.

        Raises:
            ConfigError: The model gives no dense or token vectors, or they are not finite; or it
                scores by lengths of token vectors, which all are 1 here.
        """
        try:
            self.query("probe")
            lengths = self._token_lengths("probe")
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise ConfigError(
                f"encoder {self.name!r} gives no dense and token vectors of a text",
                fix="set a sentence-transformers bi-encoder with a pooling, or a ColBERT model",
            ) from error
        if not np.allclose(lengths, 1, atol=1e-2):
            raise ConfigError(
                f"encoder {self.name!r} was trained for token vectors of unequal length",
                fix="set a multi-vector model that ends in a normalisation",
            )

    def _token_lengths(self, text: str) -> Vectors:
        if not self.multi_vector:
            return np.ones(1, np.float32)
        model: Any = self.model
        return model.encode_query(text, show_progress_bar=False).float().norm(dim=-1).cpu().numpy()

    def _batch(self, texts: list[str], kind: Kind, *, exact: bool = False) -> list[Encoded]:
        import torch

        exact = exact or kind == "query"
        with self._lock, torch.inference_mode(), self._arithmetic(exact=exact):
            self.forward_passes += 1
            self.texts_encoded += len(texts)
            encode = self._multi_vector if self.multi_vector else self._bi_encoder
            return [self._checked(encoded) for encoded in encode(texts, kind)]

    def _checked(self, encoded: Encoded) -> Encoded:
        """Return vectors to keep, if they are numbers; sums of unit vectors are finite."""
        if not np.isfinite(encoded.tokens.sum() + encoded.dense.sum()):
            raise ConfigError(
                f"encoder {self.name!r} gives vectors that are not finite numbers",
                fix="restore its weights, or set precision = 'float32' if they overflow",
            )
        return Encoded(shortened(encoded.dense, self.reading.dense_dim), encoded.tokens)

    def _bi_encoder(self, texts: list[str], kind: Kind) -> list[Encoded]:
        import torch

        prompt = (self.model.prompts or {}).get(kind) or ""
        features = self.model.preprocess([prompt + text for text in texts])
        features = {
            key: value.to(self.model.device) if isinstance(value, torch.Tensor) else value
            for key, value in features.items()
        }
        output = self.model.forward(features)
        mask = features["attention_mask"].bool()
        tokens = _unit(output["token_embeddings"])
        dense = _unit(output["sentence_embedding"]).numpy()
        return [Encoded(dense[i], tokens[i][mask[i].cpu()].numpy()) for i in range(len(texts))]

    def _multi_vector(self, texts: list[str], kind: Kind) -> list[Encoded]:
        encode: Any = getattr(self.model, f"encode_{kind}")
        matrices = encode(texts, batch_size=len(texts), show_progress_bar=False)
        encoded: list[Encoded] = []
        for matrix in matrices:
            tokens = _unit(matrix if len(matrix) else matrix.new_zeros((1, matrix.shape[-1])))
            encoded.append(Encoded(_unit(tokens.mean(0)).numpy(), tokens.numpy()))
        return encoded

    def _arithmetic(self, *, exact: bool) -> Any:
        import torch

        device = self.model.device.type
        chosen = self.automatic if self.precision in ("auto", "int8") else self.precision
        half = has_bfloat16(device) if chosen is None else chosen == "bfloat16"
        wanted = half and not exact
        return torch.autocast(device, dtype=torch.bfloat16) if wanted else nullcontext()


def _unit(tensor: Any) -> Any:
    """Normalise along the last axis, as float32 on the CPU."""
    from torch.nn.functional import normalize

    return normalize(tensor.float(), dim=-1).cpu()


def has_bfloat16(device: str) -> bool:
    """Say whether bfloat16 products are native here; emulated ones would be slower."""
    import torch

    if device == "cuda":
        return torch.cuda.is_bf16_supported()
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
