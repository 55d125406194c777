"""Any filter over any corpus: SQL selects what brute force matches, both forms read back."""

import json
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from retrail.core.filters import (
    MAX_COMPARISONS,
    MAX_LITERALS,
    And,
    Comparison,
    Filter,
    Not,
    Or,
    parse_filter,
)
from retrail.retrievers.filter_sql import compile_filter, metadata_rows, register_functions

BIG = 2**53


def compare(field: str, op: str, value: Any = True) -> Comparison:
    return Comparison.model_validate({"field": field, "op": op, "value": value})


def parsed(source: str | Mapping[str, Any]) -> Filter:
    found = parse_filter(source)
    assert found is not None
    return found


def matching(source: str | Filter, *corpus: Mapping[str, Any]) -> list[int]:
    found = parsed(source) if isinstance(source, str) else source
    return [n for n, metadata in enumerate(corpus) if found.matches(metadata)]


def corpus_database(corpus: Iterable[Mapping[str, Any]]) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    register_functions(connection)
    connection.executescript(
        "CREATE TABLE documents(id INTEGER PRIMARY KEY);"
        "CREATE TABLE metadata(document INTEGER NOT NULL, field TEXT NOT NULL,"
        " kind TEXT NOT NULL, text TEXT, number REAL);"
        "CREATE INDEX by_text ON metadata(field, kind, text);"
        "CREATE INDEX by_number ON metadata(field, kind, number);"
    )
    for n, metadata in enumerate(corpus):
        connection.execute("INSERT INTO documents VALUES (?)", (n,))
        rows = [(n, *row) for row in metadata_rows(metadata)]
        connection.executemany("INSERT INTO metadata VALUES (?, ?, ?, ?, ?)", rows)
    return connection


def select(connection: sqlite3.Connection, found: Filter) -> list[int]:
    return [row[0] for row in connection.execute(*compile_filter(found))]


# Values that meet: several spellings of an instant, of a year, of a number.
TEXTS = [
    "", "a", "B", "b", "ab", "AB", "straße", "STRASSE", "it's", "z\\'", "é", "𝒳", "\uffff", "x\0y",
]  # fmt: skip
DATES = [
    "2023", "2023-10", "2023-10-01", "2023-10-01T00:00:00Z", "2023-10-01T01:00:00+01:00",
    "2023-10-01 23:59:59.999999", "2023-10-02", "2023-11-01", "2024-01-01T00:30:00+01:00",
    "2024-02-29", "2023-02-29", "1969-12-31T23:59:59.5Z", "0001-01-01T00:00:00+14:00",
    "9999-12-31", "9999-12-31T23:59:59-12:00",
]  # fmt: skip
NUMBERS = [0, -0.0, 1, 1.0, -3, 0.5, 2022, 2023, 2023.0, 2023.5, 3000, 1e300, -1e-7]
LARGE = [
    BIG - 1, BIG, BIG + 1, float(BIG), BIG + 2, -BIG - 1, 10**18, 10**18 + 1, 2**64 + 1, 10**300,
]  # fmt: skip
LITERALS = st.one_of(
    st.sampled_from(TEXTS),
    st.sampled_from(DATES),
    st.sampled_from(NUMBERS),
    st.sampled_from(LARGE),
    st.booleans(),
    st.dates().map(str),
    st.datetimes(timezones=st.just(timezone(timedelta(hours=-5)))).map(datetime.isoformat),
    st.text(max_size=5),
    st.integers(-(10**30), 10**30),
    st.floats(allow_nan=False, allow_infinity=False),
)
FIELDS = st.sampled_from(["a", "b", "odd `field`", "in", "x.y-z"])
SCALARS = LITERALS | st.sampled_from([float("nan"), float("inf"), -float("inf"), 10**400])
METADATA = st.dictionaries(FIELDS, SCALARS | st.lists(SCALARS, max_size=3), max_size=4)
COMPARISONS = st.one_of(
    st.builds(
        compare, FIELDS, st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "contains"]), LITERALS
    ),
    st.builds(compare, FIELDS, st.just("in"), st.lists(LITERALS, max_size=12)),
    st.builds(compare, FIELDS, st.just("exists")),
)
FILTERS: st.SearchStrategy[Filter] = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=4).map(lambda parts: And(all=tuple(parts))),
        st.lists(inner, min_size=2, max_size=4).map(lambda parts: Or(any=tuple(parts))),
        inner.map(lambda part: Not(inner=part)),
    ),
    max_leaves=8,
)


@settings(max_examples=400)
@given(st.lists(METADATA, max_size=8), FILTERS)
def test_sql_selects_what_brute_force_matches(corpus: list[dict[str, Any]], found: Filter):
    with closing(corpus_database(corpus)) as connection:
        assert sorted(select(connection, found)) == matching(found, *corpus)


def test_every_pair_of_values_compares_alike_in_sql_and_by_brute_force():
    scalars = [*TEXTS, *DATES, *NUMBERS, *LARGE, True, False, float("inf"), float("nan"), 10**400]
    corpus = [{"a": scalar} for scalar in scalars] + [{"a": ["ab", 2023]}, {"a": []}, {"b": "ab"}]
    literals = [*TEXTS, *DATES, *NUMBERS, *LARGE, True, False]
    filters = [
        compare("a", op, literal)
        for op in ("=", "!=", "<", "<=", ">", ">=", "contains")
        for literal in literals
    ]
    with closing(corpus_database(corpus)) as connection:
        differing = [
            str(found)
            for found in filters
            if sorted(select(connection, found)) != matching(found, *corpus)
        ]
    assert differing == []


@settings(max_examples=400)
@given(FILTERS)
def test_both_forms_read_back_to_an_equal_filter(found: Filter):
    for form in (str(found), found.to_json(), json.dumps(found.to_json())):
        again = parsed(form)
        assert again == found
        assert hash(again) == hash(found)


def test_large_integers_compare_exactly():
    corpus = [{"n": BIG}, {"n": BIG + 1}, {"n": BIG + 2}]
    for text, expected in ((f"n = {BIG + 1}", [1]), (f"n > {BIG}", [1, 2]), (f"n <= {BIG}", [0])):
        assert matching(text, *corpus) == expected
        with closing(corpus_database(corpus)) as connection:
            assert sorted(select(connection, parsed(text))) == expected


def deep(levels: int) -> Filter:
    found: Filter = compare("n", "<", 6)
    for level in range(levels):
        found = (found | compare("n", "=", 20 + level)) & compare("n", "!=", level)
    return found


WIDE = range(MAX_COMPARISONS)
LARGEST = {
    "deep": deep(24),
    "or of one field": Or(any=tuple(compare("n", "=", n * 2) for n in WIDE)),
    "or of ranges": Or(any=tuple(compare("n", ">=", BIG + n) for n in WIDE)),
    "or of fields": Or(any=tuple(compare(f"n{n}", "!=", "2023-10") for n in WIDE)),
    "and of one field": And(all=tuple(compare("n", "!=", n * 2) for n in WIDE)),
    "and of fields": And(all=tuple(compare(f"n{n}", "!=", f"{1000 + n}-10") for n in WIDE)),
    "and of negations": And(all=tuple(~compare(f"n{n % 40}", "<", BIG + n) for n in WIDE)),
    "in numbers": compare("n", "in", [*range(0, 2 * MAX_LITERALS, 2)]),
    "in months": compare("d", "in", [f"{1200 + n // 6}-{1 + n % 6 * 2:02}" for n in range(4_944)]),
    "in texts": compare("d", "in", [f"x{n}" for n in range(MAX_LITERALS)]),
}  # fmt: skip


@pytest.mark.parametrize("name", LARGEST)
def test_the_largest_filters_run(name: str):
    corpus = [
        {"n": n, "n0": "a", "n7": BIG + 7, "d": [f"2023-{1 + n % 12:02}-01", f"x{n}"]}
        for n in range(16)
    ]
    found = LARGEST[name]
    with closing(corpus_database(corpus)) as connection:
        assert sorted(select(connection, found)) == matching(found, *corpus)


def test_a_compiled_filter_stands_inside_another_statement_without_repetition():
    corpus = [{"t": ["a", "b"]}, {"t": "c"}]
    with closing(corpus_database(corpus)) as connection:
        for text, expected in (("t exists", 2), ("t = 'a' or (t = 'b' and t != 'c')", 1)):
            sql, params = compile_filter(parsed(text))
            counted = f"SELECT count(*) FROM documents WHERE id < ? AND id IN ({sql}) AND id >= ?"
            assert connection.execute(counted, [5, *params, 0]).fetchone() == (expected,)
            assert len(select(connection, parsed(text))) == expected


def test_metadata_rows_keep_text_verbatim_and_numbers_exact():
    assert metadata_rows({"a": ["x", 1.5, False], "n": BIG + 1, "e": [], "none": None}) == [
        ("a", "string", "x", None),
        ("a", "number", None, 1.5),
        ("a", "bool", None, 0.0),
        ("n", "number", str(BIG + 1), float(BIG)),
        ("e", "empty", None, None),
    ]
    assert metadata_rows({"d": "1970-01-01T01:00+01:00"}) == [
        ("d", "date", "1970-01-01T01:00+01:00", 0.0)
    ]
