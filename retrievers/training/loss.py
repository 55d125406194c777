"""Weighted InfoNCE over in-batch and hard negatives.

``L = Σ w_i ℓ_i / Σ w_i`` with ``ℓ_i = −log softmax(s(q_i, d)/τ)[d_i⁺]`` over every positive and
negative of the batch (LRAT, arXiv 2604.04949, section 3.4; in its released script the weights did
not reach the in-batch loss, here they do).
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize


class WeightedInfoNCE(nn.Module):
    """Loss for sentence-transformers' trainer; the label column holds the weights."""

    def __init__(self, model: Any, temperature: float = 0.05) -> None:
        """Wrap a model.

        Args:
            model: A sentence-transformers bi-encoder.
            temperature: τ; smaller sharpens.
        """
        super().__init__()
        self.model = model
        self.temperature = temperature

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """Return the loss of a batch.

        Args:
            sentence_features: Tokenised columns: query, positive, negatives…
            labels: Weights, shape ``(batch,)``.
        """
        columns = [self.model(features)["sentence_embedding"] for features in sentence_features]
        return weighted_info_nce(columns[0], columns[1:], labels, self.temperature)


def weighted_info_nce(
    queries: Tensor, passages: list[Tensor], weights: Tensor, temperature: float
) -> Tensor:
    """Compute the loss from embeddings.

    Args:
        queries: Shape ``(batch, dim)``.
        passages: Tensors ``(batch, dim)``; the first holds the positives.
        weights: Shape ``(batch,)``, not negative; rows of weight 0 do not count.
        temperature: τ.
    """
    documents = normalize(torch.cat(passages).float(), dim=-1)  # (columns * batch, dim)
    scores = normalize(queries.float(), dim=-1) @ documents.T / temperature
    target = torch.arange(len(queries), device=scores.device)
    losses = cross_entropy(scores, target, reduction="none")
    weights = weights.to(losses)
    return (losses * weights).sum() / weights.sum().clamp_min(1e-12)
