"""The demo's questions must have their answers in the demo's corpus, on every Python."""

import json
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from retrail.retrievers.readers import ReadReport, read_python_env

DEMO = Path(__file__).resolve().parent.parent / "examples" / "demo"
MODULES = (DEMO / "modules.txt").read_text(encoding="utf-8").split()
QUESTIONS = [
    json.loads(line) for line in (DEMO / "questions.jsonl").read_text(encoding="utf-8").splitlines()
]


@pytest.fixture(scope="module")
def corpus() -> dict[str, str]:
    """Module of each document, by id."""
    report = ReadReport()
    documents = read_python_env(report, packages=["python"], modules=MODULES)
    by_id = {document.id: str(document.metadata["module"]) for document in documents}
    assert report.problems == []
    return by_id


def test_questions_are_complete_and_unique():
    assert len(QUESTIONS) >= 300
    assert all(
        question.keys() - {"accept"} == {"_id", "text", "target", "style"} for question in QUESTIONS
    )
    for field in ("_id", "text"):
        assert [v for v, n in Counter(q[field] for q in QUESTIONS).items() if n > 1] == []
    assert len({question["target"] for question in QUESTIONS}) >= 250
    assert all(question["target"] not in question.get("accept", []) for question in QUESTIONS)


def test_no_question_nearly_repeats_another():
    words = [frozenset(question["text"].lower().split()) for question in QUESTIONS]
    long = [(q["text"], w) for q, w in zip(QUESTIONS, words, strict=True) if len(w) > 4]
    pairs = [(a, b) for (a, v), (b, w) in combinations(long, 2) if 5 * len(v & w) > 4 * len(v | w)]
    assert pairs == []


def test_styles_are_balanced():
    share = Counter(question["style"] for question in QUESTIONS)
    assert share.keys() == {"paraphrase", "task", "error", "name"}
    assert 0.65 < (share["paraphrase"] + share["task"]) / len(QUESTIONS) < 0.85
    assert share["error"] / len(QUESTIONS) > 0.08


def test_most_questions_do_not_name_their_answer():
    """Retrieval by the name alone must not be enough."""
    named = [
        question
        for question in QUESTIONS
        if question["target"].split(".")[-1].lower() in question["text"].lower().split()
    ]
    assert len(named) < len(QUESTIONS) / 3


def test_targets_are_in_the_corpus(corpus):
    missing = [q["target"] for q in QUESTIONS if q["target"] not in corpus]
    assert len(missing) <= 0.03 * len(QUESTIONS), missing


def test_every_module_is_asked_about(corpus):
    asked = {corpus[q["target"]] for q in QUESTIONS if q["target"] in corpus}
    assert [m for m in MODULES if not any(f"{a}.".startswith(f"{m}.") for a in asked)] == []


def test_the_corpus_has_the_size_of_a_demo(corpus):
    assert 1800 < len(corpus) < 2300
