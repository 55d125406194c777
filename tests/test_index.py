"""The index: what changes is searched at once, by every process, and never half."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from retrail.core.documents import Document, Hit
from retrail.core.errors import ConfigError, WorkspaceLocked
from retrail.core.settings import EMBEDDED_ENCODER, FusionWeights, Settings
from retrail.retrievers import AddReport, Encoder, Index, Retriever

RANKERS: tuple[Retriever, ...] = ("keyword", "dense", "late", "hybrid")
SETTINGS = Settings(chunk_tokens=40)
DOCUMENTS = [
    Document(id=f"d{n}", title=title, text=text, metadata={"n": n})
    for n, (title, text) in enumerate(
        [
            ("Cats", "A cat sleeps most of the day. Kittens play at night."),
            ("Dogs", "Dogs were bred to herd sheep. A puppy learns from its mother."),
            ("Markets", "Shares fell in London. Investors fear higher interest rates."),
            ("Cells", "Mitochondria turn sugar into energy. The cell cannot live without it."),
            ("Ships", "The harbour was built by the Romans. " * 12 + "It has a lighthouse."),
        ]
    )
]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    loaded = Encoder.load(EMBEDDED_ENCODER, precision="float32")
    assert loaded.dim == 384
    return loaded


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Path:
    index = Index(tmp_path_factory.mktemp("built"), SETTINGS, encoder)
    index.add(DOCUMENTS)
    index.close()
    return index.root


@pytest.fixture
def index(tmp_path: Path, built: Path, encoder: Encoder) -> Iterator[Index]:
    shutil.copytree(built, tmp_path / "kb")
    opened = Index(tmp_path / "kb", SETTINGS, encoder)
    yield opened
    opened.close()


def plain(doc_id: str, text: str, **metadata: Any) -> Document:
    return Document(id=doc_id, text=text, metadata=metadata)


def ids(hits: list[Hit]) -> list[str]:
    return [hit.doc_id for hit in hits]


def scores(index: Index) -> dict[tuple[str, str], dict[str, float]]:
    """Score everything by everything, comparable between indexes of the same documents."""
    return {
        (query, by): {hit.passage.id: hit.score for hit in index.search(query, by=by, k=50)}
        for query in ("the cat and the sheep", "interest in energy")
        for by in RANKERS
    }


def in_another_process(code: str, root: Path) -> subprocess.Popen[str]:
    """Run code with ``root``, in an interpreter of its own."""
    prelude = "import sys; from pathlib import Path; root = Path(sys.argv[1])\n"
    return subprocess.Popen(
        [sys.executable, "-c", prelude + code, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


# Searching


@pytest.mark.parametrize("by", RANKERS)
@pytest.mark.parametrize(
    ("query", "doc_id"), [("young cats", "d0"), ("falling share prices in London", "d2")]
)
def test_every_retriever_finds_what_is_meant(index: Index, by: Retriever, query: str, doc_id: str):
    hits = index.search(query, by=by, k=2)
    assert hits[0].doc_id == doc_id
    assert hits[0].retriever == by
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))


def test_hits_are_spans_of_their_documents(index: Index):
    texts = {document.id: document.text for document in DOCUMENTS}
    for hit in index.search("the harbour lighthouse", by="dense", k=5):
        passage = hit.passage
        assert passage.text == texts[hit.doc_id][passage.start : passage.end]
    best = index.search("lighthouse", by="late", k=1)[0].passage
    assert "lighthouse" in best.text
    assert best.start > 0


@pytest.mark.parametrize("by", RANKERS)
def test_results_count_documents_however_many_passages_match(index: Index, by: Retriever):
    long = "The harbour of the Romans is full of ships. " * 400
    index.add([plain(f"long{n}", long) for n in range(3)])
    assert index.corpus.counts(index.generation)[1] > 200
    found = ids(index.search("harbour of the Romans", by=by, k=4))
    assert sorted(found) == ["d4", "long0", "long1", "long2"]


def test_boosts_raise_what_the_query_names(tmp_path: Path, encoder: Encoder):
    same = [Document(id=f"b{n}", title=t, text="A text.") for n, t in enumerate(["Abc", "Xyz"])]
    boosted = SETTINGS.model_copy(update={"boosts": {"title": 50.0}, "weights": FusionWeights()})
    for settings, first in ((boosted, "b1"), (SETTINGS, "b0")):
        index = Index(tmp_path / first, settings, encoder)
        index.add(same)
        assert ids(index.search("xyz text abc abc" if first == "b0" else "xyz", k=1)) == [first]
        index.close()


def test_queries_that_cannot_be_answered_say_why(index: Index):
    for query, options, message in [
        ("", {}, "the query is empty: say what to look for"),
        (" \n", {"by": "dense"}, "the query is empty"),
        ("cat", {"k": 0}, "k is 0: ask for at least 1"),
        ("cat", {"by": "magic"}, "unknown retriever 'magic': use one of keyword, dense"),
        ("cat", {"by": "filtered", "rank_by": "filtered"}, "use one of .*, sparse, hybrid$"),
        ("x" * 20_001, {}, "has 20001 characters: use at most 20000"),
        ("cat \ud800", {}, "not valid Unicode: remove"),
    ]:
        with pytest.raises(ConfigError, match=message):
            index.search(query, **options)


@pytest.mark.parametrize("by", RANKERS)
def test_odd_queries_are_no_errors(index: Index, by: Retriever):
    for query in ("\x00", "?!", "(((" * 50, "cat " * 5_000, "😀", "body:cat AND NOT ("):
        assert len(index.search(query, by=by, k=10**9)) <= len(DOCUMENTS)


# Adding


def test_adding_again_does_nothing(index: Index, encoder: Encoder):
    encoded, before = encoder.texts_encoded, scores(index)
    again = index.add(DOCUMENTS)
    assert again == AddReport(unchanged=5, generation=1)
    assert encoder.texts_encoded == encoded + 2  # the queries of scores
    assert scores(index) == before


def test_every_distinct_text_is_encoded_exactly_once(tmp_path: Path, encoder: Encoder):
    texts = [f"Text number {n}." for n in range(40)]
    documents = [plain(f"d{n}", texts[n % 30]) for n in range(40)]
    index = Index(tmp_path, SETTINGS, encoder)
    before = encoder.texts_encoded
    assert index.add(documents[:20]).added == 20
    assert encoder.texts_encoded - before == 20
    assert index.add(documents).added == 20
    assert encoder.texts_encoded - before == 30
    index.close()


def test_changed_metadata_encodes_nothing_and_is_filtered_by(index: Index, encoder: Encoder):
    before, encoded = scores(index), encoder.texts_encoded
    changed = DOCUMENTS[0].model_copy(update={"metadata": {"n": 70, "kind": "pet"}, "url": "u"})
    report = index.add([changed])
    assert (report.added, report.updated, report.unchanged) == (0, 1, 0)
    assert encoder.texts_encoded == encoded
    for by in (*RANKERS, "filtered"):
        assert ids(index.search("cat", by=by, where="kind = 'pet'")) == ["d0"]
        assert index.search("cat", by=by, where="n = 0") == []
    for (query, by), found in scores(index).items():
        if by in ("dense", "late"):  # the engine counts what died for BM25 until it merges
            assert found == pytest.approx(before[query, by])


def test_one_changed_document_encodes_its_new_passages_only(index: Index, encoder: Encoder):
    ships = DOCUMENTS[4]
    encoded = encoder.texts_encoded
    index.add([ships.model_copy(update={"text": ships.text + " A storm sank the fleet in 1703."})])
    assert encoder.texts_encoded - encoded == 1
    assert index.search("storm 1703", by="late", k=1)[0].doc_id == "d4"


def test_an_update_replaces_and_a_removal_removes(index: Index):
    assert index.add([plain("d1", "Parrots can talk."), plain("new", "Owls hunt.")]) == AddReport(
        added=1, updated=1, generation=2
    )
    assert index.remove(["d0", "unknown"]) == 1
    assert index.remove(["d0"]) == 0
    for by in RANKERS:
        found = ids(index.search("cats dogs sheep parrots owls", by=by, k=50))
        assert {"d1", "new"} <= set(found) <= {"d1", "new", "d2", "d3", "d4"}
    assert index.search("sheep", by="keyword") == []
    assert index.corpus.counts(index.generation)[0] == 5


def test_of_duplicates_the_first_counts_and_all_are_named(tmp_path: Path, encoder: Encoder):
    index = Index(tmp_path, SETTINGS, encoder)
    twice = [plain("a", "The first text."), plain("b", "Other."), plain("a", "The second text.")]
    assert index.add(twice) == AddReport(added=2, duplicates=("a",), generation=1)
    assert index.corpus.document("a", 1).text == "The first text."
    index.close()


def test_sync_removes_what_is_gone_from_its_source_only(index: Index):
    index.add([plain("x", "From x."), plain("y", "From y.")], source="folder")
    report = index.add([plain("y", "From y."), plain("z", "New.")], source="folder", sync=True)
    assert (report.added, report.unchanged, report.removed) == (1, 1, 1)
    assert index.corpus.counts(index.generation)[0] == 7
    assert index.add([], source="folder", sync=True).removed == 2
    assert index.add([], source="folder", sync=False).removed == 0
    assert index.corpus.counts(index.generation)[0] == 5


def test_an_index_of_nothing_finds_nothing(tmp_path: Path, encoder: Encoder):
    index = Index(tmp_path, SETTINGS, encoder)
    with pytest.raises(ConfigError, match="the index is empty: retrail add"):
        index.search("cat")
    assert index.add([]) == AddReport(generation=1)
    for _ in range(2):
        assert [index.search("cat", by=by) for by in RANKERS] == [[], [], [], []]
        index.add([plain("a", "A cat."), plain("empty", "")])
        assert index.search("cat", by="hybrid", k=1)[0].doc_id == "a"
        assert index.remove(["a", "empty"]) == 2
    index.close()


def test_text_that_is_not_unicode_is_refused_and_the_rest_can_follow(index: Index):
    with pytest.raises(ConfigError, match="not valid Unicode"):
        index.add([plain("bad", "half a pair: \ud83d")])
    assert index.add([plain("good", "A whole one: 😀")]).added == 1


def test_many_publishes_keep_few_files_open(index: Index):
    open_files = Path("/proc/self/fd")
    if not open_files.exists():
        pytest.skip("the number of open files is not shown on this platform")
    counts = []
    for n in range(6):
        index.add([plain("changing", f"Version {n}.")])
        index.search("version")
        counts.append(len(os.listdir(open_files)))
    assert max(counts[2:]) <= counts[1] + 2


# Generations


def test_a_search_in_progress_ends_in_the_generation_it_began_in(index: Index):
    before = {by: index.snapshot().rank(by, "cat and sheep", 20) for by in RANKERS}
    warm, cold = index.snapshot(), Index(index.root, SETTINGS, index.encoder())
    unread = cold.snapshot()
    index.add([plain("d0", "No more pets."), plain("d9", "A cat and a sheep.")])
    assert index.snapshot() is not warm
    for snapshot in (warm, unread):
        for by, ranked in before.items():
            found = snapshot.rank(by, "cat and sheep", 20)
            assert found.ids.tolist() == ranked.ids.tolist()
            assert found.scores.tolist() == pytest.approx(ranked.scores.tolist(), abs=1e-5)
    assert index.search("cat and sheep", k=1)[0].doc_id == "d9"
    cold.close()


def test_concurrent_searches_never_see_a_mixture(index: Index):
    other = Index(index.root, SETTINGS, index.encoder())
    numbers, seen, errors, done = range(8), set[int](), list[BaseException](), threading.Event()

    def update(version: int) -> None:
        index.add(plain(f"v{n}", f"A herd of sheep {n}.", version=version) for n in numbers)

    def search(opened: Index, by: Retriever) -> None:
        try:
            while not done.is_set():
                hits = opened.search("herd of sheep", by=by, k=8, where="version >= 0")
                versions = {hit.passage.metadata["version"] for hit in hits}
                assert len(hits) == 8
                assert len(versions) == 1
                seen.update(versions)
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    update(0)
    threads = [
        threading.Thread(target=search, args=(opened, by))
        for opened, by in ((index, "hybrid"), (other, "dense"), (other, "keyword"))
    ]
    for thread in threads:
        thread.start()
    for version in range(1, 6):
        update(version)
    done.set()
    for thread in threads:
        thread.join()
    other.close()
    assert errors == []
    assert seen


def test_what_another_process_adds_is_found_at_the_next_search(index: Index):
    assert index.search("volcano", by="keyword") == []
    code = """if True:
        from retrail.core.documents import Document
        from retrail.core.settings import Settings
        from retrail.retrievers import Index
        index = Index(root, Settings(chunk_tokens=40))
        index.add([Document(id="v", text="The volcano erupted.")])
        """
    with in_another_process(code, index.root) as other:
        assert other.wait() == 0
    for by in RANKERS:
        assert ids(index.search("an eruption of a volcano", by=by, k=1)) == ["v"]
    assert index.add([plain("d0", "Cats again.")]).updated == 1
    assert index.generation == 3


# Locks and folders


def test_there_is_one_writer_and_readers_need_no_lock(index: Index):
    code = """if True:
        from filelock import FileLock
        with FileLock(root / "write.lock"):
            sys.stdout.write("locked\\n"); sys.stdout.flush()
            sys.stdin.read()
        """
    writer = in_another_process(code, index.root)
    with writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "locked\n"
        for change in (
            lambda: index.add([plain("z", "Late.")]),
            lambda: index.remove(["d0"]),
            lambda: index.rebuild(),
        ):
            with pytest.raises(WorkspaceLocked, match=r"another process is writing .*: wait until"):
                change()
        assert ids(index.search("cat", by="keyword")) == ["d0"]
        writer.send_signal(signal.SIGKILL)
    assert index.add([plain("z", "In time.")]).added == 1


def test_a_workspace_can_be_copied_and_moved(index: Index, tmp_path: Path, encoder: Encoder):
    before = scores(index)
    index.close()
    shutil.copytree(tmp_path / "kb", tmp_path / "copy")
    shutil.move(tmp_path / "kb", tmp_path / "moved")
    copy, moved = (Index(tmp_path / name, SETTINGS, encoder) for name in ("copy", "moved"))
    assert scores(copy) == scores(moved) == before
    assert copy.add([plain("only", "Only in the copy.")]).generation == 2
    assert ids(copy.search("copy", by="keyword")) == ["only"]
    assert scores(moved) == before
    copy.close()
    moved.close()


# The rest of the door


def test_what_the_encoder_reads_and_random_passages(index: Index):
    assert index.texts(["d0#0", "d4#0", "d0#99", "gone#0"]).keys() == {"d0#0", "d4#0"}
    assert index.texts(["d1"]) == {"d1": f"Dogs\n{DOCUMENTS[1].text}"}
    drawn = index.sample(3, seed=1)
    assert drawn == index.sample(3, seed=1)
    assert len(set(drawn)) == 3
    assert set(index.texts(drawn)) == set(drawn)
    assert len(index.sample(1_000)) == index.corpus.counts(1)[1]


def test_similarities_are_cosines_of_the_serving_encoder(index: Index, encoder: Encoder):
    texts = ["A kitten.", "The stock market."]
    expected = [encoder.query(text).dense @ encoder.query("cat").dense for text in texts]
    assert index.similarities("cat", texts) == pytest.approx(expected, abs=1e-5)
    assert index.similarities("cat", []) == []


def test_importing_the_room_loads_no_engine():
    code = "import retrail.retrievers, sys; sys.stdout.write(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "numpy" in loaded
    assert loaded.isdisjoint(
        {"chromadb", "sentence_transformers", "tantivy", "torch", "transformers"}
    )
