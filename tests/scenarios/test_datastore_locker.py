"""
datastore-locker: entity locks, sequences, recovery. One test per row of its behaviour.
"""

from __future__ import annotations

import inspect
import json
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.cloud import firestore

from gcp_oncetask import Attempt, Config, ConfigError, Locker, Status, StoreError
from gcp_oncetask.entities.handler import entity_handler
from gcp_oncetask.flask import locked_handler
from gcp_oncetask.rules.record import Event, Lock
from gcp_oncetask.testing.cloud import ACCOUNT, OncetaskCloud
from tests.scenarios import row
from tests.support.orders import URL, Killed, Order, allow, make_shop

BUSY = "409 instead of 503, which would slow the whole queue for one task's own business"
ALERTED = "200 with an error log and an alert: retrying can't mend it"


class World:
    """
    One order in one shop on one cloud.
    """

    def __init__(self, cloud: OncetaskCloud) -> None:
        self.cloud = cloud
        self.shop = make_shop()

    def open(self, **options: Any) -> World:
        """
        Open the shop; options are those of ``locked_handler``.
        """
        self.shop = make_shop(**options)
        self.cloud.use(self.shop.locker)
        self.cloud.mount(URL, self.shop.app)
        self.shop.on_charge = lambda order, attempt: None
        return self

    def schedule(self, **options: Any) -> bytes:
        """
        Schedule order 42; returns the body of its delivery.
        """
        self.shop.locker.schedule(Order(id="42", amount=1), "/tasks/order", **options)
        return bytes(self.cloud.local.tasks.tasks()[-1].http_request.body)

    def held(self) -> bytes:
        """
        Schedule order 42 and let its first holder die; its task is out of the way.
        """

        def die(order: Order, attempt: Attempt) -> None:
            raise Killed

        body = self.schedule()
        self.shop.on_charge = die
        assert self.post(body).status_code == 503
        self.shop.on_charge = lambda order, attempt: None
        for task in self.cloud.local.tasks.tasks():
            self.cloud.drop(task.name)
        return body

    def post(self, body: bytes, **headers: str) -> Any:
        """
        Deliver *body*, by the right caller.
        """
        token = self.cloud.local.oidc.token("https://oncetask.test", ACCOUNT)
        headers["Authorization"] = f"Bearer {token}"
        return self.shop.app.test_client().post("/tasks/order", data=body, headers=headers)

    def lock(self, id_: str = "42") -> Lock:
        """
        The stored lock.
        """
        return self.shop.locker.show(f"orders/{id_}")

    @property
    def runs(self) -> int:
        """
        How often the handler ran.
        """
        return len(self.shop.seen)

    def asked(self) -> int:
        """
        How often the logs were asked.
        """
        return self.cloud.local.logging.counts["ListLogEntries"]

    def at_age(self, seconds: float) -> None:
        """
        Let the clock stand where the held lease is exactly so old.
        """
        granted = self.lock().granted_at
        assert granted is not None
        age = self.cloud.clock_now() - granted
        self.cloud.clock.advance(seconds - age.total_seconds())


@pytest.fixture
def world(oncetask_cloud: OncetaskCloud) -> World:
    """
    The shop with the library's defaults.
    """
    return World(oncetask_cloud).open()


@row("DL-01", "success; holder and time stored")
def test_dl_01_claim_of_a_free_lock(world: World) -> None:
    """
    A free lock is granted; holder and server time are stored.
    """
    seen: list[Lock] = []
    world.shop.on_charge = lambda order, attempt: seen.append(world.lock())
    world.post(world.schedule())

    [lock] = seen
    assert (Status.LEASED, world.shop.seen[0]._running.granted.holder) == (lock.status, lock.holder)
    assert lock.leased_at is not None
    assert abs(lock.leased_at - world.cloud.clock_now()) < timedelta(seconds=1)


@row("DL-02", "lock failed (503); holder unchanged", BUSY)
def test_dl_02_claim_of_a_held_lock(world: World) -> None:
    """
    A held lock is refused, and its holder stays.
    """
    body = world.held()
    before = world.lock()

    answer = world.post(body)
    assert (answer.status_code, answer.json["outcome"]) == (409, "busy")
    assert before == world.lock()


@row("DL-03", "400, not run", "405 by Flask: the route takes POST only")
def test_dl_03_get_is_refused(world: World) -> None:
    """
    A GET reaches no handler.
    """
    world.schedule()
    assert world.shop.app.test_client().get("/tasks/order").status_code == 405
    assert (world.runs, world.lock().status) == (0, Status.SCHEDULED)


@row("DL-04", "400 without the queue's header", "headers are no identity: without a token 401, with one it runs")
def test_dl_04_headers_are_no_identity(world: World) -> None:
    """
    What counts is the identity token, not the queue's headers.
    """
    body = world.schedule()
    client = world.shop.app.test_client()
    assert client.post("/tasks/order", data=body, headers={"X-CloudTasks-TaskName": "t"}).status_code == 401
    assert world.runs == 0

    assert world.post(body).status_code == 200
    assert world.runs == 1


@row("DL-05", "400", ALERTED)
@pytest.mark.parametrize("document", [None, "", "orders", 7])
def test_dl_05_unreadable_document(world: World, document: Any) -> None:
    """
    A delivery that names no document is acknowledged and alerted, never looped.
    """
    body = json.dumps({**json.loads(world.schedule()), "document": document}).encode()
    answer = world.post(body)

    assert (answer.status_code, answer.json["outcome"], world.runs) == (200, "rejected", 0)
    assert len(world.cloud.alerts.sent) == 1


@row("DL-06", "400", ALERTED)
@pytest.mark.parametrize("sequence", [None, "one", 0, -1, 1.5])
def test_dl_06_unreadable_sequence(world: World, sequence: Any) -> None:
    """
    A delivery whose sequence is no number is acknowledged and alerted.
    """
    body = json.dumps({**json.loads(world.schedule()), "sequence": sequence}).encode()
    answer = world.post(body)

    assert (answer.status_code, answer.json["outcome"], world.runs) == (200, "rejected", 0)


@row("DL-07", "503, not run", "200 with an error log: nothing can bring the document back by retrying")
def test_dl_07_missing_entity(world: World) -> None:
    """
    A delivery whose document is gone is acknowledged.
    """
    body = world.schedule()
    world.shop.locker.client.document("orders/42").delete()
    answer = world.post(body)

    assert (answer.status_code, answer.json["outcome"], world.runs) == (200, "gone", 0)


@row("DL-08", "503, not run", "500: 503 would slow the whole queue")
def test_dl_08_database_error_in_the_claim(world: World) -> None:
    """
    While Firestore is down nothing runs; the queue tries again.
    """
    body = world.schedule()
    world.cloud.faults.fail("Commit", times=None)
    world.cloud.faults.fail("GetDocument", times=None)

    answer = world.post(body)
    assert (answer.status_code, answer.json["outcome"], world.runs) == (500, "unavailable", 0)


@row("DL-09", "exactly one runs; the other gets 503", BUSY)
def test_dl_09_two_copies_at_once(world: World) -> None:
    """
    A copy that arrives while the first runs is refused.
    """
    body = world.schedule()
    answers: list[Any] = []
    world.shop.on_charge = lambda order, attempt: answers.append(world.post(body))
    assert world.post(body).status_code == 200

    assert (answers[0].status_code, answers[0].json["outcome"]) == (409, "busy")
    assert world.runs == 1


def two_steps(world: World) -> bytes:
    """
    Schedule, run step 1, which schedules step 2; returns step 1's delivery.
    """
    body = world.schedule()
    world.shop.on_charge = lambda order, attempt: world.shop.locker.schedule(order) and None
    assert world.post(body).status_code == 200
    return body


@row("DL-10", "200, not run, nothing written")
def test_dl_10_copy_of_an_older_step_of_a_free_lock(world: World) -> None:
    """
    A late copy of step 1 is dropped once step 2 is scheduled.
    """
    body = two_steps(world)
    before = world.lock()
    answer = world.post(body)

    assert (answer.status_code, answer.json["outcome"], world.runs) == (200, "duplicate", 1)
    assert before == world.lock()


@row("DL-11", "200, not run")
def test_dl_11_copy_of_an_older_step_of_a_held_lock(world: World) -> None:
    """
    A late copy of step 1 is dropped while step 2 runs.
    """
    body = two_steps(world)
    answers: list[Any] = []
    world.shop.on_receipt = lambda order, attempt: answers.append(world.post(body))
    world.cloud.run_until_idle()

    assert (answers[0].status_code, answers[0].json["outcome"]) == (200, "duplicate")
    assert world.runs == 2


@row("DL-12", "503, log service not asked", BUSY)
def test_dl_12_just_within_the_lease(world: World) -> None:
    """
    A second before the lease's end the holder is trusted without question.
    """
    body = world.held()
    world.at_age(59)
    asked = world.asked()

    assert world.post(body).status_code == 409
    assert asked == world.asked()


@row("DL-13", "the log service is asked")
def test_dl_13_exactly_at_the_lease_end(world: World) -> None:
    """
    Exactly at its end the lease has expired, and the logs are asked: for the holder's own lines, and for the platform's.
    """
    body = world.held()
    world.at_age(60)
    asked = world.asked()

    assert world.post(body).json["outcome"] == "unknown"
    assert asked + 2 == world.asked()


@row(
    "DL-14", "takeover: runs; new holder and time", "finished means a crash, or its own end line: a 2xx proves nothing"
)
def test_dl_14_expired_and_the_logs_show_its_end(world: World) -> None:
    """
    Between lease and timeout the evidence of a crash lets another attempt run, once the end line has had its time.
    """
    body = world.held()
    before = world.lock()
    world.cloud.write_system("Container called exit(137).")
    world.at_age(61)
    assert world.post(body).json["outcome"] == "unknown"
    world.at_age(121)

    assert world.post(body).json["outcome"] == "completed"
    assert (before.token + 1, 2) == (world.shop.seen[-1].token, world.runs)


@row("DL-15", "503: record present, unfinished", BUSY)
def test_dl_15_expired_and_the_logs_show_it_running(world: World) -> None:
    """
    A holder that has started and of whose end nothing is known is left alone.
    """
    body = world.held()
    assert any('"started"' in str(entry.json_payload) for entry in world.cloud.local.logging.entries)
    world.at_age(300)

    assert (world.post(body).status_code, world.post(body).json["outcome"]) == (409, "unknown")
    assert world.runs == 1


@row("DL-16", "503: no record", BUSY)
def test_dl_16_expired_and_the_logs_know_nothing(world: World) -> None:
    """
    No entry is unknown, never "not done".
    """
    body = world.held()
    world.cloud.forget_logs()
    world.at_age(300)

    assert (world.post(body).status_code, world.runs) == (409, 1)


@row("DL-17", "503: log service fails", BUSY)
def test_dl_17_expired_and_the_logs_are_unreachable(world: World) -> None:
    """
    Logs that can't be asked tell nothing.
    """
    body = world.held()
    world.at_age(300)
    world.cloud.faults.fail("ListLogEntries", times=None)
    answer = world.post(body)

    assert (answer.status_code, answer.json["outcome"], world.runs) == (409, "unknown", 1)
    assert "could not be asked" in answer.json["reason"]


@row("DL-18", "takeover without needing logs", "the log grace after the run limit is part of the timeout")
def test_dl_18_past_the_timeout(world: World) -> None:
    """
    Past the timeout it is taken over, and the logs do not count.
    """
    body = world.held()
    world.at_age(751)

    assert world.post(body).json["outcome"] == "completed"
    assert world.runs == 2


@row("DL-19", "503 exactly at the timeout", BUSY)
def test_dl_19_exactly_at_the_timeout(world: World) -> None:
    """
    Exactly at the timeout it is not yet past.
    """
    body = world.held()
    world.at_age(750)

    assert world.post(body).json["outcome"] == "unknown"
    assert world.runs == 1


def taken_over(world: World) -> None:
    """
    A takeover without evidence.
    """
    body = world.held()
    world.at_age(751)
    assert world.post(body).status_code == 200


@row("DL-20", "one mail, subject names an overwrite, body identifies the entity")
def test_dl_20_takeover_alerts(world: World) -> None:
    """
    A takeover is alerted once, after it is committed.
    """
    taken_over(world)

    [alert] = world.cloud.alerts.sent
    assert (alert.event, alert.document) == (Event.TAKEOVER, "orders/42")


@row("DL-21", "alert off: no mail")
def test_dl_21_takeover_without_alert(oncetask_cloud: OncetaskCloud) -> None:
    """
    A handler that does not want the alert gets none.
    """
    world = World(oncetask_cloud).open(alert_on=("failure",))
    taken_over(world)
    assert world.cloud.alerts.sent == []


@row("DL-22", "mail fails: takeover still succeeds, error logged", "and the alert stays owed until it is sent")
def test_dl_22_takeover_with_dead_mail(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """
    A dead mail server changes no outcome, and loses nothing.
    """
    world.cloud.alerts.down = True
    taken_over(world)
    assert Status.COMPLETED is world.lock().status
    assert "still owed" in caplog.text

    world.cloud.alerts.down = False
    world.cloud.advance(minutes=5)
    world.cloud.sweep()
    assert len(world.cloud.alerts.sent) == 1


def failing(world: World) -> None:
    """
    Let every run fail.
    """

    def fail(order: Order, attempt: Attempt) -> None:
        order.amount = 666
        raise RuntimeError("no")

    world.shop.on_charge = fail


@row("DL-23", "500; lock free, retries 1, same sequence")
def test_dl_23_failed_attempt(world: World) -> None:
    """
    A failed attempt gives the lease back; the queue tries again.
    """
    failing(world)
    answer = world.post(world.schedule())

    lock = world.lock()
    assert (answer.status_code, answer.json["outcome"]) == (500, "failed-attempt")
    assert (lock.status, lock.attempts, lock.sequence) == (Status.SCHEDULED, 1, 1)


@row("DL-24", "limit 3: four executions, 500, 500, 500, 200", "max_attempts counts executions: 4")
def test_dl_24_attempts_are_bounded(oncetask_cloud: OncetaskCloud) -> None:
    """
    The last allowed attempt is acknowledged; no other follows.
    """
    world = World(oncetask_cloud).open(max_attempts=4)
    failing(world)
    world.schedule()
    world.cloud.advance(hours=1)

    assert [d.status for d in world.cloud.deliveries] == [500, 500, 500, 200]
    assert (world.runs, world.lock().status) == (4, Status.FAILED)


@row("DL-25", "limit 0: first failure answers 200 and alerts", "max_attempts=1")
def test_dl_25_single_attempt(oncetask_cloud: OncetaskCloud) -> None:
    """
    With one attempt the first failure is final.
    """
    world = World(oncetask_cloud).open(max_attempts=1)
    failing(world)

    assert world.post(world.schedule()).status_code == 200
    assert [a.event for a in world.cloud.alerts.sent] == [Event.FAILURE]


@row("DL-26", "one mail, subject names permanent failure")
def test_dl_26_failure_alerts(oncetask_cloud: OncetaskCloud) -> None:
    """
    The last failure is alerted once.
    """
    world = World(oncetask_cloud).open(max_attempts=2)
    failing(world)
    world.schedule()
    world.cloud.advance(hours=1)

    [alert] = world.cloud.alerts.sent
    assert (alert.event, alert.reason) == (Event.FAILURE, "RuntimeError: no")


@row("DL-27", "mail fails: still 200, error logged")
def test_dl_27_failure_with_dead_mail(oncetask_cloud: OncetaskCloud, caplog: pytest.LogCaptureFixture) -> None:
    """
    The outcome of the last failure does not depend on the mail.
    """
    world = World(oncetask_cloud).open(max_attempts=1)
    failing(world)
    world.cloud.alerts.down = True

    assert world.post(world.schedule()).status_code == 200
    assert "still owed" in caplog.text


@row("DL-28", "alert off: 200, no mail")
def test_dl_28_failure_without_alert(oncetask_cloud: OncetaskCloud) -> None:
    """
    A handler that does not want the alert gets none.
    """
    world = World(oncetask_cloud).open(max_attempts=1, alert_on=())
    failing(world)

    assert world.post(world.schedule()).status_code == 200
    assert world.cloud.alerts.sent == []


@row("DL-29", "a failed handler's changes are not stored")
def test_dl_29_changes_of_a_failed_attempt(world: World) -> None:
    """
    A raise saves no field.
    """
    failing(world)
    world.post(world.schedule())

    order = world.shop.locker.get(Order, "42")
    assert order is not None
    assert order.amount == 1


@row("DL-30", "200; sequence + 1, free, retries 0, changes saved, one task with the new sequence")
def test_dl_30_next_step(world: World) -> None:
    """
    Scheduling in a handler saves its changes with the next sequence and makes one task.
    """

    def charge(order: Order, attempt: Attempt) -> None:
        order.note = "charged"
        world.shop.locker.schedule(order)

    world.shop.on_charge = charge
    body = world.schedule()
    world.cloud.drop(world.cloud.local.tasks.tasks()[0].name)
    assert world.post(body).status_code == 200

    lock = world.lock()
    order = world.shop.locker.get(Order, "42")
    assert order is not None
    assert (lock.sequence, lock.status, lock.attempts, order.note) == (2, Status.SCHEDULED, 0, "charged")
    [task] = world.cloud.local.tasks.tasks()
    assert (json.loads(task.http_request.body)["sequence"], json.loads(task.http_request.body)["document"]) == (
        2,
        "orders/42",
    )


@row("DL-31", "enqueue fails: entity not saved, 500", "the commit is the schedule; the sweeper makes the lost task")
def test_dl_31_enqueue_fails(world: World) -> None:
    """
    A lost enqueue is no lost step.
    """
    body = world.schedule()
    world.shop.on_charge = lambda order, attempt: world.shop.locker.schedule(order) and None
    world.cloud.faults.fail("CreateTask", times=2)
    assert world.post(body).status_code == 200
    assert world.lock().sequence == 2

    world.cloud.advance(minutes=2)
    world.cloud.sweep()
    world.cloud.run_until_idle()
    assert world.shop.receipts == ["42"]


@row("DL-32", "entity write fails: no task")
def test_dl_32_write_fails(world: World) -> None:
    """
    Without a commit there is no task.
    """
    world.cloud.faults.fail("Commit", times=None, code=grpc.StatusCode.PERMISSION_DENIED)
    with pytest.raises(StoreError, match=r"roles/datastore\.user"):
        world.schedule()
    assert world.cloud.local.tasks.tasks() == []


@row("DL-33", "200; entity free, terminal, retries 0", "completed is a status of its own, no sentinel")
def test_dl_33_complete(world: World) -> None:
    """
    Completing ends the chain under its own name.
    """
    world.shop.on_charge = lambda order, attempt: world.shop.locker.complete(order, result={"ok": True})

    assert world.post(world.schedule()).status_code == 200
    assert (world.lock().status, world.lock().sequence) == (Status.COMPLETED, 1)
    assert world.shop.locker.result(Order, "42") == {"ok": True}


@row("DL-34", "must not run again (the ancestor fails this)")
def test_dl_34_late_copy_of_a_completed_chain(world: World) -> None:
    """
    A copy of the last step, a month late, runs nothing.
    """
    body = world.schedule()
    assert world.post(body).status_code == 200
    world.cloud.clock.advance(30 * 86_400)

    assert (world.post(body).status_code, world.post(body).json["outcome"], world.runs) == (200, "duplicate", 1)


@row("DL-35", "stored sequence 1, free; task carries 1")
def test_dl_35_first_schedule(world: World) -> None:
    """
    The first schedule is sequence 1.
    """
    body = world.schedule()
    assert (world.lock().sequence, world.lock().status, json.loads(body)["sequence"]) == (1, Status.SCHEDULED, 1)


def queues(world: World) -> list[str]:
    """
    Queues of the tasks that are queued.
    """
    return [task.name.split("/")[5] for task in world.cloud.local.tasks.tasks()]


@row("DL-36", "next task is on the delivering queue")
def test_dl_36_follow_up_stays_on_its_queue(world: World) -> None:
    """
    A follow-up goes to the queue that delivered.
    """
    world.cloud.local.tasks.create_queue(world.cloud.local.queue.replace("default", "q2"))
    body = world.schedule(queue="q2")
    world.shop.on_charge = lambda order, attempt: world.shop.locker.schedule(order) and None
    world.post(body)

    assert queues(world) == ["q2", "q2"]


@row("DL-37", "default queue d")
def test_dl_37_default_queue(oncetask_cloud: OncetaskCloud) -> None:
    """
    Outside a handler the configured queue is used.
    """
    world = World(oncetask_cloud)
    world.cloud.local.tasks.create_queue(world.cloud.local.queue.replace("default", "d"))
    world.shop = make_shop(Config(queue="d"))
    world.cloud.use(world.shop.locker)
    world.cloud.mount(URL, world.shop.app)
    world.schedule()
    assert queues(world) == ["d"]


@row("DL-38", "context forced to x: task is on x", "queue= of schedule()")
def test_dl_38_forced_queue(world: World) -> None:
    """
    A queue that is named wins, inside a handler too.
    """
    world.cloud.local.tasks.create_queue(world.cloud.local.queue.replace("default", "x"))
    body = world.schedule()
    world.shop.on_charge = lambda order, attempt: world.shop.locker.schedule(order, queue="x") and None
    world.post(body)

    assert sorted(queues(world)) == ["default", "x"]


@row("DL-39", "host override", "the absolute URL says the host; the base URL is configured, never guessed")
def test_dl_39_host(world: World) -> None:
    """
    An absolute URL goes where it says, if that is allowed, a path to the base URL.
    """
    world.schedule()
    allow(world.shop.locker, "https://v2---orders.test")
    world.shop.locker.schedule(Order(id="43"), "https://v2---orders.test/tasks/order")

    urls = sorted(task.http_request.url.split("/tasks")[0] for task in world.cloud.local.tasks.tasks())
    assert urls == [URL, "https://v2---orders.test"]


@row("DL-40", "ten steps each once, in order, with a spurious copy of step 6 during step 5")
def test_dl_40_ten_step_counter(oncetask_cloud: OncetaskCloud) -> None:
    """
    A chain of ten counts to ten, whatever copies arrive.
    """
    world = World(oncetask_cloud).open()
    app, locker, counted, spurious = world.shop.app, world.shop.locker, [], []

    @app.post("/count")
    @locked_handler(locker, Order)
    def count(order: Order, attempt: Attempt) -> None:
        counted.append(attempt.step)
        order.amount += 1
        if attempt.step == 5:
            copy = json.loads(json.dumps({**json.loads(body[0]), "sequence": 6, "contents": None}))
            token = oncetask_cloud.local.oidc.token("https://oncetask.test", ACCOUNT)
            posted = app.test_client().post("/count", json=copy, headers={"Authorization": f"Bearer {token}"})
            spurious.append(posted.json["outcome"])
        if attempt.step < 10:
            locker.schedule(order)
        else:
            locker.complete(order)

    locker.schedule(Order(id="c"), "/count")
    body = [bytes(oncetask_cloud.local.tasks.tasks()[0].http_request.body)]
    oncetask_cloud.run_until_idle()

    order = locker.get(Order, "c")
    assert order is not None
    assert (list(range(1, 11)), ["newer"], 10) == (counted, spurious, order.amount)
    assert Status.COMPLETED is world.lock("c").status


@row("DL-41", "child completed, parent's follow-up enqueued, all or nothing")
def test_dl_41_two_entities_in_one_transaction(world: World) -> None:
    """
    The attempt's transaction moves both, or neither.
    """

    def charge(order: Order, attempt: Attempt) -> None:
        if order.id == "parent":
            return

        def both(txn: firestore.Transaction) -> None:
            world.shop.locker.complete(order, transaction=txn)
            world.shop.locker.schedule(Order(id="parent"), "/tasks/order", transaction=txn)

        attempt.run_transaction(both)

    world.shop.on_charge = charge
    world.schedule()
    world.cloud.run_until_idle()

    assert [world.lock().status, world.lock("parent").status] == [Status.COMPLETED, Status.COMPLETED]


@row("DL-42", "an option's error: constructor fails")
def test_dl_42_wrong_option(world: World) -> None:
    """
    A wrong setting fails when the locker is made.
    """
    with pytest.raises(ConfigError):
        Locker(config=Config(verify="sometimes"))  # type: ignore[arg-type]  # the wrong value is the point


@row("DL-43", "60 s / 630 s / 10 retries / alerts off", "11 executions; alerts are on unless switched off")
def test_dl_43_defaults(world: World) -> None:
    """
    The ancestor's durations are the defaults.
    """
    defaults = {name: p.default for name, p in inspect.signature(entity_handler).parameters.items()}

    assert (defaults["lease_duration"], defaults["lease_timeout"], defaults["max_attempts"]) == (60.0, 630.0, 11)
    assert defaults["alert_on"] == ("takeover", "failure", "quarantine")


@row(
    "DL-44",
    "503 until the timeout, then exactly one takeover",
    "409, then 200 once the sweeper's due time is behind it",
)
def test_dl_44_death_without_a_trace(world: World) -> None:
    """
    A step whose process died is refused until the timeout, then taken over once.
    """

    def die(order: Order, attempt: Attempt) -> None:
        if attempt.number == 1:
            raise Killed

    world.shop.on_charge = die
    world.schedule()
    world.cloud.advance(minutes=10)
    assert world.runs == 1
    for _ in range(5):
        world.cloud.advance(minutes=1)
        world.cloud.sweep()

    assert (world.runs, world.lock().status) == (2, Status.COMPLETED)
    assert [a.event for a in world.cloud.alerts.sent] == [Event.TAKEOVER]


@row("DL-45", "abort flag: 200 without work, so the queue drains", "cancel() is the flag")
def test_dl_45_cancelled_chain_drains(world: World) -> None:
    """
    Deliveries of a cancelled chain are acknowledged without work.
    """
    world.schedule()
    assert world.shop.locker.cancel(Order, "42")
    world.cloud.run_until_idle()

    assert ([d.status for d in world.cloud.deliveries], world.runs, world.lock().status) == ([200], 0, Status.CANCELLED)
    assert world.cloud.local.tasks.tasks() == []
