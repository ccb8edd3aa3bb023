"""
Send alerts by e-mail. The only importer of smtplib.
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import smtplib
import socket
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import quote, unquote, urlsplit

from gcp_oncetask.checks import urls
from gcp_oncetask.checks.values import as_config_errors, printable
from gcp_oncetask.config import config_error
from gcp_oncetask.errors import AlertError, ConfigError
from gcp_oncetask.observe.alerts import LOGGER, Alert, body_of, subject_of
from gcp_oncetask.services.mail import Mailbox, mail_bytes

T = TypeVar("T")
_PORTS: Final = {"smtp": 587, "smtp+starttls": 587, "smtps": 465}


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

    def without_password(self, text: str) -> str:
        """
        Return *text* with the password hidden, in each form in which it is sent or configured.
        """
        for form in self._forms():
            text = text.replace(form, "***")
        return text

    def _forms(self) -> list[str]:
        if not self.password:
            return []
        logins = (self.password, f"\0{self.user}\0{self.password}", f"{self.user}\0{self.user}\0{self.password}")
        encoded = [base64.b64encode(login.encode()).decode() for login in logins]
        return sorted({self.password, quote(self.password, safe=""), *encoded}, key=len, reverse=True)


class SmtpChannel:
    """
    Mails alerts: one message to all recipients, one connection each time.

    Args:
        url: ``smtp://user:password@host:port`` (STARTTLS if offered), ``smtp+starttls://`` (required) or ``smtps://``
            (TLS from the start); user and password are percent-encoded. Ports default to 587, and 465 for ``smtps``.
        to: Recipients, as ``ann@example.com`` or ``Ann <ann@example.com>``.
        sender: The sender; None: the URL's user, or the first recipient if the URL names no user.
        prefix: Text at the beginning of each subject.
        timeout: Seconds for the whole conversation.
        tls_context: Verifies servers; None: by the system's certificate authorities.

    Raises:
        ConfigError: The URL or an address is not usable; the message lists all problems.
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
        self._server, self._to, self._sender = _read(url, to, sender)
        self._prefix = prefix
        self._timeout = timeout
        self._tls = tls_context

    def send(self, alert: Alert) -> None:
        message = self._message(alert)
        if self._tls is None:
            self._tls = ssl.create_default_context()
        talk = _Conversation(self._server, self._tls, self._timeout, message, self._sender, self._to)
        # A socket's timeout limits each read, but not all of them together, and no name look-up. So the conversation runs
        # in a thread that can be abandoned.
        thread = threading.Thread(target=talk.run, name="oncetask-mail", daemon=True)
        thread.start()
        thread.join(self._timeout)
        late = thread.is_alive()
        if late:
            talk.cut()
        if talk.refused is None:
            # An error after the cut is only its consequence.
            error = None if late else talk.error
            error = error or TimeoutError(f"it did not answer within {self._timeout:g} s")
            # The server's answer may repeat the login.
            repeats = self._server.password and isinstance(error, smtplib.SMTPException)
            raise _alert_error(self._server, error) from (None if repeats else error)
        for recipient, (code, answer) in talk.refused.items():
            LOGGER.warning(
                "alert about %s: %r refused the recipient %s (%d %s); the others got it",
                *(alert.document, self._server, recipient, code, _text(answer, self._server)),
            )

    def _message(self, alert: Alert) -> bytes:
        subject = subject_of(alert, self._prefix)
        return mail_bytes(self._sender, self._to, subject, body_of(alert), at=alert.at, id_=alert.id)


class _Conversation:
    """
    A conversation with a mail server, which another thread may cut off.

    Attributes:
        refused: Recipients that the server refused, with its answers; None: it did not take the message.
        error: The exception that ended the conversation, if any.
    """

    def __init__(
        self,
        server: _Server,
        tls: ssl.SSLContext,
        timeout: float,
        message: bytes,
        sender: Mailbox,
        to: Sequence[Mailbox],
    ) -> None:
        self.refused: Mapping[str, tuple[int, bytes]] | None = None
        self.error: Exception | None = None
        self._server = server
        self._tls = tls
        self._timeout = timeout
        self._message = message
        self._sender = sender.address
        self._to = [one.address for one in to]
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
            # Keep a duplicate, because wrapping in TLS detaches the original socket.
            self._handle = connection.dup()
        if self._server.scheme == "smtps":
            return self._tls.wrap_socket(connection, server_hostname=host)
        return connection

    def cut(self) -> None:
        """
        End the conversation at once.
        """
        with self._lock:
            self._over = True
            if self._handle is not None:
                with contextlib.suppress(OSError):
                    self._handle.shutdown(socket.SHUT_RDWR)
                self._handle.close()
                self._handle = None

    def _talk(self) -> None:
        smtp = _Smtp(self, self._server, self._timeout, self._sender.rpartition("@")[2])
        try:
            self._secure(smtp)
            if self._server.user is not None:
                smtp.login(self._server.user, self._server.password)
            self.refused = smtp.sendmail(self._sender, self._to, self._message)
            # The message is taken; an error of QUIT is no failure to send.
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
    An SMTP client whose connection is made by its conversation.
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


def _read(url: str, to: Sequence[str], sender: str | None) -> tuple[_Server, tuple[Mailbox, ...], Mailbox]:
    found: list[str] = []
    server = _tried(found, _server_of, url)
    recipients = [_tried(found, _address, text, "ONCETASK_ALERT_TO") for text in to]
    if not to:
        found.append(
            "No address is set to which alerts are mailed; set ONCETASK_ALERT_TO, for example to oncall@example.com."
        )
    user = None if server is None else server.user
    author = None
    if sender is None and user is not None and "@" not in user:
        found.append(
            "The user of ONCETASK_SMTP_URL is no mail address; set ONCETASK_ALERT_FROM, for example to oncetask@example.com."
        )
    elif sender or user:
        author = _tried(found, _address, sender or user, "ONCETASK_ALERT_FROM")
    if found or server is None:
        raise config_error(found)
    usable = tuple(each for each in recipients if each is not None)
    return server, usable, author or usable[0]


def _tried(found: list[str], read: Callable[..., T], *args: Any) -> T | None:
    try:
        return read(*args)
    except ConfigError as error:
        found.append(str(error))
        return None


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
    login = f"{user or ''}{password}"
    if not login.isascii() or not login.isprintable():
        raise ConfigError("User and password of ONCETASK_SMTP_URL must be printable ASCII; mail servers take no other.")
    return _Server(parts.scheme, parts.hostname, port or _PORTS[parts.scheme], user or None, password)


def _address(text: str, setting: str) -> Mailbox:
    with as_config_errors():
        return Mailbox(*urls.mail_address(text, setting))


def _alert_error(server: _Server, error: Exception) -> AlertError:
    """
    Return the error with a reason and advice, without the password.
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
    return printable(server.without_password(text)).strip()[:300]
