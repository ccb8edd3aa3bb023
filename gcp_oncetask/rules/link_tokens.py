"""
The signed text of a link by which a person answers a question. Pure.

Shape:
    ``{claims}.{signature}``, both in the alphabet of URLs, without padding. The claims are a JSON list. The signature is an
    HMAC-SHA256 over the text of the claims, so that no other text with the same meaning is accepted.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

_VERSION: Final = 1
_DOMAIN: Final = b"gcp_oncetask.link.1\n"


class LinkClaims(NamedTuple):
    """
    The contents of a link. They are signed, not encrypted.

    Attributes:
        path: Path of the record whose handler waits.
        env: Environment of the record.
        key: Digest of the idempotency key of the sequence that asks.
        wait: Name of the wait.
        event: Name of the event.
        data: Payload of the event; JSON data.
        issued: Time at which the question was first asked, in whole seconds.
        expires: Time from which the link is refused, in whole seconds.
        text: The question, for the page.
        label: The answer, for the button; None: the page shows the payload.
        for_: Name of the person who was given the link; None: not said.
    """

    path: str
    env: str
    key: str
    wait: str
    event: str
    data: Any
    issued: datetime
    expires: datetime
    text: str
    label: str | None
    for_: str | None

    @property
    def id(self) -> str:
        """
        Id of the event, the same for all links of one question.
        """
        asked = f"{self.key}\n{_seconds(self.issued)}\n{self.wait}"
        return f"link-{hashlib.sha256(asked.encode()).hexdigest()[:32]}"

    @property
    def answer(self) -> str:
        """
        The answer in words.
        """
        return json.dumps(self.data, ensure_ascii=False) if self.label is None else self.label


def digest_of(key: str) -> str:
    """
    Return the digest of an idempotency key, which the key can't be learnt from.
    """
    return hashlib.sha256(_DOMAIN + key.encode()).hexdigest()[:16]


def sign(claims: LinkClaims, key: str) -> str:
    """
    Return the text of a link with *claims*, signed with *key*.
    """
    told = [_VERSION, *(_seconds(each) if isinstance(each, datetime) else each for each in claims)]
    body = _encoded(json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode())
    return f"{body}.{_signature(body, key)}"


def verified(token: str, keys: Sequence[str]) -> LinkClaims | None:
    """
    Return the claims of a link that one of *keys* has signed; None if none has. The time of expiry is not looked at.
    """
    body, _, signature = token.rpartition(".")
    if not token.isascii():
        return None
    # Each key is tried, so that the time tells nothing about the right one.
    good = [hmac.compare_digest(_signature(body, key), signature) for key in keys]
    if not any(good):
        return None
    try:
        version, *rest = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        claims = LinkClaims(*rest)
    except (binascii.Error, ValueError, TypeError):
        return None
    if version != _VERSION:
        return None
    return claims._replace(issued=_instant(claims.issued), expires=_instant(claims.expires))


def _signature(body: str, key: str) -> str:
    return _encoded(hmac.digest(key.encode(), _DOMAIN + body.encode(), "sha256"))


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _seconds(at: datetime) -> int:
    return int(at.timestamp())


def _instant(seconds: Any) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
