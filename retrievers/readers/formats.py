"""Title and text of one Markdown, plain text, HTML or PDF file.

Text files are kept verbatim but for a byte order mark; a file whose bytes are not the text they
claim to be is ``Unreadable`` as a whole, since half a document would be cited as if it were one.
"""

import logging
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .markup import html_to_text
from .report import Unreadable

if TYPE_CHECKING:
    from pypdf import PdfReader

TYPES = {".md": "md", ".txt": "txt", ".html": "html", ".htm": "html", ".pdf": "pdf"}
"""What each file suffix holds."""

_HEADING_WITHIN = 100_000
# Damaged PDFs make pypdf fail in any of these ways, besides its own errors.
_PDF_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    zlib.error,
)


class Content(NamedTuple):
    """What a file says; the title is empty where the file has none."""

    title: str
    text: str


def read_content(path: Path, max_bytes: int) -> Content:
    """Read one file by the type its suffix names.

    Raises:
        Unreadable: the content is broken, encrypted, binary or too large.
        OSError: the file cannot be opened.
    """
    return _READERS[TYPES[path.suffix.lower()]](path, max_bytes)


def markdown_title(text: str) -> str:
    r"""Return the first heading outside fenced code.

    >>> markdown_title("intro\n```\n# comment\n```\n## Guide ##\n"), markdown_title("none")
    ('Guide', '')
    >>> markdown_title("Underlined\n==========\n")
    'Underlined'
    """
    fenced, previous = False, ""
    for line in map(str.strip, text[:_HEADING_WITHIN].splitlines()):
        if line.startswith(("```", "~~~")):
            fenced = not fenced
        elif not fenced:
            level = len(line) - len(line.lstrip("#"))
            if 1 <= level <= 6 and line[level : level + 1].isspace():
                return line[level:].strip().rstrip("#").rstrip()
            if previous and line and not line.strip("="):
                return previous
        previous = "" if fenced else line
    return ""


def check_size(size: int, max_bytes: int) -> None:
    """Refuse what is larger than a document may be."""
    if size > max_bytes:
        limit = f"more than {max_bytes / 1e6:g} MB: raise the setting 'max_document_mb'"
        raise Unreadable("too large", limit)


def check_characters(*texts: str) -> None:
    """Refuse NULs, the mark of binary data, and lone surrogates, which no index can store."""
    for text in texts:
        if "\x00" in text:
            raise Unreadable("binary content", "there is a NUL character")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise Unreadable("lone surrogate", f"at character {error.start}") from error


def _read_text(path: Path, max_bytes: int) -> Content:
    return Content("", _decode(_read_bytes(path, max_bytes)))


def _read_markdown(path: Path, max_bytes: int) -> Content:
    text = _decode(_read_bytes(path, max_bytes))
    return Content(markdown_title(text), text)


def _read_html(path: Path, max_bytes: int) -> Content:
    data = _read_bytes(path, max_bytes)
    page = _decode(data, _page_encoding(data))
    try:
        return Content(*html_to_text(page))
    except ValueError as error:
        raise Unreadable("broken HTML", str(error)) from error


def _read_bytes(path: Path, max_bytes: int) -> bytes:
    with path.open("rb") as stream:
        data = stream.read(max_bytes + 1)
    check_size(len(data), max_bytes)
    return data


def _decode(data: bytes, encoding: str = "utf-8-sig") -> str:
    try:
        text = data.decode(encoding)
    except (UnicodeError, LookupError) as error:
        shown = "UTF-8" if encoding == "utf-8-sig" else repr(encoding)
        raise Unreadable(f"not {shown}", str(error)) from error
    check_characters(text)
    return text


def _page_encoding(data: bytes) -> str:
    """Trust UTF-8 first; a page that is not UTF-8 may declare what it is."""
    from bs4.dammit import EncodingDetector

    try:
        data.decode()
    except UnicodeDecodeError:
        return EncodingDetector.find_declared_encoding(data, is_html=True) or "utf-8-sig"
    return "utf-8-sig"


def _read_pdf(path: Path, max_bytes: int) -> Content:
    from pypdf import PdfReader
    from pypdf.errors import DependencyError, FileNotDecryptedError, PyPdfError

    with path.open("rb") as stream, _only_errors_of("pypdf"):
        try:
            reader = PdfReader(stream)
            if reader.is_encrypted and not reader.decrypt(""):
                raise Unreadable("encrypted PDF", "save a copy without a password")
            content = Content(_pdf_title(reader), _pdf_text(reader, max_bytes))
        except (DependencyError, FileNotDecryptedError) as error:
            raise Unreadable("encrypted PDF", str(error)) from error
        except (PyPdfError, *_PDF_ERRORS) as error:
            raise Unreadable("broken PDF", f"{type(error).__name__}: {error}") from error
    if not content.text.strip():
        raise Unreadable("no text in the PDF", "scanned pages need text recognition first")
    return content


def _pdf_title(reader: "PdfReader") -> str:
    title = reader.metadata.title if reader.metadata else None
    return _storable(title or "").strip()


def _pdf_text(reader: "PdfReader", max_bytes: int) -> str:
    pages: list[str] = []
    size = 0
    for page in reader.pages:
        pages.append(_storable(page.extract_text()).strip())
        size += len(pages[-1])
        check_size(size, max_bytes)
    return "\n\n".join(filter(None, pages))


def _storable(text: str) -> str:
    r"""Drop what fonts without a character map leave behind.

    >>> _storable("a\x00b\ud800c")
    'abc'
    """
    return text.replace("\x00", "").encode("utf-8", "ignore").decode()


@contextmanager
def _only_errors_of(name: str) -> Iterator[None]:
    """Hold back a library's log lines about repairs that the caller reports, or does not need."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


_READERS: dict[str, Callable[[Path, int], Content]] = {
    "md": _read_markdown,
    "txt": _read_text,
    "html": _read_html,
    "pdf": _read_pdf,
}
