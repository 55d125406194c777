"""Run: everything a planner may look at while one question is being answered.

The LangGraph state holds only what must survive between nodes; the session, the tools and a
planner's own notes live here, in the run's context. A planner decides, it never acts: what it
returns is carried out, recorded and budgeted by the graph.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from langchain_core.tools import BaseTool

from ..core.documents import Passage
from ..core.settings import Budget
from ..core.trajectories import Answer, Step
from ..tools.session import Session
from ..tools.toolbox import build_tools


class Call(NamedTuple):
    """One tool call that a planner wants made."""

    tool: str
    args: dict[str, Any]


class Decision(NamedTuple):
    """What to do next: calls to make, or to stop and answer."""

    calls: tuple[Call, ...] = ()
    draft: str | None = None
    """The planner's own answer text, when it stops."""
    missing: str | None = None
    """Why the run stops short, when it does."""
    thought: str | None = None
    """What the last observation gave, when it stops."""


@dataclass
class Run:
    """One question being answered."""

    question: str
    session: Session
    budget: Budget
    tools: dict[str, BaseTool] = field(default_factory=dict[str, BaseTool])
    notes: Any = None
    """The planner's scratch pad; dies with the run."""
    observations: dict[int, str] = field(default_factory=dict[int, str])
    """What the model was shown after each step, by step number."""
    use_memory: bool = True

    def __post_init__(self) -> None:
        """Build the tools of the session."""
        self.tools = self.tools or {tool.name: tool for tool in build_tools(self.session)}

    @property
    def steps(self) -> list[Step]:
        """Steps so far."""
        return self.session.recorder.steps

    def opened(self) -> list[Passage]:
        """Passages read so far, in order."""
        return self.session.passages(self.session.opened())

    def exhausted(self) -> str | None:
        """Name the budget that is spent, or None."""
        searches = sum(step.action == "search" for step in self.steps)
        spent = (
            (len(self.steps) >= self.budget.max_steps, f"{self.budget.max_steps} steps"),
            (searches >= self.budget.max_searches, f"{self.budget.max_searches} searches"),
            (
                self.session.recorder.seconds >= self.budget.max_seconds,
                f"{self.budget.max_seconds:g} seconds",
            ),
            (
                self.session.recorder.tokens >= self.budget.max_llm_tokens,
                f"{self.budget.max_llm_tokens} tokens",
            ),
        )
        return next((f"the budget of {name} is spent" for over, name in spent if over), None)


class Planner(Protocol):
    """Decides the next action, and words the answer at the end."""

    name: str
    model: str | None

    def plan(self, run: Run) -> Decision:
        """Decide what to do after the steps so far."""
        ...

    def answer(self, run: Run, decision: Decision) -> Answer:
        """Answer from what was opened; an empty text means nothing was found."""
        ...
