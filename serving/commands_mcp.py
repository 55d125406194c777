"""The mcp command: the corpus as tools for other people's agents."""

import logging
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from .console import Output
from .options import DEFAULT_WORKSPACE, HostOption, TokenOption, WorkspaceOption

if TYPE_CHECKING:
    from .mcp_server.server import Service


class Transport(StrEnum):
    """How clients reach the server."""

    STDIO = "stdio"
    HTTP = "http"


def mcp(
    transport: Annotated[
        Transport, typer.Option(help="stdio for a client that starts it, http for others.")
    ] = Transport.STDIO,
    host: HostOption = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8765,
    token: TokenOption = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="PROVIDER:NAME", help="Chat model of the tool ask; keys: environment."
        ),
    ] = None,
    url_template: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Of documents that have none: https://kb.example/{id}."),
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Serve search and reading to MCP clients, and record what they do."""
    from ..agents.planners import choose_planner
    from ..agents.workspace import Workspace
    from ..core.settings import check_settings
    from .mcp_server.runs import Runs
    from .mcp_server.server import Service
    from .mcp_server.tools import Options

    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    with Workspace.open(workspace) as opened:
        given = {} if url_template is None else {"url_template": url_template}
        settings = check_settings(opened.settings.model_dump() | given)
        options = Options(choose_planner("rules", model), settings.url_template)
        service = Service(opened, Runs(opened), options)
        if transport is Transport.HTTP:
            _serve_http(service, host, port, token)
            return
        from .mcp_server.stdio import serve_stdio

        serve_stdio(service)


def _serve_http(service: "Service", host: str, port: int, token: str | None) -> None:
    from .mcp_server.http import PATH, serve_http
    from .network import address, check_exposure, listen

    check_exposure(host, token)
    with listen(host, port) as listener:
        Output().note(f"MCP at {address(host, listener)}{PATH}, Ctrl-C ends it")
        serve_http(service, listener, token)
