"""The tools as LangChain ``BaseTool``s: the searches, browse and aggregate.

Each returns compact text for the model and the full result as the artifact. Every call gives
exactly one observation: an error becomes text that says how to retry, and is recorded like any
other. Tools of one toolbox share one session, hence one trajectory.
"""

from abc import abstractmethod
from typing import Any, Literal, Self

from langchain_core.callbacks import CallbackManagerForToolRun
from langchain_core.tools import BaseTool, ToolException
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, create_model

from ..core.documents import Hit
from ..core.errors import RetrailError, ToolError
from ..core.trajectories import Action, Step
from ..retrievers.index import Retriever
from ..retrievers.snapshot import By
from .aggregation import Aggregation
from .render import render_fields, render_hits, render_page, render_passages, render_table
from .session import Scope, Session

_LONGEST_RAW = 2000
"""Characters kept of arguments that cannot be read."""

_THOUGHT = "Why you make this call, and what the last passage gave you."
_RANKS = "Which retriever ranks."
_WHERE = "Filter on metadata, such as: date >= 2023-10-01 and source = 'BBC'."


class _Args(BaseModel):
    model_config = ConfigDict(extra="forbid")

    thought: str | None = Field(default=None, description=_THOUGHT)


class SearchArgs(_Args):
    """Arguments of a search."""

    query: str = Field(description="What to look for.")
    k: int = Field(default=10, ge=1, le=50, description="Documents wanted.")
    where: str | dict[str, Any] | None = Field(default=None, description=_WHERE)


class FilteredArgs(_Args):
    """Arguments of a filtered search."""

    query: str = Field(default="", description="What to rank by; empty lists in order.")
    k: int = Field(default=10, ge=1, le=50, description="Documents wanted.")
    where: str | dict[str, Any] = Field(description=_WHERE)
    order_by: str | None = Field(
        default=None, description="List by this field; -field for descending."
    )
    rank_by: By = Field(default="hybrid", description=_RANKS)


PlainFilteredArgs = create_model(
    "FilteredArgs",
    __base__=FilteredArgs,
    rank_by=(
        Literal["keyword", "dense", "late", "hybrid"],
        Field(default="hybrid", description=_RANKS),
    ),
)
"""The same where there is no sparse encoder."""


class BrowseArgs(_Args):
    """Arguments of browse."""

    passage_id: str = Field(description="A passage or document id from a result list, or a URL.")
    scope: Scope = Field(
        default="passage", description="passage, its neighbours, or the whole document."
    )


class AggregateArgs(_Args):
    """Arguments of aggregate."""

    operation: Literal["count", "min", "max", "group", "list"]
    field: str | None = Field(default=None, description="The metadata field.")
    where: str | None = Field(default=None, description=_WHERE)
    result_of: int | None = Field(
        default=None, description="Number of an earlier search to work on."
    )
    k: int = Field(default=20, ge=1, le=1000, description="Rows at most.")


class RecordedTool(BaseTool):
    """A tool bound to a session, whose failures are observations."""

    response_format: Literal["content", "content_and_artifact"] = "content_and_artifact"
    handle_tool_error: Any = True  # a failure reaches the model as a message of status "error"
    _session: Session = PrivateAttr()

    @classmethod
    def bound(cls, session: Session, **fields: Any) -> Self:
        """Make a tool of a session."""
        return cls(**fields).rebound(session)

    @property
    def session(self) -> Session:
        """The run that calls are recorded in."""
        return self._session

    def rebound(self, session: Session) -> Self:
        """Return the same tool for another run."""
        tool = self.model_copy()
        tool._session = session
        return tool

    def _run(self, run_manager: CallbackManagerForToolRun | None = None, **args: Any) -> Any:
        try:
            return self.call(**args)
        except RetrailError as error:
            raise ToolException(f"Error: {error}") from error

    @abstractmethod
    def call(self, **args: Any) -> tuple[str, Any]:
        """Do the work; returns the text for the model and the artifact."""

    def _parse_input(
        self, tool_input: str | dict[str, Any], tool_call_id: str | None
    ) -> str | dict[str, Any]:
        """Validate arguments; what is refused is recorded as the model sent it.

        A bare text stands for the first argument, as LangChain's tools of one argument take it.
        """
        if isinstance(tool_input, str):
            first = next(name for name in self.args if name != "thought")
            tool_input = {first: tool_input}
        try:
            return super()._parse_input(tool_input, tool_call_id)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()
            )
            problem = f"arguments of {self.name!r}: {problems}"
            text = record_refusal(self._session, self.name, tool_input, problem)
            raise ToolException(text) from error


class SearchTool(RecordedTool):
    """Search with one retriever."""

    args_schema: Any = SearchArgs
    by: Retriever

    def call(self, **args: Any) -> tuple[str, list[Hit]]:
        """Search."""
        hits = self._session.search(by=self.by, **args)
        return render_hits(hits), hits


class BrowseTool(RecordedTool):
    """Open what a search found."""

    args_schema: Any = BrowseArgs

    def call(self, **args: Any) -> tuple[str, Any]:
        """Open a passage, a document or a page."""
        identifier: str = args.pop("passage_id")
        if identifier.startswith(("http://", "https://")) and not self._known(identifier):
            text = self._session.browse_url(identifier, thought=args.get("thought"))
            return render_page(identifier, text), text
        passages = self._session.browse(identifier, **args)
        return render_passages(passages), passages

    def _known(self, identifier: str) -> bool:
        """Say whether a URL is itself the id of a document."""
        try:
            self._session.index.corpus.open(identifier, self._session.generation)
        except ToolError:
            return False
        return True


class AggregateTool(RecordedTool):
    """Exact numbers over metadata."""

    args_schema: Any = AggregateArgs

    def call(self, **args: Any) -> tuple[str, list[dict[str, Any]]]:
        """Aggregate."""
        thought = args.pop("thought", None)
        table = self._session.aggregate(Aggregation(**args), thought=thought)
        return render_table(table), table


_SEARCHES: tuple[tuple[str, Retriever, str, type[_Args]], ...] = (
    (
        "search",
        "hybrid",
        "Search by words and meaning together. A good first choice for any question.",
        SearchArgs,
    ),
    ("late_search", "late", "Search word by word in context (late interaction). The best first "
     "choice for questions and descriptions.", SearchArgs),
    ("dense_search", "dense", "Search by overall meaning. For paraphrases that share few words "
     "with the text.", SearchArgs),
    ("keyword_search", "keyword", "Search by exact words (BM25). For names, identifiers, rare "
     'words; "a phrase", +required, -excluded, AND, OR.', SearchArgs),
    ("sparse_search", "sparse", "Search by the words of the query and those that a learned model "
     "adds to a text. For terms whose spelling or synonyms vary.", SearchArgs),
    ("filtered_search", "filtered", "Search only documents whose metadata match a filter, or "
     "list them in order.", FilteredArgs),
)  # fmt: skip


def build_tools(session: Session) -> list[BaseTool]:
    """Return the tools of a session; descriptions name the corpus' own fields.

    There are seven, and ``sparse_search`` where the workspace has a sparse encoder.
    """
    fields = render_fields(session.index.schema())
    has_sparse = bool(session.index.settings.sparse_encoder)
    tools: list[BaseTool] = [
        SearchTool.bound(
            session,
            by=by,
            name=name,
            description=f"{text}\n{fields}" if by == "filtered" else text,
            args_schema=PlainFilteredArgs if by == "filtered" and not has_sparse else schema,
        )
        for name, by, text, schema in _SEARCHES
        if by != "sparse" or has_sparse
    ]
    tools.append(
        BrowseTool.bound(
            session,
            name="browse",
            description="Open a passage from a result list, its neighbours, or its whole "
            "document, and read it. Only what was opened may be cited, by its [id] after what it "
            "supports.",
        )
    )
    tools.append(
        AggregateTool.bound(
            session,
            name="aggregate",
            description="Count, group, list, or find the smallest or largest value of a metadata "
            f"field, exactly, over all documents that match.\n{fields}",
        )
    )
    return tools


def tool_name(step: Step) -> str:
    """Return the name of the tool whose call a step records."""
    searches = {by: name for name, by, _, _ in _SEARCHES}
    return searches.get(step.tool or "", str(step.tool))


def record_refusal(session: Session, tool: str, args: dict[str, Any], problem: str) -> str:
    """Record a call that could not be made, and return the observation that says how to retry."""
    message = f"{problem}; call the tool again with corrected arguments"
    actions: dict[str, Action] = {"browse": "browse", "aggregate": "aggregate"}
    sent, thought = dict(args), None
    if isinstance(sent.get("thought"), str):
        thought = sent.pop("thought")
    try:
        with session.recorder.step(actions.get(tool, "search"), tool, sent, thought):
            raise ToolError(message)
    except ToolError as error:
        return f"Error: {error}"


def record_malformed(session: Session, tool: str, args: object, problem: str) -> str:
    """Record a call whose arguments cannot be read, as the text that the model sent."""
    raw = {"raw": str(args)[:_LONGEST_RAW]}
    return record_refusal(session, tool, raw, f"the arguments are not valid JSON ({problem})")
