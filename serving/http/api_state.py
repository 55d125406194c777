"""What the server serves, and which trained version, over HTTP."""

from importlib.metadata import version
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request

from ...retrievers.training.registry import Card
from .docs import errors
from .errors import NotFound
from .models import PromoteRequest
from .runs import ServerState, state_of

router = APIRouter(prefix="/api", tags=["state"])


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Alive(_View):
    """All that a caller without the token is told."""

    status: Literal["ok"] = "ok"


class Health(Alive):
    """What is served."""

    version: str
    documents: int
    passages: int
    generation: int
    """0 while nothing has been indexed."""
    encoder: str
    """Of the passages, and of queries if there is no query side."""
    query: str | None
    """The version whose query side encodes queries."""
    trajectories: int
    recording: bool
    planners: list[str]
    fields: dict[str, str]
    """What each metadata field holds: string, number, bool, date, or several."""


class ModelList(_View):
    """The trained versions, oldest first, and which serves."""

    serving: int
    """0 is the encoder that the settings name."""
    items: list[Card]


class ServingResponse(_View):
    """What serves after a change."""

    serving: int
    generation: int


@router.get("/health", responses={s: e for s, e in errors().items() if s != 401})
def health(request: Request) -> Health | Alive:
    """Say that the server is up, and to those who may know, what it serves."""
    if not request.scope.get("state", {}).get("known", False):
        return Alive()
    state = state_of(request)
    workspace = state.workspace
    corpus = workspace.index.corpus
    published = corpus.published()
    number = published.number if published else 0
    documents, passages = corpus.counts(number) if published else (0, 0)
    fields = corpus.schema(number).fields if published else {}
    return Health(
        version=version("retrail"),
        documents=documents,
        passages=passages,
        generation=number,
        encoder=published.encoder if published else workspace.settings.encoder,
        query=published.query if published and published.query else None,
        trajectories=workspace.trajectories.count(),
        recording=workspace.settings.record,
        planners=state.options.planners,
        fields={name: " or ".join(info.kinds) or "empty list" for name, info in fields.items()},
    )


@router.get("/models", responses=errors())
def list_models(request: Request) -> ModelList:
    """List the trained versions with their lineage."""
    state = state_of(request)
    return ModelList(serving=_serving(state), items=state.workspace.models())


@router.post("/models/promote", responses=errors(404, 409, 503, body=True))
async def promote(request: Request, body: PromoteRequest) -> ServingResponse:
    """Serve a version, whatever the gate said; returns when it serves."""
    return await state_of(request).write(_promote, state_of(request), body.number)


@router.post("/models/rollback", responses=errors(409, 422, 503))
async def rollback(request: Request) -> ServingResponse:
    """Serve what served before; returns when it does."""
    return await state_of(request).write(_rollback, state_of(request))


def _promote(state: ServerState, number: int) -> ServingResponse:
    known = [0, *(card.version for card in state.workspace.models())]
    if number not in known:
        raise NotFound(f"there is no version {number}", fix=f"known: {', '.join(map(str, known))}")
    generation = state.workspace.promote(number, progress=state.progress)
    return ServingResponse(serving=_serving(state), generation=generation)


def _rollback(state: ServerState) -> ServingResponse:
    generation = state.workspace.rollback(progress=state.progress)
    return ServingResponse(serving=_serving(state), generation=generation)


def _serving(state: ServerState) -> int:
    published = state.workspace.index.corpus.published()
    versions = {card.reference: card.version for card in state.workspace.models()}
    return versions.get(published.serving if published else "", 0)
