"""From encoded texts to the loss: in-batch and cross-device passages, staying close to the old.

The same path serves a whole encoder, a query encoder over frozen passages and a linear map: they
differ in where the vectors come from. Scores are computed in full precision whatever the
encoder's.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ..similarity_pooling import Pooling
from .hyper import Hyperparameters
from .loss_functions import LOSSES, Scored
from .scoring import SCORERS, Frozen, Texts, cosine, maxsim


class Labels(NamedTuple):
    """What the label column holds, one row of numbers an example."""

    weights: Tensor
    positives: Tensor
    grades: Tensor
    """Shape ``(rows, width)``."""
    against: Tensor
    """Shape ``(rows, width)``, how surely each passage is a negative."""
    passages: Tensor
    """Shape ``(rows, width)``, the number of each passage among the distinct ones."""

    @classmethod
    def of(cls, labels: Tensor) -> "Labels":
        """Split the columns: weight, positives, then three for each of the passages."""
        grades, against, numbers = labels[:, 2:].chunk(3, 1)
        return cls(labels[:, 0], labels[:, 1].long(), grades, against, numbers.long())

    @staticmethod
    def row(
        weight: float,
        positives: int,
        grades: Sequence[float],
        against: Sequence[float],
        passages: Sequence[int],
    ) -> list[float]:
        """Make what :meth:`of` reads."""
        return [weight, positives, *grades, *against, *passages]


def objective(
    hyper: Hyperparameters,
    queries: Texts,
    passages: Texts,
    labels: Labels,
    before: tuple[Texts, Texts] | None = None,
) -> Tensor:
    """Return the loss of a batch.

    Args:
        hyper: Chooses the loss and what is scored.
        queries: One a row.
        passages: ``rows * width``: the first of every row, then the second of every row…
        labels: What was judged.
        before: The same queries and passages by the old model; needed to stay close to it, or
            to learn from it.
    """
    rows, width = labels.grades.shape
    rank, everything = _gathered(passages)
    at = torch.arange(rows * width, device=labels.weights.device).view(width, rows).T
    own = rank * rows * width + at
    judged = (own, labels.positives, labels.grades, labels.against, labels.weights)
    teacher, pooling = None, hyper.pooling or Pooling()
    if hyper.loss == "margin_mse" and before is not None:
        teacher = maxsim(before[0], _gathered(before[1])[1], pooling)
    total = torch.zeros((), device=labels.weights.device)
    for scorer in SCORERS[hyper.target]:
        pooled = (pooling,) if scorer is maxsim else ()
        scored = Scored(scorer(queries, everything, *pooled), *judged, teacher)
        total = total + LOSSES[hyper.loss](scored, hyper.temperature)
        if hyper.keep and before is not None:
            near = _distance(scorer, queries, before[0]) + _distance(scorer, passages, before[1])
            total = total + hyper.keep * near
    return total


def _distance(scorer: Callable[[Texts, Texts], Tensor], new: Texts, old: Texts) -> Tensor:
    """Return the mean cosine distance of vectors (QDC, arXiv 2506.00037, distillation term)."""
    if scorer is cosine:
        return 1 - (new.dense * old.dense).sum(-1).mean()
    return 1 - (new.tokens * old.tokens).sum(-1)[new.mask].mean()


def _gathered(passages: Texts) -> tuple[int, Texts]:
    """Return this process's rank and the passages of all processes, gradients retained."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return 0, passages
    from sentence_transformers.util.distributed import all_gather_padded, all_gather_with_grad

    dense = all_gather_with_grad(passages.dense)
    if not passages.mask.shape[1]:
        everything = Texts(dense, dense[:, :0, None], dense[:, :0].bool())
    else:
        everything = Texts(
            dense, *all_gather_padded(passages.tokens, passages.mask, with_grad=True)
        )
    for part in (everything.dense, everything.tokens):
        if part.requires_grad:
            # The gather's backward fills buffers of the gradient's strides in plain order.
            part.register_hook(Tensor.contiguous)
    return torch.distributed.get_rank(), everything


class RetrievalLoss(nn.Module):
    """The objective as sentence-transformers' trainer calls it."""

    def __init__(
        self,
        model: Any,
        hyper: Hyperparameters,
        *,
        old: Any = None,
        frozen: Frozen | None = None,
    ) -> None:
        """Wrap a model.

        Args:
            model: A sentence-transformers bi-encoder.
            hyper: See :func:`objective`.
            old: The model before training, if ``hyper`` needs it; never changed.
            frozen: The passages' vectors, where only queries are trained.
        """
        super().__init__()
        self.model = model
        self.hyper = hyper
        self._frozen = frozen
        self._late = needs_tokens(hyper)
        self._old = (old,) if needs_old(hyper) else ()  # a tuple hides it from the trainer

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """Return the loss of a batch.

        Args:
            sentence_features: Tokenised columns: query, positive, negatives…
            labels: As :class:`Labels` lays them out.
        """
        features = list(sentence_features)
        judged = Labels.of(labels)
        queries, passages = self._encode(self.model, features, judged)
        before = None
        if self._old:
            with torch.no_grad():
                before = self._encode(self._old[0], features, judged)
        with torch.autocast(labels.device.type, enabled=False):
            return objective(self.hyper, queries, passages, judged, before)

    def _encode(
        self, model: Any, features: list[dict[str, Tensor]], judged: Labels
    ) -> tuple[Texts, Texts]:
        queries = Texts.of(model(dict(features[0])), late=self._late)
        if self._frozen is not None:
            return self._frozen.project(queries), self._frozen.texts(judged.passages.T.flatten())
        groups, places = by_length(features[1:], len(judged.weights))
        found = Texts.joined([Texts.of(model(group), late=self._late) for group in groups])
        return queries, Texts(*(part[places] for part in found))


def by_length(
    columns: Sequence[dict[str, Tensor]], size: int
) -> tuple[list[dict[str, Tensor]], Tensor]:
    """Group the texts of columns by length, so that little of a forward pass is padding.

    Args:
        columns: Tokenised columns, each padded to its own length.
        size: Texts of a group.

    Returns:
        The groups, and where each text of the columns, put end to end, is among them.
    """
    first = columns[0]
    joined = {
        key: _end_to_end([column[key] for column in columns])
        for key, value in first.items()
        if isinstance(value, Tensor)
    }
    mask = joined["attention_mask"]
    order = mask.sum(1).argsort(descending=True, stable=True)
    groups: list[dict[str, Tensor]] = []
    for rows in order.split(size):
        width = int(mask[rows].any(0).nonzero().max()) + 1
        groups.append(first | {key: value[rows, :width] for key, value in joined.items()})
    return groups, order.argsort()


def _end_to_end(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate texts of columns, padded to the longest along their second axis."""
    longest = max(part.shape[1] for part in parts)
    return torch.cat([pad(p, (*(0, 0) * (p.dim() - 2), 0, longest - p.shape[1])) for p in parts])


def needs_tokens(hyper: Hyperparameters) -> bool:
    """Say whether token vectors are used."""
    return hyper.target != "dense" or hyper.loss == "margin_mse"


def needs_old(hyper: Hyperparameters) -> bool:
    """Say whether the old model's vectors are used."""
    return hyper.keep > 0 or hyper.loss == "margin_mse"
