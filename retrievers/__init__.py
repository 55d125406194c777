"""Ways to find: keyword, dense, late and hybrid retrieval over one corpus, behind one index.

Importing this loads neither torch nor an engine; a retriever loads what it needs when first used.
"""

from .encoder import Encoded, Encoder
from .index import AddReport, Candidate, Index
from .progress import Progress
from .ranked import Ranked
from .searcher import RETRIEVERS, FilterSource, Retriever
from .snapshot import By, Snapshot

__all__ = [
    "RETRIEVERS",
    "AddReport",
    "By",
    "Candidate",
    "Encoded",
    "Encoder",
    "FilterSource",
    "Index",
    "Progress",
    "Ranked",
    "Retriever",
    "Snapshot",
]
