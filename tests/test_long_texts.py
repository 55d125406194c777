"""Texts beyond the model's window: read in windows, each token once, or counted as cut."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from retrail.agents.workspace import Workspace
from retrail.core.documents import Document
from retrail.core.errors import ConfigError, IndexMismatch
from retrail.core.settings import EMBEDDED_ENCODER, Settings
from retrail.retrievers import Encoder, Index
from retrail.retrievers.onnx_export import export
from retrail.retrievers.reading import Reading
from retrail.retrievers.token_reduction import reduced_documents
from retrail.retrievers.whole_texts import WholeTexts
from retrail.retrievers.windows import MAX_TOKENS, Token, windows_of
from retrail.serving import app
from typer.testing import CliRunner

SHORT = ["Wolves howl at night.", "", "The harbour was built by the Romans."]
LONG = " ".join(f"Ship {n} left, unbelievably, for harbour {n * 7919}." for n in range(36))
HIDDEN = f"{LONG} Penicillin cures pneumonia. {LONG}"
FILLER = [Document(id=f"f{n}", text=f"Ship {n} sails. {LONG}") for n in range(3)]
DOCUMENTS = [*FILLER, Document(id="hidden", title="Ships", text=f"  {HIDDEN}\n")]
QUERY = "Which antibiotic cures pneumonia?"
WINDOWS = Reading(long_texts="windows")
SETTINGS = Settings(precision="float32", chunk_tokens=0, max_tokens=64, long_texts="windows")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETRAIL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def load(reading: Reading = WINDOWS) -> Encoder:
    return Encoder.load(EMBEDDED_ENCODER, max_tokens=64, precision="float32", reading=reading)


@pytest.fixture(scope="module")
def whole() -> Encoder:
    return load()


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, whole: Encoder) -> Iterator[Index]:
    opened = Index(tmp_path_factory.mktemp("kb"), SETTINGS, whole)
    assert opened.add(DOCUMENTS).cut == 0
    yield opened
    opened.close()


# Windows


@given(st.lists(st.integers(1, 9), max_size=60), st.integers(8, 40))
def test_windows_share_out_the_characters(words: list[int], room: int):
    tokens = [Token(3 * n, 3 * n + 2, word) for n, word in enumerate(spread(words))]
    windows = windows_of(tokens, room)
    assert windows[0].first == windows[0].start == 0
    assert windows[-1].last == windows[-1].end == (tokens[-1].end if tokens else 0)
    for window in windows:
        assert window.start <= window.first <= window.last <= window.end
        assert sum(window.start <= token.start < window.end for token in tokens) <= room
    for one, other in pairwise(windows):
        assert one.last == other.first
        assert other.start < one.end
    if len(tokens) > room:
        assert all(window.end - window.start < 3 * room for window in windows)


def spread(words: list[int]) -> list[int]:
    return [n for n, size in enumerate(words) for _ in range(size)]


def test_borders_lie_between_words():
    tokens = [Token(n, n + 1, n // 3) for n in range(400)]
    assert all(window.first % 3 == 0 for window in windows_of(tokens, 62))


def test_no_more_than_so_many_tokens_are_read():
    tokens = [Token(n, n + 1, n) for n in range(MAX_TOKENS + 100)]
    assert windows_of(tokens, 510)[-1].end == MAX_TOKENS


def test_a_prefix_that_leaves_no_room_is_refused():
    encoder = load(Reading(long_texts="windows", document_prefix="passage " * 60))
    with pytest.raises(ConfigError, match=r"room for 2 tokens.*shorten 'document_prefix'"):
        list(encoder.documents(["a harbour"]))


# Vectors


def read(encoder: WholeTexts, texts: list[str]) -> list[Any]:
    return [found for _, found in sorted(encoder.documents(texts), key=lambda pair: pair[0])]


def places(encoder: WholeTexts, text: str) -> list[tuple[int, int]]:
    spans = encoder.token_spans(text, "document")
    return [(span.start, span.end) for span in spans if span.word is not None]


def test_what_fits_is_read_exactly_as_before(whole: Encoder):
    cut = load(Reading())
    for ours, theirs in zip(read(whole, SHORT), read(cut, SHORT), strict=True):
        assert np.array_equal(ours.dense, theirs.dense)
        assert np.array_equal(ours.tokens, theirs.tokens)
    assert [whole.token_spans(t, "document") for t in SHORT] == [
        cut.token_spans(t, "document") for t in SHORT
    ]
    assert np.array_equal(whole.query(LONG).tokens, cut.query(LONG).tokens)
    assert cut.fingerprint != whole.fingerprint == load().fingerprint


@pytest.mark.parametrize("text", [LONG, "x" * 90 + " " + "harbour-" * 60, "猫" * 300])
def test_each_token_has_one_vector(whole: Encoder, text: str):
    (found,) = read(whole, [text])
    spans = whole.token_spans(text, "document")
    assert len(found.tokens) == len(spans)
    assert [span.word is None for span in spans] == [True, *[False] * (len(spans) - 2), True]
    assert sorted(set(places(whole, text))) == places(whole, text)
    covered = {at for start, end in places(whole, text) for at in range(start, end)}
    assert covered == {at for at, character in enumerate(text) if not character.isspace()}


def test_vectors_of_windows_are_put_together(whole: Encoder):
    (found,) = read(whole, [LONG])
    np.testing.assert_allclose(np.linalg.norm(found.tokens, axis=1), 1, atol=1e-5)
    assert np.linalg.norm(found.dense) == pytest.approx(1, abs=1e-5)
    large = Encoder.load(EMBEDDED_ENCODER, precision="float32")
    (at_once,) = read(large, [LONG[:560]])
    (parts,) = read(whole, [LONG[:560]])
    assert at_once.tokens.shape == parts.tokens.shape
    assert at_once.dense @ parts.dense > 0.9
    assert np.median((at_once.tokens * parts.tokens).sum(axis=1)) > 0.8


def test_long_and_short_texts_come_once_each(whole: Encoder):
    texts = [SHORT[0], LONG, *SHORT, HIDDEN]
    found = list(whole.documents(texts))
    assert sorted(at for at, _ in found) == list(range(len(texts)))
    (alone,) = read(whole, [HIDDEN])
    np.testing.assert_allclose(dict(found)[5].tokens, alone.tokens, atol=1e-5)


def test_the_exported_encoder_reads_alike(whole: Encoder):
    made = export(whole)
    assert made is not None
    for text in (LONG, *SHORT):
        (ours,), (theirs,) = read(whole, [text]), read(made, [text])
        np.testing.assert_allclose(ours.tokens, theirs.tokens, atol=1e-3)
        np.testing.assert_allclose(ours.dense, theirs.dense, atol=1e-3)
        assert made.token_spans(text, "document") == whole.token_spans(text, "document")
        assert made.cuts(text) == whole.cuts(text)


@pytest.mark.parametrize("tokens", ["words", "content", "pooled:3"])
def test_fewer_tokens_are_kept_of_windows_too(whole: Encoder, tokens: str):
    ((_, found),) = reduced_documents(whole, [LONG], tokens, "en")
    assert 100 < len(found.encoded.tokens) < len(whole.token_spans(LONG, "document"))


# The index


@pytest.mark.parametrize("by", ["dense", "late"])
def test_what_lies_beyond_the_window_is_found(index: Index, tmp_path: Path, by: Any):
    assert index.search(QUERY, by=by, k=1)[0].doc_id == "hidden"
    cut = Index(tmp_path, SETTINGS.model_copy(update={"long_texts": "cut"}))
    assert cut.add(DOCUMENTS).cut == len(DOCUMENTS)
    known, unknown = (
        {hit.doc_id: hit.score for hit in opened.search(QUERY, by=by)} for opened in (index, cut)
    )
    assert known["hidden"] > unknown["hidden"] + 0.01
    cut.close()


def test_explanations_point_beyond_the_first_window(index: Index):
    found = index.explain(QUERY, "hidden")
    passage = index.passages([found.passage_id])[found.passage_id]
    assert found.stored
    met = {match.query.text: match.passage for match in found.matches}["pneumonia"]
    assert passage.text[met.start : met.end] == met.text == "pneumonia"
    assert passage.text.index("pneumonia") == met.start
    assert found.score == pytest.approx(index.search(QUERY, by="late", k=1)[0].score, abs=1e-3)


def test_a_changed_setting_is_noticed(tmp_path: Path):
    before = SETTINGS.model_copy(update={"long_texts": "cut"})
    index = Index(tmp_path, before)
    index.add(DOCUMENTS)
    assert index.cut_passages() == len(DOCUMENTS)
    index.close()
    changed = Index(tmp_path, SETTINGS)
    with pytest.raises(IndexMismatch, match=r"another 'long_texts'.*retrail doctor --rebuild"):
        changed.search("wolf")
    changed.rebuild()
    assert changed.cut_passages() == 0
    assert changed.search(QUERY, by="dense")[0].doc_id == "hidden"
    changed.close()


# People are told


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_cut_passages_are_told(tmp_path: Path):
    folder = tmp_path / "kb"
    Workspace.create(folder, chunk_tokens=0, max_tokens=64).close()
    (tmp_path / "long.txt").write_text(LONG, encoding="utf-8")
    (tmp_path / "short.txt").write_text(SHORT[0], encoding="utf-8")
    added = run("add", tmp_path / "long.txt", tmp_path / "short.txt", "-w", folder)
    assert "1 passage is longer than 64 tokens" in added.stderr
    assert "long_texts = 'windows'" in added.stderr
    assert "cut          1" in run("status", "-w", folder).stdout
    with Workspace.open(folder) as opened:
        assert opened.status()["cut"] == 1
        opened.remove(*[hit.doc_id for hit in opened.search("harbour", by="keyword")])
        assert opened.status()["cut"] == 0
        opened.index.corpus.rows("UPDATE encodings SET cut = NULL")  # as older versions left it
        assert opened.status()["cut"] is None


def test_counting_them_looks_at_no_other_passages(index: Index):
    asked: list[str] = []
    index.corpus.db.set_trace_callback(asked.append)
    assert index.cut_passages() == 0
    index.corpus.db.set_trace_callback(None)
    plans = [
        row[3]
        for sql in asked
        if "encodings" in sql
        for row in index.corpus.rows(f"EXPLAIN QUERY PLAN {sql}")
    ]
    assert [plan for plan in plans if "encodings_cut" in plan]
    assert not [plan for plan in plans if plan.startswith("SCAN") and "CONSTANT" not in plan]


def test_doctor_counts_them(tmp_path: Path):
    from retrail.serving.checks import workspace

    with Workspace.create(tmp_path, chunk_tokens=0, max_tokens=64) as opened:
        opened.add(*DOCUMENTS)
        (found,) = [check for check in workspace(opened) if check.name == "long passages"]
        assert found.state == "note"
        assert found.detail.startswith(f"{len(DOCUMENTS)} passages are longer than 64 tokens")
