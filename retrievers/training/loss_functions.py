"""The losses, as functions of a batch's scores; ``LOSSES`` is the switch.

A loss knows neither encoders nor texts: it gets what every query of a batch scores on every passage
of the batch, and what was judged. It is a mean weighted by the rows' weights, so rows of weight 0
do not count and only ratios of weights matter. Between processes, each computes its own queries
over the passages of all, and weights are normalised over all (LRAT's released script lost them
there, arXiv 2604.04949).

A row's own negative ``d`` counts as far as it is surely one, ``a_d``, as CET weighs what was not
labelled (arXiv 2209.05072): ``a_d·e^{s/τ}`` stands for ``e^{s/τ}``, and ``a_d`` weighs a pair with
it. With ``a_d = 0`` it is not there; for other rows of the batch it is a passage like any other.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, softmax, softplus

from .hyper import Loss

_TEACHER_TEMPERATURE = 0.3
_CONTRAST = 0.1
_CONTRAST_TEMPERATURE = 0.01
_MASK = 0.6
_LEVELS = 3.0
"""SyCL's best level; a grade is a level over it."""
_IN_BATCH = 0.75


class Scored(NamedTuple):
    """A batch of rows: one query each, with ``width`` passages of its own, positives first."""

    scores: Tensor
    """Shape ``(rows, passages)``, of every query on every passage of the batch, in [-1, 1]."""
    own: Tensor
    """Shape ``(rows, width)``, where a row's own passages are among ``passages``."""
    positives: Tensor
    """Shape ``(rows,)``, how many of a row's own passages are positive; at least 1."""
    grades: Tensor
    """Shape ``(rows, width)``, how good each own passage is judged, in [0, 1]."""
    against: Tensor
    """Shape ``(rows, width)``, how surely each own passage is a negative; 1 for positives."""
    weights: Tensor
    """Shape ``(rows,)``, not negative."""
    teacher: Tensor | None = None
    """As ``scores``, by another model."""

    @property
    def own_scores(self) -> Tensor:
        """Scores of a row's own passages, shape ``(rows, width)``."""
        return self.scores.gather(1, self.own)

    @property
    def is_positive(self) -> Tensor:
        """Which own passages are positives, shape ``(rows, width)``."""
        width = torch.arange(self.own.shape[1], device=self.own.device)
        return width < self.positives[:, None]

    @property
    def every_against(self) -> Tensor:
        """As ``against`` for all passages; those of other rows count in full."""
        return torch.ones_like(self.scores).scatter(1, self.own, self.against.to(self.scores))

    def logits(self, temperature: float) -> Tensor:
        """``s/τ + log a``, of which a softmax is taken, shape ``(rows, passages)``."""
        return self.scores / temperature + self.every_against.log()


def infonce(batch: Scored, temperature: float) -> Tensor:
    """Weighted InfoNCE with in-batch negatives (LRAT, arXiv 2604.04949, section 3.4).

    ``L = Σ w_i ℓ_i / Σ w_i``, ``ℓ_i = −log e^{s(q_i, d_i⁺)/τ} / Σ_d e^{s(q_i, d)/τ}`` with ``d``
    over all passages of the batch. Reads the first positive only.
    """
    losses = cross_entropy(batch.logits(temperature), batch.own[:, 0], reduction="none")
    return weighted_mean(losses, batch.weights)


def disj(batch: Scored, temperature: float) -> Tensor:
    """Disj-InfoNCE (utility-focused annotation, arXiv 2504.05220): any of the positives suffices.

    ``ℓ_i = −log Σ_{d ∈ D_i⁺} e^{s(q_i, d)/τ} / Σ_d e^{s(q_i, d)/τ}``, over the batch as above.
    """
    positive = (batch.own_scores / temperature).masked_fill(~batch.is_positive, -torch.inf)
    losses = batch.logits(temperature).logsumexp(1) - positive.logsumexp(1)
    return weighted_mean(losses, batch.weights)


def listwise(batch: Scored, temperature: float) -> Tensor:
    """Listwise distillation (arXiv 2502.19712) of the grades of a row's own passages.

    ``ℓ_i = KL(softmax(t_i/0.3) ‖ softmax(s_i/τ)) + 0.1·InfoNCE(τ = 0.01)``, the latter over the
    batch without own passages whose grade exceeds 0.6 times the best.
    """
    surely = batch.against.log()
    teacher = log_softmax(batch.grades / _TEACHER_TEMPERATURE + surely, 1)
    student = log_softmax(batch.own_scores / temperature + surely, 1)
    gaps = (teacher - student).masked_fill(batch.against == 0, 0.0)  # infinities of both
    divergence = (teacher.exp() * gaps).sum(1)
    close = batch.grades > _MASK * batch.grades.amax(1, keepdim=True)
    close[:, 0] = False
    masked = torch.zeros_like(batch.scores, dtype=torch.bool).scatter(1, batch.own, close)
    scores = batch.logits(_CONTRAST_TEMPERATURE).masked_fill(masked, -torch.inf)
    contrast = cross_entropy(scores, batch.own[:, 0], reduction="none")
    return weighted_mean(divergence + _CONTRAST * contrast, batch.weights)


def mw(batch: Scored, temperature: float) -> Tensor:
    """Mann-Whitney loss (arXiv 2510.00137): bounds 1 − AUC over pairs *across* queries.

    ``L = Σ w_i w_j a_j softplus(−(s_i⁺ − s_j⁻)/τ) / Σ w_i w_j a_j`` over all positive scores
    ``s_i⁺`` and negative scores ``s_j⁻`` of the batch, so that scores of different queries are
    comparable. Between processes, pairs are of queries of the same one.
    """
    positive = torch.zeros_like(batch.scores, dtype=torch.bool)
    positive = positive.scatter(1, batch.own, batch.is_positive)
    weights = batch.weights[:, None] * batch.every_against
    gaps = batch.scores[positive][:, None] - batch.scores[~positive]
    pairs = weights[positive][:, None] * weights[~positive]
    return (softplus(-gaps / temperature) * pairs).sum() / pairs.sum().clamp_min(1e-12)


def wasserstein(batch: Scored, temperature: float) -> Tensor:
    """Gaussian 2-Wasserstein distance to the graded lists (SyCL, arXiv 2503.23239).

    ``L = ‖μ_X − μ_Y‖² + Tr(Σ_X + Σ_Y − 2(Σ_X Σ_Y)^½)`` with rows ``X_i = softmax(s_i/τ)`` and
    ``Y_i = softmax(3 t_i)`` over own passages. With ``Σ_X = AᵀA`` and ``Σ_Y = BᵀB``, the last trace
    is the nuclear norm of ``ABᵀ``, whose gradient exists where covariances are singular. Between
    processes, each compares its own rows.
    """
    share = batch.weights.double() / batch.weights.double().sum().clamp_min(1e-12)
    surely = batch.against.double().log()
    found = softmax(batch.own_scores.double() / temperature + surely, 1)
    wanted = softmax(batch.grades.double() * _LEVELS + surely, 1)
    means = [share @ rows for rows in (found, wanted)]
    a, b = (
        share.sqrt()[:, None] * (rows - mean)
        for rows, mean in zip((found, wanted), means, strict=True)
    )
    cross = torch.linalg.matrix_norm(a @ b.T, "nuc")
    distance = (means[0] - means[1]).square().sum() + a.square().sum() + b.square().sum()
    return (distance - 2 * cross).float()


def margin_mse(batch: Scored, temperature: float) -> Tensor:
    """Margin-MSE with in-batch negatives (TAS-Balanced, arXiv 2104.06967, section 3).

    ``ℓ_i = Σ_d a_d ((s_i⁺ − s_id) − m_id)² / Σ_d a_d`` over own negatives, plus 0.75 of the same
    over the other rows' passages. ``m_id = t_i⁺ − t_id`` is the margin of the teacher, the old
    model's MaxSim; where it contradicts a judgement, ``t_i⁺ < t_id``, a margin of 0 is asked for,
    and ``1 − g_d/g_i⁺`` of it from a negative that has a grade. Has no temperature.
    """
    if batch.teacher is None:
        raise TypeError("margin_mse needs a teacher's scores")
    first = batch.own[:, :1]
    gaps = batch.scores.gather(1, first) - batch.scores
    wanted = (batch.teacher.gather(1, first) - batch.teacher).clamp_min(0)
    share = 1 - batch.grades / batch.grades[:, :1].clamp_min(1e-12)
    wanted = wanted * torch.ones_like(wanted).scatter(1, batch.own, share.to(wanted).clamp_min(0))
    errors = (gaps - wanted).square()
    others = torch.ones_like(errors).scatter(1, batch.own, 0.0)
    in_batch = (errors * others).sum(1) / others.sum(1).clamp_min(1)
    surely = batch.against[:, 1:]
    hard = (errors.gather(1, batch.own[:, 1:]) * surely).sum(1) / surely.sum(1).clamp_min(1e-12)
    losses = hard + _IN_BATCH * in_batch
    return weighted_mean(losses, batch.weights)


LOSSES: dict[Loss, Callable[[Scored, float], Tensor]] = {
    "infonce": infonce,
    "disj": disj,
    "listwise": listwise,
    "mw": mw,
    "wasserstein": wasserstein,
    "margin_mse": margin_mse,
}


def weighted_mean(losses: Tensor, weights: Tensor) -> Tensor:
    """Return ``Σ w_i ℓ_i / Σ w_i`` over the rows of all processes.

    Each process returns its share times their number, as gradients are averaged over them.
    """
    weights = weights.to(losses)
    total, processes = weights.sum(), 1
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        total, processes = total.clone(), torch.distributed.get_world_size()
        torch.distributed.all_reduce(total)
    return (losses * weights).sum() * processes / total.clamp_min(1e-12)
