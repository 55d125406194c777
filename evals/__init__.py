"""Datasets, simulated readers and measurements of whole runs."""

from .datasets import Dataset, Query, load_dataset
from .simulated import Behaviour, SimulatedReader

__all__ = ["Behaviour", "Dataset", "Query", "SimulatedReader", "load_dataset"]
