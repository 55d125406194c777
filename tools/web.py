"""Open one web page, under limits: off by default, public addresses only, small, quick.

Every host is resolved first and refused if any of its addresses is private, loopback, link-local
or otherwise not global; the connection then goes to the address that was checked, so a second
look-up cannot change it. Redirects are followed by hand, each checked the same way.
"""

import ipaddress
import socket
from time import monotonic
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

import httpx

from ..core.errors import ToolError
from ..core.settings import WebSettings
from ..retrievers.readers.markup import html_to_text

_TEXT_TYPES = ("text/html", "application/xhtml+xml", "text/plain", "text/markdown")


class Page(NamedTuple):
    """A fetched page as text."""

    url: str
    title: str
    text: str


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
        host, address = _checked(url, allow_private)
        status, headers, body = _get(url, host, address, limits, deadline)
        if status in (301, 302, 303, 307, 308) and "location" in headers:
            url = urljoin(url, headers["location"])
            continue
        if status != 200:
            raise ToolError(f"{url!r} answered with status {status}", fix="try another page")
        return _page(url, headers, body)
    raise ToolError(
        f"{url!r} redirects more than {limits.max_redirects} times", fix="try another page"
    )


def _checked(url: str, allow_private: bool) -> tuple[str, str]:
    """Return the host and one of its addresses, all of them public."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ToolError(f"{url!r} is not a URL", fix="give an http or https address") from error
    if parts.scheme not in ("http", "https") or not host:
        raise ToolError(f"{url!r} is not an http or https URL", fix="give a full address")
    if parts.username or parts.password:
        raise ToolError("URLs with credentials are refused", fix="leave them out")
    if not allow_private and port not in (None, 80, 443):
        raise ToolError(f"port {port} is refused", fix="use the standard port")
    try:
        found = socket.getaddrinfo(host, port or 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ToolError(f"the host {host!r} cannot be found", fix="check the address") from error
    addresses = [str(item[4][0]) for item in found]
    if not allow_private and not all(_public(address) for address in addresses):
        raise ToolError(f"{host!r} is not a public address", fix="only public pages are opened")
    return host, addresses[0]


def _public(address: str) -> bool:
    ip = ipaddress.ip_address(address.split("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_global and not (mapped or ip).is_multicast


def _get(
    url: str, host: str, address: str, limits: WebSettings, deadline: float
) -> tuple[int, httpx.Headers, bytes]:
    parts = urlsplit(url)
    netloc = f"[{address}]" if ":" in address else address
    pinned = parts._replace(netloc=f"{netloc}:{parts.port}" if parts.port else netloc).geturl()
    headers = {"host": parts.netloc, "user-agent": "retrail", "accept-encoding": "identity"}
    try:
        with httpx.Client(timeout=limits.timeout_seconds, trust_env=False) as client:
            request = client.build_request(
                "GET", pinned, headers=headers, extensions={"sni_hostname": host}
            )
            response = client.send(request, stream=True)
            try:
                return response.status_code, response.headers, _body(response, limits, deadline)
            finally:
                response.close()
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        raise ToolError(f"{url!r} cannot be opened ({reason})", fix="try another page") from error


def _body(response: httpx.Response, limits: WebSettings, deadline: float) -> bytes:
    body = bytearray()
    for part in response.iter_bytes():
        body += part
        if len(body) > limits.max_bytes:
            raise ToolError(f"the page is larger than {limits.max_bytes} bytes", fix="try another")
        if monotonic() > deadline:
            raise ToolError(
                f"the page took longer than {limits.timeout_seconds:g} s", fix="try another page"
            )
    return bytes(body)


def _page(url: str, headers: httpx.Headers, body: bytes) -> Page:
    kind = headers.get("content-type", "text/plain").split(";")[0].strip().lower()
    if kind not in _TEXT_TYPES:
        raise ToolError(f"{url!r} is {kind!r}, not text", fix="try another page")
    charset = httpx.Response(200, headers=headers).charset_encoding or "utf-8"
    try:
        text = body.decode(charset, errors="replace")
    except LookupError:
        text = body.decode("utf-8", errors="replace")
    if kind in ("text/html", "application/xhtml+xml"):
        title, text = html_to_text(text)
        return Page(url, title, text)
    return Page(url, "", text)
