"""Agentic retrieval that learns from its agents.

The public names load on first use, so that ``import retrail`` stays cheap; ``__init__.pyi`` lists
them for type checkers and must agree with ``_HOME``.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "Answer": "core.trajectories",
    "Document": "core.documents",
    "Filter": "core.filters",
    "Hit": "core.documents",
    "Index": "retrievers.index",
    "Passage": "core.documents",
    "RetrailError": "core.errors",
    "Settings": "core.settings",
    "Signal": "core.trajectories",
    "Step": "core.trajectories",
    "Trajectory": "core.trajectories",
    "TrajectoryStore": "memory.store",
    "Workspace": "agents.workspace",
    "register_tokenizer": "retrievers.tokenizers",
}

__all__ = [*sorted(_HOME), "__version__"]


def __getattr__(name: str) -> Any:
    """Import the module that holds a public name when the name is first used."""
    if name not in _HOME:
        raise AttributeError(f"module 'retrail' has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
