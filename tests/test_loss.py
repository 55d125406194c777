"""From vectors to the loss: scores as they are served, weights that arrive, the old model kept."""

import json
import math
import socket
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from retrail.retrievers.encoder import Encoded
from retrail.retrievers.late import LateScorer, Layout
from retrail.retrievers.similarity_pooling import Pooling
from retrail.retrievers.training.hyper import Hyperparameters
from retrail.retrievers.training.loss import Labels, RetrievalLoss, by_length, objective
from retrail.retrievers.training.scoring import SCORERS, Frozen, Texts, cosine, maxsim
from retrail.retrievers.vectors import Basis, fit_basis
from torch import Tensor, nn
from torch.nn.functional import normalize

DIM, WIDTH = 6, 3
HYPER = Hyperparameters()


def texts(count: int, seed: int, length: int = 5) -> Texts:
    generator = torch.Generator().manual_seed(seed)
    dense = torch.randn(count, DIM, generator=generator)
    tokens = torch.randn(count, length, DIM, generator=generator)
    lengths = torch.randint(1, length + 1, (count, 1), generator=generator)
    mask = torch.arange(length) < lengths
    return Texts(normalize(dense, dim=-1), normalize(tokens, dim=-1), mask)


def labels(weights: list[float], width: int = WIDTH, sure: float = 1.0) -> Tensor:
    """Labels of rows whose last negative is sure to a degree, and of middling grade."""
    grades = [1.0, *[0.0] * (width - 2), 0.3]
    against = [1.0] * (width - 1) + [sure]
    rows = len(weights)
    told = [
        Labels.row(weight, 1, grades, against, [column * rows + n for column in range(width)])
        for n, weight in enumerate(weights)
    ]
    return torch.tensor(told)


def test_two_rows_worked_out_on_paper():
    """Each query equals its positive; the other positive is orthogonal, the negatives opposite."""
    queries = Texts.of({"sentence_embedding": torch.tensor([[2.0, 0.0], [0.0, 1.0]])}, late=False)
    found = torch.tensor([[1.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [0.0, -1.0]])
    passages = Texts.of({"sentence_embedding": found}, late=False)
    # Row scores at temperature 1: 1 (positive), 0 (other), -1 (own negative), 0 (other negative).
    expected = math.log(math.e + 1 + math.exp(-1) + 1) - 1
    hyper = HYPER.model_copy(update={"temperature": 1.0})
    loss = objective(hyper, queries, passages, Labels.of(labels([1.0, 5.0], 2)))
    assert loss.item() == pytest.approx(expected, abs=1e-6)


@given(rows=st.integers(1, 4), seed=st.integers(0, 1000), data=st.data())
def test_weights_reach_the_gradient_of_every_vector(rows, seed, data):
    """Against the derivative of softmax by hand: (p_id − [d = d_i⁺]) · w_i / (τ Σ w)."""
    weights = data.draw(st.lists(st.floats(0.1, 4), min_size=rows, max_size=rows))
    queries, passages = texts(rows, seed), texts(rows * WIDTH, seed + 1)
    q, d = queries.dense.requires_grad_(), passages.dense.requires_grad_()
    loss = objective(HYPER, queries, passages, Labels.of(labels(weights)))
    by_query, by_passage = torch.autograd.grad(loss, [q, d])
    slopes = np.zeros((rows, rows * WIDTH))
    for i, row in enumerate((q @ d.T).tolist()):
        total = sum(math.exp(score / 0.05) for score in row)
        for n, score in enumerate(row):
            share = math.exp(score / 0.05) / total - (n == i)
            slopes[i, n] = share * weights[i] / sum(weights) / 0.05
    np.testing.assert_allclose(by_query, slopes @ d.detach().numpy(), atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(by_passage, slopes.T @ q.detach().numpy(), atol=1e-4, rtol=1e-4)


def as_served(passages: Texts, basis: Basis) -> LateScorer:
    lengths = passages.mask.sum(1).numpy()
    ids = np.arange(len(lengths))
    layout = Layout(ids, ids, ids, np.cumsum(lengths) - lengths, lengths)
    tokens = basis.project(passages.tokens[passages.mask].numpy())
    return LateScorer(layout, tokens.astype(np.float16), basis)


@settings(max_examples=20)
@given(seed=st.integers(0, 1000))
def test_maxsim_ranks_as_the_index_does(seed):
    queries, passages = texts(3, seed), texts(7, seed + 1)
    basis = fit_basis([passages.tokens[passages.mask].numpy()], 4)
    projected = [
        Encoded(dense.numpy(), basis.project(tokens[mask].numpy()))
        for dense, tokens, mask in zip(*passages, strict=True)
    ]
    frozen = Frozen(projected, late=True, basis=basis)
    scores = maxsim(frozen.project(queries), frozen.texts(torch.arange(7)))
    scorer = as_served(passages, basis)
    for n in range(3):
        own = queries.tokens[n][queries.mask[n]].numpy()
        ranked = scorer.score(own, np.arange(7))
        served = dict(zip(ranked.ids.tolist(), ranked.scores.tolist(), strict=True))
        mean = [served[i] / len(own) for i in range(7)]
        np.testing.assert_allclose(scores[n], mean, atol=2e-3)


def test_padding_changes_no_score():
    queries, passages = texts(3, 0), texts(4, 1)
    longer = Texts.joined([passages, texts(1, 2, length=9)])
    torch.testing.assert_close(maxsim(queries, longer)[:, :4], maxsim(queries, passages))
    torch.testing.assert_close(cosine(queries, longer)[:, :4], cosine(queries, passages))


def test_both_is_the_sum():
    queries, passages, judged = texts(3, 0), texts(9, 1), Labels.of(labels([1.0, 2.0, 0.5]))
    loss = {
        target: objective(HYPER.model_copy(update={"target": target}), queries, passages, judged)
        for target in SCORERS
    }
    torch.testing.assert_close(loss["both"], loss["dense"] + loss["late"])
    assert abs(loss["dense"] - loss["late"]) > 1e-3


def test_token_similarities_are_pooled_as_asked():
    queries, passages, judged = texts(3, 0), texts(9, 1), Labels.of(labels([1.0, 2.0, 0.5]))
    late = HYPER.model_copy(update={"target": "late"})
    found = {
        kind: objective(
            late.model_copy(update={"pooling": Pooling(kind, k=2, temperature=1e-4)}),
            queries,
            passages,
            judged,
        )
        for kind in ("max", "topk", "softmax")
    }
    torch.testing.assert_close(found["max"], objective(late, queries, passages, judged))
    torch.testing.assert_close(found["softmax"], found["max"], atol=1e-2, rtol=0)
    assert abs(found["topk"] - found["max"]) > 1e-2


@pytest.mark.parametrize("target", ["dense", "late", "both"])
def test_staying_close_costs_nothing_where_nothing_moved(target):
    queries, passages, judged = texts(3, 0), texts(9, 1), Labels.of(labels([1.0, 2.0, 0.5]))
    free = HYPER.model_copy(update={"target": target})
    held = free.model_copy(update={"keep": 2.0})
    before = (queries, passages)
    loss = objective(free, queries, passages, judged, before)
    torch.testing.assert_close(objective(held, queries, passages, judged, before), loss)
    moved = (queries._replace(dense=-queries.dense, tokens=-queries.tokens), passages)
    scorers = len(SCORERS[target])
    torch.testing.assert_close(
        objective(held, queries, passages, judged, moved), loss + 2.0 * 2.0 * scorers
    )


class Embed(nn.Module):
    """Stands where a bi-encoder stands: token features in, vectors out."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.linear = nn.Linear(DIM, 4)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Any]:
        mask = features["attention_mask"]
        tokens = self.linear(features["x"]) * mask[..., None]
        return {
            "sentence_embedding": tokens.sum(1) / mask.sum(1, keepdim=True),
            "token_embeddings": tokens,
            "attention_mask": mask,
        }


def features(rows: int, seed: int = 0) -> list[dict[str, Tensor]]:
    """Columns of texts of different lengths, padded to the longest of each."""
    generator = torch.Generator().manual_seed(seed)
    columns: list[dict[str, Tensor]] = []
    for longest in (3, 5, 4, 6):
        lengths = torch.randint(1, longest + 1, (rows, 1), generator=generator)
        lengths[0] = longest
        mask = (torch.arange(longest) < lengths).long()
        columns.append(
            {"x": torch.randn(rows, longest, DIM, generator=generator), "attention_mask": mask}
        )
    return columns


def test_grouping_by_length_keeps_every_text_and_its_place():
    columns = features(7)[1:]
    groups, places = by_length(columns, 4)
    assert [len(group["x"]) for group in groups] == [4, 4, 4, 4, 4, 1]

    def unpadded(parts: list[dict[str, Tensor]]) -> list[Tensor]:
        pairs = [zip(p["x"], p["attention_mask"].bool(), strict=True) for p in parts]
        return [text[mask] for part in pairs for text, mask in part]

    found, texts = unpadded(groups), unpadded(columns)
    for n, place in enumerate(places):
        assert torch.equal(found[place], texts[n])
    padded = sum(group["attention_mask"].numel() for group in groups)
    assert padded < sum(column["attention_mask"].numel() for column in columns)
    assert sorted(places.tolist()) == list(range(21))


@pytest.mark.parametrize("target", ["dense", "late", "both"])
@pytest.mark.parametrize("name", ["infonce", "disj", "listwise", "mw", "wasserstein", "margin_mse"])
def test_as_a_module_it_trains_the_model_and_leaves_the_old_one(name, target):
    hyper = HYPER.model_copy(update={"loss": name, "target": target, "keep": 0.5})
    model, old = Embed(0), Embed(1)
    loss = RetrievalLoss(model, hyper, old=old)
    assert {id(p) for p in loss.parameters()} == {id(p) for p in model.parameters()}
    loss(features(3), labels([1.0, 0.5, 3.0])).backward()
    assert model.linear.weight.grad is not None
    assert model.linear.weight.grad.abs().max() > 0
    assert old.linear.weight.grad is None


def test_scores_are_computed_in_full_precision_under_autocast():
    loss = RetrievalLoss(Embed(), HYPER)
    told = labels([1.0, 2.0, 0.5])

    class Rounded(nn.Module):
        def forward(self, given: dict[str, Tensor]) -> dict[str, Any]:
            return {
                "sentence_embedding": given["x"].sum(1),
                "attention_mask": given["attention_mask"],
            }

    loss.model = Rounded()
    full = loss(features(3), told)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = loss(features(3), told)
    assert low.dtype == torch.float32
    assert low.item() == full.item()


def gradient(rows: list[dict[str, Tensor]], told: Tensor, hyper: Hyperparameters) -> Tensor:
    model = Embed()
    RetrievalLoss(model, hyper, old=Embed(1))(rows, told).backward()
    assert model.linear.weight.grad is not None
    return model.linear.weight.grad


def device(rank: int, port: int) -> None:
    """One of two processes: half of the rows, gradients averaged as data parallelism does."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    mine = slice(2 * rank, 2 * rank + 2)
    half = [{key: value[mine] for key, value in column.items()} for column in features(4)]
    found = gradient(half, labels(WEIGHTS, sure=UNSURE)[mine], BOTH)
    torch.distributed.all_reduce(found)
    sys.stdout.write(json.dumps((found / 2).tolist()))
    torch.distributed.destroy_process_group()


BOTH = HYPER.model_copy(update={"target": "both"})
WEIGHTS = [4.0, 0.1, 1.0, 2.0]
UNSURE = 0.1


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def test_cross_device_negatives_and_weights_are_those_of_one_large_batch():
    """Two processes that hold two rows each learn what one process learns from all four."""
    port = str(free_port())
    devices = [
        subprocess.Popen(
            [sys.executable, "-P", __file__, str(rank), port], stdout=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    try:
        answers = [process.communicate(timeout=120)[0] for process in devices]
    finally:
        for process in devices:
            process.kill()
    whole = gradient(features(4), labels(WEIGHTS, sure=UNSURE), BOTH)
    for answer in answers:
        found = torch.tensor(json.loads(answer))
        torch.testing.assert_close(found, whole, atol=1e-5, rtol=1e-4)
    for other in (labels([1.0] * 4, sure=UNSURE), labels(WEIGHTS), labels(WEIGHTS, sure=0.0)):
        assert (gradient(features(4), other, BOTH) - whole).abs().max() > 1e-2


if __name__ == "__main__":
    device(int(sys.argv[1]), int(sys.argv[2]))
