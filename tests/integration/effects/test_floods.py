"""
Many alerts for one reason: the first leaves at once, the others are one mail.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from gcp_emulator.mail import MailSink
from gcp_oncetask import Fail, Status, sweep
from gcp_oncetask.config import Config
from gcp_oncetask.effects import windows
from gcp_oncetask.observe.alerts import subject_of
from gcp_oncetask.recovery import digests
from gcp_oncetask.rules.document_paths import is_digest
from gcp_oncetask.services.channels import channel_from
from gcp_oncetask.store import registry
from gcp_oncetask.tasks import TaskData
from gcp_oncetask.testing.cloud import OncetaskCloud
from gcp_oncetask.worker import Worker
from tests.support.orders import Killed
from tests.support.released import released
from tests.support.tasks import Other, Service, Work
from tests.support.told import Told

WINDOW = 10


class Pulled(TaskData, kind="flood-pulled", pull=True):
    name: str

    def task_id(self) -> str:
        return self.name


@pytest.fixture(autouse=True)
def own_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Sweeps ask for the library's own collections: other tests of this process have models of their own.
    """
    monkeypatch.setattr(registry, "DECLARED", {})


def decline(task: Any, attempt: Any) -> None:
    raise Fail(f"card {task.id} was declined by '{task.data.note}' at 12:03")


def failing(cloud: OncetaskCloud, **config: Any) -> Service:
    """
    A service whose tasks fail, all for one reason.
    """
    service = Service(cloud, **config).handle(Work).handle(Other)
    service.act = decline
    return service


@pytest.fixture
def service(oncetask_cloud: OncetaskCloud) -> Service:
    return failing(oncetask_cloud)


def fail(service: Service, count: int, prefix: str = "order", model: type[Work] = Work) -> None:
    """
    Let *count* tasks fail.
    """
    service.create(*(f"{prefix}{number}" for number in range(count)), model=model, note="bank")
    service.cloud.run_until_idle()


def after(cloud: OncetaskCloud, minutes: float = WINDOW + 1) -> int:
    """
    Sweep, so much later; returns how many mails that were.
    """
    cloud.advance(minutes=minutes)
    return cloud.sweep().alerted


def counts(cloud: OncetaskCloud) -> list[int]:
    """
    How many alerts each mail tells.
    """
    return [alert.count for alert in cloud.alerts.sent]


# --- one reason -------------------------------------------------------------------------------------------------------


def test_a_hundred_tasks_that_fail_for_one_reason_are_two_mails(service: Service) -> None:
    """
    Over a real mail server: the first at once, 99 at the window's end, by name, with commands that look at the first of them.
    """
    cloud, sink = service.cloud, MailSink()
    sink.start()
    try:
        settings = Config(alert_to=("ann@example.com",), alert_from="a@example.com", smtp_url=sink.url)
        service.manager.locker._runtime.alerts = channel_from(settings)
        fail(service, 100)
        assert len(sink.messages) == 1
        assert after(cloud, WINDOW / 2) == 0
        assert after(cloud) == 1
        assert after(cloud) == 0
        first, digest = sink.messages
    finally:
        sink.stop()
    assert first.message["Subject"].startswith("[oncetask] permanent failure in DEFAULT: onceTasks/")
    assert digest.message["Subject"] == "[oncetask] 99 x permanent failure in DEFAULT: work"
    assert first.message["Message-ID"] != digest.message["Message-ID"]
    text = digest.message.get_content()
    assert "Alerts:      99\r\n" in text or "Alerts:      99\n" in text
    named = [line for line in text.splitlines() if ", sequence 1: card " in line]
    looks = [line for line in text.splitlines() if "python -m gcp_oncetask show onceTasks/" in line]
    assert len(named) == len(looks) == 20
    for name in (f"order{number}" for number in range(100)):
        lock = service.lock(name)
        assert (lock.status, lock.owed, lock.due) == (Status.FAILED, (), None)


def test_what_it_costs(service: Service) -> None:
    """
    One commit for each that waits, two by the sweep, and a few for the digest; no read but that of the window.
    """
    firestore = service.cloud.local.firestore
    service.create("alone")
    service.cloud.run_until_idle()
    after(service.cloud)

    def cost(run: Callable[[], Any]) -> tuple[int, int]:
        firestore.reset_counts()
        run()
        return firestore.counts["Commit"], firestore.counts["BatchGetDocuments"] + firestore.counts["GetDocument"]

    few, _ = cost(lambda: fail(service, 10, "few"))
    many, read = cost(lambda: fail(service, 40, "many"))
    # Creation, claim, settling, and the word that it waits; the first one opens the window, takes itself, and is recorded.
    assert (few, many, read) == (4 * 10 + 2, 4 * 40, 0)
    service.cloud.advance(minutes=WINDOW + 1)
    commits, reads = cost(service.cloud.sweep)
    # The lock's acquire, refresh and release, the digest's document and its end.
    assert (commits, reads) == (2 * 49 + 5, 2)


def test_fifty_malformed_deliveries_are_two_mails(service: Service) -> None:
    """
    Nothing can owe them but the digest: the first leaves at once, the others are counted, in all processes.
    """
    cloud, other = service.cloud, failing(service.cloud)
    for number in range(50):
        answer = (service, other)[number % 2].post(b"{", **{"X-CloudTasks-TaskName": f"t{number}"})
        assert (answer.status_code, answer.json["outcome"]) == (200, "rejected")
    assert counts(cloud) == [1]
    assert after(cloud) == 1
    assert counts(cloud) == [1, 49]
    digest = cloud.alerts.sent[-1]
    assert digest.documents == tuple(f"deliveries/t{number}" for number in range(1, 21))
    assert after(cloud) == 0
    # The window is over: the next one leaves at once.
    service.post(b"{")
    assert counts(cloud) == [1, 49, 1]


def test_malformed_deliveries_at_the_same_time_are_all_counted(service: Service) -> None:
    """
    Of many threads of a process one writes, and takes along what the others bring.
    """
    service.post(b"{")
    assert set(service.post_all([b"{"] * 24, at_once=8)) == {"rejected"}
    assert after(service.cloud) == 1
    assert counts(service.cloud) == [1, 24]


def test_a_delivery_is_answered_once_its_alert_is_stored(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    One thread of a process adds an alert to a digest, and another thread has brought one more. If the writing thread is ended,
    the other one sends its alert itself, and answers only then.
    """
    gathering = service.manager._executor.runtime.gathering
    begun, brought = threading.Event(), threading.Event()
    bring = gathering.bring

    def noted(*args: Any) -> Any:
        entry = bring(*args)
        if not entry.first:
            brought.set()
        return entry

    def ends(*args: Any) -> bool:
        begun.set()
        assert brought.wait(30)
        raise Killed

    service.post(b"{")
    with monkeypatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setattr(windows, "_added", ends)
        patch.setattr(gathering, "bring", noted)
        first = pool.submit(service.post, b"{")
        assert begun.wait(30)
        second = pool.submit(service.post, b"{")
        assert second.result(30).json["outcome"] == "rejected"
        assert first.result(30).status_code != 200
    assert counts(service.cloud) == [1, 1]


def test_many_damaged_records_are_two_mails(oncetask_cloud: OncetaskCloud) -> None:
    service = Service(oncetask_cloud).handle()
    service.create(*(f"t{number}" for number in range(25)), note="x")
    for number in range(25):
        service.manager.locker.client.document(service.path(f"t{number}")).update({"lock.attempts": f"no {number}"})
    oncetask_cloud.run_until_idle()
    after(oncetask_cloud)
    for _ in range(3):
        after(oncetask_cloud, 61)
    assert counts(oncetask_cloud) == [1, 24]
    assert subject_of(oncetask_cloud.alerts.sent[1], "[x]") == "[x] 24 x damaged record in DEFAULT: work"


def test_an_instance_that_dies_with_many_tasks_is_two_mails(oncetask_cloud: OncetaskCloud) -> None:
    """
    The takeovers are told by deliveries, sweeps, or both.
    """
    service = Service(oncetask_cloud).handle()
    service.act = lambda task, attempt: (_ for _ in ()).throw(Killed) if attempt.number == 1 else None
    service.create(*(f"t{number}" for number in range(25)))
    for _ in range(30):
        after(oncetask_cloud, 1)
    assert counts(oncetask_cloud) == [1, 24]
    assert {alert.event for alert in oncetask_cloud.alerts.sent} == {"takeover"}


def test_tasks_of_workers_are_told_together_too(oncetask_cloud: OncetaskCloud) -> None:
    """
    No sweep comes to what workers look after: who finds one whose window is over looks for the others.
    """
    service = Service(oncetask_cloud).handle(Pulled)
    service.act = lambda task, attempt: (_ for _ in ()).throw(Fail("no"))
    oncetask_cloud.work(Worker(service.manager, concurrency=4, listen=False))
    for number in range(30):
        service.manager.create_task(Pulled(name=f"t{number}"))
    oncetask_cloud.run_until_idle()
    assert counts(oncetask_cloud) == [1]
    oncetask_cloud.advance(minutes=WINDOW + 1)
    assert counts(oncetask_cloud) == [1, 29]
    assert all(service.lock(f"t{number}", Pulled).due is None for number in range(30))


# --- several reasons --------------------------------------------------------------------------------------------------


def test_different_reasons_and_kinds_leave_at_once(service: Service) -> None:
    """
    Each event, kind and reason has a first; two kinds that come in turns are two digests.
    """
    cloud = service.cloud
    for model in (Work, Other):
        for word in ("declined", "lost", "stolen"):
            service.act = lambda task, attempt, word=word: (_ for _ in ()).throw(Fail(f"card {word}"))
            fail(service, 3, f"{word}-", model)
    assert counts(cloud) == [1] * 6
    assert after(cloud) == 6
    assert (
        sorted((alert.kind, alert.count) for alert in cloud.alerts.sent[6:]) == [("other", 2)] * 3 + [("work", 2)] * 3
    )


def test_environments_do_not_meet(oncetask_cloud: OncetaskCloud) -> None:
    one, two = failing(oncetask_cloud), failing(oncetask_cloud, url="https://two.test", env="TWO")
    for service in (one, two):
        fail(service, 5)
    assert counts(oncetask_cloud) == [1, 1]
    oncetask_cloud.advance(minutes=WINDOW + 1)
    assert [sweep(service.manager.locker).alerted for service in (two, one)] == [1, 1]
    assert [(alert.env, alert.count) for alert in oncetask_cloud.alerts.sent[2:]] == [("TWO", 4), ("DEFAULT", 4)]


def test_reasons_without_end_are_a_bounded_number_of_mails(service: Service) -> None:
    """
    A text that is another one each time, and that nothing can be left out of.
    """
    cloud = service.cloud
    service.act = lambda task, attempt: (_ for _ in ()).throw(Fail(f"no {task.data.note}"))
    words = [f"{chr(97 + number // 26)}{chr(97 + number % 26)}" for number in range(100)]
    for word in words:
        service.create(f"order-{word}", note=word)
    cloud.run_until_idle()
    assert counts(cloud) == [1] * 21
    assert after(cloud) == 1
    assert counts(cloud) == [1] * 21 + [79]


def test_a_flood_for_hours_is_two_mails_a_window(service: Service) -> None:
    cloud = service.cloud
    for number in range(12):
        fail(service, 8, f"hour{number}-")
        after(cloud, 5)
    after(cloud)
    assert sum(counts(cloud)) == 12 * 8
    assert len(counts(cloud)) <= 2 * 7


def test_more_than_a_digest_holds_are_several(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "MOST", 10)
    fail(service, 26)
    after(service.cloud)
    assert counts(service.cloud) == [1, 10, 10, 5]


def test_one_that_waits_alone_is_an_ordinary_mail(service: Service) -> None:
    fail(service, 2)
    after(service.cloud)
    first, second = service.cloud.alerts.sent
    assert second.documents == ()
    assert {first.document, second.document} == {service.path("order0"), service.path("order1")}
    assert any("reset" in command for command in second.commands)


def test_without_a_window_each_is_a_mail(oncetask_cloud: OncetaskCloud) -> None:
    service = failing(oncetask_cloud, alert_window=0.0)
    fail(service, 7)
    service.post(b"{")
    service.post(b"{")
    assert counts(oncetask_cloud) == [1] * 9
    assert not [path for path in stored(oncetask_cloud) if ":windows:" in path or is_digest(path)]


def stored(cloud: OncetaskCloud) -> dict[str, Any]:
    return dict(cloud.local.firestore.documents(cloud.local.project))


# --- failures ---------------------------------------------------------------------------------------------------------


def test_while_the_mail_server_is_down_nothing_is_lost_and_little_is_written(service: Service) -> None:
    """
    The first one is tried as ever; the digest is tried again as it is, less and less often, and its entries wait for it.
    """
    cloud = service.cloud
    told = Told(cloud, service.manager.locker._runtime)
    cloud.alerts.down = True
    fail(service, 30)
    owed = set(told.owed())
    after(cloud)
    writes = cloud.local.firestore.writes
    for _ in range(120):
        after(cloud, 1)
    assert cloud.local.firestore.writes - writes < 30 * 12
    cloud.alerts.down = False
    for _ in range(70):
        after(cloud, 1)
    told.check(owed)
    assert sorted(counts(cloud)) == [1, 29]
    assert told.owed() == {}


def test_one_process_makes_the_digests_of_an_environment_at_a_time(service: Service) -> None:
    """
    Who finds another one at it goes on without; once that one has died, its lock runs out.
    """
    cloud, locker = service.cloud, service.manager.locker
    fail(service, 10)
    lock = locker.lock(digests.LOCK, ttl=120)
    cloud.advance(minutes=WINDOW + 1)
    assert lock.acquire()
    swept = cloud.sweep()
    assert (swept.looked, swept.alerted, swept.failed, counts(cloud)) == (9, 0, 0, [1])
    assert after(cloud, 3) == 1
    assert counts(cloud) == [1, 9]


def test_a_sender_that_is_late_sends_nothing(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    While it lends, it is held up for longer than it is trusted; another one has made that very digest meanwhile.
    """
    cloud = service.cloud
    told = Told(cloud, service.manager.locker._runtime)
    fail(service, 10)
    owed = set(told.owed())
    owe, late = windows.owe, [True]

    def slow(*args: Any) -> Any:
        if late.pop() if late else False:
            cloud.clock.advance(600)
            cloud.sweep()
        return owe(*args)

    monkeypatch.setattr(windows, "owe", slow)
    after(cloud)
    for _ in range(5):
        after(cloud, 5)
    assert counts(cloud) == [1, 9]
    assert {entry for said in told.mails.values() for entry in said[0][1]} >= owed


def test_windows_that_cannot_be_asked_hold_nothing_back(service: Service) -> None:
    """
    Better a mail too much than none.
    """
    cloud, runtime = service.cloud, service.manager.locker._runtime
    put = runtime.store.put_fields
    runtime.store.put_fields = lambda *args: (_ for _ in ()).throw(windows.OncetaskError("no"))  # type: ignore[assignment]
    fail(service, 3)
    service.post(b"{")
    assert counts(cloud) == [1] * 4
    runtime.store.put_fields = put  # type: ignore[method-assign]
    assert all(service.lock(f"order{number}").owed == () for number in range(3))


def test_windows_that_somebody_has_written_by_hand_are_none(service: Service) -> None:
    cloud = service.cloud
    fail(service, 1)
    [path] = [path for path in stored(cloud) if ":windows:" in path]
    document = service.manager.locker.client.document(path)
    for number, odd in enumerate(({"x": 1}, {"x": {"until": "soon"}}, {"x": {}}, "x")):
        document.update({"windows": odd})
        other = failing(cloud)
        fail(other, 1, f"odd{number}-")
    assert counts(cloud) == [1] * 5


class Deadly:
    """
    Lets the process die at its Nth remote call or mail, before or after that has taken effect.

    Attributes:
        struck: At what it died.
        dead: It makes no call any more.
    """

    def __init__(self, service: Service, told: Told, number: int, when: str) -> None:
        self.left, self.when, self.struck, self.dead = number, when, "", False
        wire = service.manager.locker._runtime.wire
        real = wire._unary

        def call(method: Any, calls: Any, request: Any, *args: Any) -> Any:
            name = type(request).__name__
            self._strike("before", name)
            answer = real(method, calls, request, *args)
            told.ever |= set(told.owed())
            self._strike("after", name)
            return answer

        wire._unary = call  # type: ignore[method-assign]
        told.dies = lambda when: self._strike(when, "mail")

    def _strike(self, when: str, name: str) -> None:
        if self.dead:
            raise Killed
        if when == self.when:
            self.left -= 1
            if self.left == 0:
                self.struck, self.dead = name, True
                raise Killed


def each_death(when: str, dying: Callable[[Service, Told, Deadly], None]) -> set[str]:
    """
    Play *dying* with a death at the Nth call or mail, for each N, and what follows; returns at what it died.
    """
    struck: set[str] = set()
    for number in range(1, 60):
        cloud = OncetaskCloud()
        try:
            service = failing(cloud)
            told = Told(cloud, service.manager.locker._runtime)
            deadly = Deadly(service, told, 0, when)
            dying(service, told, deadly)
            deadly.left = number
            with suppress(Killed):
                (cloud.sweep if told.owed() else cloud.run_until_idle)()
            deadly.dead, deadly.left = False, 0
            for _ in range(9):
                cloud.run_until_idle()
                after(cloud, 3)
            assert all(lock.due is None for _, lock in told.locks()), deadly.struck
            told.check(told.ever)
            assert len({path for path, _ in told.ever}) == 4
        finally:
            cloud.stop()
        if not deadly.struck:
            return struck
        struck.add(deadly.struck)
    raise AssertionError("it never finished unhurt")


@pytest.mark.parametrize("when", ["before", "after"])
def test_wherever_a_sweep_dies_each_alert_is_told_under_one_id(when: str) -> None:
    """
    For the Nth call or mail of a sweep that makes a digest, for each N: what was lent is told by the digest whose id it bears,
    what was not by another one; a mail that is sent again says the same.
    """

    def dying(service: Service, told: Told, deadly: Deadly) -> None:
        fail(service, 4)
        service.cloud.advance(minutes=WINDOW + 1)

    assert {"mail", "CommitRequest"} <= each_death(when, dying)


@pytest.mark.parametrize("when", ["before", "after"])
def test_wherever_the_process_dies_that_decides_an_alert_it_is_told_under_one_id(when: str) -> None:
    """
    Before and after the window is opened, the first alert taken and sent and recorded, the others put off.
    """

    def dying(service: Service, told: Told, deadly: Deadly) -> None:
        service.create("order0", "order1", "order2", "order3", note="bank")

    assert {"mail", "CommitRequest"} <= each_death(when, dying)


# --- older releases ---------------------------------------------------------------------------------------------------


def test_an_older_release_sends_what_waits_as_mails_of_their_own(service: Service) -> None:
    cloud = service.cloud
    told = Told(cloud, service.manager.locker._runtime)
    fail(service, 6)
    owed = set(told.owed())
    [[(_, first)]] = told.mails.values()
    cloud.advance(minutes=WINDOW + 1)
    with released():
        cloud.sweep()
    told.check(owed | first)
    assert counts(cloud) == [1] * 6
    assert told.owed() == {}


def test_an_older_release_sends_a_digest_as_an_ordinary_alert(service: Service) -> None:
    """
    Under the same Message-ID, and it says how many there are. The entries are taken out by the new release.
    """
    cloud = service.cloud
    fail(service, 6)
    cloud.alerts.down = True
    after(cloud)
    cloud.alerts.down = False
    [digest] = [path for path in stored(cloud) if is_digest(path)]
    lock = service.manager.locker.show(digest)
    cloud.advance(minutes=3)
    with released():
        sweep(service.manager.locker, collections=("onceLocks",))
    [_, alert] = cloud.alerts.sent
    assert alert.reason == lock.owed[0].reason
    assert "5 alert(s)" in alert.reason
    for _ in range(3):
        after(cloud, 5)
    assert len(cloud.alerts.sent) == 2
    assert all(service.lock(f"order{number}").due is None for number in range(6))
