"""Reading: what a workspace changes in how its encoder reads texts and what it keeps of a vector.

Prefixes are instructions as E5 and its kin were trained with; a shorter dense vector is the first
components of a model trained for that (Matryoshka representations, arXiv 2205.13147).
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError
from ..core.settings import LongTexts, Settings


class Reading(NamedTuple):
    """The model's own way if nothing is given."""

    dense_dim: int | None = None
    """Components of a dense vector that are kept."""
    query_prefix: str | None = None
    """Instead of the model's own prompt; of a multi-vector model, behind its marker."""
    document_prefix: str | None = None
    long_texts: LongTexts = "cut"
    """What becomes of the end of a document that is longer than the model reads."""
    encoder_tokenizer: str = ""
    """Name of what puts spaces between the tokens of all texts; empty for nothing."""

    @classmethod
    def of(cls, settings: Settings) -> "Reading":
        """Take what settings say."""
        return cls(*(getattr(settings, name) for name in cls._fields))

    def prompts(self, own: Mapping[str, str | None], *, marked: bool) -> dict[str, str | None]:
        """Return the prompts to use.

        Args:
            own: The model's.
            marked: They begin with markers that the model was trained with, and stay.

        >>> Reading(query_prefix="query: ").prompts({"query": "find "}, marked=False)
        {'query': 'query: '}
        >>> Reading(query_prefix="query: ").prompts({"query": "[Q] "}, marked=True)
        {'query': '[Q] query: '}
        """
        given: dict[Literal["query", "document"], str | None] = {
            "query": self.query_prefix,
            "document": self.document_prefix,
        }
        changed = {
            kind: (own.get(kind) or "" if marked else "") + prefix
            for kind, prefix in given.items()
            if prefix is not None
        }
        return {**own, **changed}


def shortened(dense: NDArray[np.float32], dim: int | None) -> NDArray[np.float32]:
    """Keep the first components of a dense vector, scaled to unit length; all for None.

    Raises:
        ConfigError: It has not as many.
    """
    if dim is None or dim == len(dense):
        return dense
    if dim > len(dense):
        raise ConfigError(
            f"setting 'dense_dim' is {dim}, but the encoder's dense vectors have {len(dense)}",
            fix=f"set at most {len(dense)}, or none to keep them whole",
        )
    kept = dense[:dim]
    return kept / max(float(np.linalg.norm(kept)), 1e-12)
