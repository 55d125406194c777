"""Neighbours among the candidates: against brute force, after changes, and under filters."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from retrail.agents import Workspace
from retrail.core import ConfigError, Document
from retrail.retrievers.expansion import joined, neighbours
from retrail.retrievers.ranked import Ranked
from retrail.serving.cli import app
from typer.testing import CliRunner

ROWS = st.lists(st.integers(0, 20), unique=True, max_size=12)


def brute(vectors: np.ndarray, vector: np.ndarray, k: int) -> Ranked:
    return Ranked.of(np.arange(len(vectors)), vectors @ vector).top(k)


@given(st.integers(0, 1000), ROWS, st.integers(1, 30))
def test_neighbours_are_the_nearest_of_each_that_were_not_known(seed, known, count):
    vectors = np.random.default_rng(seed).normal(size=(21, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = np.array(sorted(known), np.int64)
    found = neighbours(vectors[rows], count, lambda v, k: brute(vectors, v, k), rows)
    expected = {
        int(other)
        for row in rows
        for other in np.argsort(-(vectors @ vectors[row]), kind="stable")[: count + 1]
    }
    assert found.tolist() == sorted(expected - {*known})


@given(st.dictionaries(st.integers(0, 30), st.floats(-9, 9, width=32)), st.integers(0, 30))
def test_rankings_of_parts_make_the_ranking_of_all(scores, cut):
    def ranked(some: dict[int, float]) -> dict[str, Ranked]:
        return {"a": Ranked.of(list(some), list(some.values()))}

    below = {row: score for row, score in scores.items() if row < cut}
    above = {row: score for row, score in scores.items() if row >= cut}
    both = joined(ranked(below), ranked(above))["a"]
    assert both.ids.tolist() == ranked(scores)["a"].ids.tolist()


# In a workspace: one candidate of each first stage, so that neighbours are what else can be found

TEXTS = {
    "fox": "The red fox hunts at night in the forest.",
    "vixen": "A vixen and her cubs hunt in the woods after dark.",
    "wolf": "Wolves hunt in packs in the northern forest.",
    "bread": "The price of bread rose again in the city.",
    "flour": "Flour and bakery goods became dearer in town.",
}
QUERY = "red fox"


@pytest.fixture
def kb(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace.create(tmp_path / "kb", candidates=1) as opened:
        documents = [Document(id=n, text=t, metadata={"wild": n < "c"}) for n, t in TEXTS.items()]
        opened.add(*documents)
        yield opened


def candidates(kb: Workspace, expand: int | None) -> dict[str, dict[str, float]]:
    rankings = kb.index.snapshot().rankings(QUERY, 1, expand=expand)
    names = kb.index.corpus.passages([i for r in rankings.values() for i in r.ids.tolist()])
    return {
        name: dict(
            zip((names[row].doc_id for row in r.ids.tolist()), r.scores.tolist(), strict=True)
        )
        for name, r in rankings.items()
    }


def test_neighbours_join_and_are_scored_by_all_three(kb: Workspace):
    plain, more = candidates(kb, 0), candidates(kb, 2)
    assert {*plain["dense"]} == {"fox"}
    assert {*more["dense"]} == {*more["late"]} > {"fox", "vixen"}
    assert "bread" not in more["dense"]
    whole = kb.index.snapshot().rankings(QUERY, 99)
    for name, scores in more.items():
        true = whole[name].scores.tolist()
        assert all(min(abs(score - t) for t in true) < 1e-5 for score in scores.values())
    assert candidates(kb, None) == plain  # off unless the settings say so


def test_neighbours_follow_what_is_added_and_removed(kb: Workspace):
    kb.add(Document(id="kit", text="Young foxes, called kits, hunt at night in the forest."))
    assert "kit" in candidates(kb, 3)["late"]
    kb.remove("kit")
    assert "kit" not in candidates(kb, 9)["late"]
    assert {*candidates(kb, 9)["late"]} == {*TEXTS}


def test_what_a_filter_does_not_admit_is_never_reached(kb: Workspace):
    rows = [kb.index.corpus.passage_rows(n, None, kb.index.generation) for n in ("bread", "flour")]
    within = np.sort(np.concatenate(rows))
    rankings = kb.index.snapshot().rankings(QUERY, 1, within, expand=9)
    assert {*rankings["dense"].ids.tolist()} == {*within.tolist()}
    hits = kb.search(QUERY, k=9, where="wild = true", expand=9)
    assert {hit.doc_id for hit in hits} == {"bread"}


def test_the_settings_and_the_command_expand(kb: Workspace):
    snapshot = kb.index.snapshot()
    snapshot.settings = snapshot.settings.model_copy(update={"expand": 2})
    assert {*candidates(kb, None)["late"]} > {"fox", "vixen"}
    words = ["search", QUERY, "--expand", "2", f"--workspace={kb.root}"]
    assert CliRunner().invoke(app, words).exit_code == 0
    refused = CliRunner().invoke(app, [*words, "--by", "dense"])
    assert refused.exit_code == 2
    assert "for hybrid search" in refused.stderr
    with pytest.raises(ConfigError, match="expand is -1"):
        kb.search(QUERY, expand=-1)
