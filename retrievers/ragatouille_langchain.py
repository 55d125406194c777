"""A RAGatouille engine as a LangChain retriever.

RAGatouille's own retriever returns texts without their ids and scores, and keeps searching what
was there before an addition.
"""

from collections.abc import Callable, Sequence

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import Field


class EngineRetriever(BaseRetriever):
    """Ranks passages; score and rank travel in the metadata."""

    search: Callable[[str, int], Sequence[tuple[str, float]]] = Field(exclude=True, repr=False)
    """Ranks passages: ids with scores."""
    text: Callable[[str], str] = Field(exclude=True, repr=False)
    """Returns a passage's text."""
    k: int = Field(default=10, ge=1)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        found = self.search(query, self.k)
        return [
            Document(
                id=passage_id,
                page_content=self.text(passage_id),
                metadata={"passage_id": passage_id, "score": score, "rank": rank},
            )
            for rank, (passage_id, score) in enumerate(found, 1)
        ]
