"""What people are told where passages go on beyond what the encoder reads, and how to mend it."""

from typing import NamedTuple

from ..core.settings import Settings


class CutNote(NamedTuple):
    """A finding and its fix."""

    detail: str
    fix: str


def cut_note(count: int, settings: Settings) -> CutNote:
    """Say how many passages dense and late search know the beginning of only.

    >>> cut_note(1, Settings()).detail
    '1 passage is longer than 256 tokens; dense and late search do not know the rest'
    """
    from ..retrievers.windows import MAX_TOKENS

    windows = settings.long_texts == "windows"
    read = MAX_TOKENS if windows else settings.max_tokens
    whose = "passage is" if count == 1 else "passages are"
    smaller = "smaller passages by chunk_tokens"
    change = smaller if windows else f"long_texts = 'windows' or {smaller}"
    return CutNote(
        f"{count} {whose} longer than {read} tokens; dense and late search do not know the rest",
        f"set {change} in settings.toml, then retrail doctor --rebuild",
    )
