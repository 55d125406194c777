"""The index as a LangChain retriever, for chains that expect one.

Where the workspace records, each use is a small trajectory of its own: the query, the list as it
was shown, nothing opened. Its status is ``partial``, since nobody has answered anything.
"""

from collections.abc import Callable
from typing import Any

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever, LangSmithRetrieverParams
from pydantic import Field

from ..core.documents import Hit
from ..core.filters import Filter
from ..retrievers.index import Retriever
from .session import Session


class IndexRetriever(BaseRetriever):
    """Ranks with one retriever; scores and ids travel in the metadata.

    ``ainvoke`` and ``abatch`` search in worker threads, which is LangChain's default: a search
    computes, there is nothing to await in it.
    """

    by: Retriever = "hybrid"
    k: int = Field(default=10, ge=1)
    where: Filter | None = None
    session: Callable[[str], Session] = Field(exclude=True, repr=False)
    """Begins the run of one query."""

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        session = self.session(query)
        try:
            hits = session.search(query, by=self.by, k=self.k, where=self.where)
        except BaseException:
            session.finish("failed")
            raise
        session.finish("partial" if hits else "not_found")
        return [_document(hit) for hit in hits]

    def _get_ls_params(self, **kwargs: Any) -> LangSmithRetrieverParams:
        """Say in traces which retriever ranked."""
        return LangSmithRetrieverParams(ls_retriever_name=f"retrail_{self.by}")


def _document(hit: Hit) -> Document:
    ours = {
        "doc_id": hit.doc_id,
        "title": hit.passage.title,
        "url": hit.passage.url,
        "score": hit.score,
        "rank": hit.rank,
    }
    if hit.field:
        ours["field"] = hit.field
    return Document(
        id=hit.passage.id,
        page_content=hit.passage.text,
        metadata=dict(hit.passage.metadata) | ours,
    )
