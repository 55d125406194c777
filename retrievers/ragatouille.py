"""Late interaction end to end with RAGatouille: a ColBERT checkpoint and a PLAID index in a folder.

Our passage ids are its document ids. Whatever writes runs in a child process on a copy of the
folder, which then takes the folder's place: a failure or an impatient user leaves the index as it
was. Searching happens here, one query at a time. Scores are MaxSim over vectors as PLAID stores
them, compressed; all passages of a small set are scored, a large set is filtered in the engine.
"""

import glob
import hashlib
import json
import shutil
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, NamedTuple

from filelock import FileLock, Timeout

from ..core.batches import batched
from ..core.errors import ConfigError, CorruptStore, IndexMismatch, WorkspaceLocked
from .encoder import Vectors
from .ragatouille_process import Operation, run
from .ragatouille_worker import open_model

if TYPE_CHECKING:
    from langchain_core.retrievers import BaseRetriever

EXHAUSTIVE = 1000
"""Sets of up to this many passages are scored whole: about 50 ms for the largest."""

_CHUNK = 250
"""Passages decompressed at once."""

_SHORTEST_QUERY = 32
"""Tokens that ColBERT fills a shorter query up to."""


class Passage(NamedTuple):
    """What is indexed."""

    id: str
    text: str


class Match(NamedTuple):
    """A passage with its score, which is comparable within one query."""

    id: str
    score: float


class RagatouilleEngine:
    """A PLAID index of passages; create it with :meth:`build` or :meth:`open`. Safe for threads."""

    def __init__(self, folder: Path, model: str, max_tokens: int) -> None:
        """Load what a folder holds; see :meth:`open`."""
        self.folder = folder
        self.model = model
        self.max_tokens = max_tokens
        self._lock = threading.RLock()
        self._load()

    @classmethod
    def build(
        cls,
        folder: Path,
        model: str | Path,
        passages: Sequence[Passage],
        *,
        max_tokens: int = 256,
        timeout: float | None = None,
    ) -> "RagatouilleEngine":
        """Index passages in a new folder.

        Args:
            folder: Must not exist.
            model: Folder or name of a ColBERT checkpoint.
            passages: Passages with different ids.
            max_tokens: Tokens of a passage that are read.
            timeout: Seconds after which indexing is given up; None allows for a slow machine.

        Raises:
            ConfigError: The folder exists, the model is none, or ids are repeated or empty.
            BackendUnavailable: RAGatouille or a C++ compiler is missing, fails or takes too long.
        """
        _check_ids(passages, taken=())
        name = _checked_model(model)
        settings = {
            "schema_version": 1,
            "model": name,
            "max_tokens": max_tokens,
            "weights": _weights(name),
        }
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _writing(folder), _Replacement(folder) as part:
            if folder.exists():
                raise ConfigError(f"{str(folder)!r} exists", fix="choose a new folder, or open it")
            part.mkdir()
            (part / "engine.json").write_text(json.dumps(settings), encoding="utf-8")
            if passages:
                job = {"model": name, "max_tokens": max_tokens, "passages": passages}
                _run("build", part, job, timeout, len(passages))
        return cls(folder, name, max_tokens)

    @classmethod
    def open(cls, folder: Path, model: str | Path | None = None) -> "RagatouilleEngine":
        """Open an index.

        Args:
            folder: What :meth:`build` made, here or elsewhere.
            model: Where the checkpoint lies now, if it was moved.

        Raises:
            ConfigError: The checkpoint is not there.
            CorruptStore: The folder holds no whole index.
            IndexMismatch: The checkpoint's weights are others than those that it was built with.
            BackendUnavailable: RAGatouille or a C++ compiler is missing.
        """
        if not folder.exists() and _left(folder, "old"):
            with _writing(folder):  # takes back what a killed process had moved away
                pass
        try:
            settings = json.loads((folder / "engine.json").read_text(encoding="utf-8"))
            name, max_tokens = str(settings["model"]), int(settings["max_tokens"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorruptStore(f"{str(folder)!r} holds no index", fix="build it again") from error
        checkpoint = _checked_model(model or name)
        built, found = settings.get("weights"), _weights(checkpoint)
        if built and found and built != found:
            raise IndexMismatch(
                f"the weights of {checkpoint!r} changed since {str(folder)!r} was built",
                expected=built,
                found=found,
                mend="build it again: retrail doctor --rebuild for a workspace",
            )
        return cls(folder, checkpoint, max_tokens)

    def __len__(self) -> int:
        """Return the number of passages."""
        return len(self._numbers)

    def __contains__(self, passage_id: object) -> bool:
        """Say whether a passage is indexed."""
        return passage_id in self._numbers

    def search(self, query: str, k: int = 10, within: Collection[str] | None = None) -> list[Match]:
        """Rank passages.

        Args:
            query: Its first tokens count, up to ``max_tokens``.
            k: Passages to return; fewer only where there are fewer.
            within: Ids of the admitted passages; ids that are not indexed are none.

        Returns:
            Best first; equal scores in the order of indexing.
        """
        with self._lock:
            admitted = self._admitted(within)
            if not admitted or not query.strip() or k < 1:
                return []
            vectors = self._query(query)
            if len(admitted) <= EXHAUSTIVE:
                ranked = self._score_all(vectors, admitted)
            else:
                ranked = self._probe(vectors, k, None if within is None else admitted)
                if len(ranked) < min(k, len(admitted)):
                    ranked = self._score_all(vectors, admitted)
            return [Match(self._ids[pid], score) for pid, score in ranked[:k]]

    def rerank(self, query: str, texts: Sequence[str]) -> list[tuple[int, float]]:
        """Rank texts that need not be indexed; returns ``(position, score)``, best first."""
        if not texts or not query.strip():
            return []
        with self._lock:
            self._check_model()
            found: Any = self._ragatouille.rerank(query, list(texts), k=len(texts))
        return [(int(each["result_index"]), float(each["score"])) for each in found]

    def encode(self, texts: Sequence[str]) -> list[Vectors]:
        """Return the token vectors of passages, each of shape ``(tokens, dim)``."""
        with self._lock:
            self._check_model()
            matrices: Any = self._searcher.checkpoint.docFromText(
                list(texts), bsize=32, keep_dims=False
            )[0]
        return [matrix.float().cpu().numpy() for matrix in matrices]

    def encode_query(self, query: str) -> Vectors:
        """Return the token vectors of a query, shape ``(tokens, dim)``; unused rows are zero."""
        with self._lock:
            self._check_model()
            return self._query(query)[0].float().cpu().numpy()

    def add(self, passages: Sequence[Passage], *, timeout: float | None = None) -> None:
        """Index more passages.

        Raises:
            ConfigError: An id is repeated, empty or indexed already.
            BackendUnavailable: It failed or took too long; the index is as it was.
        """
        if not passages:
            return
        _check_ids(passages, taken=self._numbers)
        operation = "add" if self._numbers else "build"
        job = {"model": self.model, "max_tokens": self.max_tokens, "passages": passages}
        self._change(operation, job, timeout, len(self) + len(passages))

    def delete(self, ids: Collection[str], *, timeout: float | None = None) -> None:
        """Remove passages.

        Raises:
            ConfigError: An id is not indexed.
            BackendUnavailable: It failed or took too long; the index is as it was.
        """
        unknown = [each for each in ids if each not in self]
        if unknown:
            raise ConfigError(f"{unknown[0]!r} is not indexed", fix="delete only what is there")
        if ids:
            whole = len(set(ids)) == len(self)
            job = {"model": self.model, "ids": list(ids)}
            self._change(None if whole else "delete", job, timeout, len(ids))

    def as_retriever(self, k: int = 10) -> "BaseRetriever":
        """Return a LangChain retriever; ids and scores are in the documents' metadata."""
        from .ragatouille_langchain import EngineRetriever

        return EngineRetriever(search=self.search, text=self.text, k=k)

    def text(self, passage_id: str) -> str:
        """Return the text of an indexed passage."""
        return str(self._texts[self._numbers[passage_id]])

    def _check_model(self) -> None:
        if not self._ids:
            raise ConfigError("the index is empty and has no model", fix="add passages first")

    def _load(self) -> None:
        """Read the index anew: a searcher that is open does not see later changes."""
        self._ids: dict[int, str] = {}
        self._texts: Sequence[str] = ()
        if (self.folder / "colbert").exists():
            self._ragatouille = open_model(self.folder, self.model)
            colbert = self._ragatouille.model
            colbert.base_model_max_tokens = min(colbert.base_model_max_tokens, self.max_tokens)
            colbert.model_index._load_searcher(self.model, colbert.collection, colbert.index_name)
            # It stays entered otherwise, for every other engine of this process.
            colbert.run_context.__exit__(None, None, None)
            self._searcher = colbert.model_index.searcher
            self._texts = colbert.collection
            self._ids = {
                pid: passage_id
                for pid, passage_id in colbert.pid_docid_map.items()
                if passage_id is not None
            }
        self._numbers = {passage_id: pid for pid, passage_id in self._ids.items()}

    def _change(
        self, operation: Operation | None, job: Mapping[str, Any], timeout: float | None, size: int
    ) -> None:
        with self._lock, _writing(self.folder):
            with _Replacement(self.folder) as part:
                shutil.copytree(self.folder, part)
                if operation in (None, "build"):
                    shutil.rmtree(part / "colbert", ignore_errors=True)
                if operation is not None:
                    _run(operation, part, job, timeout, size)
            self._load()

    def _admitted(self, within: Collection[str] | None) -> list[int]:
        if within is None:
            return list(self._ids)
        return sorted({self._numbers[each] for each in within if each in self._numbers})

    def _query(self, query: str) -> Any:
        """Encode a query at its own length; shape ``(1, tokens, dim)``."""
        checkpoint = self._searcher.checkpoint
        tokens = len(checkpoint.query_tokenizer.tok(query, truncation=False)["input_ids"]) + 1
        longest = self._ragatouille.model.base_model_max_tokens
        self._searcher.config.query_maxlen = min(max(tokens, _SHORTEST_QUERY), longest)
        return self._searcher.encode(query)

    def _score_all(self, vectors: Any, admitted: Sequence[int]) -> list[tuple[int, float]]:
        pairs: list[tuple[int, float]] = []
        for chunk in batched(admitted, _CHUNK):
            pairs += self._rank(vectors, pids=list(chunk))
        return _sorted(pairs)

    def _probe(
        self, vectors: Any, k: int, admitted: Sequence[int] | None
    ) -> list[tuple[int, float]]:
        import torch

        self._searcher.config.ndocs = max(1024, 4 * k)
        if admitted is None:
            return _sorted(self._rank(vectors))
        wanted = torch.tensor(admitted)
        return _sorted(self._rank(vectors, filter_fn=lambda pids: pids[torch.isin(pids, wanted)]))

    def _rank(self, vectors: Any, **restriction: Any) -> list[tuple[int, float]]:
        pids, scores = self._searcher.ranker.rank(self._searcher.config, vectors, **restriction)
        return list(zip(pids, scores, strict=True))


def _left(folder: Path, kind: str) -> list[Path]:
    return list(folder.parent.glob(f"{glob.escape(folder.name)}.????????.{kind}"))


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Let one process at a time replace a folder; take back what a killed one had moved away."""
    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise WorkspaceLocked(
            f"another process is writing to {str(folder)!r}",
            fix="wait until it is done, or stop it, and try again",
        ) from error
    try:
        for old in _left(folder, "old"):
            if folder.exists():
                shutil.rmtree(old, ignore_errors=True)
            else:
                old.rename(folder)
        for part in _left(folder, "part"):
            shutil.rmtree(part, ignore_errors=True)
        yield
    finally:
        lock.release()


class _Replacement:
    """A folder that takes another's place when all went well, and is deleted otherwise."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.part = folder.with_name(f"{folder.name}.{token_hex(4)}.part")

    def __enter__(self) -> Path:
        return self.part

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            old = self.part.with_suffix(".old")
            if self.folder.exists():
                self.folder.rename(old)
            self.part.rename(self.folder)
            shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(self.part, ignore_errors=True)


def _run(
    operation: Operation, part: Path, job: Mapping[str, Any], timeout: float | None, size: int
) -> None:
    from .ragatouille_extensions import load_extensions
    from .ragatouille_mends import load

    # Here, so that what is missing is said by name and compiling has a time limit of its own.
    load()
    load_extensions()
    run(operation, {"folder": str(part), **job}, timeout or 600.0 + 2.0 * size)


def _sorted(pairs: list[tuple[int, float]]) -> list[tuple[int, float]]:
    return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))


def _check_ids(passages: Sequence[Passage], taken: Collection[str]) -> None:
    seen = set(taken)
    for passage_id, _ in passages:
        if not passage_id.strip() or passage_id in seen:
            raise ConfigError(
                f"{passage_id!r} is empty, repeated or indexed already",
                fix="give every passage an id of its own; delete before adding anew",
            )
        seen.add(passage_id)


def _checked_model(model: str | Path) -> str:
    """Refuse early what colbert-ai would answer by looking for another model on the network."""
    path = Path(model)
    if path.is_dir() and (path / "config.json").is_file():
        return str(path.resolve())
    if path.exists() or path.is_absolute():
        raise ConfigError(
            f"{str(model)!r} is no ColBERT checkpoint", fix="give the folder or name of one"
        )
    return str(model)


def _weights(model: str) -> str:
    """Return a hash of a checkpoint's weights; empty for a name, whose files are not at hand."""
    digest = hashlib.blake2b(digest_size=8)
    files = [f for kind in ("*.safetensors", "*.bin") for f in sorted(Path(model).glob(kind))]
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest() if files else ""
