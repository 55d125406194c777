"""Guard queries and the two parts of held-out queries, over a real index."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from retrail.agents import Workspace
from retrail.core import ConfigError, Document
from retrail.core.settings import load_settings
from retrail.retrievers.encoder import Encoded
from retrail.retrievers.training import Example, HeldOut, guard_queries, known_items
from retrail.retrievers.training.guard import FROM_CORPUS
from retrail.retrievers.training.splits import place

PLACES = ("harbour", "attic", "desert", "forest", "tower", "cellar", "garden", "island")
COLOURS = ("red", "green", "blue", "white", "black", "grey", "brown", "yellow", "pink", "gold")


def text(colour: str, where: str) -> str:
    return (
        f"This is a note about a {colour} fox. The {colour} fox was seen near the old {where} by "
        f"three people on one cold and rainy day. Nobody knows why it came or where it went."
    )


@pytest.fixture(scope="module")
def kb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with Workspace.create(tmp_path_factory.mktemp("guard") / "kb", max_tokens=64) as made:
        made.add(
            *(
                Document(
                    id=f"{colour}-{where}", title=f"{colour} {where}", text=text(colour, where)
                )
                for colour in COLOURS
                for where in PLACES
            )
        )
        yield made


def example(query: str, positive: str, *negatives: str) -> Example:
    return Example("g", query, positive, negatives, 1.0)


def test_known_items_are_halves_of_inner_sentences_of_what_was_not_trained(kb):
    examples = [example("q", "red-attic#0", "blue-attic#0"), example("q", "gold-tower#0")]
    guard = guard_queries(kb.index, examples)
    assert (guard.source, guard.left_out) == (FROM_CORPUS, 0)
    asked = {doc_id for item in guard.queries for doc_id in item.relevant}
    assert len(asked) == len(guard.queries) == 77
    assert not asked & {"red-attic", "blue-attic", "gold-tower"}
    for item in guard.queries:
        (doc_id,) = item.relevant
        colour, where = doc_id.split("-")
        assert item.query == f"The {colour} fox was seen near the old {where}"
    assert guard == guard_queries(kb.index, examples)
    assert [i.relevant for i in known_items(kb.index, seed=1)] != [
        i.relevant for i in known_items(kb.index)
    ]


def test_where_training_mentions_nearly_all_there_is_no_guard(kb):
    every = [example("q", f"{c}-{p}#0") for c in COLOURS for p in PLACES[:5]]
    assert guard_queries(kb.index, every).queries == []


def lines(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def row(n: int, doc_id: str, gain: object = 1) -> dict[str, object]:
    return {"_id": f"g{n}", "text": f"question {n}", "relevant": {doc_id: gain}}


def test_a_file_of_the_workspace_guards(kb):
    rows: list[object] = [row(n, f"red-{where}", 2) for n, where in enumerate(PLACES)]
    lines(kb.root / "guard.jsonl", [*rows, row(8, "elsewhere"), row(9, "red-attic", 0)])
    guard = guard_queries(kb.index, [], "guard.jsonl")
    assert guard.queries[0] == HeldOut("question 0", {"red-harbour": 2})
    assert (guard.source, len(guard.queries), guard.left_out) == ("guard.jsonl", 8, 1)


def test_a_dataset_guards(kb, tmp_path, write_beir):
    queries = [{"_id": f"q{n}", "text": f"question {n}"} for n in range(9)]
    qrels = {f"q{n}": {f"blue-{where}": 1, "red-attic": 0} for n, where in enumerate(PLACES)}
    folder = write_beir(tmp_path / "data", [{"_id": "x", "text": "x"}], queries, qrels)
    guard = guard_queries(kb.index, [], folder)
    assert len(guard.queries) == 8
    assert guard.queries[1] == HeldOut("question 1", {"blue-attic": 1})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ([], "0 of the 0 guard queries"),
        ([row(n, "elsewhere") for n in range(9)], "0 of the 9 guard queries of '.*' have"),
        ([{"_id": "a", "text": "b"}], "line 1 of .* is malformed"),
        ([{"_id": "a", "text": " ", "relevant": {"x": 1}}], "there is no text"),
        ([row(1, "red-attic"), row(1, "red-attic")], "line 2 .*'g1' was there before"),
        ([row(1, "red-attic", True)], "gain True is no whole number"),
        ([row(1, "red-attic", "2")], "gain '2' is no whole number"),
        ([["not", "an", "object"]], "line 1 of .* is malformed"),
    ],
)
def test_what_cannot_guard_is_refused(kb, tmp_path, content, message):
    path = tmp_path / "bad.jsonl"
    if content is not None:
        lines(path, content)
    with pytest.raises(ConfigError, match=message):
        guard_queries(kb.index, [], path)


def test_settings_of_the_gate_are_checked(tmp_path):
    with pytest.raises(ConfigError, match=r"gate\.margin"):
        Workspace.create(tmp_path / "bad", gate={"margin": 0})
    with Workspace.create(tmp_path / "good", gate={"guard": "g.jsonl"}) as made:
        assert made.settings.gate.guard == "g.jsonl"
    again = load_settings(tmp_path / "good" / "settings.toml").gate
    assert (again.guard, again.margin, again.test) == ("g.jsonl", 0.05, "randomisation")


def by_angle(query: str) -> Encoded:
    angle = float(query)
    vector = np.array([np.cos(angle), np.sin(angle)], np.float32)
    return Encoded(vector, vector[None])


@given(
    held_out=st.lists(st.floats(0, 3), min_size=1, max_size=20),
    trained=st.lists(st.floats(0, 3), min_size=1, max_size=10),
    seed=st.integers(0, 9),
)
def test_extrapolation_is_far_and_unseen(held_out, trained, seed):
    rng = random.Random(seed)
    queries = [HeldOut(str(angle), {f"d{rng.randrange(30)}": 1}) for angle in held_out]
    examples = [example(str(angle), f"d{rng.randrange(30)}#0") for angle in trained]
    positives = {e.positive.removesuffix("#0") for e in examples}
    places, bound = place(queries, examples, by_angle)
    assert len(places) == len(queries)
    for item, where in zip(queries, places, strict=True):
        expected = max(np.cos(float(item.query) - angle) for angle in trained)
        assert where.nearest == pytest.approx(expected, abs=1e-5)
        assert where.seen == bool(positives & set(item.relevant))
        assert (where.part == "extrapolation") == (where.nearest < bound and not where.seen)
    far = sum(where.nearest < bound for where in places)
    assert far <= len(queries) / 2
