"""The corpus: each generation shows the documents of its moment, whatever is staged beside it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from retrail.core.documents import Document
from retrail.core.errors import ConfigError, ToolError
from retrail.core.filters import parse_filter
from retrail.retrievers.corpus import Corpus
from retrail.retrievers.staging import Encoding, Staging, encoder_text, text_hash


class Store:
    """A corpus with its writer."""

    def __init__(self, folder: Path) -> None:
        self.corpus = Corpus(folder / "corpus.db")
        self.staging = Staging(self.corpus, chunk_tokens=8, language="en")

    def publish(self) -> int:
        return self.staging.publish(base="b", encoder="e", fingerprint="f")

    def texts(self, generation: int) -> dict[str, str]:
        rows = self.corpus.metadata_of(None, generation)
        return {row[0]: self.corpus.document(row[0], generation).text for row in rows}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path)
    yield opened
    opened.corpus.close()


def plain(doc_id: str, text: str, **metadata: Any) -> Document:
    return Document(id=doc_id, text=text, metadata=metadata)


# Generations


def test_what_is_staged_is_seen_when_it_is_published(store: Store):
    assert store.staging.stage([plain("a", "One."), plain("b", "Two.")]) == ["added", "added"]
    assert store.staging.changed()
    assert store.corpus.published() is None
    assert store.publish() == 1
    assert not store.staging.changed()
    assert store.staging.stage([plain("a", "One."), plain("b", "New.")]) == ["unchanged", "updated"]
    assert store.staging.remove(["a", "unknown"]) == 1
    assert store.texts(1) == {"a": "One.", "b": "Two."}
    assert store.corpus.counts(1) == (2, 2)
    assert store.publish() == 2
    assert store.texts(2) == {"b": "New."}
    assert store.texts(1) == {"a": "One.", "b": "Two."}  # for readers that are still there


def test_what_was_staged_and_withdrawn_leaves_no_trace(store: Store):
    store.staging.stage([plain("a", "One.")])
    store.publish()
    store.staging.stage([plain("b", "Two.", n=1)])
    assert store.staging.remove(["b"]) == 1
    assert not store.staging.changed()
    for table in ("passages", "metadata"):
        assert store.corpus.rows(f"SELECT count(*) FROM {table}") == [(1 * (table == "passages"),)]


def test_two_generations_are_kept(store: Store):
    for n in range(4):
        store.staging.stage([plain("a", f"Text {n}.")])
        store.publish()
    assert store.corpus.rows("SELECT count(*) FROM passages") == [(2,)]
    assert (store.texts(4), store.texts(3)) == ({"a": "Text 3."}, {"a": "Text 2."})


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("stage"), st.sampled_from("abcd"), st.sampled_from(["x. ", "y. " * 9])),
        st.tuples(st.just("remove"), st.sampled_from("abcd"), st.just("")),
        st.tuples(st.just("recut"), st.sampled_from("abcd"), st.just("")),
        st.tuples(st.just("publish"), st.just(""), st.just("")),
    ),
    max_size=25,
)


@given(STEPS)
def test_any_history_agrees_with_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, str]]
):
    store, staged, served = Store(tmp_path_factory.mktemp("corpus")), {}, {}
    for step, doc_id, text in steps:
        if step == "stage":
            store.staging.stage([plain(doc_id, text)])
            staged[doc_id] = text
        elif step == "remove":
            assert store.staging.remove([doc_id]) == (doc_id in staged)
            staged.pop(doc_id, None)
        elif step == "recut" and doc_id in staged:
            store.staging.recut(store.corpus.document(doc_id, store.staging.generation))
        elif step == "publish":
            store.publish()
            served = dict(staged)
        published = store.corpus.published()
        if published:
            assert store.texts(published.number) == served
        assert store.texts(store.staging.generation) == staged
    store.corpus.close()


def test_cutting_again_keeps_the_source_and_uses_the_new_size(store: Store):
    text = "A few words here. " * 6
    store.staging.stage([plain("a", text)], source="folder")
    finer = Staging(store.corpus, chunk_tokens=2, language="en")
    before = store.corpus.counts(1)[1]
    finer.recut(store.corpus.document("a", 1))
    assert store.corpus.counts(1)[1] > before
    assert store.texts(1) == {"a": text}
    assert finer.alive("folder") == {"a"}


def test_each_distinct_text_is_pending_once_until_acknowledged(store: Store):
    same = [Document(id=f"d{n}", title="T", text="Same.") for n in range(3)]
    store.staging.stage([*same, plain("other", "Other.")])
    pending = {item.text: item.hash for item in store.staging.pending("e")}
    assert pending == {
        "T\nSame.": text_hash("T", "Same."),
        "Other.": text_hash("", "Other."),
    }
    assert store.staging.count_pending("e") == 2
    store.staging.encoded("e", [Encoding(pending["Other."], 0, 0, 3)])
    assert [item.text for item in store.staging.pending("e")] == ["T\nSame."]
    assert store.staging.count_pending("another") == 2
    store.staging.forget("e")
    assert store.staging.count_pending("e") == 2


def test_what_the_encoder_reads_is_what_the_key_is_of():
    assert encoder_text("Title", " text \n") == "Title\ntext"
    assert encoder_text("", " text \n") == "text"
    assert text_hash("a", "b") == text_hash("a", " b ") != text_hash("", "a b")


# Reading


def test_ids_of_documents_and_passages_open_and_others_name_what_is_near(store: Store):
    store.staging.stage([plain(doc_id, "A text.") for doc_id in ("d0", "d0#7", "d1", "d2", "d3")])
    opened = store.corpus.open
    assert opened("d0", 1) == ("d0", None)
    assert opened("d0#0", 1) == ("d0", 0)
    assert opened("d0#7", 1) == ("d0#7", None)
    assert opened("d0#7#0", 1) == ("d0#7", 0)
    with pytest.raises(ToolError, match=r"'d0#9': use an id .* \(near: 'd0', 'd0#7', 'd1'\)"):
        opened("d0#9", 1)
    with pytest.raises(ToolError, match=r"no document or passage 'zzz': .* \(near: none\)"):
        opened("zzz", 1)
    with pytest.raises(ConfigError, match="no document 'd9': check"):
        store.corpus.document("d9", 1)


def test_a_window_holds_the_passages_that_exist(store: Store):
    store.staging.stage([plain("a", "Some words in a row. " * 6)])
    assert [passage.id for passage in store.corpus.window("a", 1, -2, 1)] == ["a#0", "a#1"]
    assert [passage.id for passage in store.corpus.window("a", 1, 4, 99)] == ["a#4", "a#5"]
    assert store.corpus.window("b", 1, 0, 9) == []


def test_passages_are_fetched_by_row_in_any_number(store: Store):
    store.staging.stage([plain(f"d{n}", f"Text {n}.") for n in range(1_200)])
    rows = [row for (row,) in store.corpus.rows("SELECT id FROM passages")]
    found = store.corpus.passages([*rows, 10**9])
    assert len(found) == 1_200
    assert found[rows[7]].text == "Text 7."


def test_fields_and_values_follow_the_generation(store: Store):
    store.staging.stage(
        [plain("v", "Text.", kind="pet", tags=["a", "b"]), plain("w", "Text.", n=1)]
    )
    store.publish()
    assert store.corpus.values(1) == {"kind": ["pet"], "tags": ["a", "b"]}
    assert {name: info.kinds for name, info in store.corpus.schema(1).fields.items()} == {
        "kind": ("string",),
        "n": ("number",),
        "tags": ("string",),
    }
    store.staging.remove(["v"])
    store.publish()
    assert store.corpus.values(2) == {}
    assert list(store.corpus.schema(2).fields) == ["n"]
    assert list(store.corpus.schema(1).fields) == ["kind", "n", "tags"]


def test_fields_with_many_values_are_no_categories(store: Store):
    store.staging.stage(
        [plain(f"d{n}", "Text.", key=f"k{n}", kind=f"{n % 300}") for n in range(301)]
    )
    assert store.corpus.values(1) == {"kind": sorted(str(n) for n in range(300))}


def test_metadata_comes_back_as_it_was_given(store: Store):
    given = {"n": 3, "x": 0.5, "flag": True, "tags": ["a", 2], "empty": [], "day": "2024-02-30"}
    store.staging.stage([Document(id="a", title="T", text="", url="u", metadata=given)])
    assert list(store.corpus.metadata_of(None, 1)) == [("a", "T", given)]
    assert list(store.corpus.metadata_of(parse_filter("n > 2"), 1, ["a", "b"])) == [
        ("a", "T", given)
    ]
    assert list(store.corpus.metadata_of(parse_filter("n > 3"), 1)) == []
    assert list(store.corpus.metadata_of(None, 1, [])) == []
