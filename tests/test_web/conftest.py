"""A real web server, and names that lead where a test says, for all tests of this folder."""

import _socket
import gzip
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from retrail.agents import Workspace
from retrail.core import Document, ToolError, WebSettings
from retrail.tools import Page, fetch_page

PUBLIC = "93.184.215.14"


LIMITS = WebSettings(enabled=True, timeout_seconds=20, max_bytes=20_000, max_redirects=3)


HTML = (
    "<html><head><title>The  title</title><script>alert(1)</script></head><body><h1>Head</h1>"
    "<p>caf\u00e9 <b>noir</b></p><nav>menu</nav></body></html>"
)


PAGES: dict[str, tuple[int, dict[str, str], bytes]] = {
    "/plain": (200, {"content-type": "text/plain"}, b"just text"),
    "/html": (200, {"content-type": "text/html; charset=utf-8"}, HTML.encode()),
    "/xhtml": (200, {"content-type": "application/xhtml+xml"}, HTML.encode()),
    "/markdown": (200, {"content-type": "Text/Markdown"}, b"# Head"),
    "/untyped": (200, {}, b"no type"),
    "/latin": (200, {"content-type": "text/html; charset=iso-8859-1"}, HTML.encode("latin-1")),
    "/no-charset": (200, {"content-type": "text/html"}, HTML.encode()),
    "/odd-charset": (200, {"content-type": "text/plain; charset=klingon"}, "caf\u00e9".encode()),
    "/no-codec": (200, {"content-type": "text/plain; charset=hex"}, b"cafe"),
    "/idna-charset": (200, {"content-type": "text/plain; charset=idna"}, "caf\u00e9".encode()),
    "/wrong-charset": (200, {"content-type": "text/plain; charset=utf-8"}, b"caf\xe9"),
    "/image": (200, {"content-type": "image/png"}, b"\x89PNG"),
    "/json": (200, {"content-type": "application/json"}, b"{}"),
    "/gone": (404, {"content-type": "text/html"}, b"not here"),
    "/still": (304, {}, b""),
    "/no-location": (302, {}, b""),
    "/large": (200, {"content-type": "text/plain"}, b"x" * 20_001),
    "/just-fits": (200, {"content-type": "text/plain"}, b"x" * 20_000),
    "/bomb": (
        200,
        {"content-type": "text/plain", "content-encoding": "gzip"},
        gzip.compress(b"x" * 10_000_000),
    ),
    "/packed": (
        200,
        {"content-type": "text/plain", "content-encoding": "br"},
        b"\x0b\x02\x80hello\x03",
    ),
    "/loop": (302, {"location": "/loop"}, b""),
    "/bad-location": (302, {"location": "http://a\x7fb/"}, b""),
    "/to-plain": (303, {"location": "plain?x=1"}, b""),
} | {f"/hop/{n}": (301, {"location": f"/hop/{n - 1}"}, b"") for n in range(2, 6)}


PAGES["/hop/1"] = (307, {"location": "/plain"}, b"")


class Handler(BaseHTTPRequestHandler):
    """Serves ``PAGES``, and three paths that take their time."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.seen.append((self.headers["host"], path))
        if path.startswith("/slow"):
            self.drip(path)
        elif path == "/away":
            self.reply(302, {"location": self.server.away}, b"")
        elif path == "/headers":
            lines = [f"{name.lower()}: {value}" for name, value in self.headers.items()]
            self.reply(200, {"content-type": "text/plain"}, "\n".join(lines).encode())
        else:
            self.reply(*PAGES[path])

    def reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def drip(self, path: str) -> None:
        """Send a byte now and then: never silent for long, and done only after half a minute."""
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"
        if path == "/slow-body":
            self.wfile.write(head + b"content-length: 600\r\n\r\n")
        elif path == "/slow-end":
            self.wfile.write(head + b"connection: close\r\n\r\n")
        else:
            self.wfile.write(head + b"x-dripping: ")
        self.close_connection = True
        try:
            for _ in range(600):
                self.wfile.write(b"x")
                time.sleep(0.05)
            self.wfile.write(b"\r\ncontent-length: 0\r\n\r\n" if path == "/slow-head" else b"")
        except OSError:
            return

    def log_message(self, *args: object) -> None:
        """Stay silent."""


class Server(ThreadingHTTPServer):
    """A server that knows what was asked of it."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int]) -> None:
        self.seen: list[tuple[str, str]] = []
        self.away = ""
        super().__init__(address, Handler)


class Server6(Server):
    """The same over IPv6."""

    address_family = socket.AF_INET6


def serve(kind: type[Server], host: str) -> Iterator[Server]:
    with kind((host, 0)) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    yield from serve(Server, "127.0.0.1")


@pytest.fixture
def server(running: Server) -> Server:
    running.seen.clear()
    return running


@pytest.fixture
def fetch(server: Server) -> Callable[..., Page]:
    """Fetch a path of the local server."""

    def get(path: str, **limits: Any) -> Page:
        url = f"http://127.0.0.1:{server.server_port}{path}"
        return fetch_page(url, LIMITS.model_copy(update=limits), allow_private=True)

    return get


class Names:
    """A name server of our own: addresses by name, the last of several for good."""

    def __init__(self) -> None:
        self.known: dict[str, list[list[str]]] = {"localhost": [["127.0.0.1", "::1"]]}
        self.asked: Counter[str] = Counter()

    def add(self, name: str, *answers: list[str]) -> None:
        self.known[name] = list(answers)

    def getaddrinfo(self, host: Any, port: Any, *args: Any, **kwargs: Any) -> list[Any]:
        self.asked[str(host)] += 1
        answers = self.known.get(host, [[host]])
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        kind, numeric = socket.SOCK_STREAM, socket.AI_NUMERICHOST
        return [
            found
            for address in addresses
            for found in _socket.getaddrinfo(address, port, 0, kind, 0, numeric)
        ]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Names and addresses are resolved here; look-ups leave the machine as little as before."""
    resolver = Names()
    resolver.add("public.example", [PUBLIC])
    monkeypatch.setattr(socket, "getaddrinfo", resolver.getaddrinfo)
    return resolver


@pytest.fixture
def internet(names: Names, server: Server, monkeypatch: pytest.MonkeyPatch) -> Names:
    """A public address that leads to the local server."""
    connect = socket.socket.connect

    def routed(self: socket.socket, address: Any) -> Any:
        there = tuple(address[:2]) == (PUBLIC, 80)
        return connect(self, server.server_address if there else address)

    monkeypatch.setattr(socket.socket, "connect", routed)
    return names


def refusal(url: str, limits: WebSettings = LIMITS) -> str:
    with pytest.raises(ToolError) as caught:
        fetch_page(url, limits)
    assert caught.value.fix
    return str(caught.value)


@pytest.fixture(scope="module")
def kb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    path: Path = tmp_path_factory.mktemp("web") / "kb"
    with Workspace.create(path, web={"enabled": True}) as workspace:
        workspace.add(Document(id="http://public.example/kept", text="A page that was added."))
        yield workspace
