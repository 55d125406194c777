"""A stand-in for the encoder, for corpora that would take days to encode on a laptop.

Its passages are spliced from two real ones, the first half of one and the second of the other, and
so are their vectors: those that the real encoder gave the two, with noise. Everything else, from
cutting to publishing, is the product's own. A passage's title names what it was spliced from.
"""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from retrail.core.documents import Document
from retrail.core.settings import Settings
from retrail.retrievers import Encoded, Index
from retrail.retrievers.reading import Reading

TOKEN_DIM = 64
_NOISE = 0.05
"""Standard deviation in each of 64 dimensions: a cosine of 0.93 to the vector before."""
_QUERY_TOKENS = 16
_QUERY_WORDS = 8

Vectors = NDArray[np.float32]


class StandIn:
    """Answers for an encoder with stored vectors and noise; seeded by the text alone."""

    name = "stand-in"
    fingerprint = "57a4d14e57a4d14e"
    id = "stand-in@57a4d14e"
    batch_size = 32
    multi_vector = True
    reading = Reading()
    precision = "float32"

    def __init__(self, source: Path, settings: Settings, folder: Path) -> None:
        """Take texts and vectors of a workspace, keeping the vectors' first dimensions aside."""
        index = Index(source, settings)
        snapshot = index.snapshot()
        self.layout = snapshot.layout
        self.tokens = _first_dimensions(snapshot, folder / "stand_in.npy")
        self.vectors = snapshot._dense_vectors[self.layout.rows]
        ids = self.layout.ids.tolist()
        found = index.corpus.passages(ids)
        self.texts = [found[row].text for row in ids]
        index.close()
        self.dim = self.vectors.shape[1]
        self._noise = np.random.default_rng(0).normal(0, _NOISE, 1 << 22).astype(np.float32)

    def passages(self, count: int) -> Iterator[Document]:
        """Yield documents of one passage each, always the same."""
        for n in range(count):
            a, b = np.random.default_rng(n).integers(len(self.texts), size=2)
            first, second = self.texts[a].split(), self.texts[b].split()
            words = first[: len(first) // 2] + second[len(second) // 2 :]
            title = f"{a} {b} {n}"
            yield Document(
                id=f"p{n}", title=title, text=" ".join(words), metadata={"group": n % 100}
            )

    def questions(self, count: int) -> list[str]:
        """Return queries: a few words from a passage's middle."""
        draw = random.Random(1)
        found: list[str] = []
        while len(found) < count:
            a = draw.randrange(len(self.texts))
            words = self.texts[a].split()[:_QUERY_WORDS]
            if len(words) == _QUERY_WORDS:
                found.append(f"{' '.join(words)}\n{a}")
        return found

    def query(self, text: str) -> Encoded:
        """Return some token vectors of the passage that a query was taken from, with noise."""
        if "\n" not in text:  # the index asks for the dimension
            return Encoded(self.vectors[0], self._of(0))
        a = int(text.rpartition("\n")[2])
        tokens = self._noisy(self._of(a)[:_QUERY_TOKENS], a)
        return Encoded(self._noisy(self.vectors[a][None], a)[0], tokens)

    def cuts(self, text: str) -> bool:
        """Nothing is read, so nothing is cut."""
        return False

    def documents(self, texts: Sequence[str]) -> Iterator[tuple[int, Encoded]]:
        """Splice vectors as the texts were."""
        for at, text in enumerate(texts):
            a, b, seed = map(int, text.partition("\n")[0].split())
            first, second = self._of(a), self._of(b)
            tokens = np.concatenate([first[: len(first) // 2], second[len(second) // 2 :]])
            dense = (self.vectors[a] + self.vectors[b])[None]
            yield at, Encoded(self._noisy(_unit(dense), seed)[0], self._noisy(tokens, seed))

    def _of(self, n: int) -> Vectors:
        start = self.layout.offsets[n]
        return self.tokens[start : start + self.layout.lengths[n]].astype(np.float32)

    def _noisy(self, vectors: Vectors, seed: int) -> Vectors:
        start = seed * 7919 % (len(self._noise) - vectors.size)
        noise = self._noise[start : start + vectors.size].reshape(vectors.shape)
        scale = (TOKEN_DIM / vectors.shape[1]) ** 0.5
        return _unit(np.asarray(vectors + noise * scale, np.float32))


def _first_dimensions(snapshot: object, path: Path) -> NDArray[np.float16]:
    """Map the leading axes of the stored token vectors, written once."""
    if not path.exists():
        files = snapshot._files  # type: ignore[attr-defined]
        stored = files.tokens(files.late_dim)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.concatenate([
            _unit(part[:, :TOKEN_DIM].astype(np.float32)).astype(np.float16)
            for part in np.array_split(stored, 50)
        ]))  # fmt: skip
    return np.load(path, mmap_mode="r")


def _unit(vectors: Vectors) -> Vectors:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(norms, 1e-12)
