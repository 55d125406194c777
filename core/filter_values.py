"""What metadata values and filter literals mean: kinds, dates, periods, and how two compare.

The one place where ``2023-10-01`` becomes a day and ``2023`` a year. Brute force and compiled
filters both start from here, so they agree. Instants are POSIX seconds in UTC, as floats.
"""

import calendar
import math
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from reprlib import repr as short
from typing import Any, Literal, NamedTuple, cast

from .documents import Scalar
from .errors import FilterError

Kind = Literal["string", "number", "bool", "date"]
Span = tuple[float, float]
"""Half-open interval of POSIX seconds."""

_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)"
    r"(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(?: ?(?:[Zz]|([+-])(\d\d)(?::?(\d\d))?))?)?",
    re.ASCII,
)
_PERIOD = re.compile(r"([12]\d{3})(?:-(0[1-9]|1[0-2]))?", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 86_400.0


class TypedValue(NamedTuple):
    """One metadata scalar as comparisons see it."""

    kind: Kind
    value: str | int | float
    """The text, the number, 0 or 1, or POSIX seconds."""


class Reading(NamedTuple):
    """What a literal stands for: a value of its kind, and perhaps also a span of time."""

    kind: Kind
    value: str | int | float
    span: Span | None = None
    """What the literal means against dates; its whole meaning if the kind is ``date``."""


def typed_value(value: Scalar) -> TypedValue:
    """Tell the kind of a metadata value.

    >>> typed_value("1970-01-02"), typed_value(True).kind
    (TypedValue(kind='date', value=86400.0), 'bool')
    """
    if isinstance(value, bool):
        return TypedValue("bool", int(value))
    if isinstance(value, int | float):
        return TypedValue("number", value)
    span = date_span(value)
    return TypedValue("string", value) if span is None else TypedValue("date", span[0])


# Typed, because True and 1 are the same key otherwise.
@lru_cache(maxsize=4096, typed=True)
def read_literal(value: Scalar) -> Reading:
    """Tell what a literal stands for.

    >>> read_literal("1970-01-01")
    Reading(kind='date', value=0.0, span=(0.0, 86400.0))
    >>> read_literal(1970)
    Reading(kind='number', value=1970, span=(0.0, 31536000.0))
    """
    kind, typed = typed_value(value)
    span = date_span(str(value)) if kind == "date" else None
    if kind == "string" or (kind == "number" and isinstance(value, int)):
        span = _period_span(str(value))
    return Reading(kind, typed, span)


def relation(element: Scalar, literal: Scalar) -> int | None:
    """Place a metadata value below (-1), at (0) or above (1) a literal; None: not comparable.

    >>> relation("2023-10-31T09:00:00Z", "2023-10"), relation(3, "3")
    (0, None)
    """
    (kind, value), reading = typed_value(element), read_literal(literal)
    if kind == "date":
        # A date is an instant and the literal a span around it, before it or after it.
        return None if reading.span is None else _place(float(value), reading.span)
    if kind != reading.kind or value != value:
        return None
    found, wanted = cast(Any, value), cast(Any, reading.value)
    return int(found > wanted) - int(found < wanted)


def _place(instant: float, span: Span) -> int:
    return -1 if instant < span[0] else int(instant >= span[1])


def date_span(text: str) -> Span | None:
    """Return the day or the instant that an ISO 8601 text names, or None if it is not a date.

    >>> date_span("1970-01-02"), date_span("1970-01-01T01:00+01:00")
    ((86400.0, 172800.0), (0.0, 5e-324))
    """
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, sign, hours, minutes = match.groups("0")
    if int(hours) > 23 or int(minutes) > 59:
        return None
    try:
        local = datetime(int(year), int(month), int(day), int(hour), int(minute), tzinfo=UTC)
        local = local.replace(second=int(second), microsecond=int(fraction[:6].ljust(6, "0")))
    except ValueError:
        return None
    offset = timedelta(hours=int(hours), minutes=int(minutes)) * (-1 if sign == "-" else 1)
    instant = (local - _EPOCH - offset).total_seconds()
    return instant, instant + _DAY if match[4] is None else math.nextafter(instant, math.inf)


def _period_span(text: str) -> Span | None:
    match = _PERIOD.fullmatch(text)
    if match is None:
        return None
    year, first, last = int(match[1]), int(match[2] or 1), int(match[2] or 12)
    start = datetime(year, first, 1, tzinfo=UTC) - _EPOCH
    end = datetime(year, last, calendar.monthrange(year, last)[1], tzinfo=UTC) - _EPOCH
    return start.total_seconds(), end.total_seconds() + _DAY


def elements(value: object) -> Sequence[Scalar]:
    """View a value of flat metadata, or of a comparison, as the sequence of its scalars.

    >>> elements("a"), elements(["a", 1])
    (('a',), ['a', 1])
    """
    return cast(Sequence[Scalar], value if isinstance(value, list | tuple) else (value,))


def canonical_literal(value: Any) -> Scalar:
    """Check one literal and bring it to the form that equal filters share.

    >>> canonical_literal(2020.0), canonical_literal(date(2020, 1, 31))
    (2020, '2020-01-31')
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return _canonical_number(value)
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, datetime) and value.tzinfo:
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if value is None:
        raise FilterError("null is not a value", fix="use 'exists' or 'not exists'")
    raise FilterError(
        f"a filter cannot compare with {short(value)}",
        fix="give text, a number, true, false or a date",
    )


def _canonical_number(value: float) -> int | float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise FilterError(f"{number!r} is not a number to compare with", fix="give a finite number")
    # 2020.0 from JSON means the year 2020 as well.
    return int(value) if number.is_integer() and abs(number) < 2**53 else value


def encodable(text: str) -> str:
    """Return the text, refusing what cannot be stored.

    >>> encodable("año")
    'año'
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise FilterError(
            f"{short(text)} is not valid Unicode", fix=f"drop the surrogate at {error.start}"
        ) from error
    return text
