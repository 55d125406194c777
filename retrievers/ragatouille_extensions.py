"""The compiled parts of colbert-ai: built once per environment, loaded without a compiler.

colbert-ai compiles four C++ files on first use, through a lock file that waits forever when an
earlier process was killed. Here one child process with a time limit compiles them into the user's
cache (they depend on Python, torch and colbert-ai, not on a corpus, so all workspaces share them);
afterwards the libraries are loaded as what they are, Python extension modules.
"""

import importlib
import os
import platform
import shutil
import sys
from importlib.machinery import ExtensionFileLoader
from importlib.metadata import version
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from ..core.errors import BackendUnavailable
from .onnx_encoder import cache_root
from .ragatouille_process import run

COMPILE_SECONDS = 900.0
"""Limit of the compilation, which takes one to two minutes of one core."""


_DONE = "done"
"""A file that is written last: a library that is there may still be being written."""


class Extension(NamedTuple):
    """A compiled function and the class that wants it as an attribute."""

    module: str
    owner: str
    function: str


EXTENSIONS = (
    Extension("colbert.modeling.colbert", "ColBERT", "segmented_maxsim"),
    Extension("colbert.search.index_storage", "IndexScorer", "filter_pids"),
    Extension("colbert.search.index_storage", "IndexScorer", "decompress_residuals"),
    Extension("colbert.search.strided_tensor", "StridedTensor", "segmented_lookup"),
)


def extensions_root() -> Path:
    """Return the folder of the libraries that fit this environment."""
    versions = f"torch{version('torch')}-colbert{version('colbert-ai')}"
    return cache_root().parent / "extensions" / f"{sys.implementation.cache_tag}-{versions}"


def library(extension: Extension, root: Path) -> Path:
    """Name the file that torch builds for an extension."""
    name = f"{extension.function}_cpp"
    return root / name / f"{name}.so"


def compiled() -> bool:
    """Say whether all libraries are there, whole."""
    return (extensions_root() / _DONE).exists()


def missing_tools() -> list[str]:
    """Name the build tools that are not there."""
    places = _path()
    compilers = [os.environ.get("CXX", ""), "g++", "clang++"]
    missing = [] if any(shutil.which(c, path=places) for c in compilers if c) else ["g++"]
    return missing if shutil.which("ninja", path=places) else [*missing, "ninja"]


def load_extensions() -> None:
    """Give colbert-ai's classes their compiled functions, compiling them if need be.

    Raises:
        BackendUnavailable: A build tool is missing, or the compilation fails or takes too long.
    """
    root = extensions_root()
    if not compiled():
        _compile(root)
    for each in EXTENSIONS:
        owner: Any = getattr(importlib.import_module(each.module), each.owner)
        if each.function not in vars(owner):
            path = library(each, root)
            loader = ExtensionFileLoader(path.stem, str(path))
            spec = spec_from_loader(path.stem, loader)
            assert spec is not None
            module = module_from_spec(spec)
            loader.exec_module(module)
            setattr(owner, each.function, getattr(module, path.stem))
        # What keeps colbert-ai from compiling.
        owner.loaded_extensions = True


def unlock(root: Path) -> None:
    """Remove the locks of killed processes, for which torch would wait forever."""
    for stale in root.glob("*/lock"):
        stale.unlink()


def compile_here(root: Path) -> None:
    """Compile in this process, whose caller holds ``compile.lock``."""
    unlock(root)
    os.environ["TORCH_EXTENSIONS_DIR"] = str(root)
    for each in EXTENSIONS:
        owner: Any = getattr(importlib.import_module(each.module), each.owner)
        owner.try_load_torch_extensions(False)
    (root / _DONE).touch()


def _compile(root: Path) -> None:
    missing = missing_tools()
    if missing:
        hint = "apt install g++ ninja-build" if platform.system() == "Linux" else "brew install"
        raise BackendUnavailable(
            f"RAGatouille compiles C++ on first use and there is no {' and no '.join(missing)}",
            install_hint=f"{hint} (or your system's own way), then try again",
        )
    root.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(root / "compile.lock", timeout=COMPILE_SECONDS):
            if not compiled():
                environment = {"PATH": _path(), "MAX_JOBS": os.environ.get("MAX_JOBS", "2")}
                run("compile", {"root": str(root)}, COMPILE_SECONDS, environment)
    except Timeout as error:
        raise BackendUnavailable(
            f"another process has been compiling in {str(root)!r} for too long",
            install_hint="end that process, then try again",
        ) from error


def _path() -> str:
    """Return the search path with this environment's own programs, such as pip's ninja."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
