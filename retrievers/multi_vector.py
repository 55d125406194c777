"""Multi-vector models (ColBERT): their limits, and the words that each scored vector stands for.

Markers, ``[MASK]`` expansion and skip lists are the model's own, applied by its own modules.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .scoring_card import ScoringCard
from .token_spans import TokenSpan, spans_of


def limit_document(model: Any, max_tokens: int) -> None:
    """Read no more of a document than ``max_tokens``, where a model has a length of its own."""
    length = getattr(model[0], "document_length", None)
    if length is not None:
        model[0].document_length = min(length, max_tokens)


def positions_of(model: Any) -> int | None:
    """Return how many tokens a model can tell apart by place; None if it does not say."""
    config = getattr(model[0], "config", None)
    positions = getattr(config, "max_position_embeddings", None)
    # Some models reserve positions; only their tokenizer knows how many are left.
    readable = getattr(model.tokenizer, "model_max_length", None)
    known = [limit for limit in (positions, readable) if limit]
    return min(known, default=None)


def scored_spans(
    model: Any, text: str, kind: Literal["query", "document"]
) -> list[TokenSpan] | None:
    """Return the characters that each scored vector of a text stands for.

    Markers and expansion tokens stand for none; tokens that the model skips have no vector.

    Returns:
        None where vectors do not come from single tokens, or the tokenizer keeps no places.
    """
    prompt = (model.prompts or {}).get(kind) or ""
    features = model.preprocess([text], prompt=prompt or None, task=kind)
    read = _read_again(model, prompt + text, features)
    scored = _scored(model, features, kind)
    if read is None or scored is None or len(read["input_ids"]) > len(scored):
        return None
    spans = spans_of(read["offset_mapping"], read.word_ids(0), prompt, text)
    added = [TokenSpan(0, 0, None)] * (len(scored) - len(spans))
    return [span for span, kept in zip(spans + added, scored, strict=True) if kept]


def _read_again(model: Any, text: str, features: Any) -> Any:
    """Tokenize with places; None unless that gives the tokens that the model reads."""
    tokenizer: Any = model.tokenizer
    if not getattr(tokenizer, "is_fast", False):
        return None
    ids: list[int] = features["input_ids"][0].tolist()
    read = tokenizer(
        text, truncation="longest_first", max_length=len(ids), return_offsets_mapping=True
    )
    same = read["input_ids"] == ids[: len(read["input_ids"])]
    return read if same else None


def _scored(model: Any, features: Any, kind: str) -> NDArray[np.bool_] | None:
    """Return which tokens are scored; None if a module makes other vectors of them."""
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
    from sentence_transformers.multi_vector_encoder.modules.token_pooling import BaseTokenPooling

    for module in model:
        if isinstance(module, BaseTokenPooling) and module.applies_to(kind):
            return None
        if isinstance(module, MultiVectorMask):
            features = module(features, task=kind)
    return features["attention_mask"][0].bool().cpu().numpy()


def scoring_card(model: Any) -> ScoringCard:
    """Describe how a model reads and scores tokens, for encoding without it.

    Raises:
        ValueError: It does more than that.
    """
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    known = (Transformer, Dense, Normalize, MultiVectorMask)
    masks = [module for module in model if isinstance(module, MultiVectorMask)]
    if not all(isinstance(module, known) for module in model) or len(masks) != 1:
        raise ValueError("the model has modules of its own")
    if masks[0].keep_only_token_ids or model.tokenizer.padding_side != "right":
        raise ValueError("the model scores chosen tokens only, or pads on the left")
    expansion = model[0].query_expansion or {}
    longest = model.max_seq_length
    fixed = expansion["length"] if expansion.get("strategy") == "fixed" else None
    skipped = masks[0]._skiplist_ids
    return ScoringCard(
        query_length=fixed or model[0].query_length or longest,
        document_length=model[0].document_length or longest,
        expand_to=expansion.get("length", 0),
        expansion_id=_expansion_id(model.tokenizer, expansion.get("token")),
        attends=expansion.get("attend", False),
        skipped=[] if skipped is None else skipped.tolist(),
        skipped_of=masks[0].skiplist_tasks,
    )


def _expansion_id(tokenizer: Any, token: str | None) -> int:
    """Find the token that queries are filled up with, as sentence-transformers does."""
    if token is not None:
        return int(tokenizer.convert_tokens_to_ids(token))
    known = (tokenizer.mask_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    return next(found for found in known if found is not None)
