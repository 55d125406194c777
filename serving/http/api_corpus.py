"""Documents and passages over HTTP. Ids are their owner's and may hold anything, slashes too."""

from typing import Annotated, NamedTuple

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request

from ...core.documents import Metadata, passage_id
from ...core.errors import ToolError
from ...core.fields import join_fields
from ...retrievers.corpus import Corpus
from .docs import errors
from .errors import NotFound
from .models import AddRequest
from .runs import ServerState, state_of
from .views import PassageView, Views

router = APIRouter(prefix="/api", tags=["corpus"])


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DocumentLine(_View):
    """One line of the list of documents."""

    id: str
    title: str
    url: str | None
    chars: int
    passages: int


class DocumentPage(_View):
    """A part of the list, by id."""

    items: list[DocumentLine]
    next: str | None
    """Pass it as ``after`` for the next part; null at the end."""


class Span(_View):
    """A passage's place in its document's text, in Unicode code points."""

    id: str
    start: int
    end: int


class Part(_View):
    """A field's place in its document's text, in Unicode code points."""

    name: str
    start: int
    end: int


class DocumentView(_View):
    """A whole document."""

    id: str
    title: str
    url: str | None
    metadata: Metadata
    text: str
    """The body, and each field on lines of its own."""
    fields: list[Part]
    """Places of the body and the fields in it; none if there are no fields."""
    passages: list[Span]


class AddResponse(_View):
    """What adding did."""

    added: int
    updated: int
    unchanged: int
    duplicates: list[str]
    """Ids that came more than once; the first document of each was taken."""
    generation: int
    """The state of the corpus that has them."""


class RemoveResponse(_View):
    """What removing did."""

    removed: int
    generation: int


Id = Annotated[str, Path(max_length=1100)]
Limit = Annotated[int, Query(ge=1, le=1000)]


@router.get("/documents", responses=errors(422))
def list_documents(
    request: Request, limit: Limit = 50, after: Annotated[str, Query(max_length=1024)] = ""
) -> DocumentPage:
    """List documents by id."""
    workspace = state_of(request).workspace
    corpus, views = workspace.index.corpus, Views(workspace)
    published = corpus.published()
    found = corpus.page(published.number, after=after, limit=limit + 1) if published else []
    items = [
        DocumentLine.model_validate(line._asdict() | {"url": views.url(line.id, line.url)})
        for line in found[:limit]
    ]
    return DocumentPage(items=items, next=items[-1].id if len(found) > limit else None)


@router.post("/documents", responses=errors(409, 503, body=True))
async def add_documents(request: Request, body: AddRequest) -> AddResponse:
    """Add or update documents; what is unchanged costs nothing. Returns when they are found."""
    return await state_of(request).write(_add, state_of(request), body)


@router.get("/documents/{id:path}", responses=errors(404, 422))
def get_document(request: Request, id: Id) -> DocumentView:
    """Return a whole document."""
    corpus = state_of(request).workspace.index.corpus
    found = _open(corpus, id)
    if found.n is not None:
        raise NotFound(f"{id!r} is a passage", fix=f"its document is {found.doc_id!r}")
    document = corpus.document(found.doc_id, found.generation)
    passages = corpus.window(found.doc_id, found.generation, 0, 1 << 40)
    text, spans = join_fields(document.text, document.fields)
    return DocumentView(
        **document.model_dump()
        | {"text": text, "fields": [Part(**span._asdict()) for span in spans]},
        passages=[Span(id=p.id, start=p.start, end=p.end) for p in passages],
    )


@router.delete("/documents/{id:path}", responses=errors(404, 409, 422, 503))
async def remove_document(request: Request, id: Id) -> RemoveResponse:
    """Remove a document."""
    return await state_of(request).write(_remove, state_of(request), id)


@router.get("/passages/{id:path}", responses=errors(404, 422))
def get_passage(request: Request, id: Id) -> PassageView:
    """Return one passage."""
    workspace = state_of(request).workspace
    found = _open(workspace.index.corpus, id)
    if found.n is None:
        raise NotFound(f"{id!r} is a document", fix=f"its first passage is {passage_id(id, 0)!r}")
    window = (found.doc_id, found.generation, found.n, found.n)
    (passage,) = workspace.index.corpus.window(*window)
    return Views(workspace).passage(passage)


class _Found(NamedTuple):
    doc_id: str
    n: int | None
    """The passage; none for the document."""
    generation: int


def _open(corpus: Corpus, id: str) -> _Found:
    published = corpus.published()
    if published is None:
        raise NotFound("the corpus is empty", fix="POST /api/documents puts documents in")
    try:
        return _Found(*corpus.open(id, published.number), published.number)
    except ToolError as error:
        raise NotFound(f"there is no document or passage {id!r}", fix=error.fix) from error


def _add(state: ServerState, body: AddRequest) -> AddResponse:
    documents = (document.named() for document in body.documents)
    changes = state.workspace.add(*documents, progress=state.progress).changes
    return AddResponse(
        added=changes.added,
        updated=changes.updated,
        unchanged=changes.unchanged,
        duplicates=list(changes.duplicates),
        generation=changes.generation,
    )


def _remove(state: ServerState, id: str) -> RemoveResponse:
    found = _open(state.workspace.index.corpus, id)
    if found.n is not None:
        raise NotFound(f"{id!r} is a passage", fix=f"its document is {found.doc_id!r}")
    removed = state.workspace.remove(id, progress=state.progress)
    return RemoveResponse(removed=removed, generation=state.workspace.index.generation)
