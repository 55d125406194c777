"""Recorder: writes the steps of one run to the trajectory store, each as it happens.

Tools record, agents do not: whoever calls a tool leaves the same trace. A call that fails leaves a
step too, with its error as the observation. Without a store the steps are kept in memory only.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from reprlib import repr as short
from threading import Lock
from time import perf_counter
from typing import Any, Self

from ulid import ULID

from ..core.documents import utc_now
from ..core.errors import ConfigError, RetrailError
from ..core.trajectories import (
    Action,
    AgentInfo,
    Answer,
    IndexInfo,
    Observation,
    Status,
    Step,
    Trajectory,
    Usage,
)
from ..memory.store import TrajectoryStore

_MAX_DEPTH = 60
"""Nesting of one argument that is recorded as it is."""


class Draft:
    """A step under way; the tool sets what it observed."""

    def __init__(self) -> None:
        """Begin without an observation."""
        self.observation = Observation()


class Recorder:
    """One run: its id, its steps so far, and their writing."""

    def __init__(
        self,
        store: TrajectoryStore | None,
        *,
        agent: AgentInfo,
        index: IndexInfo | None = None,
        question: str | None = None,
        query_id: str | None = None,
        on_step: Callable[[Step], None] | None = None,
    ) -> None:
        """Prepare a run; it is stored with its first step, or when it finishes.

        Args:
            store: Where to write, or None to keep nothing.
            agent: Who runs.
            index: What is searched.
            question: What the run is about; the first query if nobody says.
            query_id: The question's id in a set of questions.
            on_step: Is told of each step once it is recorded.
        """
        self.id = str(ULID())
        self.agent = agent
        self.question = question
        self.steps: list[Step] = []
        self._store = store
        self._index = index
        self._query_id = query_id
        self.listeners = [on_step] if on_step else list[Callable[[Step], None]]()
        """Who is told of each step once it is recorded."""
        self._started_at = utc_now()
        self._clock = perf_counter()
        self._ended: float | None = None
        self._stored = False
        self._spent = 0
        self._thought: str | None = None
        self._lock = Lock()

    @classmethod
    def resume(cls, store: TrajectoryStore, trajectory_id: str) -> Self:
        """Go on with a stored run, as after a restart; the time between does not count.

        Raises:
            ConfigError: No such run is stored, or it has come to its end.
        """
        run = store.get(trajectory_id)
        if run.status not in ("running", "failed"):
            raise ConfigError(f"run {run.id!r} has ended", fix="begin another")
        recorder = cls(
            store, agent=run.agent, index=run.index, question=run.question, query_id=run.query_id
        )
        recorder.id, recorder.steps, recorder._stored = run.id, list(run.steps), True
        recorder._started_at = run.started_at or recorder._started_at
        recorder._clock -= sum(step.ms for step in run.steps) / 1000
        return recorder

    @property
    def seconds(self) -> float:
        """Time since the run began, until it ended."""
        return (self._ended or perf_counter()) - self._clock

    @property
    def tokens(self) -> int:
        """LLM tokens spent so far."""
        return self._spent + sum(step.tokens for step in self.steps)

    def spend(self, tokens: int) -> None:
        """Count LLM tokens; they are noted with the step that they led to, the next one."""
        self._spent += tokens

    def think(self, thought: str) -> None:
        """Keep a thought for the next step, if that brings none of its own."""
        self._thought = thought or None

    @property
    def thought(self) -> str | None:
        """What was thought for the next step."""
        return self._thought

    @contextmanager
    def step(
        self, action: Action, tool: str | None, args: dict[str, Any], thought: str | None = None
    ) -> Iterator[Draft]:
        """Time an action and record it with whatever it observed, or the error it raised."""
        draft, at, clock = Draft(), utc_now(), perf_counter()
        try:
            yield draft
        except RetrailError as error:
            draft.observation = Observation(error=storable_text(str(error)))
            raise
        except BaseException as error:
            text = storable_text(f"{type(error).__name__}: {error}")
            draft.observation = Observation(error=text)
            raise
        finally:
            ms = round((perf_counter() - clock) * 1000, 3)
            self._append(action, tool, args, thought, draft, at, ms)

    def trajectory(self, status: Status = "running", answer: Answer | None = None) -> Trajectory:
        """Return the run as it stands."""
        return Trajectory(
            id=self.id,
            query_id=self._query_id,
            question=self.question or "",
            status=status,
            agent=self.agent,
            index=self._index,
            started_at=self._started_at,
            steps=list(self.steps),
            answer=answer,
            usage=Usage(llm_tokens=self.tokens, seconds=round(self.seconds, 3)),
        )

    def finish(self, status: Status, answer: Answer | None = None) -> Trajectory:
        """Close the run and return it."""
        self._ended = perf_counter()
        run = self.trajectory(status, answer)
        if self._store is not None:
            with self._lock:
                self._begin()
                self._store.finish(
                    self.id,
                    status=status,
                    question=self.question,  # it may have become known since the run began
                    answer=answer,
                    usage=run.usage,
                )
        return run

    def _append(
        self,
        action: Action,
        tool: str | None,
        args: dict[str, Any],
        thought: str | None,
        draft: Draft,
        at: str,
        ms: float,
    ) -> None:
        with self._lock:
            thought, self._thought = thought or self._thought, None
            step = Step(
                n=len(self.steps) + 1,
                at=at,
                ms=ms,
                thought=thought and storable_text(thought),
                action=action,
                tool=tool,
                args=_storable({key: value for key, value in args.items() if value is not None}),
                observation=draft.observation,
                tokens=self._spent,
            )
            if self.question is None and step.args.get("query"):
                self.question = str(step.args["query"])
            self._spent = 0
            self.steps.append(step)
            if self._store is not None and not self._begin():
                self._store.append(self.id, step)
        for listener in self.listeners:
            listener(step)

    def _begin(self) -> bool:
        """Store the run with the steps it has, if it is not stored yet; say whether it was new."""
        if self._stored or self._store is None:
            return False
        self._store.start(self.trajectory())
        self._stored = True
        return True


def storable_text(text: str) -> str:
    r"""Replace what is not valid Unicode: a model may write half a surrogate pair.

    >>> storable_text("a\ud800b")
    'a?b'
    """
    return text.encode("utf-8", "replace").decode("utf-8")


def _storable(args: dict[str, Any]) -> dict[str, Any]:
    """Keep arguments as JSON that the store takes; what nests too deep is shortened to text."""
    try:
        kept = json.loads(storable_text(json.dumps(args, ensure_ascii=False, default=str)))
        return {key: v if _depth(v) <= _MAX_DEPTH else short(v) for key, v in kept.items()}
    except RecursionError:
        return {key: storable_text(short(value)) for key, value in args.items()}


def _depth(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    children = value.values() if isinstance(value, dict) else value
    return 1 + max(map(_depth, children), default=0)
