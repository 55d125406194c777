"""Fused and boosted scores, to the digit; rankings keep their order whatever the input's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from retrail.core.documents import Passage
from retrail.retrievers.boosts import boost
from retrail.retrievers.fusion import RRF_K, fuse
from retrail.retrievers.ranked import Ranked

ONES = {"a": 1.0, "b": 1.0, "c": 1.0}
A = Ranked.of([1, 2, 3], [9.0, 5.0, 1.0])
B = Ranked.of([2, 3], [0.9, 0.1])

SCORES = st.dictionaries(
    st.integers(0, 30), st.floats(-100, 100, width=32, allow_subnormal=False), max_size=20
)


def ranked(scores: dict[int, float]) -> Ranked:
    return Ranked.of(list(scores), list(scores.values()))


def as_dict(found: Ranked) -> dict[int, float]:
    return dict(zip(found.ids.tolist(), found.scores.tolist(), strict=True))


# Ranked


@given(SCORES)
def test_rankings_go_by_falling_score_then_rising_id(scores: dict[int, float]):
    found = ranked(scores)
    rows = list(zip(found.ids.tolist(), found.scores.tolist(), strict=True))
    assert rows == sorted(rows, key=lambda row: (-row[1], row[0]))
    assert dict(rows) == scores
    assert ranked(dict(reversed(scores.items()))).ids.tolist() == found.ids.tolist()


def test_top_keeps_the_best():
    assert as_dict(A.top(2)) == {1: 9.0, 2: 5.0}
    assert as_dict(A.top(0)) == as_dict(Ranked.empty()) == {}
    assert A.top(9).ids.tolist() == [1, 2, 3]


# Reciprocal ranks


def test_rrf_sums_reciprocal_ranks():
    assert RRF_K == 60
    found = fuse({"a": A, "b": B}, ONES, "rrf")
    assert found.ids.tolist() == [2, 3, 1]
    assert found.scores.tolist() == pytest.approx([1 / 62 + 1 / 61, 1 / 63 + 1 / 62, 1 / 61])


def test_rrf_weighs_each_retriever():
    found = fuse({"a": A, "b": B}, {"a": 3.0, "b": 0.5}, "rrf")
    assert as_dict(found) == pytest.approx(
        {1: 3 / 61, 2: 3 / 62 + 0.5 / 61, 3: 3 / 63 + 0.5 / 62}, rel=1e-6
    )


@given(SCORES, SCORES)
def test_rrf_sees_ranks_only(first: dict[int, float], second: dict[int, float]):
    def ranks_as_scores(found: Ranked) -> Ranked:
        return Ranked.of(found.ids, -np.arange(len(found.ids), dtype=np.float32) * 1000)

    rankings = {"a": ranked(first), "b": ranked(second)}
    stretched = {name: ranks_as_scores(found) for name, found in rankings.items()}
    assert as_dict(fuse(rankings, ONES, "rrf")) == as_dict(fuse(stretched, ONES, "rrf"))


# Standard scores


def test_zscores_are_summed_and_the_unscored_count_as_the_lowest():
    # a: mean 5, deviation sqrt(32/3). b: row 1 takes 0.1, the mean of 0.1, 0.9, 0.1 is 11/30.
    spread_a, mean_b = (32 / 3) ** 0.5, 11 / 30
    spread_b = (((0.1 - mean_b) ** 2 * 2 + (0.9 - mean_b) ** 2) / 3) ** 0.5
    found = fuse({"a": A, "b": B}, ONES)
    assert as_dict(found) == pytest.approx(
        {
            1: 4 / spread_a + (0.1 - mean_b) / spread_b,
            2: 0 + (0.9 - mean_b) / spread_b,
            3: -4 / spread_a + (0.1 - mean_b) / spread_b,
        },
        abs=1e-6,
    )
    assert found.ids.tolist() == [2, 1, 3]


def test_zscores_do_not_depend_on_a_retrievers_scale():
    shifted = Ranked.of(B.ids, B.scores * 250 - 40)
    plain, scaled = fuse({"a": A, "b": B}, ONES), fuse({"a": A, "b": shifted}, ONES)
    assert as_dict(plain) == pytest.approx(as_dict(scaled), abs=1e-5)


def test_a_retriever_that_does_not_distinguish_decides_nothing():
    flat = Ranked.of([1, 2, 3], [0.5, 0.5, 0.5])
    assert as_dict(fuse({"a": A, "b": flat}, ONES)) == as_dict(fuse({"a": A}, ONES))
    assert as_dict(fuse({"b": flat}, ONES)) == {1: 0.0, 2: 0.0, 3: 0.0}


@pytest.mark.parametrize("method", ["zscore", "rrf"])
def test_weights_of_nothing_and_rankings_of_nothing(method):
    assert as_dict(fuse({}, ONES, method)) == {}
    assert as_dict(fuse({"a": Ranked.empty(), "b": Ranked.empty()}, ONES, method)) == {}
    both = fuse({"a": A, "b": Ranked.empty()}, ONES, method)
    assert as_dict(both) == as_dict(fuse({"a": A}, ONES, method))
    switched_off = fuse({"a": A, "b": B}, {"a": 1.0, "b": 0.0}, method)
    assert switched_off.ids.tolist() == [1, 2, 3]
    assert as_dict(fuse({"a": A}, {}, method)) == {1: 0.0, 2: 0.0, 3: 0.0}


@pytest.mark.parametrize("method", ["zscore", "rrf"])
@given(first=SCORES, second=SCORES, third=SCORES)
def test_fusion_ranks_the_union_and_no_order_of_retrievers_matters(method, first, second, third):
    rankings = {"a": ranked(first), "b": ranked(second), "c": ranked(third)}
    found = fuse(rankings, ONES, method)
    assert set(found.ids.tolist()) == {*first, *second, *third}
    assert np.isfinite(found.scores).all()
    turned = fuse(dict(reversed(rankings.items())), ONES, method)
    assert as_dict(turned) == pytest.approx(as_dict(found), abs=1e-4)


# Boosts


PASSAGES = {
    1: Passage("p#0", "p", 0, 4, "Late Interaction", "text", "https://www.example.org/late"),
    2: Passage("q#0", "q", 0, 4, "", "text", None, {"tag": ["late", "fast"], "year": 2020}),
}


def boosted(query: str, boosts: dict[str, float], score: float = 1.0) -> dict[int, float]:
    return as_dict(boost(Ranked.of([1, 2, 3], [score, score, score]), query, boosts, PASSAGES))


def test_boosts_add_the_share_of_a_fields_words_that_the_query_holds():
    assert boosted("late INTERACTION models", {"title": 0.5}) == {1: 1.5, 2: 1.0, 3: 1.0}
    assert boosted("is it late?", {"title": 0.5}) == {1: 1.25, 2: 1.0, 3: 1.0}
    assert boosted("on time", {"title": 0.5, "tag": 2.0}) == {1: 1.0, 2: 1.0, 3: 1.0}


def test_boosts_read_the_host_and_any_metadata_field():
    assert boosted("the example.org pages", {"host": 1.0}) == {1: 2.0, 2: 1.0, 3: 1.0}
    assert boosted("fast cars of 2020", {"tag": 1.0, "year": 0.25}) == {1: 1.0, 2: 1.75, 3: 1.0}


def test_boosts_order_the_ranking_anew():
    found = boost(A, "late", {"title": 10.0}, {3: PASSAGES[1]})
    assert found.ids.tolist() == [1, 3, 2]
    assert found.scores.tolist() == [9.0, 6.0, 5.0]
