"""The index as a LangChain retriever, for chains that expect one."""

from typing import Any

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict

from ..retrievers.index import Index


class IndexRetriever(BaseRetriever):
    """Ranks with one retriever; scores and ids travel in the metadata."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    index: Index
    by: Any = "hybrid"
    k: int = 10
    where: Any = None

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        hits = self.index.search(query, by=self.by, k=self.k, where=self.where)
        return [
            Document(
                id=hit.passage.id,
                page_content=hit.passage.text,
                metadata=dict(hit.passage.metadata)
                | {
                    "doc_id": hit.doc_id,
                    "title": hit.passage.title,
                    "url": hit.passage.url,
                    "score": hit.score,
                    "rank": hit.rank,
                },
            )
            for hit in hits
        ]
