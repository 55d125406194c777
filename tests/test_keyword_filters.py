"""A filter that admits much is answered from a deeper list: the same best by the same scores."""

from pathlib import Path

import numpy as np
import pytest
from retrail.retrievers import keyword
from retrail.retrievers.keyword import KeywordIndex, KeywordWriter

SIZE = 400


@pytest.fixture
def index(tmp_path: Path) -> KeywordIndex:
    writer = KeywordWriter(tmp_path / "keyword", "en")
    rng = np.random.default_rng(0)
    for row in range(1, SIZE + 1):
        # Of different lengths, so that no two scores are the same by chance for long.
        filler = " ".join(f"w{n}" for n in rng.integers(0, 900, row))
        writer.add([(row, "", f"{'seal ' * int(rng.integers(1, 6))}{filler}")])
    writer.commit()
    return KeywordIndex(tmp_path / "keyword", "en")


@pytest.mark.parametrize("within", [range(1, SIZE, 2), range(1, 201), range(201, SIZE + 1)])
def test_a_large_set_ranks_as_a_set_of_terms_does(
    index: KeywordIndex, within: range, monkeypatch: pytest.MonkeyPatch
):
    admitted = np.array(within, np.int64)
    for query in ("seal", "seal w7", "w7", "walrus"):
        monkeypatch.setattr(keyword, "_FEW", SIZE)
        expected = index.search(query, 5, admitted)
        monkeypatch.setattr(keyword, "_FEW", 0)
        found = index.search(query, 5, admitted)
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)
        assert set(found.ids.tolist()) <= set(within)
