r"""Thought: a query that encoders read behind the reasoning that led to it.

AgentIR (arXiv 2603.04384) encodes an agent's current reasoning with its query; training rows of the
same form come from ``training.augment``. Keyword search, records and whoever else takes the query
for text see the bare query.
"""


class ThoughtQuery(str):
    r"""The bare query; ``read`` is what dense and late search encode in its place.

    >>> query = ThoughtQuery("bridge built", "I need the year.")
    >>> query, query.read
    ('bridge built', 'Reasoning: I need the year.\n\nQuery: bridge built')
    """

    read: str

    def __new__(cls, query: str, thought: str) -> "ThoughtQuery":
        """Put a thought behind a query."""
        made = super().__new__(cls, query)
        made.read = reasoning_query(thought.strip(), query)
        return made


def read_of(query: str) -> str:
    """Return what encoders read of a query."""
    return query.read if isinstance(query, ThoughtQuery) else query


def reasoning_query(thought: str, query: str) -> str:
    r"""Write a query with the reasoning that led to it, in AgentIR's form.

    >>> reasoning_query("I need the year.", "bridge built")
    'Reasoning: I need the year.\n\nQuery: bridge built'
    """
    return f"Reasoning: {thought}\n\nQuery: {query}"
