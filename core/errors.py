"""Every error retrail raises on purpose, split by who can mend it.

    RetrailError
    ├── ConfigError               the user mends it: arguments, settings, files, workspaces
    │   ├── FilterError           a filter that cannot be parsed or names an unknown field
    │   ├── WorkspaceNotFound     no workspace where one was expected
    │   └── WorkspaceLocked       another process is writing to the workspace
    ├── ToolError                 the model may retry: the text says what to change
    ├── BudgetExceeded            a run reached a budget; carries the best partial result
    ├── Interrupted               long work was asked to stop; what is done is kept
    ├── IndexMismatch             an index was built by something else than what opens it
    ├── BackendUnavailable        an optional package is missing or broken
    └── CorruptStore              a file on disk is damaged or from a newer version

Messages quote identifiers with ``!r`` and end with the fix.
"""

REBUILD = "retrail doctor --rebuild"
"""The command that mends an index."""


class RetrailError(Exception):
    """Base of all errors raised on purpose.

    >>> try:
    ...     raise ConfigError("bad value", fix="pass a number")
    ... except RetrailError as error:
    ...     print(error)
    bad value: pass a number
    """

    def __init__(self, message: str, *, fix: str | None = None) -> None:
        """Join the message and the fix, which users read as one sentence."""
        self.fix = fix
        super().__init__(f"{message}: {fix}" if fix else message)


class ConfigError(RetrailError):
    """The user asked for something impossible and can mend it."""


class FilterError(ConfigError):
    """A metadata filter is malformed or names a field the corpus does not have."""


class WorkspaceNotFound(ConfigError):
    """There is no workspace at the given path."""


class WorkspaceLocked(ConfigError):
    """Another process holds the workspace's write lock."""


class ToolError(RetrailError):
    """A tool call failed in a way the calling model can correct."""


class BudgetExceeded(RetrailError):
    """A run reached one of its budgets."""

    def __init__(self, message: str, *, partial: object = None, fix: str | None = None) -> None:
        """Keep what had been found when the budget ran out."""
        super().__init__(message, fix=fix)
        self.partial = partial


class Interrupted(RetrailError):
    """Long work was asked to stop; the same call goes on from what is kept.

    Progress callbacks raise it.
    """


class IndexMismatch(RetrailError):
    """An index on disk does not fit the encoder or settings that opened it."""

    def __init__(self, message: str, *, expected: str, found: str, mend: str) -> None:
        """Name both sides and the command that mends the difference."""
        super().__init__(f"{message} (expected {expected!r}, found {found!r})", fix=mend)
        self.expected = expected
        self.found = found
        self.mend = mend


class BackendUnavailable(RetrailError):
    """An optional dependency is not installed or does not work here."""

    def __init__(self, message: str, *, install_hint: str) -> None:
        """Say which command installs what is missing."""
        super().__init__(message, fix=install_hint)
        self.install_hint = install_hint


class CorruptStore(RetrailError):
    """A stored file is damaged, or was written by a newer version."""
