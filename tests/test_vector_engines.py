"""The index over each vector engine: adding, changing, searching, sweeping, and a lost server."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from retrail.agents import Workspace
from retrail.core.documents import Document
from retrail.core.errors import BackendUnavailable, ConfigError, CorruptStore, IndexMismatch
from retrail.core.settings import EMBEDDED_ENCODER, Settings, check_settings, save_settings
from retrail.retrievers import By, Encoder, Index
from retrail.retrievers.dense import server_collections
from retrail.serving import checks
from retrail.serving.cli import app
from typer.testing import CliRunner

SUBJECTS = ["cats that purr", "dogs that herd", "ships at sea", "cells and sugar", "old bridges"]
DOCUMENTS = [
    Document(id=f"d{n}", text=f"Report {n} on {SUBJECTS[n % 5]}.", metadata={"n": n})
    for n in range(25)
]
Opened = Callable[[Path, Settings], Index]
NOWHERE = "http://127.0.0.1:9"
"""The discard port, where nothing listens."""


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load(EMBEDDED_ENCODER, precision="float32")


@pytest.fixture(params=["chroma", "chroma server", "qdrant"])
def chosen(request: pytest.FixtureRequest) -> Settings:
    engine, _, served = request.param.partition(" ")
    url = request.getfixturevalue("chroma_url") if served else ""
    return Settings(vector_backend=engine, vector_url=url)


@pytest.fixture
def opened(encoder: Encoder) -> Iterator[Opened]:
    indexes: list[Index] = []

    def index(root: Path, settings: Settings) -> Index:
        indexes.append(Index(root, settings, encoder))
        return indexes[-1]

    yield index
    for each in indexes:
        each.close()


def ranked(index: Index) -> list[dict[str, float]]:
    """Search in every way that gives scores, of which filtering changes none."""
    ways: list[By] = ["keyword", "dense", "late", "hybrid"]
    return [
        {hit.doc_id: hit.score for hit in index.search("ships on the sea", by=by, k=9, where=where)}
        for by in ways
        for where in (None, "n < 12")
    ]


def test_all_engines_find_alike(tmp_path: Path, chosen: Settings, opened: Opened):
    found = []
    for name, settings in (("one", Settings()), ("other", chosen)):
        index = opened(tmp_path / name, settings)
        index.add(DOCUMENTS[:20])
        index.add([*DOCUMENTS[20:], DOCUMENTS[3].model_copy(update={"text": "Ships, changed."})])
        index.remove(["d2"])
        found.append(ranked(index))
    for one, other in zip(*found, strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    # Opened anew, as another process would.
    assert ranked(opened(tmp_path / "other", chosen)) == found[1]


def test_a_server_keeps_no_collection_that_nobody_reads(
    tmp_path: Path, chroma_url: str, opened: Opened
):
    settings, root = Settings(vector_url=chroma_url), tmp_path / "kb"
    index = opened(root, settings)
    other = opened(tmp_path / "neighbour", settings)
    other.add(DOCUMENTS[:2])
    for n in range(4):
        index.add(DOCUMENTS[n : n + 1])
    published = {index.snapshot().manifest["collection"]}
    assert published < set(server_collections(root, settings))
    assert len(server_collections(root, settings)) == 2  # the one before may still be read
    with index.candidate(index.encoder()):
        assert len(server_collections(root, settings)) == 3
    assert len(server_collections(root, settings)) == 2
    assert len(server_collections(other.root, settings)) == 1
    assert not list((root / "index").glob("*/dense"))


def test_a_failed_build_leaves_no_collection(
    tmp_path: Path, chroma_url: str, opened: Opened, monkeypatch: pytest.MonkeyPatch
):
    settings, root = Settings(vector_url=chroma_url), tmp_path / "kb"

    def fail(*_: object, **__: object) -> None:
        raise CorruptStore("no vectors")

    index = opened(root, settings)
    monkeypatch.setattr("retrail.retrievers.backends.chroma.ChromaBackend.add", fail)
    with pytest.raises(CorruptStore, match="no vectors"):
        index.add(DOCUMENTS)
    assert server_collections(root, settings) == []
    monkeypatch.undo()
    index.add(DOCUMENTS)
    assert len(index.search("ships", by="dense", k=25)) == 25


def test_a_copy_of_a_workspace_takes_nothing_from_it(
    tmp_path: Path, chroma_url: str, opened: Opened
):
    settings = Settings(vector_url=chroma_url)
    index = opened(tmp_path / "kb", settings)
    index.add(DOCUMENTS)
    before = ranked(index)
    shutil.copytree(tmp_path / "kb", tmp_path / "copy")
    copy = opened(tmp_path / "copy", settings)
    assert ranked(copy) == before
    for document in DOCUMENTS[:3]:
        copy.remove([document.id])
    assert ranked(opened(tmp_path / "kb", settings)) == before


@pytest.mark.parametrize("engine", ["chroma", "qdrant"])
@pytest.mark.parametrize("url", [NOWHERE, "http://127.0.0.1:99999"])
def test_a_lost_server_is_said_and_loses_nothing(
    tmp_path: Path, engine: Any, url: str, opened: Opened
):
    settings = Settings(vector_backend=engine, vector_url=url)
    index = opened(tmp_path, settings)
    with pytest.raises(BackendUnavailable, match=rf"{url}.*vector_url in settings.toml"):
        index.add(DOCUMENTS)
    assert index.corpus.published() is None
    assert not list((tmp_path / "index").iterdir())


def test_another_engine_is_noticed_and_rebuilt(tmp_path: Path, chroma_url: str, opened: Opened):
    def dense(index: Index) -> dict[str, float]:
        return {hit.doc_id: hit.score for hit in index.search("ships", by="dense", k=9)}

    index = opened(tmp_path, Settings(precision="float32"))
    index.add(DOCUMENTS)
    before = dense(index)
    changes: list[dict[str, Any]] = [{"vector_backend": "qdrant"}, {"vector_url": chroma_url}]
    for changed in (Settings(precision="float32", **change) for change in changes):
        other = opened(tmp_path, changed)
        with pytest.raises(IndexMismatch, match=r"another 'vector_(backend|url)'.*--rebuild"):
            other.search("ships")
        other.rebuild()
        assert dense(other) == pytest.approx(before, abs=1e-4)


def test_a_manifest_without_a_choice_is_chromas(tmp_path: Path, opened: Opened):
    index = opened(tmp_path, Settings())
    index.add(DOCUMENTS)
    before, path = ranked(index), tmp_path / "index" / "1" / "manifest.json"
    kept = [line for line in path.read_text().splitlines() if "vector_" not in line]
    path.write_text("\n".join(line for line in kept if "collection" not in line))
    assert ranked(opened(tmp_path, Settings())) == before


@pytest.mark.parametrize(
    "url",
    ["chroma:8000", "http://me:secret@host", "http://host/path", "http://host?key=1", "http://"],
)
def test_urls_that_are_refused(url: str):
    with pytest.raises(ConfigError, match="vector_url") as raised:
        check_settings({"vector_url": url})
    assert "secret" not in str(raised.value)


def test_command_line_against_a_server(tmp_path: Path, chroma_url: str):
    (tmp_path / "notes.md").write_text("Ships cross the sea.", encoding="utf-8")
    root = tmp_path / "kb"
    root.mkdir()
    save_settings(Settings(vector_url=chroma_url), root / "settings.toml")

    def run(*arguments: object) -> tuple[int, str]:
        found = CliRunner().invoke(app, [*map(str, arguments), "--workspace", str(root)])
        return found.exit_code, found.output

    assert run("add", tmp_path / "notes.md")[0] == 0
    code, text = run("search", "ships", "--by", "dense")
    assert (code, "notes" in text) == (0, True)
    with Workspace.open(root) as workspace:
        (server,) = (each for each in checks.workspace(workspace) if each.name == "vector server")
    assert server.state == "ok"
    assert server.detail == f"chroma at {chroma_url}: 1 collections of ours"
    save_settings(Settings(vector_url=NOWHERE), root / "settings.toml")
    code, text = run("search", "ships", "--by", "dense")
    assert (code, "does not answer" in text, "vector_url" in text) == (1, True, True)
    assert run("search", "ships", "--by", "keyword")[0] == 0
    with Workspace.open(root) as workspace:
        (server,) = (each for each in checks.workspace(workspace) if each.name == "vector server")
    assert (server.state, "vector_url" in str(server.fix)) == ("broken", True)
