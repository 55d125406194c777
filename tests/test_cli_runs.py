"""The command line on runs: ask, trajectories, learn, models, doctor."""

import json
import re
import shutil
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from retrail.core.trajectories import Trajectory
from retrail.serving import app
from typer.testing import CliRunner, Result

ANIMALS = re.findall(
    r"\w+",
    """beaver otter cat dog horse eagle salmon whale ant bee spider wolf bear fox deer moose rabbit
    mouse rat bat owl hawk crow swan duck goose frog toad newt snake lizard turtle shark squid crab
    lobster snail worm moth fly""",
)
FOODS = ("leaves", "fish", "seeds", "insects", "honey", "grass", "berries", "roots")


def run(*arguments: object, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments], env=env)


def done(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def as_json(*arguments: object) -> Any:
    return json.loads(done(*arguments, "--json"))


def refused(code: int, *arguments: object) -> str:
    result = run(*arguments, "--json")
    assert (result.exit_code, result.stdout) == (code, ""), result.stderr
    return result.stderr


def write_lines(path: Path, *records: object) -> Path:
    lines = [each if isinstance(each, str) else json.dumps(each) for each in records]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def read_runs(path: Path) -> list[Trajectory]:
    with path.open(encoding="utf-8") as file:
        return [Trajectory.model_validate_json(line) for line in file]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a workspace about animals, one recorded run each, and their file."""
    folder = tmp_path_factory.mktemp("runs")
    texts = [f"The {each} mostly eats {FOODS[i % 8]}." for i, each in enumerate(ANIMALS)]
    corpus = [
        {"_id": f"d{i}", "title": each.title(), "text": text}
        for i, (each, text) in enumerate(zip(ANIMALS, texts, strict=True))
    ]
    questions = [
        {"_id": f"q{i}", "text": f"What does the {each} eat?"} for i, each in enumerate(ANIMALS)
    ]
    done("add", write_lines(folder / "corpus.jsonl", *corpus), "-w", folder / "kb")
    queries = write_lines(folder / "Q.jsonl", *questions)
    command = ("ask", "--queries", queries, "--out", folder / "T.jsonl", "-w", folder / "kb")
    assert as_json(*command)["asked"] == len(ANIMALS)
    return folder


@pytest.fixture
def kb(asked: Path, tmp_path: Path) -> Path:
    """A copy of that workspace to change."""
    return Path(shutil.copytree(asked / "kb", tmp_path / "kb"))


# --- ask


def test_ask_prints_the_answer_with_numbered_citations_and_its_id(kb: Path):
    result = run("ask", "What does the beaver eat?", "-w", kb)
    lines = result.stdout.splitlines()
    assert lines[0].startswith("The beaver mostly eats leaves. [1]")
    assert "[1] d0 “The beaver mostly eats leaves.”" in lines
    trajectory_id, status, *_ = lines[-1].split(" · ")
    assert status == "completed"
    assert "leaves" in done("trajectories", "show", trajectory_id, "-w", kb)


def test_ask_as_json_is_the_trajectory(kb: Path):
    run_ = Trajectory.model_validate(as_json("ask", "What does the otter eat?", "-w", kb))
    assert run_.answer is not None
    assert "fish" in run_.answer.text
    assert as_json("trajectories", "show", run_.id, "-w", kb)["answer"]["text"] == run_.answer.text


def test_stream_shows_steps_before_the_answer(kb: Path):
    text = done("ask", "What does the wolf eat?", "--stream", "-w", kb)
    assert " search late " in text
    assert text.index(" browse ") < text.index("The wolf mostly eats")
    result = run("ask", "What does the wolf eat?", "--stream", "--json", "-w", kb)
    assert json.loads(result.stdout)["status"] == "completed"
    assert " search late " in result.stderr


def test_nothing_found_is_no_failure(kb: Path):
    found = as_json("ask", "Who won the chess world cup in 1987?", "-w", kb)
    assert found["status"] == "not_found"
    assert "missing: " in done("ask", "Who won the chess world cup in 1987?", "-w", kb)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([" "], "the question is empty"),
        ([], "pass QUESTION"),
        (["x", "--planner", "magic"], "unknown planner 'magic'"),
        (["x", "--planner", "llm"], "needs a model"),
        (["--queries", "Q.jsonl"], "belong together"),
    ],
)
def test_ask_refuses_wrong_usage(arguments: list[str], expected: str, asked: Path):
    assert expected in refused(2, "ask", *arguments, "-w", asked / "kb")


def test_asking_a_file_resumes_after_a_torn_line(asked: Path, kb: Path, tmp_path: Path):
    queries = write_lines(
        tmp_path / "Q.jsonl",
        *(asked / "Q.jsonl").read_text(encoding="utf-8").splitlines()[:3],
        '{"_id": "broken"',
        {"_id": "q1", "text": "again"},
    )
    whole = (asked / "T.jsonl").read_bytes().splitlines(keepends=True)[:3]
    out = tmp_path / "T.jsonl"
    out.write_bytes(whole[0] + whole[1] + whole[2][:100])
    result = run("ask", "--queries", queries, "--out", out, "-w", kb, "--json")
    counts = json.loads(result.stdout)
    assert (counts["asked"], counts["already_there"], counts["skipped"]) == (1, 2, 2)
    assert "line 4: broken JSON" in result.stderr
    assert "line 5: duplicate _id 'q1'" in result.stderr
    assert out.read_bytes().startswith(whole[0] + whole[1])
    assert [run.query_id for run in read_runs(out)] == ["q0", "q1", "q2"]
    before = out.read_bytes()
    assert as_json("ask", "--queries", queries, "--out", out, "-w", kb)["asked"] == 0
    assert out.read_bytes() == before


def test_a_complete_last_line_without_its_end_is_kept(asked: Path, kb: Path, tmp_path: Path):
    queries = write_lines(
        tmp_path / "Q.jsonl",
        *(asked / "Q.jsonl").read_text(encoding="utf-8").splitlines()[:2],
    )
    out = tmp_path / "T.jsonl"
    out.write_bytes((asked / "T.jsonl").read_bytes().splitlines()[0])
    assert as_json("ask", "--queries", queries, "--out", out, "-w", kb)["asked"] == 1
    assert [run.query_id for run in read_runs(out)] == ["q0", "q1"]


@pytest.mark.parametrize("content", ["notes of mine", '{"_id": "q1", "text": "a query"}\n', "{\nx"])
def test_asking_never_writes_into_a_file_of_something_else(
    content: str, asked: Path, tmp_path: Path
):
    out = tmp_path / "notes.txt"
    out.write_text(content, encoding="utf-8")
    command = ("ask", "--queries", asked / "Q.jsonl", "--out", out, "-w", asked / "kb")
    assert "line 1 of" in refused(2, *command)
    assert out.read_text(encoding="utf-8") == content


class _Model(BaseHTTPRequestHandler):
    """A chat model that answers NOT FOUND, and refuses questions that say so."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        refusing = "refuse this" in body
        message = {"role": "assistant", "content": "NOT FOUND"}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        answer: dict[str, Any] = {"id": "1", "object": "chat.completion", "created": 0}
        answer |= {"model": "m", "choices": [choice]}
        content = json.dumps({"error": {"message": "refused"}} if refusing else answer).encode()
        self.send_response(400 if refusing else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet."""


@pytest.fixture
def model() -> Iterator[dict[str, str]]:
    """Environment of a chat model on this machine."""
    pytest.importorskip("langchain_openai")
    with HTTPServer(("127.0.0.1", 0), _Model) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}/v1"
        yield {"OPENAI_API_KEY": "none", "OPENAI_BASE_URL": address, "NO_PROXY": "127.0.0.1"}
        server.shutdown()
        thread.join()


def test_one_failing_question_does_not_stop_the_others(
    model: dict[str, str], kb: Path, tmp_path: Path
):
    queries = write_lines(
        tmp_path / "Q.jsonl",
        {"_id": "bad", "text": "refuse this"},
        {"_id": "good", "text": "where is it?"},
    )
    out = tmp_path / "T.jsonl"
    command = ("ask", "--queries", queries, "--model", "openai:m", "-w", kb, "--out")
    result = run(*command, out, "--json", env=model)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["failed"] == 1
    bad, good = read_runs(out)
    assert (bad.query_id, bad.status, good.status) == ("bad", "failed", "not_found")
    assert "refused" in (bad.model_extra or {})["error"]
    assert as_json("trajectories", "show", bad.id, "-w", kb)["status"] == "failed"
    write_lines(queries, {"_id": "bad", "text": "refuse this"})
    failed = run(*command, tmp_path / "T2.jsonl", env=model)
    assert (failed.exit_code, failed.stdout) == (1, "")
    assert "all 1 questions failed" in failed.stderr


# --- trajectories


def test_list_filters_and_says_how_many_there_are(asked: Path):
    command = ("trajectories", "list", "-w", asked / "kb")
    assert as_json(*command)["total"] == len(ANIMALS)
    (found,) = as_json(*command, "--question", "BEAVER")["trajectories"]
    assert found["question"] == "What does the beaver eat?"
    assert as_json(*command, "--status", "failed")["trajectories"] == []
    result = run(*command, "--limit", 3)
    assert len(result.stdout.splitlines()) == 4
    assert f"3 of {len(ANIMALS)} runs" in result.stderr


def test_export_and_import_keep_runs_as_they_are(asked: Path, tmp_path: Path):
    out = tmp_path / "out.jsonl"
    assert as_json("trajectories", "export", out, "-w", asked / "kb")["exported"] == len(ANIMALS)
    assert out.read_bytes() == (asked / "T.jsonl").read_bytes()
    first = as_json("trajectories", "import", out, "-w", tmp_path / "new")
    assert first["imported"] == len(ANIMALS)
    second = as_json("trajectories", "import", out, "-w", tmp_path / "new")
    assert (second["already_there"], second["conflicts"]) == (len(ANIMALS), 0)


def test_import_reports_lines_it_cannot_use(asked: Path, tmp_path: Path):
    good = (asked / "T.jsonl").read_text(encoding="utf-8").splitlines()[0]
    result = run(
        *("trajectories", "import", write_lines(tmp_path / "T.jsonl", good, "{", '{"x": 1}')),
        *("-w", tmp_path / "new"),
    )
    assert result.stdout.startswith("1 imported")
    assert "line 2: not JSON" in result.stderr
    assert "line 3: " in result.stderr
    nothing = write_lines(tmp_path / "none.jsonl", "{")
    assert "no run in" in refused(1, "trajectories", "import", nothing, "-w", tmp_path / "new")


def test_text_of_runs_cannot_command_the_terminal(tmp_path: Path):
    hostile = "\x1b[31mred\x9b [bold]loud[/bold]"
    step = {"n": 1, "at": hostile, "action": "browse", "thought": hostile, "tool": hostile}
    step |= {"args": {"passage_id": hostile, hostile: hostile}}
    steps = [step | {"observation": {"doc_id": hostile}}]
    steps += [{**step, "n": 2, "observation": {"error": hostile}}]
    steps += [{**step, "n": 3, "observation": {"table": [{hostile: hostile}]}}]
    citations = [{"doc_id": hostile, "start": 0, "end": 1, "quote": hostile}]
    answer = {"text": hostile, "citations": citations, "missing": hostile}
    run = {"id": f"0000{hostile}", "question": hostile, "agent": {"planner": hostile}}
    run |= {"steps": steps, "answer": answer, "error": hostile}
    done("trajectories", "import", write_lines(tmp_path / "T.jsonl", run), "-w", tmp_path / "kb")
    for command in (["list"], ["show", "0000"], ["show", "0000", "--json"]):
        text = done("trajectories", *command, "-w", tmp_path / "kb")
        assert "[bold]loud[/bold]" in text
        assert not set(text) & {"\x1b", "\x9b"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["import", "missing.jsonl"], "no file 'missing.jsonl'"),
        (["export", "missing/x.jsonl", "--format", "csv"], "'csv'"),
        (["export", "missing/x.jsonl"], "cannot write"),
        (["show", "01XXXX"], "no run '01XXXX'"),
        (["purge"], "which runs to purge"),
        (["purge", "--older-than", "soon"], "'soon' is no age"),
    ],
)
def test_trajectories_refuse_wrong_usage(
    arguments: list[str],
    expected: str,
    asked: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    assert expected in refused(2, "trajectories", *arguments, "-w", asked / "kb")


def test_purge(kb: Path):
    command = ("trajectories", "purge", "-w", kb)
    assert as_json(*command, "--question", "what does the beaver eat")["purged"] == 1
    assert as_json(*command, "--caller", "nobody")["purged"] == 0
    assert as_json(*command, "--older-than", "1w")["purged"] == 0
    assert as_json(*command, "--older-than", "0m")["purged"] == len(ANIMALS) - 1


# --- learn, models


def test_learn_promotes_and_rolls_back(kb: Path):
    result = run("learn", "--epochs", 1, "--accept-equal", "-w", kb)
    assert result.exit_code == 0, result.stderr
    assert "version 1 promoted" in result.stdout
    assert "95 % interval" in result.stdout
    listed = as_json("models", "list", "-w", kb)
    assert listed["serving"] == "models/dense/0001"
    assert [(card["version"], card["serving"]) for card in listed["models"]] == [(1, True)]
    assert as_json("models", "rollback", "-w", kb)["serving"] == "all-MiniLM-L6-v2"
    assert as_json("models", "promote", 1, "-w", kb)["generation"] == 4
    assert "no version 7" in refused(2, "models", "promote", 7, "-w", kb)
    assert as_json("search", "beaver", "-w", kb)["hits"][0]["doc_id"] == "d0"


def test_learning_from_too_little_fails(kb: Path):
    done("trajectories", "purge", "--older-than", "0m", "-w", kb)
    assert "too little to learn from" in refused(1, "learn", "-w", kb)
    assert as_json("models", "list", "-w", kb)["models"] == []
    assert "no other encoder" in refused(2, "models", "rollback", "-w", kb)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--retriever", "keyword"], "'keyword'"),
        (["--learning-rate", "-1"], "--learning-rate -1.0"),
    ],
)
def test_learn_refuses_wrong_usage(arguments: list[str], expected: str, asked: Path):
    assert expected in refused(2, "learn", *arguments, "-w", asked / "kb")


# --- doctor


def states(document: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["state"] for check in document["checks"]}


def test_doctor_finds_nothing_wrong(asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found = as_json("doctor", "-w", asked / "kb")
    assert found["ok"]
    checked = states(found)
    for name in ("python", "torch", "embedded encoder", "encoder", "index", "late search"):
        assert checked[name] == "ok"
    monkeypatch.chdir(tmp_path)
    assert states(as_json("doctor"))["workspace"] == "note"
    assert run("doctor", "-w", "elsewhere").exit_code == 1


def test_doctor_finds_what_is_broken_and_mends_it(kb: Path):
    shutil.rmtree(kb / "index")
    result = run("doctor", "-w", kb, "--json")
    assert result.exit_code == 1
    (broken,) = [c for c in json.loads(result.stdout)["checks"] if c["state"] == "broken"]
    assert (broken["name"], broken["fix"]) == ("index", "retrail doctor --rebuild")
    mended = as_json("doctor", "--rebuild", "-w", kb)
    assert (mended["ok"], mended["rebuilt"]) == (True, 2)
    assert as_json("search", "beaver", "-w", kb)["hits"][0]["doc_id"] == "d0"


@pytest.mark.parametrize("name", ["corpus.db", "trajectories.db", "settings.toml"])
def test_doctor_names_a_damaged_file(name: str, kb: Path):
    (kb / name).write_bytes(b"damaged, " * 1000)
    result = run("doctor", "-w", kb)
    assert result.exit_code == 1
    assert [line for line in result.stdout.splitlines() if "broken" in line and name in line]
