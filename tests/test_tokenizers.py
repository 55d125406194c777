"""Registered tokenizers: keywords and encoders see their tokens, indexes know name and version."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from retrail.core.documents import Document
from retrail.core.errors import BackendUnavailable, ConfigError, IndexMismatch
from retrail.core.settings import EMBEDDED_ENCODER, Settings, check_settings
from retrail.retrievers import Encoder, Index
from retrail.retrievers.onnx_export import export
from retrail.retrievers.reading import Reading
from retrail.retrievers.tokenizers import (
    _REGISTERED,
    Term,
    Tokenizer,
    find_tokenizer,
    keyword_tokenizer,
    spaced,
)

from retrail import register_tokenizer

PREFIXES = ("umu", "aba", "iki", "igi", "ibi")
DOCUMENTS = [
    Document(id="one", title="Ishuri", text="Umunyeshuri asoma igitabo."),
    Document(id="many", text="Abanyeshuri bari mu ishuri."),
    Document(id="book", text="Ibitabo ni byinshi."),
]
RW = Settings(precision="float32", language="rw", tokenizer="rw")


def morphemes(text: str) -> Iterator[Term]:
    """Cut class prefixes of Kinyarwanda from their nouns."""
    for match in re.finditer(r"\w+", text):
        start, end = match.span()
        prefix = next((p for p in PREFIXES if match.group().lower().startswith(p)), "")
        if prefix and end - start > len(prefix) + 2:
            yield prefix, start, start + len(prefix)
            start += len(prefix)
        yield text[start:end], start, end


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("rw", "toy", "broken"):
        monkeypatch.delitem(_REGISTERED, name, raising=False)
    register_tokenizer("rw", morphemes)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load(EMBEDDED_ENCODER, precision="float32")


def found(index: Index, query: str, by: Any = "keyword") -> set[str]:
    return {hit.doc_id for hit in index.search(query, by=by)}


@pytest.fixture
def index(tmp_path: Path, encoder: Encoder) -> Iterator[Index]:
    opened = Index(tmp_path, RW, encoder)
    opened.add(DOCUMENTS)
    yield opened
    opened.close()


# Keywords


def test_morphemes_are_found(index: Index, tmp_path: Path, encoder: Encoder):
    assert index.snapshot().manifest["tokenizer"] == "rw@1"
    assert found(index, "umunyeshuri") == {"one", "many"}
    assert found(index, "igitabo") == {"one", "book"}
    assert found(index, '+"aba nyeshuri"') == {"many"}
    assert found(index, "ISHURI +umunyeshuri") == {"one"}
    assert found(index, "umunyeshuri", "hybrid") == {"one", "many", "book"}
    words = Index(tmp_path / "words", RW.model_copy(update={"tokenizer": "words"}), encoder)
    words.add(DOCUMENTS)
    assert found(words, "umunyeshuri") == {"one"}
    words.close()


def test_what_is_added_later_is_cut_alike(index: Index, tmp_path: Path, encoder: Encoder):
    later = Index(tmp_path, RW.model_copy(update={"tokenizer": "auto"}), encoder)
    later.add([Document(id="new", text="Umunyeshuri mushya.")])
    assert found(later, "abanyeshuri") == {"one", "many", "new"}
    later.close()


def test_opening_without_it_says_what_to_do(
    index: Index, tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delitem(_REGISTERED, "rw")
    for name in ("rw", "auto"):
        again = Index(tmp_path, RW.model_copy(update={"tokenizer": name}), encoder)
        with pytest.raises(ConfigError, match=r"'rw' is not registered.*register_tokenizer\('rw'"):
            again.search("ishuri", by="keyword")
        again.close()


def test_another_version_or_name_is_refused(index: Index, tmp_path: Path, encoder: Encoder):
    register_tokenizer("rw", morphemes, version="2")
    for name, message in (("rw", "another 'tokenizer'"), ("auto", "another version of tokenizer")):
        again = Index(tmp_path, RW.model_copy(update={"tokenizer": name}), encoder)
        with pytest.raises(IndexMismatch, match=rf"{message}.*retrail doctor --rebuild"):
            again.search("ishuri", by="keyword")
        again.close()
    mended = Index(tmp_path, RW, encoder)
    mended.rebuild()
    assert found(mended, "umunyeshuri") == {"one", "many"}
    mended.close()


BAD = {
    "spaces": [("a b", 0, 3)],
    "empty": [("", 0, 1)],
    "beyond": [("a", 0, 99)],
    "nothing": [("a", 2, 2)],
    "backwards": [("a", 3, 4), ("b", 0, 1)],
}


@pytest.mark.parametrize("terms", BAD.values(), ids=BAD)
def test_a_tokenizer_is_held_to_its_promise(terms: list[Term]):
    register_tokenizer("broken", lambda _: terms)
    with pytest.raises(ConfigError, match=r"tokenizer 'broken' gives .* words without spaces"):
        find_tokenizer("broken").joined("some text")


# Encoders


@given(st.text(alphabet="abumu \n.é😀", max_size=40))
def test_places_survive_the_spaces(text: str):
    read = spaced(text, Tokenizer("x", "1", morphemes))
    assert "".join(read.text.split()) == "".join(text.split())
    for at, character in enumerate(read.text):
        if at not in read.spaces:
            assert text[read.before(at)] == character
            assert read.before(at + 1) == read.before(at) + 1


def test_the_encoder_reads_tokens_apart(encoder: Encoder, tmp_path: Path, monkeypatch: Any):
    monkeypatch.setenv("RETRAIL_CACHE", str(tmp_path))
    reading = Reading(encoder_tokenizer="rw", long_texts="windows")
    apart = Encoder.load(EMBEDDED_ENCODER, max_tokens=32, precision="float32", reading=reading)
    np.testing.assert_allclose(
        apart.query("Umunyeshuri").dense, encoder.query("Umu nyeshuri").dense, atol=1e-5
    )
    text = "Umunyeshuri asoma ibitabo. " * 9
    spans = apart.token_spans(text, "document")
    ((_, read),) = apart.documents([text])
    assert len(spans) == len(read.tokens)
    joined = "".join(text[span.start : span.end] for span in spans)
    assert joined == text.replace(" ", "")
    made = export(apart)
    assert made is not None
    assert made.token_spans(text, "document") == spans
    np.testing.assert_allclose(
        made.query("Umunyeshuri").dense, apart.query("Umunyeshuri").dense, atol=1e-3
    )
    first = apart.fingerprint
    register_tokenizer("rw", morphemes, version="2")
    again = Encoder.load(EMBEDDED_ENCODER, max_tokens=32, reading=reading)
    assert again.fingerprint != first


def test_explanations_point_at_the_text_as_it_is(tmp_path: Path):
    index = Index(tmp_path, RW.model_copy(update={"encoder_tokenizer": "rw"}))
    index.add(DOCUMENTS)
    (hit, *_) = index.search("nyeshuri", by="late", k=1)
    explained = index.explain("umunyeshuri", hit.passage.id)
    for match in explained.matches:
        assert match.query.text == "umunyeshuri"[match.query.start : match.query.end] != ""
        if match.passage.field == "text":
            text = hit.passage.text[match.passage.start : match.passage.end]
            assert match.passage.text.replace(" ", "") == text
    index.close()
    changed = Index(tmp_path, RW)
    with pytest.raises(IndexMismatch, match="another 'encoder_tokenizer'"):
        changed.search("ishuri")
    changed.close()


# Names


@pytest.mark.parametrize("name", ["auto", "words", "pairs", "", "RW", "a b", "os:system", "../x"])
def test_names_are_checked(name: str):
    with pytest.raises(ConfigError, match="cannot be called"):
        register_tokenizer(name, morphemes)
    if not re.fullmatch("[a-z]*", name):
        for setting in ("tokenizer", "encoder_tokenizer"):
            with pytest.raises(ConfigError, match=setting):
                check_settings({setting: name})


def installed(folder: Path, module: str, value: str) -> None:
    info = folder / "toy-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[retrail.tokenizers]\ntoy = {value}\n")
    (folder / f"{value.partition(':')[0]}.py").write_text(module)


def test_installed_packages_offer_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    module = "def cut(text):\n    return [(text[:1], 0, 1)]\n\ncut.version = '7'\n"
    installed(tmp_path, module, "retrail_toy_cut:cut")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert keyword_tokenizer("toy@7") == find_tokenizer("toy")
    assert find_tokenizer("toy").joined("abc") == "a"


def test_a_package_that_does_not_load_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    installed(tmp_path, "raise RuntimeError('no dictionary')", "retrail_toy_broken:cut")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(BackendUnavailable, match=r"'toy' of 'retrail_toy_broken:cut'.*no dictiona"):
        find_tokenizer("toy")


def test_only_names_are_looked_up():
    with pytest.raises(ConfigError, match="'json' is not registered"):
        find_tokenizer("json")  # a module, but nobody's tokenizer


@pytest.mark.parametrize("name", ["words", "auto"])
def test_an_encoder_has_no_tokenizer_by_default(name: str):
    with pytest.raises(ConfigError, match=f"'{name}' is no tokenizer.*leave 'encoder_tokenizer'"):
        find_tokenizer(name)


def test_one_that_the_index_keeps_is_missed_before_anything_is_encoded(
    index: Index, tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
):
    later = Index(tmp_path, RW.model_copy(update={"tokenizer": "auto"}), encoder)
    monkeypatch.delitem(_REGISTERED, "rw")
    seen = encoder.texts_encoded
    with pytest.raises(ConfigError, match="'rw' is not registered"):
        later.add([Document(id="new", text="Umunyeshuri mushya.")])
    assert encoder.texts_encoded == seen
    later.close()


def test_a_missing_one_is_told_before_anything_is_encoded(tmp_path: Path, encoder: Encoder):
    index = Index(tmp_path, Settings(tokenizer="toy"), encoder)
    seen = encoder.texts_encoded
    with pytest.raises(ConfigError, match="'toy' is not registered"):
        index.add(DOCUMENTS)
    assert encoder.texts_encoded == seen
    index.close()
