from __future__ import annotations

import smtplib
import ssl
import threading
from email.message import EmailMessage

import pytest

from gcp_emulator.mail import MailSink
from tests.support.patience import patient


@pytest.fixture
def sink():
    sink = MailSink()
    sink.start()
    yield sink
    sink.stop()


def alert(subject="Task failed"):
    message = EmailMessage()
    message["From"] = "oncetask@example.com"
    message["To"] = "ops@example.com"
    message["Subject"] = subject
    message["Message-ID"] = "<1@example.com>"
    message.set_content("Größe: 3 x 4\n.leading dot\n")
    return message


def send(sink, message=None, timeout=5.0):
    with smtplib.SMTP("127.0.0.1", sink.port, timeout=timeout) as smtp:
        smtp.send_message(message or alert())


def test_mail_is_kept_with_its_envelope(sink):
    """A message arrives parsed, text unharmed, with envelope sender and all recipients."""
    message = alert("Übernahme von Auftrag 42")
    message["Bcc"] = "boss@example.com"
    send(sink, message)
    (mail,) = sink.wait_for(1)
    assert mail.sender == "oncetask@example.com"
    assert mail.recipients == ("ops@example.com", "boss@example.com")
    assert mail.message["Subject"] == "Übernahme von Auftrag 42"
    assert mail.message["Message-ID"] == "<1@example.com>"
    assert mail.message.get_content().replace("\r\n", "\n") == "Größe: 3 x 4\n.leading dot\n"
    assert sink.url == f"smtp://127.0.0.1:{sink.port}"


def test_wait_for_gives_up():
    """Waiting for mail that never comes ends in TimeoutError."""
    sink = MailSink()
    with pytest.raises(TimeoutError, match="0 of 1"):
        sink.wait_for(1, timeout=0.01)


def test_login_is_demanded():
    """With a user name, mail without the right login is refused, and the URL carries the login, escaped."""
    sink = MailSink("ann@example.com", "s/ecret")
    sink.start()
    try:
        assert sink.url == f"smtp://ann%40example.com:s%2Fecret@127.0.0.1:{sink.port}"
        with pytest.raises(smtplib.SMTPSenderRefused, match="530"):
            send(sink)
        with smtplib.SMTP("127.0.0.1", sink.port) as smtp, pytest.raises(smtplib.SMTPAuthenticationError):
            smtp.login("ann@example.com", "wrong")
        with smtplib.SMTP("127.0.0.1", sink.port, timeout=patient(30)) as smtp:
            smtp.login("ann@example.com", "s/ecret")
            smtp.send_message(alert())
        assert len(sink.wait_for(1)) == 1
    finally:
        sink.stop()


def test_starttls_is_demanded_and_verifiable():
    """With STARTTLS, plain mail is refused; the certificate verifies, and its file goes with the server."""
    sink = MailSink("ann", "secret", starttls=True)
    assert sink.start() == f"smtp+starttls://ann:secret@127.0.0.1:{sink.port}"
    try:
        with pytest.raises(smtplib.SMTPSenderRefused, match="STARTTLS"):
            send(sink)
        context = ssl.create_default_context(cafile=str(sink.certificate))
        with smtplib.SMTP("127.0.0.1", sink.port, timeout=patient(30)) as smtp:
            smtp.starttls(context=context)
            smtp.login("ann", "secret")
            smtp.send_message(alert())
        with smtplib.SMTP("127.0.0.1", sink.port) as smtp, pytest.raises(ssl.SSLCertVerificationError):
            smtp.starttls(context=ssl.create_default_context())
        assert len(sink.wait_for(1)) == 1
        certificate = sink.certificate
    finally:
        sink.stop()
    assert not certificate.exists()


def test_rejection_strikes_the_next_messages_only(sink):
    """Rejected messages get the code and are not kept; the one after them is."""
    sink.reject(1)
    sink.reject(1, code=550)
    for code in (451, 550):
        with pytest.raises(smtplib.SMTPDataError) as refusal:
            send(sink)
        assert refusal.value.smtp_code == code
    send(sink)
    assert (len(sink.messages), sink.refused) == (1, 2)


def test_lost_answer_keeps_the_message(sink):
    """With its answer lost, the message is kept although the client sees the connection break."""
    sink.lose_answer()
    with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionResetError)):
        send(sink)
    assert len(sink.wait_for(1)) == 1
    send(sink)
    assert len(sink.messages) == 2


def test_hanging_server_answers_again_when_told(sink):
    """A hanging server accepts the connection and says nothing; clients run into their own time-out."""
    sink.hang = True
    with pytest.raises(smtplib.SMTPServerDisconnected, match="timed out"):
        send(sink, timeout=0.05)
    sink.hang = False
    send(sink)
    assert len(sink.messages) == 1


def test_down_refuses_and_up_takes_the_same_port(sink):
    """While down, connections are cut and refused; afterwards the same port serves again, messages kept."""
    send(sink)
    port = sink.port
    with smtplib.SMTP("127.0.0.1", port, timeout=patient(30)) as smtp:
        smtp.noop()
        sink.down()
        with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionResetError)):
            smtp.noop()
        smtp.close()
    with pytest.raises(ConnectionRefusedError):
        send(sink)
    sink.up()
    assert sink.port == port
    send(sink)
    assert len(sink.messages) == 2


def test_stop_while_a_client_waits(sink):
    """Stopping cuts a client that is being kept waiting."""
    sink.hang = True
    smtp = smtplib.SMTP("127.0.0.1", sink.port, timeout=patient(30))
    smtp.putcmd("ehlo", "me")
    sink.stop()
    with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionResetError)):
        smtp.getreply()
    smtp.close()


@pytest.mark.parametrize("left_at", ["in the handshake", "under TLS", "after its farewell"])
def test_stop_while_a_client_under_tls_stays(left_at):
    """Stopping cuts a client that has asked for TLS, however far it has come, and that does not hang up."""
    sink = MailSink("ann", "secret", starttls=True)
    sink.start()
    smtp = smtplib.SMTP("127.0.0.1", sink.port, timeout=5)
    smtp.ehlo()
    if left_at == "in the handshake":
        assert smtp.docmd("STARTTLS")[0] == 220
    else:
        smtp.starttls(context=ssl.create_default_context(cafile=str(sink.certificate)))
        smtp.ehlo()
        if left_at == "after its farewell":
            assert smtp.docmd("QUIT")[0] == 221
    sink.stop()
    assert not any(thread.name == "mail-sink" for thread in threading.enumerate())
    smtp.close()


def test_start_on_a_taken_port_fails_clean(sink):
    """A taken port is an OSError, and nothing is left running."""
    other = MailSink()
    with pytest.raises(OSError, match="in use"):
        other.start(sink.port)
    other.start()
    other.stop()


def test_observer_sees_each_message():
    """on_message is called with every accepted message."""
    seen = []
    sink = MailSink(on_message=seen.append)
    sink.start()
    send(sink)
    sink.stop()
    assert seen == sink.messages != []
