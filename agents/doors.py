"""Doors: how other people's code holds a workspace, as tools, functions, retriever, graph.

Whatever comes in through them leaves a trajectory, as our own agent does. LangChain's retriever and
the middleware are imported when asked for.
"""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel
from langchain_core.tools import BaseTool

from ..core.errors import BackendUnavailable, ConfigError
from ..core.filters import parse_filter
from ..core.settings import Budget, Settings
from ..core.trajectories import AgentInfo, IndexInfo, Step
from ..memory.store import TrajectoryStore
from ..retrievers.index import FilterSource, Index, Retriever
from ..tools.functions import Function, build_functions
from ..tools.recorder import Recorder
from ..tools.session import Session
from ..tools.toolbox import build_tools
from .graph import Graph, build_graph
from .live import Live
from .planners import choose_planner
from .recording import Recording
from .run import Planner, Run

if TYPE_CHECKING:
    from ..tools.langchain import IndexRetriever
    from .middleware import RecordingMiddleware


class Doors:
    """A workspace directory, opened, and the ways into it."""

    def __init__(self, root: Path, settings: Settings) -> None:
        """Take a directory; what is in it is opened when first used."""
        self.root = root
        self.settings = settings

    @cached_property
    def index(self) -> Index:
        """The corpus and its retrievers."""
        return Index(self.root, self.settings)

    @cached_property
    def trajectories(self) -> TrajectoryStore:
        """The record of every run."""
        return TrajectoryStore(self.root / "trajectories.db")

    # --- runs of our own agent

    def begin(
        self,
        question: str,
        *,
        planner: str | Planner = "rules",
        model: str | BaseChatModel | None = None,
        budget: Budget | None = None,
        record: bool | None = None,
        recall: bool = True,
        query_id: str | None = None,
        caller: str | None = None,
        on_step: Callable[[Step], None] | None = None,
        resume: str | None = None,
    ) -> Run:
        """Prepare a run, to be carried out by a graph.

        The arguments are those of :meth:`Workspace.ask`, and ``resume``: the id of a run to take up
        where it stopped; if nothing of it was recorded, or it has ended, another is begun.
        """
        if not isinstance(question, str) or not question.strip():  # a graph takes anything
            raise ConfigError("the question is empty", fix="ask something")
        chosen, limits = choose_planner(planner, model), budget or self.settings.budget
        taken_up = self._recorded(resume)
        if taken_up is not None:
            return Run(question, taken_up, limits, chosen)
        keep = self._keeps(record)
        info = AgentInfo(planner=chosen.name, model=chosen.model, caller=caller)
        session = self._session(info, question, query_id=query_id, keep=keep, on_step=on_step)
        earlier = self.trajectories.find(question) if recall and keep else []
        return Run(question, session, limits, chosen, tuple(earlier))

    def graph(
        self,
        *,
        planner: str | Planner = "rules",
        model: str | BaseChatModel | None = None,
        budget: Budget | None = None,
        record: bool | None = None,
        recall: bool = True,
        caller: str | None = None,
    ) -> Graph:
        """Return our agent as a LangGraph graph, to run by itself or as a node of another.

        It takes ``{question}`` and gives ``{answer, citations, missing, status, trajectory_id}``;
        ``agents/events.py`` has what it streams. With a checkpointer, a run that was interrupted
        goes on from the record, also in another process. The arguments are those of ``ask``.
        """
        chosen = choose_planner(planner, model)
        options: dict[str, Any] = {"budget": budget, "record": record}
        options |= {"planner": chosen, "recall": recall, "caller": caller}
        return build_graph(
            lambda question, known, _: self.begin(question, resume=known, **options), Live()
        )

    # --- other people's agents

    def session(
        self,
        *,
        question: str | None = None,
        caller: str | None = None,
        planner: str = "external",
        record: bool | None = None,
        resume: str | None = None,
    ) -> Session:
        """Begin a recorded run of somebody else's agent, without tools of any framework.

        Args:
            question: What the agent is asked; its first query if not given.
            caller: Who calls, kept with the trajectory.
            planner: What decides, kept with the trajectory.
            record: Keep the trajectory; the workspace's setting if not given.
            resume: The id of a run to take up where it stopped, if anything of it was recorded.
        """
        info = AgentInfo(planner=planner, caller=caller)
        taken_up = self._recorded(resume)
        return taken_up or self._session(info, question, keep=self._keeps(record))

    def tools(self, *, question: str | None = None, caller: str | None = None) -> list[BaseTool]:
        """Return LangChain tools for somebody else's agent; their calls are one trajectory.

        Args:
            question: What the agent is asked; its first query if not given.
            caller: Who calls, kept with the trajectory.
        """
        return build_tools(self.session(question=question, caller=caller))

    def functions(
        self, *, question: str | None = None, caller: str | None = None
    ) -> list[Function]:
        """Return the same tools as plain functions, for any agent SDK."""
        return build_functions(self.session(question=question, caller=caller))

    def recording(
        self, question: str | None = None, *, caller: str | None = None, record: bool | None = None
    ) -> Recording:
        """Record how somebody else's agent answers a question, its answer included.

        Example::

            with workspace.recording("Who approves refunds?", caller="their-agent") as run:
                run.answer(their_agent(run.question, tools=run.functions()))
        """
        return Recording(self.session(question=question, caller=caller, record=record))

    def middleware(
        self,
        *,
        caller: str | None = None,
        record: bool | None = None,
        budget: Budget | None = None,
    ) -> "RecordingMiddleware":
        """Return a middleware for ``langchain.agents.create_agent`` that records each invocation.

        Args:
            caller: Who calls, kept with the trajectories.
            record: Keep the trajectories; the workspace's setting if not given.
            budget: Limits of one invocation; at the first one reached the model is asked to answer
                from what it has read. None if not given.

        Raises:
            BackendUnavailable: langchain is not installed.
        """
        try:
            from .middleware import RecordingMiddleware
        except ImportError as error:
            raise BackendUnavailable(
                "recording an agent of langchain needs langchain",
                install_hint="pip install 'retrail[langchain]'",
            ) from error
        return RecordingMiddleware(
            self.index,
            begin=lambda question, known: Recording(
                self.session(question=question, caller=caller, record=record, resume=known)
            ),
            budget=budget,
        )

    def as_retriever(
        self,
        *,
        by: Retriever = "hybrid",
        k: int = 10,
        where: FilterSource = None,
        record: bool | None = None,
    ) -> "IndexRetriever":
        """Return a LangChain retriever over this workspace.

        Args:
            by: The retriever.
            k: Documents wanted.
            where: A filter.
            record: Keep each use as a small trajectory; the workspace's setting if not given.
        """
        from ..tools.langchain import IndexRetriever

        return IndexRetriever(
            by=by,
            k=k,
            where=parse_filter(where),
            session=lambda query: self.session(question=query, planner="retriever", record=record),
        )

    def _keeps(self, record: bool | None) -> bool:
        return self.settings.record if record is None else record

    def _recorded(self, trajectory_id: str | None) -> Session | None:
        try:
            recorder = trajectory_id and Recorder.resume(self.trajectories, trajectory_id)
        except ConfigError:  # it stopped before anything happened, or it has ended
            return None
        return Session(self.index, recorder) if recorder else None

    def _session(
        self,
        info: AgentInfo,
        question: str | None,
        *,
        keep: bool,
        query_id: str | None = None,
        on_step: Callable[[Step], None] | None = None,
    ) -> Session:
        published = self.index.published
        recorder = Recorder(
            self.trajectories if keep else None,
            agent=info,
            index=IndexInfo(
                generation=published.number,
                encoder=published.id,
            ),
            question=question,
            query_id=query_id,
            on_step=on_step,
        )
        return Session(self.index, recorder)
