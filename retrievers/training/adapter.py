"""Train a linear map of query vectors against frozen passages: seconds, and no encoder changes.

The map starts as the identity, so that training can only move away from what serves as far as the
examples ask for.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ..encoder import Encoder
from ..progress import Progress
from ..query_side import QueryAdapter, QuerySide
from .batches import no_duplicates, sampling
from .curve import points, save_curve
from .frozen import Stored, frozen_passages
from .hyper import Hyperparameters
from .loss import Labels, needs_tokens, objective
from .rows import Row, columns
from .scoring import Frozen, Texts


class LinearMap(nn.Module):
    """``q ↦ qW / ‖qW‖`` for dense and token vectors, beginning as the identity."""

    def __init__(self, dim: int, token_dim: int) -> None:
        """Begin with identities."""
        super().__init__()
        self.dense = nn.Parameter(torch.eye(dim))
        self.tokens = nn.Parameter(torch.eye(token_dim))

    def forward(self, queries: Texts) -> Texts:
        """Map queries."""
        tokens = queries.tokens
        if tokens.shape[1]:
            tokens = normalize(tokens @ self.tokens, dim=-1)
        return Texts(normalize(queries.dense @ self.dense, dim=-1), tokens, queries.mask)


def train_adapter(
    base: Encoder,
    rows: Sequence[Row],
    known: dict[str, str],
    target: Path,
    hyper: Hyperparameters,
    progress: Progress,
    stored: Stored | None = None,
) -> None:
    """Train the map and save it as a query side.

    Args:
        base: Encodes queries, and encoded the passages.
        rows: What to learn.
        known: Texts of the rows' passages.
        target: Folder to save to.
        hyper: How to train.
        progress: Is told about training steps.
        stored: The passages' vectors, where an index has them.
    """
    torch.manual_seed(hyper.seed)
    late = needs_tokens(hyper)
    passages = frozen_passages(base, rows, known, stored, late=late)
    encoded = [base.query(row.query) for row in rows]
    queries = Frozen(encoded, late=late)
    told = columns(rows, known)
    labels = torch.tensor([row["label"] for row in told])
    sampler = no_duplicates(len(rows), hyper.batch_size, told, hyper.seed)
    if hyper.loss == "margin_mse":
        sampler = sampling(base, rows, known, hyper.batch_size)(
            told, batch_size=hyper.batch_size, drop_last=False, seed=hyper.seed
        )
    model = LinearMap(base.dim, encoded[0].tokens.shape[1])
    optimiser = torch.optim.AdamW(model.parameters(), lr=hyper.pace, weight_decay=0.0)
    steps = hyper.epochs * len(sampler)
    losses: list[float] = []
    for epoch in range(hyper.epochs):
        sampler.set_epoch(epoch)
        for at, batch in enumerate(sampler):
            before = queries.texts(torch.tensor(batch))
            loss = _loss(hyper, model, before, passages, labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
            progress("training", min(epoch * len(sampler) + at + 1, steps), steps)
    save_curve(target, points(losses, hyper.pace))
    dense, tokens = (
        part.detach().lerp(torch.eye(len(part)), hyper.average).numpy()
        for part in (model.dense, model.tokens)
    )
    QueryAdapter(dense, tokens).save(target)
    QuerySide(kind="adapter", passages=base.fingerprint).save(target)


def _loss(
    hyper: Hyperparameters, model: LinearMap, before: Texts, passages: Frozen, labels: Tensor
) -> Tensor:
    judged = Labels.of(labels)
    frozen = passages.texts(judged.passages.T.flatten())
    old = (passages.project(before), frozen)
    return objective(hyper, passages.project(model(before)), frozen, judged, old)
