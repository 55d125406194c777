"""What is kept: the trajectory store."""

from .queries import TrajectorySummary
from .store import TrajectoryStore
from .transfer import ImportReport

__all__ = ["ImportReport", "TrajectoryStore", "TrajectorySummary"]
