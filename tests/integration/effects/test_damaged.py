"""
Stored records that were changed by hand, in every status: nobody who meets one is upset, a person is told once, its neighbours
go on, and once it is repaired, by hand or by ``reset``, it runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.cloud.firestore import DELETE_FIELD

from gcp_oncetask import (
    AlreadyScheduledError,
    Attempt,
    Config,
    DamagedError,
    Fail,
    Status,
    TaskConflictError,
    UsageError,
)
from gcp_oncetask.cli import main
from gcp_oncetask.execution import takeover
from gcp_oncetask.observe.alerts import body_of, subject_of
from gcp_oncetask.rules.delivery import idempotency_key
from gcp_oncetask.rules.document_paths import key_path
from gcp_oncetask.rules.timestamps import instant
from gcp_oncetask.store.forms import is_due
from gcp_oncetask.testing.cloud import OncetaskCloud
from gcp_oncetask.worker import Worker
from tests.support.damages import ANY, DAMAGES, NO_MAPS, Damage, bring, damage, repair
from tests.support.orders import URL, Order, Shop, make_shop
from tests.support.tasks import Fleeting, Pull, Repeat, Service, Work

OPEN = ("scheduled", "leased")
"""The statuses of which a delivery may be in the queue."""
BY_HAND = ("url", "key")
"""What ``reset`` can't make up."""


class Case:
    """
    Once-tasks, each damaged in its own way and status, and a sound one.

    Args:
        service: Has handlers for *model*.
        statuses: In which they are.
        model: Their kind.
        step: Take one of so many combinations of a damage and a status.
        key: The resource key that they need.
        later: ``spoil`` is called later.
    """

    def __init__(
        self,
        service: Service,
        statuses: tuple[str, ...],
        model: type[Work] = Work,
        step: int = 3,
        key: str | None = None,
        later: bool = False,
    ) -> None:
        self.service, self.model, self.cloud = service, model, service.cloud
        self.client = service.manager.locker.client
        self.damages: dict[str, Damage] = {}
        self.statuses: dict[str, str] = {}
        self.whole: dict[str, dict[str, Any]] = {}
        wanted = [(how, status) for how in DAMAGES for status in statuses if status in how.statuses]
        if model is Pull:
            # What is pulled has neither.
            wanted = [(how, status) for how, status in wanted if how.field not in ("url", "queue")]
        wanted = wanted[::step]
        names = [f"{number:03d}" for number in range(len(wanted))]
        assert not service.manager.create_tasks([model(name=name, key=key) for name in (*names, "sound")]).errors
        for name, (how, status) in zip(names, wanted, strict=True):
            path = service.path(name, model)
            self.damages[path], self.statuses[path] = how, status
        if not later:
            self.spoil()

    def spoil(self) -> None:
        """
        Bring them into their statuses, and damage them.
        """
        for path, how in self.damages.items():
            self.whole[path] = bring(self.client, path, self.statuses[path], self.cloud.clock_now())
            damage(self.client, path, how)

    def __iter__(self) -> Iterator[str]:
        return iter(self.damages)

    def lock(self, path: str) -> dict[str, Any]:
        """
        As stored.
        """
        found = self.client.document(path).get().to_dict()
        assert found is not None
        lock: dict[str, Any] = found["lock"]
        return lock

    def lasting(self) -> list[str]:
        """
        Those whose damage is not their due time, which is made anew when they are set aside.
        """
        return [path for path, how in self.damages.items() if how.field != "due"]

    def check_told(self, paths: list[str]) -> None:
        """
        Each of *paths* was told of once, by the field's name, and no other damage was.
        """
        alerts = [alert for alert in self.cloud.alerts.sent if alert.damaged]
        assert Counter(alert.document for alert in alerts) == dict.fromkeys(paths, 1)
        assert len({alert.id for alert in alerts}) == len(alerts)
        for alert in alerts:
            assert f"damaged: {self.damages[alert.document].field}: " in alert.reason
            assert "damaged" in subject_of(alert, "")

    def ran(self) -> Counter[str]:
        """
        The damaged ones that have run, and how often.
        """
        return Counter(self.service.path(name, self.model) for name in self.service.ran if name.isdigit())

    def pass_time(self, hours: int) -> None:
        """
        Sweeps and deliveries.
        """
        for _ in range(hours):
            self.cloud.advance(hours=1)
            assert self.cloud.sweep().failed == 0
            self.cloud.run_until_idle()
        assert set(statuses_of(self.cloud)) <= {200}


@pytest.fixture
def run(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """
    Runs a command on the shop's cloud: its exit code, and what it says.
    """
    monkeypatch.setattr("gcp_oncetask.cli.Locker", lambda config: shop.locker)
    for name, value in {"GOOGLE_CLOUD_PROJECT": "demo-local", "ONCETASK_VERIFY": "off"}.items():
        monkeypatch.setenv(name, value)

    def command(*arguments: str) -> tuple[int, str]:
        code = main(arguments)
        return code, "".join(capsys.readouterr())

    return command


@pytest.fixture
def service(oncetask_cloud: OncetaskCloud) -> Service:
    """
    Handles both kinds. Each alert is a mail.
    """
    return Service(oncetask_cloud, alert_window=0.0).handle(Work).handle(Pull)


def statuses_of(cloud: OncetaskCloud) -> Counter[int | None]:
    """
    How deliveries were answered so far.
    """
    return Counter(record.status for record in cloud.deliveries)


def reset(service: Service, path: str, how: Damage) -> None:
    """
    With what a person must say.
    """
    service.manager.locker.reset_path(
        path, new_key=how.field in ("keyed", "wanted"), step=1 if how.field in ("sequence", "base") else None
    )


# --- deliveries, the sweep, workers -----------------------------------------------------------------------------------


def test_deliveries_are_acknowledged_once_the_sweep_will_look(oncetask_cloud: OncetaskCloud, service: Service) -> None:
    """
    Each delivery of a damaged one is answered 200, and is gone; its due time is written, in a form that the sweep finds. A day of
    sweeps tells nothing more. It runs once when it was repaired by hand.
    """
    case = Case(service, OPEN)
    oncetask_cloud.run_until_idle()

    assert statuses_of(oncetask_cloud) == {200: len(case.damages) + 1}
    assert service.ran == ["sound"]
    now = instant(oncetask_cloud.clock_now())
    assert all(is_due(case.lock(path)["due"]) and case.lock(path)["due"].rsplit("/", 1)[1] > now for path in case)
    needing = [path for path in case if case.lock(path).get("attention", "").startswith("DEFAULT/damaged/")]
    assert needing == case.lasting()
    case.check_told(list(case))

    case.pass_time(25)
    assert not case.ran().keys() & set(case.lasting())
    case.check_told(list(case))

    for path in case:
        repair(case.client, path, case.whole[path], case.damages[path])
    case.pass_time(3)
    assert case.ran() == dict.fromkeys(case, 1)


def test_the_sweep_sets_each_aside(oncetask_cloud: OncetaskCloud, service: Service) -> None:
    """
    In every status, without a delivery: what is due is told of once in a day, and the sound one behind them is dispatched. Each
    that is reset then runs once, by its old key unless it was completed.
    """
    case = Case(service, ANY, step=6)
    for task in oncetask_cloud.local.tasks.tasks():
        oncetask_cloud.drop(task.name)
    oncetask_cloud.advance(minutes=10)
    until = f"DEFAULT/push/000/{instant(oncetask_cloud.clock_now())}"
    found = [path for path in case if "DEFAULT/" <= str(case.lock(path).get("due")) <= until]
    assert len(found) > 40
    swept = oncetask_cloud.sweep()
    oncetask_cloud.run_until_idle()

    assert (swept.damaged, swept.failed, swept.dispatched) == (len(found), 0, 1)
    assert service.ran == ["sound"]
    case.check_told(found)
    case.pass_time(25)
    case.check_told(found)

    again = [path for path in case.lasting() if case.damages[path].field not in BY_HAND]
    for path in again:
        reset(service, path, case.damages[path])
    oncetask_cloud.run_until_idle()
    assert {path: case.ran()[path] for path in again} == dict.fromkeys(again, 1)
    keys = {attempt._running.context.document: attempt.key for attempt in service.attempts}
    for path in again:
        lock = case.lock(path)
        kept = case.damages[path].field != "keyed" and case.statuses[path] != "completed"
        assert (lock["keyed"] == case.whole[path]["keyed"]) is kept or case.damages[path].field == "status"
        assert keys[path] == idempotency_key("DEFAULT", path, lock["keyed"], lock.get("granted", 0))
        assert "attention" not in lock


def test_workers_pass_them_over(oncetask_cloud: OncetaskCloud, service: Service) -> None:
    """
    However many stand before the sound one; they are told of once in a day, and run when they were repaired.
    """
    case = Case(service, OPEN, model=Pull)
    oncetask_cloud.advance(minutes=10)
    shards = [f"DEFAULT/pull.pulled/{shard:03d}/" for shard in range(service.manager.locker.config.pull_shards)]
    found = [path for path in case if str(case.lock(path).get("due")).startswith(tuple(shards))]
    assert len(found) >= 40
    oncetask_cloud.work(Worker(service.manager, concurrency=2))
    oncetask_cloud.run_until_idle()

    assert service.ran == ["sound"]
    case.check_told(found)
    for _ in range(25):
        oncetask_cloud.advance(hours=1)
        oncetask_cloud.run_until_idle()
    case.check_told(found)

    for path in found:
        repair(case.client, path, case.whole[path], case.damages[path])
    for _ in range(3):
        oncetask_cloud.advance(hours=1)
        oncetask_cloud.run_until_idle()
    assert {path: case.ran()[path] for path in found} == dict.fromkeys(found, 1)


def test_what_workers_cannot_see_the_sweep_gives_back_to_them(oncetask_cloud: OncetaskCloud, service: Service) -> None:
    """
    A due time by hand that is in no lane is made anew in that of its kind.
    """
    service.create("a", model=Pull)
    service.manager.locker.client.document(service.path("a", Pull)).update({"lock.due": "DEFAULT/"})
    oncetask_cloud.work(Worker(service.manager))
    oncetask_cloud.advance(minutes=10)
    assert service.ran == []
    assert oncetask_cloud.sweep().damaged == 1
    oncetask_cloud.advance(minutes=10)
    assert service.ran == ["a"]


# --- people -----------------------------------------------------------------------------------------------------------


def test_calls_name_the_field_and_write_nothing(oncetask_cloud: OncetaskCloud, service: Service) -> None:
    """
    show, create, get, cancel and resolve of each: the error of a damaged record, and the document is as it was. Of several by one
    call the sound ones are cancelled all the same.
    """
    case = Case(service, ANY, step=4)
    manager = service.manager
    before = {path: case.client.document(path).get().update_time for path in case}
    for path, how in case.damages.items():
        name = path.rsplit(":", 1)[1]
        calls: list[Callable[[], object]] = [
            lambda: manager.locker.show(path),  # noqa: B023 - called at once
            lambda: manager.create_task(Work(name=name)),  # noqa: B023
            lambda: manager.get_task(Work, name),  # noqa: B023
            lambda: manager.cancel_task(Work, name),  # noqa: B023
            lambda: manager.locker.resolve_path(path, "run"),  # noqa: B023
        ]
        for call in calls:
            with pytest.raises(DamagedError, match=f"damaged: {how.field}: ") as raised:
                call()
            assert raised.value.document == path
    names = [path.rsplit(":", 1)[1] for path in case]
    with pytest.raises(DamagedError):
        manager.cancel_tasks_by_ids(Work, [*names, "sound"])

    assert service.lock("sound").cancelling
    assert {path: case.client.document(path).get().update_time for path in case} == before
    assert manager.delete_tasks_by_ids(Work, names) == len(names)


@pytest.mark.parametrize("value", [*NO_MAPS, None], ids=str)
def test_a_lock_that_is_no_map(oncetask_cloud: OncetaskCloud, shop: Shop, value: Any) -> None:
    """
    Nothing ever overwrites it: deliveries are refused until it is repaired, and a person is told once in a day. A null one is no
    lock: the delivery is over, and the document can be scheduled.
    """
    document = shop.locker.client.document("orders/42")
    order = Order(id="42", amount=3)
    shop.locker.schedule(order, "/tasks/order")
    whole = document.get().get("lock")
    document.update({"lock": value})
    stored = document.get()
    for _ in range(25):
        oncetask_cloud.advance(hours=1)
        oncetask_cloud.sweep()
    assert shop.charges == []
    if value is None:
        assert [record.status for record in oncetask_cloud.deliveries] == [200]
        shop.locker.schedule(Order(id="42", amount=4), "/tasks/order")
        oncetask_cloud.run_until_idle()
        assert (shop.receipts, oncetask_cloud.alerts.sent) == (["42"], [])
        return
    for call in (
        lambda: shop.locker.schedule(Order(id="42"), "/tasks/order"),
        lambda: shop.locker.complete(order),
        lambda: shop.locker.reset(Order, "42", new_key=True, step=1),
        lambda: shop.locker.cancel(Order, "42"),
    ):
        with pytest.raises(DamagedError, match=r"damaged: lock: it is .*, and no map"):
            call()
    assert {record.status for record in oncetask_cloud.deliveries} == {409}
    assert document.get().update_time == stored.update_time
    [alert] = oncetask_cloud.alerts.sent
    assert "damaged: lock: it is " in alert.reason
    assert ["reset" in command for command in alert.commands] == [False]

    document.update({"lock": whole})
    oncetask_cloud.advance(hours=2)
    assert shop.receipts == ["42"]


def test_reset_asks_for_the_word(
    oncetask_cloud: OncetaskCloud, shop: Shop, run: Callable[..., tuple[int, str]]
) -> None:
    """
    Without the key's number, or the step, it writes nothing and says what to say; a chain goes on with that step, by a new key.
    """
    shop.on_receipt = lambda order, attempt: Fail("no paper")
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    oncetask_cloud.run_until_idle()
    document = shop.locker.client.document("orders/42")
    document.update({"lock.keyed": DELETE_FIELD, "lock.sequence": "two", "lock.headers": 7})
    before = document.get().update_time
    with pytest.raises(DamagedError, match=r"step can't be read.*--step"):
        shop.locker.reset(Order, "42")
    with pytest.raises(DamagedError, match=r"attempt\.key will be a new one.*--new-key"):
        shop.locker.reset(Order, "42", step=2)
    with pytest.raises(UsageError, match="step"):
        shop.locker.reset(Order, "42", step=0)
    code, said = run("reset", "orders/42", "--new-key")
    assert (code, "--step" in said) == (1, True)
    code, said = run("show", "orders/42")
    assert (code, "sequence: it is 'two'" in said) == (1, True)
    assert "token:        2" in said
    assert document.get().update_time == before

    shop.on_receipt = None
    code, said = run("reset", "orders/42", "--new-key", "--step", "2")
    assert (code, "scheduled as sequence" in said) == (0, True)
    oncetask_cloud.run_until_idle()
    assert (len(shop.charges), shop.receipts) == (1, ["42", "42"])
    assert shop.seen[-1].key != shop.seen[-2].key
    assert shop.seen[-1].sequence > 1_000_000_000_000
    lock = shop.locker.show("orders/42")
    assert (lock.status, lock.step) == (Status.COMPLETED, 2)


def test_reset_of_an_ended_task_lets_it_live(oncetask_cloud: OncetaskCloud, service: Service) -> None:
    """
    What Firestore's TTL goes by is gone with its end, and it is counted as scheduled; its resource key is the stored one.
    """
    service.handle(Fleeting)
    service.create("a", model=Fleeting, key="K")
    oncetask_cloud.run_until_idle()
    assert "expireAt" in service.stored("a", Fleeting)
    client, path = service.manager.locker.client, service.path("a", Fleeting)
    client.document(path).update({"lock.key": 7, "lock.attempts": "one"})

    service.manager.reset_task(Fleeting, "a")
    stored = service.stored("a", Fleeting)
    assert not {"expireAt", "doneAt"} & set(stored)
    assert (stored["state"], stored["lock"]["key"]) == ("DEFAULT/fleeting/scheduled/0", "K")
    oncetask_cloud.run_until_idle()
    assert (service.ran, "expireAt" in service.stored("a", Fleeting)) == (["a", "a"], True)


def test_reset_leaves_what_may_be_held(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    While the last lease may be held it writes nothing; after that the attempt that held it can write nothing.
    """
    document, tried = shop.locker.client.document("orders/42"), []

    def charge(order: Order, attempt: Attempt) -> None:
        if tried:
            shop.locker.complete(order)
            return
        document.update({"lock.status": "nonsense"})
        with pytest.raises(AlreadyScheduledError, match="may be held until"):
            shop.locker.reset(Order, "42")
        oncetask_cloud.clock.advance(120)
        tried.append(shop.locker.reset(Order, "42").sequence)

    shop.on_charge = charge
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    oncetask_cloud.run_until_idle()

    assert (tried, len(shop.charges), len({key for _, key in shop.charges})) == ([2], 2, 1)
    assert shop.locker.show("orders/42").status is Status.COMPLETED


@pytest.mark.parametrize("when", ["before", "after"])
def test_reset_whose_answer_is_lost_is_one(oncetask_cloud: OncetaskCloud, shop: Shop, when: Any) -> None:
    """
    One new sequence, one run.
    """
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    shop.locker.client.document("orders/42").update({"lock.attempts": -1})
    oncetask_cloud.faults.fail("Commit", when=when, code=grpc.StatusCode.DEADLINE_EXCEEDED)
    assert shop.locker.reset(Order, "42").sequence == 2
    oncetask_cloud.run_until_idle()
    assert (len(shop.charges), shop.receipts) == (1, ["42"])


def test_what_has_no_reset_says_what_to_do(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    A named lock is freed by deleting its document; taking it names the field.
    """
    held = shop.locker.lock("graph", ttl=60)
    assert held.acquire()
    document = shop.locker.client.document(held.document)
    document.update({"lock.leasedAt": "noon"})
    with pytest.raises(DamagedError, match="leasedAt: it is 'noon'"):
        shop.locker.lock("graph", ttl=60).acquire(blocking=False)
    with pytest.raises(UsageError, match=r"leasedAt: it is 'noon'\. It has no reset: delete the document"):
        shop.locker.reset_path(held.document)
    document.delete()
    assert shop.locker.lock("graph", ttl=60).acquire(blocking=False)


# --- telling ----------------------------------------------------------------------------------------------------------


def test_a_person_is_told_once_the_mail_server_is_back(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    While it is down nothing is forgotten; then it is told once. Another damage of the same record is told as well, and the same
    damage of its next run.
    """
    document = shop.locker.client.document("orders/42")
    oncetask_cloud.alerts.down = True
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    document.update({"lock.attempts": "one"})
    for hour in range(6):
        oncetask_cloud.alerts.down = hour < 3
        oncetask_cloud.advance(hours=1)
        oncetask_cloud.sweep()
    [alert] = oncetask_cloud.alerts.sent
    assert "attempts: it is 'one'" in alert.reason
    assert any("reset orders/42" in command for command in alert.commands)
    assert "can't be read" in body_of(alert)
    assert subject_of(alert, "[x]") == "[x] damaged record in DEFAULT: orders/42"

    document.update({"lock.attempts": "two"})
    oncetask_cloud.advance(hours=2)
    oncetask_cloud.sweep()
    shop.locker.reset(Order, "42")
    document.update({"lock.attempts": "two"})
    oncetask_cloud.run_until_idle()
    # It comes shortly after the one before.
    oncetask_cloud.advance(minutes=11)
    oncetask_cloud.sweep()
    ids = [alert.id for alert in oncetask_cloud.alerts.sent]
    assert (len(ids), len(set(ids))) == (3, 3)


@pytest.mark.parametrize(
    "how", [Damage("sequence", -1), Damage("token", "1"), Damage("attempts", "one")], ids=lambda how: how.id
)
def test_same_damage_is_told_again_after_a_reset(oncetask_cloud: OncetaskCloud, shop: Shop, how: Damage) -> None:
    """
    The record is another one then, though the damage hides its sequence, or its token.
    """
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    for mails in (1, 2):
        damage(shop.locker.client, "orders/42", how)
        for _ in range(2):
            oncetask_cloud.advance(hours=2)
            oncetask_cloud.sweep()
        assert len({alert.id for alert in oncetask_cloud.alerts.sent}) == len(oncetask_cloud.alerts.sent) == mails
        shop.locker.reset(Order, "42", step=1)


def test_what_is_told_again_is_the_same_message(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    Where it could not be noted that it was told, the next mail has the same id, though the document was written meanwhile.
    """
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    shop.locker.client.document("orders/42").update({"lock.attempts": "one"})
    oncetask_cloud.run_until_idle()
    [note] = [each for each in shop.locker.client.collection("onceLocks").stream() if ":told:" in each.id]
    assert (note.get("document"), note.get("field"), note.get("trouble")) == (
        "orders/42",
        "attempts",
        "attempts: it is 'one'",
    )
    note.reference.delete()
    oncetask_cloud.advance(hours=2)
    oncetask_cloud.sweep()
    assert len({alert.id for alert in oncetask_cloud.alerts.sent}) == 1
    assert len(oncetask_cloud.alerts.sent) == 2


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_due_time_that_is_not_known_to_be_written_is_asked_for_again(
    oncetask_cloud: OncetaskCloud, when: Any
) -> None:
    """
    The delivery stays in the queue until the due time is surely there.
    """
    shop = make_shop(Config(inline_limit=0))
    oncetask_cloud.use(shop.locker)
    oncetask_cloud.mount(URL, shop.app)
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    shop.locker.client.document("orders/42").update({"lock.attempts": "one"})
    shop.locker._runtime.store.estimate()
    oncetask_cloud.faults.fail("Commit", when=when, code=grpc.StatusCode.UNAVAILABLE)
    oncetask_cloud.advance(minutes=10)
    assert [record.status for record in oncetask_cloud.deliveries] == [409, 200]
    assert len(oncetask_cloud.alerts.sent) == 1


def test_another_environment_is_left_alone(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    A damaged record of another environment is as foreign as a sound one; one whose environment alone was changed is ours.
    """
    document = shop.locker.client.document("orders/42")
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    due = document.get().get("lock.due")
    document.update({"lock.env": "OTHER", "lock.due": due.replace("DEFAULT", "OTHER"), "lock.token": "t"})
    stored = document.get().update_time
    oncetask_cloud.run_until_idle()
    assert (document.get().update_time, oncetask_cloud.alerts.sent) == (stored, [])
    with pytest.raises(TaskConflictError):
        shop.locker.reset(Order, "42")

    document.update({"lock.due": due})
    oncetask_cloud.advance(minutes=10)
    oncetask_cloud.sweep()
    assert [
        "env: it is 'OTHER'" in alert.reason or "token" in alert.reason for alert in oncetask_cloud.alerts.sent
    ] == [True]


# --- neighbours -------------------------------------------------------------------------------------------------------


def test_damaged_waiters_hold_up_no_key(oncetask_cloud: OncetaskCloud, service: Service) -> None:
    """
    It goes to the first sound one that waits, past all damaged ones; those are told of once, and run when they were repaired.
    """
    case = Case(service, ("scheduled",), step=2, key="K", later=True)
    service.create("holder", key="K")

    def hold(task: Any, attempt: Attempt) -> None:
        service.act = lambda task, attempt: None
        for body in service.bodies():
            assert service.post(body).json["outcome"] == "parked"
        for queued in oncetask_cloud.local.tasks.tasks():
            oncetask_cloud.drop(queued.name)
        case.spoil()

    service.act = hold
    service.deliver("holder")
    oncetask_cloud.run_until_idle()
    assert service.ran[0] == "holder"
    assert "sound" in service.ran
    assert not case.ran().keys() & set(case.lasting())
    found = [path for path in case if case.damages[path].field != "parked"]
    case.check_told(found)

    for path in case:
        repair(case.client, path, case.whole[path], case.damages[path])
    case.pass_time(4)
    assert {path: case.ran()[path] for path in found} == dict.fromkeys(found, 1)


@pytest.mark.parametrize(
    "how", [Damage("status", "nonsense"), Damage("token", "t"), Damage("due", None), Damage("leasedAt", 1)]
)
def test_a_damaged_holder_keeps_its_key(oncetask_cloud: OncetaskCloud, service: Service, how: Damage) -> None:
    """
    It may run: who waits goes on waiting, without an error, until it was repaired. It is told of once.
    """
    service.create("a", "b", key="K")
    client, a = service.manager.locker.client, service.path("a")

    def spoil(task: Any, attempt: Attempt) -> None:
        service.act = lambda task, attempt: None
        damage(client, a, how)
        assert service.deliver("b").json["outcome"] == "parked"

    service.act = spoil
    assert service.deliver("a").status_code == 200
    for _ in range(30):
        oncetask_cloud.advance(minutes=5)
        assert oncetask_cloud.sweep().failed == 0
    told = [alert for alert in oncetask_cloud.alerts.sent if alert.damaged]
    assert [(alert.document, f"{how.field}: " in alert.reason) for alert in told] == [(a, True)]
    if how.field != "due":
        assert service.ran == ["a"]
        service.manager.reset_task(Work, "a")
    service.settle()
    assert sorted(service.ran) == (["a", "b"] if how.field == "due" else ["a", "a", "b"])


@pytest.mark.parametrize(
    "change", [{"lock.status": "nonsense"}, {"lock.holder": "no path"}, {"lock": "x"}, {"lock": [1]}], ids=str
)
def test_a_damaged_key_is_freed_by_deleting_it(
    oncetask_cloud: OncetaskCloud, service: Service, change: dict[str, Any]
) -> None:
    """
    Who needs it waits in the queue; others go on. It is told of once in a day.
    """
    document = service.manager.locker.client.document(key_path("DEFAULT", "K"))
    service.create("first", key="K")
    oncetask_cloud.run_until_idle()
    document.update(
        {"lock.status": "leased", "lock.holder": service.path("first")} | change if "lock" not in change else change
    )
    service.create("a", key="K")
    service.create("b", key="L")
    for _ in range(25):
        oncetask_cloud.advance(hours=1)
        oncetask_cloud.sweep()
    assert service.ran == ["first", "b"]
    assert set(statuses_of(oncetask_cloud)) == {200, 409}
    assert [alert.document for alert in oncetask_cloud.alerts.sent if alert.damaged] == [document.path]
    assert document.get().get("lock") == change.get("lock", document.get().get("lock"))

    document.delete()
    oncetask_cloud.advance(hours=2)
    assert service.ran == ["first", "b", "a"]


@pytest.mark.parametrize("change", [{"lock.status": "nonsense"}, {"lock.holder": "no path"}], ids=str)
def test_work_is_not_repeated_because_its_key_is_damaged(
    oncetask_cloud: OncetaskCloud, service: Service, change: dict[str, Any]
) -> None:
    """
    The run is done, and ends without the key; once that is repaired, it goes to the task that waits.
    """
    document = service.manager.locker.client.document(key_path("DEFAULT", "K"))
    service.create("a", "b", key="K")

    def spoil(task: Any, attempt: Attempt) -> None:
        service.act = lambda task, attempt: None
        assert service.deliver("b").json["outcome"] == "parked"
        kept.update(document.get().to_dict())
        document.update(change)

    kept: dict[str, Any] = {}
    service.act = spoil
    assert service.deliver("a").json["outcome"] == "completed"
    for _ in range(3):
        oncetask_cloud.advance(hours=1)
        oncetask_cloud.sweep()
    assert service.ran == ["a"]
    assert [alert.document for alert in oncetask_cloud.alerts.sent if alert.damaged] == [document.path]

    document.update({name: kept["lock"][name.partition(".")[2]] for name in change})
    for _ in range(3):
        oncetask_cloud.advance(hours=1)
        oncetask_cloud.sweep()
    assert service.ran == ["a", "b"]


def test_a_document_that_upsets_the_sweep_holds_up_no_other(
    oncetask_cloud: OncetaskCloud, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    In each of its stages: looked at, judged, taken over, handed over. What it raised is told of once in a day.
    """
    client, now = service.manager.locker.client, oncetask_cloud.clock_now()
    service.create("held", "upsetting", "sound")
    service.create("kept", key="K")
    for task in oncetask_cloud.local.tasks.tasks():
        oncetask_cloud.drop(task.name)
    paths = {name: service.path(name) for name in ("held", "upsetting", "sound", "kept")}
    for name in ("held", "upsetting"):
        bring(client, paths[name], "leased", now)
    take_over = takeover.commit_takeover

    def upset(runtime: Any, judged: takeover.Judged, *rest: Any) -> Any:
        if judged.snapshot.path == paths["upsetting"]:
            raise ValueError("a rule that nobody thought of")
        return take_over(runtime, judged, *rest)

    monkeypatch.setattr(takeover, "commit_takeover", upset)
    key = client.document(key_path("DEFAULT", "K"))
    # A key's document that does not say which.
    free = {"env": "DEFAULT", "sequence": 1, "status": "completed", "due": f"DEFAULT/key/000/{instant(now)}"}
    key.set({"lock": free, "waiting": 1})
    oncetask_cloud.advance(minutes=10)
    swept = oncetask_cloud.sweep()
    oncetask_cloud.run_until_idle()

    assert (swept.damaged, swept.failed, swept.taken_over) == (2, 0, 1)
    assert {"held", "sound"} <= set(service.ran)
    for _ in range(25):
        oncetask_cloud.advance(hours=1)
        oncetask_cloud.sweep()
    told = Counter(alert.document for alert in oncetask_cloud.alerts.sent if alert.damaged)
    assert told == {paths["upsetting"]: 1, key.path: 1}


def test_a_damaged_occurrence_holds_up_no_generator(oncetask_cloud: OncetaskCloud, service: Service) -> None:
    """
    It may run, so those after it are left out until it is repaired; the generator goes on.
    """
    service.handle(Repeat)
    service.act = lambda task, attempt: None
    rule = {"rrule": "FREQ=HOURLY", "dtstart": instant(oncetask_cloud.clock_now() + timedelta(hours=1))[:19] + "Z"}
    service.manager.create_task(Repeat(rule=rule, overlap="skip"))
    generator = service.path("r", Repeat)
    oncetask_cloud.advance(minutes=61)
    [first] = service.ran
    last = service.stored("r", Repeat)["lastOccurrence"]
    service.manager.locker.client.document(last).update({"lock.status": "nonsense"})
    oncetask_cloud.advance(hours=3)
    assert (service.ran, set(statuses_of(oncetask_cloud))) == ([first], {200})
    assert service.manager.locker.show(generator).sequence == 5
    assert [alert.document for alert in oncetask_cloud.alerts.sent] == [last]

    service.manager.locker.client.document(last).update({"lock.status": "completed"})
    oncetask_cloud.advance(hours=2)
    assert len(service.ran) == 3


def test_a_record_that_is_damaged_while_it_runs(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    The attempt can't be settled; the delivery is over once the sweep will look. Repaired by hand, what the attempt had said is
    committed from its trail, and it is not run again.
    """
    document = shop.locker.client.document("orders/42")

    def charge(order: Order, attempt: Attempt) -> None:
        document.update({"lock.status": "running"})
        shop.locker.schedule(order, "/tasks/order")

    shop.on_charge = charge
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    oncetask_cloud.run_until_idle()
    assert [record.status for record in oncetask_cloud.deliveries] == [200]
    document.update({"lock.status": "leased"})
    oncetask_cloud.advance(hours=2)
    oncetask_cloud.sweep()
    oncetask_cloud.run_until_idle()
    assert (len(shop.charges), shop.receipts) == (1, ["42"])
