"""Commands that change or describe the corpus: add, remove, status."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.errors import ConfigError
from .console import Output, one_line
from .cut_passages import cut_note
from .errors import Failed
from .options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption

if TYPE_CHECKING:
    from ..agents.workspace import Added, Workspace
    from ..core.documents import Document
    from ..retrievers.readers import ReadReport

_SHOWN_IDS = 20


def add(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Files (.jsonl, .md, .txt, .html, .pdf) and folders.", metavar="PATH"),
    ] = None,
    sync: Annotated[
        bool, typer.Option("--sync", help="Also remove what came from these paths and is gone.")
    ] = False,
    python_env: Annotated[
        bool, typer.Option("--python-env", help="Add the documentation of this Python instead.")
    ] = False,
    package: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="With --python-env: only this package; repeatable."),
    ] = None,
    module: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="With --python-env: only this module; repeatable."),
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(metavar="NAME", help="New workspace: name or path of the encoder.")
    ] = None,
    language: Annotated[
        str | None, typer.Option(metavar="XX", help="New workspace: ISO 639-1 code.")
    ] = None,
    chunk_tokens: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="New workspace: length of passages; 0 keeps whole."),
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Add or update documents; what is unchanged costs nothing."""
    out = Output(as_json=as_json)
    given = {"encoder": encoder, "language": language, "chunk_tokens": chunk_tokens}
    settings = {name: value for name, value in given.items() if value is not None}
    _check_sources(paths or [], python_env, [*(package or []), *(module or [])])
    if python_env:
        added = _add_python(out, workspace, settings, package, module, sync)
    else:
        added = _add_paths(out, workspace, settings, paths or [], sync)
    _show_added(out, added)
    if added.changes.cut:
        from ..core.settings import load_settings

        out.note(": ".join(cut_note(added.changes.cut, load_settings(workspace / "settings.toml"))))


def remove(
    ids: Annotated[list[str], typer.Argument(help="Ids of documents.", metavar="ID")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Remove documents by id."""
    from ..agents.workspace import Workspace

    out = Output(as_json=as_json)
    with Workspace.open(workspace) as opened:
        generation = opened.index.generation
        known = {row[0] for row in opened.index.corpus.metadata_of(None, generation, ids)}
        unknown = [doc_id for doc_id in dict.fromkeys(ids) if doc_id not in known]
        for doc_id in unknown:
            out.note(f"there is no document {doc_id!r}")
        if not known:
            raise Failed("nothing was removed", fix="retrail search shows the ids of documents")
        with out.progress() as progress:
            removed = opened.remove(*known, progress=progress)
        document = {
            "removed": removed,
            "unknown": unknown,
            "generation": opened.index.generation,
        }
    out.result(document, f"{removed} removed")


def status(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Show sizes, counts, generation and encoder."""
    from ..agents.workspace import Workspace

    with Workspace.open(workspace) as opened:
        found = opened.status()
    sizes = found["bytes"]
    lines = [f"{name:<13}{one_line(str(found[name]))}" for name in found if name != "bytes"]
    lines.append(f"{'size':<13}{readable_size(sum(sizes.values()))}")
    lines += [f"  {one_line(name):<20} {readable_size(size)}" for name, size in sizes.items()]
    Output(as_json=as_json).result(found, *lines)


def readable_size(size: int) -> str:
    """Write a number of bytes for people.

    >>> readable_size(999), readable_size(1_230_000)
    ('999 bytes', '1.2 MB')
    """
    if size < 1000:
        return f"{size} bytes"
    value, units = size / 1000, ["kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.1f} {units[0]}"


def _check_sources(paths: list[Path], python_env: bool, selected: list[str]) -> None:
    """Refuse what cannot be meant, before a workspace is made for it."""
    if python_env and paths:
        raise ConfigError("--python-env takes no PATH", fix="add them with two commands")
    if selected and not python_env:
        raise ConfigError("--package and --module select from --python-env", fix="add it")
    if not python_env and not paths:
        raise ConfigError("nothing to add", fix="name files or folders, or pass --python-env")
    for path in paths:
        if not path.exists():
            raise ConfigError(f"there is no file or folder {str(path)!r}", fix="check the path")


def _add_paths(
    out: Output, root: Path, settings: dict[str, Any], paths: list[Path], sync: bool
) -> "Added":
    from ..core.settings import load_settings
    from ..retrievers.readers import ReadReport, read_paths

    looked = ReadReport()
    limit = load_settings(root / "settings.toml").max_document_mb * 1_000_000
    # A first look, so that nothing readable neither makes a workspace nor empties one.
    _first(out, read_paths(paths, looked, max_bytes=limit), looked)
    with _create(root, settings) as opened, out.progress() as progress:
        return opened.add(*paths, sync=sync, progress=progress)


def _add_python(
    out: Output,
    root: Path,
    settings: dict[str, Any],
    packages: list[str] | None,
    modules: list[str] | None,
    sync: bool,
) -> "Added":
    from ..agents.workspace import Added
    from ..retrievers.readers import ReadReport, read_python_env

    report = ReadReport()
    rest = read_python_env(report, packages=packages or None, modules=modules or None)
    documents = chain([_first(out, rest, report)], rest)
    with _create(root, settings) as opened, out.progress() as progress:
        added = opened.index.add(documents, source="python-env", sync=sync, progress=progress)
    return Added(added, report)


def _first(out: Output, documents: "Iterator[Document]", report: "ReadReport") -> "Document":
    """Return the first document, or fail with the reasons why there is none."""
    first = next(documents, None)
    if first is None:
        _show_skipped(out, report)
        raise Failed(
            "nothing could be read, the workspace is unchanged",
            fix="name .jsonl, .md, .txt, .html or .pdf files, or folders that hold some",
        )
    return first


def _create(root: Path, settings: dict[str, Any]) -> "Workspace":
    from ..agents.workspace import Workspace

    return Workspace.create(root, **settings)


def _show_added(out: Output, added: "Added") -> None:
    index, reading = added.changes, added.reading
    counts = {
        "added": index.added,
        "updated": index.updated,
        "unchanged": index.unchanged,
        "removed": index.removed,
        "skipped": reading.skipped,
        "duplicates": len(index.duplicates),
    }
    _show_skipped(out, reading)
    shown = [f"duplicate id: {doc_id!r}" for doc_id in index.duplicates[:_SHOWN_IDS]]
    out.problems(shown, len(index.duplicates))
    document = counts | {
        "duplicate_ids": list(index.duplicates),
        "skipped_by_reason": dict(reading.by_reason),
        "problems": reading.problems,
        "generation": index.generation,
        "cut": index.cut,
    }
    out.result(document, " · ".join(f"{count} {name}" for name, count in counts.items()))


def _show_skipped(out: Output, report: "ReadReport") -> None:
    out.problems(report.problems, len(report.problems))
    if report.skipped:
        reasons = ", ".join(f"{count} {reason}" for reason, count in report.by_reason.items())
        out.note(f"skipped {report.skipped}: {reasons}")
