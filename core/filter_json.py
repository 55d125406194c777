"""Filters as JSON: every accepted spelling is brought to the one explicit form.

Explicit: ``{"field": "year", "op": ">=", "value": 2020}``, ``{"and": [...]}``, ``{"or": [...]}``,
``{"not": {...}}``. Short: ``{"source": "BBC", "year": {">=": 2020}, "tag": ["a", "b"]}``, where
several keys must all hold and a list means ``in``. Operators may be spelt as in MongoDB (``$gte``).
"""

import json
from collections.abc import Mapping, Sequence
from reprlib import repr as short
from typing import Any, cast

from .errors import FilterError

MAX_DEPTH = 50
"""Levels a filter may nest, in any form."""

_WORDS = {
    "eq": "=",
    "==": "=",
    "ne": "!=",
    "<>": "!=",
    "lt": "<",
    "lte": "<=",
    "gt": ">",
    "gte": ">=",
    "nin": "not in",
}
_OPERATORS = {
    name: name for name in ("=", "!=", "<", "<=", ">", ">=", "in", "not in", "contains", "exists")
}
_SPELLINGS = _OPERATORS | _WORDS
_KNOWN = ", ".join(_OPERATORS)


def read_json(text: str) -> dict[str, Any]:
    """Read a filter written as JSON text, to the explicit form.

    >>> read_json('{"year": {"$gte": 2020}}')
    {'field': 'year', 'op': '>=', 'value': 2020}
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        raise FilterError(
            f"the filter starts like JSON but is not: {error}", fix="close quotes and brackets"
        ) from error
    return explicit(value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        repeated = next(key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1)
        raise FilterError(
            f"the key {repeated!r} occurs twice in one JSON object",
            fix=f'write {{"{repeated}": {{">=": 1, "<": 5}}}} or {{"and": [...]}}',
        )
    return found


def explicit(source: object, level: int = 1) -> dict[str, Any]:
    """Bring a JSON filter to its explicit form, refusing what is not one.

    >>> explicit({"source": "BBC", "$not": {"tag": ["a"]}})["and"][1]
    {'not': {'field': 'tag', 'op': 'in', 'value': ['a']}}
    """
    if level > MAX_DEPTH:
        raise _too_deep()
    if not isinstance(source, Mapping) or not source:
        raise FilterError(
            f"{short(cast(object, source))} is not a filter",
            fix='write {"field": "year", "op": ">=", "value": 2020}',
        )
    node = cast(Mapping[Any, Any], source)
    if {"field", "op"} <= node.keys() <= {"field", "op", "value"}:
        no_value = True if node["op"] in ("exists", "$exists") else None
        return _operation(node["field"], node["op"], node.get("value", no_value))
    inner = level + (len(node) > 1)
    return _joined("and", [_entry(key, value, inner) for key, value in node.items()])


def _too_deep() -> FilterError:
    return FilterError(f"the filter nests deeper than {MAX_DEPTH} levels", fix="flatten it")


def _joined(word: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
    return parts[0] if len(parts) == 1 else {word: parts}


def _entry(key: object, value: Any, level: int) -> dict[str, Any]:
    """Read one key of the short form: a connective or a field."""
    if not isinstance(key, str):
        raise FilterError(f"{short(key)} is not a field name", fix="name a metadata field")
    word = key.lower().removeprefix("$")
    if word == "not":
        return {"not": explicit(value, level + 1)}
    if word in ("and", "or"):
        return _connected(word, value, level)
    if key.startswith("$"):
        raise FilterError(
            f"unknown operator {short(key)}",
            fix="at this place use $and, $or, $not or a field name",
        )
    if isinstance(value, Mapping):
        return _conditions(key, cast(Mapping[Any, Any], value), level)
    return _operation(key, "in" if isinstance(value, list | tuple) else "=", value)


def _connected(word: str, value: object, level: int) -> dict[str, Any]:
    if not isinstance(value, list | tuple) or not value:
        raise FilterError(
            f"{word!r} takes a list of filters, found {short(cast(object, value))}",
            fix=f'write {{"{word}": [{{"source": "BBC"}}, {{"year": 2020}}]}}',
        )
    parts = cast(Sequence[Any], value)
    return _joined(word, [explicit(part, level + 1) for part in parts])


def _conditions(field: str, value: Mapping[Any, Any], level: int) -> dict[str, Any]:
    """Read ``{">=": 1, "<": 5}`` for one field."""
    if level > MAX_DEPTH:
        raise _too_deep()
    if not value:
        raise FilterError(
            f"no condition for {short(field)}", fix=f'write {{"{field}": {{">=": 1}}}}'
        )
    parts = [_condition(field, op, operand, level + 1) for op, operand in value.items()]
    return _joined("and", parts)


def _condition(field: str, op: object, operand: Any, level: int) -> dict[str, Any]:
    if op in ("not", "$not") and isinstance(operand, Mapping):
        return {"not": _conditions(field, cast(Mapping[Any, Any], operand), level)}
    return _operation(field, op, operand)


def _operation(field: object, op: object, value: Any) -> dict[str, Any]:
    spelling = _SPELLINGS.get(op.lower().removeprefix("$")) if isinstance(op, str) else None
    if spelling is None:
        raise FilterError(
            f"unknown operator {short(op)} for the field {short(field)}",
            fix=f"use one of {_KNOWN}; nested fields take a dot, 'author.name'",
        )
    if spelling == "not in":
        return {"not": {"field": field, "op": "in", "value": value}}
    if spelling != "exists":
        return {"field": field, "op": spelling, "value": value}
    found = {"field": field, "op": "exists", "value": True}
    if value is True:
        return found
    if value is False:
        return {"not": found}
    raise FilterError(
        f"'exists' takes true or false, found {short(value)}", fix="write true or false"
    )
