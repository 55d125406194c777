"""The exported checkpoint is our encoder: the same tokens, nearly the same MaxSim."""

import json
from pathlib import Path

import numpy as np
import pytest
from retrail.core.errors import ConfigError
from retrail.retrievers.colbert_export import export_colbert
from retrail.retrievers.encoder import Encoder
from retrail.retrievers.ragatouille import RagatouilleEngine


@pytest.mark.parametrize("query", ["law protecting bees", "what do children learn of volcanoes?"])
def test_maxsim_follows_ours(engine: RagatouilleEngine, encoder: Encoder, query: str) -> None:
    ids = sorted(engine._numbers)
    texts = [engine.text(each) for each in ids]
    ours = encoder.query(query).tokens
    encoded = dict(encoder.documents(texts))
    expected = [float((encoded[i].tokens @ ours.T).max(0).sum()) for i in range(len(ids))]
    vectors = engine.encode_query(query)
    found = [float((matrix @ vectors.T).max(0).sum()) for matrix in engine.encode(texts)]
    assert np.corrcoef(expected, found)[0, 1] > 0.95


def test_queries_are_not_filled_up(engine: RagatouilleEngine) -> None:
    rows = np.linalg.norm(engine.encode_query("bees"), axis=1)
    assert len(rows) == 32
    assert (rows > 0).sum() == 4  # [CLS] [Q] bees [SEP]
    assert rows[rows > 0] == pytest.approx(1.0, abs=1e-5)


def test_a_basis_of_full_width_loses_nothing(encoder: Encoder, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    folder = export_colbert(encoder, tmp_path / "whole", dim=1000, sample=["a few words"])
    linear = load_file(folder / "model.safetensors")["linear.weight"].numpy()
    assert linear @ linear.T == pytest.approx(np.eye(encoder.dim), abs=1e-4)
    assert json.loads((folder / "artifact.metadata").read_bytes())["dim"] == encoder.dim


def test_what_cannot_be_exported_is_said(
    encoder: Encoder, checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="no text to fit"):
        export_colbert(encoder, tmp_path / "none", dim=8, sample=[])
    multi_vector = Encoder.load(str(checkpoint))
    with pytest.raises(ConfigError, match="cannot be written as a ColBERT checkpoint"):
        export_colbert(multi_vector, tmp_path / "again", dim=8, sample=["text"])
    assert list(tmp_path.iterdir()) == []
