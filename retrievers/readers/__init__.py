"""Readers: documents from files, folders and the Python environment."""

from .files import read_paths
from .markup import html_to_text
from .python_env import read_python_env
from .report import ReadReport

__all__ = ["ReadReport", "html_to_text", "read_paths", "read_python_env"]
