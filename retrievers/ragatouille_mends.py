"""Mends of RAGatouille 0.0.9 and colbert-ai 0.2.22, which do not run beside this stack as they are.

Each mend is one small function that changes the loaded modules, never the installed files, and
says which versions need it; with others it does nothing. For every mend a test shows that the
break is still there without it, so that it goes when upstream has gone ahead.
"""

import importlib
import json
import logging
import multiprocessing
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from ..core.errors import BackendUnavailable, ConfigError

logger = logging.getLogger(__name__)

INSTALL = "pip install 'retrail[ragatouille]'"

TESTED: Mapping[str, tuple[str, ...]] = {
    "ragatouille": ("0.0.9.post2",),
    "colbert-ai": ("0.2.22",),
}
"""Versions the mends were written for; the next RAGatouille changes its backend."""

_PACKAGES = ("colbert", "ragatouille", "fast_pytorch_kmeans")
_loading = threading.Lock()


@contextmanager
def moved_compressor() -> Iterator[None]:
    """Let the import find ``BaseDocumentCompressor`` where LangChain 0 had it.

    ragatouille 0.0.9 imports ``langchain.retrievers``, which LangChain 1 took away.
    """
    compressor = importlib.import_module("langchain_core.documents.compressor")
    old = "langchain.retrievers"
    names = (old, f"{old}.document_compressors", f"{old}.document_compressors.base")
    found = {name: sys.modules.get(name) for name in names}
    sys.modules.update(dict.fromkeys(names, compressor))
    try:
        yield
    finally:
        for name, module in found.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


@contextmanager
def unchanged_process() -> Iterator[None]:
    """Undo what importing colbert-ai 0.2.22 does to the whole process.

    It makes ``spawn`` the start method of everybody's processes and switches the tokenizers'
    threads on.
    """
    environment = dict(os.environ)
    method = multiprocessing.get_start_method(allow_none=True)
    try:
        yield
    finally:
        multiprocessing.set_start_method(method, force=True)
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)


@contextmanager
def silent_import() -> Iterator[None]:
    """Keep the notices and deprecations of these packages' own code from our users."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def finished_models() -> None:
    """Let transformers 5 load colbert-ai's model class, whose constructor calls no ``post_init``.

    The constructor ends in ``init_weights``, which transformers 5 calls from ``post_init``.
    """
    base: Any = importlib.import_module("colbert.modeling.base_colbert")
    make: Callable[[str], Any] = base.class_factory

    refused = threading.local()

    def class_factory(name: str) -> Any:
        # colbert-ai answers any failure by reading the checkpoint as a BERT, with random weights.
        if name == "bert-base-uncased" and (why := getattr(refused, "why", None)):
            refused.why = None
            raise why
        try:
            made = make(name)
        except Exception as error:
            refused.why = error
            raise
        refused.why = None
        original = made.init_weights

        def init_weights(self: Any) -> None:
            if hasattr(self, "all_tied_weights_keys"):
                original(self)
            else:
                self.post_init()

        made.init_weights = init_weights
        return made

    base.class_factory = class_factory


def own_code_only() -> None:
    """Refuse checkpoints that bring code: colbert-ai 0.2.22 runs it without asking."""
    factory: Any = importlib.import_module("colbert.modeling.hf_colbert")
    read = importlib.import_module("transformers").AutoConfig.from_pretrained

    def from_pretrained(name: str, **_: object) -> Any:
        config = read(name, trust_remote_code=False)
        if getattr(config, "auto_map", None):
            raise ConfigError(
                f"model {name!r} brings its own code, which is not run",
                fix="give a checkpoint of an architecture that transformers has",
            )
        return config

    factory.AutoConfig = SimpleNamespace(from_pretrained=from_pretrained)


def plain_arithmetic() -> None:
    """Spare processors the mixed precision of CUDA, which warns when loaded and when used."""
    torch = importlib.import_module("torch")
    manager: Any = importlib.import_module("colbert.utils.amp").MixedPrecisionManager
    if not torch.cuda.is_available():
        manager.__init__ = lambda self, _activated: setattr(self, "activated", False)


def tiny_collections() -> None:
    """Let few texts be indexed: colbert-ai 0.2.22 asks for more cells than there are vectors.

    It also sets a twentieth of the vectors aside for measuring, which may be none.
    """
    indexer: Any = importlib.import_module("colbert.indexing.collection_indexer").CollectionIndexer
    split = indexer._concatenate_and_split_sample

    def _concatenate_and_split_sample(self: Any) -> tuple[Any, Any]:
        sample, aside = split(self)
        self.num_partitions = min(self.num_partitions, len(sample))
        return sample, aside if len(aside) else sample

    indexer._concatenate_and_split_sample = _concatenate_and_split_sample


def logged_prints() -> None:
    """Send what these packages print to the log, and show none of their progress bars.

    Standard output belongs to our caller: it may be a protocol.
    """
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in _PACKAGES:
            module.__dict__["print"] = _log
            bar = module.__dict__.get("tqdm")
            if isinstance(bar, ModuleType):
                module.__dict__["tqdm"] = SimpleNamespace(tqdm=_iterate)
            elif bar is not None:
                module.__dict__["tqdm"] = _iterate


def kept_positions(model: Any, delete: Callable[[], None]) -> None:
    """Delete, and keep every remaining passage's number.

    ragatouille 0.0.9 closes the gaps in its list of texts, but not in the index, so that texts
    no longer belong to their ids and the next addition is numbered wrongly.

    Args:
        model: RAGatouille's ``ColBERT``.
        delete: Calls its ``delete_from_index``.
    """
    texts, ids = list(model.collection), dict(model.pid_docid_map)
    delete()
    kept = model.pid_docid_map
    model.collection = [text if pid in kept else "" for pid, text in enumerate(texts)]
    model.pid_docid_map = {pid: kept.get(pid) for pid in ids}
    model._save_index_metadata()


def unpadded_cells(folder: Path) -> None:
    """Cut the padding off an index's list of cells, to be done before every change.

    colbert-ai 0.2.22 pads the list when it is stored; its updates take the padding for passages.
    """
    import torch

    path = folder / "ivf.pid.pt"
    cells, lengths = torch.load(path, map_location="cpu", weights_only=True)
    torch.save((cells[: int(lengths.sum())].clone(), lengths), path)


def counted_vectors(folder: Path) -> None:
    """Write the true number of vectors into an index's metadata.

    colbert-ai 0.2.22 adds all vectors to the number, not the new ones, at every update; the next
    update then reads and stores vectors from beyond the end.
    """
    lengths = [json.loads(path.read_bytes()) for path in folder.glob("doclens.*.json")]
    path = folder / "metadata.json"
    metadata = json.loads(path.read_bytes())
    metadata["num_embeddings"] = sum(map(sum, lengths))
    path.write_text(json.dumps(metadata), encoding="utf-8")


_MOVING = threading.RLock()


@contextmanager
def moved_index(folder: str, checkpoint: str) -> Iterator[None]:
    """Open an index that was made elsewhere, or with a model that now lies elsewhere.

    colbert-ai writes absolute paths into an index's metadata and RAGatouille has no way to say
    otherwise: a copy would not open, or its changes would be written into the original.

    Args:
        folder: The index root given when building, as it is called now.
        checkpoint: Folder or name of the model.
    """
    config: Any = importlib.import_module("colbert.infra").ColBERTConfig

    def load_from_index(path: str) -> Any:
        loaded = load(path)
        loaded.configure(checkpoint=checkpoint, root=folder, experiment="colbert")
        return loaded

    with _MOVING:  # one at a time, or one's place would be another's
        load = config.load_from_index
        config.load_from_index = load_from_index
        try:
            yield
        finally:
            config.load_from_index = load


def _log(*values: object, **_: object) -> None:
    logger.debug("%s", " ".join(str(value) for value in values).strip())


def _iterate(iterable: Any = None, *_: object, **__: object) -> Any:
    return iterable


_MENDS = (finished_models, own_code_only, plain_arithmetic, tiny_collections, logged_prints)


def installed(package: str) -> str:
    """Return the installed version of a package.

    Raises:
        BackendUnavailable: It is not installed.
    """
    try:
        return version(package)
    except PackageNotFoundError as error:
        raise BackendUnavailable(f"{package!r} is not installed", install_hint=INSTALL) from error


@cache
def load() -> Any:
    """Import RAGatouille with every mend and return its ``RAGPretrainedModel``.

    Raises:
        BackendUnavailable: It is missing, or of a version the mends do not fit.
    """
    for package, known in TESTED.items():
        found = installed(package)
        if found not in known:
            raise BackendUnavailable(
                f"{package} {found} is not one that is tested ({', '.join(known)})",
                install_hint=INSTALL,
            )
    with _loading, ExitStack() as around:
        for mend in (unchanged_process, silent_import, moved_compressor):
            around.enter_context(mend())
        try:
            package = importlib.import_module("ragatouille")
        except ImportError as error:
            raise BackendUnavailable(
                f"ragatouille does not load ({error})", install_hint=INSTALL
            ) from error
        for mend in _MENDS:
            mend()
        return package.RAGPretrainedModel
