"""The form in which token vectors are stored: codec, dimension and which tokens, by the settings.

A budget of bytes picks codec and dimension from the ladder measured by ``benchmarks/late_ladder``.
"""

from typing import NamedTuple

from ..core.errors import ConfigError
from ..core.settings import LateCodec, Settings
from .codecs import CODECS
from .token_reduction import factor_of

LADDER: tuple[tuple[LateCodec, int], ...] = (
    ("int8", 192),
    ("kmeans", 192),
    ("kmeans", 128),
    ("binary", 192),
    ("binary", 128),
    ("binary", 96),
    ("binary", 64),
    ("binary", 32),
)
"""Forms by falling nDCG@10 on SciFact, those of which none better is as small."""


class LateForm(NamedTuple):
    """What distinguishes two sets of token vectors of one encoder."""

    codec: LateCodec
    dim: int
    tokens: str

    @property
    def suffix(self) -> str:
        """What is added to the encoder's fingerprint to name the folder of the vectors.

        >>> LateForm("fp16", 192, "all").suffix, LateForm("int8", 64, "pooled:2").suffix
        ('', '-int8-pooled2')
        """
        if (self.codec, self.tokens) == ("fp16", "all"):
            return ""
        return f"-{self.codec}-{self.tokens.replace(':', '')}"


def late_form(settings: Settings) -> LateForm:
    """Return what the settings ask for.

    Raises:
        ConfigError: No form is as small as ``late_bytes``.
    """
    tokens = settings.late_tokens
    if settings.late_bytes is None:
        return LateForm(settings.late_codec, settings.late_dim, tokens)
    longest = -(-settings.max_tokens // factor_of(tokens))
    for codec, dim in LADDER:
        if token_bytes(codec, dim) * longest <= settings.late_bytes:
            return LateForm(codec, dim, tokens)
    least = min(token_bytes(codec, dim) for codec, dim in LADDER) * longest
    raise ConfigError(
        f"'late_bytes' is {settings.late_bytes}, too few for {longest} token vectors",
        fix=f"allow {least}, lower 'max_tokens', or set 'late_tokens' to 'pooled:4'",
    )


def token_bytes(codec: LateCodec, dim: int) -> int:
    """Return the bytes of one stored token vector.

    >>> [token_bytes(codec, 128) for codec in ("fp16", "int8", "kmeans", "binary")]
    [256, 128, 32, 16]
    """
    kind = CODECS[codec]
    return kind.columns(dim) * kind.dtype.itemsize
