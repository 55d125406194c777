"""Citations of model answers: each claim by its own sentence, exact to the character."""

from hypothesis import given
from hypothesis import strategies as st
from retrail.agents.citations import best_sentence, check_citations, cite
from retrail.core import (
    Passage,
)


def passage(identifier: str, text: str, start: int = 0) -> Passage:
    doc_id, _, _ = identifier.rpartition("#")
    return Passage(identifier, doc_id, start, start + len(text), "Title", text)


def test_each_claim_is_cited_by_its_own_sentence():
    read = [passage("d#0", "Ada was born in Rome. She died in Oslo. She liked chess.", 100)]
    answer = check_citations("Ada was born in Rome [d#0]. Ada died in Oslo [d#0].", read)
    assert [(c.quote, c.start) for c in answer.citations] == [
        ("Ada was born in Rome.", 100),
        ("She died in Oslo.", 122),
    ]


def test_markers_name_passages_or_documents_one_or_several():
    read = [passage("a, b#0", "One fact."), passage("c#3", "Another fact.")]
    answer = check_citations("Facts [c; a, b#0] and facts [a, b#0][c#3, x#1].", read)
    assert answer.text == "Facts [c#3] and facts [a, b#0] [c#3]."
    assert [c.passage_id for c in answer.citations] == ["c#3", "a, b#0"]


def test_brackets_that_are_no_markers_stay():
    read = [passage("d#0", "One fact.")]
    text = "Use dict[str, int] or [the docs](http://x) [d#0], not list[int#9] [nothing]."
    answer = check_citations(text, read)
    assert answer.text == "Use dict[str, int] or [the docs](http://x) [d#0], not list."


SENTENCES = st.lists(
    st.text(alphabet="abcdé. \n\u2003🙂'", min_size=1, max_size=30), min_size=1, max_size=6
)


@given(before=st.text(max_size=20), sentences=SENTENCES, claim=st.text("abcdé ", max_size=20))
def test_a_citation_is_an_exact_span_of_its_document(before, sentences, claim):
    text = " ".join(sentences)
    document = before + text
    cited = passage("d#1", text, len(before))
    citation = cite(cited, best_sentence(cited, claim))
    assert document[citation.start : citation.end] == citation.quote
    assert citation.quote == citation.quote.strip()
    assert len(before) <= citation.start <= citation.end <= len(document)
