"""The serve command: the page, the HTTP API and the OpenAI-compatible one, from one process."""

import logging
import os
from typing import Annotated

import typer

from .console import Output
from .options import DEFAULT_WORKSPACE, HostOption, TokenOption, WorkspaceOption


def serve(
    host: HostOption = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8080,
    token: TokenOption = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="PROVIDER:NAME", help="Chat model of the llm planner; keys: environment."
        ),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Serve the web page and the HTTP API; chat clients find OpenAI's under /v1."""
    # Searches at once share the cores better than the threads of one product of small matrices;
    # read when numpy is first imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from ..agents.planners import choose_planner
    from ..agents.workspace import Workspace
    from .http.app import create_app
    from .http.options import ServerOptions
    from .http.server import serve_app
    from .network import address, check_exposure, listen

    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    out = Output()
    check_exposure(host, token)
    with Workspace.open(workspace) as opened:
        choose_planner("rules", model)  # a model that cannot be built is told now
        app = create_app(opened, ServerOptions(token=token, model=model))
        with listen(host, port) as listener:
            url = address(host, listener)
            out.note(f"retrail at {url}, Ctrl-C ends it")
            if open_page:
                import webbrowser

                webbrowser.open(url)
            serve_app(app, listener)
    out.note("stopped")
