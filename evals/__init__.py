"""Datasets, simulated readers, and evaluations: what is measured, how sure it is, and a report."""

from ..memory.formats.browsecomp import to_browsecomp_plus
from ..memory.formats.trec import rank_documents
from .agent_metrics import AGENT_METRICS, evidence_recall, measure_run
from .answers import exact_match, normalise_answer, token_f1
from .compare import Comparison, compare
from .datasets import Dataset, Query, load_dataset, read_qrels
from .evaluate import Report, evaluate
from .learning_report import write_learning_report
from .results import Measured, QueryResult, Results, Summary, read_results
from .running import search_queries
from .simulated import Behaviour, SimulatedReader

__all__ = [
    "AGENT_METRICS",
    "Behaviour",
    "Comparison",
    "Dataset",
    "Measured",
    "Query",
    "QueryResult",
    "Report",
    "Results",
    "SimulatedReader",
    "Summary",
    "compare",
    "evaluate",
    "evidence_recall",
    "exact_match",
    "load_dataset",
    "measure_run",
    "normalise_answer",
    "rank_documents",
    "read_qrels",
    "read_results",
    "search_queries",
    "to_browsecomp_plus",
    "token_f1",
    "write_learning_report",
]
