"""A simulated reader: stands in for an agent that reads and judges, where no model can run.

It knows which documents answer a question, as a person who reads them would find out, and behaves
like the agents LRAT describes (arXiv 2604.04949, section 2): it opens what its snippet makes look
right, at any rank, judges after reading, and rewords by trying another tool. Its errors are drawn
from a seeded generator. Everything it leaves is recorded under the planner ``simulated-reader``.
"""

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field

from ..agents.citations import best_sentence, cite
from ..agents.run import Call, Decision, Run
from ..core.trajectories import Answer, Step


class Behaviour(BaseModel):
    """How the simulated reader errs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    opens_right: float = Field(default=0.9, ge=0, le=1)
    """Chance to open a document that answers the question, once shown."""
    opens_wrong: float = Field(default=0.15, ge=0, le=1)
    """Chance to open one that does not."""
    judges_right: float = Field(default=0.95, ge=0, le=1)
    """Chance that its judgement after reading is the true one."""
    shown: int = Field(default=10, ge=1)
    """Results it asks for."""
    searches: int = Field(default=3, ge=1)
    """Tools it tries before it gives up."""
    seed: int = 0


@dataclass
class _Notes:
    random: random.Random
    tools: list[str]
    to_open: list[str] = field(default_factory=list[str])
    useful: list[str] = field(default_factory=list[str])
    """Passage ids it judged useful."""
    seen: int = 0
    thought: str = ""


class SimulatedReader:
    """Plans as a reader would who can tell a right document from a wrong one."""

    name = "simulated-reader"
    model: str | None = None

    def __init__(
        self, targets: Mapping[str, Collection[str]], behaviour: Behaviour | None = None
    ) -> None:
        """Take the documents that answer each question.

        Args:
            targets: Question → document ids.
            behaviour: How it errs.
        """
        self.targets = targets
        self.behaviour = behaviour or Behaviour()

    def plan(self, run: Run) -> Decision:
        """Open what looks right, judge it, search again if nothing was."""
        notes = self._notes(run)
        for step in run.steps[notes.seen :]:
            self._take_in(run, notes, step)
        notes.seen = len(run.steps)
        thought, notes.thought = notes.thought, ""
        if notes.to_open:
            args = {"passage_id": notes.to_open.pop(0), "thought": thought or "It looks right."}
            return Decision((Call("browse", args),))
        if notes.useful or not notes.tools:
            return Decision(thought=thought or "Nothing here answers it.")
        args = {
            "query": run.question,
            "k": self.behaviour.shown,
            "thought": f"{thought} Try this tool.".strip(),
        }
        return Decision((Call(notes.tools.pop(0), args),))

    def answer(self, run: Run, decision: Decision) -> Answer:
        """Quote the documents it judged useful."""
        citations = [
            cite(passage, best_sentence(passage, run.question))
            for passage in run.session.passages(notes_of(run).useful)
        ]
        text = " ".join(citation.quote for citation in citations)
        return Answer(text=text, citations=citations, missing=None if text else "not found")

    def _notes(self, run: Run) -> _Notes:
        if not isinstance(run.notes, _Notes):
            chance = random.Random(f"{self.behaviour.seed}:{run.question}")
            tools = ["search", "late_search", "dense_search", "keyword_search"]
            chance.shuffle(tools)
            run.notes = _Notes(chance, tools[: self.behaviour.searches])
        return run.notes

    def _take_in(self, run: Run, notes: _Notes, step: Step) -> None:
        right = self.targets.get(run.question, ())
        if step.action == "search" and step.observation.hits is not None:
            opened = set(run.session.opened())
            for hit in step.observation.hits:
                odds = "opens_right" if hit.doc_id in right else "opens_wrong"
                chance = notes.random.random() < getattr(self.behaviour, odds)
                if chance and hit.passage_id not in opened:
                    notes.to_open.append(hit.passage_id)
        elif step.action == "browse" and step.observation.passage_ids:
            truth = step.observation.doc_id in right
            verdict = truth == (notes.random.random() < self.behaviour.judges_right)
            if verdict:
                notes.useful += step.observation.passage_ids[:1]
                notes.thought = "This answers it."
            else:
                notes.thought = "This is not relevant."


def notes_of(run: Run) -> _Notes:
    """Return the reader's notes of a run; empty before its first plan."""
    return run.notes if isinstance(run.notes, _Notes) else _Notes(random.Random(0), [])
