"""Diversity: greedy choices against brute force, and by every door of a workspace."""

import json
from collections.abc import Iterator
from itertools import combinations
from math import e
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from retrail.agents import Workspace
from retrail.core import Document
from retrail.core.errors import ConfigError
from retrail.core.settings import Diversify
from retrail.retrievers.best_documents import HybridOptions
from retrail.retrievers.diversify import coverage, coverage_value, diversified, mmr, unit_scores
from retrail.retrievers.ranked import Ranked
from retrail.serving.cli import app
from retrail.serving.options import DiversifyBy
from typer.testing import CliRunner


def pool(seed: int, size: int) -> tuple[Ranked, np.ndarray]:
    """Candidates in few directions, so that many are alike."""
    chance = np.random.default_rng(seed)
    vectors = chance.normal(size=(4, 8))[chance.integers(0, 4, size)] + chance.normal(
        0, 0.2, (size, 8)
    )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Ranked.of(np.arange(size) * 7, chance.normal(size=size)), vectors.astype(np.float32)


def cosines_of(vectors: np.ndarray) -> np.ndarray:
    return np.maximum(vectors @ vectors.T, 0.0).astype(np.float64)


SEEDS, WEIGHTS = st.integers(0, 10_000), st.floats(0, 1)
SIZES = st.integers(1, 9)
METHODS = pytest.mark.parametrize("method", ["mmr", "coverage"])


@METHODS
@given(SEEDS, SIZES, WEIGHTS, st.integers(1, 12))
def test_choices_are_candidates_once_each_and_their_scores_never_rise(
    method, seed, size, weight, k
):
    ranked, vectors = pool(seed, size)
    found = diversified(ranked, vectors, method, weight, k)
    assert len(found.ids) == min(k, size)
    assert len({*found.ids.tolist()}) == len(found.ids)
    assert {*found.ids.tolist()} <= {*ranked.ids.tolist()}
    assert (np.diff(found.scores) <= 1e-6).all()


@METHODS
@given(SEEDS, SIZES, WEIGHTS, st.integers(1, 8))
def test_asking_for_more_keeps_the_first_choices(method, seed, size, weight, k):
    ranked, vectors = pool(seed, size)
    more = diversified(ranked, vectors, method, weight, k + 1)
    assert diversified(ranked, vectors, method, weight, k).ids.tolist() == more.ids[:k].tolist()


@METHODS
@given(SEEDS, SIZES, st.integers(1, 9))
def test_lambda_1_is_the_plain_ranking(method, seed, size, k):
    ranked, vectors = pool(seed, size)
    found = diversified(ranked, vectors, method, 1.0, k)
    assert found.ids.tolist() == ranked.top(k).ids.tolist()
    plain = diversified(ranked, vectors, "none", 0.3, k)
    assert (plain.ids.tolist(), plain.scores.tolist()) == (
        ranked.top(k).ids.tolist(),
        ranked.top(k).scores.tolist(),
    )


@given(SEEDS, SIZES, WEIGHTS)
def test_mmr_takes_the_best_of_what_is_left_at_every_step(seed, size, weight):
    ranked, vectors = pool(seed, size)
    relevances, cosines = unit_scores(ranked), cosines_of(vectors)
    chosen, added = mmr(relevances, cosines, weight, size)
    for n in range(size):
        taken = chosen[:n].tolist()
        values = {
            d: weight * relevances[d]
            - (1 - weight) * max((cosines[d, s] for s in taken), default=0.0)
            for d in range(size)
            if d not in taken
        }
        assert values[int(chosen[n])] == pytest.approx(max(values.values()))
        assert added[n] == pytest.approx(values[int(chosen[n])])


@given(SEEDS, SIZES, WEIGHTS, st.integers(1, 5))
def test_coverage_adds_up_and_is_near_the_best(seed, size, weight, k):
    ranked, vectors = pool(seed, size)
    relevances, cosines = unit_scores(ranked), cosines_of(vectors)

    def value(chosen: object) -> float:
        return coverage_value(np.array(chosen, np.intp), relevances, cosines, weight)

    chosen, added = coverage(relevances, cosines, weight, k)
    assert added.sum() == pytest.approx(value(chosen))
    best = max(value(each) for each in combinations(range(size), min(k, size)))
    assert value(chosen) >= (1 - 1 / e) * best - 1e-9
    assert value(chosen) <= best + 1e-9


@given(SEEDS, SIZES, st.integers(1, 9))
def test_the_first_of_coverage_is_no_worse_than_the_plain_first(seed, size, k):
    ranked, vectors = pool(seed, size)
    relevances, cosines = unit_scores(ranked), cosines_of(vectors)
    first = coverage(relevances, cosines, 0.0, 1)[0]
    plain = np.array([0], np.intp)
    values = [coverage_value(each, relevances, cosines, 0.0) for each in (first, plain)]
    assert values[0] >= values[1] - 1e-9


def test_coverage_covers_more_than_the_best_by_score():
    gained = []
    for seed in range(100):
        ranked, vectors = pool(seed, 30)
        relevances, cosines = unit_scores(ranked), cosines_of(vectors)
        sets = (coverage(relevances, cosines, 0.0, 4)[0], np.arange(4, dtype=np.intp))
        greedy, plain = (coverage_value(each, relevances, cosines, 0.0) for each in sets)
        gained.append(greedy - plain)
    assert sum(each >= 0 for each in gained) >= 90  # greedy, so not a law
    assert np.mean(gained) > 1


def test_a_copy_of_the_best_waits_for_what_is_new():
    vectors = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    ranked = Ranked.of([10, 11, 12], [1.0, 0.9, 0.5])
    assert diversified(ranked, vectors, "mmr", 0.5, 3).ids.tolist() == [10, 12, 11]
    assert diversified(ranked, vectors, "coverage", 0.5, 3).ids.tolist()[0] == 10
    nothing = Ranked.empty()
    assert len(diversified(nothing, np.zeros((0, 2), np.float32), "mmr", 0.5, 3).ids) == 0


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_lambda_is_from_0_to_1(weight):
    with pytest.raises(ConfigError, match="from 0 to 1"):
        HybridOptions(diversify_lambda=weight).check("hybrid")


# By the doors of a workspace

TEXTS = {
    "a1": "The red fox jumped over the fence of the farm in the morning.",
    "a2": "The red fox jumped over the fence of the farm in the evening.",
    "a3": "The red fox jumped over the fence of the farm at noon.",
    "b1": "A fox is a small animal of the dog family with a bushy tail.",
    "c1": "Foxes are hunted in some countries, which many people oppose.",
    "d1": "The price of bread rose again.",
}
QUERY = "red fox jumped over the fence"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("diverse") / "kb"
    with Workspace.create(root) as kb:
        kb.add(*(Document(id=n, text=t, metadata={"kind": n[0]}) for n, t in TEXTS.items()))
    return root


@pytest.fixture
def kb(root: Path) -> Iterator[Workspace]:
    with Workspace.open(root) as opened:
        yield opened


@pytest.mark.parametrize(("method", "share"), [("mmr", 0.4), ("coverage", 0.0)])
def test_hits_of_a_workspace_do_not_repeat_each_other(
    kb: Workspace, method: Diversify, share: float
):
    plain = [hit.doc_id for hit in kb.search(QUERY, k=3)]
    assert {*plain} == {"a1", "a2", "a3"}
    hits = kb.search(QUERY, k=3, diversify=method, diversify_lambda=share)
    found = [hit.doc_id for hit in hits]
    assert found[0] in plain
    assert len({*found} & {*plain}) < 3
    assert [hit.rank for hit in hits] == [1, 2, 3]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    same = kb.search(QUERY, k=3, diversify=method, diversify_lambda=1.0)
    assert [hit.doc_id for hit in same] == plain


def test_filters_hold_and_everything_is_found_once(kb: Workspace):
    where = "kind != 'a'"
    hits = kb.search(QUERY, k=99, diversify="mmr", where=where)
    assert sorted(hit.doc_id for hit in hits) == ["b1", "c1", "d1"]
    ranked = kb.search(QUERY, by="filtered", k=99, diversify="mmr", where=where)
    assert [hit.doc_id for hit in ranked] == [hit.doc_id for hit in hits]


def test_the_settings_say_what_is_done_if_nobody_asks(root: Path):
    with Workspace.open(root) as kb:
        asked = [hit.doc_id for hit in kb.search(QUERY, k=3, diversify="mmr", diversify_lambda=0.4)]
        told = {"diversify": "mmr", "diversify_lambda": 0.4}
        snapshot = kb.index.snapshot()
        snapshot.settings = snapshot.settings.model_copy(update=told)
        assert [hit.doc_id for hit in kb.search(QUERY, k=3)] == asked
        plain = kb.search(QUERY, k=3, diversify="none")
        assert {hit.doc_id for hit in plain} == {"a1", "a2", "a3"}
        assert kb.search(QUERY, by="dense", k=3)  # options of hybrid search alone


@pytest.mark.parametrize("k", [1, len(TEXTS)])
def test_boosts_reach_all_candidates_however_few_hits_are_wanted(root: Path, k: int):
    with Workspace.open(root) as kb:
        snapshot = kb.index.snapshot()
        snapshot.settings = snapshot.settings.model_copy(update={"boosts": {"kind": 50.0}})
        assert kb.search(f"{QUERY} d", k=k)[0].doc_id == "d1"


def test_options_that_mean_nothing_are_refused(kb: Workspace):
    with pytest.raises(ConfigError, match="'diversify' is for hybrid search, not 'dense'"):
        kb.search(QUERY, by="dense", diversify="mmr")
    with pytest.raises(ConfigError, match="'shuffle'"):
        kb.search(QUERY, diversify="shuffle")
    with pytest.raises(ConfigError, match="from 0 to 1"):
        kb.search(QUERY, diversify_lambda=2.0)


def test_the_command(root: Path):
    assert tuple(DiversifyBy) == get_args(Diversify)
    words = ["search", QUERY, "-k", "3", "--json", f"--workspace={root}"]
    asked = [*words, "--diversify", "mmr", "--lambda", "0.4"]
    found = [
        [hit["doc_id"] for hit in json.loads(CliRunner().invoke(app, each).stdout)["hits"]]
        for each in (words, asked)
    ]
    assert found[0] != found[1]
    refused = CliRunner().invoke(app, [*asked, "--by", "late"])
    assert refused.exit_code == 2
    assert "for hybrid search" in refused.stderr
    assert CliRunner().invoke(app, [*asked, "--lambda", "3"]).exit_code == 2
