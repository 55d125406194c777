"""Settings of one workspace: a frozen model, read from and written to ``settings.toml``.

Every knob has a default that works offline on a laptop. What an index was built with (encoder,
chunking, language) is also kept in its manifest, so a later change here is noticed, never mixed in.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import ConfigError
from .fields import FieldName, FieldWeight

EMBEDDED_ENCODER = "all-MiniLM-L6-v2"
"""The encoder whose weights come with the installation."""

GateTest = Literal["randomisation", "bootstrap"]
LateCodec = Literal["fp16", "int8", "kmeans", "binary"]
LatePooling = Literal["max", "topk", "softmax"]
LateStage = Literal["auto", "union", "centroids", "muvera"]
_TOKENIZER = "[a-z][a-z0-9_-]{0,63}"
LongTexts = Literal["cut", "windows"]
Diversify = Literal["none", "mmr", "coverage"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FusionWeights(_Section):
    """How much each retriever counts in hybrid search."""

    keyword: float = Field(default=1.0, ge=0)
    dense: float = Field(default=1.0, ge=0)
    late: float = Field(default=1.0, ge=0)
    sparse: float = Field(default=1.0, ge=0)
    """Counts where ``sparse_encoder`` is set."""


class WebSettings(_Section):
    """Limits of opening a URL, which is off unless switched on here."""

    enabled: bool = False
    timeout_seconds: float = Field(default=15.0, gt=0, le=120)
    max_bytes: int = Field(default=2_000_000, gt=0)
    max_redirects: int = Field(default=3, ge=0, le=10)


class GateSettings(_Section):
    """What a trained candidate is held against before it may serve."""

    guard: str = ""
    """Queries that must not be lost: a ``.jsonl`` file of ``{"_id", "text", "relevant"}`` or a
    folder in BEIR layout, relative to the workspace; empty for known items of the corpus."""
    margin: float = Field(default=0.05, gt=0, le=1)
    """How much nDCG@10 the guard's 95 % interval may reach below zero."""
    test: GateTest = "randomisation"
    """Of the differences; see ``gate.compare``."""


class Budget(_Section):
    """What one run may spend; reaching a limit ends it with the best partial answer."""

    max_steps: int = Field(default=40, ge=1)
    """Actions of any kind."""
    max_searches: int = Field(default=24, ge=1)
    max_seconds: float = Field(default=300.0, gt=0)
    max_llm_tokens: int = Field(default=200_000, gt=0)


class Settings(_Section):
    """All settings of a workspace."""

    language: str = Field(default="en", pattern=r"^[a-z]{2,3}$")
    """ISO 639-1 code; chooses the stemmer and the sentence splitter."""
    tokenizer: str = Field(default="auto", pattern=f"^{_TOKENIZER}$")
    """What cuts texts into keywords: ``words``; ``pairs`` of characters as well, for scripts
    without spaces; one of ``register_tokenizer``. ``auto`` goes by the language, and an index that
    is there keeps its own."""
    encoder_tokenizer: str = Field(default="", pattern=f"^$|^{_TOKENIZER}$")
    """One of ``register_tokenizer`` whose tokens the encoder reads apart."""
    encoder: str = EMBEDDED_ENCODER
    """Name or path of a sentence-transformers or multi-vector model."""
    query_prefix: str | None = Field(default=None, max_length=2000)
    """Put before queries, as ``"query: "`` for E5; the model's own prompt if not given. A
    multi-vector model keeps its marker in front."""
    document_prefix: str | None = Field(default=None, max_length=2000)
    """The same for passages."""
    query_thought: bool = False
    """Dense and late search read an agent's thought in front of its query, as AgentIR is trained
    to; of a long thought the end, so that ``max_tokens`` hold both. A ColBERT checkpoint that reads
    fewer tokens of queries may not reach the query."""
    dense_dim: int | None = Field(default=None, ge=8)
    """First components of a dense vector that are kept, for models trained for it (Matryoshka)."""
    vector_backend: Literal["chroma", "qdrant"] = "chroma"
    """The engine of dense retrieval."""
    vector_url: str = Field(default="", pattern=r"^$|^https?://[^\s/@?#]+/?$")
    """Its server; empty keeps vectors in the workspace. Its key comes from the environment:
    ``CHROMA_API_KEY`` or ``QDRANT_API_KEY``."""
    sparse_encoder: str = ""
    """Name or path of a sentence-transformers ``SparseEncoder`` (SPLADE and its kin) for a fifth
    retriever, ``sparse``; empty for none. ``learn`` does not train it."""
    ragatouille: str = ""
    """Name or path of a ColBERT checkpoint whose PLAID index then answers late search; empty for
    the token vectors of ``encoder``."""
    precision: Literal["auto", "float32", "bfloat16", "int8"] = "auto"
    """Arithmetic of document encoding. ``auto`` measures what the processor is fastest at without
    changing vectors much, once there are 1,000 passages to encode; up to then it is bfloat16 where
    the processor has it. ``int8`` concerns dense and token vectors, not sparse ones."""
    max_tokens: int = Field(default=256, ge=16, le=32768)
    """Tokens of a passage that the encoder reads at once."""
    long_texts: LongTexts = "cut"
    """What becomes of a passage beyond ``max_tokens``: dense and late search do not know it
    (``cut``, and ``status`` counts such passages), or it is read in overlapping ``windows``."""
    chunk_tokens: int = Field(default=200, ge=0)
    """Words and word pieces a passage aims at, cut between sentences; 0 keeps documents whole."""
    late_dim: int = Field(default=192, ge=8)
    """Dimension of stored token vectors."""
    late_codec: LateCodec = "fp16"
    """How a stored token vector is compressed."""
    late_bytes: int | None = Field(default=None, ge=1)
    """Bytes that ``max_tokens`` token vectors of a passage may take; picks ``late_codec``
    and ``late_dim`` by what was measured best."""
    late_tokens: str = Field(default="all", pattern=r"^(all|words|content|pooled:[2-9])$")
    """Token vectors that are stored: all, one a word, those of words that are no stop words, or
    one for each of the clusters into which they fall when there are so many times fewer."""
    late_pooling: LatePooling = "max"
    """How a query token's score comes from all tokens of a passage."""
    late_top_k: int = Field(default=4, ge=1)
    """Of ``topk``: how many of the best are averaged."""
    late_temperature: float = Field(default=0.1, gt=0)
    """Of ``softmax``: the lower, the more the best counts."""
    late_stage: LateStage = "auto"
    """What proposes candidates for late search: dense and keyword search (``union``), centroids of
    token vectors, or fixed dimensional encodings; ``auto`` goes by the size of the corpus."""
    candidates: int = Field(default=100, ge=1, le=10_000)
    """First-stage candidates from each of dense and keyword for late and hybrid search."""
    fusion: Literal["zscore", "rrf"] = "zscore"
    weights: FusionWeights = FusionWeights()
    """Where a version serves that ``learn --mode fusion`` made, its weights take their place."""
    boosts: dict[str, float] = Field(default_factory=lambda: {"title": 0.0})
    """Added to a hybrid score in proportion to the field's words that the query holds."""
    field_weights: dict[FieldName, FieldWeight] = Field(default_factory=dict[str, float])
    """How much a match in a field counts in late and keyword search, 1 where nothing is said;
    ``title`` and ``text``, the body, are fields too. Dense search reads passages as a whole."""
    expand: int = Field(default=0, ge=0, le=100)
    """Nearest passages of each of the ten best candidates that hybrid search scores as well."""
    diversify: Diversify = "none"
    """How hybrid search chooses among its candidates, so that hits do not repeat each other."""
    diversify_lambda: float = Field(default=0.7, ge=0, le=1)
    """Of diversify: 1 looks at relevance only, 0 only at what earlier hits lack."""
    record: bool = True
    """Keep trajectories."""
    max_document_mb: int = Field(default=100, ge=1)
    url_template: str = Field(default="", pattern=r"^$|^https?://[^\s{}]+\{id\}[^\s{}]*$")
    """Web address of a document that has none of its own: ``https://kb.example/{id}``."""
    gate: GateSettings = GateSettings()
    web: WebSettings = WebSettings()
    budget: Budget = Budget()


def load_settings(path: Path) -> Settings:
    """Read ``settings.toml``; a missing file gives the defaults.

    Raises:
        ConfigError: The file is not TOML, or a value is out of range or unknown.
    """
    if not path.exists():
        return Settings()
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{str(path)!r} is not valid TOML: {error}", fix="mend or delete the file"
        ) from error
    return check_settings(values)


def check_settings(values: Mapping[str, Any]) -> Settings:
    """Validate settings.

    Raises:
        ConfigError: A value is out of range or of the wrong type, or a name is unknown.
    """
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"setting {name!r}: {first['msg']}", fix="mend the value or remove it"
        ) from error


def save_settings(settings: Settings, path: Path) -> None:
    """Write all settings, replacing the file in one step."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(tomli_w.dumps(settings.model_dump(exclude_none=True)), encoding="utf-8")
    temporary.replace(path)
