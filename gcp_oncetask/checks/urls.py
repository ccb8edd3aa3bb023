"""
Checks of URLs, headers and mail addresses from user code and the environment; in the style of ``values``. Pure.

Source:
    RFC 3986 for URLs, RFC 9110 section 5 for headers; the limits are those of Cloud Tasks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import SplitResult, quote, urlsplit

from gcp_oncetask.checks.values import shown, without_secrets
from gcp_oncetask.errors import UsageError

MAX_URL: Final = 2020
"""Most characters of a URL, percent-encoded. Cloud Tasks takes 2,083; the library appends sequence and dispatch."""
SHORT_URL: Final = MAX_URL // 12
"""A URL of so many characters is short enough in any case: none is encoded as more than twelve."""
MAX_HEADERS: Final = 78_000
"""Most bytes of names and values together. Cloud Tasks takes 80 KB, with its own headers."""

MAX_NAME: Final = 200
MAX_ENCODED_NAME: Final = 45
"""
Most bytes of a name beside a mail address: if it is plain ASCII, and if mail writes it as one encoded word of 75
characters.
"""

_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_NOT_IN_A_URL: Final = re.compile(r"[\x00-\x20\x7f-\xa0\\\"<>\ud800-\udfff]")
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\.?|\[[0-9A-Fa-f:.]+\]")
_MAILBOX: Final = re.compile(
    r'(?:(?:"(?P<quoted>(?:[^"\\]|\\.)*)" *|(?P<name>[^"<>]*))<(?P<address>[^<> ]+)>|(?P<bare>[^<> ]+))'
)
_LOCAL: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_RESERVED_HEADERS: Final = frozenset(
    {
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "x-serverless-authorization",
    }
)
"""Headers that Cloud Tasks or the library sets, that belong to one connection, or that identify the caller."""
_RESERVED_PREFIXES: Final = ("x-cloudtasks-", "x-google-", "x-appengine-", "x-goog-authenticated-user-", "x-goog-iap-")
_AUDIENCE: Final = re.compile(r"[!-+\--~]+")
_LOOPBACK: Final = re.compile(r"http://(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]+)?")
_PORTS: Final = {"http": "80", "https": "443"}


def base_url(text: object, of: str) -> str:
    """
    Check a base URL, to which paths are joined: scheme, host and perhaps a path.

    Raises:
        UsageError: *text* is no such URL.
    """
    wanted = "like https://orders-abc.a.run.app, or with a path: https://example.com/orders"
    parts = _split(text, of, wanted)
    if parts.query or str(text).endswith("?"):
        raise UsageError(f"{of} is {hidden(text)}; it must have no query, {wanted}.")
    return str(text).rstrip("/")


def target(url: object, of: str) -> str:
    """
    Check the target of a task: an absolute URL, or a path that is joined to the base URL.

    Raises:
        UsageError: *url* is neither, or it is too long.
    """
    wanted = "an absolute URL (https://example.com/tasks/order) or a path that begins with one '/'"
    if isinstance(url, str) and url.startswith("/"):
        _plain(url, of, wanted)
        if url.startswith("//"):
            raise UsageError(f"{of} is {hidden(url)}; it must be {wanted}.")
    elif not isinstance(url, str) or origin_of(url) is None:
        _split(url, of, wanted)
    text = str(url)
    if len(text) > SHORT_URL and (size := len(quote(text, safe="!#$%&'()*+,/:;=?@[]~"))) > MAX_URL:
        raise UsageError(
            f"{of} has {size:,} characters, encoded, and may have at most {MAX_URL:,}. Hand data on in params=."
        )
    return text


def origin(url: str) -> str:
    """
    Return scheme and host of the absolute *url*.
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


@lru_cache(maxsize=4096)
def origin_of(url: str) -> str | None:
    """
    Return scheme, host and port of an absolute URL, in the form in which origins are compared; None if no delivery can go
    there.

    A host of ASCII is lower-cased, and the default port of the scheme is left out. All other differences count: a dot at
    the end, two spellings of one address, and a name beyond ASCII and its IDNA form, for which the versions of IDNA differ.
    """
    try:
        parts = _split(url, "url", "an absolute URL")
    except UsageError:
        return None
    host, port = _host_and_port(parts.netloc)
    host = host.lower() if host.isascii() else host
    number = str(int(port)) if port else _PORTS[parts.scheme]
    return f"{parts.scheme}://{host}" if number == _PORTS[parts.scheme] else f"{parts.scheme}://{host}:{number}"


def allowed(text: object, of: str) -> tuple[str, str]:
    """
    Read ``origin`` or ``origin=audience``: return the origin, in the form of ``origin_of``, and the audience.

    Raises:
        UsageError: *text* is neither; or its tokens would travel unencrypted to another machine.
    """
    wanted = "origin or origin=audience, like https://orders.example.com or https://orders.example.com=https://orders-abc.a.run.app"
    given, equals, audience = text.partition("=") if isinstance(text, str) else ("", "", "")
    parts = _split(given or text, of, wanted)
    if parts.path not in ("", "/") or "?" in given:
        raise UsageError(f"{of} is {hidden(text)}; it must have no path and no query: {wanted}.")
    if equals and not _AUDIENCE.fullmatch(audience):
        raise UsageError(f"{of} is {hidden(text)}; its audience must be printable ASCII without spaces and commas.")
    known = origin_of(given)
    assert known is not None
    if known.startswith("http://") and not _LOOPBACK.fullmatch(known):
        raise UsageError(f"{of} is {hidden(text)}; http:// is for this machine alone, since deliveries carry a token.")
    return known, audience or given.rstrip("/")


def web_url(text: object, of: str) -> str:
    """
    Check an absolute URL of http or https.

    Raises:
        UsageError: *text* is no such URL.
    """
    _split(text, of, "a URL like https://www.example.com/certs")
    return str(text)


def web_origin(text: object, of: str) -> str:
    """
    Check an origin of a web page: scheme, host and perhaps a port, http on this machine alone. Return it in the form of
    ``origin_of``.

    Raises:
        UsageError: *text* is no such origin.
    """
    wanted = "an origin, like https://console.example.com"
    parts = _split(text, of, wanted)
    known = origin_of(str(text))
    if known is None or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise UsageError(f"{of} is {hidden(text)}; it must be {wanted}, without a path.")
    if known.startswith("http://") and not _LOOPBACK.fullmatch(known):
        raise UsageError(f"{of} is {hidden(text)}; http:// is for this machine alone.")
    return known


def host_and_port(text: object, of: str) -> str:
    """
    Check ``host:port``.

    Raises:
        UsageError: *text* is not of this form.
    """
    host, colon, port = text.rpartition(":") if isinstance(text, str) else ("", "", "")
    if not (colon and (_HOST.fullmatch(host) or re.fullmatch("[0-9A-Fa-f:]+", host)) and _is_port(port)):
        raise UsageError(f"{of} is {hidden(text)}; it must be host:port, like 127.0.0.1:8080.")
    return str(text)


def mail_server(url: object, of: str) -> str:
    """
    Check the URL of a mail server, ``smtp://user:password@host:port``. The error does not show it.

    Raises:
        UsageError: *url* is not of this form.
    """
    wanted = f"{of} must be like smtp://user:password@host:587 (percent-encode user and password)"
    if not isinstance(url, str) or _NOT_IN_A_URL.search(url):
        raise UsageError(f"{wanted}, without spaces and control characters.")
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise UsageError(f"{wanted}; its host or port can't be read.") from None
    if parts.scheme not in ("smtp", "smtps", "smtp+starttls"):
        raise UsageError(f"{of} must begin with smtp://, smtps:// or smtp+starttls://.")
    if not host or port == 0 or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise UsageError(f"{wanted}.")
    return url


def mail_address(text: object, of: str) -> tuple[str, str]:
    """
    Read ``ann@example.com``, ``Ann <ann@example.com>`` or ``"Doe, Ann" <ann@example.com>``: return the name, perhaps empty,
    and the address, with the domain in its ASCII form.

    Raises:
        UsageError: Some mail server may refuse the address: its local part must be of letters, digits, dots and
            !#$%&'*+/=?^_`{|}~-. Or the name is too long for one word in a header.
    """
    found = _MAILBOX.fullmatch(text.strip()) if isinstance(text, str) and text.isprintable() else None
    if found is not None:
        local, _, domain = (found["address"] or found["bare"]).rpartition("@")
        # A reader of the mail's headers would decode an encoded word.
        if len(local) <= 64 and _LOCAL.fullmatch(local) and "=?" not in local and (ascii_ := _ascii_domain(domain)):
            name = found["name"] or re.sub(r"\\(.)", r"\1", found["quoted"] or "")
            if len(name.encode()) > (MAX_NAME if name.isascii() and "=?" not in name else MAX_ENCODED_NAME):
                raise UsageError(
                    f"{of} has a name of more than {MAX_ENCODED_NAME} bytes ({MAX_NAME} in ASCII): shorten it."
                )
            return name.strip(), f"{local}@{ascii_}"
    raise UsageError(f"{of} is {shown(text)}, which is no mail address; oncall@example.com is.")


def _ascii_domain(domain: str) -> str | None:
    try:
        found = domain if domain.isascii() else domain.encode("idna").decode()
    except UnicodeError:
        return None
    return found if len(found) <= 253 and _DOMAIN.fullmatch(found) else None


def hidden(text: object) -> str:
    """
    Show *text*, which may be a URL, in a sentence, without the parts that may be secrets.
    """
    return shown(without_secrets(text) if isinstance(text, str) else text)


def without_data(url: str) -> str:
    """
    Return scheme, host and path of the absolute *url*, to be shown to people. The other parts may be data of the user's.
    """
    return re.split(r"[?#]", re.sub(r"//[^/?#]*@", "//", url), maxsplit=1)[0]


def _plain(text: object, of: str, wanted: str) -> str:
    if not isinstance(text, str) or not text:
        raise UsageError(f"{of} is {shown(text)}; it must be {wanted}.")
    if _NOT_IN_A_URL.search(text):
        raise UsageError(
            f'{of} is {hidden(text)}; a URL has no spaces, control characters or any of \\"<>: percent-encode them.'
        )
    if "#" in text:
        raise UsageError(f"{of} is {hidden(text)}; a fragment (#...) is never sent to a server. Leave it out.")
    return text


def _split(text: object, of: str, wanted: str) -> SplitResult:
    """
    Split an absolute URL of http or https into its parts.
    """
    plain = _plain(text, of, wanted)
    try:
        parts = urlsplit(plain)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise UsageError(f"{of} is {hidden(text)}; its host or port can't be read.") from None
    if not plain.startswith(("http://", "https://")):
        raise UsageError(f"{of} is {hidden(text)}; it must be {wanted}.")
    if "@" in parts.netloc:
        raise UsageError(f"{of} is {hidden(text)}; it must have no user and password: deliveries carry a token.")
    if not host or not _is_host(parts.netloc) or port == 0:
        raise UsageError(f"{of} is {hidden(text)}; its host or port can't be read; it must be {wanted}.")
    return parts


def _host_and_port(netloc: str) -> tuple[str, str | None]:
    host, colon, port = netloc.rpartition(":")
    return (netloc, None) if netloc.endswith("]") or not colon else (host, port)


def _is_host(netloc: str) -> bool:
    host, port = _host_and_port(netloc)
    try:
        host = host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        return False
    return bool(_HOST.fullmatch(host)) and (port is None or _is_port(port))


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65_535


# --- headers ----------------------------------------------------------------------------------------------------------


def headers(given: object, of: str) -> dict[str, str] | None:
    """
    Check the extra headers of a delivery; return them, or None for none.

    Raises:
        UsageError: *given* is no mapping of texts; a name is no token (RFC 9110), or Cloud Tasks or the library sets it; a
            value is not printable ASCII, or it begins or ends with a space; or all of them are too large together.
    """
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise UsageError(f"{of} is of {type(given).__name__}; it must be a mapping of names to texts.")
    found: dict[str, str] = {}
    for key, value in given.items():
        if not isinstance(key, str) or not _TOKEN.fullmatch(key):
            raise UsageError(
                f"{of} has the name {shown(key)}; a header's name is of letters, digits and !#$%&'*+.^_`|~-."
            )
        low = key.lower()
        if low in _RESERVED_HEADERS or low.startswith(_RESERVED_PREFIXES):
            raise UsageError(f"{of} has {key}, which Cloud Tasks or the library sets. Leave it out.")
        if low in map(str.lower, found):
            raise UsageError(f"{of} has {key} twice, in different cases.")
        if not isinstance(value, str) or not value.isascii() or not value.isprintable() or value != value.strip():
            # The value is not shown: headers carry keys of APIs.
            raise UsageError(f"{of} has a value of {key} that is no text of printable ASCII without spaces around it.")
        found[key] = value
    size = sum(len(key) + len(value) for key, value in found.items())
    if size > MAX_HEADERS:
        raise UsageError(f"{of} has {size:,} bytes, and may have at most {MAX_HEADERS:,}. Hand data on in params=.")
    return found
