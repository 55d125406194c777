"""Tokenizers: what a text is cut into where words between spaces are not what people search for.

Retrail has one for scripts without spaces; others, such as a morphological analyser (segmentation
before indexing is what lifts KinyaColBERT, arXiv 2507.03241), are registered under a name. A
workspace says the name only: what runs was registered by the program, or is an entry point of an
installed package. Indexes keep name and version.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import entry_points
from typing import NamedTuple

from ..core.errors import REBUILD, BackendUnavailable, ConfigError, IndexMismatch
from ..core.settings import Settings
from .scripts import CHARACTERS, LANGUAGES

ENTRY_POINTS = "retrail.tokenizers"
"""Group under which packages offer functions; their attribute ``version`` is the version."""

AUTO, WORDS, PAIRS = "auto", "words", "pairs"

Term = tuple[str, int, int]
"""What is indexed, and the characters that it stands for: first, and one past the last."""

Tokenize = Callable[[str], Iterable[Term]]
"""Cuts a text into terms, in the order of their first characters."""

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_RUN = re.compile(rf"(?P<run>[{CHARACTERS}]+)|[^\W_{CHARACTERS}]+")


class Tokenizer(NamedTuple):
    """A function by its name."""

    name: str
    version: str
    tokenize: Tokenize

    @property
    def identity(self) -> str:
        """What indexes keep."""
        return f"{self.name}@{self.version}"

    def terms(self, text: str) -> Iterator[Term]:
        """Cut a text, holding the function to its promise.

        Raises:
            ConfigError: A term is no word, or is not where a term can be.
        """
        before = 0
        for term, start, end in self.tokenize(text):
            if term.split() != [term] or not before <= start < end <= len(text):
                raise ConfigError(
                    f"tokenizer {self.name!r} gives {(term, start, end)!r} of {text[:40]!r}",
                    fix="let it give words without spaces, with their first character and one past "
                    "their last, in this order",
                )
            before = start
            yield term, start, end

    def joined(self, text: str) -> str:
        """Return the terms of a text with spaces between them."""
        return " ".join(term for term, _, _ in self.terms(text))


class Spaced(NamedTuple):
    """A text with spaces put between tokens that touch."""

    text: str
    spaces: Sequence[int]
    """Where in it they are, rising."""

    def before(self, at: int) -> int:
        """Return the place in the text as it was of a place in this one."""
        return at - bisect_left(self.spaces, at)


def register_tokenizer(name: str, tokenize: Tokenize, *, version: str = "1") -> None:
    """Let workspaces name a tokenizer in ``tokenizer`` and ``encoder_tokenizer``.

    Args:
        name: Small letters, digits, ``-`` and ``_``; one registered before is replaced.
        tokenize: Gives ``(term, start, end)`` for each token of a text; terms are compared without
            regard to case and accents.
        version: Indexes built with another are refused, so change it with what the function gives.

    Raises:
        ConfigError: The name is taken or malformed.

    >>> register_tokenizer("syllables", lambda text: [(text[:2], 0, 2)] if text[1:] else [])
    >>> find_tokenizer("syllables").joined("abcd")
    'ab'
    """
    if not _NAME.fullmatch(name) or name in (AUTO, WORDS, PAIRS):
        raise ConfigError(
            f"a tokenizer cannot be called {name!r}",
            fix="choose a name of small letters, digits, '-' and '_' other than "
            f"{AUTO!r}, {WORDS!r} and {PAIRS!r}",
        )
    _REGISTERED[name] = Tokenizer(name, version, tokenize)


def find_tokenizer(name: str) -> Tokenizer:
    """Return a tokenizer: registered, or offered by an installed package.

    Raises:
        ConfigError: There is none of that name.
        BackendUnavailable: The package that offers it does not load.
    """
    found = _REGISTERED.get(name) or _installed(name)
    if found is None and name in (AUTO, WORDS):
        raise ConfigError(
            f"{name!r} is no tokenizer that an encoder reads by",
            fix="leave 'encoder_tokenizer' empty: encoders read words as they are",
        )
    if found is None:
        raise ConfigError(
            f"tokenizer {name!r} is not registered",
            fix="install the package that offers it, or call "
            f"retrail.register_tokenizer({name!r}, …) first",
        )
    return _REGISTERED.setdefault(name, found)


def identity_of(name: str) -> str:
    """Return what indexes keep of a setting: name and version, or nothing of ``words`` and none."""
    return name if name in ("", WORDS) else find_tokenizer(name).identity


def keyword_identity(settings: Settings, built: str | None) -> str:
    """Choose what keywords are cut by.

    Args:
        settings: Of the workspace.
        built: Identity of what the index to be continued was cut by, if there is one.
    """
    if settings.tokenizer != AUTO:
        return identity_of(settings.tokenizer)
    return built or identity_of(PAIRS if settings.language in LANGUAGES else WORDS)


def keyword_tokenizer(identity: str) -> Tokenizer | None:
    """Return what an index was cut by; None for words.

    Raises:
        ConfigError: It is not registered.
        IndexMismatch: It is registered in another version.
    """
    if identity == WORDS:
        return None
    found = find_tokenizer(identity.partition("@")[0])
    if found.identity != identity:
        raise IndexMismatch(
            f"the index was built with another version of tokenizer {found.name!r}",
            expected=identity,
            found=found.identity,
            mend=REBUILD,
        )
    return found


def spaced(text: str, tokenizer: Tokenizer) -> Spaced:
    """Put a space wherever a token ends and another begins, for an encoder to read them apart.

    >>> tokenizer = Tokenizer("x", "1", lambda text: [(text[:3], 0, 3), (text[3:], 3, len(text))])
    >>> spaced("unkind", tokenizer)
    Spaced(text='unk ind', spaces=[3])
    """
    terms = list(tokenizer.terms(text))
    borders = sorted({start for _, start, _ in terms} & {end for _, _, end in terms})
    parts = [text[a:b] for a, b in zip([0, *borders], [*borders, len(text)], strict=True)]
    return Spaced(" ".join(parts), [at + n for n, at in enumerate(borders)])


def _pairs(text: str) -> Iterator[Term]:
    """Give words, and of scripts without spaces each character and each pair of neighbours."""
    for match in _RUN.finditer(text):
        start, end = match.span()
        if match["run"] is None:
            yield match.group(), start, end
            continue
        for at in range(start, end):
            yield text[at], at, at + 1
            if at + 1 < end:
                yield text[at : at + 2], at, at + 2


_REGISTERED = {PAIRS: Tokenizer(PAIRS, "1", _pairs)}


def _installed(name: str) -> Tokenizer | None:
    for point in entry_points(group=ENTRY_POINTS, name=name):
        try:
            tokenize = point.load()
        except Exception as error:
            raise BackendUnavailable(
                f"tokenizer {name!r} of {point.value!r} does not load ({error})",
                install_hint="mend or reinstall the package",
            ) from error
        return Tokenizer(name, str(getattr(tokenize, "version", "1")), tokenize)
    return None
