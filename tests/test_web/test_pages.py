"""Opening web pages from a real server."""

import socket

import pytest
from retrail.core import ToolError, WebSettings
from retrail.tools import Page, fetch_page

from .conftest import LIMITS, Server6, serve


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


def test_pages_over_ipv6():
    try:
        for local in serve(Server6, "::1"):
            url = f"http://[::1]:{local.server_port}/plain"
            assert fetch_page(url, LIMITS, allow_private=True).text == "just text"
            assert local.seen == [(f"[::1]:{local.server_port}", "/plain")]
    except OSError:
        pytest.skip("this machine has no IPv6")


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
