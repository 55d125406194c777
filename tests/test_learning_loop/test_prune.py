"""Retention: the weights of old versions go, what serves or may serve again stays, cards stay."""

from collections.abc import Callable
from pathlib import Path

import pytest
from retrail.core import ConfigError
from retrail.retrievers.query_side import QuerySide
from retrail.retrievers.training import Card, Hyperparameters, Registry

KEPT = {"card.json", "gate.json", "training.json", "report.html", "report.md", "curve.png"}
QUICK = Hyperparameters(mode="adapter", epochs=1, negatives=2, max_tokens=16)


@pytest.fixture
def registered(tmp_path: Path) -> Callable[[int], Registry]:
    """Give a function that fills a registry with versions and their files."""

    def fill(count: int) -> Registry:
        registry = Registry(tmp_path)
        for n in range(1, count + 1):
            version, folder = registry.reserve()
            assert version == n
            for name in KEPT - {"card.json"} | {"model.safetensors", "config.json"}:
                (folder / name).write_text("{}", encoding="utf-8")
            (folder / "1_Pooling").mkdir()
            registry.register(
                Card(
                    name="dense",
                    version=version,
                    created_at="2026-11-20T09:00:00.000Z",
                    parent="base@1",
                    fingerprint=f"print-{n}",
                    code_version="1",
                    trajectories=["run-1"],
                    data_hash="0",
                    hyperparameters={"seed": 0},
                    signals={},
                    examples=1,
                    verdict="kept",
                    reason="equal",
                )
            )
        return registry

    return fill


def whole(registry: Registry) -> list[int]:
    return [
        card.version
        for card in registry.cards()
        if (registry.root / card.reference / "model.safetensors").exists()
    ]


def test_the_newest_and_the_used_stay_whole_and_every_card_stays(registered):
    registry = registered(6)
    assert registry.prune(2, {"models/dense/0002", "all-MiniLM-L6-v2", ""}) == [1, 3, 4]
    assert whole(registry) == [2, 5, 6]
    assert {path.name for path in (registry.root / "models/dense/0003").iterdir()} == KEPT
    assert [card.version for card in registry.cards()] == [1, 2, 3, 4, 5, 6]
    assert registry.card(3).trajectories == ["run-1"]
    assert registry.servable(5).version == 5
    with pytest.raises(ConfigError, match="weights of version 3 were deleted") as caught:
        registry.servable(3)
    assert "2, 5, 6" in str(caught.value.fix)
    assert registry.reserve()[0] == 7


def test_pruning_again_deletes_what_a_kill_left(registered):
    registry = registered(3)
    assert registry.prune(1, ()) == [1, 2]
    left = registry.root / "models/dense/0001/model.safetensors"
    left.write_text("", encoding="utf-8")
    assert registry.prune(1, ()) == []
    assert not left.exists()


def test_the_passages_of_a_kept_query_side_stay_too(registered):
    registry = registered(4)
    QuerySide(kind="adapter", passages="print-1").save(registry.root / "models/dense/0004")
    assert registry.prune(1, ()) == [2, 3]
    assert whole(registry) == [1, 4]


def test_what_a_rollback_needs_is_not_pruned(kb, live):
    live(kb)
    for seed in range(3):
        kb.learn(hyper=QUICK.model_copy(update={"epochs": 1 + seed}))
    kb.promote(0) if kb.index.published.query else None
    if kb.index.published.query:
        kb.promote(0)
    for version in (1, 2):
        kb.promote(version)
    assert kb.prune(1) == []
    kb.promote(3)
    assert kb.prune(1) == [1]
    with pytest.raises(ConfigError, match="weights of version 1 were deleted"):
        kb.promote(1)
    kb.rollback()
    assert kb.index.published.query == "models/dense/0002"
    assert kb.search("red fox", by="dense", k=1)
