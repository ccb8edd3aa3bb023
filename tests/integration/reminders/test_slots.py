"""
Reminders: one mail for all records that still need a person, however many sweeps there are.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import grpc
import pytest

from gcp_emulator.mail import MailSink
from gcp_emulator.testing import InProcessCloud
from gcp_oncetask import Config, Fail, Locker, sweep
from gcp_oncetask.cli import main
from gcp_oncetask.entities.acted import Acting
from gcp_oncetask.observe.alerts import Alert, body_of, subject_of
from gcp_oncetask.recovery import sweep as sweeping
from gcp_oncetask.reminders import slots, unattended
from gcp_oncetask.rules.document_paths import reminder_path
from gcp_oncetask.rules.record import Person
from gcp_oncetask.services.channels import channel_from
from gcp_oncetask.store import registry
from gcp_oncetask.store.indexes import definition, to_text
from gcp_oncetask.testing.cloud import OncetaskCloud, TestClock
from gcp_oncetask.testing.costs import Cost
from tests.support.orders import Killed
from tests.support.tasks import Other, Service, Work

ANN = Acting(Person("ann@example.com", proven=True))
SECRET = "4111-1111-1111-1111"
QUARTER = timedelta(minutes=15)
DAY = datetime.fromisoformat("2026-01-01T00:00:00+00:00")


@pytest.fixture(autouse=True)
def own_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Sweeps ask for the library's own collections: other tests of this process have models of their own.
    """
    monkeypatch.setattr(registry, "DECLARED", {})


@pytest.fixture
def service(oncetask_cloud: OncetaskCloud) -> Service:
    """
    Tasks that fail, and others of which nothing is known when their holder dies.
    """
    service = Service(oncetask_cloud).handle().handle(Other, on_unknown="quarantine")
    service.act = lambda task, attempt: Fail(f"declined {SECRET}")
    return service


def at(service: Service, clock: str, day: int = 0) -> None:
    """
    Let time pass until so many hours and minutes of a day.
    """
    hours, minutes = map(int, clock.split(":"))
    left = DAY + timedelta(days=day, hours=hours, minutes=minutes) - service.cloud.clock_now()
    service.cloud.clock.advance(left.total_seconds())


def fail(service: Service, *names: str, model: type[Work] = Work) -> None:
    """
    Let tasks fail now.
    """
    service.create(*names, model=model, note=SECRET)
    service.cloud.run_until_idle()


def process(service: Service, **settings: Any) -> Locker:
    """
    Another process that sweeps.
    """
    made = Locker(config=Config(**settings))
    service.cloud.use(made)
    return made


def sweeps(service: Service, until: str, day: int = 0, *, by: tuple[Locker, ...] = ()) -> list[str]:
    """
    Sweep each quarter of an hour and five seconds, by each process; returns the times of the mails.
    """
    cloud, told = service.cloud, list[str]()
    hours, minutes = map(int, until.split(":"))
    end = DAY + timedelta(days=day, hours=hours, minutes=minutes)
    while (next_ := (cloud.clock_now() - DAY) // QUARTER * QUARTER + DAY + QUARTER) <= end:
        cloud.clock.advance((next_ - cloud.clock_now()).total_seconds() + 5)
        for locker in by or (service.manager.locker,):
            swept = sweep(locker)
            assert swept.failed == 0
            told += [f"{cloud.clock_now():%d %H:%M}"] * swept.reminded
    return told


def names(alert: Alert) -> list[str]:
    """
    The ids of the tasks that a mail names.
    """
    return [path.rpartition(":")[2] for path in alert.documents]


# --- the times --------------------------------------------------------------------------------------------------------


def test_op_36_mails_come_after_an_hour_six_a_day_and_daily(service: Service) -> None:
    """
    Attention since 03:00 of one and 03:10 of another: one mail each for both, oldest first, by three sweepers; each with a
    Message-ID of its own.
    """
    at(service, "03:00")
    fail(service, "zeta")
    at(service, "03:10")
    fail(service, "alpha", model=Other)
    others = (service.manager.locker, process(service), process(service))
    told = sweeps(service, "12:00", day=3, by=others)
    mails = service.cloud.alerts.reminders

    # The newer one has crossed its hour ten minutes later; that mail's slot is over then.
    assert told == ["01 04:00", "01 05:00", "01 09:00", "01 10:00", "02 03:00", "02 04:00", "03 04:00", "04 04:00"]
    assert [names(mail) for mail in mails] == [["zeta", "alpha"]] * 8
    assert len({mail.id for mail in mails}) == 8
    assert [mail.count for mail in mails] == [2] * 8
    assert [mail.event for mail in service.cloud.alerts.sent] == ["failure", "failure"]


def test_op_36_one_record_is_told_of_at_its_times(service: Service) -> None:
    at(service, "03:00")
    fail(service, "a")
    told = sweeps(service, "12:00", day=3)
    assert told == ["01 04:00", "01 09:00", "02 03:00", "03 03:00", "04 03:00"]


def test_op_36_sweeps_at_the_same_moment_send_one_mail(service: Service) -> None:
    """
    Three processes, each on a thread of its own.
    """
    fail(service, "a")
    for hour in ("01:01", "06:01", "24:01"):
        at(service, hour)
        made = [process(service) for _ in range(3)]
        with ThreadPoolExecutor(3) as pool:
            assert sum(swept.reminded for swept in pool.map(sweep, made)) == 1
    assert len({mail.id for mail in service.cloud.alerts.reminders}) == len(service.cloud.alerts.reminders) == 3


@pytest.mark.parametrize("write", [1, 2])
def test_mail_is_sent_once_where_another_sweep_comes_between(
    service: Service, monkeypatch: pytest.MonkeyPatch, write: int
) -> None:
    """
    Before the claim, and before it is recorded that the mail was sent.
    """
    fail(service, "a")
    at(service, "01:01")
    one, two = process(service), process(service)
    store, writes = one._runtime.store, list[int]()
    put = store.put_fields

    def between(*given: Any) -> Any:
        writes.append(1)
        if len(writes) == write:
            sweep(two)
        return put(*given)

    monkeypatch.setattr(store, "put_fields", between)
    sweep(one)
    assert len(writes) == write
    sweep(two)
    sweep(one)
    assert len(service.cloud.alerts.reminders) == 1


def test_op_37_no_mail_of_a_record_that_was_resolved_before(service: Service) -> None:
    at(service, "03:00")
    fail(service, "a")
    assert sweeps(service, "03:45") == []
    at(service, "03:59")
    service.manager.locker.dismiss_path(service.path("a"), acting=ANN)
    assert sweeps(service, "12:00", day=2) == []
    assert service.cloud.alerts.reminders == []


def test_op_37_mail_that_failed_is_not_sent_when_no_record_needs_a_person(service: Service) -> None:
    fail(service, "a")
    service.cloud.alerts.down = True
    at(service, "01:01")
    assert service.cloud.sweep().reminded == 0
    service.manager.locker.dismiss_path(service.path("a"), acting=ANN)
    service.cloud.alerts.down = False
    assert sweeps(service, "12:00", day=1) == []
    fail(service, "b")
    assert sweeps(service, "14:00", day=1) == ["02 13:15"]


def test_op_39_promised_record_is_left_out_until_its_time(service: Service) -> None:
    """
    The list shows whose it is; the mail says only how many are left out. Then it is told of again.
    """
    at(service, "03:00")
    fail(service, "a", "b")
    at(service, "03:30")
    service.manager.locker.acknowledge_path(service.path("a"), timedelta(hours=4), acting=ANN)
    assert sweeps(service, "07:15") == ["01 04:00"]
    [first] = service.cloud.alerts.reminders
    assert names(first) == ["b"]
    assert first.reason.endswith("Left out, because a person has promised to attend to them: 1.")
    rows = {row.id: row.acknowledged_by for row in service.manager.find().items}
    assert rows == {"a": "ann@example.com", "b": None}
    assert sweeps(service, "08:00") == ["01 07:30"]
    assert names(service.cloud.alerts.reminders[-1]) == ["a", "b"]


def test_op_39_promise_about_the_only_record_silences_all(service: Service) -> None:
    fail(service, "a")
    service.manager.locker.acknowledge_path(service.path("a"), timedelta(days=2), acting=ANN)
    assert sweeps(service, "23:45", day=1) == []
    assert sweeps(service, "01:00", day=2) == ["03 00:00"]


# --- the mail ---------------------------------------------------------------------------------------------------------


def copies(service: Service, count: int) -> None:
    """
    Write so many records like that of ``a``, a millisecond after each other.
    """
    client = service.manager.locker.client
    stored = client.document(service.path("a")).get().to_dict()
    assert stored is not None
    since = datetime.fromisoformat(stored["lock"]["attention"].rpartition("/")[2])
    for start in range(0, count, 500):
        batch = client.batch()
        for number in range(start, min(count, start + 500)):
            then = since + timedelta(milliseconds=number + 1)
            text = f"DEFAULT/failed/{number % 3:03d}/{then:%Y-%m-%dT%H:%M:%S.%fZ}"
            kind = "other" if number % 5 == 0 else "work"
            lock = {**stored["lock"], "attention": text}
            document = client.document(f"onceTasks/{number % 256:02x}:DEFAULT:{kind}:{number:06d}")
            batch.set(document, {**stored, "kind": kind, "id": f"{number:06d}", "lock": lock})
        batch.commit()


def test_op_38_flood_is_one_mail_with_counts(service: Service) -> None:
    """
    1,500 records, which are two pages of a search: their numbers by kind and reason, the oldest 20, and the list command.
    """
    fail(service, "a")
    copies(service, 1500)
    at(service, "01:10")
    assert service.cloud.sweep().reminded == 1
    [mail] = service.cloud.alerts.reminders
    assert mail.count == 1501
    assert mail.totals == ("other: 300 failed", "work: 1,201 failed")
    assert names(mail) == ["a", *(f"{number:06d}" for number in range(19))]
    text = body_of(mail)
    assert "1,501 records need a person, the oldest since 2026-01-01T00:00:00." in text
    assert len([line for line in text.splitlines() if line.startswith("  2026-01-01 00:00:0")]) == 20
    assert [line.split(" -m gcp_oncetask ")[1].split()[0] for line in mail.commands] == ["list", "show", "ack"]
    assert service.cloud.sweep().reminded == 0


def test_op_38_mail_counts_to_its_bound(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Beyond it, the mail says that there are more; it is due by the oldest.
    """
    monkeypatch.setattr(slots, "MOST", 10)
    monkeypatch.setattr(slots, "COUNTED", 50)
    fail(service, "a")
    copies(service, 60)
    at(service, "01:01")
    assert service.cloud.sweep().reminded == 1
    [mail] = service.cloud.alerts.reminders
    assert (mail.count, len(mail.documents)) == (50, 20)
    assert mail.reason.startswith("50 or more records need a person")


@pytest.fixture
def sink(service: Service) -> Iterator[MailSink]:
    """
    A real mail server.
    """
    made = MailSink()
    made.start()
    settings = Config(alert_to=("ann@example.com",), alert_from="a@example.com", smtp_url=made.url)
    service.manager.locker._runtime.alerts = channel_from(settings)
    yield made
    made.stop()


def test_mail_is_read_as_text_and_its_commands_work(
    service: Service, sink: MailSink, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    Of a failed and a quarantined record, over SMTP. No payload and no error of a handler is in it. Its ``ack`` silences it.
    """

    def die(task: Any, attempt: Any) -> None:
        raise Killed

    fail(service, "broken")
    service.act = die
    service.create("doubt", model=Other, note=SECRET)
    service.cloud.run_until_idle()
    service.cloud.advance(minutes=13)
    service.cloud.sweep()
    del sink.messages[:]
    at(service, "01:01")
    before = len(sink.messages)
    assert service.cloud.sweep().reminded == 1
    mail = sink.messages[before].message
    text = mail.get_content().replace("\r\n", "\n")
    assert mail["Subject"] == "[oncetask] reminder: 2 records need a person in DEFAULT"
    assert text.startswith("2 records need a person, the oldest since 2026-01-01T00:00:00.")
    assert "By kind and reason:\n  other: 1 quarantined\n  work: 1 failed\n" in text
    assert re.search(r"2026-01-01 00:00:00\+00:00  failed, step 1: onceTasks/..:DEFAULT:work:broken\n", text)
    assert re.search(r"2026-01-01 00:13:00\+00:00  quarantined, step 1: onceTasks/..:DEFAULT:other:doubt\n", text)
    assert SECRET not in text

    service.have_commands(monkeypatch)
    lines = [shlex.split(line) for line in text.splitlines() if " python -m gcp_oncetask " in line]
    listed, shown, ack = (words[words.index("gcp_oncetask") + 1 :] for words in lines)
    capsys.readouterr()
    assert main(listed) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert main(shown) == 0
    assert main(ack) == 0
    assert main(ack) == 3
    at(service, "06:01")
    assert service.cloud.sweep().reminded == 1
    assert "1 record needs a person" not in sink.messages[-1].message.get_content()


def test_subject_of_one_record(service: Service) -> None:
    fail(service, "a")
    at(service, "01:01")
    service.cloud.sweep()
    [mail] = service.cloud.alerts.reminders
    assert subject_of(mail, "") == "reminder: 1 record needs a person in DEFAULT"
    assert body_of(mail).startswith("1 record needs a person, the oldest since")
    assert mail.document == service.path("a")


def test_kinds_whose_alerts_are_switched_off_are_not_told_of(oncetask_cloud: OncetaskCloud) -> None:
    service = Service(oncetask_cloud).handle(alert_on=()).handle(Other)
    service.act = lambda task, attempt: Fail("no")
    fail(service, "quiet")
    at(service, "00:30")
    fail(service, "loud", model=Other)
    assert sweeps(service, "03:00") == ["01 01:30"]
    assert names(oncetask_cloud.alerts.reminders[0]) == ["loud"]


def test_damaged_records_are_told_of(service: Service) -> None:
    fail(service, "a")
    service.manager.locker.client.document(service.path("a")).update({"lock.status": "nonsense"})
    at(service, "01:01")
    assert service.cloud.sweep().reminded == 1
    [mail] = service.cloud.alerts.reminders
    assert mail.totals == ("work: 1 damaged",)
    assert "--if-version" not in mail.commands[-1]


# --- failures ---------------------------------------------------------------------------------------------------------


def test_mail_that_fails_is_sent_later_under_its_id(service: Service) -> None:
    """
    The mail server is down for three hours: the mail of the first slot comes then, and the next one at its time.
    """
    fail(service, "a")
    service.cloud.alerts.down = True
    tried = list[Alert]()
    send = service.cloud.alerts.send

    def noted(alert: Alert) -> None:
        tried.append(alert)
        send(alert)

    service.cloud.alerts.send = noted  # type: ignore[method-assign]
    assert sweeps(service, "04:00") == []
    service.cloud.alerts.down = False
    assert sweeps(service, "04:15") == ["01 04:15"]
    assert len(tried) > 3
    assert len({(mail.id, mail.at) for mail in tried}) == 1
    assert sweeps(service, "07:00") == ["01 06:00"]


def test_sender_that_dies_is_followed_by_another_after_its_time(service: Service) -> None:
    """
    It has claimed the slot, and perhaps sent the mail: the next one has the same Message-ID.
    """
    fail(service, "a")
    at(service, "01:01")
    send = service.cloud.alerts.send

    def die(alert: Alert) -> None:
        send(alert)
        raise Killed

    service.cloud.alerts.send = die  # type: ignore[method-assign]
    with pytest.raises(Killed):
        service.cloud.sweep()
    service.cloud.alerts.send = send  # type: ignore[method-assign]
    heir = process(service)
    assert sweep(heir).reminded == 0
    service.cloud.clock.advance(heir.config.alert_retry)
    assert sweep(heir).reminded == 1
    one, two = service.cloud.alerts.reminders
    assert (one.id, one.at) == (two.id, two.at)


def test_failure_to_look_is_logged_and_holds_up_no_sweep(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """
    It is tried again ten minutes later, and not by each sweep.
    """
    fail(service, "a")
    at(service, "01:01")
    service.cloud.faults.fail("BatchGetDocuments", times=None, code=grpc.StatusCode.PERMISSION_DENIED)
    for _ in range(3):
        assert service.cloud.sweep().reminded == 0
    service.cloud.faults.clear()
    said = [line for line in caplog.messages if "whether a reminder is due is not known" in line]
    assert len(said) == 1
    assert service.cloud.sweep().reminded == 0
    service.cloud.clock.advance(600)
    assert service.cloud.sweep().reminded == 1


def test_missing_index_is_told_with_its_line(caplog: pytest.LogCaptureFixture) -> None:
    """
    The sweep itself is not affected.
    """
    data = definition([])
    for each in data["fieldOverrides"]:
        if each["fieldPath"] == "lock.attention":
            each["indexes"] = []
    cloud = InProcessCloud(indexes=to_text(data))
    config = Config(project=cloud.project, location="us-central1", verify="off")
    locker = Locker(cloud.firestore_client(), config=config, tasks=cloud.tasks_client(), clock=TestClock(cloud.clock))
    assert (sweep(locker).reminded, sweep(locker).reminded) == (0, 0)
    [said] = [line for line in caplog.messages if "whether a reminder is due is not known" in line]
    assert '"fieldPath": "lock.attention"' in said
    assert "firebase deploy --only firestore:indexes" in said
    cloud.close()


def test_document_that_a_person_has_written_is_made_anew(service: Service) -> None:
    document = service.manager.locker.client.document(reminder_path("DEFAULT"))
    fail(service, "a")
    document.set({"lookAt": "never", "slot": 7, "told": False})
    at(service, "01:01")
    assert service.cloud.sweep().reminded == 1
    stored = document.get().to_dict()
    assert stored is not None
    assert (stored["told"], stored["slot"]) == (True, DAY + timedelta(hours=1))


# --- the price --------------------------------------------------------------------------------------------------------


def price(service: Service, locker: Locker, sweep_: Callable[[Any], Any] = sweep) -> Cost:
    """
    The price of a sweep.
    """
    before = service.cloud.cost
    sweep_(locker)
    return service.cloud.cost - before


def recovery(locker: Locker) -> Any:
    """
    A sweep that reminds of nothing.
    """
    return sweeping.sweep(locker._runtime)


def test_price_of_a_sweep_where_no_record_needs_a_person(service: Service) -> None:
    """
    Nothing in the process that looked last; one read in another one. Once an hour: that read, the registry, one query for each
    collection, and a write.
    """
    service.act = lambda task, attempt: None
    fail(service, "a")
    mine = service.manager.locker
    mine._runtime.registry.register("orders")
    bare = price(service, mine, recovery)
    assert (bare.reads, bare.writes) == (5, 0)
    for hour in ("00:00", "01:00", "02:00"):
        if hour != "00:00":
            at(service, hour)
        looked = price(service, mine)
        # The document, the registry, and the collections of once-tasks and of orders.
        assert (looked.reads - bare.reads, looked.writes) == (1 + 1 + 2, 1)
        assert price(service, mine).calls == bare.calls
        assert price(service, mine).reads == bare.reads
        other = process(service)
        first = price(service, other, recovery)
        known = price(service, other)
        assert (known.reads - first.reads, known.writes) == (1, 0)
        assert price(service, other).reads == bare.reads


def test_price_of_dismissed_records_is_one_more_query(service: Service) -> None:
    """
    They are not read, however many there are.
    """
    fail(service, *(f"{number}" for number in range(30)))
    for number in range(30):
        service.manager.locker.dismiss_path(service.path(f"{number}"), acting=ANN)
    mine = service.manager.locker
    bare = price(service, mine, recovery)
    looked = price(service, mine)
    # The document, the registry, the first dismissed one, and none behind those.
    assert (looked.reads - bare.reads, looked.writes) == (1 + 1 + 1 + 1, 1)
    assert not unattended.in_need(mine._runtime, 10).rows


def test_sweep_of_chosen_collections_reminds_of_nothing(service: Service) -> None:
    """
    It leaves the documents of the library alone.
    """
    fail(service, "a")
    at(service, "01:01")
    assert sweep(service.manager.locker, collections=("onceTasks",)).reminded == 0
    assert not service.manager.locker.client.document(reminder_path("DEFAULT")).get().exists
    assert "1 reminded" in str(sweep(service.manager.locker))
