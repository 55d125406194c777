"""The own API's responses: what is stored, with the titles and texts a reader needs beside it.

Records hold ids; the texts come from the corpus as it is now, and are null where a document has
since gone. Addresses are web addresses or null, never a scheme that could run something.
"""

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from ...core.documents import Hit, Metadata, Passage, passage_id
from ...core.links import citable_url
from ...core.trajectories import AgentInfo, Feedback, HitRecord, Status, Step, Trajectory, Usage
from ...tools.render import snippet
from ..tree import citation_numbers, number_markers

if TYPE_CHECKING:
    from ...agents.workspace import Workspace


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PassageView(_View):
    """A passage with its place in its document."""

    passage_id: str
    doc_id: str
    title: str
    url: str | None
    text: str
    start: int
    """First character in the document's text, in Unicode code points."""
    end: int
    metadata: Metadata


class HitView(PassageView):
    """A passage as a retriever ranked it."""

    rank: int
    score: float
    retriever: str
    field: str | None
    """The field that matched best, of a document that has fields."""


class ShownView(_View):
    """One line of a result list as an agent saw it."""

    passage_id: str
    doc_id: str
    rank: int
    score: float | None
    title: str | None
    url: str | None
    snippet: str | None


class StepView(_View):
    """A step with what it showed and opened."""

    step: Step
    hits: list[ShownView] | None
    opened: list[PassageView] | None


class CitationView(_View):
    """The numbered support of an answer."""

    n: int
    """As in the answer's text: ``[1]``."""
    doc_id: str
    passage_id: str | None
    start: int
    end: int
    quote: str
    title: str | None
    url: str | None


class AnswerView(_View):
    """An answer, or why there is none."""

    trajectory_id: str
    status: Status
    text: str
    citations: list[CitationView]
    missing: str | None
    usage: Usage


class RunView(_View):
    """A whole run."""

    id: str
    question: str
    status: Status
    agent: AgentInfo
    started_at: str | None
    steps: list[StepView]
    answer: AnswerView | None
    usage: Usage
    feedback: list[Feedback]


class Views:
    """Makes views of what one workspace holds now."""

    def __init__(self, workspace: "Workspace") -> None:
        """Look things up in a workspace."""
        self._index = workspace.index
        self._template = workspace.settings.url_template

    def hit(self, hit: Hit) -> HitView:
        """Show a hit of a search."""
        return HitView(
            **self._fields(hit.passage),
            rank=hit.rank,
            score=hit.score,
            retriever=hit.retriever,
            field=hit.field,
        )

    def passage(self, passage: Passage) -> PassageView:
        """Show a passage."""
        return PassageView(**self._fields(passage))

    def step(self, step: Step) -> StepView:
        """Show a step."""
        observed = step.observation
        ids = [*(hit.passage_id for hit in observed.hits or []), *(observed.passage_ids or [])]
        known = self._index.passages(ids)
        shown = [self._shown(hit, known.get(hit.passage_id)) for hit in observed.hits or []]
        read = [self.passage(known[i]) for i in observed.passage_ids or [] if i in known]
        return StepView(
            step=step,
            hits=None if observed.hits is None else shown,
            opened=None if observed.passage_ids is None else read,
        )

    def answer(self, run: Trajectory) -> AnswerView | None:
        """Show a run's answer with its citations numbered."""
        if run.answer is None:
            return None
        citations = run.answer.citations
        known = self._index.passages(c.passage_id or passage_id(c.doc_id, 0) for c in citations)
        of_document = {passage.doc_id: passage for passage in known.values()}
        return AnswerView(
            trajectory_id=run.id,
            status=run.status,
            text=number_markers(run.answer.text, citation_numbers(run.answer)),
            citations=[
                CitationView(
                    n=n,
                    **citation.model_dump(include=_CITED),
                    **self._described(of_document.get(citation.doc_id)),
                )
                for n, citation in enumerate(citations, 1)
            ],
            missing=run.answer.missing,
            usage=run.usage,
        )

    def run(self, run: Trajectory) -> RunView:
        """Show a whole run."""
        return RunView(
            id=run.id,
            question=run.question,
            status=run.status,
            agent=run.agent,
            started_at=run.started_at,
            steps=[self.step(step) for step in run.steps],
            answer=self.answer(run),
            usage=run.usage,
            feedback=run.feedback,
        )

    def url(self, doc_id: str, url: str | None) -> str | None:
        """Return a document's web address."""
        return citable_url(doc_id, url, self._template or None)

    def _fields(self, passage: Passage) -> dict[str, Any]:
        return {
            "passage_id": passage.id,
            "doc_id": passage.doc_id,
            "title": passage.title,
            "url": self.url(passage.doc_id, passage.url),
            "text": passage.text,
            "start": passage.start,
            "end": passage.end,
            "metadata": passage.metadata,
        }

    def _shown(self, hit: HitRecord, passage: Passage | None) -> ShownView:
        return ShownView(
            passage_id=hit.passage_id,
            doc_id=hit.doc_id,
            rank=hit.rank,
            score=hit.score,
            **self._described(passage),
            snippet=passage and snippet(passage.text),
        )

    def _described(self, passage: Passage | None) -> dict[str, Any]:
        if passage is None:
            return {"title": None, "url": None}
        return {"title": passage.title, "url": self.url(passage.doc_id, passage.url)}


_CITED = {"doc_id", "passage_id", "start", "end", "quote"}
