"""Running retrievers and an agent over the queries of a dataset, nothing measured yet.

Runs of an evaluation are neither recorded in the workspace nor helped by earlier ones: a question
that is measured must not teach, or be answered from memory.
"""

from collections.abc import Iterator, Sequence

from ulid import ULID

from ..agents.run import Planner
from ..agents.workspace import Workspace
from ..core.documents import utc_now
from ..core.errors import RetrailError
from ..core.failures import ends_all
from ..core.trajectories import AgentInfo, Step, Trajectory, Usage
from ..memory.run_file import RunFile
from ..retrievers.index import Retriever
from ..retrievers.progress import Progress, quiet
from .datasets import Query


def search_queries(
    workspace: Workspace,
    queries: Sequence[Query],
    *,
    by: Retriever,
    k: int = 100,
    progress: Progress = quiet,
) -> Iterator[tuple[str, list[tuple[str, float]]]]:
    """Search for every query; yields query ids with document ids and scores, best first.

    Args:
        workspace: Is searched.
        queries: In any order, which the results keep.
        by: The retriever.
        k: Documents a query.
        progress: Is told how far it is.
    """
    for done, query in enumerate(queries, 1):
        hits = workspace.search(query.text, by=by, k=k)
        yield query.id, [(hit.doc_id, hit.score) for hit in hits]
        progress(f"searching by {by}", done, len(queries))


def ask_queries(
    workspace: Workspace,
    queries: Sequence[Query],
    planner: Planner,
    file: RunFile,
    progress: Progress = quiet,
) -> None:
    """Ask every question that a file of runs does not hold yet, and append its run.

    Raises:
        RetrailError: Every further question would meet the same error.
    """
    due = [query for query in queries if query.id not in file.done]
    for done, query in enumerate(due, 1):
        file.append(ask_query(workspace, query, planner))
        progress("asking", done, len(due))


def ask_query(workspace: Workspace, query: Query, planner: Planner) -> Trajectory:
    """Ask one question; what fails for this question alone gives a failed run with its steps."""
    steps: list[Step] = []
    began = utc_now()
    try:
        return workspace.ask(
            query.text,
            planner=planner,
            record=False,
            recall=False,
            query_id=query.id,
            on_step=steps.append,
        )
    except Exception as error:
        if ends_all(error):
            raise
        problem = str(error) if isinstance(error, RetrailError) else repr(error)
        failed = Trajectory(
            id=str(ULID()),
            query_id=query.id,
            question=query.text,
            status="failed",
            agent=AgentInfo(planner=planner.name, model=planner.model),
            started_at=began,
            steps=steps,
            usage=Usage(
                llm_tokens=sum(step.tokens for step in steps),
                seconds=round(sum(step.ms for step in steps) / 1000, 3),
            ),
        )
        return failed.model_copy(update={"error": problem})
