"""
Make the bytes of a mail. Pure; the only importer of email.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from email.charset import Charset
from email.header import Header
from email.quoprimime import body_encode
from email.utils import format_datetime
from typing import Final, NamedTuple

from gcp_oncetask.checks.values import printable

_LINE: Final = 76
"""Most characters of an encoded line."""
_PLAIN_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
# Such words need no encoding in any header, and fit on a line.
_PLAIN: Final = re.compile(r"[!-~]{1,60}(?: [!-~]{1,60})*")
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9]{1,20}(?: [A-Za-z0-9]{1,20}){0,2}")


class Mailbox(NamedTuple):
    """
    A sender or recipient of mail, as ``urls.mail_address`` reads it.

    Attributes:
        name: Shown beside the address; may be empty.
        address: ``local@domain``, ASCII.
    """

    name: str
    address: str


def mail_bytes(sender: Mailbox, to: Sequence[Mailbox], subject: str, body: str, *, at: datetime, id_: str) -> bytes:
    """
    Return a mail, ready to be sent. All mails are made here.

    The texts can't change the structure of the mail. Decoding the headers once gives the printable form of subject and
    names, and the body is one part of plain text. Encoded words (RFC 2047) in the texts stay text.

    Args:
        sender: The sender.
        to: The recipients.
        subject: Its printable form is sent, without spaces around it.
        body: Lines end with a line feed; the printable form of each is sent.
        at: Time of the event, for the Date header.
        id_: Id, the same for each copy. The Message-ID is ``<id@gcp-oncetask>``; an id with other characters is replaced by
            its hash.

    Shape:
        RFC 5322 with CRLF, 7-bit, so that no server on the way converts it. Lines have at most 76 characters, except those
        of addresses.
    """
    id_ = id_ if _PLAIN_ID.fullmatch(id_) else hashlib.sha256(id_.encode("utf-8", "surrogatepass")).hexdigest()[:40]
    headers = {
        "From": _mailbox(sender),
        "To": ",\n ".join(_mailbox(one) for one in to),
        "Subject": _subject(printable(subject).strip()),
        "Date": format_datetime(at),
        "Message-ID": f"<{id_}@gcp-oncetask>",
        "Auto-Submitted": "auto-generated",
        "MIME-Version": "1.0",
        "Content-Type": 'text/plain; charset="utf-8"',
        "Content-Transfer-Encoding": "quoted-printable",
    }
    lines = [f"{name}: {value}" for name, value in headers.items()]
    text = "\n".join([*lines, "", _quoted_printable("\n".join(map(printable, body.split("\n"))))])
    return text.replace("\n", "\r\n").encode("ascii")


def _subject(text: str) -> str:
    """
    Return *text* as it is if every reader shows it so, else as encoded words.
    """
    charset = "us-ascii" if _PLAIN.fullmatch(text) and "=?" not in text else "utf-8"
    return Header(text, charset, _LINE, "Subject").encode()


def _mailbox(one: Mailbox) -> str:
    name = printable(one.name).strip()
    if not name or _PLAIN_NAME.fullmatch(name):
        return f"{name} <{one.address}>" if name else one.address
    if name.isascii() and "=?" not in name:
        return '"{}"\n <{}>'.format(re.sub(r'(["\\])', r"\\\1", name), one.address)
    # The name is one encoded word of any length, because some readers put spaces between several.
    return f"{Charset('utf-8').header_encode(name)}\n <{one.address}>"


def _quoted_printable(text: str) -> str:
    encoded = body_encode(text.encode().decode("latin-1"), _LINE - 2)
    # "From " and "." at the beginning of a line have a meaning in mailboxes and in SMTP.
    return re.sub(r"^(?:F(?=rom )|\.)", lambda first: f"={ord(first[0]):02X}", encoded, flags=re.MULTILINE)
