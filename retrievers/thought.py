r"""Thought: a query that encoders read behind the reasoning that led to it.

AgentIR (arXiv 2603.04384) encodes an agent's current reasoning with its query; training rows of the
same form come from ``training.augment``. The query comes last and encoders read no further than
their limit, so of a long thought only its end is read. Keyword search, records and whoever else
takes the query for text see the bare query.
"""


class ThoughtQuery(str):
    r"""The bare query; ``read`` is what dense and late search encode in its place.

    >>> query = ThoughtQuery("bridge built", "I need the year.", 256)
    >>> query, query.read
    ('bridge built', 'Reasoning: I need the year.\n\nQuery: bridge built')
    """

    read: str

    def __new__(cls, query: str, thought: str, max_tokens: int) -> "ThoughtQuery":
        """Put a thought behind a query; see :func:`reasoning_query`."""
        made = super().__new__(cls, query)
        made.read = reasoning_query(thought, query, max_tokens)
        return made


def read_of(query: str) -> str:
    """Return what encoders read of a query."""
    return query.read if isinstance(query, ThoughtQuery) else query


def reasoning_query(thought: str, query: str, max_tokens: int) -> str:
    r"""Write a query with the reasoning that led to it, in AgentIR's form.

    Args:
        thought: What led to the query; its last words are taken, one for each four tokens, which
            are about half of the limit.
        query: What is looked for.
        max_tokens: That the encoder reads.

    >>> reasoning_query("I need the year.", "bridge built", 256)
    'Reasoning: I need the year.\n\nQuery: bridge built'
    >>> reasoning_query("First this, then that.", "bridge built", 8)
    'Reasoning: then that.\n\nQuery: bridge built'
    """
    words = thought.split()
    if len(words) > max_tokens // 4:
        thought = " ".join(words[-(max_tokens // 4) :])
    return f"Reasoning: {thought.strip()}\n\nQuery: {query}"
