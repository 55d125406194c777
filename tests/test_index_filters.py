"""One filter, one candidate set: every retriever finds exactly what ``Filter.matches`` admits."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from retrail.core.documents import Document
from retrail.core.errors import ConfigError, FilterError
from retrail.core.filters import Comparison, Filter, parse_filter
from retrail.core.settings import EMBEDDED_ENCODER, Settings
from retrail.retrievers import RETRIEVERS, By, Encoder, Index, Retriever

SOURCES, TAGS = ["BBC", "Reuters", "bbc"], ["war", "Sport", "art", "trade"]
DAY = datetime(2023, 9, 28, tzinfo=UTC)
COUNT = 60
QUERY = "report on the news"


def metadata(n: int) -> dict[str, Any]:
    """Make fields that are missing, listed, of several kinds, or of the same value often."""
    fields: dict[str, Any] = {"source": SOURCES[n % 3], "n": n, "even": n % 2 == 0}
    fields["date"] = (DAY + timedelta(days=n // 4)).date().isoformat()
    if n % 5:
        fields["tags"] = [TAGS[i % 4] for i in range(n, n + n % 3)]
    if n % 7 == 0:
        fields["rating"] = n / 2
    return fields


def document(n: int) -> Document:
    # Two passages in every third document; a word of the query in each passage.
    text = f"Report {n} on things. " + ("The report goes on, with more words. " * 9 * (n % 3 == 0))
    title = f"News {n}" if n % 4 else ""
    return Document(id=f"d{n}", title=title, text=text, metadata=metadata(n))


DOCUMENTS = [document(n) for n in range(COUNT)]


@pytest.fixture(scope="module", params=["chroma", "qdrant"])
def index(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, static_sparse: str
) -> Iterator[Index]:
    encoder = Encoder.load(EMBEDDED_ENCODER, precision="float32")
    chosen = Settings(chunk_tokens=60, vector_backend=request.param, sparse_encoder=static_sparse)
    opened = Index(tmp_path_factory.mktemp("kb"), chosen, encoder)
    opened.add(DOCUMENTS)
    opened.add([document(1), Document(id="gone", text="A report.", metadata={"source": "BBC"})])
    opened.remove(["gone"])
    yield opened
    opened.close()


def admitted(where: Filter) -> set[str]:
    fields = ({"title": d.title} if d.title else {} for d in DOCUMENTS)
    return {
        d.id for d, more in zip(DOCUMENTS, fields, strict=True) if where.matches(more | d.metadata)
    }


def found(index: Index, by: Retriever, where: Any, k: int = COUNT, **options: Any) -> set[str]:
    hits = index.search(QUERY, by=by, k=k, where=where, **options)
    assert len({hit.doc_id for hit in hits}) == len(hits)
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
    return {hit.doc_id for hit in hits}


WHERE = [
    "source = 'BBC'",
    "source != 'BBC'",
    "not source = 'BBC' and n < 40",
    "source in ('bbc', 'Reuters')",
    "source contains 'b'",
    "n = 7",
    "n >= 58 or n < 1",
    "n > 1000",
    "even = true",
    "date = 2023-10",
    "date > 2023-09-30 and date <= 2023-10-03",
    "date >= 2023",
    "tags exists",
    "not tags exists",
    "tags = 'war'",
    "tags != 'war'",
    "tags contains 'a' and not (source = 'BBC' or n > 30)",
    "rating > 3",
    "not rating > 3",
    "title contains 'news 1'",
    "not title exists",
    {"source": "BBC", "n": {">=": 20}},
]


@pytest.mark.parametrize("where", WHERE, ids=str)
def test_all_retrievers_see_the_same_candidates(index: Index, where: Any):
    parsed = parse_filter(where)
    assert parsed is not None
    expected = admitted(parsed)
    assert {by: found(index, by, where) for by in RETRIEVERS} == dict.fromkeys(RETRIEVERS, expected)
    ways: tuple[By, ...] = ("keyword", "dense", "late", "sparse")
    for by in ways:
        assert found(index, "filtered", where, rank_by=by) == expected
    listed = index.search("", by="filtered", where=where, k=COUNT)
    assert [hit.doc_id for hit in listed] == [d.id for d in DOCUMENTS if d.id in expected]


COMPARISONS = st.one_of(
    st.builds(
        lambda field, op, value: Comparison(field=field, op=op, value=value),
        st.sampled_from(["n", "rating"]),
        st.sampled_from(["=", "!=", "<", "<=", ">", ">="]),
        st.one_of(st.integers(-1, COUNT), st.sampled_from([3.5, 0.1, 10])),
    ),
    st.builds(
        lambda field, op, value: Comparison(field=field, op=op, value=value),
        st.sampled_from(["source", "tags"]),
        st.sampled_from(["=", "!=", "<", ">=", "contains"]),
        st.sampled_from([*SOURCES, *TAGS, "", "a"]),
    ),
    st.builds(
        lambda op, day: Comparison(field="date", op=op, value=day),
        st.sampled_from(["=", "!=", "<", "<=", ">", ">="]),
        st.sampled_from(["2023-09-28", "2023-10-03", "2023-10", "2023", "2024-01-01T12:00:00Z"]),
    ),
    st.builds(
        lambda field: Comparison(field=field, op="exists", value=True),
        st.sampled_from(["rating", "tags", "title", "source"]),
    ),
    st.builds(lambda values: Comparison(field="source", op="in", value=values), st.just(SOURCES)),
)
FILTERS = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        st.builds(lambda a, b: a & b, inner, inner),
        st.builds(lambda a, b: a | b, inner, inner),
        st.builds(lambda a: ~a, inner),
    ),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def scores(index: Index) -> dict[Retriever, dict[str, float]]:
    """Score every document by its best passage, by dense from the stored vectors one by one."""
    snapshot = index.snapshot()
    ways: tuple[Retriever, ...] = ("keyword", "late")
    found: dict[Retriever, dict[str, float]] = {
        by: {hit.doc_id: hit.score for hit in index.search(QUERY, by=by, k=COUNT)} for by in ways
    }
    found["dense"] = dict.fromkeys(found["late"], -1.0)
    cosines = snapshot._dense_vectors[snapshot.layout.rows] @ index.encoder().query(QUERY).dense
    passages = index.corpus.passages(snapshot.layout.ids.tolist())
    for passage, cosine in zip(passages.values(), cosines.tolist(), strict=True):
        found["dense"][passage.doc_id] = max(found["dense"][passage.doc_id], cosine)
    assert all(len(known) == COUNT for known in found.values())
    return found


@given(where=FILTERS)
@settings(max_examples=200)
def test_any_filter_gives_one_candidate_set_and_the_best_of_it(
    index: Index, scores: dict[Retriever, dict[str, float]], where: Filter
):
    expected = admitted(where)
    for by in RETRIEVERS:
        assert found(index, by, where) == expected, by
    for by, known in scores.items():
        best = sorted((known[doc_id] for doc_id in expected), reverse=True)[:10]
        hits = index.search(QUERY, by=by, k=10, where=where)
        assert [hit.score for hit in hits] == pytest.approx(best, abs=1e-5), by


@pytest.mark.parametrize("by", ["keyword", "dense", "late", "sparse"])
def test_a_filter_changes_no_score(index: Index, by: Retriever):
    everywhere = {hit.passage.id: hit.score for hit in index.search(QUERY, by=by, k=COUNT)}
    for where in ("n < 3", "source = 'BBC'", "n >= 0"):
        hits = index.search(QUERY, by=by, k=COUNT, where=where)
        expected = [everywhere[hit.passage.id] for hit in hits]
        assert [hit.score for hit in hits] == pytest.approx(expected, abs=1e-5)
        assert len(hits) > 0


@pytest.mark.parametrize("by", RETRIEVERS)
def test_the_best_of_the_admitted_are_found_however_few_candidates_are_taken(
    index: Index, by: Retriever
):
    narrow = Index(index.root, index.settings.model_copy(update={"candidates": 1}), index.encoder())
    where = "source = 'Reuters' and n > 20"
    assert len(found(narrow, by, where, k=5)) == 5
    assert len(found(narrow, by, where, k=13)) == 13
    assert found(narrow, by, where, k=COUNT) == {f"d{n}" for n in range(22, COUNT, 3)}
    narrow.close()


@pytest.mark.parametrize(
    ("order_by", "first", "last"),
    [("n", "d0", "d59"), ("-n", "d59", "d0"), ("date", "d0", "d59"), ("-rating", "d56", "d59")],
)
def test_listing_orders_by_a_field_and_puts_those_without_it_last(
    index: Index, order_by: str, first: str, last: str
):
    hits = index.search("", by="filtered", where="n >= 0", order_by=order_by, k=COUNT)
    assert (hits[0].doc_id, hits[-1].doc_id, len(hits)) == (first, last, COUNT)
    few = index.search("", by="filtered", where="n >= 0", order_by=order_by, k=3)
    assert few == hits[:3]


def test_filters_that_cannot_match_are_refused(index: Index):
    for by in RETRIEVERS:
        with pytest.raises(FilterError, match="unknown field 'sorce', did you mean 'source'"):
            index.search(QUERY, by=by, where="sorce = 'BBC'")
        with pytest.raises(FilterError, match="holds number values"):
            index.search(QUERY, by=by, where="n = 'seven'")
    with pytest.raises(FilterError, match="unknown field 'nn'"):
        index.search("", by="filtered", where="n > 3", order_by="nn")


@pytest.mark.parametrize("nothing", [None, "", "  ", {}, "{}"])
def test_filtered_search_needs_a_filter_and_the_others_do_not(index: Index, nothing: Any):
    with pytest.raises(ConfigError, match="filtered search needs a filter: pass where"):
        index.search(QUERY, by="filtered", where=nothing)
    assert found(index, "keyword", nothing) == {d.id for d in DOCUMENTS}
