"""
The mail about one record has all that a person needs to decide, and the commands act on the state that the mail is about.
"""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest

from gcp_oncetask import Fail, Status
from gcp_oncetask.cli import main
from gcp_oncetask.observe.alerts import Alert, body_of
from gcp_oncetask.rules import expires_at
from gcp_oncetask.rules.choices import last_attempt
from gcp_oncetask.rules.record import Event
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.orders import Killed
from tests.support.tasks import Latest, Other, Service, Work

SECRET = "4111-1111-1111-1111"


def die(task: Any, attempt: Any) -> None:
    raise Killed


@pytest.fixture
def service(oncetask_cloud: OncetaskCloud, monkeypatch: pytest.MonkeyPatch) -> Service:
    """
    Tasks of which nothing is known when their holder dies; the command line has their locker.
    """
    made = Service(oncetask_cloud).handle(on_unknown="quarantine").handle(Latest, on_unknown="quarantine")
    return made.have_commands(monkeypatch)


def quarantined(service: Service, model: type[Work] = Work) -> Alert:
    """
    The mail about a task whose holder was killed.
    """
    service.act = die
    service.create("a", model=model, note=SECRET)
    service.cloud.run_until_idle()
    service.cloud.advance(minutes=13)
    service.cloud.sweep()
    [alert] = service.cloud.alerts.sent
    assert alert.event is Event.QUARANTINE
    return alert


def pasted(line: str) -> list[str]:
    """
    The arguments of a command of a mail.
    """
    words = shlex.split(line)
    return words[words.index("gcp_oncetask") + 1 :]


def test_op_10_mail_has_all_that_decides_it(service: Service) -> None:
    """
    Read as text: question, key, times, verdict, link to the logs with its time span, four commands; and no payload.
    """
    alert = quarantined(service)
    lock, [attempt], text = service.lock("a"), service.attempts, body_of(alert)
    said = dict(re.findall(r"^([A-Z][a-z ]+): +(.*)$", text, re.MULTILINE))
    assert said["Question"].startswith("Did step 1 happen?")
    assert said["Key"] == attempt.key
    assert lock.granted_at is not None
    assert said["Lease from"] == lock.granted_at.isoformat(sep=" ", timespec="seconds")
    assert said["Lease until"] == expires_at(lock).isoformat(sep=" ", timespec="seconds")
    assert said["Why"] == "It has started; nothing is known of its end."
    assert re.search(
        r"/logs/query;query=.*holder.*;startTime=2025-12-31T23%3A59.*;endTime=2026-01-01T00%3A1.*\?project=",
        said["Logs"],
    )
    commands = [line for line in text.splitlines() if " python -m gcp_oncetask " in line]
    assert [pasted(line)[0] for line in commands] == ["show", *["resolve"] * 4]
    assert [pasted(line)[2] for line in commands[1:]] == ["run", "happened", "complete", "fail"]
    assert all("--if-version" in line for line in commands[1:])
    assert SECRET not in text


@pytest.mark.parametrize(("how", "status"), [("run", "completed"), ("happened", "completed"), ("fail", "failed")])
def test_op_10_command_of_a_mail_is_done_once_the_mail_was_sent(service: Service, how: str, status: str) -> None:
    """
    The record is written when the mail was sent, and again by each look of the sweeper: the version in the mail still counts.
    """
    alert = quarantined(service)
    assert service.lock("a").owed == ()
    service.cloud.advance(minutes=30)
    service.cloud.sweep()
    service.act = lambda task, attempt: None
    [line] = [line for line in alert.commands if f" {how} " in line]
    assert main(pasted(line)) == 0
    service.cloud.run_until_idle()
    assert str(service.lock("a").status) == status


def test_op_16_command_of_a_mail_is_refused_once_the_record_has_gone_on(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    The second of two people with one mail gets exit code 3 and reads who has acted.
    """
    alert = quarantined(service)
    run, fail = (next(line for line in alert.commands if f" {how} " in line) for how in ("run", "fail"))
    assert main([*pasted(run), "--as", "ann"]) == 0
    assert main([*pasted(fail), "--as", "bob"]) == 3
    assert "as ann, chose run" in capsys.readouterr().err
    assert service.lock("a").status is Status.SCHEDULED


def test_mail_of_a_newest_wins_task_has_the_key_of_the_payload_that_ran(service: Service) -> None:
    """
    Not that of a newer payload, which runs once a person has decided.
    """
    alert = quarantined(service, Latest)
    service.manager.create_task(Latest(name="a", note="newer"))
    path = service.path("a", model=Latest)
    last = last_attempt(path, service.manager.locker.show(path))
    assert last is not None
    assert alert.key == last.key == service.attempts[0].key


def test_mail_of_a_failure_offers_to_run_it_again(service: Service) -> None:
    """
    And says that the key stays; no question is open, and its lease is over.
    """
    service.act = lambda task, attempt: Fail("declined")
    service.create("a", note=SECRET)
    service.cloud.run_until_idle()
    [alert] = service.cloud.alerts.sent
    assert [pasted(line)[0] for line in alert.commands] == ["show", "reset", "resolve", "dismiss"]
    assert "the same idempotency key" in alert.effects[1]
    assert (alert.question, alert.lease_ends, alert.key) == ("", None, service.attempts[0].key)
    assert SECRET not in body_of(alert)
    assert main(pasted(alert.commands[3])) == 0
    assert main(pasted(alert.commands[1])) == 3


def test_mail_of_a_takeover_can_stop_a_later_attempt(oncetask_cloud: OncetaskCloud, service: Service) -> None:
    """
    The record goes on by itself: the command counts for all attempts of the sequence.
    """
    service.handle(Other)
    service.act = die
    service.create("a", model=Other)
    oncetask_cloud.run_until_idle()
    oncetask_cloud.advance(minutes=13)
    oncetask_cloud.sweep()
    oncetask_cloud.advance(minutes=5)
    [alert] = [each for each in oncetask_cloud.alerts.sent if each.event is Event.TAKEOVER][:1]
    assert [pasted(line)[0] for line in alert.commands] == ["show", "cancel"]
    before = service.manager.locker.show(alert.document)
    assert (before.status, before.attempts) == (Status.LEASED, 2)
    assert main(pasted(alert.commands[1])) == 0
    assert service.manager.locker.show(alert.document).cancel_requested_at is not None
