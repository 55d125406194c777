"""What ``doctor`` checks: this Python, its packages, the encoder, the disk and one workspace.

A check never raises: what goes wrong in it is its finding, with the command that mends it. A
``note`` is worth knowing; only ``broken`` keeps retrail from working.
"""

import importlib
import platform
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from ..core.errors import REBUILD, BackendUnavailable, CorruptStore, RetrailError
from .cut_passages import cut_note
from .errors import describe
from .requirements import Requirement, declared, fits

if TYPE_CHECKING:
    from ..agents.workspace import Workspace
    from ..retrievers.index import Index
    from ..retrievers.snapshot import By

State = Literal["ok", "note", "broken"]

_PYTHONS = ((3, 11), (3, 15))
_NATIVE = ("accelerate", "chromadb", "datasets", "langgraph", "sentence_transformers", "tantivy")
"""Packages whose installed files may be there and yet not load."""
_LITTLE = 1_000_000_000
_NOTHING = 100_000_000


class Check(NamedTuple):
    """One finding."""

    name: str
    state: State
    detail: str
    fix: str | None = None


def installation() -> Iterator[Check]:
    """Check what is installed."""
    first, end = _PYTHONS
    here = sys.version_info[:2]
    state: State = "ok" if first <= here < end else "broken"
    yield Check("python", state, platform.python_version(), "use Python 3.11 to 3.14")
    requirements = declared()
    if not requirements:
        yield Check("packages", "note", "retrail itself is not installed", "pip install retrail")
    yield from (_required(each) for each in requirements if each.extra is None)
    yield from _extras([each for each in requirements if each.extra not in (None, "dev")])
    for name in _NATIVE:
        yield attempt(f"import {name}", lambda name=name: _import(name))
    yield attempt("embedded encoder", _embedded)
    yield attempt("bfloat16", _bfloat16)
    if find_spec("ragatouille"):
        yield attempt("ragatouille", _ragatouille)


def disk(root: Path) -> Check:
    """Check the room left where a workspace is or would be."""
    place = next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    state: State = "broken" if free < _NOTHING else "note" if free < _LITTLE else "ok"
    fix = "free disk space: an index needs several times the size of its texts"
    return Check("disk", state, f"{free / 1e9:.1f} GB free", fix)


def workspace(opened: "Workspace") -> Iterator[Check]:
    """Check one workspace: its databases, the generation that is served, and its models."""
    databases = [
        attempt(name, lambda name=name: _database(opened.root / name))
        for name in ("corpus.db", "trajectories.db")
    ]
    yield from databases
    if databases[0].state == "broken":
        return
    if opened.settings.vector_url:
        yield attempt("vector server", lambda: _vector_server(opened))
    published = attempt("generation", lambda: _published(opened))
    yield published
    yield attempt("models", lambda: Check("models", "ok", f"{len(opened.models())} versions"))
    if published.state != "ok":
        return
    yield attempt("encoder", lambda: _encoder(opened.index))
    if opened.index.published.query:
        yield attempt("query side", lambda: _query_side(opened.index))
    index = attempt("index", lambda: _index(opened.index))
    yield index
    if index.state == "ok":
        yield attempt("precision", lambda: _precision(opened.index))
        yield attempt("long passages", lambda: _cut(opened.index))
        ways: list[By] = ["keyword", "dense", "late"]
        if opened.settings.sparse_encoder:
            ways.append("sparse")
        for by in ways:
            yield attempt(f"{by} search", lambda by=by: _search(opened.index, by))


def attempt(name: str, check: Callable[[], Check]) -> Check:
    """Run a check; an exception is its finding."""
    try:
        return check()
    except (KeyboardInterrupt, SystemExit):
        raise
    # Extensions written in Rust panic with an exception that only BaseException covers.
    except BaseException as error:  # noqa: BLE001
        return finding(name, error)


def finding(name: str, error: BaseException) -> Check:
    """Turn an exception into a finding, its fix apart."""
    fix = error.fix if isinstance(error, RetrailError) else None
    detail = describe(error)
    return Check(name, "broken", detail.removesuffix(f": {fix}") if fix else detail, fix)


def _required(requirement: Requirement) -> Check:
    found = requirement.installed()
    name, wanted, _ = requirement
    fix = f"pip install '{name}{wanted}'"
    if found is None:
        return Check(name, "broken", "not installed", fix)
    if not fits(found, wanted):
        return Check(name, "note", f"{found} is installed, {wanted} is what is tested", fix)
    return Check(name, "ok", found)


def _extras(requirements: list[Requirement]) -> Iterator[Check]:
    for extra in dict.fromkeys(each.extra for each in requirements):
        parts = [(each, each.installed()) for each in requirements if each.extra == extra]
        missing = [each.name for each, found in parts if found is None]
        old = [each.name for each, found in parts if found and not fits(found, each.range)]
        fix = f"pip install 'retrail[{extra}]'"
        if missing or old:
            detail = f"optional; {'missing' if missing else 'outside'}: {', '.join(missing or old)}"
            yield Check(f"extra {extra}", "note", detail, fix)
        else:
            shown = ", ".join(f"{each.name} {found}" for each, found in parts)
            yield Check(f"extra {extra}", "ok", shown)


def _import(name: str) -> Check:
    try:
        importlib.import_module(name)
    except Exception as error:  # noqa: BLE001 - a broken package raises what it likes
        fix = f"pip install --force-reinstall {name.replace('_', '-')}"
        return Check(f"import {name}", "broken", describe(error), fix)
    return Check(f"import {name}", "ok", "loads")


def _embedded() -> Check:
    from ..core.settings import EMBEDDED_ENCODER
    from ..retrievers.encoder import Encoder

    encoder = Encoder.load(EMBEDDED_ENCODER)
    return Check("embedded encoder", "ok", f"{encoder.id}, {encoder.dim} dimensions")


def _bfloat16() -> Check:
    import torch

    from ..retrievers.encoder import has_bfloat16

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if has_bfloat16(device):
        return Check("bfloat16", "ok", f"native on {device}")
    return Check("bfloat16", "note", f"not native on {device}: auto takes float32 or int8")


def _ragatouille() -> Check:
    """Nothing of retrail needs it but the engine of that name: what is wrong with it is a note."""
    from ..retrievers.ragatouille_extensions import compiled, missing_tools
    from ..retrievers.ragatouille_mends import load

    try:
        load()
    except BackendUnavailable as error:
        return finding("ragatouille", error)._replace(state="note")
    if compiled():
        return Check("ragatouille", "ok", "loads")
    if missing := missing_tools():
        detail = f"loads; its first use compiles C++ and there is no {' and no '.join(missing)}"
        return Check("ragatouille", "note", detail, "install a C++ compiler and ninja")
    return Check("ragatouille", "ok", "loads; its first use compiles C++ for some minutes")


def _database(path: Path) -> Check:
    from ..core.database import sqlite_errors

    if not path.exists():
        return Check(path.name, "note", "not there yet")
    with sqlite_errors(path), closing(sqlite3.connect(path, timeout=10)) as connection:
        found = [row[0] for row in connection.execute("PRAGMA quick_check(3)")]
    if found != ["ok"]:
        raise CorruptStore(
            f"{path.name} is damaged ({'; '.join(found)})", fix="restore the file from a copy"
        )
    return Check(path.name, "ok", "sound")


def _published(opened: "Workspace") -> Check:
    published = opened.index.corpus.published()
    number = published.number if published else 0
    staged = opened.index.corpus.rows(
        "SELECT count(*) FROM documents WHERE born > :g OR died > :g", {"g": number}
    )[0][0]
    if staged:
        detail = f"{number} is served; {staged} changes are staged and not published"
        return Check("generation", "note" if not published else "ok", detail, "retrail add PATH…")
    if published is None:
        return Check("generation", "note", "nothing is indexed", "retrail add PATH…")
    return Check("generation", "ok", f"{number} since {published.published_at}")


def _vector_server(opened: "Workspace") -> Check:
    from ..retrievers.dense import server_collections

    settings = opened.settings
    count = len(server_collections(opened.root, settings))
    detail = f"{settings.vector_backend} at {settings.vector_url}: {count} collections of ours"
    return Check("vector server", "ok", detail)


def _encoder(index: "Index") -> Check:
    encoder = index.encoder()
    return Check("encoder", "ok", f"{encoder.name} as {encoder.fingerprint}")


def _precision(index: "Index") -> Check:
    """Tell what arithmetic the passages' vectors come from, and what was measured here."""
    from ..retrievers.precision import CALIBRATE_FROM, is_int8, stored, suits
    from ..retrievers.vectors import vectors_of

    encoder = index.encoder()
    held, found = is_int8(vectors_of(index.snapshot().manifest)), stored(encoder)
    detail = f"passages are in {'int8' if held else 'float32 or bfloat16'}; "
    detail += f"measured here: {found}" if found else f"measured from {CALIBRATE_FROM:,} passages"
    if not suits(encoder.precision, held):
        return Check("precision", "note", f"{detail}; settings say {encoder.precision}", REBUILD)
    return Check("precision", "ok", detail)


def _query_side(index: "Index") -> Check:
    version = index.published.query
    index.encoders.query_side(version, index.encoder(), exported=False)("ready")
    return Check("query side", "ok", version)


def _index(index: "Index") -> Check:
    """Hold the folders of the served generation against its manifest and the corpus."""
    from ..retrievers.vectors import stored_files

    published, snapshot = index.published, index.snapshot()
    manifest, layout = snapshot.manifest, snapshot.layout
    files = stored_files(index.root / "vectors", manifest)
    passages = index.corpus.counts(published.number)[1]
    facts = {
        "generation": (manifest["generation"], published.folder),
        "fingerprint": (manifest["fingerprint"], published.fingerprint),
        "passages": (manifest["passages"], passages),
        "passages in layout.npz": (len(layout.ids), passages),
    }
    for name, (found, expected) in facts.items():
        if found != expected:
            raise CorruptStore(f"{name}: {found!r}, the corpus says {expected!r}", fix=REBUILD)
    if passages:
        width = files.basis.axes.shape[1] if files.basis else 0
        tokens = files.tokens(width) if width else []
        if layout.rows.max() >= len(files.dense()) or (
            (layout.offsets + layout.lengths).max() > len(tokens)
        ):
            raise CorruptStore("vector files are shorter than the layout says", fix=REBUILD)
    return Check("index", "ok", f"{passages} passages")


def _cut(index: "Index") -> Check:
    count = index.cut_passages()
    if count is None:
        return Check("long passages", "note", "not counted when they were encoded", REBUILD)
    if count:
        return Check("long passages", "note", *cut_note(count, index.settings))
    return Check("long passages", "ok", "all are read to their end")


def _search(index: "Index", by: "By") -> Check:
    """Search for the words of a passage, which must be found."""
    name = f"{by} search"
    for text in index.texts(index.sample(1)).values():
        words = " ".join(text.split()[:20])
        if any(character.isalnum() for character in words):
            found = index.search_in(index.snapshot(), words, by, 1)
            if not found:
                raise CorruptStore(f"{by} search finds nothing", fix=REBUILD)
    return Check(name, "ok", "answers")
