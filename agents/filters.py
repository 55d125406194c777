"""Read a metadata filter off a question, where its words name values the corpus has.

Only explicit mentions count: a value beside its field's name ("the json module", "kind: class"),
or a year or date beside a preposition when the corpus has one date field. A wrong filter hides
the answer, so doubt means no filter.
"""

import re
from collections.abc import Mapping, Sequence

from ..core.filters import And, Comparison, Filter
from ..core.schema import MetadataSchema

Values = Mapping[str, Sequence[str]]
"""Field → its distinct string values, for fields that have few."""

_DATE = re.compile(
    r"\b(?P<relation>in|on|during|after|since|from|before|until|by)\s+"
    r"(?P<date>(?:19|20)\d\d(?:-\d\d(?:-\d\d)?)?)\b",
    re.IGNORECASE,
)
_OPERATORS = {"after": ">", "since": ">=", "from": ">=", "before": "<", "until": "<=", "by": "<="}


def read_filter(question: str, values: Values, schema: MetadataSchema) -> Filter | None:
    """Return the filter that a question states, or None.

    >>> read_filter("Which classes are in the json module?", {"module": ["json", "re"]},
    ...     MetadataSchema(fields={})).to_json()
    {'field': 'module', 'op': '=', 'value': 'json'}
    """
    found: list[Filter] = []
    for field, options in values.items():
        named = [v for v in options if _mentioned(question, field, v)]
        if named:
            found.append(Comparison(field=field, op="=", value=max(named, key=len)))
    date = _DATE.search(question)
    dated = [name for name, info in schema.fields.items() if info.kinds == ("date",)]
    if date and len(dated) == 1:
        operator = _OPERATORS.get(date["relation"].lower(), "=")
        found.append(
            Comparison.model_validate({"field": dated[0], "op": operator, "value": date["date"]})
        )
    return None if not found else found[0] if len(found) == 1 else And(all=tuple(found))


def _mentioned(question: str, field: str, value: str) -> bool:
    """Say whether a value stands beside its field's name, or is itself asked for in the plural."""
    name, word = re.escape(field.split(".")[-1]), re.escape(value)
    patterns = (
        rf"(?<![\w.]){word}[\"'`]?\s+{name}s?\b",
        rf"\b{name}s?\s*(?::|=|is|named|called)?\s+[\"'`]?{word}(?![\w.])",
        rf"\b(?:how many|list (?:all|every)|which|what)\s+(?:[\w-]+\s+){{0,2}}?{word}e?s\b",
    )
    return any(re.search(pattern, question, re.IGNORECASE) for pattern in patterns)
