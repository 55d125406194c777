"""The ``retrail`` command. Nothing heavy is imported before a command runs.

Exit codes: 0 done, 1 failed, 2 wrong usage.
"""

import sys
import warnings
from io import TextIOWrapper
from typing import Annotated

import typer

from . import commands_flywheel, commands_models, commands_trajectories
from .commands_ask import ask
from .commands_corpus import add, remove, status
from .commands_eval import compare, evaluate
from .commands_explain import explain
from .commands_learn import learn
from .commands_mcp import mcp
from .commands_report import report
from .commands_search import search
from .commands_serve import serve
from .commands_stats import stats
from .doctor import doctor
from .errors import Commands
from .panels import Panels

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (add, remove, status, search, explain, ask, serve, mcp, doctor):
    app.command()(command)
app.command(cls=Panels)(learn)
app.command("eval")(evaluate)
app.command()(compare)
commands_trajectories.app.command()(stats)
app.add_typer(commands_trajectories.app, name="trajectories")
commands_models.models.command()(report)
app.add_typer(commands_models.models, name="models")
app.add_typer(commands_flywheel.flywheel, name="flywheel")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"retrail {version('retrail')}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option("--debug", envvar="RETRAIL_DEBUG", help="Show tracebacks.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Agentic retrieval that learns from its agents."""


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # those of libraries, which a user cannot mend
    app(prog_name="retrail")
