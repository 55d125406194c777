"""What an agent may do with an index: search, browse, aggregate; every call is recorded."""

from .aggregation import Aggregation, aggregate
from .recorder import Recorder
from .session import Session
from .toolbox import build_tools
from .web import Page, fetch_page

__all__ = [
    "Aggregation",
    "Page",
    "Recorder",
    "Session",
    "aggregate",
    "build_tools",
    "fetch_page",
]
