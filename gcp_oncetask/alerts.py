"""
Alerts to people: what they say, and the channels they go through. The only importer of smtplib and email.
"""

from __future__ import annotations

import contextlib
import email.policy
import ipaddress
import logging
import re
import smtplib
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import parseaddr
from typing import Final, Protocol
from urllib.parse import quote, unquote, urlsplit

from gcp_oncetask.config import Config
from gcp_oncetask.errors import AlertError, ConfigError
from gcp_oncetask.record import Event, Failure

LOGGER: Final = logging.getLogger("gcp_oncetask.alerts")

_PORTS: Final = {"smtp": 587, "smtp+starttls": 587, "smtps": 465}
_MAX_SUBJECT: Final = 200
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
# 7-bit: nobody on the way may have to convert it, and no server lacks it.
_POLICY: Final = email.policy.SMTP.clone(cte_type="7bit")

_SUBJECTS: Final = {
    Event.TAKEOVER: "takeover",
    Event.FAILURE: "permanent failure",
    Event.QUARANTINE: "quarantined",
}
_HAPPENED: Final = {
    Event.TAKEOVER: "A run of this task did not end in time. Its lease was overwritten (a takeover) and the task runs again.",
    Event.FAILURE: "This task has failed for good. It will not run again by itself.",
    Event.QUARANTINE: "It is not known whether this task did its work. It is quarantined until a person decides.",
}
_RESOLVES: Final = {
    Event.TAKEOVER: "To look at it, or to stop it if it must not run again:",
    Event.FAILURE: "To look at it, and to run it again:",
    Event.QUARANTINE: "To look at it, then one of: run it again, call it done, or call it failed:",
}


@dataclass(frozen=True, slots=True)
class Alert:
    """
    One thing that a person should know; it never holds a task's payload.

    Attributes:
        id: Unique for what happened, the same at each sending; the mail's Message-ID is ``<id@gcp-oncetask>``.
        event: What happened.
        env: Environment of the task.
        project: Google Cloud project.
        database: Firestore database.
        document: Path of the document, as ``orders/42``.
        sequence: The step it is about; 0: none.
        attempt: The attempt it is about, 1-based; 0: none.
        max_attempts: Attempts allowed per step; None: unlimited.
        at: When it was decided.
        reason: Why, in a sentence.
        evidence: Log lines that the verdict rests on.
        errors: The last failed attempts, oldest first.
        commands: Complete command lines that show and resolve it.
        status: The task's status after it happened.
        url: Target of the task.
    """

    id: str
    event: Event
    env: str
    project: str
    database: str
    document: str
    sequence: int
    attempt: int
    max_attempts: int | None
    at: datetime
    reason: str
    evidence: tuple[str, ...]
    errors: tuple[Failure, ...]
    commands: tuple[str, ...]
    status: str
    url: str | None


class AlertChannel(Protocol):
    """
    A way to tell people; safe for many threads.
    """

    def send(self, alert: Alert) -> None:
        """
        Tell them; returns when the channel has taken responsibility for it.

        Raises:
            AlertError: It may not have reached anybody; sending it again later is right.
        """


def subject_of(alert: Alert, prefix: str) -> str:
    """
    One line of at most 200 characters: event, environment, document, step.
    """
    step = f", sequence {alert.sequence}" if alert.sequence else ""
    text = _line(f"{prefix} {_SUBJECTS[alert.event]} in {alert.env}: {alert.document}{step}")
    return text if len(text) <= _MAX_SUBJECT else text[: _MAX_SUBJECT - 3] + "..."


def body_of(alert: Alert) -> str:
    """
    What happened, why, on which evidence, where, what was tried, and the commands that resolve it.
    """
    facts = {
        "Document": alert.document,
        "Environment": alert.env,
        "Project": alert.project,
        "Database": alert.database,
        "Status": alert.status,
        "Sequence": str(alert.sequence or ""),
        "Attempt": _attempt(alert),
        "Target": _target(alert.url),
        "Decided": _instant(alert.at),
        "Console": _console(alert),
    }
    paragraphs = [
        _HAPPENED[alert.event],
        f"Why: {_line(alert.reason)}",
        "\n".join(f"{name + ':':13}{_line(value)}" for name, value in facts.items() if value),
    ]
    if alert.evidence:
        paragraphs.append("Evidence:\n" + _indented(alert.evidence))
    if alert.errors:
        tried = [f"{_instant(e.at)}  sequence {e.sequence}, attempt {e.attempt}: {e.message}" for e in alert.errors]
        paragraphs.append("Failed attempts, oldest first:\n" + _indented(tried))
    if alert.commands:
        paragraphs.append(f"{_RESOLVES[alert.event]}\n{_indented(alert.commands)}")
    return "\n\n".join(paragraphs) + "\n"


def _attempt(alert: Alert) -> str:
    if not alert.attempt:
        return ""
    return f"{alert.attempt} of {alert.max_attempts}" if alert.max_attempts else str(alert.attempt)


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(sep=" ", timespec="seconds")


def _target(url: str | None) -> str:
    # What stands behind the path may be data of the user's.
    return "" if url is None else re.split(r"[?#]", re.sub(r"//[^/?#]*@", "//", url), maxsplit=1)[0]


def _console(alert: Alert) -> str:
    database = "-default-" if alert.database == "(default)" else quote(alert.database, safe="")
    path = quote(alert.document, safe="/")
    project = quote(alert.project, safe="")
    return f"https://console.cloud.google.com/firestore/databases/{database}/data/panel/{path}?project={project}"


def _indented(lines: Sequence[str]) -> str:
    return "\n".join("  " + _line(line) for line in lines)


def _line(text: str) -> str:
    """
    *text* on one line, without what a header or a terminal would obey.
    """
    return _UNPRINTABLE.sub(" ", text).strip()


class LogChannel:
    """
    Logs alerts at ERROR with all their fields: where nobody is to be mailed.
    """

    def send(self, alert: Alert) -> None:
        # Counters are texts: Cloud Logging would make floats of them.
        fields = asdict(alert) | {
            "event": f"alert.{alert.event.value}",
            "sequence": str(alert.sequence),
            "attempt": str(alert.attempt),
            "max_attempts": str(alert.max_attempts or ""),
            "url": _target(alert.url),
            "at": alert.at.isoformat(),
            "errors": [f"{_instant(e.at)} {e.sequence}/{e.attempt}: {e.message}" for e in alert.errors],
        }
        text = f"{subject_of(alert, '')}: {_line(alert.reason)} Resolve: {' | '.join(alert.commands)}"
        LOGGER.error("%s", text, extra={"oncetask": fields})


@dataclass(frozen=True, slots=True)
class _Server:
    """
    A mail server as its URL names it; its text never shows the password.
    """

    scheme: str
    host: str
    port: int
    user: str | None
    password: str

    def __repr__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


class SmtpChannel:
    """
    Mails alerts: one message to all recipients, one connection each time.

    Args:
        url: ``smtp://user:password@host:port`` (STARTTLS if offered), ``smtp+starttls://`` (required) or ``smtps://``
            (TLS from the start); user and password are percent-encoded. Ports default to 587, and 465 for ``smtps``.
        to: Recipients, as ``ann@example.com`` or ``Ann <ann@example.com>``.
        sender: None: the URL's user, or the first recipient if it names none.
        prefix: What subjects begin with.
        timeout: Seconds for the whole conversation.
        tls_context: How servers are verified; None: by the system's certificate authorities.

    Raises:
        ConfigError: The URL or an address is not usable.
    """

    def __init__(
        self,
        url: str,
        *,
        to: Sequence[str],
        sender: str | None,
        prefix: str,
        timeout: float = 10.0,
        tls_context: ssl.SSLContext | None = None,
    ) -> None:
        self._server = _server_of(url)
        if not to:
            raise ConfigError("There is nobody to mail alerts to; set ONCETASK_ALERT_TO.")
        self._to = tuple(_address(text, "ONCETASK_ALERT_TO") for text in to)
        user = self._server.user
        if sender is None and user is not None and "@" not in user:
            raise ConfigError("The user of ONCETASK_SMTP_URL is no mail address; set ONCETASK_ALERT_FROM.")
        self._sender = _address(sender or user or to[0], "ONCETASK_ALERT_FROM")
        self._prefix = prefix
        self._timeout = timeout
        self._tls = tls_context

    def send(self, alert: Alert) -> None:
        message = self._message(alert)
        if self._tls is None:
            self._tls = ssl.create_default_context()
        talk = _Conversation(self._server, self._tls, self._timeout, message, [a.addr_spec for a in self._to])
        # A socket's timeout bounds each read, not all of them, and no name look-up: hence a thread that can be left.
        thread = threading.Thread(target=talk.run, name="oncetask-mail", daemon=True)
        thread.start()
        thread.join(self._timeout)
        late = thread.is_alive()
        if late:
            talk.cut()
        if talk.refused is None:
            # What the cut itself brings about in the other thread is no explanation.
            error = None if late else talk.error
            error = error or TimeoutError(f"it did not answer within {self._timeout:g} s")
            raise _alert_error(self._server, error) from error
        for recipient, (code, answer) in talk.refused.items():
            LOGGER.warning(
                "alert about %s: %r refused the recipient %s (%d %s); the others got it",
                *(alert.document, self._server, recipient, code, _text(answer, self._server)),
            )

    def _message(self, alert: Alert) -> EmailMessage:
        message = EmailMessage(_POLICY)
        message["From"] = self._sender
        message["To"] = self._to
        message["Subject"] = subject_of(alert, self._prefix)
        message["Date"] = alert.at
        message["Message-ID"] = f"<{re.sub(r'[^A-Za-z0-9._-]', '-', alert.id)}@gcp-oncetask>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(body_of(alert))
        return message


class _Conversation:
    """
    One talk with a mail server, which another thread may cut off.

    Attributes:
        refused: Recipients that were refused, with the answers; None: the message was not taken.
        error: What ended the talk, if anything went wrong.
    """

    def __init__(
        self, server: _Server, tls: ssl.SSLContext, timeout: float, message: EmailMessage, to: Sequence[str]
    ) -> None:
        self.refused: Mapping[str, tuple[int, bytes]] | None = None
        self.error: Exception | None = None
        self._server = server
        self._tls = tls
        self._timeout = timeout
        self._message = message
        self._to = to
        self._lock = threading.Lock()
        self._over = False
        self._handle: socket.socket | None = None

    def run(self) -> None:
        try:
            self._talk()
        except Exception as error:  # noqa: BLE001 - it is raised in the thread that asked
            self.error = error
        finally:
            self.cut()

    def connect(self, host: str, port: int, timeout: float) -> socket.socket:
        connection = socket.create_connection((host, port), timeout)
        with self._lock:
            if self._over:
                connection.close()
                raise TimeoutError("it was reached too late")
            # A duplicate: wrapping in TLS takes the original's descriptor away.
            self._handle = connection.dup()
        if self._server.scheme == "smtps":
            return self._tls.wrap_socket(connection, server_hostname=host)
        return connection

    def cut(self) -> None:
        """
        End it, wherever it is.
        """
        with self._lock:
            self._over = True
            if self._handle is not None:
                with contextlib.suppress(OSError):
                    self._handle.shutdown(socket.SHUT_RDWR)
                self._handle.close()
                self._handle = None

    def _talk(self) -> None:
        domain = str(self._message["From"].addresses[0].domain)
        smtp = _Smtp(self, self._server, self._timeout, domain if domain.isascii() else "localhost")
        try:
            self._secure(smtp)
            if self._server.user is not None:
                smtp.login(self._server.user, self._server.password)
            sender = self._message["From"].addresses[0].addr_spec
            self.refused = smtp.send_message(self._message, sender, self._to)
            # It is taken: however the farewell ends, that is no failure to send.
            smtp.quit()
        finally:
            smtp.close()

    def _secure(self, smtp: smtplib.SMTP) -> None:
        scheme = self._server.scheme
        smtp.ehlo_or_helo_if_needed()
        if scheme == "smtps":
            return
        if smtp.has_extn("starttls"):
            smtp.starttls(context=self._tls)
        elif scheme == "smtp+starttls":
            raise smtplib.SMTPNotSupportedError("it offers no STARTTLS, which the URL requires")
        elif self._server.user is not None and not _is_loopback(smtp):
            raise smtplib.SMTPNotSupportedError("it offers no STARTTLS, and a password is never sent in clear")


class _Smtp(smtplib.SMTP):
    """
    A client whose connection its conversation makes.
    """

    def __init__(self, talk: _Conversation, server: _Server, timeout: float, local_hostname: str) -> None:
        self._talk = talk
        try:
            super().__init__(server.host, server.port, local_hostname, timeout)
        except BaseException:
            self.close()
            raise

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return self._talk.connect(host, port, timeout)


def _is_loopback(smtp: smtplib.SMTP) -> bool:
    assert smtp.sock is not None
    return ipaddress.ip_address(smtp.sock.getpeername()[0].partition("%")[0]).is_loopback


def _server_of(url: str) -> _Server:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError("ONCETASK_SMTP_URL can't be read; percent-encode user and password.") from None
    if parts.scheme not in _PORTS:
        raise ConfigError("ONCETASK_SMTP_URL must begin with smtp://, smtps:// or smtp+starttls://.")
    if not parts.hostname or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ConfigError(
            "ONCETASK_SMTP_URL must be like smtp://user:password@host:587; percent-encode user and password."
        )
    user = None if parts.username is None else unquote(parts.username)
    password = unquote(parts.password or "")
    if not f"{user or ''}{password}".isascii() or _UNPRINTABLE.search(f"{user or ''}{password}"):
        raise ConfigError("User and password of ONCETASK_SMTP_URL must be printable ASCII; mail servers take no other.")
    return _Server(parts.scheme, parts.hostname, port or _PORTS[parts.scheme], user or None, password)


def _address(text: str, setting: str) -> Address:
    name, address = parseaddr(text)
    try:
        if "@" not in address or _UNPRINTABLE.search(text):
            raise ValueError(text)
        return Address(name, addr_spec=address)
    except (ValueError, IndexError):
        raise ConfigError(f"{setting} has {text!r}, which is no mail address.") from None


def _alert_error(server: _Server, error: Exception) -> AlertError:
    """
    What went wrong and what to do, without the password.
    """
    match error:
        case smtplib.SMTPAuthenticationError():
            what = f"it refused the login ({_answer(error, server)}); check user and password of ONCETASK_SMTP_URL"
        case smtplib.SMTPSenderRefused():
            what = f"it refused the sender ({_answer(error, server)}); check ONCETASK_ALERT_FROM"
        case smtplib.SMTPRecipientsRefused():
            answers = "; ".join(f"{to}: {code} {_text(text, server)}" for to, (code, text) in error.recipients.items())
            what = f"it refused all recipients ({answers}); check ONCETASK_ALERT_TO"
        case smtplib.SMTPResponseException():
            what = f"it refused the message ({_answer(error, server)})"
        case ssl.SSLCertVerificationError():
            what = f"its certificate is not trusted ({error.verify_message}); check the host name of ONCETASK_SMTP_URL"
        case ssl.SSLError():
            what = f"TLS failed ({_text(str(error), server)}); smtps:// is for port 465, smtp+starttls:// for port 587"
        case smtplib.SMTPNotSupportedError():
            what = f"{_text(str(error), server)}; use smtps:// or another server in ONCETASK_SMTP_URL"
        case _:
            what = (
                f"{_text(str(error), server) or type(error).__name__}; check that the host of ONCETASK_SMTP_URL is up"
            )
    return AlertError(f"The mail server {server!r} did not take the alert: {what}.", host=server.host, port=server.port)


def _answer(error: smtplib.SMTPResponseException, server: _Server) -> str:
    return f"{error.smtp_code} {_text(error.smtp_error, server)}"


def _text(said: bytes | str, server: _Server) -> str:
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    return _line(text.replace(server.password, "***") if server.password else text)[:300]


def channel_from(config: Config) -> AlertChannel:
    """
    Mail if *config* names recipients and a server, else the log.

    Raises:
        ConfigError: The server's URL or an address is not usable.
    """
    if not config.alert_to or config.smtp_url is None:
        return LogChannel()
    return SmtpChannel(config.smtp_url, to=config.alert_to, sender=config.alert_from, prefix=config.alert_prefix)
