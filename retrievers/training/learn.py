"""Learn: trajectories → signals → examples → candidate → gate → registry → swap.

The candidate is trained on some question groups and judged on the others, over a generation built
aside, or over the one that serves if only queries change (see ``swap``). Only a promoted one is
published, and it is served when this returns; otherwise nothing that serves has changed. Either way
the version is registered with its lineage.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from pydantic import BaseModel, ConfigDict

from ...core.documents import utc_now
from ...core.errors import ConfigError
from ...core.trajectories import Trajectory
from ..encoder import Encoder
from ..index import Candidate, Index
from ..learned_fusion import inherit
from ..progress import Progress, quiet
from ..query_side import QuerySide, encoding_version, identity
from ..similarity_pooling import Pooling
from .curve import read_curve
from .diagnostics import Diagnosis
from .division import divide
from .drift import save_drift
from .examples import Example
from .fusion import train_fusion
from .gate import Measured, Verdict
from .guard import guard_queries
from .held_gate import hold_gate
from .judge_names import choose_judge
from .judges import Judge
from .mining import mine_all
from .options import JudgeName, MiningOptions
from .record import RECORD, GateRecord
from .registry import Card, Registry
from .swap import Swap
from .trainer import Hyperparameters, train

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel


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
    record: str
    """What the gate saw, a path inside the workspace; reports are made of it."""
    report: str | None = None
    """The report, a path inside the workspace, where one was made."""


def learn(
    index: Index,
    trajectories: Iterable[Trajectory],
    *,
    hyper: Hyperparameters | None = None,
    swap: Swap = "reindex",
    accept_equal: bool = False,
    guard: str | Path = "",
    mining: MiningOptions | None = None,
    judge: JudgeName | Judge | None = None,
    chat: "BaseChatModel | None" = None,
    code_version: str = "unknown",
    origin: str = "",
    progress: Progress = quiet,
) -> LearnReport:
    """Learn a better dense encoder from trajectories and serve it if the gate opens.

    Args:
        index: The corpus the trajectories were recorded over.
        trajectories: Runs; unusable ones are counted.
        hyper: How to train; a mode that trains queries only is measured and served at once.
        swap: How a whole model comes to be measured and served: ``reindex`` encodes the passages
            with it, ``now`` compensates its drift over those of the model before. ``settle`` then
            brings the rest.
        accept_equal: Also promote a candidate that is not significantly better or worse.
        guard: Queries that must not be lost, see ``guard``; those of the settings if not given.
        mining: How to mine.
        judge: Takes the place of the judge that ``mining`` names.
        chat: The model that the judge ``llm`` asks, and that writes synthetic queries.
        code_version: Kept in the lineage.
        origin: Kept in the lineage; the round of a flywheel.
        progress: Is told about training, encoding and measuring.

    Raises:
        ConfigError: There is too little to learn from or to judge by, no such judge, or no model
            for what needs one.
        WorkspaceLocked: Another process is writing.
    """
    hyper = hyper or Hyperparameters()
    pooling = hyper.pooling or Pooling.of(index.settings)
    hyper = hyper.model_copy(update={"pooling": pooling})
    if index.settings.ragatouille and hyper.target != "dense":
        raise ConfigError(
            "RAGatouille's late search is not trained here", fix="train the target 'dense'"
        )
    if swap not in get_args(Swap):
        raise ConfigError(f"unknown swap {swap!r}", fix="use 'reindex' or 'now'")
    mining = mining or MiningOptions()
    if mining.synthetic and chat is None:
        raise ConfigError("synthetic queries need a model", fix="pass model='provider:name'")
    judge = judge or mining.judge
    diagnosis = Diagnosis()
    mined = mine_all(
        diagnosis.watched(trajectories), choose_judge(judge, chat, index.texts), mining
    )
    examples, queries = divide(index, mined, hyper, chat)
    guarding = guard_queries(index, examples, guard or index.settings.gate.guard, hyper.seed)
    registry = Registry(index.root)
    with ExitStack() as held:
        held.enter_context(registry.training())
        version, folder = registry.reserve()
        parent = _train(index, examples, folder, hyper, mined.report.dropped, progress)
        reference = f"models/dense/{version:04d}"
        candidate = held.enter_context(_candidate(index, reference, hyper, swap, progress))
        gate = hold_gate(
            index,
            candidate.snapshot,
            examples,
            queries,
            guarding,
            trained=hyper.judged_by,
            candidate=registry.candidate(index.published.serving),
            accept_equal=accept_equal,
            progress=progress,
        )
        GateRecord(
            version=version,
            gate=gate,
            dropped=dict(mined.report.dropped),
            behaviour=diagnosis.result(),
            curve=read_curve(folder),
        ).save(folder)
        registry.register(
            Card(
                name="dense",
                version=version,
                created_at=utc_now(),
                parent=parent.id,
                fingerprint=identity(folder),
                code_version=code_version,
                origin=origin,
                trajectories=mined.ids,
                data_hash=_data_hash(examples),
                hyperparameters=hyper.model_dump(),
                mining=mining.model_dump() | {"judge": _name_of(judge)},
                signals=dict(mined.report.levels),
                examples=len(examples),
                measured=gate.measured,
                candidate=gate.candidate,
                confidence=gate.measured[0].confidence,
                verdict=gate.verdict,
                reason=gate.reason,
            )
        )
        if gate.verdict == "promoted":
            candidate.publish()
    return LearnReport(
        verdict=gate.verdict,
        reason=gate.reason,
        version=version,
        trajectories=mined.report.trajectories,
        used=mined.report.used,
        signals=dict(mined.report.levels),
        dropped=dict(mined.report.dropped),
        examples=len(examples),
        held_out=len(queries),
        measured=gate.measured,
        record=f"{reference}/{RECORD}",
        generation=index.generation,
    )


def _train(
    index: Index,
    examples: list[Example],
    folder: Path,
    hyper: Hyperparameters,
    dropped: Counter[str],
    progress: Progress,
) -> Encoder:
    """Train into a version's folder; returns where training began.

    A query side begins at the encoder of the passages that it is for, a whole model at the newest
    whole model, even if only its queries serve yet.
    """
    if hyper.mode == "fusion":
        train_fusion(index, examples, folder, dropped, progress)
        return index.encoder()
    from .frozen import stored_vectors  # loads torch

    inherit(index.root / index.published.serving, folder)
    corpus = index.sample(2_000, hyper.seed)
    if hyper.mode != "full":
        parent, stored = index.encoder(), stored_vectors(index)
        train(parent, examples, index.texts, corpus, folder, hyper, progress, stored=stored)
        return parent
    side = encoding_version(index.root, index.published.query)
    drifted = side and QuerySide.read(index.root / side).kind == "drift"
    parent = index.load(side) if drifted else index.encoder()
    train(parent, examples, index.texts, corpus, folder, hyper, progress)
    trained = index.load(folder.relative_to(index.root).as_posix())
    save_drift(parent, trained, (example.query for example in examples), folder)
    return parent


def _candidate(
    index: Index, reference: str, hyper: Hyperparameters, swap: Swap, progress: Progress
) -> AbstractContextManager[Candidate]:
    """Prepare what is measured and may serve: an index of its own, or another query side."""
    if hyper.mode == "full" and swap == "reindex":
        return index.candidate(index.load(reference), progress=progress)
    return index.query_candidate(reference, progress=progress)


def _name_of(judge: str | Judge) -> str:
    return judge if isinstance(judge, str) else getattr(judge, "__name__", type(judge).__name__)


def _data_hash(examples: Sequence[Example]) -> str:
    rows = json.dumps(
        [[e.query, e.positive, e.negatives, e.weight, e.level, dict(e.judged)] for e in examples]
    )
    return hashlib.blake2b(rows.encode(), digest_size=16).hexdigest()
