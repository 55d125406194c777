"""Sources: how much of what is learned one of those who left runs may decide.

A source is the caller that a run was recorded for; runs without one share a bucket. Logs are open
to whoever may ask, so no single source may give more than a share of the examples, and what is said
again adds nothing: replayed runs are read once, and one (query, passage) counts a few times. The
caps hold for what is trained on and for what the gate is judged by. A caller is as true as the door
that names it: whoever can take many names has many shares.

With one source, or when the others together have not enough to learn from, nothing is capped.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b

from ...core.trajectories import Level, Signal, Trajectory
from .examples import normalise
from .options import MiningOptions

Runs = Sequence[tuple[str, list[Signal]]]

REPLAYED = "runs that repeat another, step by step"
REPEATED = "examples that other runs gave often enough"
MANY = "runs above a source's number"
SHARE = "examples above a source's share"

MOST_REPEATS = 5
"""Examples of the same query and passage."""

BALANCE = 16
"""Examples that the other sources must have before the largest is cut to its share: as many as
learning needs at least, since what could teach nothing by itself outweighs nothing."""


def source_of(run: Trajectory) -> str:
    """Name who left a run; empty if nobody is known."""
    return run.agent.caller or ""


def without_replays(runs: Iterable[Trajectory], dropped: Counter[str]) -> Iterator[Trajectory]:
    """Pass runs on, but those whose question, steps, citations and votes came before.

    Args:
        runs: Any number; 16 bytes of each are kept.
        dropped: Counts what is left out.
    """
    seen: set[bytes] = set()
    for run in runs:
        if (key := _content(run)) in seen:
            dropped[REPLAYED] += 1
        else:
            seen.add(key)
            yield run


def balanced(
    runs: Runs, sources: Sequence[str], options: MiningOptions, dropped: Counter[str]
) -> dict[int, list[Signal]]:
    """Hold every source to its number of runs and its share of the examples.

    An example is a passage that a run found useful for a query. Which runs of a source are over its
    share is drawn by a hash of their ids: a sample of all, the same every time.

    Args:
        runs: Pairs of a run's question and its signals, in the order recorded.
        sources: Of the runs, one each.
        options: ``per_source`` and ``per_source_runs``.
        dropped: Counts what is left out.

    Returns:
        The signals of those runs that stay, by position in ``runs``.
    """
    latest = _latest(sources, options.per_source_runs)
    if left := len(runs) - len(latest):
        dropped[MANY] += left
    kept = _few_of_each(runs, latest, dropped)
    sizes = {at: sum(s.level >= Level.USEFUL for s in signals) for at, signals in kept.items()}
    of_each = {at: (sources[at], drawn(kept[at])) for at in kept}
    for at in above_share(sizes, of_each, options.per_source):
        dropped[SHARE] += sizes[at]
        del kept[at]
    return kept


def above_share(
    sizes: Mapping[int, int], of_each: Mapping[int, tuple[str, bytes]], share: float
) -> set[int]:
    """Choose the runs of a source that are above its share.

    Args:
        sizes: Of the runs, by position.
        of_each: Their source, and the hash that draws them.
        share: At most, of all sizes.
    """
    totals: Counter[str] = Counter()
    for at, size in sizes.items():
        totals[of_each[at][0]] += size
    limit, given = most_of_one(list(totals.values()), share), Counter[str]()
    above: set[int] = set()
    for at in sorted(sizes, key=lambda at: of_each[at][1]):
        source = of_each[at][0]
        if totals[source] > limit and given[source] + sizes[at] > limit:
            above.add(at)
        else:
            given[source] += sizes[at]
    return above


def most_of_one(totals: Sequence[int], share: float) -> float:
    """Return how many examples one source may give, so that none has more than its share.

    A share below what equal parts would be cannot be held and counts as equal parts.

    >>> most_of_one([300, 100], 0.5), most_of_one([300, 100, 60], 0.25), most_of_one([300], 0.5)
    (100.0, 60.0, 300)
    >>> most_of_one([300, 10], 0.5)
    300
    """
    sizes = sorted(totals, reverse=True)
    largest, whole = max(sizes, default=0), sum(sizes)
    share = max(share, 1 / max(1, len(sizes)))
    if whole - largest < BALANCE or largest <= share * whole:
        return largest
    rest = whole
    for capped, size in enumerate(sizes[:-1], 1):
        rest -= size
        # Rounded, as equal parts must not fail the comparison by the last bit.
        limit = round(share * rest / (1 - capped * share), 6) if capped * share < 1 else largest
        if limit >= sizes[capped]:
            return limit
    return largest


def _latest(sources: Sequence[str], most: int | None) -> list[int]:
    of_each: defaultdict[str, list[int]] = defaultdict(list)
    for at, source in enumerate(sources):
        of_each[source].append(at)
    return sorted(at for places in of_each.values() for at in places[-(most or len(places)) :])


def _few_of_each(
    runs: Runs, places: Iterable[int], dropped: Counter[str]
) -> dict[int, list[Signal]]:
    times: Counter[tuple[str, str]] = Counter()
    kept: dict[int, list[Signal]] = {}
    for at in places:
        kept[at] = []
        for signal in runs[at][1]:
            pair = (normalise(signal.query), signal.passage_id)
            times[pair] += signal.level >= Level.USEFUL
            if signal.level >= Level.USEFUL and times[pair] > MOST_REPEATS:
                dropped[REPEATED] += 1
            else:
                kept[at].append(signal)
    return kept


def drawn(signals: Sequence[Signal]) -> bytes:
    """Hash the id of the run that signals are of; draws the runs that stay."""
    name = signals[0].trajectory_id if signals else ""
    return blake2b(name.encode(), digest_size=8).digest()


def _content(run: Trajectory) -> bytes:
    """Hash what a run says, whatever its id, its times and its scores."""
    steps = [
        [
            step.action,
            step.tool,
            step.args,
            step.thought,
            [(hit.passage_id, hit.rank) for hit in step.observation.hits or []],
            step.observation.model_dump(include={"doc_id", "passage_ids", "error", "dwell_ms"}),
        ]
        for step in run.steps
    ]
    cited = [citation.doc_id for citation in run.answer.citations] if run.answer else []
    votes = [(given.passage_id, given.vote) for given in run.feedback]
    told = json.dumps([normalise(run.question), steps, cited, votes], sort_keys=True, default=str)
    return blake2b(told.encode(errors="replace"), digest_size=16).digest()
