"""
A mail server that keeps the messages it is given, and can be made to fail like real mail servers.
"""

from __future__ import annotations

import asyncio
import email
import email.policy
import ipaddress
import ssl
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gcp_emulator.clock import Clock, SystemClock, datetime_of

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Mail:
    """
    One accepted message.

    Attributes:
        sender: Envelope sender (MAIL FROM).
        recipients: Envelope recipients (RCPT TO).
        message: The parsed message.
        received_at: Microseconds since the epoch.
    """

    sender: str
    recipients: tuple[str, ...]
    message: EmailMessage
    received_at: int


class MailSink:
    """
    An SMTP server on loopback; safe for many threads.

    Attributes:
        refused: Messages that ``reject()`` turned away.
        on_message: Called in the server's thread with each accepted ``Mail``.
    """

    def __init__(
        self,
        username: str | None = None,
        password: str | None = None,
        *,
        starttls: bool = False,
        clock: Clock | None = None,
        on_message: Callable[[Mail], None] | None = None,
    ) -> None:
        if (username is None) != (password is None):
            raise ValueError("username and password belong together: give both or neither")
        self.refused = 0
        self.on_message = on_message
        self._login = None if username is None else (username, password or "")
        self._starttls = starttls
        self._clock = clock or SystemClock()
        self._changed = threading.Condition()
        self._messages: list[Mail] = []
        self._rejections: list[int] = []
        self._lost_answers = 0
        self._answering = asyncio.Event()
        self._answering.set()
        self._port = 0
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._tls: ssl.SSLContext | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._server: asyncio.Server | None = None
        self._open: set[_Connection] = set()

    @property
    def port(self) -> int:
        """
        The port, kept while the server is down.
        """
        return self._port

    @property
    def url(self) -> str:
        """
        Where to send mail: ``smtp://user:password@127.0.0.1:port``, or ``smtp+starttls://`` where TLS is demanded.
        """
        scheme = "smtp+starttls" if self._starttls else "smtp"
        login = ""
        if self._login is not None:
            login = ":".join(quote(part, safe="") for part in self._login) + "@"
        return f"{scheme}://{login}{HOST}:{self._port}"

    @property
    def hang(self) -> bool:
        """
        While true, a client that greets the server gets no answer.
        """
        return not self._answering.is_set()

    @hang.setter
    def hang(self, value: bool) -> None:
        change = self._answering.clear if value else self._answering.set
        if self._loop is None:
            change()
        else:
            self._run(_called(change))

    @property
    def certificate(self) -> Path:
        """
        PEM file of the server's own certificate, to verify it by; only with ``starttls`` and while started.
        """
        if self._directory is None:
            raise RuntimeError("there is a certificate only with starttls=True and after start()")
        return Path(self._directory.name) / "certificate.pem"

    @property
    def messages(self) -> list[Mail]:
        """
        The accepted messages, oldest first.
        """
        with self._changed:
            return list(self._messages)

    def start(self, port: int = 0) -> str:
        """
        Serve on *port* (0: a free one); returns the URL.
        """
        if self._thread is not None:
            raise RuntimeError("the mail sink is already started")
        if self._starttls and self._tls is None:
            self._directory = tempfile.TemporaryDirectory(prefix="gcp-emulator-mail-")
            self._tls = _tls_context(Path(self._directory.name), self._clock)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mail-sink", daemon=True)
        self._thread.start()
        self._port = port
        try:
            self.up()
        except OSError:
            self.stop()
            raise
        return self.url

    def stop(self) -> None:
        """
        Close every connection and the port; messages are kept.
        """
        if self._loop is None or self._thread is None:
            return
        self.down()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = self._thread = None
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = self._tls = None

    def down(self) -> None:
        """
        Drop every connection and refuse new ones.
        """
        self._run(self._close())

    def up(self) -> None:
        """
        Accept connections, on the same port as before.
        """
        self._run(self._listen())

    def reject(self, times: int, code: int = 451) -> None:
        """
        Turn the next *times* messages away, after their text, with *code*: 4xx for now, 5xx for good.
        """
        with self._changed:
            self._rejections += [code] * times

    def lose_answer(self, times: int = 1) -> None:
        """
        Accept the next *times* messages that are not rejected, and drop the connection without saying so.
        """
        with self._changed:
            self._lost_answers += times

    def clear(self) -> None:
        """
        Forget messages and planned failures.
        """
        with self._changed:
            self._messages.clear()
            self._rejections.clear()
            self._lost_answers = 0

    def wait_for(self, n: int = 1, timeout: float = 10.0) -> list[Mail]:
        """
        Wait until *n* messages were accepted; returns all.

        Raises:
            TimeoutError: Fewer came within *timeout* real seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._messages) >= n, timeout):
                raise TimeoutError(f"{len(self._messages)} of {n} mails came within {timeout} s")
            return list(self._messages)

    def _run(self, work: Any) -> None:
        if self._loop is None:
            work.close()
            raise RuntimeError("the mail sink is not started")
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _listen(self) -> None:
        if self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(self._connection, HOST, self._port)
            self._port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        if running := [connection.drop() for connection in self._open]:
            await asyncio.wait(running)

    def _connection(self) -> SMTP:
        return _Connection(
            _Hooks(self._answering, self._login is not None, self._accept),
            self._open,
            loop=asyncio.get_running_loop(),
            hostname="mail.test",
            enable_SMTPUTF8=True,
            tls_context=self._tls,
            require_starttls=self._starttls,
            auth_require_tls=self._starttls,
            authenticator=self._authenticate,
        )

    def _authenticate(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: Any
    ) -> AuthResult:
        given = (data.login.decode(), data.password.decode()) if isinstance(data, LoginPassword) else None
        return AuthResult(success=self._login is not None and given == self._login, handled=False)

    def _accept(self, envelope: Envelope) -> tuple[str, bool]:
        """
        Keep the message or reject it; the answer, and whether it is to be lost.
        """
        content = envelope.content if isinstance(envelope.content, bytes) else b""
        message = email.message_from_bytes(content, policy=email.policy.default)
        mail = Mail(envelope.mail_from or "", tuple(envelope.rcpt_tos), message, self._clock.micros())
        with self._changed:
            if self._rejections:
                self.refused += 1
                return f"{self._rejections.pop(0)} the mail sink was told to reject this message", False
            lost = self._lost_answers > 0
            self._lost_answers -= lost
            self._messages.append(mail)
            self._changed.notify_all()
        if self.on_message is not None:
            self.on_message(mail)
        return "250 2.0.0 OK", lost


@dataclass
class _Hooks:
    """
    Hooks that aiosmtpd calls. They are in an object of their own, because aiosmtpd reads every attribute of it.

    Without slots: up to Python 3.11.2 a dataclass with slots keeps a ``__weakref__`` that raises TypeError when it is read.
    """

    answering: asyncio.Event
    demands_login: bool
    accept: Callable[[Envelope], tuple[str, bool]]

    async def handle_EHLO(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, _envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        await self.answering.wait()
        return responses

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        # Not aiosmtpd's auth_required: it warns, once per connection, that logins without TLS can be overheard.
        if self.demands_login and not session.authenticated:
            return "530 5.7.0 Authentication required"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: _Connection, _session: Session, envelope: Envelope
    ) -> str:
        answer, lost = self.accept(envelope)
        if lost:
            server.drop()
        return answer


class _Connection(SMTP):
    """
    One client's connection, which the sink can cut.
    """

    def __init__(self, hooks: _Hooks, registry: set[_Connection], **options: Any) -> None:
        super().__init__(hooks, **options)
        self._registry = registry

    def connection_made(self, transport: Any) -> None:
        self._registry.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._registry.discard(self)
        super().connection_lost(error)

    def drop(self) -> asyncio.Task[None]:
        """
        Cut the connection; returns the task that ends with it.
        """
        # Under TLS the socket's own transport: up to Python 3.11.2, TLS's raises AttributeError once it has been closed twice.
        transport = self._original_transport or self.transport
        assert transport is not None
        assert self._handler_coroutine is not None
        cast("asyncio.WriteTransport", transport).abort()
        self._handler_coroutine.cancel()  # no other code does that in a TLS handshake
        return self._handler_coroutine


async def _called(function: Callable[[], None]) -> None:
    function()


def _tls_context(directory: Path, clock: Clock) -> ssl.SSLContext:
    """
    A server context with a certificate of its own for 127.0.0.1 and localhost, stored in *directory*.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime_of(clock.micros())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(HOST))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, secret = directory / "certificate.pem", directory / "key.pem"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, secret)
    return context
