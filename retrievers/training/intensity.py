"""Relevance intensity: how strongly a run speaks for what it found useful.

Post-browse thoughts are longer after evidence, as people stay longer on what helps (LRAT, arXiv
2604.04949, sections 2 and 3.3, after a time-aware click model)::

    raw(l) = 1 − 2^(−l/β)      w = raw(l) / mean(raw)      β = median l

The median and the saturation keep outliers harmless, and the weights of a corpus of runs average
1. What was not measured weighs 1.
"""

import re
from collections.abc import Mapping, Sequence
from math import inf
from statistics import fmean, median

from ...core.trajectories import Level, Signal, Trajectory
from .openings import openings_of
from .options import Attention

_WORD = re.compile(r"\w+")


def words(thought: str | None) -> int:
    """Count the words of a thought, 0 if there is none."""
    return len(_WORD.findall(thought or ""))


def attention(
    trajectory: Trajectory, signals: Sequence[Signal], kind: Attention
) -> dict[Signal, float]:
    """Measure the useful signals of a run that can be measured.

    Returns:
        Words of the thought after the opening, or milliseconds of reading; always above 0.
    """
    if kind == "none":
        return {}
    amounts = {
        (opening.doc_id, opening.step): (
            words(opening.thought) if kind == "thought" else _read_for(opening.dwell_ms)
        )
        for opening in openings_of(trajectory)
    }
    found = {s: amounts.get((s.doc_id, s.step)) for s in signals if s.level >= Level.USEFUL}
    return {signal: float(x) for signal, x in found.items() if x is not None and 0 < x < inf}


def _read_for(dwell_ms: float | None) -> float | None:
    """Return a time above 0: what a clock calls none is the least there is, not unmeasured."""
    return None if dwell_ms is None else max(dwell_ms, 1.0)


def intensities(amounts: Mapping[Signal, float]) -> dict[Signal, float]:
    """Turn what was measured over all runs into weights that average 1."""
    if not amounts:
        return {}
    half_life = median(amounts.values())
    raw = {signal: 1 - 2 ** (-amount / half_life) for signal, amount in amounts.items()}
    mean = fmean(raw.values())
    return {signal: value / mean for signal, value in raw.items()}
