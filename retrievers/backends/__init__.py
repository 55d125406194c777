"""Vector engines: one interface, Chroma and Qdrant behind it, and the suite that holds them to it.

Importing this loads no engine.
"""

from .base import Capability, Sparse, UnsupportedByBackend, VectorBackend, VectorError, VectorSchema
from .conformance import Outcome, Report, check_backend

__all__ = [
    "Capability",
    "Outcome",
    "Report",
    "Sparse",
    "UnsupportedByBackend",
    "VectorBackend",
    "VectorError",
    "VectorSchema",
    "check_backend",
]
