"""ReadReport: what a read gave and what it had to leave out.

One bad line or file must not cost a corpus, so readers skip it, count it by reason and keep the
first messages. ``Unreadable`` carries one such problem to the loop that records it; it never
leaves this package.
"""

from collections import Counter
from dataclasses import dataclass, field

MAX_PROBLEMS = 50


class Unreadable(Exception):
    """One line or file that cannot become a document."""

    def __init__(self, reason: str, detail: str = "") -> None:
        """Keep the reason, which is counted, apart from the detail, which is only shown."""
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


@dataclass(slots=True)
class ReadReport:
    """Counts of one read; readers add to it while their documents are consumed.

    >>> report = ReadReport()
    >>> report.skip("corpus.jsonl, line 3", Unreadable("broken JSON", "Expecting value"))
    >>> report.problems
    ['corpus.jsonl, line 3: broken JSON: Expecting value']
    """

    documents: int = 0
    skipped: int = 0
    """Lines and files left out."""
    problems: list[str] = field(default_factory=list[str])
    """The first 50 messages; the counts go on."""
    by_reason: Counter[str] = field(default_factory=Counter[str])
    """How often each reason occurred."""

    def skip(self, where: str, problem: Unreadable) -> None:
        """Count a problem and keep its message while there is room."""
        self.count(problem.reason)
        if len(self.problems) < MAX_PROBLEMS:
            # File names may hold bytes that no terminal or log can encode.
            message = f"{where}: {problem}".encode("utf-8", "backslashreplace")
            self.problems.append(message.decode())

    def count(self, reason: str) -> None:
        """Count something left out that needs no message of its own."""
        self.skipped += 1
        self.by_reason[reason] += 1
