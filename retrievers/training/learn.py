"""Learn: trajectories → signals → examples → candidate → gate → registry → swap.

The candidate is trained on some question groups and judged on the others, over a generation built
aside. Only a promoted one is published, and it is served when this returns; otherwise nothing that
serves has changed. Either way the version is registered with its lineage.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict

from ...core.documents import utc_now
from ...core.errors import ConfigError
from ...core.trajectories import Signal, Trajectory
from ..builder import Progress, quiet
from ..index import Index
from .examples import Example, HeldOut, build_examples, held_out, normalise, split
from .gate import Measured, Verdict, decide, measure
from .registry import Card, Registry
from .signals import Judge, MiningReport, explicit_negation, mine_one
from .trainer import Hyperparameters, train

HELD_OUT_SHARE = 0.3
MIN_EXAMPLES = 16
MIN_HELD_OUT = 8


class LearnReport(BaseModel):
    """What a round of learning did."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verdict: Verdict
    reason: str
    version: int
    trajectories: int
    used: int
    signals: dict[str, int]
    dropped: dict[str, int]
    examples: int
    held_out: int
    measured: list[Measured]
    generation: int
    """The generation that is served now."""


class Mined(BaseModel):
    """Signals of all usable runs, with their questions, and how they were obtained."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    runs: list[tuple[str, list[Signal]]]
    report: MiningReport
    ids: list[str]


def mine_all(trajectories: Iterable[Trajectory], judge: Judge = explicit_negation) -> Mined:
    """Mine every run, keeping its question beside its signals."""
    report = MiningReport()
    runs: list[tuple[str, list[Signal]]] = []
    ids: list[str] = []
    for trajectory in trajectories:
        report.trajectories += 1
        signals = mine_one(trajectory, report, judge)
        if signals:
            report.used += 1
            report.levels.update(signal.level.name.lower() for signal in signals)
            runs.append((trajectory.question, signals))
            ids.append(trajectory.id)
    return Mined(runs=runs, report=report, ids=ids)


def learn(
    index: Index,
    trajectories: Iterable[Trajectory],
    *,
    hyper: Hyperparameters | None = None,
    accept_equal: bool = False,
    judge: Judge = explicit_negation,
    code_version: str = "unknown",
    progress: Progress = quiet,
) -> LearnReport:
    """Learn a better dense encoder from trajectories and serve it if the gate opens.

    Args:
        index: The corpus the trajectories were recorded over.
        trajectories: Runs; unusable ones are counted.
        hyper: How to train.
        accept_equal: Also promote a candidate that is not significantly better or worse.
        judge: Reads the thought after an opening.
        code_version: Kept in the lineage.
        progress: Is told about training, encoding and measuring.

    Raises:
        ConfigError: There is too little to learn from or to judge by.
        WorkspaceLocked: Another process is writing.
    """
    hyper = hyper or Hyperparameters()
    mined = mine_all(trajectories, judge)
    examples, queries = _divide(index, mined, hyper)
    registry = Registry(index.root)
    version, folder = registry.reserve()
    parent = index.encoder()
    train(parent, examples, index.texts, index.sample(2_000, hyper.seed), folder, hyper, progress)
    reference = f"models/dense/{version:04d}"
    with index.candidate(index.load(reference), progress=progress) as candidate:
        before = index.snapshot()
        measured = []
        for done, by in enumerate(("dense", "late", "hybrid"), 1):
            measured.append(measure(index, before, candidate.snapshot, queries, by))
            progress("measuring", done, 3)
        verdict, reason = decide(measured[0], measured[1:], accept_equal=accept_equal)
        registry.register(
            Card(
                name="dense",
                version=version,
                created_at=utc_now(),
                parent=parent.id,
                fingerprint=candidate.encoder.fingerprint,
                code_version=code_version,
                trajectories=mined.ids,
                data_hash=_data_hash(examples),
                hyperparameters=hyper.model_dump(),
                signals=dict(mined.report.levels),
                examples=len(examples),
                measured=measured,
                verdict=verdict,
                reason=reason,
            )
        )
        if verdict == "promoted":
            candidate.publish()
    return LearnReport(
        verdict=verdict,
        reason=reason,
        version=version,
        trajectories=mined.report.trajectories,
        used=mined.report.used,
        signals=dict(mined.report.levels),
        dropped=dict(mined.report.dropped),
        examples=len(examples),
        held_out=len(queries),
        measured=measured,
        generation=index.generation,
    )


def _divide(
    index: Index, mined: Mined, hyper: Hyperparameters
) -> tuple[list[Example], list[HeldOut]]:
    """Split runs into training examples and held-out queries, disjoint in question and query."""
    groups = {normalise(question) for question, _ in mined.runs}
    is_held_out = split(groups, HELD_OUT_SHARE, hyper.seed)
    kept = [run for run in mined.runs if is_held_out(normalise(run[0]))]
    queries = [item for item in held_out(kept) if _known(index, item)]
    asked = {normalise(text) for text in (*(q for q, _ in kept), *(i.query for i in queries))}
    examples = [
        example
        for example in build_examples(
            [run for run in mined.runs if not is_held_out(normalise(run[0]))], hyper.negatives
        )
        if normalise(example.query) not in asked
    ]
    if len(examples) < MIN_EXAMPLES or len(queries) < MIN_HELD_OUT:
        raise ConfigError(
            f"too little to learn from: {len(examples)} training examples (at least "
            f"{MIN_EXAMPLES}) and {len(queries)} held-out queries (at least {MIN_HELD_OUT}) in "
            f"{mined.report.trajectories} trajectories",
            fix="ask more questions, or import trajectories, then learn again",
        )
    return examples, queries


def _known(index: Index, item: HeldOut) -> bool:
    """Say whether anything a query is relevant to is still in the corpus."""
    return any(index.texts([f"{doc_id}#0"]) for doc_id in item.relevant)


def _data_hash(examples: Sequence[Example]) -> str:
    rows = json.dumps([[e.query, e.positive, e.negatives, e.weight] for e in examples])
    return hashlib.blake2b(rows.encode(), digest_size=16).hexdigest()
