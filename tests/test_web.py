"""Opening web pages: a real server behind it, and nothing private ever reached."""

import _socket
import gzip
import re
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


def test_plain_text(fetch, server):
    page = fetch("/plain")
    assert page == Page(f"http://127.0.0.1:{server.server_port}/plain", "", "just text")


@pytest.mark.parametrize("path", ["/html", "/latin", "/no-charset", "/xhtml"])
def test_html_becomes_text(fetch, path):
    page = fetch(path)
    assert (page.title, page.text) == ("The title", "Head\ncaf\u00e9 noir")


def test_other_text_is_kept_as_it_is(fetch):
    assert fetch("/markdown").text == "# Head"
    assert fetch("/untyped").text == "no type"
    assert fetch("/just-fits").text == "x" * 20_000


@pytest.mark.parametrize("path", ["/odd-charset", "/idna-charset"])
def test_an_unusable_charset_falls_back_to_utf_8(fetch, path):
    assert fetch(path).text == "caf\u00e9"


def test_bytes_that_do_not_decode_are_marked(fetch):
    assert fetch("/wrong-charset").text == "caf\ufffd"
    assert fetch("/no-codec").text == "cafe"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/image", "'image/png', not text"),
        ("/json", "'application/json', not text"),
        ("/gone", "status 404"),
        ("/still", "status 304"),
        ("/no-location", "status 302"),
        ("/large", "larger than 20000 bytes"),
        ("/bomb", "larger than 20000 bytes"),
        ("/packed", "compressed"),
        ("/loop", "redirects more than 3 times"),
        ("/bad-location", "cannot be opened"),
    ],
)
def test_what_is_no_small_text_is_an_error_for_the_model(fetch, path, reason):
    with pytest.raises(ToolError, match=reason) as caught:
        fetch(path)
    assert caught.value.fix in ("try another page", "try another")


def test_redirects_are_followed_up_to_the_limit(fetch, server):
    base = f"http://127.0.0.1:{server.server_port}"
    assert fetch("/hop/3") == Page(f"{base}/plain", "", "just text")
    assert [path for _, path in server.seen] == ["/hop/3", "/hop/2", "/hop/1", "/plain"]
    assert fetch("/to-plain").url == f"{base}/plain?x=1"
    with pytest.raises(ToolError, match="redirects more than 3 times"):
        fetch("/hop/4")
    with pytest.raises(ToolError, match="redirects more than 0 times"):
        fetch("/hop/1", max_redirects=0)


@pytest.mark.parametrize("path", ["/slow-body", "/slow-end", "/slow-head"])
def test_a_server_that_drips_is_cut_off(fetch, path):
    """Each byte comes in time; only the whole does not."""
    with pytest.raises(ToolError, match=r"took longer than 0\.4 s"):
        fetch(path, timeout_seconds=0.4)


def test_a_silent_server_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        limits = LIMITS.model_copy(update={"timeout_seconds": 0.3})
        with pytest.raises(ToolError, match=r"took longer than 0\.3 s"):
            fetch_page(url, limits, allow_private=True)


def test_a_closed_port_is_an_error_for_the_model():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
    with pytest.raises(ToolError, match="cannot be opened"):
        fetch_page(url, LIMITS, allow_private=True)


def test_the_request_says_little(fetch, server):
    sent = dict(line.split(": ", 1) for line in fetch("/headers").text.splitlines())
    assert sent["host"] == f"127.0.0.1:{server.server_port}"
    assert sent["user-agent"] == "retrail"
    assert sent.keys() <= {"host", "user-agent", "accept-encoding", "accept", "connection"}


def test_proxies_of_the_environment_are_not_used(fetch, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert fetch("/plain").text == "just text"


def test_off_by_default(server):
    url = f"http://127.0.0.1:{server.server_port}/plain"
    with pytest.raises(ToolError, match="opening web pages is off here"):
        fetch_page(url, WebSettings(), allow_private=True)
    assert server.seen == []


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.8.8.8",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "192.0.2.1",
        "224.0.0.1",
        "255.255.255.255",
        "[::1]",
        "[::]",
        "[fe80::1]",
        "[fc00::1]",
        "[fd12:3456::1]",
        "[fec0::1]",
        "[ff0e::1]",
        "[2001:db8::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:a00:1]",
        "[::127.0.0.1]",
        "[2002:7f00:1::]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b::a00:1]",
        "[64:ff9b:1::1]",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "017700000001",
        "127.1",
        "0x7f.1",
        "0",
        "3232235777",
        "localhost",
        "LOCALHOST",
        "intranet.example",
        "half.example",
    ],
)
def test_addresses_that_are_not_public_are_refused(names, host):
    names.add("intranet.example", ["10.0.0.5"])
    names.add("half.example", [PUBLIC, "10.0.0.5"])
    for url in (f"http://{host}/", f"https://{host}:443/x", f"http://{host}:80"):
        assert re.search("is not a public address|is not a URL", refusal(url))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://user:secret@public.example/", "credentials"),
        ("http://user@public.example/", "credentials"),
        ("http://public.example@127.0.0.1/", "credentials"),
        ("http://public.example:8080/", "port 8080"),
        ("https://public.example:22/", "port 22"),
        ("http://public.example:0/", "port 0"),
        ("http://public.example:99999/", "port 99999"),
        ("http://public.example:abc/", "not a URL"),
        ("ftp://public.example/", "not an http or https URL"),
        ("file:///etc/passwd", "not an http or https URL"),
        ("gopher://public.example/", "not an http or https URL"),
        ("javascript:alert(1)", "not an http or https URL"),
        ("data:text/plain,x", "not an http or https URL"),
        ("//public.example/", "not an http or https URL"),
        ("public.example", "not an http or https URL"),
        ("http://", "not an http or https URL"),
        ("http:///path", "not an http or https URL"),
        ("", "not an http or https URL"),
        ("http://[::1", "not a URL"),
        ("http://public.example/\x00", "not a URL"),
        ("http://public.example/" + "a" * 3000, "characters"),
        ("http://nobody.example/", "cannot be found"),
        ("http://xn--/", "cannot be found"),
        ("http://" + "a" * 300 + ".example/", "cannot be found"),
    ],
)
def test_other_urls_are_refused(names, url, reason):
    assert reason in refusal(url)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("http://127.0.0.1/", "is not a public address"),
        ("http://localhost/", "is not a public address"),
        ("http://[::1]/", "is not a public address"),
        ("http://2130706433/", "is not a public address"),
        ("http://intranet.example/", "is not a public address"),
        ("//intranet.example/", "is not a public address"),
        ("http://public.example:8080/", "port 8080 is refused"),
        ("http://me:you@public.example/plain", "credentials"),
        ("file:///etc/passwd", "not an http or https URL"),
    ],
)
def test_a_redirect_is_checked_like_the_first_address(internet, server, target, reason):
    internet.add("intranet.example", ["10.0.0.5"])
    server.away = target
    assert reason in refusal("http://public.example/away")
    assert server.seen == [("public.example", "/away")]


def test_a_public_page_is_read_from_the_address_that_was_checked(internet, server):
    """The name leads elsewhere at the next look-up; there must not be one."""
    internet.add("rebinding.example", [PUBLIC], ["127.0.0.1"])
    assert fetch_page("http://rebinding.example/html", LIMITS).title == "The title"
    assert internet.asked["rebinding.example"] == 1
    server.away = "http://rebinding.example/plain"
    assert "is not a public address" in refusal("http://public.example/away")
    assert [path for _, path in server.seen] == ["/html", "/away"]


def test_names_beyond_ascii_are_opened(internet, server):
    internet.add("xn--bcher-kva.example", [PUBLIC])
    assert fetch_page("http://b\u00fccher.example/plain", LIMITS).text == "just text"
    assert server.seen == [("xn--bcher-kva.example", "/plain")]


def test_pages_over_ipv6():
    try:
        for local in serve(Server6, "::1"):
            url = f"http://[::1]:{local.server_port}/plain"
            assert fetch_page(url, LIMITS, allow_private=True).text == "just text"
            assert local.seen == [(f"[::1]:{local.server_port}", "/plain")]
    except OSError:
        pytest.skip("this machine has no IPv6")


@pytest.fixture(scope="module")
def kb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    path: Path = tmp_path_factory.mktemp("web") / "kb"
    with Workspace.create(path, web={"enabled": True}) as workspace:
        workspace.add(Document(id="http://public.example/kept", text="A page that was added."))
        yield workspace


def test_browse_opens_pages_where_the_workspace_allows_it(kb, internet, server):
    tools = {tool.name: tool for tool in kb.tools(question="What is on the page?")}
    shown = tools["browse"].invoke({"passage_id": "http://public.example/html"})
    assert shown.splitlines()[:2] == ["[http://public.example/html]", "~~~"]
    assert "caf\u00e9 noir" in shown
    shown = tools["browse"].invoke({"passage_id": "http://intranet.example/"})
    assert shown.startswith("Error: ")
    (summary,) = kb.trajectories.list(question="What is on the page?")
    first, second = kb.trajectories.get(summary.id).steps
    assert first.args == {"url": "http://public.example/html"}
    assert first.observation.text == "The title\nHead\ncaf\u00e9 noir"
    assert first.observation.doc_id is None
    assert second.observation.error


def test_a_document_whose_id_is_a_url_is_opened_from_the_corpus(kb, internet, server):
    tools = {tool.name: tool for tool in kb.tools(question="What was added?")}
    shown = tools["browse"].invoke({"passage_id": "http://public.example/kept"})
    assert "A page that was added." in shown
    assert server.seen == []
