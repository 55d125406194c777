"""A generation's PLAID index: named by row id, taken over by the next generation."""

from pathlib import Path

import numpy as np
import pytest
from retrail.retrievers.plaid import PlaidIndex, build_plaid

from .conftest import PASSAGES

ROWS = {10 + n: text for n, (_, text) in enumerate(PASSAGES)}
QUERY = "what did children learn about volcanoes"


@pytest.fixture(scope="module")
def first(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first") / "plaid"
    build_plaid(folder, None, str(checkpoint), ROWS.items(), (), 64)
    return folder


def test_candidates_are_all_scored_and_admitted_ones_alone_are_found(first, checkpoint):
    plaid = PlaidIndex(first, str(checkpoint))
    best = plaid.search(QUERY, 3)
    assert "volcanoes" in ROWS[int(best.ids[0])].lower()
    assert best.scores.tolist() == sorted(best.scores.tolist(), reverse=True)
    candidates = np.array(sorted(ROWS)[::2])
    scored = plaid.score(QUERY, candidates)
    assert sorted(scored.ids.tolist()) == candidates.tolist()
    found = plaid.search(QUERY, 5, candidates)
    assert found.ids.tolist() == scored.ids[:5].tolist()
    np.testing.assert_allclose(found.scores, scored.scores[:5], rtol=1e-5)
    assert not len(plaid.search(QUERY, 5, np.zeros(0, np.int64)).ids)
    assert not len(plaid.score(QUERY, np.zeros(0, np.int64)).ids)


def test_the_next_generation_changes_what_changed_and_leaves_the_one_before(
    first, checkpoint, tmp_path
):
    died, text = min(ROWS), "A caravan of camels crossed the desert."
    build_plaid(tmp_path / "next", first, str(checkpoint), [(999, text)], [died, 12345], 64)
    after = PlaidIndex(tmp_path / "next", str(checkpoint))
    assert after.search("camels in the desert", 1).ids.tolist() == [999]
    everything = after.search(QUERY, 10_000).ids.tolist()
    assert sorted(everything) == sorted({*ROWS, 999} - {died})
    before = PlaidIndex(first, str(checkpoint)).search(QUERY, 10_000).ids.tolist()
    assert sorted(before) == sorted(ROWS)
