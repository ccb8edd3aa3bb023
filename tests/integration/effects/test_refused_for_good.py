"""
Writes that Firestore refuses for good, of every caller: no outage, but the end of that record, which is told; and nothing else
waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import grpc
import pytest

from gcp_oncetask import Attempt, Config, Continue, FixedDelay, Locker, Status, StoreError, once, sweep
from gcp_oncetask.rules import CUTS
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.store.sizes import size_of
from gcp_oncetask.testing.cloud import OncetaskCloud
from gcp_oncetask.worker import Worker
from gcp_oncetask.worker.membership import Membership
from tests.support.orders import Killed, Order, Shop
from tests.support.tasks import DAILY, Repeat, Service, Work

BRIM = 1_048_572
"""What the local Firestore stores, as Google's protocol says: 1 MiB less 4 bytes."""
AGAIN = FixedDelay(delay=1, max_attempts=3)
REFUSED = grpc.StatusCode.INVALID_ARGUMENT
DENIED = grpc.StatusCode.PERMISSION_DENIED


class Pulled(Work, kind="refused-pulled", pull=True):
    pass


class Daily(Repeat, kind="refused-daily", pull=True):
    pass


class World:
    """
    A shop for entities and a service for once-tasks, pushed and pulled.
    """

    def __init__(self, cloud: OncetaskCloud, shop: Shop) -> None:
        self.cloud, self.shop, self.locker = cloud, shop, shop.locker
        # Each alert is a mail: what is counted and refused are the commits of the tasks.
        self.service = Service(cloud, alert_window=0.0)
        for model in (Work, Pulled, Repeat, Daily):
            self.service.handle(model, retry=AGAIN, lease_duration=60)
        self.worker = Worker(self.service.manager, listen=False)
        for locker in (self.locker, self.service.manager.locker):
            locker._runtime.store.estimate()

    def order(self, **options: Any) -> str:
        """
        An order that is scheduled; its path.
        """
        self.locker.schedule(Order(id="1"), "/tasks/order", **options)
        return "orders/1"

    def task(self, model: type[Any] = Work, **fields: Any) -> str:
        """
        A task; its path.
        """
        made = model(name="a", **fields)
        self.service.manager.create_task(made)
        return self.service.path("a", model)

    def lock(self, path: str) -> Lock:
        """
        The record.
        """
        return self.locker.show(path)

    def fill(self, path: str, spare: int = 0) -> None:
        """
        Another writer leaves so many bytes in the document.
        """
        reference = self.locker.client.document(path)
        reference.update({"blob": b"", "more": b""})
        local = self.cloud.local
        room = BRIM - spare - size_of(path, local.firestore.documents(local.project)[path].fields)
        reference.update({"blob": b"x" * (room // 2), "more": b"x" * (room - room // 2)})

    def drop_all(self) -> None:
        """
        Lose every Cloud Task.
        """
        for task in self.cloud.local.tasks.tasks():
            self.cloud.drop(task.name)

    def refuse(self, times: int | None = 1, code: grpc.StatusCode = REFUSED, skip: int = 0) -> None:
        """
        Let Firestore refuse the next commits.
        """
        self.cloud.faults.fail("Commit", times=times, code=code, message="too large for words", skip=skip)

    def alerts(self) -> list[tuple[str, str]]:
        """
        What was told: document and Message-ID.
        """
        return [(alert.document, alert.id) for alert in self.cloud.alerts.sent]


@pytest.fixture
def world(oncetask_cloud: OncetaskCloud, open_shop: Callable[..., Shop]) -> World:
    return World(oncetask_cloud, open_shop(Config(alert_window=0.0), retry=AGAIN, renew=False))


# --- a document that another writer has filled ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spare", "params", "headers", "kept"),
    [
        (50, "x" * 5000, {"X-A": "y" * 5000}, (True, False)),
        (50, "x" * 5000, None, (False, False)),
        (50, None, {"X-A": "y" * 5000}, (False, False)),
        (50, None, None, (False, False)),
        (0, None, None, (False, False)),
    ],
)
def test_full_document_is_ended_without_what_it_can_do_without(
    world: World, spare: int, params: Any, headers: Any, kept: tuple[bool, bool]
) -> None:
    """
    Headers go before parameters, and both only as far as they must; the error is noted where there is room for it. Told once, the
    delivery is acknowledged.
    """
    path = world.order(params=params, headers=headers)
    world.fill(path, spare)
    world.cloud.run_until_idle()
    lock = world.lock(path)
    assert (lock.status, lock.token, lock.due) == (Status.FAILED, 0, None)
    assert (lock.params is not None, lock.headers is not None) == kept
    assert [document for document, _ in world.alerts()] == [path]
    assert "exceeds the maximum allowed size" in world.cloud.alerts.sent[0].reason
    if params or headers:
        assert "exceeds the maximum allowed size" in lock.errors[-1].message
        assert (not params or kept[0]) or "without its params" in lock.errors[-1].message
    assert [delivery.status for delivery in world.cloud.deliveries] == [200]
    for _ in range(3):
        world.cloud.advance(days=1)
        world.cloud.sweep()
    assert len(world.alerts()) == 1


def test_task_of_a_filled_document_ends_as_well(world: World) -> None:
    """
    Its state and time of end are written along, which take some bytes; its payload stays.
    """
    path = world.task()
    world.fill(path)
    world.cloud.run_until_idle()
    assert (world.lock(path).status, world.service.status("a")) == (Status.FAILED, "failed")
    assert world.service.stored("a")["data"]["name"] == "a"
    assert [document for document, _ in world.alerts()] == [path]


RESULT = {"result": "z" * 4000}
ENDS: dict[str, tuple[Any, Status, str]] = {
    # what the handler returns, how the chain has ended, what the alert says
    "completed": (RESULT, Status.FAILED, "exceeds the maximum"),
    "without a result": (None, Status.COMPLETED, ""),
    "continued": (Continue("/tasks/order", params={"q": "y" * 4000}), Status.FAILED, "exceeds the maximum"),
    "failed": (ValueError("no"), Status.FAILED, "exceeds the maximum"),
}


@pytest.mark.parametrize("how", ENDS)
def test_document_that_is_filled_while_its_handler_runs(world: World, how: str) -> None:
    """
    Neither its end nor its failure can be recorded: it is ended by its own attempt, with no takeover and no second run, and told.
    """
    path = world.order(params={"p": "x" * 3000})
    value, status, said = ENDS[how]

    def charge(order: Order, attempt: Attempt) -> Any:
        world.fill(path)
        attempt.renew()
        if isinstance(value, Exception):
            raise value
        return value

    world.shop.on_charge = charge
    world.cloud.advance(minutes=30)
    world.cloud.sweep()
    lock = world.lock(path)
    assert (lock.status, lock.token) == (status, 1)
    assert {delivery.status for delivery in world.cloud.deliveries} == {200}
    assert [document for document, _ in world.alerts()] == ([] if status is Status.COMPLETED else [path])
    assert all(said in alert.reason for alert in world.cloud.alerts.sent)


@pytest.mark.parametrize("refused", ["its claim", "its hand-over", "all of it"])
def test_waiter_that_is_refused_does_not_keep_the_key_from_others(world: World, refused: str) -> None:
    """
    The first that waits for a resource key can't be given it, or can't be claimed with it: the next one gets it at once. The
    first is ended, or told of each day where that is refused as well.
    """
    first = [True]

    def act(task: Any, attempt: Attempt) -> None:
        if task.id == "a" and first.pop():
            world.cloud.local.run_until_idle()
            if refused == "its claim":
                world.fill(world.service.path("b"))
            else:
                # After the commits that settle the first one: those that wait have written to the key's document since.
                world.refuse(1 if refused == "its hand-over" else 1 + CUTS, skip=2)

    world.service.act = act
    world.service.create("a", "b", "c", key="k")
    world.cloud.run_until_idle()
    # Where it can be written again, it gets the key after the one behind it.
    assert world.service.ran == (["a", "c", "b"] if refused == "all of it" else ["a", "c"])
    assert world.service.status("b") == ("completed" if refused == "all of it" else "failed")
    world.cloud.advance(minutes=5)
    world.cloud.sweep()
    assert [document for document, _ in world.alerts()] == [world.service.path("b")]


# --- every caller -----------------------------------------------------------------------------------------------------


def dead(world: World, path: str) -> str:
    """
    Its handler dies, and its lease runs out.
    """

    def die(*_: Any) -> None:
        raise Killed

    world.shop.on_charge = world.service.act = die
    with suppress(Killed):
        world.cloud.run_until_idle()
    world.shop.on_charge, world.service.act = None, lambda task, attempt: None
    world.cloud.clock.advance(1000)
    return path


def owing(world: World) -> str:
    """
    A failed one whose alert was not sent.
    """
    world.cloud.alerts.down = True
    path = world.order()
    world.shop.on_charge = lambda order, attempt: (_ for _ in ()).throw(ValueError("no"))
    world.cloud.advance(minutes=1)
    assert world.lock(path).owed
    world.cloud.alerts.down = False
    world.cloud.clock.advance(1000)
    return path


def lost(world: World, path: str) -> str:
    """
    Its Cloud Task is lost, and it is overdue.
    """
    world.drop_all()
    world.cloud.clock.advance(10_000)
    return path


def relayed(world: World) -> str:
    """
    A delivery that comes far too early, to be replaced by another.
    """
    path = world.order(delay=timedelta(days=40))
    world.cloud.clock.advance(29 * 86_400 + 1)
    return path


def pulls(world: World, path: str) -> str:
    """
    Somebody works.
    """
    world.cloud.work(world.worker)
    return path


CASES: dict[str, tuple[Callable[[World], str], Callable[[World], object]]] = {
    # caller: what is there, what is done
    "claim": (lambda w: w.order(), lambda w: w.cloud.run_until_idle()),
    "claim of a task": (lambda w: w.task(), lambda w: w.cloud.run_until_idle()),
    "claim of a task with a key": (lambda w: w.task(key="k"), lambda w: w.cloud.run_until_idle()),
    "claim by a worker": (lambda w: pulls(w, w.task(Pulled)), lambda w: w.cloud.run_until_idle()),
    "takeover by a delivery": (
        lambda w: dead(w, w.order()),
        lambda w: w.cloud.run_until_idle(),
    ),
    "takeover by a sweep": (lambda w: lost(w, dead(w, w.order())), lambda w: w.cloud.sweep()),
    "takeover by a worker": (
        lambda w: dead(w, pulls(w, w.task(Pulled))),
        lambda w: w.cloud.run_until_idle(),
    ),
    "relay": (relayed, lambda w: w.cloud.run_until_idle()),
    "dispatch by a sweep": (lambda w: lost(w, w.order()), lambda w: w.cloud.sweep()),
    "generator": (lambda w: w.task(Repeat, rule=DAILY), lambda w: w.cloud.run_until_idle()),
    "generator by a worker": (lambda w: pulls(w, w.task(Daily, rule=DAILY)), lambda w: w.cloud.run_until_idle()),
}


@pytest.mark.parametrize("case", CASES)
def test_caller_that_is_refused_once_ends_the_record(world: World, case: str) -> None:
    """
    With Firestore's own words in it, and a person is told; nothing is tried for ever.
    """
    prepare, act = CASES[case]
    path = prepare(world)
    told = len(world.alerts())
    world.refuse()
    act(world)
    lock = world.lock(path)
    assert lock.status is Status.FAILED
    assert "INVALID_ARGUMENT: too large for words" in lock.errors[-1].message
    assert [document for document, _ in world.alerts()[told:]] == [path]
    assert lock.owed == ()
    assert 500 not in {delivery.status for delivery in world.cloud.deliveries if delivery.body}


DAYS = 2


@pytest.mark.parametrize("case", CASES)
def test_caller_that_is_refused_for_ever_tells_a_person_once_a_day(world: World, case: str) -> None:
    """
    Whatever is tried: no 500 without end, but 409 with the queue's back-off; on each day one mail, whose Message-ID is that of
    any process; and once it can be written it goes on.
    """
    prepare, act = CASES[case]
    path = prepare(world)
    told = len(world.alerts())
    world.refuse(times=None)
    for day in range(DAYS):
        act(world)
        for _ in range(4):
            world.cloud.advance(seconds=1800)
            world.cloud.sweep()
        # Two processes have a part in it, each of which tells once.
        assert {document for document, _ in world.alerts()[told:]} == {path}
        assert len(set(world.alerts()[told:])) == day + 1
        assert len(world.alerts()[told:]) <= 2 * (day + 1)
        world.cloud.clock.advance(86_400 - world.cloud.clock_now().timestamp() % 86_400 + 1)
    assert all("make the document smaller by hand" in alert.reason for alert in world.cloud.alerts.sent[told:])
    assert {delivery.status for delivery in world.cloud.deliveries} <= {200, 409, 503}
    world.cloud.faults.clear()
    for _ in range(40):
        world.cloud.advance(hours=1)
        world.cloud.sweep()
    assert world.lock(path).finished or case.startswith(("generator", "relay"))


def test_message_id_of_the_day_is_that_of_every_process(world: World) -> None:
    """
    A sweep of another process, later on the same day, sends the same mail again; on the next day it is another.
    """
    path = world.order()
    world.refuse(times=None)
    world.cloud.run_until_idle()
    other = Locker(config=world.locker.config)
    world.cloud.use(other)
    world.cloud.clock.advance(36_000)
    for locker in (other, world.locker, other):
        sweep(locker)
    assert len(world.alerts()) == 2
    assert len(set(world.alerts())) == 1
    assert world.alerts()[0][0] == path
    world.cloud.clock.advance(86_400)
    sweep(other)
    assert len(set(world.alerts())) == 2


def test_mail_that_could_not_be_sent_is_sent_by_the_next_try(world: World) -> None:
    """
    Nothing is dropped of the record that a person was not told of before.
    """
    path = world.order()
    world.fill(path)
    world.cloud.alerts.down = True
    world.cloud.run_until_idle()
    assert world.cloud.deliveries[-1].status == 409
    assert world.lock(path).status is Status.SCHEDULED
    world.cloud.alerts.down = False
    world.cloud.advance(minutes=10)
    assert world.lock(path).status is Status.FAILED
    assert [document for document, _ in world.alerts()] == [path]


def test_alert_is_sent_though_nothing_can_be_recorded_of_it(world: World) -> None:
    """
    A failed one whose document was filled before its alert was sent: sent under its own Message-ID, and recorded as sent, which
    takes less room.
    """
    path = owing(world)
    [owed] = world.lock(path).owed
    world.refuse(times=1)
    world.cloud.sweep()
    assert world.lock(path).owed == ()
    assert [alert.reason for alert in world.cloud.alerts.sent] == [owed.reason]


def test_alert_is_sent_once_a_day_where_even_that_is_refused(world: World) -> None:
    """
    Under its own Message-ID each time; one more mail a day says what is refused.
    """
    path = owing(world)
    world.refuse(times=None)
    for _ in range(5):
        world.cloud.sweep()
    ids = [id_ for _, id_ in world.alerts()]
    assert len(ids) == len(set(ids)) == 2
    world.cloud.clock.advance(86_400)
    world.cloud.sweep()
    assert (len(world.alerts()), len(set(world.alerts()))) == (4, 3)
    world.cloud.faults.clear()
    world.cloud.clock.advance(86_400)
    world.cloud.sweep()
    assert world.lock(path).owed == ()


def test_refused_record_holds_up_nobody_behind_it(world: World) -> None:
    """
    One sweep, to which Firestore refuses all that it tries of the first: the others are dispatched.
    """
    path = world.order()
    for number in range(3):
        world.locker.schedule(Order(id=f"other-{number}"), "/tasks/order")
    lost(world, path)
    world.refuse(1 + CUTS)
    swept = world.cloud.sweep()
    assert (swept.dispatched, swept.failed) == (3, 1)
    # The others have waited for so long that they are told of as well.
    told = [alert.document for alert in world.cloud.alerts.sent if "too large for words" in alert.reason]
    assert told == [path]
    world.cloud.run_until_idle()
    assert all(world.lock(f"orders/other-{number}").status is Status.COMPLETED for number in range(3))


def test_record_that_has_moved_meanwhile_is_not_ended(world: World) -> None:
    """
    The document as it travelled in the delivery is refused, but somebody has written it since: the delivery comes again, and
    runs.
    """
    path = world.order()
    world.locker.client.document(path).update({"note": "mended"})
    world.refuse()
    world.cloud.run_until_idle()
    assert [delivery.status for delivery in world.cloud.deliveries] == [409]
    world.cloud.advance(minutes=1)
    assert (world.lock(path).status, world.alerts()) == (Status.COMPLETED, [])


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("cut", range(CUTS))
def test_end_whose_answer_is_lost(world: World, cut: int, when: Any) -> None:
    """
    Whichever of the commits it was that Firestore takes, applied or not: the record is ended once, and told once.
    """
    path = world.order(params={"p": 1})
    world.refuse(1 + cut)
    world.cloud.faults.fail("Commit", when=when, skip=1 + cut)
    world.cloud.run_until_idle()
    world.cloud.advance(minutes=10)
    world.cloud.sweep()
    assert (world.lock(path).status, world.lock(path).owed) == (Status.FAILED, ())
    assert len(set(world.alerts())) == 1
    assert world.shop.charges == []


def test_process_that_dies_before_the_end_leaves_it_to_the_next(world: World) -> None:
    """
    The last commit would end it without a word: a person was told before, and the next delivery ends it.
    """
    path = world.order()
    world.fill(path)

    class Dying:
        """
        A channel in whose call the process dies, after the mail has gone out.
        """

        def send(self, alert: Any) -> None:
            world.cloud.alerts.send(alert)
            raise Killed

    runtime = world.locker._runtime
    channel, runtime.alerts = runtime.alerts, Dying()
    world.cloud.run_until_idle()
    assert world.lock(path).status is Status.SCHEDULED
    runtime.alerts = channel
    world.cloud.advance(minutes=10)
    assert world.lock(path).status is Status.FAILED
    assert len(set(world.alerts())) == 1


def test_dead_holder_of_a_key_that_is_refused_is_ended_for_the_next(world: World) -> None:
    """
    Its takeover by one that needs the key is refused: it is that one that is ended, and not the one that asked.
    """
    world.task(key="k")
    dead(world, world.service.path("a"))
    world.drop_all()
    world.service.create("b", key="k")
    world.refuse()
    world.cloud.run_until_idle()
    world.cloud.advance(minutes=5)
    assert [world.service.status(name) for name in "ab"] == ["failed", "completed"]
    assert {document for document, _ in world.alerts()} == {world.service.path("a")}


# --- the caller is refused --------------------------------------------------------------------------------------------


def test_caller_without_leave_ends_no_task(world: World) -> None:
    """
    An account that lost its role for a while is refused whatever it writes: one mail a day of it, not one for each task, and no
    task has failed for it.
    """
    for number in range(5):
        world.locker.schedule(Order(id=f"{number}"), "/tasks/order")
    world.refuse(times=None, code=DENIED)
    world.cloud.advance(minutes=5)
    world.cloud.sweep()
    assert [document for document, _ in world.alerts()] == ["firestore/permission_denied"]
    assert "roles/datastore.user" in world.cloud.alerts.sent[0].reason
    assert {delivery.status for delivery in world.cloud.deliveries} == {409}
    world.cloud.faults.clear()
    world.cloud.advance(hours=2)
    assert all(world.lock(f"orders/{number}").status is Status.COMPLETED for number in range(5))


@pytest.mark.parametrize("refused", [1, 2])
def test_end_that_is_refused_to_a_caller_is_recorded_whole(
    oncetask_cloud: OncetaskCloud, open_shop: Callable[..., Shop], refused: int
) -> None:
    """
    An account that lost its role for a moment, when its end was recorded, or when that was taken from the log too: nothing is
    left out of it, no attempt has failed, and the step is not run again.
    """
    world = World(oncetask_cloud, open_shop(config=Config(log_contents=True)))
    runs = []

    def charge(order: Order, attempt: Attempt) -> Any:
        runs.append(attempt.number)
        world.refuse(times=refused, code=DENIED)
        return {"receipt": 42}

    world.shop.on_charge = charge
    path = world.order()
    for _ in range(6):
        world.cloud.advance(minutes=5)
        world.cloud.sweep()
    lock = world.lock(path)
    assert (lock.status, lock.result, lock.errors, runs) == (Status.COMPLETED, {"receipt": 42}, (), [1])


def test_result_of_a_run_is_not_dropped_for_a_refused_caller(world: World) -> None:
    """
    The caller gets the refusal, and the run is not recorded without its result.
    """

    @once(world.locker, key=lambda: "k")
    def charge() -> str:
        world.refuse(code=DENIED)
        return "receipt"

    with pytest.raises(StoreError, match="PERMISSION_DENIED"):
        charge()
    (run,) = [doc for doc in world.locker.client.collection("onceLocks").stream() if ":once:" in doc.id]
    assert run.to_dict()["lock"]["status"] == "leased"


def test_sweep_without_leave_tells_a_person(world: World) -> None:
    """
    Once a day, though nothing can be found: each sweep says it to its caller too.
    """
    world.order()
    world.cloud.faults.fail("RunQuery", times=None, code=DENIED)
    for _ in range(3):
        with pytest.raises(StoreError, match="PERMISSION_DENIED"):
            sweep(world.locker)
    assert [document for document, _ in world.alerts()] == ["firestore/permission_denied"]


@pytest.mark.parametrize(("call", "asks"), [("Commit", "beats"), ("RunQuery", "beats"), ("RunQuery", "looks")])
def test_worker_without_leave_tells_a_person(world: World, call: str, asks: str) -> None:
    """
    It takes nothing, and goes on trying.
    """
    runtime = world.service.manager.locker._runtime
    membership = Membership(runtime, ("refused-pulled",), 60.0)
    if asks == "looks":
        world.worker._membership = membership
        membership.beat()
    world.cloud.faults.fail(call, times=None, code=DENIED)
    for _ in range(3):
        if asks == "beats":
            assert membership.beat() is False
        else:
            assert world.worker._looking.due("refused-pulled", range(8), 1) == []
    assert [document for document, _ in world.alerts()] == ["firestore/permission_denied"]
    world.cloud.faults.clear()
    membership.beat()
    assert membership.alive()


def test_all_is_tried_once_a_day_by_a_process(world: World) -> None:
    """
    Whoever sweeps comes each minute: one commit then, not one for all that could be dropped. What has been written since is new.
    """
    path = owing(world)
    world.refuse(times=None)
    commits = []
    for _ in range(4):
        world.cloud.local.firestore.reset_counts()
        world.cloud.sweep()
        commits.append(world.cloud.local.firestore.counts["Commit"])
    # The first sweep tries to write the time of the next reminder, too; after a failure that waits for ten minutes.
    assert commits == [3, 1, 1, 1]
    world.cloud.faults.clear()
    world.locker.client.document(path).update({"note": "mended"})
    world.refuse(times=1)
    world.cloud.sweep()
    assert world.lock(path).owed == ()


def test_queue_that_is_not_there_is_told_of(world: World) -> None:
    """
    Once a day, by the sweep, with the command that makes it; when it is there, everything is dispatched.
    """
    for number in range(3):
        made = world.locker.schedule(Order(id=f"{number}"), "/tasks/order", queue="nowhere")
        assert not made.dispatched
    for _ in range(3):
        world.cloud.clock.advance(200)
        world.cloud.sweep()
    told = [alert for alert in world.cloud.alerts.sent if alert.document == "queues/nowhere"]
    assert len(told) == 1
    assert "gcloud tasks queues create nowhere" in told[0].reason
    world.cloud.local.tasks.create_queue(world.cloud.local.queue.replace("/default", "/nowhere"))
    world.cloud.clock.advance(3600)
    world.cloud.sweep()
    world.cloud.run_until_idle()
    assert all(world.lock(f"orders/{number}").status is Status.COMPLETED for number in range(3))
