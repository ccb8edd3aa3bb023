from __future__ import annotations

import json
import logging
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gcp_oncetask.config import Config
from gcp_oncetask.effects.commands import for_shell
from gcp_oncetask.errors import ConfigError
from gcp_oncetask.logs import CloudFormatter
from gcp_oncetask.observe.alerts import Alert, LogChannel, body_of, subject_of
from gcp_oncetask.rules.record import Event, Failure
from gcp_oncetask.services.channels import channel_from
from gcp_oncetask.services.smtp import SmtpChannel

AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
ALERT = Alert(
    id="ab12",
    event=Event.FAILURE,
    env="PROD",
    project="shop",
    database="(default)",
    document="orders/42",
    sequence=3,
    attempt=2,
    max_attempts=5,
    at=AT,
    reason="All attempts are used up.",
    evidence=("Worker (pid:7) was sent SIGKILL!",),
    errors=(Failure(AT, 1, 3, "first trouble"), Failure(AT, 2, 3, "second trouble")),
    commands=("oncetask show orders/42", "oncetask reset orders/42"),
    status="failed",
    url="https://user:pw@shop.example/tasks/order?card=4111#x",
)


def channel(url="smtp://mail.example", to=("ann@example.com",), sender="me@example.com", prefix="[x]"):
    return SmtpChannel(url, to=to, sender=sender, prefix=prefix)


@pytest.mark.parametrize(
    ("event", "words", "sentence"),
    [
        (Event.TAKEOVER, "takeover", "Its lease was overwritten (a takeover)"),
        (Event.FAILURE, "permanent failure", "has failed for good"),
        (Event.QUARANTINE, "quarantined", "quarantined until a person decides"),
    ],
)
def test_alert_subject_names_the_event(event, words, sentence):
    """The subject says what happened, where and to which step; the body says so in a sentence of its own."""
    alert = replace(ALERT, event=event)
    assert subject_of(alert, "[shop]") == f"[shop] {words} in PROD: orders/42, sequence 3"
    assert sentence in body_of(alert).splitlines()[0]


def test_alert_subject_is_one_bounded_line():
    """Line breaks of a document's name or the prefix can't start a header, and a long name is cut."""
    alert = replace(ALERT, document="orders/42\r\nBcc: eve@example.com\u2028" + "x" * 500)
    subject = subject_of(alert, "[a\n]")
    assert subject.isprintable()
    assert len(subject) == 200
    assert subject.startswith(r"[a\n] permanent failure in PROD: orders/42\r\nBcc: eve@example.com\u2028x")
    assert subject_of(replace(ALERT, sequence=0), "") == "permanent failure in PROD: orders/42"


def test_alert_body_tells_all():
    """Reason, evidence, path, console, attempts and commands are in the body, each on its own line."""
    lines = body_of(ALERT).splitlines()
    assert "Why: All attempts are used up." in lines
    assert "Document:    orders/42" in lines
    assert "Attempt:     2 of 5" in lines
    assert "Status:      failed" in lines
    assert "Decided:     2026-03-04 05:06:07+00:00" in lines
    console = "https://console.cloud.google.com/firestore/databases/-default-/data/panel/orders/42?project=shop"
    assert f"Console:     {console}" in lines
    assert "  Worker (pid:7) was sent SIGKILL!" in lines
    history = [line for line in lines if "trouble" in line]
    assert history == [
        "  2026-03-04 05:06:07+00:00  sequence 3, attempt 1: first trouble",
        "  2026-03-04 05:06:07+00:00  sequence 3, attempt 2: second trouble",
    ]
    assert lines[-2:] == ["  oncetask show orders/42", "  oncetask reset orders/42"]


def test_alert_body_shows_the_target_without_its_data():
    """Query, fragment and login of the target may be a user's data and are left out."""
    assert "Target:      https://shop.example/tasks/order\n" in body_of(ALERT)
    assert "4111" not in body_of(ALERT)


def test_alert_body_leaves_out_what_is_unknown():
    """Without step, attempt, errors, evidence, target or commands no empty headings remain."""
    bare = replace(ALERT, sequence=0, attempt=0, evidence=(), errors=(), commands=(), url=None, max_attempts=None)
    text = body_of(bare)
    for heading in ("Sequence:", "Attempt:", "Target:", "Evidence:", "Failed attempts", "To look at it"):
        assert heading not in text
    assert "Attempt:     2\n" in body_of(replace(ALERT, max_attempts=None))


def test_alert_of_a_lost_result_says_that_nothing_runs_again():
    """The task is completed: it is no failure, though the alert's event is one."""
    assert body_of(ALERT).startswith("This task has failed")
    assert body_of(replace(ALERT, result_lost=True)).startswith("This task is completed and does not run again")


def test_alert_body_keeps_evidence_on_its_line():
    """A log line with control characters can't forge other lines, nor obey a terminal."""
    text = body_of(replace(ALERT, evidence=("a\nResolve: rm -rf\x1b[2J",), database="eu db", document="o/ä b"))
    assert r"  a\nResolve: rm -rf\x1b[2J" + "\n" in text
    assert "/databases/eu%20db/data/panel/o/%C3%A4%20b?project=shop" in text


def test_alert_log_has_all_fields(caplog):
    """Where nobody is mailed, the alert is an ERROR line with every field, as Cloud Logging takes it."""
    LogChannel().send(ALERT)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "permanent failure in PROD: orders/42" in record.getMessage()
    assert "oncetask reset orders/42" in record.getMessage()
    fields = json.loads(CloudFormatter("shop").format(record))["oncetask"]
    assert fields["event"] == "alert.failure"
    assert fields["document"] == "orders/42"
    assert fields["sequence"] == "3"
    assert fields["commands"] == ["oncetask show orders/42", "oncetask reset orders/42"]
    assert fields["evidence"] == ["Worker (pid:7) was sent SIGKILL!"]
    assert "first trouble" in fields["errors"][0]
    assert fields["url"] == "https://shop.example/tasks/order"


def test_alert_channel_is_chosen_by_configuration():
    """With recipients and a server alerts are mailed, else logged."""
    assert isinstance(channel_from(Config()), LogChannel)
    assert isinstance(channel_from(Config(smtp_url="smtp://mail.example")), LogChannel)
    mailed = channel_from(Config(alert_to=("ann@example.com",), smtp_url="smtp://mail.example"))
    assert isinstance(mailed, SmtpChannel)


@pytest.mark.parametrize(
    "url",
    [
        "http://ann:geheim@mail.example",
        "smtp://",
        "smtp://ann:geheim@mail.example:port",
        "smtp://ann:ge/geheim@mail.example:25",
        "smtp://ann:geheim@mail.example/?a=geheim",
        "smtp://ann:geheim%C3%BC@mail.example",
        "smtp://ann:geheim%0A@mail.example",
        "smtp://[::1:geheim",
    ],
)
def test_alert_bad_server_url_is_refused_without_its_password(url):
    """A URL that can't be used is a ConfigError when the program starts, and the password isn't in it."""
    with pytest.raises(ConfigError, match="ONCETASK_SMTP_URL") as caught:
        channel(url)
    assert "geheim" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    "address", ["ann", "", "ann@example.com\nBcc: eve@example.com", "ann@", "a b@example.com", "ünn@example.com"]
)
def test_alert_bad_addresses_are_refused(address):
    """What is no mail address is a ConfigError that names its setting."""
    with pytest.raises(ConfigError, match="ONCETASK_ALERT_TO"):
        channel(to=(address,))
    if address:
        with pytest.raises(ConfigError, match="ONCETASK_ALERT_FROM"):
            channel(sender=address)


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_alert_commands_name_the_document_whatever_it_is_called():
    """Its path is a printable word, which a shell takes for the path."""
    paths = ["orders/42", "o/a b", "o/it's \\ $HOME `x`", "o/x\x1b[2J\n\u202eü'\\7f", "o/\x85", "o/\n"]
    words = [for_shell(path) for path in paths]
    said = subprocess.run(["bash", "-c", f"printf '%s\\0' {' '.join(words)}"], capture_output=True, check=True).stdout
    assert said.decode().split("\0")[:-1] == paths
    assert all(word.isprintable() for word in words)


def test_alert_needs_recipient_and_sender():
    """No recipients, or a login that can't be the sender, are told at start-up."""
    with pytest.raises(ConfigError, match="No address is set"):
        channel(to=())
    with pytest.raises(ConfigError, match="ONCETASK_ALERT_FROM"):
        channel("smtp://apikey:x@mail.example", sender=None)


DOUBT = replace(
    ALERT,
    event=Event.QUARANTINE,
    status="quarantined",
    question="Did step 2 happen?",
    key="otk_1",
    granted_at=AT - timedelta(minutes=9),
    lease_ends=AT - timedelta(minutes=8),
    logs="https://console.cloud.google.com/logs/query;query=x?project=shop",
    effects=("", "It runs again."),
)


def test_alert_of_a_doubt_asks_the_question_and_says_what_each_command_does():
    """The question comes before the facts; each command has its effect below it, on a line that no shell takes for its own."""
    lines = body_of(DOUBT).splitlines()
    assert lines[:5] == [
        "It is not known whether this task did its work. It is quarantined until a person decides.",
        "",
        "Question: Did step 2 happen?",
        "",
        "Why: All attempts are used up.",
    ]
    assert "Key:         otk_1" in lines
    assert "Lease from:  2026-03-04 04:57:07+00:00" in lines
    assert "Lease until: 2026-03-04 04:58:07+00:00" in lines
    assert f"Logs:        {DOUBT.logs}" in lines
    assert lines[-4:] == [
        "To look at it, then one of: run it again, say that its step has happened, call the chain done or failed:",
        "  oncetask show orders/42",
        "  oncetask reset orders/42",
        "      It runs again.",
    ]


def test_alert_log_has_times_as_texts(caplog):
    """Those that are not known are empty."""
    for alert, said in ((DOUBT, "2026-03-04T04:57:07+00:00"), (ALERT, "")):
        LogChannel().send(alert)
        fields = json.loads(CloudFormatter("shop").format(caplog.records[-1]))["oncetask"]
        assert (fields["granted_at"], fields["question"], fields["effects"]) == (
            said,
            alert.question,
            list(alert.effects),
        )


DIGEST = replace(
    ALERT,
    document="orders/1",
    sequence=0,
    attempt=0,
    reason="99 alert(s), the first of them: no",
    evidence=(),
    errors=(Failure(AT, 5, 3, "no"), Failure(AT, 0, 0, "no\nBcc: x")),
    commands=("oncetask show orders/1", "oncetask show orders/2"),
    count=99,
    documents=("orders/1", "orders/2\r\nBcc: eve@example.com"),
    kind="shops/*/orders",
)


def test_alert_of_many_says_how_many_and_which():
    """A digest has its number and kind in the subject; each of the first documents is a line, with what befell it."""
    assert subject_of(DIGEST, "[x]") == "[x] 99 x permanent failure in PROD: shops/*/orders"
    lines = body_of(DIGEST).splitlines()
    assert "has failed for good" in lines[0]
    assert "Alerts:      99" in lines
    assert "Kind:        shops/*/orders" in lines
    start = lines.index("The first 2:")
    assert lines[start + 1 : start + 3] == [
        "  orders/1, sequence 3: no",
        "  orders/2\\r\\nBcc: eve@example.com: no\\nBcc: x",
    ]
    assert lines[-3:] == ["To look at them:", "  oncetask show orders/1", "  oncetask show orders/2"]
    assert not any(line.startswith("Bcc") for line in lines)
    assert subject_of(replace(DIGEST, damaged=True), "") == "99 x damaged record in PROD: shops/*/orders"
    assert subject_of(replace(DIGEST, result_lost=True), "") == "99 x result lost in PROD: shops/*/orders"


def test_alert_of_many_is_one_log_line(caplog):
    """With its number and documents as fields."""
    LogChannel().send(DIGEST)
    (record,) = caplog.records
    fields = json.loads(CloudFormatter("shop").format(record))["oncetask"]
    assert (fields["count"], fields["kind"], fields["documents"][0]) == ("99", "shops/*/orders", "orders/1")
