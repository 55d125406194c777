"""The training loss is the weighted InfoNCE it says it is, and weights reach every row."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from retrail.retrievers.training.loss import WeightedInfoNCE, weighted_info_nce
from torch import Tensor, nn

TAU = 0.05


def by_hand(
    queries: list[list[float]],
    columns: list[list[list[float]]],
    weights: list[float],
    temperature: float,
) -> float:
    """The formula, in plain arithmetic: every document of the batch is in the denominator."""

    def cosine(a: list[float], b: list[float]) -> float:
        norm = math.hypot(*a) * math.hypot(*b)
        return sum(x * y for x, y in zip(a, b, strict=True)) / norm

    total = 0.0
    for i, (query, weight) in enumerate(zip(queries, weights, strict=True)):
        scores = [cosine(query, doc) / temperature for column in columns for doc in column]
        top = max(scores)
        log_sum = top + math.log(sum(math.exp(score - top) for score in scores))
        total += weight * (log_sum - scores[i])
    return total / sum(weights)


def batch(rows: int, negatives: int, dim: int = 6, seed: int = 0) -> tuple[Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    queries = torch.randn(rows, dim, generator=generator)
    return queries, [torch.randn(rows, dim, generator=generator) for _ in range(1 + negatives)]


def test_two_rows_worked_out_on_paper():
    """Each query equals its positive; the other positive is orthogonal, the negatives opposite."""
    queries = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    passages = [torch.tensor([[1.0, 0.0], [0.0, 3.0]]), torch.tensor([[-1.0, 0.0], [0.0, -1.0]])]
    # Row scores at temperature 1: 1 (positive), 0 (other), -1 (own negative), 0 (other negative).
    expected = math.log(math.e + 1 + math.exp(-1) + 1) - 1
    loss = weighted_info_nce(queries, passages, torch.tensor([1.0, 5.0]), 1.0)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


@given(
    rows=st.integers(1, 5),
    negatives=st.integers(0, 3),
    seed=st.integers(0, 1000),
    temperature=st.sampled_from([0.02, 0.05, 1.0]),
    data=st.data(),
)
def test_it_equals_the_formula(rows, negatives, seed, temperature, data):
    weights = data.draw(st.lists(st.floats(0.1, 4), min_size=rows, max_size=rows))
    queries, passages = batch(rows, negatives, seed=seed)
    loss = weighted_info_nce(queries, passages, torch.tensor(weights), temperature)
    expected = by_hand(
        queries.tolist(), [column.tolist() for column in passages], weights, temperature
    )
    assert loss.item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_only_directions_count():
    queries, passages = batch(4, 2)
    weights = torch.ones(4)
    longer = weighted_info_nce(3 * queries, [0.1 * p for p in passages], weights, TAU)
    torch.testing.assert_close(weighted_info_nce(queries, passages, weights, TAU), longer)


def test_nothing_to_compare_with_is_no_loss():
    queries, passages = batch(1, 0)
    assert weighted_info_nce(queries, passages, torch.ones(1), TAU).item() == 0


def test_weights_are_relative():
    queries, passages = batch(4, 2)
    weights = torch.tensor([0.5, 1.0, 2.0, 0.1])
    one = weighted_info_nce(queries, passages, weights, TAU)
    torch.testing.assert_close(weighted_info_nce(queries, passages, 10 * weights, TAU), one)
    equal = weighted_info_nce(queries, passages, torch.ones(4), TAU)
    assert abs(one.item() - equal.item()) > 1e-3


def row_gradient(row: int) -> Tensor:
    """Gradient of one row's own loss with respect to all queries."""
    queries, passages = batch(4, 2)
    queries.requires_grad_()
    weights = torch.zeros(4)
    weights[row] = 1
    (gradient,) = torch.autograd.grad(weighted_info_nce(queries, passages, weights, TAU), queries)
    return gradient


def test_gradients_scale_with_weights():
    queries, passages = batch(4, 2)
    queries.requires_grad_()
    weights = torch.tensor([0.5, 1.0, 2.0, 0.1])
    loss = weighted_info_nce(queries, passages, weights, TAU)
    (gradient,) = torch.autograd.grad(loss, queries)
    for row in range(4):
        share = weights[row] / weights.sum()
        own = row_gradient(row)
        assert own[row].abs().max() > 1e-3
        torch.testing.assert_close(gradient[row], share * own[row])


def test_a_row_of_weight_zero_counts_only_through_its_documents():
    queries, passages = batch(3, 1)
    weights = torch.tensor([1.0, 0.0, 2.0])
    loss = weighted_info_nce(queries, passages, weights, TAU)
    other = queries.clone()
    other[1] = torch.tensor([9.0, -1, 4, 2, 0, 1])
    torch.testing.assert_close(weighted_info_nce(other, passages, weights, TAU), loss)
    queries.requires_grad_()
    (gradient,) = torch.autograd.grad(weighted_info_nce(queries, passages, weights, TAU), queries)
    assert gradient[1].abs().max() == 0
    assert gradient[0].abs().max() > 0
    # Its positive stays a negative of the other rows.
    near = [column.clone() for column in passages]
    near[0][1] = queries[0].detach()
    assert weighted_info_nce(queries, near, weights, TAU) > loss


def test_a_batch_of_weight_zero_teaches_nothing():
    queries, passages = batch(3, 1)
    queries.requires_grad_()
    loss = weighted_info_nce(queries, passages, torch.zeros(3), TAU)
    (gradient,) = torch.autograd.grad(loss, queries)
    assert loss.item() == 0
    assert gradient.abs().max() == 0


def test_the_order_of_rows_does_not_matter():
    queries, passages = batch(5, 2)
    weights = torch.tensor([0.5, 1.0, 2.0, 0.1, 0.7])
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(
        weighted_info_nce(queries[order], [p[order] for p in passages], weights[order], TAU),
        weighted_info_nce(queries, passages, weights, TAU),
    )


def test_half_precision_embeddings_are_compared_in_full():
    queries, passages = batch(4, 2)
    low = weighted_info_nce(
        queries.bfloat16(), [p.bfloat16() for p in passages], torch.ones(4).double(), TAU
    )
    rounded = [p.bfloat16().float() for p in passages]
    full = weighted_info_nce(queries.bfloat16().float(), rounded, torch.ones(4), TAU)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, full)


class Embed(nn.Module):
    """Stands where a bi-encoder stands: token features in, an embedding out."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 4)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Any]:
        return {"sentence_embedding": self.linear(features["x"]), "x": features["x"]}


def test_as_a_module_it_embeds_the_columns_and_takes_weights_as_labels():
    queries, passages = batch(3, 2)
    loss = WeightedInfoNCE(Embed(), temperature=0.1)
    weights = torch.tensor([1.0, 0.0, 3.0])
    value = loss([{"x": column} for column in (queries, *passages)], weights)
    embed = loss.model.linear
    expected = weighted_info_nce(embed(queries), [embed(p) for p in passages], weights, 0.1)
    torch.testing.assert_close(value, expected)
    value.backward()
    assert embed.weight.grad is not None
    assert embed.weight.grad.abs().max() > 0


def test_a_step_down_the_gradient_favours_the_heavier_row():
    """Two queries that contradict each other: the embedding follows the one that weighs more."""
    query = torch.tensor([[1.0, 0.2], [1.0, 0.2]])
    passages = [torch.tensor([[0.0, 1.0], [0.0, -1.0]])]
    for weights, winner in (([5.0, 1.0], 0), ([1.0, 5.0], 1)):
        moved = query.clone().requires_grad_()
        loss = weighted_info_nce(moved.mean(0).expand(2, -1), passages, torch.tensor(weights), 1.0)
        loss.backward()
        assert moved.grad is not None
        step = (query - moved.grad).mean(0)
        change = torch.cosine_similarity(step, passages[0][winner], dim=0)
        assert change > torch.cosine_similarity(query[0], passages[0][winner], dim=0)
