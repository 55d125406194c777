"""Tasks for a chat model: one prompt, many inputs, several at a time.

What agents and documents say reaches the model as the values of one JSON object, out of which no
text can break. A request that fails gives None: to a caller that is no answer, never an answer.
"""

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

MAX_CHARACTERS = 4_000
"""Of a document, and of a thought."""
CONCURRENT = 8
"""Requests at a time."""


def replies(
    chat: "BaseChatModel", prompt: str, tasks: Sequence[Mapping[str, Any]]
) -> list[str | None]:
    """Ask about each task; the text of each reply, or None where there is none.

    Args:
        chat: Any LangChain chat model.
        prompt: A file of ``prompts``, without its ending.
        tasks: What the model is shown.
    """
    if not tasks:
        return []
    told = resources.files(f"{__package__}.prompts").joinpath(f"{prompt}.md")
    system = told.read_text(encoding="utf-8")
    requests: list[Any] = [[("system", system), ("human", json.dumps(task))] for task in tasks]
    found: list[Any] = chat.batch(
        requests, config={"max_concurrency": CONCURRENT}, return_exceptions=True
    )
    return [None if isinstance(reply, BaseException) else str(reply.text) for reply in found]
