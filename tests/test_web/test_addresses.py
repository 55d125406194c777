"""Nothing private is ever reached, whatever a URL or a redirect says."""

import re

import pytest
from retrail.tools import fetch_page

from .conftest import LIMITS, PUBLIC, refusal


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
