"""Keyword search: BM25 and its query language, where no input is an error and none is ignored."""

import random
from collections import Counter
from math import log
from pathlib import Path

import numpy as np
import pytest
import tantivy
from hypothesis import example, given
from hypothesis import strategies as st
from retrail.core.errors import CorruptStore
from retrail.retrievers.keyword import KeywordIndex, KeywordWriter
from retrail.retrievers.keyword_query import Group, Words, build_query, parse_keyword

PASSAGES = {
    1: ("Cats", "A cat sat on the mat, purring."),
    2: ("Dogs", "Two dogs were running after a cat."),
    3: ("Late interaction", "Token vectors interact late, in a cheap sum."),
    4: ("Interaction", "An interaction that came late is a late reply."),
    5: ("", "Café naïve résumé, state-of-the-art C++ and e-mail."),
    6: ("", "Of state and art: the running of museums."),
    7: ("Numbers", "In 2023 the 3.5 litre engine cost 1,000 dollars."),
    8: ("Кошки", "Кошка сидит на ковре. 猫が座る。"),
}


def build(folder: Path, passages=PASSAGES, language: str = "en", base: Path | None = None):
    writer = KeywordWriter(folder, language, base)
    writer.add((row, title, text) for row, (title, text) in passages.items())
    writer.commit()
    return KeywordIndex(folder, language)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> KeywordIndex:
    return build(tmp_path_factory.mktemp("keyword") / "index")


def found(index: KeywordIndex, query: str, within: list[int] | None = None) -> set[int]:
    rows = None if within is None else np.array(within, np.int64)
    return set(index.search(query, 100, rows).ids.tolist())


# Ranking


def test_scores_are_bm25(tmp_path: Path):
    rng = random.Random(3)
    vocabulary = [f"w{n}" for n in range(12)]
    texts = {row: rng.choices(vocabulary, k=rng.randint(1, 39)) for row in range(1, 40)}
    index = build(tmp_path / "index", {row: ("", " ".join(words)) for row, words in texts.items()})
    mean = sum(map(len, texts.values())) / len(texts)

    def bm25(words: list[str], term: str) -> float:
        holders = sum(term in other for other in texts.values())
        weight = log(1 + (len(texts) - holders + 0.5) / (holders + 0.5))
        count = Counter(words)[term]
        return weight * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * len(words) / mean))

    expected = {row: bm25(words, "w3") + bm25(words, "w5") for row, words in texts.items()}
    ranked = index.search("w3 w5", 100)
    scores = dict(zip(ranked.ids.tolist(), ranked.scores.tolist(), strict=True))
    # Lengths below 40 words are kept exactly, so the formula holds to rounding.
    assert scores == pytest.approx({row: s for row, s in expected.items() if s}, rel=1e-5)


def test_words_are_stemmed_folded_and_found_in_titles(index: KeywordIndex):
    assert found(index, "cat") == found(index, "CATS") == {1, 2}
    assert found(index, "run") == found(index, "runs") == {2, 6}
    assert found(index, "cafe naive RESUME") == {5}
    assert found(index, "кошка") == {8}


def test_other_languages_have_their_stemmer_or_none(tmp_path: Path):
    texts = {1: ("", "die Häuser laufen"), 2: ("", "ein Haus")}
    assert found(build(tmp_path / "de", texts, "de"), "Häusern") == {1, 2}
    assert found(build(tmp_path / "xx", texts, "xx"), "haus") == {2}


@pytest.mark.parametrize("k", [1, 2, 10**9, 10**18])
def test_any_number_of_results_can_be_asked_for(index: KeywordIndex, k: int):
    best = index.search("late interaction", 100)
    assert index.search("late interaction", k).ids.tolist() == best.ids.tolist()[:k]


def test_nothing_asked_nothing_found(index: KeywordIndex):
    for query in ("", "   ", "-", "!?", '""', "()", "(((", "unheardof"):
        assert found(index, query) == set()
    assert len(index.search("cat", 0).ids) == 0


# The language

QUERIES = {
    "cat dogs": {1, 2},
    "cat +dogs": {2},
    "+cat +late": set(),
    "cat -dogs": {1},
    "-dogs": set(),
    "cat OR late": {1, 2, 3, 4},
    "cat AND dogs": {2},
    "cat AND late": set(),
    "cat AND NOT dogs": {1},
    "cat AND -dogs": {1},
    "cat OR -dogs": {1},
    "cat and dogs": {1, 2, 5, 6},  # small letters are a word
    "(cat OR late) AND (dogs OR interaction)": {2, 3, 4},
    "(cat OR late) AND NOT (dogs OR reply)": {1, 3},
    "late AND NOT (reply AND interaction)": {3},
    "cat +(dogs mat)": {1, 2},
    "+(cat late) -(dogs reply)": {1, 3},
    '+"late interaction"': {3},
    '"late reply"': {3, 4},
    'cat -"dogs were"': {1},
    'cat AND "a cat"': {1, 2},
    'interaction AND NOT "came late"': {3},
    "state-of-the-art": {1, 5, 6, 7},
    "+museums -state-of-the-art": {6},
    "e-mail": {5},
    "cat AND": {1, 2, 5, 6},
    "AND cat": {1, 2, 5, 6},
    "OR": set(),
    "x) cat y) late": {1, 2, 3, 4},
    ") cat": {1, 2},
    "(cat": {1, 2},
    "cat)) AND ((dogs": {2},
    '"cat': {1, 2},
    "cat :-( dogs": {1, 2},
    "+cat - dogs": {1, 2},
    "3.5 litre": {7},
}


@pytest.mark.parametrize(("query", "expected"), QUERIES.items(), ids=QUERIES)
def test_query_language(index: KeywordIndex, query: str, expected: set[int]):
    assert found(index, query) == expected


def test_a_phrase_ranks_its_words_in_order_first(tmp_path: Path):
    texts = {1: "interaction interaction late late", 2: "a late interaction, among other words"}
    index = build(tmp_path / "index", {row: ("", text) for row, text in texts.items()})
    assert index.search("late interaction", 2).ids.tolist() == [1, 2]
    assert index.search('"late interaction"', 2).ids.tolist() == [2, 1]


def test_no_more_than_256_clauses_are_read():
    assert len(parse_keyword("+word " * 5_000).clauses) == 256
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("body")
    query = build_query(parse_keyword("word " * 5_000), builder.build(), "body", str.split)
    assert repr(query).count("TermQuery") == 256
    deep = parse_keyword("(" * 5_000 + "cat")
    depth = 0
    while deep.clauses and isinstance(deep.clauses[0][1], Group):
        deep, depth = deep.clauses[0][1], depth + 1
    assert depth == 21


# Hostile input

MARKS = ["body:x", "id:1", "*", "/.*/", "[a TO z]", '"', "(", ")", "+", "-", "AND", "OR", "NOT"]
MARKS += ["^2", "~", "\\", "\x00", "cat", "dogs", "+cat", "-(", '+"', "IN [1 2]", "😀", "\u202e"]
COMPOSED = st.lists(st.sampled_from(MARKS), max_size=40).map(" ".join)
HOSTILE = st.one_of(st.text(max_size=60), COMPOSED)


@given(HOSTILE)
@example("(" * 20_000)
@example(") " * 10_000)
@example("cat AND NOT " * 1_600)
@example('"' * 20_001)
@example("a" * 20_000)
@example("-(" * 10_000)
@example("state-of-the-art " * 1_100 + '"' + "cat " * 200)
@example("\x00")
def test_no_input_is_an_error(index: KeywordIndex, query: str):
    for within in (None, [1, 2], []):
        admitted = set(PASSAGES if within is None else within)
        assert found(index, query, within) <= admitted


@pytest.mark.parametrize("query", ["id:1", "body:cat", "/c.t/", "c*", "[a TO z]", "cat~2", "*:*"])
def test_engine_syntax_is_text(index: KeywordIndex, query: str):
    plain = "".join(c if c.isalnum() else " " for c in query)
    assert found(index, query) == found(index, plain)


@given(st.lists(st.sampled_from(["cat", "dogs", "late", "running"]), min_size=1, max_size=4))
def test_plain_words_rank_as_optional_words(index: KeywordIndex, words: list[str]):
    plain, each = parse_keyword(" ".join(words)), parse_keyword(" OR ".join(["x", *words]))
    assert plain == Group((("should", Words(" ".join(words))),))
    assert each.clauses[1:] == tuple(("should", Words(word)) for word in words)
    assert found(index, " ".join(words)) == found(index, " OR ".join(words))


# Filters


@given(st.sets(st.integers(0, 12)), st.sampled_from(["cat", "late OR cat", "running -dogs"]))
def test_candidates_restrict_and_keep_the_scores(index: KeywordIndex, within: set[int], query: str):
    everywhere = index.search(query, 100)
    kept = np.isin(everywhere.ids, list(within))
    restricted = index.search(query, 100, np.array(sorted(within), np.int64))
    assert restricted.ids.tolist() == everywhere.ids[kept].tolist()
    assert restricted.scores.tolist() == pytest.approx(everywhere.scores[kept].tolist())


# Building


def test_a_plain_query_is_not_inside_another():
    """The engine skips passages that cannot be among the best only in a query of bare terms."""
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("body")
    query = build_query(parse_keyword("plain words"), builder.build(), "body", str.split)
    assert repr(query).count("BooleanQuery") == 1


def test_the_next_index_starts_from_the_one_before(tmp_path: Path):
    first = build(tmp_path / "1")
    writer = KeywordWriter(tmp_path / "2", "en", tmp_path / "1")
    writer.remove([2, 3, 99])
    writer.remove([])
    writer.add([(9, "Cats", "Another cat.")])
    writer.commit()
    second = KeywordIndex(tmp_path / "2", "en")
    assert found(second, "cat late") == {1, 4, 9}
    assert found(first, "cat late") == {1, 2, 3, 4}


def test_a_missing_or_damaged_index_says_how_to_mend_it(tmp_path: Path):
    with pytest.raises(CorruptStore, match="missing: retrail doctor --rebuild"):
        KeywordIndex(tmp_path, "en")
    build(tmp_path / "index")
    (tmp_path / "index" / "meta.json").write_text("{}", encoding="utf-8")
    with pytest.raises(CorruptStore, match=r"damaged \(.*: retrail doctor --rebuild"):
        KeywordIndex(tmp_path / "index", "en")
