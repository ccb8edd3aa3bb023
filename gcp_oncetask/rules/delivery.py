"""
The message in a Cloud Task: its JSON, the name of the task, the query of its URL.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from datetime import datetime
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, quote

from pydantic_core import from_json, to_json

from gcp_oncetask.checks.paths import trouble_with_path, valid_path
from gcp_oncetask.checks.urls import MAX_URL
from gcp_oncetask.errors import DeliveryError
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.rules.task_headers import count
from gcp_oncetask.rules.timestamps import instant, parse_instant

MAX_BODY: Final = 256 * 1024
"""A body of more bytes than this is not the library's: its own stay below 100 KB."""

_LONGEST_URL: Final = 2083
"""Most characters of an encoded URL to which Cloud Tasks delivers."""
LONGEST_TARGET: Final = MAX_URL
"""Most characters of a URL from the user: sequence and dispatch are added to it."""
_IN_URLS: Final = "!#$%&'()*+,/:;=?@[]~"
_UNQUOTED: Final = re.compile("[A-Za-z0-9/_.~-]+")
_TEXTS: Final = ("env", "document", "scheduledBy")
_NUMBERS: Final = (("sequence", 1), ("dispatch", 1), ("token", 0))


class Delivery(NamedTuple):
    """
    One push of one sequence of one document; it may repeat and may be late.

    Attributes:
        env: Environment of the document.
        document: Path of the document below its database, such as ``orders/42``.
        sequence: Number of the sequence, 1-based.
        dispatch: Number of the Cloud Task within the sequence, 1-based.
        scheduled_by: Nonce of the schedule that made the sequence.
        token: Fencing token at dispatch.
        version: The document's version (update time) at dispatch; None if it is not known.
        wait_until: Earliest instant at which the sequence may run.
        contents: The whole document as stored at ``version``, serialized; None: the document must be read.
    """

    env: str
    document: str
    sequence: int
    dispatch: int
    scheduled_by: str
    token: int = 0
    version: str | None = None
    wait_until: datetime | None = None
    contents: bytes | None = None

    @classmethod
    def present(cls, path: str, lock: Lock) -> Delivery:
        """
        Return the delivery of the present sequence of the document at *path*, without contents.
        """
        return cls(lock.env, path, lock.sequence, max(lock.dispatches, 1), lock.scheduled_by or "-", lock.token)

    def to_json(self) -> bytes:
        """
        Return the body of the task.
        """
        data: dict[str, Any] = {
            "env": self.env,
            "document": self.document,
            "sequence": self.sequence,
            "dispatch": self.dispatch,
            "scheduledBy": self.scheduled_by,
            "token": self.token,
        }
        if self.version is not None:
            data["version"] = self.version
        if self.wait_until is not None:
            data["waitUntil"] = instant(self.wait_until)
        if self.contents is not None:
            data["contents"] = binascii.b2a_base64(self.contents, newline=False).decode()
        return to_json(data)

    @classmethod
    def from_json(cls, body: bytes) -> Delivery:
        """
        Read a body.

        Raises:
            DeliveryError: The body is not the library's, or it is damaged; the message names the place.
        """
        if len(body) > MAX_BODY:
            raise DeliveryError(f"The body has {len(body)} bytes; a delivery has at most {MAX_BODY}.")
        try:
            data = from_json(body)
        except ValueError as error:
            raise DeliveryError(f"The body is not JSON ({error}).") from None
        if not isinstance(data, dict):
            raise DeliveryError("The body is not a JSON object.")
        try:
            _check(data)
            wait_until, contents = data.get("waitUntil"), data.get("contents")
            delivery = cls(
                data["env"],
                data["document"],
                data["sequence"],
                data["dispatch"],
                data["scheduledBy"],
                data["token"],
                data.get("version"),
                None if wait_until is None else parse_instant(wait_until),
                None if contents is None else binascii.a2b_base64(contents, strict_mode=True),
            )
        except KeyError as error:
            raise DeliveryError(f"The body has no {error.args[0]!r}.") from None
        except (TypeError, ValueError, binascii.Error) as error:
            raise DeliveryError(f"The body is damaged: {error}.") from None
        if trouble_with_path(delivery.document) is not None:
            raise DeliveryError(f"{delivery.document[:100]!r} is not the path of a document.")
        return delivery


def _check(data: dict[str, Any]) -> None:
    for name in _TEXTS if data.get("version") is None else (*_TEXTS, "version"):
        value = data[name]
        if type(value) is not str or not value:
            raise ValueError(f"{name!r} is not a text")
    for name, least in _NUMBERS:
        value = data[name]
        if type(value) is not int or not least <= value < 2**63:
            raise ValueError(f"{name!r} is not a whole number of at least {least}")


def cloud_task_id(document: str, lock: Lock) -> str:
    """
    Return the id of the Cloud Task of the present sequence of *document*. It is a hash, so that ids neither collide with
    their tombstones nor make a hot spot.
    """
    name = f"{lock.env}\n{document}\n{lock.scheduled_by or '-'}\n{lock.sequence}\n{max(lock.dispatches, 1)}"
    return hashlib.blake2b(name.encode(), digest_size=20).hexdigest()


def idempotency_key(env: str, document: str, keyed: int, revision: int = 0) -> str:
    """
    Return the idempotency key of one sequence of one document. All attempts of the sequence have the same key; no other
    sequence has it, not even one of a document that was deleted and made again under the same path. A newer payload, another
    *revision*, has a key of its own.

    It is made of stored values alone, so that processes of two releases compute the same key for the same record.
    """
    revised = f"\n{revision}" if revision else ""
    return "otk_" + hashlib.sha256(f"{env}\n{document}\n{keyed}{revised}".encode()).hexdigest()[:40]


def delivery_url(delivery: Delivery, url: str) -> str:
    """
    Return *url* with the delivery named in its query: Cloud Run's request log keeps the query, and no other trace of the
    task.

    The query is for information only; the body has the same data. If the document's path makes the URL too long for Cloud
    Tasks, the digest of the path replaces it; if the URL is still too long, the document is left out.
    """
    target = url.partition("#")[0]
    mark = "?" if "?" not in target else "" if target.endswith(("?", "&")) else "&"
    numbers = f"oncetask_sequence={delivery.sequence}&oncetask_dispatch={delivery.dispatch}"
    path = delivery.document
    document = path if _UNQUOTED.fullmatch(path) else quote(path)
    made = f"{target}{mark}oncetask_document={document.replace('/', '%2F')}&{numbers}"
    if _url_length(made) > _LONGEST_URL:
        made = f"{target}{mark}oncetask_document={quote(path_digest(delivery.document))}&{numbers}"
        if _url_length(made) > _LONGEST_URL:
            made = f"{target}{mark}{numbers}"
    return made


def claimed_in(query: str) -> tuple[str, int] | None:
    """
    Return the document and sequence that a delivery's URL names in its *query*, without a check of the sender; None if it
    names no valid document.
    """
    try:
        said = parse_qs(query, max_num_fields=100) if len(query) <= _LONGEST_URL else {}
    except ValueError:
        return None
    document, sequence = said.get("oncetask_document", [""])[0], said.get("oncetask_sequence", [""])[0]
    return (document, count(sequence) or 0) if valid_path(document) else None


def path_digest(document: str) -> str:
    """
    Return the digest that replaces a long path in the URLs of its deliveries; no path has this form.
    """
    return f"sha256:{hashlib.sha256(document.encode()).hexdigest()}"


def trouble_with_url(url: str) -> str | None:
    """
    Return the reason for which no delivery can go to *url*, as the end of a sentence; None if it can.
    """
    length = _url_length(url.partition("#")[0])
    return (
        None
        if length <= LONGEST_TARGET
        else f"it has {length:,} characters, encoded, and a URL at most {LONGEST_TARGET:,}"
    )


def _url_length(url: str) -> int:
    return len(url) if url.isascii() else len(quote(url, safe=_IN_URLS, errors="replace"))
