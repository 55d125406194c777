"""Queries that a chat model writes for documents that agents found useful: more rows to train on.

The model is shown queries from the log as examples of form, drawn in proportion to the forms of
all logged queries, so that what it writes keeps their distribution (the router of RouteNator, arXiv
2505.10495), what the document must do for the query by its level (cited: answer it; useful: hold a
part), and what was rejected beside it, which stays a negative. A query counts only if searching for
it now finds its document (round-trip consistency, Promptagator, arXiv 2209.11755, section 3.2).
"""

import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ...core.trajectories import Level, Signal
from .augment import Runs
from .chat_tasks import MAX_CHARACTERS, replies
from .rows import Texts

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

FAILED = "requests for queries without a usable reply"
LOST = "written queries that do not find their document"

MAX_QUERY = 300
"""Characters of a written query."""
_EXAMPLES = 5
"""Logged queries that show the form."""
_OTHERS = 2
"""Rejected documents that are shown."""
_QUESTION = ("who", "what", "when", "where", "which", "why", "how", "is", "are", "was", "does")

Finds = Callable[[str, str], bool]
"""Says whether a search for a query finds a document."""


class _Wanted(NamedTuple):
    """A document that queries are written for, with what was not good enough beside it."""

    question: str
    useful: Signal
    rejected: list[Signal]


def synthesised(
    runs: Runs,
    chat: "BaseChatModel",
    texts: Texts,
    finds: Finds,
    *,
    count: int,
    seed: int,
    dropped: Counter[str],
) -> list[tuple[str, list[Signal]]]:
    """Return signals under queries that a chat model wrote, each with its run's question.

    Args:
        runs: Pairs of a run's question and its signals.
        chat: Writes the queries.
        texts: Looks passages up.
        finds: Says whether a query finds a document now.
        count: Queries wanted of each document that a run found useful.
        seed: Draws the examples of form.
        dropped: Counts what could not be used.
    """
    wanted = [each for question, signals in runs for each in _wanted(question, signals)]
    names = {s.passage_id for each in wanted for s in (each.useful, *each.rejected)}
    known = texts(sorted(names))
    wanted = [each for each in wanted if each.useful.passage_id in known]
    logged = [s.query for _, signals in runs for s in {s.query: s for s in signals}.values()]
    like = _router(logged, random.Random(seed))
    tasks = [_task(each, known, like(), count) for each in wanted]
    made: list[tuple[str, list[Signal]]] = []
    for each, reply in zip(wanted, replies(chat, "queries", tasks), strict=True):
        queries = _read(reply)[:count]
        dropped[FAILED] += not queries
        kept = [query for query in queries if finds(query, each.useful.doc_id)]
        dropped[LOST] += len(queries) - len(kept)
        made += [(each.question, _under(query, each)) for query in kept]
    return made


def form(query: str) -> tuple[int, bool]:
    """Return the form of a query: about how long it is, and whether it is put as a question.

    >>> form("Who built the bridge?"), form("bridge Kraków 1850")
    ((1, True), (0, False))
    """
    first, *rest = query.casefold().split() or [""]
    asks = query.rstrip().endswith("?") or first in _QUESTION
    return (len(rest) > 2) + (len(rest) > 7), asks


def _router(logged: Sequence[str], chance: random.Random) -> Callable[[], list[str]]:
    """Draw a logged query, so a form in proportion to its share, and others of that form."""
    of_form: dict[tuple[int, bool], list[str]] = defaultdict(list)
    for query in logged:
        of_form[form(query)].append(query)

    def draw() -> list[str]:
        alike = sorted(set(of_form[form(chance.choice(logged))]))
        return chance.sample(alike, min(_EXAMPLES, len(alike)))

    return draw


def _wanted(question: str, signals: Sequence[Signal]) -> list[_Wanted]:
    """Take each useful document of a run once, at its highest level."""
    best: dict[str, Signal] = {}
    for signal in sorted(signals, key=lambda s: -s.level):
        if signal.level >= Level.USEFUL:
            best.setdefault(signal.doc_id, signal)
    rejected = [s for s in signals if s.level == Level.REJECTED and s.doc_id not in best]
    return [
        _Wanted(question, useful, [s for s in rejected if s.query == useful.query][:_OTHERS])
        for useful in best.values()
    ]


def _task(each: _Wanted, known: Mapping[str, str], like: list[str], count: int) -> dict[str, Any]:
    others = [known[s.passage_id] for s in each.rejected if s.passage_id in known]
    return {
        "document": known[each.useful.passage_id][:MAX_CHARACTERS],
        "others": [text[:MAX_CHARACTERS] for text in others],
        "answers": "fully" if each.useful.level == Level.CITED else "partly",
        "like": like,
        "count": count,
    }


def _read(reply: str | None) -> list[str]:
    """Read the last line of a reply, a JSON array of short lines; anything else is nothing."""
    lines = (reply or "").strip().removesuffix("```").strip().splitlines() or [""]
    try:
        told: Any = json.loads(lines[-1])
    except (ValueError, RecursionError):
        return []
    if not isinstance(told, list):
        return []
    said = [text.strip() for text in cast(list[Any], told) if isinstance(text, str)]
    fitting = [t for t in said if t and len(t) <= MAX_QUERY and t.isprintable()]
    return list(dict.fromkeys(fitting))


def _under(query: str, each: _Wanted) -> list[Signal]:
    return [replace(signal, query=query) for signal in (each.useful, *each.rejected)]
