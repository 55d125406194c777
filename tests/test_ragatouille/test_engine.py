"""The engine ranks as brute force over the same vectors does, whatever is admitted."""

import json
import random
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from retrail.core.errors import BackendUnavailable, ConfigError, CorruptStore, IndexMismatch
from retrail.retrievers import ragatouille
from retrail.retrievers.ragatouille import Match, Passage, RagatouilleEngine

QUERIES = ("law protecting bees", "how were violins drawn", "lighthouses in winter")


def maxsim(engine: RagatouilleEngine, query: str) -> dict[str, float]:
    """Score every passage by its definition, over vectors that were never compressed."""
    ids = list(engine._numbers)
    vectors = engine.encode_query(query)
    matrices = engine.encode([engine.text(each) for each in ids])
    return {i: float((m @ vectors.T).max(0).sum()) for i, m in zip(ids, matrices, strict=True)}


@pytest.mark.parametrize("query", QUERIES)
def test_scores_are_maxsim_up_to_compression(engine: RagatouilleEngine, query: str) -> None:
    exact = maxsim(engine, query)
    found = dict(engine.search(query, len(exact)))
    assert found.keys() == exact.keys()
    scores = np.array([[exact[each], found[each]] for each in exact])
    assert np.corrcoef(scores.T)[0, 1] > 0.99
    best = max(exact, key=lambda each: exact[each])
    assert best in [match.id for match in engine.search(query, 3)]


@pytest.mark.parametrize("seed", range(5))
def test_a_set_is_ranked_as_in_the_whole(engine: RagatouilleEngine, seed: int) -> None:
    chance = random.Random(seed)
    query = chance.choice(QUERIES)
    within = chance.sample(sorted(engine._numbers), chance.randint(1, len(engine)))
    whole = engine.search(query, len(engine))
    expected = [match for match in whole if match.id in within]
    found = engine.search(query, len(engine), within=[*within, "unknown"])
    assert [match.id for match in found] == [match.id for match in expected]
    assert [m.score for m in found] == pytest.approx([m.score for m in expected], abs=1e-4)


@pytest.mark.parametrize("size", [None, 3, 20, 50])
def test_probing_keeps_to_the_set_and_finds_nearly_all(
    engine: RagatouilleEngine, size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = sorted(engine._numbers)
    within = None if size is None else random.Random(size).sample(ids, size)
    exact = {query: engine.search(query, 10, within) for query in QUERIES}
    monkeypatch.setattr(ragatouille, "EXHAUSTIVE", 0)
    shared = 0
    for query, expected in exact.items():
        found = engine.search(query, 10, within)
        assert len(found) == len(expected)
        assert {match.id for match in found} <= set(ids if within is None else within)
        shared += len({match.id for match in found} & {match.id for match in expected})
    assert shared >= 0.9 * sum(map(len, exact.values()))


@pytest.mark.parametrize(
    ("query", "k", "within"),
    [("", 5, None), (" \n", 5, None), ("bees", 0, None), ("bees", 5, []), ("bees", 5, ["none"])],
)
def test_nothing_to_find(
    engine: RagatouilleEngine, query: str, k: int, within: list[str] | None
) -> None:
    assert engine.search(query, k, within) == []


def test_odd_queries_are_answered(engine: RagatouilleEngine) -> None:
    for query in ("?", "bees " * 2000, "第三 😀", "[MASK] [PAD] [unused0]"):
        found = engine.search(query, 5)
        assert len(found) == 5
        assert all(np.isfinite(match.score) for match in found)


def test_threads_get_what_one_gets(engine: RagatouilleEngine) -> None:
    alone = [engine.search(query, 5) for query in QUERIES]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda query: engine.search(query, 5), QUERIES * 4))
    assert together == alone * 4


def test_rerank_needs_no_index(engine: RagatouilleEngine) -> None:
    texts = ["Tea is dear.", "Bees are protected by a law.", "Bridges rust."]
    found = engine.rerank("law protecting bees", texts)
    assert found[0][0] == 1
    assert sorted(position for position, _ in found) == [0, 1, 2]
    assert engine.rerank("law protecting bees", []) == []


def test_langchain_retriever_gives_ids_and_scores(engine: RagatouilleEngine) -> None:
    documents = engine.as_retriever(k=2).invoke(QUERIES[0])
    expected = engine.search(QUERIES[0], 2)
    assert [Match(d.metadata["passage_id"], d.metadata["score"]) for d in documents] == expected
    assert [document.page_content for document in documents] == [
        engine.text(match.id) for match in expected
    ]


def test_nothing_is_printed(engine: RagatouilleEngine, capfd: pytest.CaptureFixture[str]) -> None:
    RagatouilleEngine.open(engine.folder).search("bees")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_changes_are_seen_at_once_and_by_others(
    copied: Callable[[str], Path], checkpoint: Path
) -> None:
    engine = RagatouilleEngine.open(copied("moved"), checkpoint)
    texts = {each: engine.text(each) for each in engine._numbers}
    engine.delete(["zebras#0", "tea#6"])
    assert "zebras#0" not in {match.id for match in engine.search("zebras travellers", 60)}
    engine.add([Passage("new", "Submarines carry periscopes."), Passage("zebras#0", "Zebras!")])
    assert engine.search("a periscope of a submarine", 1)[0].id == "new"
    expected = texts | {"new": "Submarines carry periscopes.", "zebras#0": "Zebras!"}
    del expected["tea#6"]
    for opened in (engine, RagatouilleEngine.open(engine.folder, checkpoint)):
        assert {each: opened.text(each) for each in opened._numbers} == expected
        assert len(opened.search("zebras", 100)) == len(expected)
    assert sorted(path.name for path in engine.folder.parent.iterdir()) == ["moved", "moved.lock"]


def test_an_index_may_be_empty(checkpoint: Path, tmp_path: Path) -> None:
    engine = RagatouilleEngine.build(tmp_path / "empty", checkpoint, [])
    assert (len(engine), engine.search("bees")) == (0, [])
    engine.add([Passage("one", "Bees make honey."), Passage("two", "Tea.")])
    assert [match.id for match in engine.search("honey of bees", 5)] == ["one", "two"]
    engine.delete(["one", "two"])
    assert (len(engine), engine.search("bees")) == (0, [])


def test_a_failed_change_leaves_the_index(copied: Callable[[str], Path], checkpoint: Path) -> None:
    engine = RagatouilleEngine.open(copied("kept"), checkpoint)
    with pytest.raises(BackendUnavailable, match=r"took longer than 0\.01 seconds"):
        engine.delete(["zebras#0"], timeout=0.01)
    assert "zebras#0" in engine
    assert "zebras#0" in RagatouilleEngine.open(engine.folder, checkpoint)
    assert sorted(path.name for path in engine.folder.parent.iterdir()) == ["kept", "kept.lock"]


def test_another_checkpoint_at_the_place_of_the_first_is_refused(
    copied: Callable[[str], Path], checkpoint: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(checkpoint, tmp_path / "other"))
    weights = other / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(IndexMismatch, match=r"weights of .* changed"):
        RagatouilleEngine.open(copied("again"), other)


def test_wrong_requests_are_named(engine: RagatouilleEngine, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="exists"):
        RagatouilleEngine.build(engine.folder, engine.model, [])
    for passages in (
        [Passage("a", "x"), Passage("a", "y")],
        [Passage(" ", "x")],
    ):
        with pytest.raises(ConfigError, match="repeated"):
            RagatouilleEngine.build(tmp_path / "new", engine.model, passages)
    with pytest.raises(ConfigError, match="no ColBERT checkpoint"):
        RagatouilleEngine.build(tmp_path / "new", tmp_path / "nothing", [])
    with pytest.raises(ConfigError, match="'zebras#0'"):
        engine.add([Passage("zebras#0", "again")])
    with pytest.raises(ConfigError, match="'unknown' is not indexed"):
        engine.delete(["unknown"])
    with pytest.raises(CorruptStore, match="holds no index"):
        RagatouilleEngine.open(tmp_path)
    (tmp_path / "engine.json").write_text(json.dumps({"model": 1}), encoding="utf-8")
    with pytest.raises(CorruptStore, match="holds no index"):
        RagatouilleEngine.open(tmp_path)
