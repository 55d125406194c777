"""More rows from the same runs: other queries to which a run's signals speak as well.

*Reasoning*: the thought before a search in front of its query, as AgentIR trains and searches
(arXiv 2603.04384). *Questions*: the run's whole question, to what the run cited or found useful; in
the sense of backward construction (arXiv 2501.10893), since the question is what these documents
helped to answer. Such rows are for training; nothing is judged by them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...core.trajectories import Level, Signal, Trajectory
from ..thought import reasoning_query
from .examples import normalise
from .openings import query_of
from .options import MiningOptions, Questions

Runs = Sequence[tuple[str, Sequence[Signal]]]

_LEAST = {"cited": Level.CITED, "useful": Level.USEFUL}


def augmented(
    runs: Runs,
    thoughts: Sequence[Mapping[str, str]],
    options: MiningOptions,
    max_tokens: int = 128,
) -> list[tuple[str, list[Signal]]]:
    """Return the further signals of runs, each with its run's question.

    Args:
        runs: Pairs of a run's question and its signals.
        thoughts: With ``options.reasoning``, what was thought before each query of each run.
        options: Which rows.
        max_tokens: That training reads of a text.
    """
    more = [(question, with_question(question, s, options.questions)) for question, s in runs]
    if options.reasoning:
        more += [
            (question, with_reasoning(s, known, max_tokens))
            for (question, s), known in zip(runs, thoughts, strict=True)
        ]
    return [(question, signals) for question, signals in more if signals]


def thoughts_of(trajectory: Trajectory) -> dict[str, str]:
    """Return the thought before each query; of a query asked twice, the first."""
    thoughts: dict[str, str] = {}
    for step in trajectory.steps:
        if step.action == "search" and step.thought and step.thought.strip():
            thoughts.setdefault(query_of(trajectory, step), step.thought.strip())
    return thoughts


def with_reasoning(
    signals: Sequence[Signal], thoughts: Mapping[str, str], max_tokens: int
) -> list[Signal]:
    """Repeat the signals of queries that a thought led to, under the longer query."""
    return [
        replace(signal, query=reasoning_query(thoughts[signal.query], signal.query, max_tokens))
        for signal in signals
        if signal.query in thoughts
    ]


def with_question(question: str, signals: Sequence[Signal], wanted: Questions) -> list[Signal]:
    """Repeat a run's signals under its question, each document once at its highest level.

    A document that is useful to the run, though not useful enough to be asked for, is no negative.
    A run whose question was itself a query that found something has said this already.
    """
    least = _LEAST.get(wanted)
    asked = normalise(question)
    if least is None or any(
        normalise(s.query) == asked for s in signals if s.level >= Level.USEFUL
    ):
        return []
    best: dict[str, Signal] = {}
    for signal in sorted(signals, key=lambda s: -s.level):
        best.setdefault(signal.doc_id, replace(signal, query=question))
    return [s for s in best.values() if s.level >= least or s.level <= Level.REJECTED]
