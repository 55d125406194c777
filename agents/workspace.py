"""Workspace: a directory with an index, its trajectories, its models and its settings.

The front object of the library. Everything is opened when first used: a keyword search loads no
model, a search loads no planner, and nothing here loads training code before ``learn``.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from langchain_core.language_models import BaseChatModel

from ..core.documents import Document, Hit
from ..core.errors import ConfigError, CorruptStore, WorkspaceNotFound
from ..core.settings import Budget, Diversify, check_settings, load_settings, save_settings
from ..core.trajectories import Step, Trajectory
from ..retrievers.index import AddReport, FilterSource, Retriever
from ..retrievers.progress import Progress, quiet
from ..retrievers.readers import ReadReport, read_paths
from ..retrievers.snapshot import By
from .doors import Doors
from .graph import Graph, build_graph, execute
from .live import Live
from .llm import chat_model
from .run import Planner, Run

if TYPE_CHECKING:
    from ..retrievers.training.learn import LearnReport
    from ..retrievers.training.registry import Card
    from ..retrievers.training.swap import SettleReport, Swap
    from .flywheel import Flywheel

DEFAULT_PATH = Path(".retrail")


class Added(NamedTuple):
    """What an add did, and what could not be read."""

    changes: AddReport
    reading: ReadReport


class Workspace(Doors):
    """One workspace directory, opened; use :meth:`open` or :meth:`create`."""

    @classmethod
    def open(cls, path: str | Path = DEFAULT_PATH) -> Self:
        """Open an existing workspace.

        Raises:
            WorkspaceNotFound: There is none.
            ConfigError: Its settings are malformed.
        """
        root = Path(path)
        if not (root / "corpus.db").exists() and not (root / "trajectories.db").exists():
            raise WorkspaceNotFound(
                f"there is no workspace at {str(root)!r}",
                fix="retrail add PATH… makes one, or name another with --workspace",
            )
        return cls(root, load_settings(root / "settings.toml"))

    @classmethod
    def create(cls, path: str | Path = DEFAULT_PATH, **settings: Any) -> Self:
        """Open a workspace, making it first if it does not exist.

        Args:
            path: The directory.
            settings: Fields of :class:`Settings` for a new workspace; for an existing one they
                must be what it has.
        """
        root = Path(path)
        existing = (root / "settings.toml").exists()
        found = load_settings(root / "settings.toml")
        wanted = check_settings(found.model_dump() | settings)
        if existing and wanted != found:
            raise ConfigError(
                f"{str(root)!r} exists with other settings", fix="edit its settings.toml"
            )
        if not existing:
            try:
                root.mkdir(parents=True, exist_ok=True)
                save_settings(wanted, root / "settings.toml")
            except OSError as error:
                raise ConfigError(
                    f"cannot make a workspace at {str(root)!r}: {error.strerror}",
                    fix="name a directory that can be written",
                ) from error
        return cls(root, wanted)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Release all files."""
        for name in ("index", "trajectories"):
            if name in self.__dict__:
                self.__dict__.pop(name).close()

    # --- documents

    def add(
        self,
        *sources: str | Path | Document,
        sync: bool = False,
        progress: Progress = quiet,
    ) -> Added:
        """Add files, folders or documents; what is unchanged costs nothing.

        Args:
            sources: Paths of files and folders, or documents.
            sync: Also remove documents that came from these paths before and are gone.
            progress: Is told what is being done.
        """
        documents = [s for s in sources if isinstance(s, Document)]
        paths = [Path(s) for s in sources if not isinstance(s, Document)]
        report = ReadReport()
        limit = self.settings.max_document_mb * 1_000_000

        def read() -> Iterator[Document]:
            yield from documents
            if paths:
                yield from read_paths(paths, report, max_bytes=limit)

        source = "|".join(sorted(str(path.resolve()) for path in paths)) or None
        added = self.index.add(read(), source=source, sync=sync, progress=progress)
        return Added(added, report)

    def remove(self, *doc_ids: str, progress: Progress = quiet) -> int:
        """Remove documents by id; returns how many there were."""
        return self.index.remove(doc_ids, progress=progress)

    # --- searching

    def search(
        self,
        query: str,
        *,
        by: Retriever = "hybrid",
        k: int = 10,
        where: FilterSource = None,
        rank_by: By = "hybrid",
        order_by: str | None = None,
        diversify: Diversify | None = None,
        diversify_lambda: float | None = None,
        expand: int | None = None,
    ) -> list[Hit]:
        """Find the k best documents; see :meth:`Index.search`."""
        return self.index.search(
            query,
            by=by,
            k=k,
            where=where,
            rank_by=rank_by,
            order_by=order_by,
            diversify=diversify,
            diversify_lambda=diversify_lambda,
            expand=expand,
        )

    async def asearch(self, query: str, **options: Any) -> list[Hit]:
        """Search without blocking the event loop."""
        return await asyncio.to_thread(self.search, query, **options)

    # --- asking

    def ask(
        self,
        question: str,
        *,
        planner: str | Planner = "rules",
        model: str | BaseChatModel | None = None,
        budget: Budget | None = None,
        record: bool | None = None,
        recall: bool = True,
        query_id: str | None = None,
        caller: str | None = None,
        on_start: Callable[[str], None] | None = None,
        on_step: Callable[[Step], None] | None = None,
    ) -> Trajectory:
        """Answer a question with an agent and return its whole trajectory.

        Args:
            question: In words.
            planner: ``rules`` (offline), ``llm``, or a planner object.
            model: A chat model, or ``provider:name``; implies ``llm``.
            budget: Limits of this run; the workspace's if not given.
            record: Keep the trajectory; the workspace's setting if not given.
            recall: Look at earlier runs of the same question.
            query_id: Kept with the trajectory.
            caller: On whose behalf, kept with the trajectory.
            on_start: Is told the trajectory's id before anything happens.
            on_step: Is told of each step as it happens.

        Raises:
            ConfigError: The question is empty, or the planner or model does not exist.
        """
        run = self.begin(
            question,
            planner=planner,
            model=model,
            budget=budget,
            record=record,
            recall=recall,
            query_id=query_id,
            caller=caller,
            on_step=on_step,
        )
        if on_start is not None:
            on_start(run.id)
        graph, live = self._agent
        return execute(graph, live, run)

    async def aask(self, question: str, **options: Any) -> Trajectory:
        """Answer a question without blocking the event loop."""
        return await asyncio.to_thread(self.ask, question, **options)

    # --- learning

    def learn(
        self,
        *,
        retriever: str | None = None,
        trajectories: Iterable[Trajectory] | None = None,
        model: str | BaseChatModel | None = None,
        progress: Progress = quiet,
        **options: Any,
    ) -> "LearnReport":
        """Learn from the recorded trajectories; see :func:`training.learn.learn`.

        Args:
            retriever: Whose scores to train, ``dense``, ``late`` or ``both``; as ``hyper`` says
                if not given.
            trajectories: Runs to learn from; all recorded ones if not given.
            progress: Is told what is being done.
            model: A chat model, or ``provider:name``, that reads what agents thought, and writes
                queries if ``mining`` wants some; implies the judge ``llm``.
            options: ``hyper``, ``swap``, ``accept_equal``, ``mining``, ``judge``.
        """
        from ..retrievers.training.hyper import aimed
        from ..retrievers.training.learn import learn

        if retriever is not None:
            options["hyper"] = aimed(options.get("hyper"), retriever)
        runs = self.trajectories.iterate() if trajectories is None else trajectories
        if model is not None:
            options = {"judge": "llm"} | options
            options["chat"] = chat_model(model) if isinstance(model, str) else model
        code = version("retrail")
        return learn(self.index, runs, code_version=code, progress=progress, **options)

    def models(self) -> "list[Card]":
        """Return every trained version with its lineage, oldest first."""
        from ..retrievers.training.registry import Registry

        return Registry(self.root).cards()

    def promote(self, number: int, *, swap: "Swap" = "reindex", progress: Progress = quiet) -> int:
        """Serve a trained version, whatever the gate said; 0 is the encoder of the settings.

        Args:
            number: The version. One that encodes queries only serves at once.
            swap: ``reindex`` encodes the passages with a whole model first; ``now`` serves it at
                once over the passages as they are, until it is settled.
            progress: Is told about encoding and building.
        """
        from ..retrievers.training.registry import Registry
        from ..retrievers.training.swap import pair_of

        if not number:
            return self._serve(self.settings.encoder, "", progress)
        card = Registry(self.root).servable(number)
        return self._serve(*pair_of(self.index, card, swap), progress)

    def settle(
        self, number: int | None = None, *, force: bool = False, progress: Progress = quiet
    ) -> "SettleReport":
        """Encode the passages with a whole model that serves by drift compensation; see ``swap``.

        Args:
            number: A version; by default the one that serves.
            force: Serve it whatever the gate says.
            progress: Is told about encoding and measuring.
        """
        from ..retrievers.training.swap import settle

        return settle(self.index, number, force=force, progress=progress)

    def rollback(self, *, progress: Progress = quiet) -> int:
        """Serve what served before: the pair of the passages' encoder and the query side."""
        published = self.index.published
        sql = """SELECT encoder, query FROM generations WHERE (encoder, query) != (?, ?)
            ORDER BY number DESC LIMIT 1"""
        rows = self.index.corpus.rows(sql, (published.encoder, published.query))
        if not rows:
            raise ConfigError("no other encoder has served", fix="there is nothing to go back to")
        (encoder, query), *_ = rows
        return self._serve(encoder, query, progress)

    def prune(self, keep: int = 5) -> list[int]:
        """Delete the weights of old versions; what serves and what a rollback needs stay.

        Args:
            keep: Newest versions that stay whatever serves.

        Returns:
            The versions that lost their weights; their cards and reports stay.

        Raises:
            WorkspaceLocked: Another process is writing.
        """
        from ..retrievers.training.registry import Registry

        sql = """SELECT encoder, query FROM generations GROUP BY encoder, query
            ORDER BY max(number) DESC LIMIT 2"""
        with self.index.locked():
            used = {name for pair in self.index.corpus.rows(sql, ()) for name in pair}
            return Registry(self.root).prune(keep, used)

    def flywheel(
        self,
        *,
        learning: Mapping[str, Any] | None = None,
        progress: Progress = quiet,
        **options: Any,
    ) -> "Flywheel":
        """Return what learns in rounds from the runs that are recorded; see ``Flywheel``.

        Args:
            learning: Arguments of ``learn`` for every round.
            progress: Is told what a round is doing.
            options: Fields of ``FlywheelOptions``, such as ``every=50``: the finished runs that
                make a round due.

        Raises:
            ConfigError: An option is unknown or out of range.
        """
        from .flywheel import Flywheel, check_options

        return Flywheel(self, check_options(options), learning=learning, progress=progress)

    # --- state

    def status(self) -> dict[str, Any]:
        """Return sizes, counts, generation and versions."""
        published = self.index.corpus.published()
        documents, passages = self.index.corpus.counts(published.number) if published else (0, 0)
        return {
            "workspace": str(self.root),
            "documents": documents,
            "passages": passages,
            "cut": self._cut() if published else 0,
            "generation": published.number if published else 0,
            "encoder": published.encoder if published else self.settings.encoder,
            "query": published.query if published and published.query else None,
            "fingerprint": published.fingerprint if published else None,
            "trajectories": self.trajectories.count(),
            "models": len(self.models()),
            "bytes": {
                entry.name: _size(entry)
                for entry in sorted(self.root.iterdir())
                if entry.name != "write.lock"
            },
        }

    def _cut(self) -> int | None:
        try:
            return self.index.cut_passages()
        except CorruptStore:  # which searching and doctor tell
            return None

    def _serve(self, encoder: str, query: str, progress: Progress) -> int:
        published = self.index.published
        if (encoder, query) == (published.encoder, published.query):
            raise ConfigError(f"{published.serving!r} serves already", fix="nothing to do")
        return self.index.serve(encoder, query, progress=progress)

    @cached_property
    def _agent(self) -> tuple[Graph, Live[Run]]:
        """One graph for all that is asked, and its runs, which are begun before it is entered."""
        live = Live[Run]()
        return build_graph(lambda question, known, _: self.begin(question), live), live


def _size(path: Path) -> int:
    return sum(p.stat().st_size for p in (path, *path.rglob("*")) if p.is_file())
