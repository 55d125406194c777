"""Encoders: the models that a workspace's generations were built and are asked with.

A model is loaded when it is first needed and must be the one that encoded the passages: weights
that changed are an error. Queries, and other few texts, meet its export, which needs no torch.
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from threading import RLock

from ..core.errors import REBUILD, CorruptStore, IndexMismatch
from ..core.settings import Settings
from .checkpoint import inside
from .corpus import Published
from .encoder import Encoded, Encoder
from .onnx_encoder import OnnxEncoder, TextEncoder
from .query_side import PROMOTE_0, Passages, checked, query_encoder
from .reading import Reading
from .thought import read_of


class Encoders:
    """The models of one workspace. Safe for threads."""

    def __init__(self, root: Path, settings: Settings, given: Encoder | None = None) -> None:
        """Take the workspace's folder and settings.

        Args:
            root: Of the workspace.
            settings: Of the workspace.
            given: A loaded model to use instead of loading the one of its name.
        """
        self.root = root
        self.settings = settings
        self.given = given
        self.loaded = given
        """The model that encodes passages, as used last."""
        self._exported: tuple[str, TextEncoder] | None = None
        self._lock = RLock()

    def of(self, published: Published | None) -> Encoder:
        """Return the model that encoded the passages of a generation, or is to encode the first.

        Raises:
            IndexMismatch: Its weights have changed.
        """
        with self._lock:
            name = published.encoder if published else self.settings.encoder
            known = [e for e in (self.loaded, self.given) if e and e.name == name]
            wanted = published and published.fingerprint
            fitting = [e for e in known if e is self.given or wanted in (None, e.fingerprint)]
            # Loaded again if it does not fit, as another process may have rebuilt.
            loaded = next(iter(fitting), None) or self.load(name)
            if published and loaded.fingerprint != published.fingerprint:
                raise IndexMismatch(
                    f"the weights of encoder {name!r} changed since the index was built",
                    expected=published.fingerprint,
                    found=loaded.fingerprint,
                    mend=f"{REBUILD} encodes the corpus again",
                )
            self.loaded = loaded
            return loaded

    def reader(self, published: Published | None) -> TextEncoder:
        """Return the model that serves for encoding few texts, without torch where possible."""
        with self._lock:
            if published is None or (self.given and self.given.name == published.encoder):
                return self.of(published)
            if self._exported is None or self._exported[0] != published.fingerprint:
                reader = _exported(published.fingerprint, lambda: self.of(published))
                self._exported = (published.fingerprint, reader)
            return self._exported[1]

    def query_side(
        self, version: str, passages: Passages | Encoder, *, exported: bool = True
    ) -> Callable[[str], Encoded]:
        """Load the query side of a version, such as ``models/dense/0007``; see ``query_encoder``.

        Args:
            version: Its reference.
            passages: The encoder whose passage vectors are searched.
            exported: Take its model from the cache of exported encoders where it is there.
        """

        def load(folder: Path, fingerprint: str) -> TextEncoder:
            name = folder.relative_to(self.root).as_posix()
            weights = lambda: checked(self.load(name), fingerprint)  # noqa: E731
            return _exported(fingerprint, weights) if exported else weights()

        return query_encoder(self.root / version, passages, load)

    def load(self, name: str) -> Encoder:
        """Load an encoder by name, path, or path relative to the workspace."""
        self.check_weights(name)
        encoder = Encoder.load(
            inside(self.root, name),
            max_tokens=self.settings.max_tokens,
            precision=self.settings.precision,
            reading=Reading.of(self.settings),
        )
        encoder.name = name
        return encoder

    def check_weights(self, name: str) -> None:
        """Refuse a trained version whose weights are gone.

        Raises:
            CorruptStore: They are.
        """
        if name.startswith("models/") and not (self.root / name / "modules.json").exists():
            raise CorruptStore(f"the weights of the model {name!r} are missing", fix=PROMOTE_0)

    def queries(self, published: Published) -> Callable[[str], Encoded]:
        """Encode queries for one generation with its own model, even after another took over."""

        def load() -> Callable[[str], Encoded]:
            def ask(text: str) -> Encoded:
                return self.reader(published).query(text)

            passages = Passages(published.fingerprint, ask)
            return self.query_side(published.query, passages) if published.query else ask

        loaded = lru_cache(maxsize=1)(load)

        def encode(query: str) -> Encoded:
            with self._lock:  # or each thread would load and export a model of its own
                encode = loaded()
            return encode(query)

        cached = lru_cache(maxsize=256)(encode)
        return lambda query: cached(read_of(query))


def _exported(fingerprint: str, load: Callable[[], Encoder]) -> TextEncoder:
    """Return the exported encoder of a fingerprint, else load it to export it, if that works."""
    if ready := OnnxEncoder.open(fingerprint):
        return ready
    from .onnx_export import export

    encoder = load()
    return export(encoder) or encoder
