"""What every vector engine must do, as checks that anyone can run against their own.

``check_backend`` fills small collections with seeded vectors and compares each answer with brute
force over the same. It needs no test framework and leaves deleting the collections to the caller.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import numpy as np

from ..ranked import Ranked
from .base import (
    Capability,
    Rows,
    Sparse,
    UnsupportedByBackend,
    VectorBackend,
    VectorError,
    VectorSchema,
)
from .samples import DIM, TOKEN_DIM, Corpus, make_corpus, make_filters, make_queries

_COUNT = 300
_BIG = 5_500
"""More than Chroma takes in one batch, and than travels as ids."""
_RECALL = 0.99
"""Of 10, over all queries, for engines that follow a graph."""
_FILTERS = 40
_TOLERANCE = 1e-4


class Factory(Protocol):
    """Opens a collection of the engine under test."""

    def __call__(self, name: str, schema: VectorSchema, *, create: bool) -> VectorBackend:
        """Open the collection of a name, the same each time; ``create`` starts it if need be."""
        ...


class Outcome(NamedTuple):
    """How one check went."""

    check: str
    state: str
    """``passed``, ``failed`` or, where the engine does not claim the capability, ``skipped``."""
    detail: str = ""


class Report(NamedTuple):
    """How an engine did."""

    outcomes: tuple[Outcome, ...]

    @property
    def passed(self) -> bool:
        """No check failed."""
        return not self.failures

    @property
    def failures(self) -> list[Outcome]:
        """The checks that failed."""
        return [outcome for outcome in self.outcomes if outcome.state == "failed"]

    def __str__(self) -> str:
        """One line a check."""
        return "\n".join(" ".join(outcome).rstrip() for outcome in self.outcomes)


class Setting(NamedTuple):
    """What a check works with."""

    factory: Factory
    name: str
    schema: VectorSchema
    corpus: Corpus

    @contextmanager
    def filled(self) -> Iterator[VectorBackend]:
        """Fill the check's own collection, close it, and open it for reading."""
        with self.opened(create=True) as writer:
            self.corpus.add_to(writer)
        with self.opened() as reader:
            yield reader

    @contextmanager
    def opened(self, *, create: bool = False) -> Iterator[VectorBackend]:
        """Open the check's own collection."""
        backend = self.factory(self.name, self.schema, create=create)
        try:
            yield backend
        finally:
            backend.close()


def check_backend(factory: Factory, *, prefix: str = "conformance") -> Report:
    """Run every check that an engine's capabilities call for.

    Args:
        factory: Opens the engine's collections; a collection must outlive being closed.
        prefix: The names of the collections start with it.

    Returns:
        One outcome a check; a check that raises has failed, and says why.
    """
    probe = factory(f"{prefix}-probe", VectorSchema(DIM), create=True)
    capabilities = probe.capabilities
    probe.close()
    multi, sparse = "multivector" in capabilities, "sparse" in capabilities
    schema = VectorSchema(DIM, multi=TOKEN_DIM if multi else 0, sparse=sparse)
    corpus = make_corpus(_COUNT)
    outcomes: list[Outcome] = []
    for check, needed in CHECKS.items():
        name = check.__name__.removeprefix("_").replace("_", "-")
        setting = Setting(factory, f"{prefix}-{name}", schema, corpus)
        if needed <= capabilities:
            outcomes.append(_outcome(name, check, setting))
        else:
            outcomes.append(Outcome(name, "skipped", ", ".join(sorted(needed - capabilities))))
    return Report(tuple(outcomes))


def _outcome(name: str, check: Callable[[Setting], None], setting: Setting) -> Outcome:
    try:
        check(setting)
    except Exception as error:  # noqa: BLE001 - whatever an engine raises is the finding
        return Outcome(name, "failed", f"{type(error).__name__}: {error}")
    return Outcome(name, "passed")


def _nearest(setting: Setting) -> None:
    with setting.filled() as backend:
        _same(backend.count(), _COUNT)
        _recalls(backend, setting.corpus)
        _same(len(backend.search(make_queries()[0], _COUNT + 5).ids), _COUNT)


def _recall_of_a_big_batch(setting: Setting) -> None:
    corpus = make_corpus(_BIG)
    with setting._replace(corpus=corpus, schema=VectorSchema(DIM)).filled() as backend:
        _same(backend.count(), _BIG)
        _recalls(backend, corpus)
        among = backend.search(make_queries()[0], 10, within=corpus.ids)
        _same(len(among.ids), 10)


def _equal_scores_by_rising_id(setting: Setting) -> None:
    same = np.repeat(setting.corpus.dense[:1], 20, axis=0)
    ids = np.arange(20, dtype=np.int64)[::-1].copy()
    corpus = Corpus(ids, same, *(part[:20] for part in setting.corpus[2:]))  # type: ignore[arg-type]
    with setting._replace(corpus=corpus).filled() as backend:
        found = backend.search(same[0], 20)
    _same(found.ids.tolist(), found.ids[np.lexsort((found.ids, -found.scores))].tolist())
    _same(sorted(found.ids.tolist()), list(range(20)))
    _hold(bool(np.ptp(found.scores) <= _TOLERANCE), "equal vectors score differently")


def _within(setting: Setting) -> None:
    corpus = setting.corpus
    none = np.zeros(0, np.int64)
    with setting.filled() as backend:
        for query in make_queries(count=3):
            _same(backend.search(query, 5, within=none).ids.tolist(), [])
            for rows in (corpus.ids[7:8], corpus.ids[::4], corpus.ids):
                _ranks_as(backend.search(query, 9, within=rows), corpus.ranked(query, rows).top(9))
            unknown = np.array([0, 2, 10**12], np.int64)
            _same(backend.search(query, 5, within=unknown).ids.tolist(), [])
            mixed = np.concatenate([unknown, corpus.ids[3:5]])
            _ranks_as(backend.search(query, 5, within=mixed), corpus.ranked(query, mixed))


def _replace_and_reopen(setting: Setting) -> None:
    corpus = setting.corpus
    with setting.filled() as backend:
        _same(backend.count(), _COUNT)
    with setting.opened(create=True) as backend:
        turned = corpus._replace(dense=corpus.dense[::-1].copy(), payload=corpus.payload[::-1])
        turned.add_to(backend)
    with setting.opened() as backend:
        _same(backend.count(), _COUNT)
        _recalls(backend, turned)
        query = make_queries()[0]
        for where in filter(backend.pushes, make_filters(5)):
            found = backend.search(query, _COUNT, where=where).ids.tolist()
            _same(sorted(found), turned.admitted(where))
        backend.close()  # closing twice is harmless


def _two_readers(setting: Setting) -> None:
    queries = make_queries(count=20)
    with setting.filled() as first, setting.opened() as second:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda query: first.search(query, 5), queries))
        for query, ranked in zip(queries, found, strict=True):
            _ranks_as(second.search(query, 5), ranked)


def _delete(setting: Setting) -> None:
    corpus = setting.corpus
    gone, kept = corpus.ids[:100], corpus.ids[100:]
    with setting.filled():
        pass
    with setting.opened(create=True) as writer:
        writer.delete([])
        writer.delete(np.concatenate([gone, np.array([2, 10**12])]))
    with setting.opened() as reader:
        _same(reader.count(), len(kept))
        left = Corpus(*(part[len(gone) :] for part in corpus))  # type: ignore[arg-type]
        _recalls(reader, left)
        for query in make_queries(count=3):
            _same(reader.search(query, 5, within=gone).ids.tolist(), [])


def _filters(setting: Setting) -> None:
    corpus = setting.corpus
    query, some = make_queries()[0], corpus.ids[::3]
    pushed = 0
    with setting.filled() as backend:
        for where in make_filters(_FILTERS):
            if not backend.pushes(where):
                _raises(
                    UnsupportedByBackend, lambda where=where: backend.search(query, 5, where=where)
                )
                continue
            pushed += 1
            admitted = corpus.admitted(where)
            found = backend.search(query, _COUNT, where=where).ids.tolist()
            _hold(sorted(found) == admitted, f"{where} admits other passages")
            best = corpus.ranked(query, admitted).top(10)
            _ranks_as(backend.search(query, 10, where=where), best)
            both = backend.search(query, _COUNT, within=some, where=where).ids.tolist()
            _hold(set(both) == set(admitted) & set(some.tolist()), f"{where} among some passages")
    _hold(pushed > 0, "no filter is pushed down")


def _multivector(setting: Setting) -> None:
    corpus, some = setting.corpus, setting.corpus.ids[::5]
    query = make_queries(TOKEN_DIM, 3)
    scores = [float((tokens @ query.T).max(axis=0).sum()) for tokens in corpus.multi]
    wanted = Ranked.of(corpus.ids, scores)
    with setting.filled() as backend:
        _ranks_as(backend.search_multi(query, 10), wanted.top(10))
        _ranks_as(backend.search_multi(query, 10, within=some), _among(wanted, some).top(10))


def _sparse(setting: Setting) -> None:
    corpus, some = setting.corpus, setting.corpus.ids[::5]
    query, scores = corpus.sparse[0], []
    weights = dict(zip(query.indices.tolist(), query.values.tolist(), strict=True))
    for indices, values in corpus.sparse:
        own = zip(indices.tolist(), values.tolist(), strict=True)
        scores.append(sum(weights.get(index, 0.0) * value for index, value in own))
    wanted = Ranked.of(corpus.ids, scores)
    with setting.filled() as backend:
        _ranks_as(backend.search_sparse(query, 10), wanted.top(10))
        _ranks_as(backend.search_sparse(query, 5, within=some), _among(wanted, some).top(5))
        nowhere = Sparse(np.array([99_999]), np.array([1.0], np.float32))
        _same(backend.search_sparse(nowhere, 5).ids.tolist(), [])


def _invalid_input(setting: Setting) -> None:
    good = make_queries()[0]
    bad = (good[:-1], good[:0], np.full_like(good, np.nan), np.full_like(good, np.inf), good[None])
    with setting.filled() as backend:
        for vector in bad:
            _raises(VectorError, lambda vector=vector: backend.search(vector, 5))
        _raises(VectorError, lambda: backend.search(good, 0))
        _raises(VectorError, lambda: backend.search(good, 5, within=np.array([-1])))
    with setting.opened(create=True) as writer:
        corpus = setting.corpus
        for broken in (
            corpus._replace(dense=corpus.dense[:, :-1]),
            corpus._replace(dense=corpus.dense[:-1]),
            corpus._replace(dense=np.where(corpus.dense > 1e9, corpus.dense, np.nan)),
            corpus._replace(ids=np.zeros_like(corpus.ids)),
            Corpus(*(part[:0] for part in corpus)),  # type: ignore[arg-type]
        ):
            _raises(VectorError, lambda broken=broken: broken.add_to(writer))
        _same(writer.count(), _COUNT)


def _unclaimed_is_refused(setting: Setting) -> None:
    corpus = setting.corpus
    with setting.filled() as backend:
        if not backend.schema.multi:
            _raises(UnsupportedByBackend, lambda: backend.search_multi(corpus.dense[:2], 5))
        if not backend.schema.sparse:
            _raises(UnsupportedByBackend, lambda: backend.search_sparse(corpus.sparse[0], 5))
        if "delete" not in backend.capabilities:
            _raises(UnsupportedByBackend, lambda: backend.delete([1]))
        if "filter" not in backend.capabilities:
            where = next(make_filters(1))
            _raises(UnsupportedByBackend, lambda: backend.search(corpus.dense[0], 5, where=where))


def _recalls(backend: VectorBackend, corpus: Corpus) -> None:
    """Check every score, and that the best are found, by score: equals stand in for each other."""
    hits, queries = 0, make_queries(count=50)
    for query in queries:
        found, wanted = backend.search(query, 10), corpus.ranked(query).top(10)
        _same(len(set(found.ids.tolist())), len(wanted.ids))
        own = corpus.ranked(query, found.ids)
        np.testing.assert_allclose(found.scores, own.scores, atol=_TOLERANCE)
        hits += int((found.scores >= wanted.scores[-1] - _TOLERANCE).sum())
    recall = hits / (10 * len(queries))
    _hold(recall >= _RECALL, f"recall@10 is {recall:.3f}")


def _among(ranked: Ranked, rows: Rows) -> Ranked:
    keep = np.isin(ranked.ids, rows)
    return Ranked(ranked.ids[keep], ranked.scores[keep])


def _ranks_as(found: Ranked, wanted: Ranked) -> None:
    """Compare rankings, where passages of equal score may stand in for each other."""
    _same(len(set(found.ids.tolist())), len(wanted.ids))
    np.testing.assert_allclose(found.scores, wanted.scores, atol=_TOLERANCE)
    clear = wanted.scores > wanted.scores[-1:] + _TOLERANCE
    _same(set(found.ids[clear].tolist()), set(wanted.ids[clear].tolist()))


def _same(found: object, wanted: object) -> None:
    _hold(found == wanted, f"found {found!r} where {wanted!r} belongs")


def _hold(condition: bool, message: str) -> None:
    """Assert, also where Python runs without assertions."""
    if not condition:
        raise AssertionError(message)


def _raises(kind: type[Exception], call: Callable[[], object]) -> None:
    try:
        call()
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was not raised")


CHECKS: dict[Callable[[Setting], None], frozenset[Capability]] = {
    _nearest: frozenset({"dense"}),
    _recall_of_a_big_batch: frozenset({"dense"}),
    _equal_scores_by_rising_id: frozenset({"dense"}),
    _within: frozenset({"dense"}),
    _replace_and_reopen: frozenset({"dense"}),
    _two_readers: frozenset({"dense"}),
    _invalid_input: frozenset({"dense"}),
    _unclaimed_is_refused: frozenset({"dense"}),
    _delete: frozenset({"dense", "delete"}),
    _filters: frozenset({"dense", "filter"}),
    _multivector: frozenset({"multivector"}),
    _sparse: frozenset({"sparse"}),
}
"""Each check with the capabilities it needs."""
