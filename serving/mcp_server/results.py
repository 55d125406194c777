"""What the tools return: the search/fetch pair as research connectors expect it, and the rest.

A result's ``id`` is the passage's, so that ``fetch`` returns the very text that was ranked, a long
document never floods a context, and the run says which passage of the list was opened. From there
``metadata`` leads on: ``doc_id`` fetches the document, ``previous`` and ``next`` the text around.
Every result has a ``url``, without which it could not be cited: the document's own web address,
else one made from the ``url_template`` setting, else its ``doc://`` resource on this server.
"""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict

from ...core.documents import Hit, MetadataValue, Passage, split_passage_id
from ...core.links import citable_url
from ...core.trajectories import Trajectory
from ...tools.render import snippet
from ...tools.session import MAX_OPENED_CHARACTERS, Session

DOCUMENT_SCHEME = "doc://"


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Found(_Result):
    """One line of a result list."""

    id: str
    title: str
    url: str


class SearchResult(_Result):
    """What ``search`` returns."""

    results: list[Found]


class FetchResult(_Result):
    """What ``fetch`` returns."""

    id: str
    title: str
    text: str
    url: str
    metadata: dict[str, MetadataValue]


class Described(Found):
    """One line of a result list, with what helps to choose."""

    text: str
    """The beginning of the passage."""
    metadata: dict[str, MetadataValue]
    field: str | None
    """The field that matched best, of a document that has fields."""


class FilteredResult(_Result):
    """What ``search_filtered`` returns."""

    results: list[Described]


class TableResult(_Result):
    """What ``aggregate`` returns."""

    table: list[dict[str, Any]]


class Quote(Found):
    """Words of a document that an answer rests on."""

    quote: str


class AskResult(_Result):
    """What ``ask`` returns."""

    answer: str
    citations: list[Quote]
    status: str
    missing: str | None
    """What the run could not find."""
    trajectory_id: str


def document_url(doc_id: str, own: str | None, template: str) -> str:
    """Return the address under which a document is cited, never an empty one.

    >>> document_url("a/b c", None, "https://kb.example/{id}")
    'https://kb.example/a%2Fb%20c'
    >>> document_url("ü", "file:///x", ""), document_url("x", "https://x.example", "")
    ('doc://%C3%BC', 'https://x.example')
    """
    return citable_url(doc_id, own, template) or DOCUMENT_SCHEME + quote(doc_id, safe="")


def found(passage: Passage, template: str) -> dict[str, str]:
    """Name a passage: the fields that every result has."""
    return {
        "id": passage.id,
        "title": passage.title or passage.doc_id,
        "url": document_url(passage.doc_id, passage.url, template),
    }


def search_result(hits: Sequence[Hit], template: str) -> SearchResult:
    """List hits by name."""
    return SearchResult(results=[Found(**found(hit.passage, template)) for hit in hits])


def filtered_result(hits: Sequence[Hit], template: str) -> FilteredResult:
    """List hits with the beginnings of their texts and their metadata."""
    return FilteredResult(
        results=[
            Described(
                **found(hit.passage, template),
                text=snippet(hit.passage.text),
                metadata=dict(hit.passage.metadata),
                field=hit.field,
            )
            for hit in hits
        ]
    )


def fetch_result(session: Session, identifier: str, template: str) -> FetchResult:
    """Open a passage or a document, up to the limit of one opening.

    ``metadata`` is the document's, with ``doc_id``, the ids of the passages ``previous`` and
    ``next`` where there are any, and ``truncated`` where a single passage is above the limit.

    Raises:
        ToolError: There is no such document or passage.
    """
    passages = session.browse(identifier, tool="fetch")
    first, text = passages[0], "".join(passage.text for passage in passages)
    ours: dict[str, MetadataValue] = {"doc_id": first.doc_id} | _around(session, passages)
    if len(text) > MAX_OPENED_CHARACTERS:
        ours["truncated"] = True
    named = found(first, template) | {"id": identifier}
    shown = text[:MAX_OPENED_CHARACTERS]
    return FetchResult(**named, text=shown, metadata=dict(first.metadata) | ours)


def ask_result(run: Trajectory, session: Session, template: str) -> AskResult:
    """Give an answer with the words it rests on."""
    answer = run.answer
    citations = answer.citations if answer else []
    return AskResult(
        answer=answer.text if answer else "",
        citations=[
            Quote(**found(passage, template), quote=citation.quote)
            for citation in citations
            for passage in session.passages([citation.passage_id or citation.doc_id])
        ],
        status=run.status,
        missing=answer.missing if answer else None,
        trajectory_id=run.id,
    )


def _around(session: Session, passages: Sequence[Passage]) -> dict[str, MetadataValue]:
    """Name the passages before and after those that were opened."""
    first, last = (split_passage_id(passages[end].id)[1] or 0 for end in (0, -1))
    names = {"previous": first - 1, "next": last + 1}
    window = session.index.corpus.window
    near = {name: window(passages[0].doc_id, session.generation, n, n) for name, n in names.items()}
    return {name: found[0].id for name, found in near.items() if found}
