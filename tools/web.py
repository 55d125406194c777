"""Open one web page, under limits: off by default, public addresses only, small, quick.

Every host is resolved first and refused if any of its addresses is private, loopback, link-local
or otherwise not global; the connection then goes to the address that was checked, so a second
look-up cannot change it. Redirects are followed by hand, each checked the same way. At the
deadline the connection is cut, however slowly the server speaks.
"""

import ipaddress
import socket
from contextlib import suppress
from threading import Timer
from time import monotonic
from typing import Any, NamedTuple

import httpx

from ..core.errors import ToolError
from ..core.settings import WebSettings
from ..retrievers.readers.markup import html_to_text

_TEXT_TYPES = ("text/html", "application/xhtml+xml", "text/plain", "text/markdown")
_ENCODINGS = ("", "identity", "gzip", "deflate")
_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_URL = 2_000
_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Page(NamedTuple):
    """A fetched page as text."""

    url: str
    title: str
    text: str


class _Target(NamedTuple):
    """A URL that was checked, with the address to connect to."""

    url: httpx.URL
    address: str


def fetch_page(url: str, limits: WebSettings, *, allow_private: bool = False) -> Page:
    """Fetch a page and return its text.

    Args:
        url: An http or https address.
        limits: Size, time and redirect limits; ``enabled`` must be set.
        allow_private: Skip the address check; for tests against a local server.

    Raises:
        ToolError: Web access is off, the address is refused, a limit is reached, or the server
            does not give text.
    """
    if not limits.enabled:
        raise ToolError("opening web pages is off here", fix="browse a passage or document id")
    deadline = monotonic() + limits.timeout_seconds
    for _ in range(limits.max_redirects + 1):
        target = _checked(url, allow_private)
        status, headers, body = _get(target, limits, deadline)
        if status in _REDIRECTS and "location" in headers:
            url = _joined(target.url, headers["location"])
            continue
        if status != 200:
            raise ToolError(f"{url!r} answered with status {status}", fix="try another page")
        return _page(url, headers, body)
    raise ToolError(
        f"{url!r} redirects more than {limits.max_redirects} times", fix="try another page"
    )


def _checked(url: str, allow_private: bool) -> _Target:
    """Resolve a URL's host to one of its addresses, all of them public."""
    if len(url) > _MAX_URL:
        raise ToolError(f"the URL has {len(url)} characters", fix=f"use at most {_MAX_URL}")
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ToolError(f"{url!r} is not a URL", fix="give an http or https address") from error
    if parsed.scheme not in ("http", "https") or not parsed.raw_host:
        raise ToolError(f"{url!r} is not an http or https URL", fix="give a full address")
    if parsed.userinfo:
        raise ToolError("URLs with credentials are refused", fix="leave them out")
    if not allow_private and parsed.port not in (None, 80, 443):
        raise ToolError(f"port {parsed.port} is refused", fix="use the standard port")
    host = parsed.raw_host.decode("ascii")
    try:
        found = socket.getaddrinfo(host, parsed.port or 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ToolError(f"the host {host!r} cannot be found", fix="check the address") from error
    addresses = [str(item[4][0]) for item in found]
    if not allow_private and not all(_public(address) for address in addresses):
        raise ToolError(f"{host!r} is not a public address", fix="only public pages are opened")
    return _Target(parsed, addresses[0])


def _public(address: str) -> bool:
    """Say whether an address is global, also where it carries an IPv4 address inside."""
    ip = ipaddress.ip_address(address.split("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inside = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            inside = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inside is None:
            return ip in _UNICAST and ip.is_global
        ip = inside
    return ip.is_global and not ip.is_multicast


def _joined(url: httpx.URL, location: str) -> str:
    try:
        return str(url.join(location))
    except httpx.InvalidURL as error:
        raise ToolError(f"{str(url)!r} redirects to no URL", fix="try another page") from error


def _get(target: _Target, limits: WebSettings, deadline: float) -> tuple[int, httpx.Headers, bytes]:
    url = str(target.url)
    headers = {
        "host": target.url.netloc.decode("ascii"),
        "user-agent": "retrail",
        "accept-encoding": "identity",
    }
    watch = _Watch(deadline)
    extensions = {"sni_hostname": target.url.raw_host.decode("ascii"), "trace": watch.trace}
    pinned = target.url.copy_with(host=target.address)
    try:
        with httpx.Client(timeout=max(0.001, deadline - monotonic()), trust_env=False) as client:
            request = client.build_request("GET", pinned, headers=headers, extensions=extensions)
            response = client.send(request, stream=True)
            try:
                body = _body(response, limits)
            finally:
                response.close()
        if watch.passed:  # a cut connection may look like the end of the page
            raise httpx.ReadTimeout("cut")
        return response.status_code, response.headers, body
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        if watch.passed or isinstance(error, httpx.TimeoutException):
            raise ToolError(
                f"{url!r} took longer than {limits.timeout_seconds:g} s", fix="try another page"
            ) from error
        reason = str(error) or type(error).__name__
        raise ToolError(f"{url!r} cannot be opened ({reason})", fix="try another page") from error
    finally:
        watch.stop()


class _Watch:
    """Cuts a connection at the deadline: timeouts of single reads do not add up to one."""

    def __init__(self, deadline: float) -> None:
        self.passed = False
        self._socket: socket.socket | None = None
        self._timer = Timer(max(0.0, deadline - monotonic()), self._cut)
        self._timer.daemon = True
        self._timer.start()

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Take note of the connection's socket, which TLS replaces."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._socket = info["return_value"].get_extra_info("socket")
            if self.passed:
                self._cut()

    def stop(self) -> None:
        """Leave the connection alone from now on."""
        self._timer.cancel()

    def _cut(self) -> None:
        self.passed = True
        if self._socket is not None:
            with suppress(OSError):  # it has been closed in the meantime
                self._socket.shutdown(socket.SHUT_RDWR)


def _body(response: httpx.Response, limits: WebSettings) -> bytes:
    if response.headers.get("content-encoding", "").strip().lower() not in _ENCODINGS:
        raise ToolError("the page is compressed in a way that is not read", fix="try another")
    body = bytearray()
    for part in response.iter_bytes():
        body += part
        if len(body) > limits.max_bytes:
            raise ToolError(f"the page is larger than {limits.max_bytes} bytes", fix="try another")
    return bytes(body)


def _page(url: str, headers: httpx.Headers, body: bytes) -> Page:
    kind = headers.get("content-type", "text/plain").split(";")[0].strip().lower()
    if kind not in _TEXT_TYPES:
        raise ToolError(f"{url!r} is {kind!r}, not text", fix="try another page")
    charset = httpx.Response(200, headers=headers).charset_encoding or "utf-8"
    try:
        text = body.decode(charset, errors="replace")
    except (LookupError, ValueError):
        text = body.decode("utf-8", errors="replace")
    if kind not in ("text/html", "application/xhtml+xml"):
        return Page(url, "", text)
    try:
        title, text = html_to_text(text)
    except ValueError as error:
        raise ToolError(f"{url!r} cannot be read ({error})", fix="try another page") from error
    return Page(url, title, text)
