"""Prefixes, shorter dense vectors and thoughts: what is encoded, kept and told apart."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from retrail.agents.workspace import Workspace
from retrail.core.documents import Document
from retrail.core.errors import ConfigError, IndexMismatch
from retrail.core.settings import EMBEDDED_ENCODER, Settings
from retrail.core.trajectories import AgentInfo
from retrail.retrievers import Encoder, Index
from retrail.retrievers.onnx_export import export
from retrail.retrievers.reading import Reading
from retrail.retrievers.thought import ThoughtQuery, reasoning_query
from retrail.tools import Recorder, Session

TEXTS = ["Wolves howl at night.", "The harbour was built by the Romans.", "Penicillin cures."]
DOCUMENTS = [Document(id=f"d{n}", text=text) for n, text in enumerate(TEXTS)]
E5 = Reading(dense_dim=128, query_prefix="query: ", document_prefix="passage: ")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETRAIL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def plain() -> Encoder:
    return Encoder.load(EMBEDDED_ENCODER, precision="float32")


@pytest.fixture(scope="module")
def read() -> Encoder:
    return Encoder.load(EMBEDDED_ENCODER, precision="float32", reading=E5)


def dense(encoder: Any, text: str) -> np.ndarray:
    ((_, encoded),) = encoder.documents([text])
    return encoded.dense


def test_dense_vectors_are_the_first_components(plain: Encoder, read: Encoder):
    for found, whole in (
        (read.query("wolf").dense, plain.query("query: wolf").dense),
        (dense(read, TEXTS[0]), dense(plain, f"passage: {TEXTS[0]}")),
    ):
        assert found.shape == (128,)
        np.testing.assert_allclose(found, whole[:128] / np.linalg.norm(whole[:128]), atol=1e-5)
    assert read.dim == 128
    assert read.query("wolf").tokens.shape[1] == 384


def test_the_exported_encoder_reads_alike(read: Encoder):
    made = export(read)
    assert made is not None
    np.testing.assert_allclose(made.query("wolf").dense, read.query("wolf").dense, atol=1e-3)
    np.testing.assert_allclose(dense(made, TEXTS[0]), dense(read, TEXTS[0]), atol=1e-3)
    spans = made.token_spans("wolf", "query")
    assert [span.word is not None for span in spans] == [False, False, False, True, False]


def test_each_way_of_reading_has_its_own_identity(plain: Encoder, read: Encoder):
    prints = {plain.fingerprint, read.fingerprint}
    for reading in (Reading(dense_dim=128), Reading(query_prefix="query: ")):
        prints.add(Encoder.load(EMBEDDED_ENCODER, reading=reading).fingerprint)
    assert len(prints) == 4
    same = Encoder.load(EMBEDDED_ENCODER, reading=Reading())
    assert same.fingerprint == plain.fingerprint


def test_an_empty_prefix_switches_a_prompt_off():
    own = {"query": "find ", "document": "text "}
    assert Reading().prompts(own, marked=False) == own
    assert Reading(query_prefix="").prompts(own, marked=False) == own | {"query": ""}
    assert Reading(query_prefix="").prompts(own, marked=True) == own


def test_more_components_than_there_are_is_an_error():
    with pytest.raises(ConfigError, match=r"'dense_dim' is 512, .* have 384.*at most 384"):
        Encoder.load(EMBEDDED_ENCODER, reading=Reading(dense_dim=512))


@pytest.mark.parametrize(
    ("name", "value"), [("dense_dim", 64), ("query_prefix", "q: "), ("document_prefix", "p: ")]
)
def test_a_changed_setting_is_noticed(tmp_path: Path, name: str, value: Any):
    before = Settings(precision="float32", dense_dim=128)
    index = Index(tmp_path, before)
    index.add(DOCUMENTS)
    assert index.search("wolf", by="dense")[0].doc_id == "d0"
    assert index.snapshot().manifest["dim"] == 128
    index.close()
    changed = Index(tmp_path, before.model_copy(update={name: value}))
    with pytest.raises(IndexMismatch, match=rf"another '{name}'.*retrail doctor --rebuild"):
        changed.search("wolf")
    changed.rebuild()
    assert changed.search("wolf", by="dense")[0].doc_id == "d0"
    changed.close()


def test_prefixes_are_kept_as_they_are_written(tmp_path: Path):
    Workspace.create(tmp_path, query_prefix="query: ", document_prefix="").close()
    opened = Workspace.create(tmp_path)
    assert (opened.settings.query_prefix, opened.settings.document_prefix) == ("query: ", "")
    assert opened.settings.dense_dim is None
    opened.close()


# Thoughts


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, plain: Encoder) -> Iterator[Index]:
    folder = tmp_path_factory.mktemp("kb")
    opened = Index(folder, Settings(precision="float32", query_thought=True), plain)
    opened.add(DOCUMENTS)
    yield opened
    opened.close()


THOUGHT = "An animal that howls in the dark."


@pytest.mark.parametrize("by", ["dense", "late"])
def test_encoders_read_the_thought(index: Index, by: Any):
    found = index.search("harbour", by=by, thought=THOUGHT, k=3)
    read = index.search(reasoning_query(THOUGHT, "harbour", 256), by=by, k=3)
    scores = {hit.doc_id: pytest.approx(hit.score, abs=1e-4) for hit in read}
    assert {hit.doc_id: hit.score for hit in found} == scores
    bare = index.search("harbour", by=by, k=3)
    assert [hit.score for hit in bare] != [hit.score for hit in found]


@pytest.mark.parametrize("by", ["dense", "late"])
def test_behind_a_long_thought_the_query_is_still_read(index: Index, by: Any):
    thought = " ".join(["internationalisation"] * 1000)
    harbour, animal = (
        [(hit.doc_id, hit.score) for hit in index.search(query, by=by, thought=thought, k=3)]
        for query in ("harbour", "wolf")
    )
    assert harbour != animal


def test_keywords_are_those_of_the_query(index: Index):
    hits = index.search("harbour", by="keyword", thought=THOUGHT)
    assert [hit.doc_id for hit in hits] == ["d1"]
    hybrid = index.search("harbour", by="hybrid", thought=THOUGHT, k=3)
    assert [h.score for h in hybrid] != [h.score for h in index.search("harbour", k=3)]


def test_no_thought_or_a_blank_one_changes_nothing(index: Index):
    bare = index.search("harbour", by="dense")
    for thought in (None, "", "  \n"):
        assert index.search("harbour", by="dense", thought=thought) == bare


def test_by_default_thoughts_are_not_read(tmp_path: Path, plain: Encoder):
    index = Index(tmp_path, Settings(precision="float32"), plain)
    index.add(DOCUMENTS)
    bare = index.search("harbour", by="late")
    assert index.search("harbour", by="late", thought=THOUGHT) == bare
    index.close()


@pytest.mark.parametrize("told", ["argument", "before"])
def test_tools_search_with_the_thought_and_record_the_bare_query(index: Index, told: str):
    recorder = Recorder(None, agent=AgentInfo(planner="test"))
    session = Session(index, recorder)
    if told == "before":
        recorder.think(THOUGHT)
    hits = session.search("harbour", by="dense", thought=THOUGHT if told == "argument" else None)
    assert hits == index.search("harbour", by="dense", thought=THOUGHT)
    (step,) = recorder.steps
    assert (step.args["query"], step.thought) == ("harbour", THOUGHT)
    session.search("harbour", by="dense")
    assert recorder.steps[1].thought is None


def test_half_a_pair_in_a_thought_breaks_no_search(index: Index):
    half = "A wolf \ud83d howls."
    with pytest.raises(ConfigError, match="the thought is not valid Unicode"):
        index.search("harbour", by="dense", thought=half)
    session = Session(index, Recorder(None, agent=AgentInfo(planner="test")))
    hits = session.search("harbour", by="dense", thought=half)
    assert hits == index.search("harbour", by="dense", thought="A wolf ? howls.")


def test_a_query_with_a_thought_is_the_bare_query():
    query = ThoughtQuery("harbour", f" {THOUGHT} ", 256)
    assert query == "harbour"
    assert query.read == f"Reasoning: {THOUGHT}\n\nQuery: harbour"
