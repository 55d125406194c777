"""A generation's PLAID index: named by row id, taken over by the next generation."""

from pathlib import Path

import numpy as np
import pytest
from retrail.agents import Workspace
from retrail.core import ConfigError, Document, IndexMismatch
from retrail.core.settings import load_settings, save_settings
from retrail.retrievers.plaid import PlaidIndex, build_plaid
from retrail.retrievers.training import Hyperparameters

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


def test_a_workspace_searches_late_by_it(checkpoint, tmp_path):
    documents = [
        Document(id=name.replace("#", "-"), text=text, metadata={"n": n})
        for n, (name, text) in enumerate(PASSAGES)
    ]
    root = tmp_path / "kb"
    with Workspace.create(root, ragatouille=str(checkpoint)) as kb:
        kb.add(*documents)
        by_late = [hit.doc_id for hit in kb.search(QUERY, by="late", k=5)]
        assert by_late[0].startswith("volcanoes")
        snapshot = kb.index.snapshot()
        everything = snapshot.layout.ids
        scored = snapshot.rankings(QUERY, 5)["late"]
        whole = PlaidIndex(snapshot.folder / "plaid", str(checkpoint)).score(QUERY, everything)
        expected = dict(zip(whole.ids.tolist(), whole.scores.tolist(), strict=True))
        for row, score in zip(scored.ids.tolist(), scored.scores.tolist(), strict=True):
            assert score == pytest.approx(expected[row], abs=1e-4)
        admitted = kb.search(QUERY, by="late", k=10, where="n < 4")
        assert {hit.passage.metadata["n"] for hit in admitted} == {0, 1, 2, 3}
        kb.add(Document(id="camels", text="A caravan of camels crossed the desert."))
        kb.index.remove([by_late[0]])
        assert kb.search("camels in the desert", by="late", k=1)[0].doc_id == "camels"
        assert by_late[0] not in {hit.doc_id for hit in kb.search(QUERY, by="late", k=10)}
        with pytest.raises(ConfigError, match="cannot be explained"):
            kb.index.explain(QUERY, "camels")
        with pytest.raises(ConfigError, match="not trained here"):
            kb.learn(hyper=Hyperparameters(target="late"))
    settings = load_settings(root / "settings.toml")
    save_settings(settings.model_copy(update={"ragatouille": ""}), root / "settings.toml")
    with Workspace.open(root) as kb, pytest.raises(IndexMismatch, match="ragatouille"):
        kb.search(QUERY, by="late")
