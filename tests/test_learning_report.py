"""The report of a learned version: hostile data, kept and promoted, and the command for it."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from retrail.agents import Workspace
from retrail.core import ConfigError, CorruptStore
from retrail.core.settings import GateSettings
from retrail.evals import write_learning_report
from retrail.evals.learning_markdown import plain
from retrail.retrievers.training import Card, GateRecord, Registry, diagnose
from retrail.retrievers.training.curve import (
    TRAINING,
    Point,
    points,
    points_of,
    read_curve,
    save_curve,
)
from retrail.retrievers.training.held_gate import judge
from retrail.retrievers.training.query_types import query_types
from retrail.retrievers.training.trial import Tried
from retrail.serving import app
from typer.testing import CliRunner

ATTACK = "</text></svg><script>alert('x')</script><img src=//evil.example onerror=alert(1)>"
MARKUP = "| [x](javascript:1) `code` **bold** <b>raw</b> \x1b[31m # $x$"
BY = ("dense", "late", "hybrid")


def tried(n: int, part: Any, before: float, after: float) -> Tried:
    query = f"Which frog is song {n}? {ATTACK} {MARKUP}"
    return Tried(
        query=query,
        relevant={f"<b>{n}</b>": 1},
        types=query_types(query, 1),
        scores=dict.fromkeys(BY, (before, after)),
        best=dict.fromkeys(BY, (["miss", f"<b>{n}</b>"], [f"<b>{n}</b>"])),
        part=part,
        nearest=0.5,
    )


def write_version(root: Path, version: int, queries: list[Tried], candidate: int = 1) -> Card:
    titles = {f"<b>{n}</b>": f"{ATTACK} {MARKUP} {n}" for n in range(40)}
    gate = judge(queries, GateSettings(), candidate=candidate)
    gate = gate.model_copy(update={"titles": titles, "guard_source": "known items", "bound": 0.4})
    _, folder = Registry(root).reserve()
    dropped = {"openings that nobody judged": 3}
    curve = points([1.0, 0.6, 0.4, 0.3], 5e-5)
    record = GateRecord(
        version=version, gate=gate, dropped=dropped, curve=curve, behaviour=diagnose([])
    )
    record.save(folder)
    card = Card(
        name="dense",
        version=version,
        created_at="2026-11-20T09:00:00.000Z",
        parent="all-MiniLM-L6-v2@1",
        fingerprint="f",
        code_version="0",
        trajectories=["t"],
        data_hash="h",
        hyperparameters={"mode": "full", "epochs": 2},
        signals={"cited": 5},
        examples=16,
        measured=gate.measured,
        verdict=gate.verdict,
        reason=gate.reason,
    )
    Registry(root).register(card)
    return card


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("reported") / "kb"
    with Workspace.create(root) as made:
        assert made.trajectories.count() == 0
    near = [tried(n, "interpolation", 0.2, 0.9) for n in range(14)]
    far = [tried(n, "extrapolation", 0.7, 0.6 if n % 3 else 1.0) for n in range(14, 24)]
    guard = [tried(n, "guard", 0.5, 0.5) for n in range(24, 40)]
    write_version(root, 1, [*near, *far, *guard])
    small = [tried(n, "interpolation", 0.5, 0.9 if n % 3 else 0.1) for n in range(14)]
    lost = [tried(n, "guard", 0.9, 0.5) for n in range(24, 40)]
    write_version(root, 2, [*small, *lost], candidate=2)
    return root


class Page(HTMLParser):
    """Collects the elements and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def test_nothing_of_the_data_is_markup_and_nothing_is_fetched(root: Path):
    path = write_learning_report(root, 1)
    assert path == root / "models/dense/0001/report.html"
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert not {"script", "img", "link", "iframe", "object", "form", "b", "image"} & page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on") or name == "src"]
    links = [value for name, value in page.attributes if name in ("href", "xlink:href")]
    assert all(value and value.startswith("#") for value in links)
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert "\x1b" not in text
    assert "Which frog is song 13? </text></svg><script>alert('x')</script>" in page.text
    for figure in re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL):
        assert ElementTree.fromstring(figure).get("aria-label")
    assert not re.search(r"#0[0-9a-b]0[0-9a-b]0\d\b", text), "a placeholder colour is left"


def test_the_verdict_and_why_come_first(root: Path):
    card = Registry(root).card(1)
    page = Page(write_learning_report(root, 1).read_text(encoding="utf-8"))
    body = page.text[page.text.index("Version 1:") :].split("\n")
    assert body[0] == "Version 1: promoted"
    assert body[1] == card.reason + "."
    assert "What would help" not in page.text
    for heading in ("Before and after", "By type of query", "Won", "Lost", "Lineage"):
        assert heading in page.text
    for part in ("All held-out queries", "Interpolation", "Extrapolation", "Guard"):
        assert part in page.text
    assert "openings that nobody judged" in page.text
    assert "question word" in page.text
    assert "comparison" in page.text or "plain" in page.text


def test_a_closed_gate_says_what_would_help(root: Path):
    path = write_learning_report(root, 2)
    text = Page(path.read_text(encoding="utf-8")).text
    assert "Version 2: kept" in text
    assert "forgets: -0.400 nDCG@10 by dense on guard queries" in text
    assert "It forgets. Keep nearer to the present model" in text
    assert "held-out queries would show it" in text
    assert "candidate 2" in text
    assert "97.5 %" in text


def test_markdown_holds_the_same_and_no_markup_of_the_data(root: Path):
    folder = write_learning_report(root, 2).parent
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert text.startswith("# Version 2: kept\n\nforgets: ")
    assert "<b>" not in text.replace("\\<b\\>", "")
    assert not re.search(r"(?<!\\)\]\(javascript", text)
    assert "\x1b" not in text
    for name in re.findall(r"!\[\w+\]\((\w+\.png)\)", text):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    assert text.count("![") == 2
    rows = [line for line in text.splitlines() if line.startswith("| dense")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 7 for row in rows)
    assert plain("a\nb|c") == "a b\\|c"


def test_the_command_writes_it_again(root: Path):
    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["models", "report", *arguments, "--workspace", str(root)])

    result = run("1", "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["verdict"]) == (0, "promoted")
    assert Path(found["report"]).exists()
    assert Path(found["markdown"]).exists()
    shown = run().stdout
    assert "version 2 kept: forgets" in shown
    assert "0002/report.html" in shown.replace("\n", "")
    missing = run("9")
    assert (missing.exit_code, "no version 9" in missing.stderr) == (2, True)
    assert run("0").exit_code == 2


def test_versions_without_a_record_say_so(tmp_path: Path):
    with Workspace.create(tmp_path / "kb") as made:
        made.trajectories.count()
        root = made.root
    result = CliRunner().invoke(app, ["models", "report", "--workspace", str(root)])
    assert "nothing has been trained yet" in result.stderr
    card = write_version(root, 1, [tried(1, "interpolation", 0.1, 0.2)])
    record = root / card.reference / "gate.json"
    record.write_text("{", encoding="utf-8")
    with pytest.raises(CorruptStore, match=r"gate\.json' is damaged"):
        write_learning_report(root, 1)
    record.unlink()
    with pytest.raises(ConfigError, match="no record of its gate"):
        write_learning_report(root, 1)


def test_curves_are_kept_beside_the_weights(tmp_path: Path):
    assert read_curve(tmp_path) == []
    history = [{"loss": 1.0, "learning_rate": 1e-5, "step": 2, "epoch": 1}, {"train_runtime": 1.0}]
    save_curve(tmp_path, points_of(history))
    assert read_curve(tmp_path) == [Point(step=2, loss=1.0, learning_rate=1e-5)]
    (tmp_path / TRAINING).write_text("[{}]", encoding="utf-8")
    with pytest.raises(CorruptStore, match="damaged"):
        read_curve(tmp_path)
    thinned = points([float(n) for n in range(205)], 0.1)
    assert (thinned[0].step, thinned[0].loss, thinned[-1].step) == (4, 1.5, 205)
    assert points([], 0.1) == []
