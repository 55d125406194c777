"""Explanations: they add up to the late score, and point at the characters they speak of."""

import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest
from retrail.core.documents import Document
from retrail.core.errors import ConfigError, ToolError
from retrail.core.settings import EMBEDDED_ENCODER, Settings
from retrail.retrievers import Encoder, Index
from retrail.retrievers.explain import Explanation, TextSpan
from retrail.serving import app
from typer.testing import CliRunner

QUERY = "Which antibiotics cure pneumonia?"
TEXT = "\n  Unbelievably, penicillin cures pneumonia  in adults. It was found by Fleming in 1928.\n"
HOSTILE = "Wolves \x1b]0;owned\x07 [bold]howl[/bold] \u202eno end"
DOCUMENTS = [
    Document(id="p", title="Antibiotics today", text=TEXT),
    Document(id="bare", text="Antibiotics do not cure a cold. 😀 naïve café pneumonia"),
    Document(id="w", title="Wolves", text=HOSTILE),
    Document(id="long", text="The harbour was built by the Romans. " * 90),
]
FORMS: list[dict[str, Any]] = [
    {},
    {"late_codec": "int8", "late_pooling": "topk"},
    {"late_codec": "binary", "late_pooling": "softmax"},
    {"late_codec": "kmeans", "late_dim": 50},
]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load(EMBEDDED_ENCODER, precision="float32")


def indexed(folder: Path, encoder: Encoder, **settings: Any) -> Index:
    index = Index(folder, Settings(precision="float32", **settings), encoder)
    index.add(DOCUMENTS)
    return index


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Index:
    return indexed(tmp_path_factory.mktemp("kb"), encoder)


def source(index: Index, found: Explanation, span: TextSpan) -> str:
    passage = index.passages([found.passage_id])[found.passage_id]
    texts = {"query": found.query, "title": passage.title, "text": passage.text, "added": ""}
    return texts[span.field][span.start : span.end]


def total(found: Explanation) -> float:
    return sum(match.score for match in found.matches) + found.added


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_matches_add_up_to_the_late_score(form: dict[str, Any], tmp_path: Path, encoder: Encoder):
    index = indexed(tmp_path, encoder, **form)
    for hit in index.search(QUERY, by="late", k=10):
        found = index.explain(QUERY, hit.passage.id)
        assert found.stored
        assert found.score == pytest.approx(hit.score, abs=1e-4)
        assert total(found) == pytest.approx(hit.score, abs=1e-4)
    index.close()


def test_fewer_stored_tokens_are_explained_by_all(tmp_path: Path, encoder: Encoder, index: Index):
    reduced = indexed(tmp_path, encoder, late_tokens="pooled:3")
    found, whole = reduced.explain(QUERY, "p#0"), index.explain(QUERY, "p#0")
    assert not found.stored
    assert [match.query for match in found.matches] == [match.query for match in whole.matches]
    assert total(found) == pytest.approx(found.score)
    reduced.close()


@pytest.mark.parametrize("name", ["p", "bare", "w", "long#1"])
def test_every_span_is_what_it_says(index: Index, name: str):
    found = index.explain(f"{QUERY} naïve 😀 wolves", name)
    for match in found.matches:
        assert match.query.text == source(index, found, match.query) != ""
        assert match.passage.text == source(index, found, match.passage)
    assert max(mark.weight for mark in found.highlights) == 1
    marks = [(mark.field != "title", mark.start, mark.end) for mark in found.highlights]
    assert marks == sorted(marks)


def test_words_meet_themselves(index: Index):
    found = index.explain(QUERY, "p#0")
    met = {match.query.text: match.passage for match in found.matches}
    assert met["pneumonia"].text == "pneumonia"
    assert TEXT[met["pneumonia"].start :].startswith("pneumonia")
    assert (met["antibiotics"].field, met["antibiotics"].start) == ("title", 0)
    passage = index.passages(["p#0"])["p#0"]
    shown = [
        (passage.title if mark.field == "title" else passage.text)[mark.start : mark.end]
        for mark in found.highlights
    ]
    assert any("pneumonia" in text for text in shown)
    assert all(text == text.strip() for text in shown)


def test_a_document_is_explained_by_its_best_passage(index: Index):
    hit = index.search("harbour", by="late", k=1)[0]
    assert hit.doc_id == "long"
    assert index.explain("harbour", "long").score == pytest.approx(hit.score, abs=1e-4)


def test_the_best_passage_is_the_one_late_search_shows(tmp_path: Path, encoder: Encoder):
    rng = random.Random(5)
    words = [
        "harbour",
        "fever",
        "engine",
        "violin",
        "desert",
        "court",
        "glacier",
        "market",
        "novel",
        "bridge",
    ]
    opened = Index(tmp_path / "kb", Settings(chunk_tokens=12), encoder)
    texts = (
        " ".join(f"The {w} was seen near a {rng.choice(words)}." for w in words) for _ in "abc"
    )
    opened.add(Document(id=f"d{n}", text=text) for n, text in enumerate(texts))
    for first, second in itertools.combinations(words, 2):
        query = f"{first} and {second}"
        for hit in opened.search(query, by="late", k=3):
            found = opened.explain(query, hit.doc_id)
            assert found.score >= hit.score - 1e-3
    opened.close()


def test_what_cannot_be_explained_is_refused(index: Index):
    with pytest.raises(ToolError, match="no document or passage 'nowhere'"):
        index.explain(QUERY, "nowhere")
    with pytest.raises(ConfigError, match="the query is empty"):
        index.explain("  ", "p")


# On the command line


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    records = [{"_id": item.id, "title": item.title, "text": item.text} for item in DOCUMENTS]
    lines = [json.dumps(record) for record in records]
    (folder / "docs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    result = CliRunner().invoke(app, ["add", str(folder / "docs.jsonl"), "-w", str(folder / "kb")])
    assert result.exit_code == 0, result.stderr
    return folder / "kb"


def explained(workspace: Path, *arguments: str) -> Any:
    return CliRunner().invoke(app, ["explain", *arguments, "-w", str(workspace)])


def test_the_command_shows_matches(workspace: Path):
    result = explained(workspace, QUERY, "p")
    assert result.exit_code == 0, result.stderr
    assert "pneumonia → pneumonia  (text " in result.stdout
    assert "antibiotics → Antibiotics  (title 0-11)" in result.stdout


def test_the_command_prints_json(workspace: Path):
    result = explained(workspace, QUERY, "p#0", "--json")
    found = Explanation.model_validate_json(result.stdout)
    assert total(found) == pytest.approx(found.score)


def test_hostile_text_commands_no_terminal(workspace: Path):
    result = explained(workspace, "howl", "w")
    assert "[bold]howl[/bold]" in result.stdout
    assert not any(mark in result.stdout for mark in "\x1b\x07\u202e")


def test_the_command_says_what_is_wrong(workspace: Path):
    wrong = (((QUERY, "nowhere"), 1, "nowhere"), (("", "p"), 2, "the query is empty"))
    for arguments, code, message in wrong:
        result = explained(workspace, *arguments)
        assert (result.exit_code, result.stdout) == (code, "")
        assert message in result.stderr
        assert "Traceback" not in result.stderr
