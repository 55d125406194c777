"""The command line on documents and searches: good input, bad input, exit codes, both streams."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from retrail.agents.workspace import DEFAULT_PATH
from retrail.core.trajectories import Status
from retrail.retrievers.searcher import RETRIEVERS
from retrail.retrievers.snapshot import By as RankedBy
from retrail.serving import app
from retrail.serving.options import DEFAULT_WORKSPACE, By, RankBy, RunStatus
from typer.testing import CliRunner, Result

COMMANDS = (
    *("add", "remove", "status", "search", "ask", "learn", "doctor"),
    *("trajectories list", "trajectories show", "trajectories import", "trajectories export"),
    *("trajectories purge", "models list", "models promote", "models rollback"),
)
HOSTILE = "Wolves howl. \x1b]0;owned\x07\x1b[31mred\x9b1m [bold]loud[/bold] \u202eeno end"


def run(*arguments: object, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments], env=env)


def done(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def as_json(*arguments: object) -> Any:
    return json.loads(done(*arguments, "--json"))


def refused(code: int, *arguments: object) -> str:
    """Run what must fail: with this exit code, nothing on stdout, no traceback; gives stderr."""
    for form in (arguments, (*arguments, "--json")):
        result = run(*form)
        assert (result.exit_code, result.stdout) == (code, ""), result.stderr
        assert "Traceback" not in result.stderr
    return result.stderr


def write_lines(path: Path, *records: object) -> Path:
    lines = [each if isinstance(each, str) else json.dumps(each) for each in records]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of five documents, which no test changes."""
    folder = tmp_path_factory.mktemp("cli")
    corpus = write_lines(
        folder / "corpus.jsonl",
        {"_id": "beaver", "title": "Beavers", "text": "Beavers build dams.", "year": 2020},
        {"_id": "otter", "title": "Otters", "text": "Otters hold hands asleep.", "year": 2021},
        {"_id": "cat", "title": "Cats", "text": "Cats purr when content.", "year": 2022},
        {"_id": "wolf", "title": "[red]Wolves\x1b[0m", "text": HOSTILE, "year": 2023},
        {"_id": "owl", "title": "Owls", "text": "Owls hunt at night.", "year": 2024},
    )
    done("add", corpus, "-w", folder / "kb")
    return folder / "kb"


@pytest.fixture
def kb(built: Path, tmp_path: Path) -> Path:
    """A copy of that workspace to change."""
    return Path(shutil.copytree(built, tmp_path / "kb"))


def test_closed_sets_are_those_of_the_rooms():
    assert tuple(By) == RETRIEVERS
    assert tuple(RankBy) == get_args(RankedBy)
    assert tuple(RunStatus) == get_args(Status)
    assert DEFAULT_WORKSPACE == DEFAULT_PATH


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_the_common_options(command: str):
    text = done(*command.split(), "--help")
    assert {"--workspace", "--json"} <= set(text.replace(",", " ").split())


def test_help_loads_nothing_heavy():
    code = "import retrail.serving.cli, sys; sys.stdout.write('\\n'.join(sys.modules))"
    found = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, check=True)
    loaded = {name.split(".")[0] for name in found.stdout.decode().split()}
    assert "typer" in loaded
    assert loaded & {"torch", "chromadb", "langchain_core", "numpy", "rich"} == set()


def test_version_and_unknown_command():
    assert done("--version").startswith("retrail 0.")
    assert run("nonsense").exit_code == 2
    assert run("search", "x", "--by", "magic").exit_code == 2


# --- add


def test_add_counts_and_repeats_nothing(tmp_path: Path):
    kb, folder = tmp_path / "kb", tmp_path / "docs"
    folder.mkdir()
    (folder / "a.md").write_text("# Ants\n\nAnts carry leaves.", encoding="utf-8")
    (folder / "b.txt").write_text("Bees dance.", encoding="utf-8")
    (folder / "image.bin").write_bytes(b"\x00\x01")
    first = as_json("add", folder, "-w", kb)
    assert (first["added"], first["skipped"]) == (2, 1)
    assert first["skipped_by_reason"] == {"unsupported type": 1}
    (folder / "a.md").write_text("# Ants\n\nAnts farm fungi.", encoding="utf-8")
    assert as_json("add", folder, "-w", kb)["updated"] == 1
    (folder / "b.txt").unlink()
    assert as_json("add", folder, "-w", kb)["removed"] == 0
    last = as_json("add", folder, "--sync", "-w", kb)
    assert (last["unchanged"], last["removed"]) == (1, 1)
    assert as_json("status", "-w", kb)["documents"] == 1


def test_add_reports_broken_lines_by_number_and_duplicates(tmp_path: Path):
    corpus = write_lines(
        tmp_path / "corpus.jsonl",
        {"_id": "a", "text": "one"},
        '{"_id": "b", "text"',
        {"_id": "a", "text": "two"},
        {"text": "no id"},
    )
    result = run("add", corpus, "-w", tmp_path / "kb")
    assert result.exit_code == 0
    assert result.stdout.strip().startswith("1 added")
    assert "2 skipped · 1 duplicates" in result.stdout
    for expected in ("line 2: broken JSON", "line 4: missing _id", "duplicate id: 'a'"):
        assert expected in result.stderr


@pytest.mark.parametrize("kind", ["empty folder", "binary file", "no line that is a document"])
def test_add_of_nothing_readable_fails_and_makes_no_workspace(kind: str, tmp_path: Path):
    source = tmp_path / ("source.jsonl" if kind.startswith("no") else "source")
    if kind == "empty folder":
        source.mkdir()
    else:
        source.write_bytes(b"\x00\x01\x02")
    assert "nothing could be read" in refused(1, "add", source, "-w", tmp_path / "kb")
    assert not (tmp_path / "kb").exists()


def test_sync_with_an_emptied_folder_removes_nothing(tmp_path: Path):
    kb, folder = tmp_path / "kb", tmp_path / "docs"
    folder.mkdir()
    (folder / "a.txt").write_text("Ants carry leaves.", encoding="utf-8")
    done("add", folder, "-w", kb)
    (folder / "a.txt").unlink()
    refused(1, "add", folder, "--sync", "-w", kb)
    assert as_json("status", "-w", kb)["documents"] == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["missing.txt"], "no file or folder 'missing.txt'"),
        ([], "nothing to add"),
        (["--package", "typer"], "--python-env"),
        (["--python-env", "pyproject.toml"], "takes no PATH"),
        (["--python-env", "--package", "no-such-package"], "'no-such-package' is not installed"),
        (["README.md", "--language", "english"], "setting 'language'"),
    ],
)
def test_add_refuses_wrong_usage_before_making_a_workspace(
    arguments: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(Path(__file__).parent.parent)
    assert expected in refused(2, "add", *arguments, "-w", tmp_path / "kb")
    assert not (tmp_path / "kb").exists()


def test_add_refuses_other_settings_for_an_existing_workspace(kb: Path, tmp_path: Path):
    (tmp_path / "a.txt").write_text("Ants carry leaves.", encoding="utf-8")
    command = ("add", tmp_path / "a.txt", "-w", kb)
    assert "exists with other settings" in refused(2, *command, "--chunk-tokens", 9)
    assert as_json(*command, "--language", "en")["added"] == 1


def test_add_python_env_selects_modules_and_syncs(tmp_path: Path):
    command = ("add", "--python-env", "--package", "python", "-w", tmp_path / "kb")
    added = as_json(*command, "--module", "bisect", "--module", "colorsys")["added"]
    assert added > 2
    synced = as_json(*command, "--module", "bisect", "--sync")
    assert synced["removed"] + synced["unchanged"] == added
    found = as_json("search", "insert in sorted order", "-w", tmp_path / "kb")["hits"]
    assert found[0]["doc_id"].startswith("bisect.insort")


def test_second_writer_is_told_to_wait(kb: Path, tmp_path: Path):
    (tmp_path / "a.txt").write_text("Ants carry leaves.", encoding="utf-8")
    code = (
        "import filelock, sys; lock = filelock.FileLock(sys.argv[1]); lock.acquire();"
        "sys.stdout.write('held\\n'); sys.stdout.flush(); sys.stdin.read()"
    )
    holder = [sys.executable, "-c", code, str(kb / "write.lock")]
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert "another process is writing" in refused(1, "add", tmp_path / "a.txt", "-w", kb)
        assert as_json("search", "dams", "-w", kb)["hits"][0]["doc_id"] == "beaver"
        process.communicate()
    assert as_json("add", tmp_path / "a.txt", "-w", kb)["added"] == 1


# --- remove, status


def test_remove(kb: Path):
    result = run("remove", "cat", "nobody", "-w", kb, "--json")
    assert json.loads(result.stdout) == {"removed": 1, "unknown": ["nobody"], "generation": 2}
    assert "no document 'nobody'" in result.stderr
    assert "nothing was removed" in refused(1, "remove", "cat", "-w", kb)
    assert as_json("status", "-w", kb)["documents"] == 4


def test_status_and_the_variable_that_names_the_workspace(built: Path):
    result = run("status", "--json", env={"RETRAIL_WORKSPACE": str(built)})
    found = json.loads(result.stdout)
    assert (found["documents"], found["generation"]) == (5, 1)
    assert "documents    5" in done("status", "-w", built)


@pytest.mark.parametrize(
    "command",
    [
        *("status", "search x", "ask x", "remove x", "learn", "models list", "models rollback"),
        *("trajectories list", "trajectories purge --question x", "doctor --rebuild"),
    ],
)
def test_missing_workspace(command: str, tmp_path: Path):
    assert "there is no workspace" in refused(2, *command.split(), "-w", tmp_path / "none")
    assert not (tmp_path / "none").exists()


# --- search


@pytest.mark.parametrize("by", ["keyword", "dense", "late", "hybrid"])
def test_search(by: str, built: Path):
    found = as_json("search", "dams", "--by", by, "-k", 1, "-w", built)
    assert [hit["doc_id"] for hit in found["hits"]] == ["beaver"]
    assert "beaver#0  Beavers" in done("search", "dams", "--by", by, "-w", built)


def test_filtered_search(built: Path):
    command = ("search", "--by", "filtered", "--where", "year >= 2023", "-w", built)
    found = as_json(*command, "--order-by", "-year")["hits"]
    assert [hit["doc_id"] for hit in found] == ["owl", "wolf"]
    assert as_json(*command, "night")["hits"][0]["doc_id"] == "owl"
    assert as_json("search", "dams", "--where", "year > 3000", "-w", built)["hits"] == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([""], "the query is empty"),
        ([], "there is no query"),
        (["dams", "--where", "colour = 'red'"], "'colour'"),
        (["dams", "--where", "year >"], "cannot read the filter"),
        (["--by", "filtered"], "needs a filter"),
        (["dams", "--order-by", "year"], "--by filtered"),
        (["dams", "-k", "0"], "-k"),
        (["dams", "--run", "x.trec"], "belong together"),
    ],
)
def test_search_refuses_wrong_usage(arguments: list[str], expected: str, built: Path):
    assert expected in refused(2, "search", *arguments, "-w", built)


def test_text_of_documents_cannot_command_the_terminal(built: Path):
    for text in (
        done("search", "howl", "-w", built),
        done("search", "howl", "-w", built, "--json"),
    ):
        assert not any(c in text for c in "\x1b\x07\x9b\u202e")
        assert "[bold]loud[/bold]" in text
        assert "[red]Wolves" in text
    assert as_json("search", "howl", "-w", built)["hits"][0]["text"] == HOSTILE


def test_index_of_another_encoder(kb: Path):
    settings = kb / "settings.toml"
    text = settings.read_text(encoding="utf-8")
    settings.write_text(text.replace('"all-MiniLM-L6-v2"', '"other/model"'), encoding="utf-8")
    error = refused(1, "search", "dams", "-w", kb)
    assert "other/model" in error
    assert "doctor --rebuild" in error


def test_debug_shows_where(built: Path):
    result = run("--debug", "search", "", "-w", built)
    assert result.exit_code == 2
    assert "Traceback" in result.stderr


@pytest.fixture
def queries(tmp_path: Path) -> Path:
    return write_lines(
        tmp_path / "Q.jsonl",
        {"_id": "q1", "text": "who builds dams"},
        "{broken",
        {"_id": 2, "text": "night hunters"},
        {"_id": "q1", "text": "again"},
        {"_id": "q3", "text": "  "},
    )


def test_search_writes_a_run(queries: Path, built: Path, tmp_path: Path):
    out = tmp_path / "out.trec"
    command = ("search", "--queries", queries, "--by", "late", "-k", 2, "--run", out, "-w", built)
    result = run(*command, "--json")
    assert json.loads(result.stdout)["queries"] == 2
    for expected in ("line 2: broken JSON", "line 4: duplicate _id 'q1'", "line 5: there is no"):
        assert expected in result.stderr
    rows = [line.split() for line in out.read_text(encoding="utf-8").splitlines()]
    assert [(row[0], row[3]) for row in rows] == [("q1", "1"), ("q1", "2"), ("2", "1"), ("2", "2")]
    assert (rows[0][2], rows[2][2], rows[0][5]) == ("beaver", "owl", "retrail-late")
    assert float(rows[0][4]) > float(rows[1][4])


def test_a_run_that_cannot_be_written_leaves_the_old_one(built: Path, tmp_path: Path):
    out = tmp_path / "out.trec"
    out.write_text("old", encoding="utf-8")
    queries = write_lines(tmp_path / "Q.jsonl", {"_id": "a b", "text": "dams"})
    command = ("search", "--queries", queries, "--run", out, "-w", built)
    assert "white space" in refused(1, *command)
    assert out.read_text(encoding="utf-8") == "old"
    assert "no query" in refused(1, *command[:2], write_lines(queries, "{"), *command[3:])
    missing = tmp_path / "none" / "out.trec"
    write_lines(queries, {"_id": "a", "text": "dams"})
    assert "no folder" in refused(2, "search", "--queries", queries, "--run", missing, "-w", built)
