"""Codecs: what is scored is what was stored, in the bytes that were promised."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from retrail.core.errors import ConfigError, CorruptStore
from retrail.core.settings import LateCodec, Settings
from retrail.retrievers.codecs import CODECS, Codec, decoded
from retrail.retrievers.encoder import Encoded
from retrail.retrievers.late import LateScorer, Layout
from retrail.retrievers.late_form import LADDER, late_form, token_bytes
from retrail.retrievers.vectors import Place, VectorFiles, VectorWriter

NAMES = tuple(CODECS)


def unit(rows: int, dim: int, seed: int = 0) -> np.ndarray:
    """Unit vectors whose variance falls from axis to axis, as after a projection."""
    vectors = np.random.default_rng(seed).normal(size=(rows, dim)) * np.linspace(2, 0.2, dim)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def fitted(name: LateCodec, dim: int) -> Codec:
    kind = CODECS[name]
    return kind(kind.fit(unit(3000, dim)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dim", [8, 13, 32])
def test_scores_are_those_of_the_vectors_read_back(name: LateCodec, dim: int):
    codec, tokens, query = fitted(name, dim), unit(40, dim, 1), unit(5, dim, 2)
    stored = codec.encode(tokens)
    factor = codec.query(query)
    scores = codec.widen(stored, np.empty((64, len(factor)), np.float32)) @ factor
    np.testing.assert_allclose(scores, decoded(codec, stored, dim) @ query.T, atol=1e-5)
    assert stored.nbytes == 40 * token_bytes(name, dim)


def test_fewer_bytes_lose_more():
    tokens = unit(500, 32, 1)
    errors = [
        float(np.square(decoded(codec, codec.encode(tokens), 32) - tokens).sum(axis=1).mean())
        for codec in (fitted(name, 32) for name in NAMES)
    ]
    assert errors == sorted(errors)
    assert errors[1] < 1e-3 < errors[2] < 0.2 < errors[3] < 0.5


def test_a_quarter_of_the_bytes():
    assert 4 * token_bytes("int8", 64) == token_bytes("fp16", 128)


@given(st.integers(0, 1000))
def test_int8_is_off_by_half_a_step_at_most(seed: int):
    codec, tokens = fitted("int8", 16), unit(30, 16, seed)
    step = CODECS["int8"].fit(unit(3000, 16))["step"]
    kept = np.clip(tokens, -127 * step, 127 * step)
    assert (np.abs(decoded(codec, codec.encode(tokens), 16) - kept) <= step / 2 + 1e-6).all()


def test_few_distinct_vectors_are_centroids():
    tokens = np.tile(unit(20, 8), (10, 1))
    codec = CODECS["kmeans"](CODECS["kmeans"].fit(tokens))
    np.testing.assert_allclose(decoded(codec, codec.encode(tokens), 8), tokens, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_passage_without_tokens_takes_nothing(name: LateCodec):
    assert fitted(name, 8).encode(np.zeros((0, 8), np.float32)).nbytes == 0


# In the files


def items(seed: int, lengths: tuple[int, ...]) -> list[Encoded]:
    return [Encoded(unit(1, 6, seed + n)[0], unit(t, 12, seed + n)) for n, t in enumerate(lengths)]


def written(folder: Path, name: LateCodec, batch: list[Encoded]) -> tuple[VectorFiles, list[Place]]:
    files = VectorFiles(folder, dim=6, late_dim=8, codec=name)
    writer = VectorWriter(files, rows=0, tokens=0)
    writer.fit(batch)
    places = list(writer.append(batch))
    writer.close()
    return files, places


def scores(files: VectorFiles, places: list[Place]) -> list[float]:
    basis, numbers = files.basis, range(len(places))
    assert basis is not None
    columns = (numbers, numbers, *zip(*places, strict=True))
    layout = Layout(*(np.array(column, np.int64) for column in columns))
    scorer = LateScorer(layout, files.tokens(8), basis, files.codec)
    found = scorer.score(unit(4, 12, 99), np.arange(len(places)))
    return found.scores[np.argsort(found.ids)].tolist()


@pytest.mark.parametrize("name", NAMES)
def test_compacting_keeps_what_is_asked_for(name: LateCodec, tmp_path: Path):
    files, places = written(tmp_path / "a", name, items(0, (3, 40, 1, 7)))
    before, kept = scores(files, places), [places[1], places[3]]
    target = VectorFiles(tmp_path / "b", dim=6, late_dim=8, codec=name)
    moved = files.compact(target, kept)
    assert moved == [Place(0, 0, 40), Place(1, 40, 7)]
    assert scores(target, moved) == [before[1], before[3]]
    assert scores(files, places) == before
    np.testing.assert_array_equal(target.dense(), files.dense()[[1, 3]])
    assert target.tokens_path.stat().st_size == 47 * token_bytes(name, 8)
    writer = VectorWriter(target, rows=2, tokens=47)
    assert list(writer.append(items(9, (2,)))) == [Place(2, 47, 2)]
    writer.close()


def test_tables_of_another_codec_are_no_tables(tmp_path: Path):
    written(tmp_path, "fp16", items(0, (30,)))
    with pytest.raises(CorruptStore, match=r"basis.npz' is damaged"):
        _ = VectorFiles(tmp_path, dim=6, late_dim=8, codec="int8").codec


# By a budget


def test_a_budget_takes_the_best_form_that_fits():
    for codec, dim in LADDER:
        most = 256 * token_bytes(codec, dim)
        form = late_form(Settings(late_bytes=most, late_codec="binary"))
        assert token_bytes(form.codec, form.dim) == token_bytes(codec, dim)
        assert (form.codec, form.dim) == (codec, dim)
    assert late_form(Settings(late_bytes=10**9))[:2] == LADDER[0]


def test_pooled_tokens_make_room():
    tight = 128 * token_bytes("kmeans", 128)
    assert late_form(Settings(late_bytes=tight, late_tokens="pooled:2"))[:2] == ("kmeans", 128)


def test_a_budget_that_nothing_fits_says_what_would():
    with pytest.raises(ConfigError, match=r"'late_bytes' is 9, too few for 256 .*: allow \d+"):
        late_form(Settings(late_bytes=9))


def test_without_a_budget_the_settings_say():
    form = late_form(Settings(late_codec="kmeans", late_dim=64, late_tokens="words"))
    assert form == ("kmeans", 64, "words")
