"""Runs are divided into what is learned from and held out, and become rows of equal width."""

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from retrail.agents import Workspace
from retrail.core import (
    ConfigError,
    Level,
    Signal,
)
from retrail.retrievers.index import Index
from retrail.retrievers.training import (
    Example,
    Hyperparameters,
    Mined,
    MiningReport,
    train,
)
from retrail.retrievers.training.division import HELD_OUT_SHARE, divide
from retrail.retrievers.training.examples import normalise, split
from retrail.retrievers.training.trainer import build_rows


def crossed_runs(rng: random.Random) -> list[tuple[str, list[Signal]]]:
    """Runs whose queries are also questions and queries of other runs, in several spellings."""
    words, names = [f"Word{n} {n}" for n in range(90)], [f"s{n}" for n in range(48)]

    def spelled(text: str) -> str:
        return rng.choice([text, text.upper(), f" {text}?", text.replace(" ", "  ")])

    runs: list[tuple[str, list[Signal]]] = []
    for n in range(120):
        docs = rng.sample(names, 4)
        query = spelled(rng.choice(words))
        made = [
            Signal(f"r{n}", query, doc, f"{doc}#0", level, step=1)
            for doc, level in zip(docs, (Level.CITED, *[Level.UNOPENED] * 3), strict=True)
        ]
        runs.append((spelled(rng.choice(words)), made))
    return runs


@pytest.fixture
def index(copied: Callable[[str], Path]) -> Iterator[Index]:
    with Workspace.open(copied("divided")) as workspace:
        yield workspace.index


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000))
def test_nothing_held_out_is_learned_from_and_nothing_else_is_lost(index, seed):
    runs = crossed_runs(random.Random(seed))
    mined = Mined(runs=runs, report=MiningReport(trajectories=len(runs)), ids=[])
    examples, queries = divide(index, mined, Hyperparameters(seed=seed))
    is_held_out = split({normalise(question) for question, _ in runs}, HELD_OUT_SHARE, seed)
    apart = {normalise(question) for question, _ in runs if is_held_out(normalise(question))}
    judged = {normalise(item.query) for item in queries}
    assert apart
    assert not {example.group for example in examples} & apart
    assert not {normalise(example.query) for example in examples} & (apart | judged)
    made = {(example.group, example.query, example.positive) for example in examples}
    for question, signals in runs:
        cited = signals[0]
        if normalise(question) in apart:
            assert any(q.query == cited.query and cited.doc_id in q.relevant for q in queries)
        elif normalise(cited.query) not in apart | judged:
            assert (normalise(question), cited.query, cited.passage_id) in made


TEXTS = {f"p{n}": f"text {n}" for n in range(12)}


def known(identifiers: Sequence[str]) -> dict[str, str]:
    return {i: TEXTS[i] for i in identifiers if i in TEXTS}


@given(
    examples=st.lists(
        st.builds(
            Example,
            group=st.just("g"),
            query=st.sampled_from(["q1", "q2"]),
            positive=st.sampled_from(["p0", "p1", "gone"]),
            negatives=st.lists(st.sampled_from(["p0", "p1", "p2", "p3", "lost"]), max_size=4).map(
                tuple
            ),
            weight=st.floats(0.1, 1),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_rows_are_of_equal_width_and_never_deny_a_positive(examples):
    hyper = Hyperparameters(negatives=3)
    usable = [example for example in examples if example.positive != "gone"]
    if not usable:
        with pytest.raises(ConfigError, match="no training example refers to this corpus"):
            build_rows(examples, known, sorted(TEXTS), hyper)
        return
    rows = build_rows(examples, known, sorted(TEXTS), hyper)
    columns = ["query", "positive", "negative_0", "negative_1", "negative_2", "label"]
    positives: dict[str, set[str]] = {}
    for example in usable:
        positives.setdefault(example.query, set()).add(TEXTS[example.positive])
    assert len(rows) <= len(usable)
    for row in rows:
        assert list(row) == columns
        against = [row[name] for name in columns[2:5]]
        assert len(set(against)) == 3
        assert not set(against) & positives[row["query"]]
        assert row["positive"] in positives[row["query"]]
    assert rows == build_rows(examples, known, sorted(TEXTS), hyper)


def test_rows_take_hard_negatives_before_random_ones():
    example = Example("g", "q", "p0", ("p3", "gone", "p2"), 0.7)
    (row,) = build_rows([example], known, sorted(TEXTS), Hyperparameters(negatives=4))
    assert (row["negative_0"], row["negative_1"]) == ("text 3", "text 2")
    assert row["label"][0] == 0.7


def test_only_bi_encoders_are_trained(tmp_path):
    base: Any = SimpleNamespace(model=object(), name="colbert")
    with pytest.raises(ConfigError, match="'colbert' gives no dense vectors"):
        train(
            base,
            [Example("g", "q", "p0", (), 1.0)],
            known,
            sorted(TEXTS),
            tmp_path,
            Hyperparameters(),
        )
    assert list(tmp_path.iterdir()) == []
