"""Poolings of similarities, the same for the index and for training; and fewer tokens stored."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from retrail.core.settings import LatePooling
from retrail.retrievers.late import LateScorer, Layout
from retrail.retrievers.similarity_pooling import Pooling, pool
from retrail.retrievers.token_reduction import clustered, content, whole_words
from retrail.retrievers.token_spans import TokenSpan
from retrail.retrievers.training.scoring import Texts, maxsim
from retrail.retrievers.vectors import Basis

DIM = 8
POOLINGS = [Pooling(), Pooling("topk"), Pooling("topk", k=2), Pooling("softmax"),
            Pooling("softmax", temperature=1.0)]  # fmt: skip


def unit(rows: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def padded(matrices: list[np.ndarray]) -> Texts:
    longest = max(map(len, matrices))
    tokens = np.zeros((len(matrices), longest, DIM), np.float32)
    mask = np.zeros((len(matrices), longest), bool)
    for n, matrix in enumerate(matrices):
        tokens[n, : len(matrix)], mask[n, : len(matrix)] = matrix, True
    dense = torch.zeros(len(matrices), 1)
    return Texts(dense, torch.from_numpy(tokens), torch.from_numpy(mask))


@pytest.mark.parametrize("pooling", POOLINGS)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6), asked=st.integers(1, 5))
def test_the_index_and_training_pool_alike(pooling: Pooling, lengths: list[int], asked: int):
    passages = [unit(length, n) for n, length in enumerate(lengths)]
    query = unit(asked, 99)
    starts = np.cumsum([0, *lengths[:-1]])
    numbers = np.arange(len(lengths))
    layout = Layout(numbers, numbers, numbers, starts, np.array(lengths))
    plain = Basis(np.zeros(DIM, np.float32), np.eye(DIM, dtype=np.float32))
    stored = np.concatenate(passages).astype(np.float16)
    found = LateScorer(layout, stored, plain, pooling=pooling).score(query, numbers)
    served = found.scores[np.argsort(found.ids)]
    trained = maxsim(padded([query]), padded(passages), pooling)[0].numpy() * asked
    np.testing.assert_allclose(served, trained, atol=2e-3 * asked)


@pytest.mark.parametrize("kind", ["topk", "softmax"])
def test_every_pooling_can_be_trained(kind: LatePooling):
    queries, passages = padded([unit(3, 1)]), padded([unit(2, 2), unit(7, 3)])
    passages.tokens.requires_grad_()
    maxsim(queries, passages, Pooling(kind)).sum().backward()
    gradient = passages.tokens.grad
    assert gradient is not None
    assert gradient.isfinite().all()
    assert gradient[0, :2].abs().sum() > 0
    assert gradient[0, 2:].abs().sum() == 0


def test_poolings_meet_at_their_limits():
    similarities = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    best, mean = similarities.max(axis=0), similarities.mean(axis=0)
    np.testing.assert_array_equal(pool(similarities, Pooling("topk", k=1)), best)
    np.testing.assert_allclose(pool(similarities, Pooling("topk", k=99)), mean, atol=1e-6)
    np.testing.assert_allclose(pool(similarities, Pooling("softmax", temperature=1e-4)), best)
    hot = pool(similarities, Pooling("softmax", temperature=1e5))
    np.testing.assert_allclose(hot, mean, atol=1e-4)


# Fewer tokens

SPANS = [TokenSpan(0, 0, None), TokenSpan(0, 3, 0), TokenSpan(4, 7, 1), TokenSpan(7, 9, 1),
         TokenSpan(9, 10, 2), TokenSpan(0, 0, None)]  # fmt: skip
TEXT = "the wolves."


def test_a_word_is_the_mean_of_its_pieces():
    tokens = unit(6, 0)
    found = whole_words(tokens, SPANS)
    mean = tokens[2] + tokens[3]
    assert found.shape == (5, DIM)
    np.testing.assert_allclose(found[2], mean / np.linalg.norm(mean), atol=1e-6)
    np.testing.assert_allclose(found[[0, 1, 3, 4]], tokens[[0, 1, 4, 5]], atol=1e-6)


@pytest.mark.parametrize(
    ("language", "kept"), [("en", [0, 2, 3, 5]), ("de", [0, 1, 2, 3, 5]), ("tr", [0, 1, 2, 3, 5])]
)
def test_stop_words_and_punctuation_go(language: str, kept: list[int]):
    spans = [*SPANS[:4], TokenSpan(10, 11, 2), SPANS[5]]
    assert content(spans, TEXT, language) == kept


def test_like_tokens_are_joined():
    tokens = np.repeat(unit(4, 0), 3, axis=0)
    found = clustered(tokens, 3)
    assert sorted(map(tuple, found.round(4))) == sorted(map(tuple, unit(4, 0).round(4)))


@given(st.integers(0, 30), st.integers(2, 9))
def test_no_more_than_a_share_of_the_tokens_stay(count: int, factor: int):
    found = clustered(unit(count, count), factor)
    assert min(count, 1) <= len(found) <= max(-(-count // factor), 0)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
