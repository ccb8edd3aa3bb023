"""
The mail: whatever texts go into it, its bytes are read back as those texts, and as one part of plain text.
"""

from __future__ import annotations

import base64
import email
import email.policy
import quopri
import re
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gcp_oncetask.checks.urls import mail_address
from gcp_oncetask.checks.values import printable
from gcp_oncetask.config import Config
from gcp_oncetask.errors import ConfigError, UsageError
from gcp_oncetask.observe.alerts import Alert, body_of, subject_of
from gcp_oncetask.rules.record import Event, Failure
from gcp_oncetask.services.mail import Mailbox, mail_bytes
from gcp_oncetask.services.smtp import SmtpChannel

AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
ANN, BOB = Mailbox("", "ann@example.com"), Mailbox("Bob Doe", "bob@example.com")
HEADERS = [
    "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type", "Content-Transfer-Encoding",
]  # fmt: skip
EVIL = "x\r\nContent-Type: text/html\r\n\r\n<b>evil</b>"
ALERT = Alert(
    id="ab12", event=Event.FAILURE, env="PROD", project="shop", database="(default)", document="orders/42", sequence=3,
    attempt=2, max_attempts=5, at=AT, reason="It failed.", evidence=("a line",), errors=(Failure(AT, 1, 3, "boom"),),
    commands=("oncetask show orders/42",), status="failed", url="https://shop.example/tasks/order",
)  # fmt: skip


def word(text: str, charset: str, *, q: bool) -> str:
    """
    *text* as an encoded word of RFC 2047, as an attacker writes it.
    """
    raw = text.encode("utf-8", "surrogatepass")
    coded = quopri.encodestring(raw, header=True) if q else base64.b64encode(raw)
    return f"=?{charset}?{'q' if q else 'b'}?{coded.decode('latin-1')}?="


BREAKS = ["\r\n", "\r", "\n", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\r\n ", "\n\t"]
MARKS = [
    *"\u200b\u200e\u200f\u2060\ufeff\u00ad\u0000\u001b\u009b\u007f\u00a0\ud800\udfff",
    *map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))),
]
PIECES = [
    "Bcc: eve@example.com", "From ", "From me", ".", "..", "--", "=", "=?", "?=", "=3D", "=0A", " ", "  ", "\t", ",", "<", ">",
    '"', "\\", "(", ")", ":", ";", "@", "ä", "本", "😀", "orders/42", "x" * 1200, "é" * 400, "a b " * 40,
]  # fmt: skip
CHARSETS = [
    "utf-8",
    "UTF-8",
    "us-ascii",
    "iso-8859-1",
    "utf-16",
    "utf-7",
    "unknown-8bit",
    "x-none",
    "utf-8*en",
    "idna",
    "hex",
    "",
]
plain = st.lists(
    st.one_of(st.sampled_from(PIECES), st.sampled_from(BREAKS), st.sampled_from(MARKS), st.text(max_size=5)), max_size=6
)
texts: st.SearchStrategy[str] = st.recursive(
    plain.map("".join),
    lambda inner: st.one_of(
        st.builds(word, inner, st.sampled_from(CHARSETS), q=st.booleans()),
        st.lists(inner, max_size=3).map(lambda parts: " ".join(parts)[:4000]),
    ),
    max_leaves=4,
)


def parsed(made: bytes) -> Any:
    """
    The mail as Python's reader has it, after checks of its form.
    """
    lines = made.split(b"\r\n")
    assert made.isascii()
    assert not any(b"\n" in line or b"\r" in line for line in lines)
    assert max(len(line) for line in lines if b"@" not in line) <= 76
    assert max(map(len, lines)) <= 998
    assert not any(line.startswith((b".", b"From ")) for line in lines)
    message = email.message_from_bytes(made, policy=email.policy.default)
    assert message.keys() == HEADERS
    assert message.defects == []
    assert not message.is_multipart()
    assert message.get_content_type() == "text/plain"
    return message


def body_in(message: Any) -> str:
    """
    The text, without the line break at its end that transport demands.
    """
    return message.get_content().replace("\r\n", "\n").removesuffix("\n")  # type: ignore[no-any-return]


@settings(max_examples=60, deadline=None)
@example(subject=word(EVIL, "utf-8", q=True), body="", name="=?x?", id_=EVIL)
@example(subject=word(word(EVIL, "utf-8", q=True), "utf-8", q=False), body="From me\n.\n..", name='"', id_="")
@given(subject=texts, body=texts, name=texts, id_=texts)
def test_mail_says_what_was_meant(subject: str, body: str, name: str, id_: str) -> None:
    """
    Each header is there once, and equal to the printable form of its text; so is the body, the one part, of plain text.
    """
    ann = Mailbox(name[:4], "ann@example.com")
    made = mail_bytes(ann, [BOB, ann], subject, body, at=AT, id_=id_)
    message = parsed(made)
    shown = printable(ann.name).strip()
    assert message["Subject"] == printable(subject).strip()
    assert message["Date"].datetime == AT
    [sender], to = message["From"].addresses, message["To"].addresses
    assert (sender.display_name, sender.addr_spec) == (shown, "ann@example.com")
    assert [(one.display_name, one.addr_spec) for one in to] == [
        ("Bob Doe", "bob@example.com"),
        (shown, "ann@example.com"),
    ]
    assert body_in(message) == "\n".join(printable(line) for line in body.split("\n")).removesuffix("\n")
    assert all(line.isprintable() for line in body_in(message).split("\n"))
    assert re.fullmatch(r"<[A-Za-z0-9_-]{1,64}@gcp-oncetask>", message["Message-ID"])
    again = mail_bytes(ann, [BOB, ann], subject, body, at=AT, id_=id_)
    assert made == again


@settings(max_examples=20, deadline=None)
@example(document=word(EVIL, "utf-8", q=True), text=EVIL, prefix="[oncetask]")
@given(document=texts, text=texts, prefix=texts.filter(lambda one: one == "" or one.isprintable()))
def test_mail_of_an_alert_has_no_line_of_the_task(document: str, text: str, prefix: str) -> None:
    """
    No text of a task, an exception or a log line makes a line of its own, and the subject stays one of at most 200 characters.
    """
    lines = body_in(mail_of(filled("x"), prefix)).count("\n")
    message = mail_of(replace(filled(text), document=document), prefix)
    assert len(message["Subject"]) <= 200
    assert message["Message-ID"] == "<ab12@gcp-oncetask>"
    assert body_in(message).count("\n") <= lines


def filled(text: str) -> Alert:
    """
    An alert that has *text* wherever it can be.
    """
    url = f"https://example.com/{text}"
    more = {"evidence": (text,), "errors": (Failure(AT, 1, 3, text),), "commands": (text,)}
    return replace(ALERT, document=text, env=text, reason=text, status=text, url=url, **more)  # type: ignore[arg-type]


def mail_of(alert: Alert, prefix: str) -> Any:
    """
    Its mail.
    """
    return parsed(mail_bytes(ANN, [ANN], subject_of(alert, prefix), body_of(alert), at=AT, id_=alert.id))


def test_mail_message_ids_differ_where_ids_do() -> None:
    """
    An id that can't stand in a header is not cut or mended, which could make two of them one.
    """
    odd = ["a b", "a-b", "a\nb", "a.b", "x" * 65, "x" * 66, "", "\ud800", "=?utf-8?q?a?="]
    found = {parsed(mail_bytes(ANN, [ANN], "s", "b", at=AT, id_=one))["Message-ID"] for one in odd}
    assert len(found) == len(odd)


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        ("ann@example.com", "", "ann@example.com"),
        (" Ann  <ann@example.com>", "Ann", "ann@example.com"),
        ('"Doe, \\"A\\" \\\\" <ann.doe+x@mail.example.com>', 'Doe, "A" \\', "ann.doe+x@mail.example.com"),
        ("Jörg @ Köln <j@köln.example>", "Jörg @ Köln", "j@xn--kln-sna.example"),
        ("<a@b>", "", "a@b"),
        ("=?utf-8?q?a=0D=0Ab?= <a@b.example>", "=?utf-8?q?a=0D=0Ab?=", "a@b.example"),
    ],
)
def test_mail_addresses_of_settings_arrive_as_they_are(text: str, name: str, address: str) -> None:
    """
    Name and address as they were configured, the domain in its ASCII form; an encoded word in a name is text.
    """
    box = Mailbox(*mail_address(text, "X"))
    assert box == (name, address)
    [sender] = parsed(mail_bytes(box, [ANN], "s", "b", at=AT, id_="i"))["From"].addresses
    assert (sender.display_name, sender.addr_spec) == (name, address)


@pytest.mark.parametrize(
    "text",
    [
        "ann", "", "@", "ann@", "@b.example", "a b@c.example", "a@b c.example", "ünn@c.example", "a..b@c.example", "a@-c.example",
        "a@c..example", "a@c.example, b@c.example", "<a@c.example", "x <a@c.example> y", "a@c.example\nBcc: e@f.g",
        "a@c.example>", "a\u202e <a@c.example>", "=?utf-8?q?a?=@c.example", "x" * 65 + "@c.example", "a@" + "b." * 130 + "c",
        "a@b@c", "a(x)@b.c",
    ],
)  # fmt: skip
def test_mail_addresses_are_checked_with_the_settings(text: str) -> None:
    """
    What is no address, or would be more than one, is refused by the configuration, before anything is to be mailed.
    """
    for made in ({"alert_to": (text,)}, {"alert_from": text}):
        with pytest.raises(ConfigError, match=r"no mail address"):
            Config(smtp_url="smtp://mail.example", **made)
    with pytest.raises(ConfigError, match="ONCETASK_ALERT_FROM"):
        SmtpChannel("smtp://mail.example", to=["a@b.c"], sender=text or "@", prefix="")


@settings(max_examples=40, deadline=None)
@given(text=st.one_of(texts, st.from_regex(r"[^<>]{0,9}<?[a-z.+=?]{1,9}@[a-zö.-]{1,9}>?", fullmatch=True)))
def test_mail_address_is_read_back_or_refused(text: str) -> None:
    """
    Whatever is taken as an address arrives as one, with the name it was given.
    """
    with suppress(UsageError):
        box = Mailbox(*mail_address(text, "X"))
        [to] = parsed(mail_bytes(ANN, [box], "s", "b", at=AT, id_="i"))["To"].addresses
        assert (to.display_name, to.addr_spec) == (box.name, box.address)


def test_mail_prefix_is_one_line_of_settings() -> None:
    """
    A prefix that a header or a terminal would obey is refused with the settings.
    """
    for prefix in ("[a]\n", "\x1b[2J", "\u202e", "a\u2028b"):
        with pytest.raises(ConfigError, match="ONCETASK_ALERT_PREFIX"):
            Config(alert_prefix=prefix)
