"""Scores of queries on passages in training: cosine and MaxSim over batches of vectors.

Vectors may come from an encoder that is being trained, or be frozen: encoded once, or read from an
index, whose token vectors are projected onto its basis, as queries then must be.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize, pad
from torch.nn.utils.rnn import pad_sequence

from ..encoder import Encoded
from ..similarity_pooling import Pooling
from ..vectors import Basis


class Texts(NamedTuple):
    """Vectors of texts, each of unit length."""

    dense: Tensor
    """Shape ``(texts, dim)``."""
    tokens: Tensor
    """Shape ``(texts, length, token_dim)``, padded."""
    mask: Tensor
    """Shape ``(texts, length)``, true where there is a token."""

    @classmethod
    def of(cls, output: dict[str, Tensor], *, late: bool) -> "Texts":
        """Take the vectors out of what a bi-encoder returns; tokens only for ``late``."""
        dense = normalize(output["sentence_embedding"].float(), dim=-1)
        if not late:
            return cls(dense, dense[:, :0, None], dense[:, :0].bool())
        tokens = normalize(output["token_embeddings"].float(), dim=-1)
        return cls(dense, tokens, output["attention_mask"].bool())

    @classmethod
    def joined(cls, parts: "Sequence[Texts]") -> "Texts":
        """Put texts end to end."""
        longest = max(part.mask.shape[1] for part in parts)
        return cls(
            torch.cat([part.dense for part in parts]),
            torch.cat([pad(p.tokens, (0, 0, 0, longest - p.mask.shape[1])) for p in parts]),
            torch.cat([pad(p.mask, (0, longest - p.mask.shape[1])) for p in parts]),
        )


def cosine(queries: Texts, passages: Texts) -> Tensor:
    """Score every query on every passage by dense vectors, shape ``(queries, passages)``."""
    return queries.dense @ passages.dense.T


def maxsim(queries: Texts, passages: Texts, pooling: Pooling = Pooling()) -> Tensor:  # noqa: B008
    """Score by the *mean* over query tokens of the pooled inner products (ColBERT, eq. 3).

    A query's ranking is that of the sum, which the index uses; the scale is that of a cosine.
    """
    products = torch.einsum("qid,pjd->qpij", queries.tokens, passages.tokens)
    pooled = _pooled(products, passages.mask[:, None], pooling)  # (q, p, i)
    counted = queries.mask[:, None].to(pooled)
    return (pooled * counted).sum(-1) / counted.sum(-1)


def _pooled(products: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Pool over the last dimension as the index does, see ``similarity_pooling``."""
    hidden = products.masked_fill(~mask, -torch.inf)
    if pooling.kind == "max":
        return hidden.amax(-1)
    if pooling.kind == "topk":
        k = min(pooling.k, products.shape[-1])
        best = hidden.topk(k, -1).values
        found = mask.sum(-1).clamp(max=k)
        return best.masked_fill(best.isinf(), 0).sum(-1) / found
    weights = (hidden / pooling.temperature).softmax(-1)
    return (weights * products).sum(-1)


SCORERS: dict[str, tuple[Callable[..., Tensor], ...]] = {
    "dense": (cosine,),
    "late": (maxsim,),
    "both": (cosine, maxsim),
}


class Frozen:
    """Vectors that training does not change, by number."""

    def __init__(
        self, encoded: Sequence[Encoded], *, late: bool, basis: Basis | None = None
    ) -> None:
        """Hold vectors.

        Args:
            encoded: Vectors of the texts.
            late: Whether token vectors will be asked for.
            basis: What the token vectors are already projected onto.
        """
        self._dense = torch.from_numpy(np.stack([item.dense for item in encoded]))
        self._tokens = [item.tokens for item in encoded] if late else None
        self._basis = basis and (torch.from_numpy(basis.mean), torch.from_numpy(basis.axes))

    def texts(self, numbers: Tensor) -> Texts:
        """Return the vectors of texts by their numbers."""
        dense = self._dense[numbers.cpu()].to(numbers.device)
        if self._tokens is None:
            return Texts(dense, dense[:, :0, None], dense[:, :0].bool())
        found = [torch.from_numpy(np.asarray(self._tokens[n], np.float32)) for n in numbers]
        tokens = pad_sequence(found, batch_first=True).to(numbers.device)
        lengths = torch.tensor([len(item) for item in found], device=numbers.device)
        mask = torch.arange(tokens.shape[1], device=numbers.device) < lengths[:, None]
        return Texts(dense, tokens, mask)

    def project(self, queries: Texts) -> Texts:
        """Map queries' vectors to where the frozen ones are."""
        dense = queries.dense[:, : self._dense.shape[1]]  # fewer than the model's, if so set
        queries = queries._replace(dense=normalize(dense, dim=-1))
        if self._basis is None or self._tokens is None:
            return queries
        mean, axes = (part.to(queries.tokens) for part in self._basis)
        return queries._replace(tokens=normalize((queries.tokens - mean) @ axes, dim=-1))
