"""evaluate: a dataset in, a folder of results out.

Each stage leaves its file whole before the next begins, runs of the agent one a line, so that an
evaluation that was killed goes on where it was. All figures are computed from those files.
"""

import platform
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from langchain_core.language_models import BaseChatModel

from ..agents.run import Planner
from ..agents.workspace import Workspace
from ..core.documents import utc_now
from ..core.errors import ConfigError
from ..core.metrics import per_query
from ..core.trajectories import Trajectory
from ..memory.formats.browsecomp import to_browsecomp_plus
from ..memory.formats.naming import file_names
from ..memory.formats.trec import rank_documents
from ..retrievers.progress import Progress, quiet
from .agent_metrics import measure_run
from .corpus import add_corpus
from .datasets import Dataset, Query, load_dataset
from .folder import ResultsFolder
from .plan import METRICS, RETRIEVERS, Plan, make_plan
from .report import Evidence, render_report
from .results import AGENT, Configuration, Counts, QueryResult, Summary, summarise
from .running import ask_queries, search_queries

MOST_TYPES = 12
"""Types of questions that are told apart; more of them are no types."""

_PACKAGES = (
    *("chromadb", "ir-measures", "langchain-core", "langgraph", "numpy", "pytrec-eval-terrier"),
    *("sentence-transformers", "tantivy", "torch", "transformers"),
)


class Report(NamedTuple):
    """A finished evaluation."""

    folder: Path
    """Holds ``summary.json``, ``per_query.jsonl``, ``report.html``, runs and trajectories."""
    summary: Summary
    queries: list[QueryResult]


def evaluate(
    dataset: Dataset | str | Path,
    out: str | Path,
    *,
    workspace: Workspace | str | Path | None = None,
    by: Sequence[str] = RETRIEVERS,
    planner: str | Planner | None = "rules",
    model: str | BaseChatModel | None = None,
    split: str | None = None,
    metrics: Sequence[str] = METRICS,
    k: int = 100,
    limit: int | None = None,
    seed: int = 0,
    progress: Progress = quiet,
) -> Report:
    """Measure retrievers and an agent on a dataset in BEIR layout.

    Args:
        dataset: A folder, or what :func:`load_dataset` made of it.
        out: Folder of the results; one that holds a part of the same evaluation is completed.
        workspace: Is searched, and gets the corpus if it lacks it; made if there is none, and
            beside the results if not given.
        by: Retrievers.
        planner: Of the agent, or None to measure retrievers only.
        model: A chat model, which implies the planner ``llm``.
        split: Name of the judgements, if the folder has several.
        metrics: Measures under their names in ir_measures.
        k: Documents a retriever returns, and the agent's ranking keeps.
        limit: Queries at most, drawn with the seed.
        seed: Of that draw and of the intervals.
        progress: Is told what is being done.

    Raises:
        ConfigError: The dataset, the folder or an argument is not as it must be, or the folder
            holds an evaluation under another configuration.
    """
    plan = make_plan(by, planner, model, metrics, k, limit, seed)
    data = dataset if isinstance(dataset, Dataset) else load_dataset(dataset, split)
    queries = data.evaluated(limit, seed)
    if not queries:
        raise ConfigError(
            f"no query of {str(data.folder)!r} has a relevant document", fix="add judgements"
        )
    with ResultsFolder(Path(out)) as folder, _opened(workspace, folder) as opened:
        return _Evaluation(data, queries, plan, folder, opened, progress).run()


@dataclass(frozen=True)
class _Evaluation:
    data: Dataset
    queries: list[Query]
    plan: Plan
    folder: ResultsFolder
    workspace: Workspace
    progress: Progress

    def run(self) -> Report:
        notes = add_corpus(self.workspace, self.data, self.queries, self.progress)
        configuration = self._configuration()
        self.folder.settle(configuration)
        runs = {by: self._retrieve(by) for by in self.plan.by}
        trajectories = self._ask(self.plan.planner) if self.plan.planner is not None else {}
        if trajectories:
            runs[AGENT] = self._rank(trajectories)
        rows = self._rows(runs, trajectories)
        notes = [*self.data.notes, *notes, *_empty(runs, self.queries), *_failed(trajectories)]
        summary = self._summary(configuration, rows, notes)
        titles = self._titles(trajectories)
        evidence = Evidence(self.data.qrels, self.data.answers, runs, trajectories, titles)
        self.folder.write_rows("per_query.jsonl", rows)
        self.folder.write("report.html", render_report(summary, rows, evidence))
        self.folder.write("summary.json", summary)
        return Report(self.folder.root, summary, rows)

    def _retrieve(self, by: Any) -> dict[str, dict[str, float]]:
        found = search_queries(
            self.workspace, self.queries, by=by, k=self.plan.k, progress=self.progress
        )
        return self.folder.run(by, found)

    def _ask(self, planner: Planner) -> dict[str, Trajectory]:
        file = self.folder.trajectories()
        ask_queries(self.workspace, self.queries, planner, file, self.progress)
        found = {run.query_id or "": run for run in self.folder.read_trajectories()}
        names = file_names(found)
        for query_id, run in found.items():
            self.folder.write(f"browsecomp-plus/{names[query_id]}", to_browsecomp_plus(run))
        return {query.id: found[query.id] for query in self.queries}

    def _rank(self, trajectories: dict[str, Trajectory]) -> dict[str, dict[str, float]]:
        ranked = (
            (query_id, _scored(rank_documents(run)[: self.plan.k]))
            for query_id, run in trajectories.items()
        )
        self.folder.write_run(AGENT, ranked)
        return self.folder.run(AGENT, ())

    def _rows(
        self, runs: dict[str, dict[str, dict[str, float]]], trajectories: dict[str, Trajectory]
    ) -> list[QueryResult]:
        judged = {query.id: self.data.judgements[query.id] for query in self.queries}
        found = {system: per_query(judged, run, self.plan.metrics) for system, run in runs.items()}
        types = _types(self.queries)
        rows: list[QueryResult] = []
        for query in self.queries:
            values: dict[str, dict[str, float | None]] = {
                system: {metric: of[query.id] for metric, of in metrics.items()}
                for system, metrics in found.items()
            }
            run = trajectories.get(query.id)
            relevant, answers = self.data.qrels[query.id], self.data.answers.get(query.id, ())
            if run is not None:
                values[AGENT] |= measure_run(run, relevant, answers)
            rows.append(
                QueryResult(
                    query_id=query.id,
                    question=query.text,
                    type=query.type if query.type in types else None,
                    relevant=len(relevant),
                    status=run.status if run is not None else None,
                    values=values,
                )
            )
        return rows

    def _summary(
        self, configuration: Configuration, rows: list[QueryResult], notes: list[str]
    ) -> Summary:
        documents, passages = self.workspace.index.corpus.counts(configuration.generation)
        types = sorted({row.type for row in rows if row.type is not None})
        of_type = {name: [row for row in rows if row.type == name] for name in types}
        statuses = Counter(row.status for row in rows if row.status is not None)
        return Summary(
            created_at=utc_now(),
            configuration=configuration,
            counts=Counts(
                documents=documents,
                passages=passages,
                queries=len(self.data.queries),
                judged=len(self.data.qrels),
                evaluated=len(rows),
            ),
            metrics=summarise(rows, seed=self.plan.seed),
            by_type={name: summarise(part, seed=self.plan.seed) for name, part in of_type.items()},
            statuses=dict(sorted(statuses.items())),
            versions=_versions(),
            notes=notes,
        )

    def _configuration(self) -> Configuration:
        published = self.workspace.index.published
        planner = self.plan.planner
        return Configuration(
            dataset=self.data.folder.resolve().name,
            split=self.data.split,
            files=self.data.fingerprint(),
            by=self.plan.by,
            planner=planner.name if planner is not None else None,
            model=planner.model if planner is not None else None,
            metrics=self.plan.metrics,
            k=self.plan.k,
            limit=self.plan.limit,
            seed=self.plan.seed,
            encoder=published.id,
            generation=published.number,
            settings=self.workspace.settings.model_dump(mode="json"),
            retrail=version("retrail"),
        )

    def _titles(self, trajectories: dict[str, Trajectory]) -> dict[str, str]:
        ids = {doc_id for run in trajectories.values() for doc_id in run.retrieved()}
        ids |= {doc_id for query in self.queries for doc_id in self.data.qrels[query.id]}
        index = self.workspace.index
        rows = index.corpus.metadata_of(None, index.generation, sorted(ids))
        return {doc_id: title for doc_id, title, _ in rows}


@contextmanager
def _opened(workspace: Workspace | str | Path | None, folder: ResultsFolder) -> Iterator[Workspace]:
    if isinstance(workspace, Workspace):
        yield workspace
        return
    with Workspace.create(workspace or folder.root / "workspace") as opened:
        yield opened


def _scored(ranked: list[str]) -> list[tuple[str, float]]:
    """Give a ranking scores that fall by one, since readers of TREC runs sort by score."""
    return [(doc_id, float(len(ranked) - i)) for i, doc_id in enumerate(ranked)]


def _types(queries: Sequence[Query]) -> set[str]:
    """Return the types of questions, if there are a few of them."""
    found = {query.type for query in queries if query.type is not None}
    return found if 2 <= len(found) <= MOST_TYPES else set()


def _empty(runs: dict[str, dict[str, dict[str, float]]], queries: Sequence[Query]) -> list[str]:
    counts = {system: sum(query.id not in run for query in queries) for system, run in runs.items()}
    return [
        f"{system} found nothing for {count} queries: they count as zero"
        for system, count in counts.items()
        if count
    ]


def _failed(trajectories: dict[str, Trajectory]) -> list[str]:
    failed = [run for run in trajectories.values() if run.status == "failed"]
    first = (failed[0].model_extra or {}).get("error") if failed else None
    note = f"{len(failed)} runs of the agent failed and count with what they had found; the same "
    return [f"{note}command runs them again (the first: {first})"] if failed else []


def _versions() -> dict[str, str]:
    found = {"retrail": version("retrail"), "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "?"
    return found
