"""The tools a client sees: their arguments, their descriptions, and what they do.

``search`` and ``fetch`` have the exact shape that research connectors ask for. A call that cannot
be made raises an error whose text tells the model what to change; it is recorded like any other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...core.errors import ToolError
from ...core.schema import MetadataSchema
from ...core.trajectories import Step
from ...retrievers.searcher import MAX_QUERY_CHARACTERS
from ...retrievers.snapshot import By
from ...tools.aggregation import Aggregation, Operation
from ...tools.render import render_fields
from ...tools.session import Session
from ...tools.toolbox import record_refusal
from . import results

if TYPE_CHECKING:
    from ...agents.run import Planner
    from ...agents.workspace import Workspace

MAX_RESULTS = 50
MAX_ROWS = 1000
MAX_ID_CHARACTERS = 1100
"""A document id and the number of a passage."""

_FIELDS_SHOWN = 50
"""Metadata fields that a description names; the error about an unknown one names others."""
_WHERE = "Filter on metadata, such as: date >= 2023-10-01 and source = 'BBC'."
_READ_ONLY = {"readOnlyHint": True, "openWorldHint": False}


class _Args(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SearchArgs(_Args):
    """Arguments of ``search``."""

    query: str = Field(description="What to look for.", max_length=MAX_QUERY_CHARACTERS)


class FetchArgs(_Args):
    """Arguments of ``fetch``."""

    id: str = Field(
        description="The id of a result, or of a document.", max_length=MAX_ID_CHARACTERS
    )


class _Thoughtful(_Args):
    thought: str | None = Field(
        default=None, description="Why you make this call, and what the last text gave you."
    )


class SearchFilteredArgs(_Thoughtful):
    """Arguments of ``search_filtered``."""

    query: str = Field(
        default="",
        description="What to rank by; without it the documents are listed in order.",
        max_length=MAX_QUERY_CHARACTERS,
    )
    where: str = Field(description=_WHERE, min_length=1)
    k: int = Field(default=10, ge=1, le=MAX_RESULTS, description="Documents wanted.")
    by: By = Field(default="hybrid", description="What ranks.")
    order_by: str | None = Field(
        default=None, description="List by this field instead; -field for descending."
    )


class AggregateArgs(_Thoughtful):
    """Arguments of ``aggregate``."""

    operation: Operation
    field: str | None = Field(
        default=None, description="The metadata field; min, max and group need one."
    )
    where: str | None = Field(default=None, description=_WHERE)
    k: int = Field(default=20, ge=1, le=MAX_ROWS, description="Rows at most.")


class AskArgs(_Args):
    """Arguments of ``ask``."""

    question: str = Field(description="In words.", max_length=MAX_QUERY_CHARACTERS)


@dataclass(frozen=True)
class Options:
    """What a server is started with, beyond its workspace."""

    planner: "str | Planner" = "rules"
    """Who answers ``ask``."""
    url_template: str = ""


@dataclass(frozen=True)
class Call:
    """One call of a tool that may be made."""

    workspace: "Workspace"
    session: Session
    options: Options
    on_step: Callable[[Step], None]


@dataclass(frozen=True)
class Tool:
    """A tool, as it is offered and as it works."""

    name: str
    title: str
    text: str
    """What it is for, with ``{documents}`` to be filled in."""
    args: type[_Args]
    result: type[BaseModel]
    run: Callable[[Call, Any], BaseModel]
    fields: bool = False
    """Whether its description lists the corpus' metadata fields."""

    def describe(self, count: int, schema: MetadataSchema) -> dict[str, Any]:
        """Return the tool as the protocol lists it, for a corpus of that size and those fields."""
        text = self.text.format(documents=f"{count:,} document{'' if count == 1 else 's'}")
        return {
            "name": self.name,
            "title": self.title,
            "description": f"{text}\n{render_fields(schema)}" if self.fields else text,
            "inputSchema": self.args.model_json_schema(),
            "outputSchema": self.result.model_json_schema(mode="serialization"),
            "annotations": {"title": self.title, **_READ_ONLY},
        }

    def check(self, session: Session, arguments: dict[str, Any]) -> _Args:
        """Validate the arguments of a call.

        Raises:
            ToolError: They are wrong; the refused call is recorded.
        """
        try:
            return self.args.model_validate(arguments)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, item['loc']))}: {item['msg']}"
                for item in error.errors(include_url=False, include_input=False)
            )
        recorded_as = {"fetch": "browse"}.get(self.name, self.name)
        problem = f"arguments of {self.name!r}: {problems}"
        text = record_refusal(session, recorded_as, arguments, problem)
        raise ToolError(text.removeprefix("Error: "))


def _corpus(workspace: "Workspace") -> tuple[int, MetadataSchema]:
    """Count the documents and take their first fields; an empty index has none of either."""
    corpus = workspace.index.corpus
    published = corpus.published()
    if published is None:
        return 0, MetadataSchema()
    fields = corpus.schema(published.number).fields
    first = MetadataSchema(fields=dict(islice(fields.items(), _FIELDS_SHOWN)))
    return corpus.counts(published.number)[0], first


def _search(call: Call, args: SearchArgs) -> BaseModel:
    hits = call.session.search(args.query, by="hybrid")
    return results.search_result(hits, call.options.url_template)


def _fetch(call: Call, args: FetchArgs) -> BaseModel:
    return results.fetch_result(call.session, args.id, call.options.url_template)


def _search_filtered(call: Call, args: SearchFilteredArgs) -> BaseModel:
    hits = call.session.search(
        args.query,
        by="filtered",
        k=args.k,
        where=args.where,
        rank_by=args.by,
        order_by=args.order_by,
        thought=args.thought,
    )
    return results.filtered_result(hits, call.options.url_template)


def _aggregate(call: Call, args: AggregateArgs) -> BaseModel:
    request = Aggregation(**args.model_dump(exclude={"thought"}))
    return results.TableResult(table=call.session.aggregate(request, thought=args.thought))


def _ask(call: Call, args: AskArgs) -> BaseModel:
    run = call.workspace.ask(
        args.question,
        planner=call.options.planner,
        caller=call.session.recorder.agent.caller,
        on_step=call.on_step,
    )
    if args.question.strip():
        call.session.recorder.question = args.question
    return results.ask_result(run, call.session, call.options.url_template)


TOOLS = {
    tool.name: tool
    for tool in (
        Tool(
            "search",
            "Search",
            "Search {documents} by words and meaning together. Returns the id, title and url of "
            "the best matching passage of each document found; fetch an id to read it.",
            SearchArgs,
            results.SearchResult,
            _search,
        ),
        Tool(
            "fetch",
            "Read",
            "Read a passage by the id of a search result, or a whole document by its doc_id. The "
            "result's metadata name the passages before and after.",
            FetchArgs,
            results.FetchResult,
            _fetch,
        ),
        Tool(
            "search_filtered",
            "Search with a filter",
            "Search those of {documents} whose metadata match a filter, or list them in order.",
            SearchFilteredArgs,
            results.FilteredResult,
            _search_filtered,
            fields=True,
        ),
        Tool(
            "aggregate",
            "Count and compare",
            "Count, group, list, or find the smallest or largest value of a metadata field, "
            "exactly, over all those of {documents} that match, where a search would only guess.",
            AggregateArgs,
            results.TableResult,
            _aggregate,
            fields=True,
        ),
        Tool(
            "ask",
            "Ask",
            "Have a question answered from {documents}, with quotations. An agent searches and "
            "reads by itself, which may take a while.",
            AskArgs,
            results.AskResult,
            _ask,
        ),
    )
}


def describe_tools(workspace: "Workspace") -> list[dict[str, Any]]:
    """Return all tools as the protocol lists them, for the corpus as it is now."""
    count, schema = _corpus(workspace)
    tools = [tool.describe(count, schema) for tool in TOOLS.values()]
    if not workspace.settings.sparse_encoder:
        for tool in tools:
            ranks = tool["inputSchema"]["properties"].get("by", {}).get("enum", [])
            ranks[:] = [name for name in ranks if name != "sparse"]
    return tools
