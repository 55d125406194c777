"""The filter language: how it is written in text and JSON, what it means, how it fails."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter
from retrail.core.errors import FilterError
from retrail.core.filters import (
    MAX_COMPARISONS,
    MAX_DEPTH,
    MAX_LITERALS,
    And,
    Comparison,
    Filter,
    Or,
    parse_filter,
)


def compare(field: str, op: str, value: Any = True) -> Comparison:
    return Comparison.model_validate({"field": field, "op": op, "value": value})


def parsed(source: str | Mapping[str, Any]) -> Filter:
    found = parse_filter(source)
    assert found is not None
    return found


def matching(source: str | Filter, *corpus: Mapping[str, Any]) -> list[int]:
    found = parsed(source) if isinstance(source, str) else source
    return [n for n, metadata in enumerate(corpus) if found.matches(metadata)]


WORDS = [
    "a", "b", "``", "'x'", "1", "2023", "=", "!=", "<", "in", "not", "and", "or", "exists",
    "contains", "(", ")", "[", "]", ",", "1e999", "nan",
]  # fmt: skip
KEYS = [
    "a", "field", "op", "value", "and", "$or", "not", "$not", "exists", "$in", ">=", "$nin", "$x",
]  # fmt: skip
JSON_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["=", "in"])
)


def read_or_refuse(source: Any) -> Filter | str | None:
    """Return the filter, or the fix that an error of ours ends with."""
    try:
        return parse_filter(source)
    except FilterError as error:
        return str(error.fix)


@settings(max_examples=300)
@given(
    st.text()
    | st.text(st.sampled_from("ab01'\"`\\()[],=<>!-.:{} \n\ud800“ſ"), max_size=30)
    | st.lists(st.sampled_from(WORDS)).map(" ".join)
)
@example("not " * 2400 + "a = 1")
@example("(" * 9_999)
@example("(" * 60 + "a = 1" + ")" * 60)
@example('{"not":' * 1_400 + '{"a": 1}' + "}" * 1_400)
@example("a = " + "0" * 9_000)
@example("a = " + "9" * 9_000)
@example("a = '" + "''" * 4_900)
@example("a " * 5_000)
@example("a = 1" + " " * 9_990 + "x")
def test_any_text_gives_a_filter_or_a_filter_error(source: str):
    found = read_or_refuse(source)
    assert (found is None) == (source.strip() in ("", "{}"))


JSON_VALUES = st.recursive(
    JSON_SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS) | st.integers(0, 1),
            inner,
            max_size=3,
        )
    ),
    max_leaves=15,
)


@settings(max_examples=300)
@given(JSON_VALUES)
def test_any_json_gives_a_filter_or_a_filter_error(source: Any):
    found = read_or_refuse(source)
    blank = source is None or source == {} or (isinstance(source, str) and not source.strip())
    assert (found is None) == blank


@pytest.mark.parametrize("key", ["not", "and", "or", "a"])
def test_json_that_nests_without_end_is_refused(key: str):
    endless: dict[str, Any] = {}
    endless[key] = (
        [endless] if key in ("and", "or") else endless if key == "not" else {"not": endless}
    )
    with pytest.raises(FilterError):
        parse_filter(endless)


def test_nothing_means_no_filter():
    assert [parse_filter(source) for source in (None, "", " \n", {}, "{}")] == [None] * 5


def test_a_filter_is_returned_as_it_is():
    found = compare("a", "=", 1)
    assert parse_filter(found) is found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "date >= 2023-10-01 and source = 'BBC'",
            And(all=(compare("date", ">=", "2023-10-01"), compare("source", "=", "BBC"))),
        ),
        (
            "a = 1 OR b == 2 And NOT c <> 3",
            compare("a", "=", 1) | And(all=(compare("b", "=", 2), ~compare("c", "!=", 3))),
        ),
        ("not a = 1 and b = 2", And(all=(~compare("a", "=", 1), compare("b", "=", 2)))),
        ("not (a = 1 or b = 2)", ~(compare("a", "=", 1) | compare("b", "=", 2))),
        ("a in ('x', \"y\")", compare("a", "in", ["x", "y"])),
        ("a not in [1, 2.5, true]", ~compare("a", "in", [1, 2.5, True])),
        ("a in ()", compare("a", "in", [])),
        ("url exists and exists(`a b`)", compare("url", "exists") & compare("a b", "exists")),
        ("url not exists", ~compare("url", "exists")),
        ("title not contains war", ~compare("title", "contains", "war")),
        (r"""a in ('it''s', "say \"hi\"")""", compare("a", "in", ["it's", 'say "hi"'])),
        (r"path = 'C:\new'", compare("path", "=", r"C:\new")),
        ("at < 2023-10-01T10:00:00+02:00", compare("at", "<", "2023-10-01T10:00:00+02:00")),
        ("month=2023-10", compare("month", "=", "2023-10")),
        ("n>-1.5e3", compare("n", ">", -1500)),
        ("lang = pt-BR", compare("lang", "=", "pt-BR")),
        ("`a``b` = 1", compare("a`b", "=", 1)),
        ("straße.nr-1 = 007", compare("straße.nr-1", "=", 7)),
    ],
)  # fmt: skip
def test_text_form(text: str, expected: Filter):
    assert parse_filter(text) == expected


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ({"field": "date", "op": ">=", "value": "2023-10-01"}, "date >= 2023-10-01"),
        ({"field": "url", "op": "exists"}, "url exists"),
        ({"field": "year", "op": "$gte", "value": 2020}, "year >= 2020"),
        ({"field": "year"}, "field = 'year'"),
        ({"and": [{"a": 1}, {"or": [{"b": 2}, {"not": {"c": 3}}]}]},
         "a = 1 and (b = 2 or not (c = 3))"),
        (
            {"source": "BBC", "year": {">=": 2020}, "tag": {"in": ["a", "b"]}},
            "source = 'BBC' and year >= 2020 and tag in ('a', 'b')",
        ),
        ({"year": {"$gte": 2020, "$lt": 2023}}, "year >= 2020 and year < 2023"),
        ({"a": {"$eq": 1}, "b": {"$ne": 2}, "c": {"$lte": 3}}, "a = 1 and b != 2 and c <= 3"),
        ({"$or": [{"a": {"$gt": 1}}, {"$and": [{"b": 2}, {"c": 3}]}]},
         "a > 1 or (b = 2 and c = 3)"),
        ({"$not": {"a": {"$contains": "x"}}}, "not (a contains 'x')"),
        ({"a": {"$not": {"$in": [1, 2]}}, "b": {"$nin": [3]}},
         "not (a in (1, 2)) and not (b in (3))"),
        ({"url": {"$exists": True}, "doi": {"exists": False}}, "url exists and not (doi exists)"),
        ({"tag": ["a", "b"]}, "tag in ('a', 'b')"),
        ({"and": [{"a": True}]}, "a = true"),
        ('{"year": {"$gte": 2020.0}}', "year >= 2020"),
        ({"on": date(2023, 10, 1), "at": datetime(2023, 10, 1, 9, tzinfo=UTC)},
         "on = 2023-10-01 and at = 2023-10-01T09:00:00Z"),
    ],
)  # fmt: skip
def test_json_form(source: Any, text: str):
    assert str(parse_filter(source)) == text


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("date >= and x", r"character 9\n    date >= and x\n            \^\nexpected a value"),
        ("source = BBC News", r"expected 'and' or 'or', found 'News': .*quotes"),
        ("= 3", "expected a field name, found '='"),
        ("'source' = 'BBC'", "expected a field name.*back-quotes"),
        ("in = 3", "expected a field name, found 'in'"),
        ("year like 'x'", "expected an operator, found 'like': use one of = != "),
        ("year not = 3", "expected 'in', 'contains' or 'exists'"),
        ("a in 'x'", r"expected a list, found 'x': write in \('a', 'b'\)"),
        ("a in ('x' 'y')", "expected ',', found 'y'"),
        ("a in ('x', ", "expected a value, found the end"),
        ("(a = 1", r"expected '\)', found the end: close"),
        ("a = 'x", "quote ' is not closed: add the closing '"),
        ("a = “x”", "unexpected character '“': use straight quotes"),
        ("!(a = 1)", "unexpected character '!': write != or not"),
        ("a = null", "found 'null': use 'exists'"),
        ("a > 1e999", "'1e999' is not a finite number"),
        ("a = -Infinity", "'-Infinity' is not a finite number"),
        ("`` = 1", "expected a field name"),
        ("a = 1 " * 2_000, "has 12000 characters, at most 10000"),
        ("a = '\ud800'", "not valid Unicode"),
        ('{"a": 1', "starts like JSON but is not"),
        ('{"a": {">": 1}, "a": {"<": 3}}', "key 'a' occurs twice"),
        ({"a": {"$regex": "x"}}, r"unknown operator '\$regex' for the field 'a': use one of"),
        ({"$where": "x"}, r"unknown operator '\$where'"),
        ({"a": None}, "null is not a value: use 'exists'"),
        ({"a": {}}, "no condition for 'a'"),
        ({"and": []}, "'and' takes a list of filters"),
        ({"or": {"a": 1}}, "'or' takes a list of filters"),
        ({"not": "a = 1"}, "is not a filter: write"),
        ({"a": {"in": "x"}}, "'in' takes a list, found 'x'"),
        ({"a": {"=": ["x"]}}, "'=' takes one value, found a list: use 'in'"),
        ({"a": {"exists": 1}}, "takes true or false"),
        ({"": 1}, "'' is not a field name"),
        ({1: 1}, "1 is not a field name"),
        ({"a": float("nan")}, "nan is not a number"),
        ({"a": 10**400}, "inf is not a number"),
        ({"a": {"in": [{}]}}, "cannot compare with {}"),
        (["a"], "is not a filter"),
        (3, "is not a filter"),
    ],
)  # fmt: skip
def test_errors_say_what_to_write(source: Any, complaint: str):
    with pytest.raises(FilterError, match=complaint) as caught:
        parse_filter(source)
    assert caught.value.fix


def test_the_caret_stands_under_the_place_in_a_long_filter():
    source = "a = 1 and " * 50 + "b >\nor c = 2"
    with pytest.raises(FilterError) as caught:
        parse_filter(source)
    _, excerpt, caret, _ = str(caught.value).split("\n")
    assert excerpt[caret.index("^") :].startswith("or c")


DAY = "2023-10-01"
MORNING, NIGHT = "2023-10-01T00:00:00Z", "2023-10-01T23:59:59.999999"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("d = 2023-10-01", [1, 2, 3]),
        ("d != 2023-10-01", [0, 4, 5]),
        ("d < 2023-10-01", [0]),
        ("d <= 2023-10-01", [0, 1, 2, 3]),
        ("d > 2023-10-01", [4, 5]),
        ("d >= 2023-10-01", [1, 2, 3, 4, 5]),
        ("d in (2023-09-30, 2023-10-02)", [0, 4]),
        ("d = 2023-10-01T00:00:00Z", [1, 2]),
        ("d > 2023-10-01T00:00:00Z", [3, 4, 5]),
        ("d = 2023-10", [1, 2, 3, 4]),
        ("d > 2023-10", [5]),
        ("d <= '2023-10'", [0, 1, 2, 3, 4]),
        ("d = 2023", [0, 1, 2, 3, 4]),
        ("d > '2023'", [5]),
        ("d < 2024", [0, 1, 2, 3, 4]),
        ("d contains '2023-10'", [1, 2, 3, 4]),
        ("d contains 2024", [5]),
        ("d >= 'z'", []),
        ("d = 3000", []),
    ],
)
def test_day_month_and_year_literals(text: str, expected: list[int]):
    dates = ("2023-09-30", DAY, MORNING, NIGHT, "2023-10-02T00:00", "2024-01-01")
    assert matching(text, *({"d": value} for value in dates)) == expected


@pytest.mark.parametrize(
    ("value", "matches"),
    [
        ("2023-10-01T00:30:00+01:00", False),
        ("2023-09-30T23:30:00-01:00", True),
        ("2023-09-30T23:30:00-0100", True),
        ("2023-09-30 23:30:00 -01", True),
        ("2023-10-01T12:00:00.123456789z", True),
        ("2023-10-01T24:00", False),
        ("2023-10-01T10:00:00+25:00", False),
        ("2023-10-01 ", False),
        ("20231001", False),
    ],
)
def test_offsets_shift_the_day_and_other_spellings_are_text(value: str, matches: bool):
    assert compare("d", "=", DAY).matches({"d": value}) is matches


def test_periods_stand_for_themselves_against_text_and_numbers():
    assert matching("y = '2023-10'", {"y": "2023-10"}, {"y": "2023"}, {"y": 2023}) == [0]
    assert matching("y > '2023'", {"y": "2023-10"}, {"y": "2023"}, {"y": 2024}) == [0]
    assert matching("y = 2023", {"y": "2023-10"}, {"y": "2023"}, {"y": 2023.0}) == [2]


def test_a_missing_field_fails_every_comparison_and_passes_its_negation():
    for text in ("a = 1", "a != 1", "a < 1", "a in (1)", "a contains 1", "a exists"):
        assert matching(text, {}, {"a": None}, {"b": 1}) == []
        assert matching(f"not {text}", {}, {"a": None}, {"b": 1}) == [0, 1, 2]


def test_lists_match_by_any_element():
    corpus = ({"t": ["x", "y"]}, {"t": ["x"]}, {"t": []}, {"t": "y"}, {"t": [3, 9]})
    assert matching("t = 'y'", *corpus) == [0, 3]
    assert matching("t != 'y'", *corpus) == [1, 2, 4]
    assert matching("t not in ('y')", *corpus) == [1, 2, 4]
    assert matching("t > 5 and t < 5", *corpus) == [4]
    assert matching("t exists", *corpus) == [0, 1, 2, 3, 4]
    assert matching("t contains 9", *corpus) == [4]


def test_contains_ignores_case_and_equality_does_not():
    corpus = ({"t": "Hauptstraße"}, {"t": ["x", "STRASSE 5"]}, {"t": "HAUPT"}, {"t": 5})
    assert matching("t contains strasse", *corpus) == [0, 1]
    assert matching("t = haupt", *corpus) == []
    assert matching("t contains 5", *corpus) == [3]


def test_kinds_do_not_mix():
    corpus = ({"v": 1}, {"v": True}, {"v": "1"}, {"v": 1.0})
    assert matching("v = 1", *corpus) == [0, 3]
    assert matching("v = true", *corpus) == [1]
    assert matching("v = '1'", *corpus) == [2]
    assert matching("v != 1", *corpus) == [1, 2]
    assert matching("v < 2", *corpus) == [0, 3]


def test_nested_metadata_is_reached_with_dots():
    assert matching("author.name = 'Ann'", {"author": {"name": "Ann"}}) == [0]


def test_operators_build_flat_filters():
    a, b, c = (compare(name, "exists") for name in "abc")
    assert (a & b) & c == a & (b & c) == And(all=(a, b, c))
    assert (a | b) | c == Or(any=(a, b, c))
    assert str(~a & (b | c)) == "not (a exists) and (b exists or c exists)"


def test_true_and_one_are_different_filters():
    assert compare("a", "=", True) != compare("a", "=", 1)
    assert compare("a", "in", [True]) != compare("a", "in", [1])
    assert compare("a", "=", 2020.0) == compare("a", "=", 2020)
    assert len({compare("a", "=", 1), compare("a", "=", 1.0), compare("a", "=", "1")}) == 2


def test_nodes_refuse_what_makes_no_filter():
    for build in (
        lambda: And(all=(compare("a", "=", 1),)),
        lambda: Or(any=()),
        lambda: compare("a", "exists", False),
        lambda: compare("a", "<", [1]),
        lambda: compare("", "=", 1),
    ):
        with pytest.raises(FilterError):
            build()


class Holder(BaseModel):
    where: Filter | None = None


def test_filter_is_a_pydantic_type_that_reads_and_writes_json():
    holder = Holder.model_validate({"where": "a = 1 or b exists"})
    assert holder.where == compare("a", "=", 1) | compare("b", "exists")
    assert Holder.model_validate_json(holder.model_dump_json()) == holder
    anything = TypeAdapter(dict[str, Any])
    assert anything.dump_python({"where": holder.where}) == holder.model_dump()
    shapes = Holder.model_json_schema()["properties"]["where"]["anyOf"]
    assert {"string", "object"} <= {part["type"] for part in shapes[0]["anyOf"]}
    with pytest.raises(FilterError, match="the filter is empty"):
        Holder.model_validate({"where": " "})


def test_size_limits():
    deepest: Filter = compare("a", "=", 1)
    for _ in range(MAX_DEPTH - 1):
        deepest = ~deepest
    assert parse_filter(str(deepest)) == parse_filter(deepest.to_json()) == deepest
    with pytest.raises(FilterError, match="deeper than 50 levels"):
        _ = ~deepest
    parts = tuple(compare("a", "=", n) for n in range(MAX_COMPARISONS))
    assert Or(any=parts).depth() == 2
    with pytest.raises(FilterError, match=r"2001 comparisons: at most 2000"):
        Or(any=(*parts, parts[0]))
    with pytest.raises(FilterError, match=r"5001 literals: at most 5000"):
        compare("a", "in", [1] * (MAX_LITERALS + 1))
