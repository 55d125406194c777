"""Ways in: the command line."""

from .cli import app, main

__all__ = ["app", "main"]
