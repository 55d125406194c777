"""Every loss is the equation it names, by a slow reference, and has the invariances it should."""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from retrail.retrievers.training.hyper import Loss
from retrail.retrievers.training.loss_functions import LOSSES, Scored, margin_mse
from torch import Tensor

TAU = 0.05
NAMES = sorted(LOSSES)
PAIRS: set[Loss] = {"infonce", "margin_mse"}


def batch(name: str, rows: int, width: int, seed: int, temperature: float = TAU) -> Scored:
    """Random scores on ``rows * width`` passages, one to ``width - 1`` positives a row."""
    generator = torch.Generator().manual_seed(seed)
    scores = 2 * torch.rand(rows, rows * width, generator=generator) - 1
    own = torch.arange(rows * width).view(width, rows).T
    positives = torch.ones(rows, dtype=torch.long)
    if name not in PAIRS:
        positives = torch.randint(1, width, (rows,), generator=generator)
    grades = torch.rand(rows, width, generator=generator) * 0.9 + 0.1
    grades = grades.sort(1, descending=True).values
    negative = torch.arange(width) >= positives[:, None]
    grades[negative] = torch.randint(0, 2, (rows, width), generator=generator)[negative] * 0.05
    against = torch.randint(0, 4, (rows, width), generator=generator) / 3
    against[~negative] = 1
    weights = torch.rand(rows, generator=generator) + 0.1
    teacher = 2 * torch.rand(rows, rows * width, generator=generator) - 1
    return Scored(scores, own, positives, grades, against, weights, teacher)


def log_sum(values: list[float]) -> float:
    top = max(values)
    return top + math.log(sum(math.exp(value - top) for value in values))


def softmax(values: list[float]) -> list[float]:
    return [math.exp(value - log_sum(values)) for value in values]


def mean(losses: list[float], weights: list[float]) -> float:
    return sum(w * x for w, x in zip(weights, losses, strict=True)) / sum(weights)


def surely(b: Scored) -> list[dict[int, float]]:
    """How much each passage counts for each row, where it is not in full."""
    pairs = zip(b.own.tolist(), b.against.tolist(), strict=True)
    return [dict(zip(own, against, strict=True)) for own, against in pairs]


def weighted_log_sum(row: list[float], counts: dict[int, float]) -> float:
    """The logarithm of ``Σ a e^s``, in which what counts nothing is left out."""
    found = [s + math.log(a) for d, s in enumerate(row) if (a := counts.get(d, 1))]
    return log_sum(found)


def slow_infonce(b: Scored, tau: float) -> float:
    rows = [[s / tau for s in row] for row in b.scores.tolist()]
    losses = [
        weighted_log_sum(row, counts) - row[own[0]]
        for row, own, counts in zip(rows, b.own.tolist(), surely(b), strict=True)
    ]
    return mean(losses, b.weights.tolist())


def slow_disj(b: Scored, tau: float) -> float:
    losses = []
    told = zip(b.scores.tolist(), b.own.tolist(), b.positives.tolist(), surely(b), strict=True)
    for row, own, n, counts in told:
        good = [row[i] / tau for i in own[:n]]
        losses.append(weighted_log_sum([s / tau for s in row], counts) - log_sum(good))
    return mean(losses, b.weights.tolist())


def slow_listwise(b: Scored, tau: float) -> float:
    losses = []
    told = zip(b.scores.tolist(), b.own.tolist(), b.grades.tolist(), surely(b), strict=True)
    for row, own, grades, counts in told:
        there = [(i, g, math.log(counts[i])) for i, g in zip(own, grades, strict=True) if counts[i]]
        teacher = softmax([grade / 0.3 + count for _, grade, count in there])
        student = softmax([row[i] / tau + count for i, _, count in there])
        kl = sum(t * math.log(t / s) for t, s in zip(teacher, student, strict=True))
        masked = {i for i, g in zip(own[1:], grades[1:], strict=True) if g > 0.6 * max(grades)}
        rest = weighted_log_sum([s / 0.01 for s in row], counts | dict.fromkeys(masked, 0.0))
        losses.append(kl + 0.1 * (rest - row[own[0]] / 0.01))
    return mean(losses, b.weights.tolist())


def slow_mw(b: Scored, tau: float) -> float:
    good, bad = [], []
    for i, (row, own, n, counts) in enumerate(
        zip(b.scores.tolist(), b.own.tolist(), b.positives.tolist(), surely(b), strict=True)
    ):
        for d, score in enumerate(row):
            found = (score, b.weights[i].item() * counts.get(d, 1))
            (good if d in own[:n] else bad).append(found)
    losses = [math.log1p(math.exp(-(s - t) / tau)) for (s, _), (t, _) in product(good, bad)]
    pairs = [v * w for (_, v), (_, w) in product(good, bad)]
    return mean(losses, pairs) if sum(pairs) else 0.0


def root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return vectors @ np.diag(np.sqrt(values.clip(0))) @ vectors.T


def slow_wasserstein(b: Scored, tau: float) -> float:
    counts = [[math.log(a) if a else -math.inf for a in row] for row in b.against.tolist()]

    def shares(factor: float, rows: list[list[float]]) -> np.ndarray:
        pairs = [zip(row, count, strict=True) for row, count in zip(rows, counts, strict=True)]
        return np.array([softmax([factor * x + c for x, c in pair]) for pair in pairs])

    found, wanted = shares(1 / tau, b.own_scores.tolist()), shares(3, b.grades.tolist())
    share = b.weights.double().numpy() / b.weights.double().numpy().sum()
    means = [share @ found, share @ wanted]
    x, y = (
        (rows - m).T @ np.diag(share) @ (rows - m)
        for rows, m in zip((found, wanted), means, strict=True)
    )
    cross = root(root(x) @ y @ root(x))
    return float(((means[0] - means[1]) ** 2).sum() + np.trace(x + y - 2 * cross))


def slow_margin_mse(b: Scored, tau: float) -> float:
    assert b.teacher is not None
    losses = []
    rows = zip(b.scores.tolist(), b.teacher.tolist(), b.own.tolist(), surely(b), strict=True)
    for (row, told, own, counts), judged in zip(rows, b.grades.tolist(), strict=True):
        first, grades = own[0], dict(zip(own, judged, strict=True))
        errors = [
            (row[first] - s - max(told[first] - t, 0) * (1 - grades.get(i, 0) / grades[first])) ** 2
            for i, (s, t) in enumerate(zip(row, told, strict=True))
        ]
        hard = [(errors[i], counts[i]) for i in own[1:]]
        others = [error for i, error in enumerate(errors) if i not in own]
        own_loss = mean(*map(list, zip(*hard, strict=True))) if sum(a for _, a in hard) else 0
        losses.append(own_loss + 0.75 * (np.mean(others) if others else 0))
    return mean(losses, b.weights.tolist())


SLOW: dict[str, Callable[[Scored, float], float]] = {
    "infonce": slow_infonce,
    "disj": slow_disj,
    "listwise": slow_listwise,
    "mw": slow_mw,
    "wasserstein": slow_wasserstein,
    "margin_mse": slow_margin_mse,
}

shapes = {
    "rows": st.integers(1, 5),
    "width": st.integers(2, 4),
    "seed": st.integers(0, 1000),
}


@pytest.mark.parametrize("name", NAMES)
@given(**shapes, temperature=st.sampled_from([0.05, 0.2, 1.0]))
def test_it_equals_the_equation(name, rows, width, seed, temperature):
    drawn = batch(name, rows, width, seed)
    value = LOSSES[name](drawn, temperature).item()
    assert value == pytest.approx(SLOW[name](drawn, temperature), rel=1e-4, abs=1e-5)
    assert value > -1e-6


@pytest.mark.parametrize("name", NAMES)
@given(**shapes)
def test_the_order_of_rows_does_not_matter(name, rows, width, seed):
    drawn = batch(name, rows, width, seed)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    moved = Scored(*(None if part is None else part[order] for part in drawn))
    torch.testing.assert_close(LOSSES[name](moved, TAU), LOSSES[name](drawn, TAU))


@pytest.mark.parametrize("name", NAMES)
@given(**shapes)
def test_the_order_of_passages_does_not_matter(name, rows, width, seed):
    drawn = batch(name, rows, width, seed)
    order = torch.randperm(rows * width, generator=torch.Generator().manual_seed(seed))
    assert drawn.teacher is not None
    moved = drawn._replace(
        scores=drawn.scores[:, order],
        teacher=drawn.teacher[:, order],
        own=order.argsort()[drawn.own],
    )
    torch.testing.assert_close(LOSSES[name](moved, TAU), LOSSES[name](drawn, TAU))


@pytest.mark.parametrize("name", NAMES)
@given(**shapes)
def test_only_ratios_of_weights_count(name, rows, width, seed):
    drawn = batch(name, rows, width, seed)
    heavier = drawn._replace(weights=7 * drawn.weights)
    torch.testing.assert_close(LOSSES[name](heavier, TAU), LOSSES[name](drawn, TAU))


@pytest.mark.parametrize("name", NAMES)
@given(**shapes)
def test_a_row_of_weight_zero_does_not_count(name, rows, width, seed):
    drawn = batch(name, rows + 1, width, seed)
    drawn.weights[-1] = 0
    scores = drawn.scores.clone().requires_grad_()
    loss = LOSSES[name](drawn._replace(scores=scores), TAU)
    (gradient,) = torch.autograd.grad(loss, scores)
    assert gradient[-1].abs().max() == 0
    other = drawn.scores.clone()
    other[-1] = -other[-1]
    torch.testing.assert_close(LOSSES[name](drawn._replace(scores=other), TAU), loss)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_weight_zero_teaches_nothing(name):
    drawn = batch(name, 3, 3, 0)._replace(weights=torch.zeros(3))
    scores = drawn.scores.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(LOSSES[name](drawn._replace(scores=scores), TAU), scores)
    assert gradient.abs().max() == 0


@pytest.mark.parametrize("name", ["infonce", "disj", "listwise", "margin_mse"])
@given(seed=st.integers(0, 1000))
def test_a_heavier_row_pulls_harder(name, seed):
    """Row gradients are in the ratio of the weights, where a loss does not mix rows."""
    drawn = batch(name, 3, 3, seed)
    gradients = []
    for weights in ([1.0, 1.0, 1.0], [3.0, 1.0, 1.0]):
        scores = drawn.scores.clone().requires_grad_()
        given_weights = drawn._replace(scores=scores, weights=torch.tensor(weights))
        gradients.append(torch.autograd.grad(LOSSES[name](given_weights, TAU), scores)[0])
    torch.testing.assert_close(gradients[1][0], gradients[0][0] * (3 / 5) * 3)
    torch.testing.assert_close(gradients[1][1:], gradients[0][1:] * (1 / 5) * 3)


@pytest.mark.parametrize("name", ["infonce", "disj", "mw"])
@given(**shapes)
def test_gradients_raise_positives_and_lower_the_rest(name, rows, width, seed):
    drawn = batch(name, rows, width, seed)
    scores = drawn.scores.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(LOSSES[name](drawn._replace(scores=scores), 1.0), scores)
    own = gradient.gather(1, drawn.own)
    positive = torch.zeros_like(gradient, dtype=torch.bool)
    positive = positive.scatter(1, drawn.own, drawn.is_positive)
    counted = drawn.every_against > 0
    if (counted & ~positive).any():
        assert (own[drawn.is_positive] < 0).all()
    assert (gradient[~positive & counted] > 0).all()
    assert (gradient[~counted] == 0).all()


@pytest.mark.parametrize("name", NAMES)
@given(**shapes)
def test_a_negative_that_counts_nothing_is_not_there(name, rows, width, seed):
    """Its score moves no loss; for the other rows of the batch it is a passage like any other."""
    drawn = batch(name, rows, width, seed)
    drawn.against[0, -1] = 0
    drawn.against[1:, -1] = 1
    scores = drawn.scores.clone().requires_grad_()
    loss = LOSSES[name](drawn._replace(scores=scores), TAU)
    (gradient,) = torch.autograd.grad(loss, scores)
    own = drawn.own[0, -1]
    assert gradient[0, own] == 0
    moved = drawn.scores.clone()
    moved[0, own] = 0.5
    torch.testing.assert_close(LOSSES[name](drawn._replace(scores=moved), TAU), loss)
    if rows > 1 and name in {"infonce", "disj", "mw", "margin_mse"}:
        warm = torch.autograd.grad(LOSSES[name](drawn._replace(scores=scores), 1.0), scores)[0]
        assert (warm[1:, own] != 0).all()


@pytest.mark.parametrize("name", ["infonce", "disj"])
@given(**shapes)
def test_a_surer_negative_is_pushed_harder(name, rows, width, seed):
    drawn = batch(name, rows, width, seed)
    own, pushes = drawn.own[0, -1], []
    for sure in (0.2, 1.0):
        drawn.against[0, -1] = sure
        scores = drawn.scores.clone().requires_grad_()
        loss = LOSSES[name](drawn._replace(scores=scores), 1.0)
        pushes.append(torch.autograd.grad(loss, scores)[0][0, own])
    assert pushes[1] > pushes[0] > 0


@pytest.mark.parametrize("name", ["listwise", "wasserstein", "margin_mse"])
def test_a_graded_negative_is_asked_less_of(name):
    """Of two negatives with equal scores, the one that was rejected is pushed down less."""
    scores = torch.tensor([[0.2, 0.2, 0.2]]).requires_grad_()
    graded = Scored(
        scores,
        torch.arange(3)[None],
        torch.tensor([1]),
        torch.tensor([[1.0, 1 / 3, 0.0]]),
        torch.ones(1, 3),
        torch.ones(1),
        torch.tensor([[0.9, 0.1, 0.1]]),
    )
    good, rejected, passed_over = torch.autograd.grad(LOSSES[name](graded, 1.0), scores)[0][0]
    assert good < rejected < passed_over


def perfect(name: str, drawn: Scored, tau: float) -> Tensor:
    """Scores that rank as judged: by a wide gap, or exactly as the teacher has it."""
    if name == "margin_mse":
        assert drawn.teacher is not None
        first = drawn.teacher.gather(1, drawn.own[:, :1])
        return torch.minimum(drawn.teacher, first)
    if name == "wasserstein":
        return torch.full_like(drawn.scores, -1.0).scatter(1, drawn.own, 3 * tau * drawn.grades)
    scores = torch.full_like(drawn.scores, -1.0)
    if name == "listwise":
        return scores.scatter(1, drawn.own, tau * drawn.grades / 0.3)
    return scores.scatter(1, drawn.own, torch.where(drawn.is_positive, 1.0, -1.0))


@pytest.mark.parametrize("name", NAMES)
@given(**shapes)
def test_a_perfect_ranking_has_nearly_no_loss_and_the_reverse_has_more(name, rows, width, seed):
    drawn = batch(name, rows, width, seed)
    plain = torch.where(drawn.is_positive, drawn.grades, 0.0)
    drawn = drawn._replace(grades=plain, against=torch.ones_like(plain))
    if name == "listwise":  # its contrast asks for gaps at a temperature of its own
        drawn = drawn._replace(grades=torch.where(drawn.is_positive, 1.0, 0.0))
    right = perfect(name, drawn, TAU)
    loss = LOSSES[name](drawn._replace(scores=right), TAU).item()
    assert loss == pytest.approx(0, abs=1e-4)
    own = right.gather(1, drawn.own).flip(1)
    wrong = right.scatter(1, drawn.own, own)
    if not torch.equal(wrong, right):
        assert LOSSES[name](drawn._replace(scores=wrong), TAU).item() > loss


@pytest.mark.parametrize("name", NAMES)
def test_steps_down_the_gradient_reach_the_ranking(name):
    drawn = batch(name, 4, 3, 5)
    scores = drawn.scores.clone().requires_grad_()
    optimiser = torch.optim.Adam([scores], lr=0.02)
    first = LOSSES[name](drawn._replace(scores=scores), 0.2).item()
    for _ in range(300):
        optimiser.zero_grad()
        loss = LOSSES[name](drawn._replace(scores=scores), 0.2)
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.2 * first


def test_margin_mse_without_a_teacher_is_refused():
    with pytest.raises(TypeError, match="teacher"):
        margin_mse(batch("margin_mse", 2, 3, 0)._replace(teacher=None), TAU)
