"""A chat model as judge: it reads what an agent thought after opening a document.

As in LRAT (arXiv 2604.04949, section 3.2) it judges the thought, and only an outright negative
counts against a document; the document is there so that the thought can be understood. Its reply is
one of two words or nothing.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .chat_tasks import MAX_CHARACTERS, replies
from .judges import Opinion, silence
from .openings import Opening
from .rows import Texts

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

_WORDS = {"RELEVANT": Opinion.USEFUL, "NOT_RELEVANT": Opinion.REJECTED}


class LLMJudge:
    """Asks any LangChain chat model; one request an opening, several at a time."""

    def __init__(self, chat: "BaseChatModel", texts: Texts) -> None:
        """Take a chat model and a way to look up what was read."""
        self._chat = chat
        self._texts = texts

    def __call__(self, openings: Sequence[Opening], /) -> list[Opinion]:
        """Judge; a request that fails, or a reply that is neither word, is ``FAILED``."""
        opinions = [silence(opening) for opening in openings]
        spoken = [o for o, known in zip(openings, opinions, strict=True) if known is None]
        heard = iter(self._ask(spoken))
        return [known or next(heard) for known in opinions]

    def _ask(self, openings: Sequence[Opening]) -> list[Opinion]:
        known = self._texts(list({name for o in openings for name in o.passages}))
        tasks = [_task(opening, known) for opening in openings]
        return [_read(reply) for reply in replies(self._chat, "judge", tasks)]


def _task(opening: Opening, known: dict[str, str]) -> dict[str, str]:
    document = "\n".join(known[name] for name in opening.passages if name in known)
    return {
        "question": opening.question,
        "query": opening.query,
        "document": document[:MAX_CHARACTERS],
        "thought": (opening.thought or "")[:MAX_CHARACTERS],
    }


def _read(reply: str | None) -> Opinion:
    """Read the last line of a reply; what models put around a word is taken off."""
    lines = (reply or "").strip().splitlines()
    return _WORDS.get(lines[-1].strip(" \t*`'\".") if lines else "", Opinion.FAILED)
