"""First stages score rows as their definitions say, grow by parts, and never propose the wrong."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from retrail.core.errors import CorruptStore
from retrail.core.settings import LateCodec, Settings
from retrail.retrievers.centroids import Centroids
from retrail.retrievers.encoder import Encoded
from retrail.retrievers.first_stage import (
    AUTO_CENTROIDS,
    STAGES,
    FirstStage,
    build_stage,
    open_stage,
    propose,
    stage_of,
)
from retrail.retrievers.late import LateScorer, Layout
from retrail.retrievers.muvera import Muvera
from retrail.retrievers.stage_parts import Parts
from retrail.retrievers.vectors import VectorFiles, VectorWriter

DIM = 8
KINDS = sorted(STAGES)


def unit(rows: int, rng: np.random.Generator) -> np.ndarray:
    vectors = rng.normal(size=(rows, DIM)).astype(np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def corpus(lengths: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return unit(sum(lengths), np.random.default_rng(seed)), np.array(lengths, np.int64)


def fitted(kind: str) -> FirstStage:
    return STAGES[kind].fit(unit(2_000, np.random.default_rng(1)), 2_000)


def layout_of(rows: list[int]) -> Layout:
    n = len(rows)
    zeros = np.zeros(n, np.int64)
    return Layout(10 * np.arange(1, n + 1), np.arange(n), np.array(rows, np.int64), zeros, zeros)


# What a stage computes


def test_a_row_scores_its_best_probed_centroids_above_the_first_not_probed():
    tokens, lengths = corpus([3, 0, 7, 1, 30, 2])
    stage = fitted("centroids")
    assert isinstance(stage, Centroids)
    stage.add(tokens, lengths)
    flat = stage.parts.tables["fine"].reshape(-1, DIM)
    query = unit(5, np.random.default_rng(2))
    held = np.split(stage._nearest(tokens), np.cumsum(lengths)[:-1])
    expected = np.zeros(len(lengths))
    for similarities in query @ flat.T:
        floor = np.sort(similarities)[-stage.probes - 1]
        for row, centroids in enumerate(held):
            expected[row] += max([similarities[c] - floor for c in centroids] + [0])
    np.testing.assert_allclose(stage.scores(query), expected, atol=1e-5)
    assert expected.any()
    assert expected[1] == 0


def test_an_encoding_is_means_by_part_and_a_query_sums():
    tokens, lengths = corpus([4, 1, 0, 9])
    stage = fitted("muvera")
    stage.add(tokens, lengths)
    query = unit(3, np.random.default_rng(2))
    planes, projections = stage.parts.tables["planes"], stage.parts.tables["projections"]
    powers = 2 ** np.arange(planes.shape[2])
    passages = np.split(tokens, np.cumsum(lengths)[:-1])
    expected = np.zeros(len(lengths))
    for plane, projection in zip(planes, projections, strict=True):
        for token, place in zip(query, (query @ plane > 0) @ powers, strict=True):
            for row, passage in enumerate(passages):
                if not len(passage):
                    continue
                places = (passage @ plane > 0) @ powers
                if (places == place).any():
                    seen = passage[places == place].mean(axis=0)
                else:  # any of the nearest by Hamming distance; ours is the first of its part
                    far = np.array([bin(p ^ place).count("1") for p in places])
                    seen = passage[min(np.flatnonzero(far == far.min()), key=lambda t: places[t])]
                expected[row] += (token @ projection) @ (seen @ projection)
    np.testing.assert_allclose(stage.scores(query), expected, atol=0.05 * np.abs(expected).max())


@pytest.mark.parametrize("kind", KINDS)
def test_what_shares_its_tokens_with_the_query_comes_first(kind: str):
    tokens, lengths = corpus([12] * 60)
    stage = fitted(kind)
    stage.add(tokens, lengths)
    found = [int(stage.scores(tokens[12 * n : 12 * n + 6]).argmax()) for n in range(60)]
    assert np.mean(np.array(found) == np.arange(60)) > 0.9


# Growing


@given(st.lists(st.lists(st.integers(0, 5), max_size=9), min_size=1, max_size=8))
@pytest.mark.parametrize("kind", KINDS)
def test_parts_score_as_one_whole(kind: str, batches: list[list[int]]):
    tokens, lengths = corpus([length for batch in batches for length in batch])
    whole, parted = fitted(kind), fitted(kind)
    whole.add(tokens, lengths)
    for batch in batches:
        at = parted.parts.end
        start = int(lengths[:at].sum())
        parted.add(tokens[start : start + sum(batch)], np.array(batch, np.int64))
    assert parted.parts.end == len(lengths)
    query = unit(4, np.random.default_rng(2))
    np.testing.assert_allclose(parted.scores(query), whole.scores(query), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_few_parts_stay_and_those_of_before_are_linked(kind: str, tmp_path: Path):
    stage = fitted(kind)
    stage.add(*corpus([3] * 100))
    stage.parts.save(tmp_path / "1")
    again = open_stage(STAGES[kind], tmp_path / "1", 100)
    for n in range(40):
        again.add(*corpus([2], n))
    again.parts.save(tmp_path / "2", tmp_path / "1")
    assert len(again.parts.parts) <= 5
    assert [part.first for part in again.parts.parts][:2] == [0, 100]
    shared = [path for path in (tmp_path / "2").iterdir() if path.stat().st_nlink == 2]
    assert {path.name for path in shared} == {path.name for path in (tmp_path / "1").iterdir()}
    query = unit(3, np.random.default_rng(2))
    opened = open_stage(STAGES[kind], tmp_path / "2", 140)
    np.testing.assert_array_equal(opened.scores(query), again.scores(query))
    assert open_stage(STAGES[kind], tmp_path / "1", 100).parts.end == 100


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_missing_or_damaged_is_noticed(kind: str, tmp_path: Path):
    stage = fitted(kind)
    stage.add(*corpus([3] * 8))
    stage.parts.save(tmp_path / "kept")
    with pytest.raises(CorruptStore, match=r"a part of .* is missing: retrail doctor --rebuild"):
        open_stage(STAGES[kind], tmp_path / "kept", 9)
    for path in sorted((tmp_path / "kept").iterdir()):
        kept = path.read_bytes()
        path.write_bytes(b"no array")
        with pytest.raises(CorruptStore, match="damaged"):
            open_stage(STAGES[kind], tmp_path / "kept", 8)
        path.unlink()
        with pytest.raises(CorruptStore, match=r"damaged|missing"):
            open_stage(STAGES[kind], tmp_path / "kept", 8)
        path.write_bytes(kept)
    assert open_stage(STAGES[kind], tmp_path / "kept", 8).parts.end == 8


@pytest.mark.parametrize("codec", ["fp16", "int8", "kmeans", "binary"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_stage_over_vector_files_grows_and_is_fitted_again(
    kind: str, codec: LateCodec, tmp_path: Path
):
    files = VectorFiles(tmp_path / "vectors", dim=2, late_dim=DIM, codec=codec)
    places = np.zeros((0, 2), np.int64)

    def grow(count: int) -> None:
        nonlocal places
        rng = np.random.default_rng(len(places))
        batch = [Encoded(np.ones(2, np.float32), unit(6, rng)) for _ in range(count)]
        writer = VectorWriter(files, rows=len(places), tokens=6 * len(places))
        if writer.basis is None:
            writer.fit(batch)
        new = [(place.offset, place.length) for place in writer.append(batch)]
        writer.close()
        places = np.concatenate([places, np.array(new, np.int64).reshape(-1, 2)])

    def built(name: str, base: str | None) -> FirstStage:
        before = tmp_path / base if base else None
        build_stage(STAGES[kind], tmp_path / name, before, files, lambda first: places[first:])
        return open_stage(STAGES[kind], tmp_path / name, len(places))

    grow(40)
    first = built("1", None)
    grow(5)
    second = built("2", "1")
    grow(200)
    third = built("3", "2")
    fits = [int(stage.parts.tables["fitted"]) for stage in (first, second, third)]
    assert fits == [40, 40, 245]
    layout = Layout(*np.arange(5 * 245).reshape(5, 245))._replace(
        ids=np.arange(245), rows=np.arange(245), offsets=places[:, 0], lengths=places[:, 1]
    )
    basis = files.basis
    assert basis is not None
    scorer = LateScorer(layout, files.tokens(DIM), basis, files.codec)
    query = unit(6, np.random.default_rng(0))
    proposed = propose(third, scorer.project(query), layout, 60)
    best = scorer.score(query, layout.ids).ids[:5]
    assert np.isin(best, proposed).sum() >= 3


# What is proposed


@pytest.mark.parametrize("kind", KINDS)
@given(
    rows=st.lists(st.integers(0, 19), max_size=30),
    depth=st.integers(1, 12),
    asked=st.none() | st.sets(st.integers(-5, 320)),
)
def test_only_what_is_alive_and_admitted_is_proposed(
    kind: str, rows: list[int], depth: int, asked: set[int] | None
):
    """Rows without a passage never, rows of several passages for each, and as many as there are."""
    stage, layout = fitted(kind), layout_of(rows)
    stage.add(*corpus([4] * 20))
    within = None if asked is None else np.array(sorted(asked), np.int64)
    found = propose(stage, unit(3, np.random.default_rng(3)), layout, depth, within)
    allowed = set(layout.ids.tolist()) & (set(layout.ids.tolist()) if asked is None else asked)
    assert set(found.tolist()) <= allowed
    assert len(set(found.tolist())) == len(found) == min(depth, len(allowed))
    assert found.tolist() == sorted(found.tolist())


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_by_score_are_proposed(kind: str):
    stage, layout = fitted(kind), layout_of(list(range(20)))
    stage.add(*corpus([4] * 20))
    query = unit(3, np.random.default_rng(3))
    scores = stage.scores(query)
    found = propose(stage, query, layout, 6)
    assert scores[found // 10 - 1].min() >= np.sort(scores)[-6]


# Choosing


def test_auto_goes_by_size_and_the_others_by_name():
    auto = Settings()
    assert stage_of(auto, 14_000) == "union"
    assert stage_of(auto, AUTO_CENTROIDS - 1) == "union"
    assert stage_of(auto, AUTO_CENTROIDS) == "centroids"
    for name in ("union", "centroids", "muvera"):
        assert stage_of(Settings(late_stage=name), 10) == name


def test_a_stage_keeps_no_gap(tmp_path: Path):
    stage = Muvera.fit(unit(1, np.random.default_rng(0)), 1)
    stage.add(*corpus([3] * 8))
    stage.add(*corpus([3]))
    stage.parts.save(tmp_path / "kept")
    for path in (tmp_path / "kept").glob("0000000000-*"):
        path.unlink()
    with pytest.raises(CorruptStore, match="is missing"):
        Parts.open(tmp_path / "kept")
