"""The keyword query language, parsed by us into engine queries, never by the engine.

Plain words are optional and ranked by BM25. ``"a phrase"`` also scores its words in order,
``+word`` must occur and ``-word`` must not, ``AND``, ``OR``, ``AND NOT`` (capitals) and parentheses
combine; signs may stand before phrases and parentheses. Anything else is text: no input is an
error, and none reaches a field or a regular expression.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

_TOKEN = re.compile(r'(?P<quote>[+-]?"[^"]*")|(?P<paren>[+-]?\(|\))|(?P<word>[^\s()"]+)|"')
_SIGNS = re.compile(r'["()]|(?<!\S)[+-]|(?<!\S)(?:AND|OR)(?!\S)')
"""Without any of these a query is plain words."""
MAX_CLAUSES = 256
_MAX_DEPTH = 20

Need = Literal["should", "must", "must_not"]


@dataclass(frozen=True, slots=True)
class Words:
    """Text to be analysed; ``phrase`` keeps the order."""

    text: str
    phrase: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Clauses with what is needed of each."""

    clauses: tuple[tuple[Need, "Words | Group"], ...]


def parse_keyword(query: str) -> Group:
    """Parse a keyword query; total, never fails.

    >>> parse_keyword("plain words").clauses
    (('should', Words(text='plain words', phrase=False)),)
    >>> parse_keyword('deep "late interaction" -vision').clauses[1]
    ('should', Words(text='late interaction', phrase=True))
    >>> parse_keyword("a AND NOT b").clauses
    (('must', Words(text='a', phrase=False)), ('must_not', Words(text='b', phrase=False)))
    """
    if not _SIGNS.search(query):
        return Group((("should", Words(query)),))  # analysed at once
    tokens = [match.group() for match in _TOKEN.finditer(query) if match.lastgroup]
    return _Parser(tokens[:MAX_CLAUSES]).group(0)


class _Parser:
    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens = tokens
        self.at = 0

    def group(self, depth: int) -> Group:
        clauses: list[tuple[Need, Words | Group]] = []
        joined: Need | None = None
        while self.at < len(self.tokens) and (not depth or self.tokens[self.at] != ")"):
            if self.tokens[self.at] == ")":
                self.at += 1  # it closes nothing
                continue
            if clauses and (operator := self._operator()):
                joined = operator
                if operator != "should" and clauses[-1][0] == "should":
                    clauses[-1] = ("must", clauses[-1][1])
                continue
            need, clause = self._clause(depth)
            clauses.append((need if need != "should" else joined or need, clause))
            joined = None
        return Group(tuple(clauses))

    def _operator(self) -> Need | None:
        """Consume ``AND``, ``OR`` or ``AND NOT`` when an operand follows."""
        for words, need in _OPERATORS:
            rest = self.tokens[self.at : self.at + len(words) + 1]
            if len(rest) > len(words) and tuple(rest[: len(words)]) == words and rest[-1] != ")":
                self.at += len(words)
                return need
        return None

    def _clause(self, depth: int) -> tuple[Need, Words | Group]:
        token = self.tokens[self.at]
        self.at += 1
        need: Need = "should"
        if len(token) > 1 and token[0] in "+-" and (token[1] in '"(' or token[1].isalnum()):
            need, token = ("must" if token[0] == "+" else "must_not"), token[1:]
        if token == "(":
            inner = self.group(depth + 1) if depth < _MAX_DEPTH else Group(())
            self.at += 1
            return need, inner
        return need, Words(token.strip('"'), phrase=token.startswith('"'))


_OPERATORS: tuple[tuple[tuple[str, ...], Need], ...] = (
    (("AND", "NOT"), "must_not"),
    (("AND",), "must"),
    (("OR",), "should"),
)


def build_query(
    group: Group, schema: Any, field: str, analyse: Callable[[str], list[str]]
) -> Any | None:
    """Turn a parsed query into a tantivy query over one field.

    A phrase adds its words as ordinary terms too where it is optional. A group without anything
    positive, or whose words all vanish in analysis, matches nothing and gives None.
    """
    from tantivy import Occur, Query

    occurs = {"should": Occur.Should, "must": Occur.Must, "must_not": Occur.MustNot}
    built: list[tuple[Any, Any]] = []
    positive = False
    for need, clause in group.clauses:
        query = (
            build_query(clause, schema, field, analyse)
            if isinstance(clause, Group)
            else _words(clause, need, schema, field, analyse)
        )
        if query is not None:
            built.append((occurs[need], query))
            positive |= need != "must_not"
    if not positive:
        return None
    # A query inside another would keep the engine from skipping passages that cannot be among the
    # best.
    return built[0][1] if len(built) == 1 else Query.boolean_query(built)


def _words(
    words: Words, need: Need, schema: Any, field: str, analyse: Callable[[str], list[str]]
) -> Any | None:
    from tantivy import Occur, Query

    terms = analyse(words.text)[:MAX_CLAUSES]
    queries = [Query.term_query(schema, field, term) for term in terms]
    if not queries:
        return None
    if len(queries) == 1:
        return queries[0]
    if words.phrase or need == "must_not":
        phrase = Query.phrase_query(schema, field, list(terms))
        if need != "should":
            return phrase
        queries.append(phrase)
    occur = Occur.Must if need == "must" else Occur.Should
    return Query.boolean_query([(occur, query) for query in queries])
