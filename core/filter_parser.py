"""The text form of filters: ``date >= 2023-10-01 and (source = 'BBC' or not url exists)``.

A hand-written tokenizer and a recursive descent to the explicit JSON form, which `filters` builds
its nodes from. Linear in the text, bounded in length and nesting, so hostile text costs nothing;
whatever cannot be read is a ``FilterError`` that points at the place.

    either   = both {"or" both}        both    = negation {"and" negation}
    negation = {"not"} primary         primary = "(" either ")" | "exists" "(" field ")" | test
    test     = field (operator value | ["not"] ("in" list | "contains" value | "exists"))
    list     = "(" [value {"," value}] ")" | "[" [value {"," value}] "]"
    field    = name | `quoted name`    value   = 'text' | "text" | number | date | true | word
"""

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from .errors import FilterError
from .filter_json import MAX_DEPTH
from .filter_values import Scalar, date_span

MAX_LENGTH = 10_000

_RESERVED = frozenset({"and", "or", "not", "in", "contains", "exists", "null"})
_NOT_FINITE = frozenset({"nan", "inf", "infinity"})
_BOOLS = {"true": True, "false": False}
_FIELD = re.compile(r"[^\W\d][\w.\-]*")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"([+-]?)0*(\d+)", re.ASCII)
_SPACE = re.compile(r"\s*")
_OPERATOR = re.compile(r"==|=|!=|<>|<=|>=|<|>")
_WORD = re.compile(r"""[^\s()\[\],'"`=<>!“”‘’]+""")
_SPELLINGS = {"==": "=", "<>": "!="}
_CLOSING = {"(": ")", "[": "]"}


class _Token(NamedTuple):
    kind: str
    """``word``, ``text``, ``name`` (back-quoted), ``operator``, ``end``, or a mark itself."""
    text: str
    """What it stands for, without quotes."""
    start: int

    @property
    def keyword(self) -> str:
        return self.text.lower() if self.kind == "word" else ""


def read_text(source: str) -> dict[str, Any]:
    """Read a filter in text form, to the explicit JSON form.

    >>> read_text("year >= 2020")
    {'field': 'year', 'op': '>=', 'value': 2020}
    >>> read_text("year >= and")
    Traceback (most recent call last):
    retrail.core.errors.FilterError: cannot read the filter at character 9
        year >= and
                ^
    expected a value, found 'and': put text in quotes, 'and'
    """
    if len(source) > MAX_LENGTH:
        raise FilterError(
            f"the filter has {len(source)} characters, at most {MAX_LENGTH} are read",
            fix="shorten it or give it as a JSON object",
        )
    return _Parser(source).read()


def field_text(name: str) -> str:
    """Write a field name so that it reads back as the same field.

    >>> field_text("year"), field_text("odd field"), field_text("in")
    ('year', '`odd field`', '`in`')
    """
    plain = _FIELD.fullmatch(name) and name.lower() not in _RESERVED
    return name if plain else "`" + name.replace("`", "``") + "`"


def value_text(value: Scalar) -> str:
    """Write a literal so that it reads back as the same literal.

    >>> [value_text(value) for value in ("it's", "2023-10-01", "2023", 2023, True)]
    ["'it''s'", '2023-10-01', "'2023'", '2023', 'true']
    """
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return repr(value)
    if date_span(value) and " " not in value:
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _fail(source: str, position: int, message: str, fix: str) -> NoReturn:
    start, end = max(0, position - 40), position + 40
    excerpt = "".join(c if c.isprintable() else " " for c in source[start:end])
    raise FilterError(
        f"cannot read the filter at character {position + 1}\n"
        f"    {excerpt}\n    {' ' * (position - start)}^\n{message}",
        fix=fix,
    )


def _tokenize(source: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    while True:
        position = _SPACE.match(source, position).end()  # type: ignore[union-attr]
        if position == len(source):
            return [*tokens, _Token("end", "the end", position)]
        token, position = _next_token(source, position)
        tokens.append(token)


def _next_token(source: str, start: int) -> tuple[_Token, int]:
    mark = source[start]
    if mark in "'\"`":
        text, end = _unquote(source, start)
        return _Token("name" if mark == "`" else "text", text, start), end
    if mark in "()[],":
        return _Token(mark, mark, start), start + 1
    for kind, pattern in (("operator", _OPERATOR), ("word", _WORD)):
        if match := pattern.match(source, start):
            return _Token(kind, match[0], start), match.end()
    fix = "write != or not" if mark == "!" else "use straight quotes"
    _fail(source, start, f"unexpected character {mark!r}", fix)


def _unquote(source: str, start: int) -> tuple[str, int]:
    quote, position, parts = source[start], start + 1, list[str]()
    while position < len(source):
        here, after = source[position], source[position + 1 : position + 2]
        if here == quote and after != quote:
            return "".join(parts), position + 1
        escaped = here == quote or (here == "\\" and quote != "`" and after in ("'", '"', "\\"))
        parts.append(after if escaped else here)
        position += 2 if escaped else 1
    fix = f"add the closing {quote} (inside the text, a quote is written {quote * 2})"
    _fail(source, start, f"the quote {quote} is not closed", fix)


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._tokens = _tokenize(source)
        self._next = 0
        self._depth = 0

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._token
        self._next += token.kind != "end"
        return token

    def _accept(self, keyword: str) -> bool:
        found = self._token.keyword == keyword
        self._next += found
        return found

    def _expect(self, mark: str, fix: str) -> None:
        if self._token.kind != mark:
            self._expected(f"{mark!r}", fix)
        self._next += 1

    def _expected(self, what: str, fix: str) -> NoReturn:
        token = self._token
        found = token.text if token.kind == "end" else repr(token.text)
        _fail(self._source, token.start, f"expected {what}, found {found}", fix)

    def read(self) -> dict[str, Any]:
        found = self._either()
        if self._token.kind != "end":
            self._expected("'and' or 'or'", "join conditions, and put text with spaces in quotes")
        return found

    def _either(self) -> dict[str, Any]:
        return self._joined("or", self._both)

    def _both(self) -> dict[str, Any]:
        return self._joined("and", self._negation)

    def _joined(self, word: str, part: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        parts = [part()]
        while self._accept(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else {word: parts}

    def _negation(self) -> dict[str, Any]:
        negations = 0
        while self._accept("not"):
            negations += 1
        # Text of legal length could otherwise nest thousands of levels by "not not not".
        if negations > MAX_DEPTH:
            self._too_deep()
        found = self._primary()
        for _ in range(negations):
            found = {"not": found}
        return found

    def _too_deep(self) -> NoReturn:
        message = f"nested deeper than {MAX_DEPTH} levels"
        _fail(self._source, self._token.start, message, "remove parentheses")

    def _primary(self) -> dict[str, Any]:
        if self._token.kind == "(":
            return self._group()
        if self._token.keyword == "exists" and self._tokens[self._next + 1].kind == "(":
            self._next += 2
            field = self._field()
            self._expect(")", "write exists(field)")
            return {"field": field, "op": "exists", "value": True}
        return self._test()

    def _group(self) -> dict[str, Any]:
        if self._depth == MAX_DEPTH:
            self._too_deep()
        self._depth += 1
        self._take()
        found = self._either()
        self._expect(")", "close the parenthesis")
        self._depth -= 1
        return found

    def _test(self) -> dict[str, Any]:
        field = self._field()
        negated = self._accept("not")
        found = self._operation(field, negated)
        return {"not": found} if negated else found

    def _operation(self, field: str, negated: bool) -> dict[str, Any]:
        if self._accept("exists"):
            return {"field": field, "op": "exists", "value": True}
        if self._accept("contains"):
            return {"field": field, "op": "contains", "value": self._value()}
        if self._accept("in"):
            return {"field": field, "op": "in", "value": self._values()}
        if negated or self._token.kind != "operator":
            names = "'in', 'contains' or 'exists'"
            what = names if negated else "an operator"
            self._expected(what, f"use one of = != < <= > >=, {names}")
        op = self._take().text
        return {"field": field, "op": _SPELLINGS.get(op, op), "value": self._value()}

    def _field(self) -> str:
        token = self._token
        named = token.kind == "name" and token.text
        plain = token.kind == "word" and _FIELD.fullmatch(token.text)
        if not named and (not plain or token.keyword in _RESERVED):
            fix = "begin with the field, as in source = 'BBC'; put an odd name in back-quotes"
            self._expected("a field name", fix)
        return self._take().text

    def _values(self) -> list[Scalar]:
        opening = self._token.kind
        if opening not in _CLOSING:
            self._expected("a list", "write in ('a', 'b')")
        self._take()
        closing, values = _CLOSING[opening], list[Scalar]()
        while self._token.kind != closing:
            if values:
                self._expect(",", f"separate values by commas and close the list with {closing}")
            values.append(self._value())
        self._take()
        return values

    def _value(self) -> Scalar:
        token = self._token
        if token.kind == "text":
            return self._take().text
        if token.kind != "word" or token.keyword in _RESERVED:
            fix = f"put text in quotes, {value_text(token.text)}"
            if token.keyword == "null":
                fix = "use 'exists' or 'not exists'"
            self._expected("a value", fix)
        self._take()
        value = _bare(token.text)
        if isinstance(value, float) and not math.isfinite(value):
            message = f"{token.text!r} is not a finite number"
            _fail(self._source, token.start, message, "give a finite number, or put text in quotes")
        return value


def _bare(word: str) -> Scalar:
    """Read a word without quotes: a bool, a number, or else text, as dates are."""
    keyword = word.lower()
    if keyword in _BOOLS:
        return _BOOLS[keyword]
    if keyword.lstrip("+-") in _NOT_FINITE:
        return math.inf
    if not _NUMBER.fullmatch(word):
        return word
    number = float(word)
    match = _INTEGER.fullmatch(word)
    return int(match[1] + match[2]) if match and math.isfinite(number) else number
