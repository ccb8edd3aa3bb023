from __future__ import annotations

import base64
import contextlib
import logging
import socket
import socketserver
import ssl
import threading
import time
import traceback
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import quote

import pytest

from gcp_emulator.mail import MailSink
from gcp_oncetask.config import Config
from gcp_oncetask.errors import AlertError
from gcp_oncetask.observe.alerts import Alert, body_of, subject_of
from gcp_oncetask.rules.record import Event
from gcp_oncetask.services.channels import channel_from
from gcp_oncetask.services.smtp import SmtpChannel
from tests.support.patience import patient

ALERT = Alert(
    id="ab12",
    event=Event.TAKEOVER,
    env="PROD",
    project="shop",
    database="(default)",
    document="orders/42",
    sequence=3,
    attempt=2,
    max_attempts=5,
    at=datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC),
    reason="Its instance was killed.",
    evidence=("Container terminated on signal 9.",),
    errors=(),
    commands=("oncetask show orders/42", "oncetask cancel orders/42"),
    status="leased",
    url="https://shop.example/tasks/order",
)


@pytest.fixture
def make_sink():
    with contextlib.ExitStack() as stack:

        def make(*args, **options):
            sink = MailSink(*args, **options)
            sink.start()
            stack.callback(sink.stop)
            return sink

        yield make


def trusting(sink):
    return ssl.create_default_context(cafile=str(sink.certificate))


def channel(url, to=("ann@example.com",), sender="oncetask@example.com", **options):
    return SmtpChannel(url, to=to, sender=sender, prefix="[shop]", **options)


class Script(socketserver.StreamRequestHandler):
    """A mail server that answers by verb as its server's ``answers`` say."""

    def handle(self):
        self.say(self.server.greeting)
        while line := self.rfile.readline():
            self.server.heard.append(line)
            verb = line[:4].upper().decode()
            answer = self.server.answers.get(line.strip().lower(), self.server.answers.get(verb, "250 OK"))
            if answer is None:
                # Reads on, and never answers: the client must leave.
                continue
            self.say(answer)
            if verb == "DATA" and answer.startswith("354"):
                while (text := self.rfile.readline()) not in {b".\r\n", b""}:
                    self.server.heard.append(text)
                self.say("250 OK")

    def say(self, answer):
        if not self.server.drip:
            self.wfile.write(answer.encode() + b"\r\n")
            return
        with contextlib.suppress(OSError):
            while not self.server.ended.wait(0.02):
                self.wfile.write(b"2")


@pytest.fixture
def scripted():
    """Makes mail servers of answers by verb or whole line; they end with the test."""
    with contextlib.ExitStack() as stack:

        def make(answers=(), host="127.0.0.1", drip=False, tls=None):
            server = socketserver.ThreadingTCPServer((host, 0), Script)
            if tls is not None:
                server.socket = tls.wrap_socket(server.socket, server_side=True)
            server.answers = {"DATA": "354 go on", "QUIT": "221 bye"} | dict(answers)
            server.greeting, server.drip, server.heard, server.ended = "220 hello", drip, [], threading.Event()
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            stack.callback(server.ended.set)
            server.port = server.server_address[1]
            return server

        yield make


def test_smtp_mail_arrives_whole(make_sink):
    """One message goes to all recipients, with the alert's id, date, subject and text."""
    sink = make_sink()
    channel(sink.url, to=("Ann <ann@example.com>", "bob@example.com")).send(ALERT)
    (mail,) = sink.messages
    assert mail.sender == "oncetask@example.com"
    assert mail.recipients == ("ann@example.com", "bob@example.com")
    assert mail.message["To"] == "Ann <ann@example.com>, bob@example.com"
    assert mail.message["From"] == "oncetask@example.com"
    assert mail.message["Subject"] == subject_of(ALERT, "[shop]")
    assert mail.message["Message-ID"] == "<ab12@gcp-oncetask>"
    assert mail.message["Date"].datetime == ALERT.at
    assert mail.message["Auto-Submitted"] == "auto-generated"
    assert mail.message.get_content_type() == "text/plain"
    assert mail.message.get_content().replace("\r\n", "\n") == body_of(ALERT)


def test_smtp_text_beyond_ascii_arrives(make_sink):
    """Names beyond ASCII and very long lines arrive unharmed; a name with line breaks makes no header."""
    sink = make_sink()
    alert = replace(ALERT, document="Aufträge/日本\r\nBcc: eve@example.com", reason="ü" * 3000, evidence=("x" * 3000,))
    channel(sink.url).send(alert)
    (mail,) = sink.messages
    assert mail.recipients == ("ann@example.com",)
    assert mail.message["Bcc"] is None
    assert mail.message["Subject"] == subject_of(alert, "[shop]")
    assert r"Aufträge/日本\r\nBcc: eve" in mail.message["Subject"]
    assert mail.message.get_content().replace("\r\n", "\n") == body_of(alert)


def test_smtp_login_is_decoded_and_sent_over_tls(make_sink):
    """User and password are percent-decoded; the login happens after STARTTLS; the user is the default sender."""
    sink = make_sink("ann@example.com", "s/e:c@ret %", starttls=True)
    config = Config(alert_to=("bob@example.com",), smtp_url=sink.url)
    SmtpChannel(
        config.smtp_url, to=config.alert_to, sender=None, prefix=config.alert_prefix, tls_context=trusting(sink)
    ).send(ALERT)
    (mail,) = sink.messages
    assert mail.sender == "ann@example.com"


def test_smtp_starttls_is_used_where_offered(make_sink):
    """A plain smtp URL goes over TLS when the server offers it: one that demands TLS takes the mail."""
    sink = make_sink("ann@example.com", "secret", starttls=True)
    channel(sink.url.replace("smtp+starttls", "smtp"), tls_context=trusting(sink)).send(ALERT)
    assert len(sink.messages) == 1


def test_smtp_unknown_certificate_is_refused(make_sink):
    """A server whose certificate nobody vouches for gets no login and no mail."""
    sink = make_sink("ann@example.com", "geheim", starttls=True)
    with pytest.raises(AlertError, match="not trusted") as caught:
        channel(sink.url).send(ALERT)
    assert sink.messages == []
    assert "geheim" not in "".join(traceback.format_exception(caught.value))


def test_smtp_required_tls_is_not_given_up(scripted):
    """Where the URL requires STARTTLS and the server has none, nothing is sent."""
    server = scripted()
    with pytest.raises(AlertError, match="no STARTTLS, which the URL requires"):
        channel(f"smtp+starttls://127.0.0.1:{server.port}").send(ALERT)
    assert not any(line.startswith(b"mail") for line in server.heard)


def test_smtps_speaks_tls_from_the_start(make_sink, scripted):
    """With smtps the greeting already comes over TLS, and the certificate is verified."""
    certified = make_sink(starttls=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certified.certificate, certified.certificate.with_name("key.pem"))
    server = scripted(tls=tls)
    channel(f"smtps://127.0.0.1:{server.port}", tls_context=trusting(certified)).send(ALERT)
    assert any(line.startswith(b"Message-ID: <ab12@gcp-oncetask>") for line in server.heard)
    plain = make_sink()
    with pytest.raises(AlertError, match="TLS failed"):
        channel(f"smtps://127.0.0.1:{plain.port}").send(ALERT)


def _own_address():
    """An address of this machine that isn't loopback, or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        found = probe.getsockname()[0]
    return None if found.startswith("127.") else found


@pytest.mark.skipif(_own_address() is None, reason="this machine has no address but loopback")
def test_smtp_password_never_travels_in_clear(scripted):
    """Beyond loopback a server without TLS is told no password; without a password it gets the mail."""
    server = scripted({"EHLO": "250-hello\r\n250 AUTH PLAIN LOGIN", "AUTH": "235 OK"}, host=_own_address())
    with pytest.raises(AlertError, match="never sent in clear"):
        channel(f"smtp://ann:geheim@{_own_address()}:{server.port}").send(ALERT)
    assert not any(line.upper().startswith(b"AUTH") for line in server.heard)
    channel(f"smtp://{_own_address()}:{server.port}").send(ALERT)
    assert any(line.startswith(b"Message-ID") for line in server.heard)


def test_smtp_wrong_login_is_told_without_the_password(make_sink):
    """A refused login names the settings to check, and the password is nowhere in the traceback."""
    sink = make_sink("ann@example.com", "right")
    mailer = channel(f"smtp://ann%40example.com:geheim@127.0.0.1:{sink.port}")
    with pytest.raises(AlertError, match=r"refused the login \(535 .*ONCETASK_SMTP_URL") as caught:
        mailer.send(ALERT)
    assert "geheim" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.port == sink.port


def test_smtp_answers_that_echo_the_password_are_cleaned(scripted):
    """A server that repeats the password in its answer doesn't get it into the error."""
    server = scripted({"EHLO": "250-hello\r\n250 AUTH PLAIN", "MAIL": "550 geheim is not welcome"})
    server.answers["AUTH"] = "235 OK"
    with pytest.raises(AlertError, match=r"refused the sender \(550 \*\*\* is not welcome\)"):
        channel(f"smtp://ann%40example.com:geheim@127.0.0.1:{server.port}").send(ALERT)


@pytest.mark.parametrize("code", [451, 554])
def test_smtp_rejected_mail_is_an_error_and_the_next_goes(make_sink, code):
    """A rejection is an AlertError with the server's answer; the same alert sent later arrives."""
    sink = make_sink()
    sink.reject(1, code)
    mailer = channel(sink.url)
    with pytest.raises(AlertError, match=f"refused the message .{code} "):
        mailer.send(ALERT)
    mailer.send(ALERT)
    assert [mail.message["Message-ID"] for mail in sink.messages] == ["<ab12@gcp-oncetask>"]


def test_smtp_server_down_and_up(make_sink):
    """A dead server is an AlertError that names it; once it is back the same channel works."""
    sink = make_sink()
    mailer = channel(sink.url)
    sink.down()
    with pytest.raises(AlertError, match=f"smtp://127.0.0.1:{sink.port}.*refused.*is up"):
        mailer.send(ALERT)
    sink.up()
    mailer.send(ALERT)
    assert len(sink.messages) == 1


def test_smtp_lost_answer_is_sent_again_under_the_same_id(make_sink):
    """When the answer is lost nobody knows whether it arrived: an error, and the second copy has the same id."""
    sink = make_sink()
    sink.lose_answer()
    mailer = channel(sink.url)
    with pytest.raises(AlertError):
        mailer.send(ALERT)
    mailer.send(ALERT)
    assert [mail.message["Message-ID"] for mail in sink.messages] == ["<ab12@gcp-oncetask>"] * 2


def test_smtp_hanging_server_costs_the_timeout_only(make_sink):
    """A server that stops answering is left after the timeout."""
    sink = make_sink()
    sink.hang = True
    began = time.monotonic()
    with pytest.raises(AlertError, match=r"timed out|did not answer"):
        channel(sink.url, timeout=0.3).send(ALERT)
    assert time.monotonic() - began > 0.2
    sink.hang = False


def test_smtp_dripping_server_costs_the_timeout_only(scripted):
    """A server that sends a byte now and then never lets a read time out; the whole is bounded all the same."""
    server = scripted(drip=True)
    began = time.monotonic()
    with pytest.raises(AlertError, match=r"did not answer within 0\.3 s"):
        channel(f"smtp://127.0.0.1:{server.port}", timeout=0.3).send(ALERT)
    assert time.monotonic() - began > 0.2
    _wait_until_no_mail_thread()


def _wait_until_no_mail_thread():
    for thread in threading.enumerate():
        if thread.name == "oncetask-mail":
            thread.join(patient(30))
            assert not thread.is_alive()


@pytest.mark.parametrize("farewell", ["421 too late", None])
def test_smtp_farewell_does_not_matter(scripted, farewell):
    """Once the server has taken the mail it counts as sent, however the connection ends."""
    server = scripted({"QUIT": farewell})
    channel(f"smtp://127.0.0.1:{server.port}", timeout=0.5).send(ALERT)
    assert any(line.lower().startswith(b"quit") for line in server.heard)
    _wait_until_no_mail_thread()


def test_smtp_some_recipients_refused_counts_as_sent(scripted, caplog):
    """If one recipient got it, it is sent; who didn't is logged."""
    server = scripted({b"rcpt to:<bob@example.com>": "550 no such user"})
    channel(f"smtp://127.0.0.1:{server.port}", to=("ann@example.com", "bob@example.com")).send(ALERT)
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert "refused the recipient bob@example.com (550 no such user)" in record.getMessage()


def test_smtp_all_recipients_refused_is_an_error(scripted):
    """If nobody got it, it isn't sent."""
    server = scripted({"RCPT": "550 no such user"})
    with pytest.raises(AlertError, match=r"all recipients \(ann@example.com: 550 no such user; bob@.*ALERT_TO"):
        channel(f"smtp://127.0.0.1:{server.port}", to=("ann@example.com", "bob@example.com")).send(ALERT)


@pytest.mark.parametrize(
    "said", ["{password}", "{plain}", "{login}", "{quoted}", "bad {plain} and {password}\x1b[2J\u202e"]
)
def test_smtp_server_that_repeats_the_login_tells_nobody(scripted, caplog, said):
    """The password, in each form in which it is sent, is in no error, traceback or log line; nor is what a terminal obeys."""
    password = "gehe 'im/\\%"
    plain = base64.b64encode(f"\0ann@example.com\0{password}".encode()).decode()
    login = base64.b64encode(password.encode()).decode()
    text = said.format(password=password, plain=plain, login=login, quoted=quote(password, safe=""))
    url = f"smtp://ann%40example.com:{quote(password, safe='')}@127.0.0.1"
    for answers in ({"AUTH": f"535 {text}"}, {"RCPT": f"550 {text}"}, {"MAIL": f"550 {text}"}, {"DATA": f"550 {text}"}):
        server = scripted({"EHLO": "250-hello\r\n250 AUTH PLAIN", "AUTH": "235 come in", **answers})
        with pytest.raises(AlertError) as caught:
            channel(f"{url}:{server.port}").send(ALERT)
        told = "".join(traceback.format_exception(caught.value)) + str(caught.value.facts)
        assert not [form for form in (password, plain, login, quote(password, safe="")) if form in told]
        assert "***" in told
        assert str(caught.value).isprintable()
    refusal = {b"rcpt to:<bob@example.com>": f"550 {text}"}
    server = scripted({"EHLO": "250-hello\r\n250 AUTH PLAIN", "AUTH": "235 come in", **refusal})
    channel(f"{url}:{server.port}", to=("ann@example.com", "bob@example.com")).send(
        replace(ALERT, document="o\n\x1b[2J")
    )
    [line] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert line.isprintable()
    assert not [form for form in (password, plain, login) if form in line]


def test_smtp_unknown_host_is_an_error():
    """A host that can't be found is an AlertError too."""
    with pytest.raises(AlertError, match=r"smtp://mail\.invalid:587"):
        channel("smtp://mail.invalid").send(ALERT)


def test_smtp_configured_channel_mails(make_sink):
    """The channel of a configuration uses its recipients, sender and prefix."""
    sink = make_sink()
    config = Config(
        alert_to=("ann@example.com",), alert_from="Shop <shop@example.com>", alert_prefix="[p]", smtp_url=sink.url
    )
    channel_from(config).send(ALERT)
    (mail,) = sink.messages
    assert mail.sender == "shop@example.com"
    assert mail.message["From"] == "Shop <shop@example.com>"
    assert mail.message["Subject"].startswith("[p] takeover")


def test_smtp_many_threads_share_a_channel(make_sink):
    """Alerts of many threads arrive, each once."""
    sink = make_sink()
    mailer = channel(sink.url)
    threads = [threading.Thread(target=mailer.send, args=(replace(ALERT, id=f"id{n}"),)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {mail.message["Message-ID"] for mail in sink.messages} == {f"<id{n}@gcp-oncetask>" for n in range(12)}
    assert len(sink.messages) == 12
