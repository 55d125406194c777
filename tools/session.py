"""Session: what one agent run may do with an index, every call recorded.

The tools for LangChain, the graph and the servers are thin shells over this. It opens only what
exists, keeps the ids of what was opened, and never lets a failure pass unrecorded.
"""

from contextlib import suppress
from typing import Any, Literal

from ..core.documents import Hit, Passage
from ..core.errors import ToolError
from ..core.trajectories import Answer, HitRecord, Observation, Status, Trajectory
from ..retrievers.index import FilterSource, Index, Retriever
from ..retrievers.snapshot import By
from .aggregation import Aggregation, aggregate
from .recorder import Recorder, storable_text
from .web import fetch_page

Scope = Literal["passage", "neighbours", "document"]

MAX_OPENED_CHARACTERS = 20_000
"""Most text one browse returns; the rest is reachable by passage id."""


class Session:
    """One run over one index."""

    def __init__(self, index: Index, recorder: Recorder) -> None:
        """Bind an index to a run's recorder."""
        self.index = index
        self.recorder = recorder

    @property
    def generation(self) -> int:
        """The generation that is served now; a run may outlive one."""
        return self.index.generation

    def search(
        self,
        query: str,
        *,
        by: Retriever,
        k: int = 10,
        where: FilterSource = None,
        rank_by: By = "hybrid",
        order_by: str | None = None,
        thought: str | None = None,
    ) -> list[Hit]:
        """Search and record the list as it was shown."""
        query, thought = storable_text(query), thought and storable_text(thought)
        shown = where if where is None or isinstance(where, str | dict) else str(where)
        args = {"query": query, "k": k, "where": shown or None, "order_by": order_by}
        with self.recorder.step("search", by, args, thought) as draft:
            hits = self.index.search(
                query,
                by=by,
                k=k,
                where=where,
                rank_by=rank_by,
                order_by=order_by,
                thought=thought or self.recorder.thought,
            )
            draft.observation = Observation(
                hits=[
                    HitRecord(
                        passage_id=hit.passage.id,
                        doc_id=hit.doc_id,
                        rank=hit.rank,
                        score=round(hit.score, 6),
                    )
                    for hit in hits
                ]
            )
            return hits

    def browse(
        self,
        identifier: str,
        *,
        scope: Scope = "passage",
        thought: str | None = None,
        tool: str = "browse",
    ) -> list[Passage]:
        """Open a passage, its neighbours, or its whole document, and record what was read.

        Args:
            identifier: Of a passage or a document.
            scope: How much to open around a passage.
            thought: Why, and what the last passage gave.
            tool: The name it was called by; ``fetch`` is the tool that has room for no thought.

        Raises:
            ToolError: There is no such document or passage.
        """
        args = {"passage_id": identifier, "scope": scope if scope != "passage" else None}
        with self.recorder.step("browse", tool, args, thought) as draft:
            passages = self._open(identifier, scope)
            draft.observation = Observation(
                doc_id=passages[0].doc_id,
                passage_ids=[passage.id for passage in passages],
                chars=sum(len(passage.text) for passage in passages),
            )
            return passages

    def browse_url(self, url: str, *, thought: str | None = None) -> str:
        """Fetch a page from the web, where the workspace allows it, and record its text.

        Raises:
            ToolError: Web access is off, the address is refused, or the page cannot be had.
        """
        with self.recorder.step("browse", "browse", {"url": url}, thought) as draft:
            page = fetch_page(url, self.index.settings.web)
            text = storable_text(f"{page.title}\n{page.text}"[:MAX_OPENED_CHARACTERS])
            draft.observation = Observation(text=text, chars=len(text))
            return text

    def aggregate(
        self, request: Aggregation, *, thought: str | None = None
    ) -> list[dict[str, Any]]:
        """Count, group or list documents and record the table."""
        args = request.model_dump(exclude_none=True, exclude_defaults=True)
        args["operation"] = request.operation
        with self.recorder.step("aggregate", "aggregate", args, thought) as draft:
            table = aggregate(self.index, request, self._result_set(request.result_of))
            draft.observation = Observation(table=table)
            return table

    def note(
        self, action: Literal["recall", "answer"], thought: str | None, observation: Observation
    ) -> None:
        """Record a step that uses no tool."""
        with self.recorder.step(action, None, {}, thought) as draft:
            draft.observation = observation

    def passages(self, passage_ids: list[str]) -> list[Passage]:
        """Read passages again that this run has seen; those removed since are left out."""
        found: list[Passage] = []
        for identifier in passage_ids:
            with suppress(ToolError):
                doc_id, n = self.index.corpus.open(identifier, self.generation)
                found += self.index.corpus.window(doc_id, self.generation, n or 0, n or 0)
        return found

    def opened(self) -> list[str]:
        """Passage ids read so far, in order."""
        steps = (s for s in self.recorder.steps if s.action == "browse")
        ids = (i for s in steps for i in s.observation.passage_ids or [])
        return list(dict.fromkeys(ids))

    def finish(self, status: Status, answer: Answer | None = None) -> Trajectory:
        """End the run."""
        return self.recorder.finish(status, answer)

    def _open(self, identifier: str, scope: Scope) -> list[Passage]:
        corpus = self.index.corpus
        doc_id, n = corpus.open(identifier, self.generation)
        if scope == "document" or (n is None and scope == "passage"):
            first, last = 0, 1 << 40
        elif scope == "neighbours":
            first, last = max(0, (n or 0) - 1), (n or 0) + 1
        else:
            first = last = n or 0
        return _within_limit(corpus.window(doc_id, self.generation, first, last))

    def _result_set(self, step: int | None) -> list[str] | None:
        if step is None:
            return None
        for done in self.recorder.steps:
            if done.n == step and done.observation.hits is not None:
                return [hit.doc_id for hit in done.observation.hits]
        searches = [s.n for s in self.recorder.steps if s.observation.hits is not None]
        raise ToolError(
            f"step {step} is not a search of this run", fix=f"use one of {searches} or leave it out"
        )


def _within_limit(passages: list[Passage]) -> list[Passage]:
    """Keep leading passages up to the limit of one browse, at least one."""
    kept: list[Passage] = []
    total = 0
    for passage in passages:
        total += len(passage.text)
        if kept and total > MAX_OPENED_CHARACTERS:
            break
        kept.append(passage)
    return kept
