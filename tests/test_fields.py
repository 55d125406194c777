"""Fields of documents: names and values, places in the text, passages, tokens, weights."""

import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from retrail.core.documents import Document
from retrail.core.errors import ConfigError
from retrail.core.fields import FieldSpan, clip_fields, join_fields, part_texts, split_fields
from retrail.core.settings import EMBEDDED_ENCODER, check_settings
from retrail.retrievers import Encoder
from retrail.retrievers.chunker import chunk, chunk_parts
from retrail.retrievers.corpus import Corpus
from retrail.retrievers.corpus_schema import CORPUS
from retrail.retrievers.keyword import KeywordIndex, KeywordWriter
from retrail.retrievers.keyword_fields import asked_terms
from retrail.retrievers.keyword_query import parse_keyword
from retrail.retrievers.late import LateScorer, Layout
from retrail.retrievers.readers.jsonl import parse_line
from retrail.retrievers.readers.report import Unreadable
from retrail.retrievers.staging import encoder_text
from retrail.retrievers.token_fields import (
    TokenWeights,
    read_parts,
    token_numbers,
    vector_numbers,
    weight_table,
)
from retrail.retrievers.vectors import Basis

DIM = 8
NAMES = ["title", "text", "tags", "notes"]
TEXTS = st.text(st.sampled_from("ab .\n\u00e9\U0001f600"), min_size=1, max_size=40)
VALUES = TEXTS.filter(str.strip)
FIELDS = st.dictionaries(st.sampled_from(["tags", "notes", "a_1"]), VALUES, max_size=3)
WEIGHTS = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, 10.0]), min_size=4, max_size=4)


# Documents


def test_a_list_is_joined_and_what_is_empty_is_no_field():
    given_ = {"tags": ["oak", "Möbel"], "notes": " \n", "brand": None, "size": [], "maker": "Ann"}
    document = Document.model_validate({"id": "d", "fields": given_})
    assert document.fields == {"tags": "oak, Möbel", "maker": "Ann"}
    assert Document.model_validate(document.model_dump()) == document


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"Tags": "x"}, "match pattern"),
        ({"two words": "x"}, "match pattern"),
        ({"": "x"}, "match pattern"),
        ({"n" * 41: "x"}, "at most 40"),
        ({"title": "x"}, "'title': that is a part of every document"),
        ({"text": "x"}, "'text': that is a part of every document"),
        ({f"f{n}": "x" for n in range(101)}, "101 fields, at most 100"),
        ({"tags": 3}, "valid string"),
        ({"tags": ["x", 3]}, "valid string"),
        ({"tags": {"x": "y"}}, "valid string"),
    ],
    ids=lambda value: str(value)[:30].encode("ascii", "replace").decode(),
)
def test_what_is_no_field_is_refused(fields: dict[str, object], says: str):
    with pytest.raises(ValidationError, match=says):
        Document.model_validate({"id": "d", "fields": fields})


def test_a_document_without_fields_has_the_hash_it_had():
    document = Document(id="d", title="T", text="x", metadata={"n": 1})
    assert document.content_hash == "859f2fa89f7e63191b7399c390efb891"
    assert document.model_copy(update={"fields": {"a": "b"}}).content_hash != document.content_hash


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({"fields": {"title": "x"}}, "'fields': Value error, a field cannot be called 'title'"),
        ({"fields": {"No": "x"}}, "'fields.No': String should match pattern"),
        ({"fields": ["x"]}, "'fields' is list, expected an object"),
        ({"fields": {"tags": "\x00"}}, "NUL"),
    ],
    ids=str,
)
def test_a_line_with_bad_fields_is_skipped_with_the_reason(line: dict[str, object], says: str):
    with pytest.raises(Unreadable, match=says):
        parse_line(json.dumps({"_id": "d", "text": "t"} | line).encode())


def test_a_line_whose_fields_are_one_value_has_it_as_metadata_as_before():
    document = parse_line(b'{"_id": "d", "text": "t", "fields": "physics", "metadata": {"n": 1}}')
    assert (document.fields, document.metadata) == ({}, {"fields": "physics", "n": 1})


def test_a_line_may_have_fields_alone():
    document = parse_line(b'{"_id": "d", "fields": {"tags": ["a", "b"]}}')
    assert (document.text, document.fields) == ("", {"tags": "a, b"})
    assert document.metadata == {}


@pytest.mark.parametrize("weights", [{"Tags": 1}, {"tags": -1}, {"tags": 11}, {"tags": "inf"}])
def test_weights_out_of_range_are_refused(weights: dict[str, object]):
    with pytest.raises(ConfigError, match="field_weights"):
        check_settings({"field_weights": weights})


# Places in the text


@given(TEXTS | st.just(""), FIELDS)
def test_spans_partition_the_text_and_give_the_fields_back(body: str, fields: dict[str, str]):
    text, spans = join_fields(body, fields)
    if fields:
        ends = [span.end for span in spans]
        assert [span.start for span in spans] == [0, *ends[:-1]]
        assert ends[-1] == len(text)
    assert split_fields(text, spans) == (body, fields)


@given(TEXTS | st.just(""), FIELDS, st.integers(1, 12))
def test_passages_partition_the_text_and_divide_no_field_that_fits(
    body: str, fields: dict[str, str], tokens: int
):
    text, spans = join_fields(body, fields)
    cut = list(chunk_parts(text, [span.start for span in spans], tokens=tokens))
    assert "".join(text[start:end] for start, end in cut) == text
    for _, start, end in spans:
        if len(list(chunk(text[start:end], tokens=tokens))) == 1:
            assert any(first <= start and end <= last for first, last in cut)
    for piece in cut:
        inside = clip_fields(spans, *piece)
        joined = "".join(text[piece.start :][span.start : span.end] for span in inside)
        assert joined == (text[piece.start : piece.end] if spans else "")


def test_a_small_document_is_one_passage_and_a_long_field_several():
    small, spans = join_fields("A chair. It is old.", {"tags": "oak", "maker": "Ann"})
    starts = [span.start for span in spans]
    assert list(chunk_parts(small, starts, tokens=20)) == [(0, len(small))]
    long, spans = join_fields("A chair.", {"transcript": "We begin with an oak. " * 30})
    cut = list(chunk_parts(long, [span.start for span in spans], tokens=20))
    assert len(cut) > 5
    assert cut[0] == spans[0][1:], "the transcript begins a passage of its own"


def test_a_field_of_a_megabyte_is_cut_without_loss():
    text, spans = join_fields("Short.", {"log": "Nothing happened. " * 60_000, "tags": "quiet"})
    cut = list(chunk_parts(text, [span.start for span in spans], tokens=200))
    assert len(cut) > 800
    assert [start for start, _ in cut] == [0, *(end for _, end in cut[:-1])]
    assert cut[-1].end == len(text)


# Tokens


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load(EMBEDDED_ENCODER, precision="float32")


@pytest.mark.parametrize("title", ["", "Häuser & Höfe"])
@pytest.mark.parametrize("body", ["", "  \n Unbelievably old 😀 naïve. "])
def test_every_token_has_the_field_it_stands_in(encoder: Encoder, title: str, body: str):
    text, fields = join_fields(body, {"tags": " oak, rustic", "notes": "seen by Ann\nand Bob "})
    parts = read_parts(title, text, fields)
    read = encoder_text(title, text)
    spans = encoder.token_spans(read, "document")
    numbers = token_numbers(spans, parts, NAMES)
    assert len(numbers) == len(spans)
    held = part_texts(title, text, fields)
    for span, number in zip(spans, numbers.tolist(), strict=True):
        assert (number == 0) == (span.word is None)
        if number:
            assert read[span.start : span.end] in held[NAMES[number - 1]]
    assert {NAMES[n - 1] for n in set(numbers.tolist()) - {0}} == {
        name for name, value in held.items() if value.strip()
    }


def test_a_vector_has_the_field_of_most_of_its_tokens():
    numbers = np.array([0, 1, 1, 2, 2, 2, 3, 0], np.uint16)
    labels = np.array([0, 0, 1, 1, 1, -1, 2, 3])
    assert vector_numbers(numbers, labels, 4).tolist() == [1, 2, 3, 0]


def scorer(weights: list[float] | None, lengths: list[int]) -> tuple[LateScorer, np.ndarray]:
    rng = np.random.default_rng(sum(lengths))
    stored = rng.normal(size=(sum(lengths), DIM)).astype(np.float32)
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    numbers = rng.integers(0, 5, len(stored)).astype(np.uint16)
    rows = np.arange(len(lengths))
    layout = Layout(rows, rows, rows, np.cumsum([0, *lengths[:-1]]), np.array(lengths))
    basis = Basis(np.zeros(DIM, np.float32), np.eye(DIM, dtype=np.float32))
    table = None if weights is None else np.array([1.0, *weights], np.float32)
    weighed = None if table is None else TokenWeights(numbers, table)
    query = rng.normal(size=(3, DIM)).astype(np.float32)
    return LateScorer(layout, stored.astype(np.float16), basis, weights=weighed), query


LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def scores(weights: list[float] | None, lengths: list[int]) -> np.ndarray:
    late, query = scorer(weights, lengths)
    found = late.score(query, np.arange(len(lengths)))
    return found.scores[np.argsort(found.ids)]


@given(LENGTHS)
def test_weights_of_one_change_no_bit(lengths: list[int]):
    np.testing.assert_array_equal(scores([1.0] * 4, lengths), scores(None, lengths))
    assert weight_table(NAMES, {"tags": 1.0, "elsewhere": 3.0}) is None


@given(LENGTHS, WEIGHTS, st.integers(0, 3), st.sampled_from([0.25, 1.0, 4.0]))
def test_a_higher_weight_lowers_no_score(
    lengths: list[int], weights: list[float], field: int, more: float
):
    higher = [w + more * (n == field) for n, w in enumerate(weights)]
    assert (scores(higher, lengths) >= scores(weights, lengths)).all()


@given(LENGTHS, WEIGHTS)
def test_weighted_scores_are_those_of_weighted_tokens(lengths: list[int], weights: list[float]):
    late, query = scorer(weights, lengths)
    plain, _ = scorer(None, lengths)
    weighed = late._weights
    assert weighed is not None
    for row, total in enumerate(scores(weights, lengths)):
        raw = plain.similarities(query, row)
        of = weighed.of(late.place(row).start, lengths[row])[:, None]
        expected = np.where(raw > 0, raw * of, raw).max(axis=0).sum()
        assert total == pytest.approx(expected, abs=2e-2)


# Keyword search


PASSAGES = [
    {"title": "Oak", "text": "a chair of oak", "tags": "rustic kitchen"},
    {"text": "lamps, made to last", "tags": "oak light", "notes": "not a chair, in the kitchen"},
    {"text": "the kitchen, the hall and the garden"},
]


def keywords(folder: Path, weights: dict[str, float]) -> KeywordIndex:
    if not folder.exists():
        writer = KeywordWriter(folder, "en", fielded=True)
        texts = ["\n".join(v for n, v in parts.items() if n != "title") for parts in PASSAGES]
        rows = [(n, parts.get("title", ""), texts[n]) for n, parts in enumerate(PASSAGES)]
        writer.add(rows, dict(enumerate(PASSAGES)))
        writer.commit()
    return KeywordIndex(folder, "en", names=NAMES, weights=weights)


def ranked(index: KeywordIndex, query: str) -> dict[int, float]:
    found = index.search(query, 10)
    return dict(zip(found.ids.tolist(), found.scores.tolist(), strict=True))


@pytest.mark.parametrize("query", ["oak kitchen", '"oak light" +kitchen', "kitchen -garden", "zzz"])
def test_keyword_weights_score_but_do_not_match(tmp_path: Path, query: str):
    plain = ranked(keywords(tmp_path / "k", {}), query)
    for weights in ({"tags": 3.0}, {"text": 0.0}, {"tags": 0.5, "text": 2.0}):
        assert ranked(keywords(tmp_path / "k", weights), query).keys() == plain.keys()
    ones = ranked(keywords(tmp_path / "k", dict.fromkeys(NAMES, 1.0)), query)
    assert ones == plain
    twice = ranked(keywords(tmp_path / "k", dict.fromkeys(NAMES, 2.0)), query)
    assert twice == pytest.approx({row: 2 * score for row, score in plain.items()})


def test_the_field_of_a_word_decides_by_its_weight(tmp_path: Path):
    plain = ranked(keywords(tmp_path / "k", {}), "kitchen")
    tags = ranked(keywords(tmp_path / "k", {"tags": 4.0}), "kitchen")
    assert max(tags, key=lambda row: tags[row]) == 0
    assert tags[0] > plain[0]
    assert tags[2] == pytest.approx(plain[2])


def test_weights_count_as_much_after_most_passages_are_removed(tmp_path: Path):
    """The engine's statistics keep removed passages: by those alive, idf would be below 0."""
    writer = KeywordWriter(tmp_path / "a", "en", fielded=True)
    parts = [{"title": "oak", "text": "a chair"}, {"title": "lamp", "text": "of oak"}]
    kept = {n: part for n, part in enumerate(parts)}
    gone = {n: {"text": f"oak and oak, {n}"} for n in range(2, 40)}
    rows = [(n, p.get("title", ""), p["text"]) for n, p in (kept | gone).items()]
    writer.add(rows, kept | gone)
    writer.commit()
    later = KeywordWriter(tmp_path / "k", "en", tmp_path / "a", fielded=True)
    later.remove(gone)
    later.commit()
    plain = ranked(keywords(tmp_path / "k", {}), "oak")
    weighed = ranked(keywords(tmp_path / "k", {"title": 3.0}), "oak")
    assert weighed[0] == pytest.approx(3 * plain[0]), "held by the title, at the idf of all fields"
    assert weighed[1] == pytest.approx(plain[1])
    assert keywords(tmp_path / "k", {}).field("oak", parts[0]) == "title"


def test_no_more_terms_are_weighed_than_are_searched():
    asked = parse_keyword("oak " * 5000)
    assert len(asked_terms(asked, str.split)) == 256


def test_the_field_with_most_words_is_named(tmp_path: Path):
    index = keywords(tmp_path / "k", {})
    parts = {"title": "Oak", "text": "a chair", "tags": "oak and chairs"}
    assert index.field("oak", parts) == "title", "of equals the first"
    assert index.field("oak chair", parts) == "tags"
    assert index.field("nothing -chair", parts) is None


# What lay on disk before


def test_a_corpus_from_before_fields_opens_and_takes_them(tmp_path: Path):
    path = tmp_path / "corpus.db"
    db = sqlite3.connect(path)
    for migrate in CORPUS.migrations[:2]:
        migrate(db)
    db.execute("PRAGMA user_version = 2")
    db.execute("INSERT INTO documents VALUES (1, 'd', 'T', NULL, '{}', 'h', NULL, 1, NULL)")
    db.execute("INSERT INTO passages VALUES (1, 1, 0, 0, 'Old text.', 'h')")
    db.commit()
    db.close()
    corpus = Corpus(path)
    assert corpus.document("d", 1) == Document(id="d", title="T", text="Old text.")
    assert corpus.passages([1])[1].fields == ()
    assert corpus.field_names() == ["title", "text"]
    corpus.close()


def test_clipping_keeps_what_is_inside():
    spans = [FieldSpan("text", 0, 4), FieldSpan("tags", 4, 9)]
    assert clip_fields(spans, 3, 6) == (FieldSpan("text", 0, 1), FieldSpan("tags", 1, 3))
    assert clip_fields(spans, 4, 9) == (FieldSpan("tags", 0, 5),)
