"""Training for real, in small: every mode and loss learns, stops, goes on and can be loaded."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from retrail.agents import Workspace
from retrail.core import ConfigError, CorruptStore, Document, IndexMismatch
from retrail.core.settings import EMBEDDED_ENCODER
from retrail.retrievers.encoder import Encoded, Encoder
from retrail.retrievers.query_side import QueryAdapter, query_encoder
from retrail.retrievers.training import Example, Hyperparameters, Registry, train
from retrail.retrievers.training.batches import TopicBatchSampler, cluster
from retrail.retrievers.training.checkpoints import last_checkpoint
from retrail.retrievers.training.frozen import stored_vectors
from retrail.retrievers.training.hyper import LISTS
from retrail.retrievers.training.rows import select_rows

WORDS = {"fox": "shib", "owl": "marn", "trout": "plex", "goat": "wuld", "bear": "grom"}
TEXTS = {
    f"d{n}#0": f"A {animal} was seen in the {place}."
    for n, (animal, place) in enumerate(
        (animal, place) for animal in WORDS for place in ("forest", "harbour", "attic")
    )
}
EXAMPLES = [
    Example(word, word, passage, (), weight)
    for animal, word in WORDS.items()
    for weight, passage in zip(
        (1.0, 0.7), (i for i, text in TEXTS.items() if animal in text), strict=False
    )
]
HYPER = Hyperparameters(negatives=2, epochs=2, batch_size=5, max_tokens=16, learning_rate=2e-4)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Texts this short gain nothing from threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def base() -> Encoder:
    return Encoder.load(EMBEDDED_ENCODER, precision="float32")


def known(identifiers: Sequence[str]) -> dict[str, str]:
    return {i: TEXTS[i] for i in identifiers if i in TEXTS}


def learn(base: Encoder, folder: Path, hyper: Hyperparameters, **more: Any) -> None:
    folder.mkdir(exist_ok=True)
    train(base, EXAMPLES, known, sorted(TEXTS), folder, hyper, **more)


def hyper(**changed: Any) -> Hyperparameters:
    return Hyperparameters.model_validate(HYPER.model_dump() | changed)


def right(
    query: Callable[[str], Encoded], passages: dict[str, Encoded], by: str = "dense"
) -> float:
    """Mean gap between the scores of right and wrong passages."""
    gaps = []
    for animal, word in WORDS.items():
        q = query(word)
        scores = {
            i: float(p.dense @ q.dense) if by == "dense" else (p.tokens @ q.tokens.T).max(0).mean()
            for i, p in passages.items()
        }
        good = [s for i, s in scores.items() if animal in TEXTS[i]]
        bad = [s for i, s in scores.items() if animal not in TEXTS[i]]
        gaps.append(np.mean(good) - np.mean(bad))
    return float(np.mean(gaps))


def encoded(encoder: Encoder) -> dict[str, Encoded]:
    ids = list(TEXTS)
    return {ids[at]: vectors for at, vectors in encoder.documents(list(TEXTS.values()))}


@pytest.mark.parametrize(
    ("loss", "target", "keep"),
    [
        ("infonce", "both", 0.1),
        ("disj", "late", 0),
        ("listwise", "dense", 0),
        ("mw", "dense", 0),
        ("wasserstein", "dense", 0),
    ],
)
def test_a_loss_trains_the_encoder(base, tmp_path, loss, target, keep):
    learn(base, tmp_path, hyper(loss=loss, target=target, keep=keep))
    trained = Encoder.load(str(tmp_path))
    assert trained.fingerprint != base.fingerprint
    by = "late" if target == "late" else "dense"
    assert right(trained.query, encoded(trained), by) > right(base.query, encoded(base), by) + 0.01


@pytest.mark.parametrize("mode", ["adapter", "query"])
@pytest.mark.parametrize("target", ["dense", "late"])
def test_a_query_side_serves_over_the_old_vectors(base, tmp_path, mode, target):
    learn(base, tmp_path, hyper(mode=mode, target=target, epochs=6))
    passages = encoded(base)
    query = query_encoder(tmp_path, base)
    assert right(query, passages, target) > right(base.query, passages, target) + 0.01
    one = query("shib")
    assert np.linalg.norm(one.dense) == pytest.approx(1, abs=1e-5)
    assert np.linalg.norm(one.tokens, axis=1) == pytest.approx(1, abs=1e-5)
    assert not (tmp_path / "model.safetensors").exists()


def test_margin_mse_distils_what_was_late_into_dense(base, tmp_path):
    told = hyper(mode="adapter", loss="margin_mse", epochs=20)
    learn(base, tmp_path, told)
    rows, _ = select_rows(EXAMPLES, known, sorted(TEXTS), told)
    passages, query = encoded(base), query_encoder(tmp_path, base)

    def error(ask: Callable[[str], Encoded]) -> float:
        errors = []
        for row in rows:
            late = [
                float((passages[i].tokens @ base.query(row.query).tokens.T).max(0).mean())
                for i in row.passages[:2]
            ]
            dense = [float(passages[i].dense @ ask(row.query).dense) for i in row.passages[:2]]
            errors.append((dense[0] - dense[1] - max(late[0] - late[1], 0)) ** 2)
        return float(np.mean(errors))

    assert error(query) < 0.8 * error(base.query)


def test_keeping_close_moves_less(base, tmp_path):
    far = []
    for keep in (0, 20):
        learn(base, tmp_path / str(keep), hyper(mode="adapter", keep=keep, epochs=6))
        query = query_encoder(tmp_path / str(keep), base)
        far.append(np.mean([1 - query(w).dense @ base.query(w).dense for w in WORDS.values()]))
    assert far[1] < 0.5 * far[0]


def test_stored_vectors_are_those_of_the_index(base, tmp_path):
    with Workspace.create(tmp_path / "kb") as kb:
        kb.add(*(Document(id=i.removesuffix("#0"), text=text) for i, text in TEXTS.items()))
        stored = stored_vectors(kb.index)
        found = stored.vectors([*TEXTS, "gone#0"])
        assert set(found) == set(TEXTS)
        for name, vectors in encoded(kb.index.encoder()).items():
            np.testing.assert_allclose(found[name].dense, vectors.dense, atol=0.01)
            tokens = stored.basis.project(vectors.tokens)
            np.testing.assert_allclose(found[name].tokens, tokens, atol=0.05)
        told = hyper(mode="adapter", target="both", epochs=6)
        learn(kb.index.encoder(), tmp_path / "side", told, stored=stored)
        query = query_encoder(tmp_path / "side", kb.index.encoder())
    assert right(query, encoded(base)) > right(base.query, encoded(base)) + 0.01


def test_the_average_lies_between_the_old_weights_and_the_new(base, tmp_path):
    for share in (0.0, 0.25):
        for mode in ("full", "adapter"):
            learn(base, tmp_path / f"{mode}{share}", hyper(mode=mode, average=share))
    old, new, between = (
        encoder.model.state_dict()
        for encoder in (base, *(Encoder.load(str(tmp_path / f"full{s}")) for s in (0.0, 0.25)))
    )
    assert any(not torch.equal(value, new[name]) for name, value in old.items())
    for name, value in old.items():
        torch.testing.assert_close(between[name], torch.lerp(new[name], value, 0.25))
    maps = [QueryAdapter.load(tmp_path / f"adapter{share}").dense for share in (0.0, 0.25)]
    np.testing.assert_allclose(maps[1], 0.75 * maps[0] + 0.25 * np.eye(base.dim), atol=1e-6)


class Killed(Exception):
    pass


def test_a_killed_training_goes_on_and_ends_the_same(base, tmp_path):
    seen: list[int] = []

    def kill(stage: str, done: int, total: int | None) -> None:
        if done == 3:
            raise Killed

    learn(base, tmp_path / "whole", hyper(dropout=True))
    with pytest.raises(Killed):
        learn(base, tmp_path / "cut", hyper(dropout=True), progress=kill)
    (key,) = (tmp_path / "cut" / "checkpoints").iterdir()
    (key / "checkpoint-9").mkdir()  # half-written
    learn(
        base,
        tmp_path / "cut",
        hyper(dropout=True),
        progress=lambda stage, done, total: seen.append(done),
    )
    assert seen == [3, 4]
    trained = [Encoder.load(str(tmp_path / name)).fingerprint for name in ("whole", "cut")]
    assert trained[0] == trained[1]


def test_other_data_does_not_go_on_from_a_checkpoint(base, tmp_path):
    def kill(stage: str, done: int, total: int | None) -> None:
        steps.append(done)
        if done == 3:
            raise Killed

    steps: list[int] = []
    keys = []
    for seed in (0, 1):
        with pytest.raises(Killed):
            learn(base, tmp_path, hyper(seed=seed), progress=kill)
        keys.append([path.name for path in (tmp_path / "checkpoints").iterdir()])
    assert steps == [1, 2, 3, 1, 2, 3]
    assert [len(names) for names in keys] == [1, 1]
    assert keys[0] != keys[1]


def test_the_registry_leaves_checkpoints_of_an_unfinished_training(tmp_path):
    registry = Registry(tmp_path)
    _, folder = registry.reserve()
    (folder / "checkpoints" / "k").mkdir(parents=True)
    (folder / "left.bin").write_bytes(b"x")
    assert [path.name for path in registry.reserve()[1].iterdir()] == ["checkpoints"]
    assert last_checkpoint(folder / "checkpoints" / "k") is None


def test_damaged_query_sides_say_so(base, tmp_path):
    with pytest.raises(CorruptStore, match=r"query_side\.json"):
        query_encoder(tmp_path, base)
    (tmp_path / "query_side.json").write_text(
        json.dumps({"kind": "adapter", "passages": base.fingerprint}), encoding="utf-8"
    )
    (tmp_path / "query_adapter.npz").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(CorruptStore, match=r"query_adapter\.npz"):
        query_encoder(tmp_path, base)
    (tmp_path / "query_side.json").write_text(
        json.dumps({"kind": "adapter", "passages": "other"}), encoding="utf-8"
    )
    with pytest.raises(IndexMismatch, match="other passage vectors"):
        query_encoder(tmp_path, base)


def test_an_identity_adapter_changes_nothing(base):
    size = base.dim
    same = QueryAdapter(np.eye(size, dtype=np.float32), np.eye(size, dtype=np.float32))
    query = base.query("a fox")
    np.testing.assert_allclose(same.map(query).dense, query.dense, atol=1e-6)
    np.testing.assert_allclose(same.map(query).tokens, query.tokens, atol=1e-6)


@pytest.mark.parametrize("loss", sorted(LISTS))
def test_lists_hold_all_positives_of_a_query_once(loss):
    rows, texts = select_rows(EXAMPLES, known, sorted(TEXTS), hyper(loss=loss))
    assert [row.query for row in rows] == list(WORDS.values())
    for row in rows:
        positives = [e for e in EXAMPLES if e.query == row.query]
        assert row.passages[:2] == [e.positive for e in positives]
        assert row.positives == 2
        assert row.grades == [2 / 3, 2 / 3, 0.0, 0.0]
        assert row.weight == pytest.approx(0.85)
        assert row.label == [row.weight, 2, *row.grades, 1.0, 1.0, 1.0, 1.0]
        assert len(set(row.passages)) == 4
        assert set(row.passages) <= set(texts)


def test_topic_batches_hold_one_topic_and_all_margins():
    rng = np.random.default_rng(0)
    topics = np.repeat([0, 1, 2], [40, 40, 43])
    margins = rng.random(123).astype(np.float32)
    sampler = TopicBatchSampler(
        list(range(123)), topics=topics, margins=margins, batch_size=10, drop_last=False
    )
    batches = list(sampler)
    assert len(batches) == len(sampler)
    assert sorted(row for batch in batches for row in batch) == list(range(123))
    full = [batch for batch in batches if len(batch) == 10]
    assert all(len(set(topics[batch])) == 1 for batch in full)
    # A batch of ten takes from ten bins while all bins of its topic last.
    spread = [np.ptp(margins[batch]) for batch in full]
    assert np.mean(spread) > 0.7
    sampler.set_epoch(1)
    assert list(sampler) != batches


def test_clusters_are_found():
    rng = np.random.default_rng(0)
    centres = np.eye(3, 8)
    true = np.array([n % 3 for n in range(60)])
    vectors = centres[true] + 0.05 * rng.standard_normal((60, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = cluster(vectors.astype(np.float32), 3, seed=1)
    assert all(len(set(found[true == n])) == 1 for n in range(3))


def test_nothing_usable_is_said_before_anything_is_written(base, tmp_path):
    gone = [Example("g", "q", "gone", (), 1.0)]
    with pytest.raises(ConfigError, match="no training example refers to this corpus"):
        train(base, gone, known, sorted(TEXTS), tmp_path, HYPER)
    assert list(tmp_path.iterdir()) == []
