"""The exported encoder gives the vectors of the original, is found again, and is never missed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from retrail.core.documents import Document
from retrail.core.settings import EMBEDDED_ENCODER, Settings
from retrail.retrievers import Encoder, Index
from retrail.retrievers.onnx_encoder import MODEL, OnnxEncoder, sweep_cache
from retrail.retrievers.onnx_export import export
from sentence_transformers import SentenceTransformer

SETTINGS = Settings(late_dim=32, precision="float32")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load(EMBEDDED_ENCODER, precision="float32")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETRAIL_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def exported(encoder: Encoder, cache: Path) -> OnnxEncoder:
    made = export(encoder)
    assert made is not None
    return made


def close(ours: np.ndarray, theirs: np.ndarray) -> bool:
    return ours.shape == theirs.shape and bool(np.abs(ours - theirs).max() < 1e-4)


@settings(max_examples=30)
@given(st.text(st.characters(codec="utf-8"), max_size=400))
def test_queries_get_the_same_vectors(encoder: Encoder, exported: OnnxEncoder, text: str):
    ours, theirs = encoder.query(text), exported.query(text)
    assert close(ours.dense, theirs.dense)
    assert close(ours.tokens, theirs.tokens)


def test_documents_of_any_length_get_the_same_vectors(encoder: Encoder, exported: OnnxEncoder):
    texts = [f"cats {n} " * (1 + 7 * n % 90) for n in range(70)]
    ours, theirs = dict(encoder.documents(texts)), dict(exported.documents(texts))
    assert sorted(theirs) == list(range(70))
    assert all(close(ours[n].dense, theirs[n].dense) for n in ours)
    assert all(close(ours[n].tokens, theirs[n].tokens) for n in ours)


def test_prompts_and_pooling_are_part_of_it(encoder: Encoder, cache: Path, tmp_path: Path):
    model = SentenceTransformer(str(_saved(encoder, tmp_path)))
    model.prompts = {"query": "search for: ", "document": "text: "}
    model[1].pooling_mode = "cls"
    other = Encoder(model, "other", precision="float32")
    assert other.fingerprint != encoder.fingerprint
    made = export(other)
    assert made is not None
    assert close(other.query("cats").dense, made.query("cats").dense)
    assert not close(encoder.query("cats").dense, made.query("cats").dense)
    ((_, document),) = made.documents(["cats"])
    assert not close(document.dense, made.query("cats").dense)


def test_a_damaged_export_is_made_again(encoder: Encoder, exported: OnnxEncoder, cache: Path):
    path = cache / "encoders" / encoder.fingerprint / MODEL
    path.write_bytes(path.read_bytes()[:1000])
    assert OnnxEncoder.open(encoder.fingerprint) is None
    assert export(encoder) is not None
    assert OnnxEncoder.open(encoder.fingerprint) is not None


def test_what_serves_outlives_its_files(encoder: Encoder, exported: OnnxEncoder, cache: Path):
    folder = cache / "encoders" / encoder.fingerprint
    opened = OnnxEncoder.open(encoder.fingerprint)
    assert opened is not None
    folder.rename(folder.with_name("swept"))
    try:
        ((_, document),) = opened.documents(["cats"])
        assert close(document.dense, exported.query("cats").dense)
    finally:
        folder.with_name("swept").rename(folder)


def test_where_nothing_can_be_kept_torch_answers(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RETRAIL_CACHE", str(tmp_path / "file"))
    assert export(encoder) is None
    index = Index(tmp_path / "kb", SETTINGS)
    index.add([Document(id="a", text="cats purr"), Document(id="b", text="ships sail")])
    assert index.search("cats", by="dense")[0].doc_id == "a"
    index.close()


def test_the_least_used_exports_are_deleted(tmp_path: Path):
    for n in range(10):
        (tmp_path / str(n)).mkdir()
        os.utime(tmp_path / str(n), (n, n))
    sweep_cache(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [str(n) for n in range(2, 10)]


def test_searching_imports_no_torch(exported: OnnxEncoder, cache: Path, tmp_path: Path):
    index = Index(tmp_path, SETTINGS)
    index.add([Document(id="a", text="cats purr"), Document(id="b", text="ships sail")])
    expected = [(hit.doc_id, hit.score) for hit in index.search("cats")]
    index.close()
    code = """if True:
        import sys
        from pathlib import Path
        from retrail.core.settings import Settings
        from retrail.retrievers import Index
        index = Index(Path(sys.argv[1]), Settings(late_dim=32, precision="float32"))
        print([(hit.doc_id, hit.score) for hit in index.search("cats")], "torch" in sys.modules)
    """
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{expected} False"


def _saved(encoder: Encoder, folder: Path) -> Path:
    encoder.model.save_pretrained(str(folder / "model"), create_model_card=False)
    return folder / "model"
