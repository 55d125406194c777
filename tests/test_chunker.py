"""Passages partition their document: nothing is lost, moved or cut through a word, at any size."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from retrail.core.documents import Document
from retrail.retrievers.chunker import chunk, sentence_spans
from retrail.retrievers.corpus import Corpus
from retrail.retrievers.staging import Staging

# Text as it comes: words, marks that end sentences or only look like it, blanks of every kind.
PIECES = ["One", "two", "Dr.", "3.5", "…", ".", "! ", "?\n", "\n\n", "\r\n", " ", "\t", "\u2028"]
PIECES += ["第三。", "😀", "e\u0301", "ß", "\x00", '"', "(", "a" * 70, "Кто? "]
TEXTS = st.one_of(
    st.text(max_size=300), st.lists(st.sampled_from(PIECES), max_size=60).map("".join)
)


def pieces(text: str, spans) -> list[str]:
    return [text[start:end] for start, end in spans]


def words(text: str) -> int:
    return len(text.split())


@given(TEXTS)
def test_sentences_partition_the_text(text: str):
    spans = list(sentence_spans(text))
    assert "".join(pieces(text, spans)) == text
    assert [span.start for span in spans] == [0, *(span.end for span in spans)][: len(spans)]
    assert all(span.start < span.end for span in spans)


@given(TEXTS, st.integers(0, 40), st.sampled_from(["en", "de", "zh", "xx"]))
def test_passages_partition_the_text(text: str, tokens: int, language: str):
    spans = list(chunk(text, tokens=tokens, language=language))
    assert "".join(pieces(text, spans)) == text
    assert [span.start for span in spans] == [0, *(span.end for span in spans[:-1])]
    assert all(span.start < span.end for span in spans) or text == ""


@given(TEXTS, st.integers(1, 40))
def test_passages_hold_at_most_the_tokens_asked_for(text: str, tokens: int):
    assert all(words(piece) <= tokens for piece in pieces(text, chunk(text, tokens=tokens)))


def test_passages_end_where_sentences_do():
    sentences = [f"Sentence {n} has a handful of words. " for n in range(40)]
    found = pieces("".join(sentences), chunk("".join(sentences), tokens=24))
    # Eight words and marks a sentence: three fit into a passage of 24.
    assert found == ["".join(sentences[n : n + 3]) for n in range(0, 40, 3)]


def test_a_sentence_longer_than_a_passage_is_cut_between_words():
    text = " ".join(f"word{n}" for n in range(100))
    found = pieces(text, chunk(text, tokens=30))
    assert [words(piece) for piece in found] == [30, 30, 30, 10]
    assert " ".join(piece.strip() for piece in found) == text


def test_zero_keeps_documents_whole_and_empty_text_is_one_passage():
    text = "One sentence. Another one. " * 500
    assert pieces(text, chunk(text, tokens=0)) == [text]
    assert list(chunk("", tokens=200)) == [(0, 0)]


def test_abbreviations_and_numbers_end_no_sentence():
    text = "It was measured by Smith et al. in 3.5 days. Dr. Jones agreed."
    assert pieces(text, sentence_spans(text)) == [
        "It was measured by Smith et al. in 3.5 days. ",
        "Dr. Jones agreed.",
    ]


def test_long_text_is_cut_between_words_wherever_a_window_ends():
    text = "abcdefghi " * 100_000
    found = pieces(text, chunk(text, tokens=200))
    assert "".join(found) == text
    assert {word for piece in found for word in piece.split()} == {"abcdefghi"}


@pytest.mark.parametrize("unit", ["\n", "\r\n", "\n ", " ", "x", ".", "!\n", "(", "\u3042"])
def test_no_text_is_so_odd_that_cutting_it_takes_forever(unit: str):
    # Quadratic work would take minutes here.
    text = unit * (1_000_000 // len(unit))
    found = pieces(text, chunk(text, tokens=200))
    assert "".join(found) == text
    if not unit.isspace():
        assert max(map(len, found)) <= 200 * 32


def test_a_large_line_is_cut_in_bounded_memory():
    code = """if True:
        import resource, sys
        from retrail.retrievers.chunker import chunk
        for _ in chunk("A first sentence. " * 100, tokens=200): pass
        text = "This line never ends, and has no break. " * 250_000
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        total = end = 0
        for span in chunk(text, tokens=200):
            assert span.start == end and span.end - span.start < 2_000
            total, end = total + 1, span.end
        assert end == len(text)
        sys.stdout.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
        """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(done.stdout) * unit < 20_000_000  # twice the text; windows are a fiftieth of it


@given(title=st.text(max_size=20), text=TEXTS)
def test_passages_in_the_corpus_match_the_text_of_their_document(
    tmp_path_factory: pytest.TempPathFactory, title: str, text: str
):
    corpus = Corpus(tmp_path_factory.mktemp("corpus") / "corpus.db")
    document = Document(id="doc", title=title, text=text, url="https://example.org/doc")
    staging = Staging(corpus, chunk_tokens=8, language="en")
    staging.stage([document])
    assert corpus.document("doc", 1) == document
    passages = corpus.window("doc", 1, 0, 10_000)
    assert [passage.id for passage in passages] == [f"doc#{n}" for n in range(len(passages))]
    assert [passage.text for passage in passages] == [
        text[passage.start : passage.end] for passage in passages
    ]
    assert {(passage.doc_id, passage.title) for passage in passages} == {("doc", title)}
    corpus.close()
