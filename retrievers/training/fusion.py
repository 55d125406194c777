"""Learn how much each retriever counts in hybrid search, from what agents found useful.

What is summed for a candidate, its standard score by each retriever and the share of its title's
words (and of other boosted fields) that the query holds, are its features ``x``; weights are
``w >= 0``. Every useful passage ``i`` that hybrid search proposes is told from its query's other
candidates ``N_i`` by

``L(w) = Σ c_i · −log( e^{w·x_i} / (e^{w·x_i} + Σ_{d ∈ N_i} e^{w·x_d}) ) / Σ c_i + λ‖w − w₀‖²``

with ``c_i`` the signal's weight and ``w₀`` what serves: InfoNCE over the candidates, in as many
numbers as a hand could set, and convex. ``N_i`` is all that no run found useful for the query, and
not only what was shown and rejected or passed over: what was shown had been chosen by one ranking,
which loses its weight if it alone gives the negatives (see ``benchmarks/fusion.py``).
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from ...core.documents import split_passage_id
from ...core.errors import ConfigError
from ...core.settings import FusionWeights, Settings
from ..boosts import overlaps
from ..fusion import comparable
from ..index import Index
from ..learned_fusion import LearnedFusion
from ..progress import Progress, quiet
from ..query_side import QuerySide, encoding_version
from ..snapshot import Snapshot
from .curve import points, save_curve
from .examples import Example

UNPROPOSED = "useful passages that hybrid search does not propose"

_STAY = 0.01
"""λ, chosen among 0.001, 0.003, 0.01, 0.03 and 0.1 on both collections of the benchmark."""

Matrix = NDArray[np.float64]


class Choice(NamedTuple):
    """A useful passage and what it was chosen from."""

    useful: Matrix
    """Shape ``(features,)``."""
    others: Matrix
    """Shape ``(candidates, features)``."""
    weight: float = 1.0


def train_fusion(
    index: Index,
    examples: Sequence[Example],
    folder: Path,
    dropped: Counter[str],
    progress: Progress = quiet,
) -> None:
    """Learn weights and save them as a version that encodes queries as what serves does.

    Args:
        index: Its newest generation gives the scores.
        examples: What to learn.
        folder: The version's.
        dropped: Counts what cannot be learned from.
        progress: Is told about scoring.

    Raises:
        ConfigError: Hybrid search proposes nothing that was useful, or scores it below the rest.
    """
    found, skipped = choices(index, examples, progress)
    if skipped:
        dropped[UNPROPOSED] += skipped
    settings = index.snapshot().settings
    names = fused_retrievers(settings)
    start = [*(getattr(settings.weights, name) for name in names), *settings.boosts.values()]
    learned, losses = fit(found, np.array(start).clip(0), len(names))
    weights, boosts = np.split(learned, [len(names)])
    LearnedFusion(
        weights=settings.weights.model_copy(update=dict(zip(names, weights.tolist(), strict=True))),
        boosts=dict(zip(settings.boosts, boosts.tolist(), strict=True)),
    ).save(folder)
    save_curve(folder, points(losses, 0.0))
    published = index.published
    beneath = encoding_version(index.root, published.query)
    parent = int(Path(beneath).name) if beneath else 0
    QuerySide(kind="fusion", passages=published.fingerprint, parent=parent).save(folder)


def fused_retrievers(settings: Settings) -> list[str]:
    """Return the names of the retrievers whose scores hybrid search adds."""
    names = FusionWeights.model_fields
    return [name for name in names if name != "sparse" or settings.sparse_encoder]


def choices(
    index: Index, examples: Sequence[Example], progress: Progress = quiet
) -> tuple[list[Choice], int]:
    """Score every query's candidates by what serves.

    Args:
        index: Over the corpus.
        examples: What was found useful; their negatives are not looked at.
        progress: Is told about ``scoring``.

    Returns:
        The choices, and how many examples gave none: their passage is no candidate, or the only.
    """
    snapshot = index.snapshot()
    by_query: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        by_query[example.query].append(example)
    found: list[Choice] = []
    for done, (query, wanted) in enumerate(by_query.items(), 1):
        passages, values = features(index, snapshot, query)
        at = {name: row for row, name in enumerate(passages)}
        useful = {_document(example.positive) for example in wanted}
        others = values[[_document(name) not in useful for name in passages]]
        rows = [(at[e.positive], e.weight) for e in wanted if e.positive in at and len(others)]
        found += [Choice(values[row], others, weight) for row, weight in rows]
        progress("scoring", done, len(by_query))
    return found, len(examples) - len(found)


def features(index: Index, snapshot: Snapshot, query: str) -> tuple[list[str], Matrix]:
    """Return the ids of a query's candidates, and a row of features each.

    Features are standard scores by each retriever, then overlaps with the settings' boosted fields.
    """
    settings = snapshot.settings
    ids, scores = comparable(snapshot.rankings(query, settings.candidates))
    known = index.corpus.passages(ids.tolist())
    passages = [known[row] for row in ids.tolist() if row in known]
    none = np.zeros(len(ids))
    table = np.column_stack([scores.get(name, none) for name in fused_retrievers(settings)])
    named = [overlaps(query, field, passages) for field in settings.boosts]
    values = np.column_stack([table[np.isin(ids, [*known])], *named])
    return [passage.id for passage in passages], values.astype(np.float64)


def fit(found: Sequence[Choice], start: Matrix, retrievers: int) -> tuple[Matrix, list[float]]:
    """Minimise ``L`` from the weights that serve.

    The sum over retrievers is kept: only ratios matter, and boosts that settings hold beside the
    learned ones keep their meaning.

    Args:
        found: What to tell from what.
        start: The weights that serve, shape ``(features,)``.
        retrievers: How many of the features, the first, are scores of retrievers.

    Returns:
        The weights, and the loss at the start and after every iteration.

    Raises:
        ConfigError: There is nothing to learn from, or it contradicts every retriever.
    """
    from scipy.optimize import minimize

    if not found:
        raise ConfigError(
            "hybrid search proposes none of the passages that were found useful",
            fix="raise 'candidates' in settings.toml, or learn by another mode",
        )
    loss = _loss(found, start)
    losses = [loss(start)[0]]
    solver: Callable[..., Any] = cast(Any, minimize)
    result = solver(
        loss,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, None)] * len(start),
        callback=lambda weights: losses.append(loss(weights)[0]),
    )
    total = float(result.x[:retrievers].sum())
    if total <= 0:
        raise ConfigError(
            "what was found useful scores below other candidates by every retriever",
            fix="check that the runs are about this corpus: retrail trajectories list",
        )
    return result.x * (start[:retrievers].sum() or 1.0) / total, losses


def _loss(found: Sequence[Choice], start: Matrix) -> Callable[[Matrix], tuple[float, Matrix]]:
    """Return ``L`` with its gradient, over all choices at once."""
    gaps = np.concatenate([choice.others - choice.useful for choice in found])
    sizes = [len(choice.others) for choice in found]
    first = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    shares = np.array([choice.weight for choice in found])
    shares = shares / shares.sum()

    def loss(weights: Matrix) -> tuple[float, Matrix]:
        margins = gaps @ weights
        highest = np.maximum(np.maximum.reduceat(margins, first), 0.0)
        terms = np.exp(margins - np.repeat(highest, sizes))
        total = np.add.reduceat(terms, first) + np.exp(-highest)
        moved = weights - start
        value = shares @ (highest + np.log(total)) + _STAY * moved @ moved
        gradient = (terms * np.repeat(shares / total, sizes)) @ gaps + 2 * _STAY * moved
        return float(value), gradient

    return loss


def _document(passage_id: str) -> str:
    return split_passage_id(passage_id)[0]
