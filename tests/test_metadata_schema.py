"""MetadataSchema: what it says of a corpus, and which filters it refuses."""

import string

import pytest
from retrail.core.errors import FilterError
from retrail.core.filters import Filter, parse_filter
from retrail.core.schema import FieldInfo, MetadataSchema


def parsed(source: str) -> Filter:
    found = parse_filter(source)
    assert found is not None
    return found


SCHEMA = MetadataSchema.of(
    [
        {"author": "Ann", "year": 2021, "date": "2023-10-01", "free": True, "tags": []},
        {"author": ["Bob", "Ann"], "year": 1999.5, "mixed": "x"},
        {"mixed": 3, "author": "C" * 100},
    ]
)


def test_schema_takes_stock():
    assert SCHEMA.fields["author"] == FieldInfo(
        kinds=("string",), documents=3, examples=("Ann", "Bob")
    )
    assert SCHEMA.fields["mixed"].kinds == ("number", "string")
    assert SCHEMA.fields["tags"] == FieldInfo(kinds=(), documents=1)
    assert MetadataSchema.model_validate_json(SCHEMA.model_dump_json()) == SCHEMA
    many = MetadataSchema.of({"n": n} for n in range(9))
    assert many.fields["n"].examples == ("0", "1", "2", "3", "4")


def test_schema_describes_itself_in_lines():
    assert SCHEMA.describe().splitlines() == [
        "author: string, 3 documents, such as 'Ann', 'Bob'",
        "date: date, 1 document, such as 2023-10-01",
        "free: bool, 1 document, such as true",
        "mixed: number or string, 2 documents, such as x, 3",
        "tags: empty list, 1 document",
        "year: number, 2 documents, such as 2021, 1999.5",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "author = 'Ann' and year >= 2020 and free = true",
        "date = 2023 or date = '2023-10' or date >= 2023-10-01 or date contains '-10-'",
        "mixed = 3 or mixed = 'x' or tags = 'a' or year exists",
        "author in ('x', '2023')",
    ],
)
def test_schema_accepts_what_can_match(text: str):
    SCHEMA.check(parsed(text))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("autor = 'x'", r"field 'autor', did you mean 'author'\?: valid fields are 'author', 'da"),
        ("not (a = 1 or Year exists)", "unknown field 'a'"),
        ("Year exists", "did you mean 'year'"),
        ("year = '2021'", "holds number values, which = '2021' can never match: .*such as 2021"),
        ("year contains '20'", "'year' holds number"),
        ("date > 5", "'date' holds date values"),
        ("author = 3", "'author' holds string values"),
        ("author < 2023-10-01", "'author' holds string values"),
        ("free = 1", "'free' holds bool values"),
        ("year in (2021, 'x')", "which in 'x' can never match"),
        ("mixed = true", "'mixed' holds number or string values"),
    ],
)  # fmt: skip
def test_schema_refuses_what_cannot_match(text: str, complaint: str):
    with pytest.raises(FilterError, match=complaint):
        SCHEMA.check(parsed(text))


def test_schema_of_nothing_and_of_very_many_fields():
    with pytest.raises(FilterError, match="has no metadata: search without"):
        MetadataSchema.of([{}]).check(parsed("a exists"))
    wide = MetadataSchema.of([dict.fromkeys(string.ascii_letters, 1)])
    with pytest.raises(FilterError, match="and 22 more"):
        wide.check(parsed("nothing exists"))
