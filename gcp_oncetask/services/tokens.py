"""
Read signed tokens (JSON Web Tokens), and keep an issuer's public keys by id. Imports no vendor's library.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import threading
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias

from gcp_oncetask import forks
from gcp_oncetask.clock import Clock, Mark, elapsed
from gcp_oncetask.errors import IdentityError

_MAX_TOKEN: Final = 16_384
FETCH_TIMEOUT: Final = 5.0
"""Most seconds that a fetch takes."""
_MOST_BYTES: Final = 262_144
"""Most bytes of a fetched answer; Google's certificates are 4 KB."""
_FETCH_PATIENCE: Final = 10.0
"""Seconds that a request waits for a fetch by another request."""
_LEAST_FETCH: Final = 10.0
"""Seconds between two fetches for an unknown key, so that a flood of forged tokens does not cause a flood of fetches."""
_LEAST_RETRY: Final = 1.0
"""Seconds between two fetches after a failed one."""
_DEFAULT_AGE: Final = 3600.0
_LONGEST_AGE: Final = 86_400.0
_MAX_AGE: Final = re.compile(r"max-age=(\d{1,12})")
_LAST_TIME: Final = 1e11


Certificates: TypeAlias = Callable[[], tuple[dict[str, str], str]]
"""
Returns certificates in PEM by key id, and the Cache-Control header that came with them. Raises OSError or ValueError if it
can't get them.
"""


def time_claim(value: Any) -> float | None:
    """
    Return a claim as seconds since 1970; None for a value that is no number, not finite or absurd.
    """
    # A bool is no number here.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LAST_TIME:
        return None
    return float(value)


def shown(value: Any) -> str:
    """
    Return a claim for a log line, limited in length.
    """
    return repr(value)[:200]


class Token(NamedTuple):
    """
    A token whose signature is not verified yet.

    Attributes:
        header: Its header.
        claims: Its claims.
        signed: The bytes that are signed.
        signature: The signature, base64url.
    """

    header: dict[str, Any]
    claims: dict[str, Any]
    signed: bytes
    signature: str


def split(token: str) -> Token | None:
    """
    Split a token; None: it is malformed.
    """
    if len(token) > _MAX_TOKEN or token.count(".") != 2 or not token.isascii():
        return None
    head, body, signature = token.split(".")
    header, claims = _object(head), _object(body)
    if header is None or claims is None:
        return None
    return Token(header, claims, f"{head}.{body}".encode(), signature)


def _object(text: str) -> dict[str, Any] | None:
    raw = decoded(text)
    if raw is None:
        return None
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def decoded(text: str) -> bytes | None:
    """
    Decode base64url without padding; None: it is malformed.
    """
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None


class PublicKeys:
    """
    An issuer's public keys by id, parsed once.

    An unknown key causes a fetch, at most once in ten seconds; if that fails, the known keys go on working. One thread
    fetches at a time; threads whose key is known don't wait for it.

    Args:
        url: Address of the keys, for errors.
        clock: Measures the age of the keys.
        certificates: Returns the keys.
        parse: Makes an object with ``verify(message, signature)`` of a key in PEM; raises ValueError if it can't.
        setting: Name of the setting that has the address, for errors.
    """

    def __init__(
        self, url: str, clock: Clock, certificates: Certificates, parse: Callable[[str], Any], setting: str
    ) -> None:
        self._url = url
        self._certificates = certificates
        self._parse = parse
        self._setting = setting
        self._clock = clock
        self._keys: dict[str, Any] = {}
        self._fetched: Mark | None = None
        self._tried: Mark | None = None
        self._trouble: tuple[str, Exception] | None = None
        self._age = _DEFAULT_AGE
        self._lock = threading.Lock()
        self._forks = forks.generation

    def get(self, kid: str) -> Any | None:
        """
        Return the key of an id; None: its issuer does not publish it.

        Raises:
            IdentityError: The key is not known, and keys could not be fetched.
        """
        key = self._keys.get(kid)
        if key is not None and self._fresh():
            return key
        lock = self._own_lock()
        if not lock.acquire(timeout=_FETCH_PATIENCE if key is None else 0):
            if key is not None:
                return key
            raise IdentityError(f"Another request still fetches the identity certificates from {self._url}.")
        try:
            # Another thread may have fetched while this one waited; then no fetch is due.
            if self._due(kid):
                self._fetch()
        finally:
            lock.release()
        key, trouble = self._keys.get(kid), self._trouble
        if key is None and trouble is not None:
            sentence, cause = trouble
            raise IdentityError(sentence) from cause
        return key

    def _fresh(self) -> bool:
        return self._fetched is not None and elapsed(self._fetched, self._clock.mark()) < self._age

    def _due(self, kid: str) -> bool:
        # An unknown key can't be verified until a fetch succeeds, so the next fetch is soon; a known key can wait.
        pause = _LEAST_RETRY if self._trouble is not None and kid not in self._keys else _LEAST_FETCH
        return self._tried is None or elapsed(self._tried, self._clock.mark()) >= pause

    def _own_lock(self) -> threading.Lock:
        # A lock that another thread held at the fork would never be released in the child.
        if self._forks != forks.generation:
            self._lock, self._forks = threading.Lock(), forks.generation
        return self._lock

    def _fetch(self) -> None:
        start = self._clock.mark()
        try:
            found, control = self._certificates()
            keys = {kid: self._parse(pem) for kid, pem in found.items()}
            if not keys:
                raise ValueError("the answer has no keys")
        except (OSError, ValueError, AttributeError, TypeError) as error:
            sentence = (
                f"The identity certificates could not be fetched from {self._url}: {error}. No caller can be "
                f"identified until they are; is the address right ({self._setting}), and may this service reach it?"
            )
            self._trouble, self._tried = (sentence, error), self._clock.mark()
            return
        age = _MAX_AGE.search(control)
        self._age = min(float(age[1]), _LONGEST_AGE) if age else _DEFAULT_AGE
        # The keys are replaced in one step, so that no thread sees only some of them.
        self._keys, self._fetched, self._tried, self._trouble = keys, start, start, None


def download_keys(url: str) -> tuple[dict[str, str], str]:
    """
    Fetch public keys in PEM by key id, and the Cache-Control header that came with them.

    Raises:
        OSError: There was no whole answer.
        ValueError: The answer is no JSON, or has not status 200.
    """
    from gcp_oncetask.services import download

    answer = download.get(url, seconds=FETCH_TIMEOUT, size=_MOST_BYTES)
    return answer.json(), answer.headers.get("Cache-Control", "")
