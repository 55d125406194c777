"""Filters said in an engine's own language admit what ``Filter.matches`` admits, or are refused."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from retrail.core.filters import Comparison, Filter, parse_filter
from retrail.retrievers.backends import VectorBackend, VectorSchema
from retrail.retrievers.backends.chroma import ChromaBackend
from retrail.retrievers.backends.predicates import MAX_COMPARISONS, predicate
from retrail.retrievers.backends.qdrant import MEMORY, QdrantBackend

COUNT = 120
FIELDS = ["a", "b.c", "d'\"é", "missing"]
NUMBERS = [0, -0.0, 1, 1.5, -3, 2**53, 2**53 + 1, 10**30, float("nan"), float("inf")]
TEXTS = ["", "x", "X", "ξ", "1", "2023", "true", "$eq", "2023-02-30"]
DAYS = ["2023-01-01", "2023-01-01T00:00:00Z", "2023-01-31T23:30:00-02:00", "1970-01-01T00:00Z"]
FINITE = [value for value in NUMBERS if abs(value) < 1e300]
LITERALS = st.sampled_from([*FINITE, *TEXTS, *DAYS, True, False, 2023, "2023-01"])
COMPARISONS = st.one_of(
    st.builds(
        lambda field, op, value: Comparison(field=field, op=op, value=value),
        st.sampled_from(FIELDS),
        st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "contains"]),
        LITERALS,
    ),
    st.builds(
        lambda field, values: Comparison(field=field, op="in", value=values),
        st.sampled_from(FIELDS),
        st.lists(LITERALS, max_size=3),
    ),
    st.builds(
        lambda field: Comparison(field=field, op="exists", value=True), st.sampled_from(FIELDS)
    ),
)
FILTERS = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        st.builds(lambda a, b: a & b, inner, inner),
        st.builds(lambda a, b: a | b, inner, inner),
        st.builds(lambda a: ~a, inner),
    ),
    max_leaves=4,
)
QUERY = np.array([1, 0], np.float32)


def examples(count: int) -> list[dict[str, Any]]:
    """Make metadata in which fields are missing, single, listed, empty and of all kinds."""
    rng = np.random.default_rng(0)
    pool: list[Any] = [*NUMBERS, *TEXTS, *DAYS, True, False]
    found: list[dict[str, Any]] = [{} for _ in range(count)]
    for metadata in found:
        for field in FIELDS[:3]:
            if rng.random() < 0.8:
                values = [pool[i] for i in rng.integers(len(pool), size=rng.integers(4))]
                metadata[field] = values[0] if len(values) == 1 else values
    return found


PAYLOAD = examples(COUNT)


@pytest.fixture(scope="module", params=["chroma", "qdrant"])
def backend(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[VectorBackend]:
    schema = VectorSchema(2)
    if request.param == "chroma":
        opened: VectorBackend = ChromaBackend(
            tmp_path_factory.mktemp("kb"), "passages", schema, create=True
        )
    else:
        opened = QdrantBackend(MEMORY, "passages", schema, create=True)
    vectors = np.tile(QUERY, (COUNT, 1))
    opened.add(np.arange(COUNT), dense=vectors, payload=PAYLOAD)
    yield opened
    opened.close()


@given(where=FILTERS)
@settings(max_examples=200)
def test_admits_what_the_filter_matches(backend: VectorBackend, where: Filter):
    if backend.pushes(where):
        found = backend.search(QUERY, COUNT, where=where)
        expected = [n for n, metadata in enumerate(PAYLOAD) if where.matches(metadata)]
        assert sorted(found.ids.tolist()) == expected, str(where)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("a = 'x'", {"chroma", "qdrant"}),
        ("a != 'x' and not b exists", {"chroma", "qdrant"}),
        ("a in ('x', 1, true)", {"chroma", "qdrant"}),
        ("a > 1 and a <= 7.5", {"chroma", "qdrant"}),
        ("a >= 2023-01-31", {"chroma", "qdrant"}),
        ("a = 2023-01-31", {"qdrant"}),
        ("a < 'x'", set()),
        ("a contains 'x'", set()),
        (f"a > {2**53}", set()),
    ],
)
def test_which_filters_are_pushed_down(backend: VectorBackend, where: str, said: set[str]):
    parsed = parse_filter(where)
    assert parsed
    assert backend.pushes(parsed) == (
        type(backend).__name__.removesuffix("Backend").lower() in said
    )


def test_a_filter_of_very_many_parts_is_not_sent():
    part = Comparison(field="a", op="=", value=1)
    few: Filter = part
    for _ in range(MAX_COMPARISONS - 1):
        few = few & part
    assert predicate(few)
    assert predicate(few & part) is None
