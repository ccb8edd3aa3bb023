"""
Functions that exclude each other, and functions that run once per key.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from gcp_oncetask import (
    Config,
    LeaseLostError,
    LockBusyError,
    Locker,
    ResultNotStoredError,
    Status,
    StoreError,
    TaskConflictError,
    UsageError,
    locked,
    once,
)
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.orders import Killed


@pytest.fixture
def locker(oncetask_cloud: OncetaskCloud) -> Locker:
    """
    A locker on the test's cloud.
    """
    locker = Locker(config=Config())
    oncetask_cloud.use(locker)
    locker._runtime.store.estimate()
    return locker


def documents(locker: Locker, collection: str = "onceLocks") -> dict[str, dict[str, Any]]:
    """
    What is stored, by id.
    """
    return {each.id: each.to_dict() or {} for each in locker.client.collection(collection).stream()}


def the_lock(locker: Locker) -> Lock:
    """
    The record of the only document, but for what is known of alerts.
    """
    [id_] = [each for each in documents(locker) if ":windows:" not in each]
    return locker.show(f"onceLocks/{id_}")


# --- locked -----------------------------------------------------------------------------------------------------------


def test_locked_function_excludes_equal_calls(locker: Locker) -> None:
    """
    While one runs, an equal call raises LockBusyError and does not run; another one runs; afterwards it runs again.
    """
    ran: list[tuple[str, str]] = []

    @locked(locker, ttl=60)
    def join(a: str, b: str = "c") -> str:
        ran.append((a, b))
        if len(ran) == 1:
            with pytest.raises(LockBusyError) as busy:
                join("a-b", b="c")
            assert busy.value.until is not None
            assert join("a", "b-c") == "a/b-c"
        return f"{a}/{b}"

    assert join("a-b") == "a-b/c"
    assert join("a-b", "c") == "a-b/c"
    assert ran == [("a-b", "c"), ("a", "b-c"), ("a-b", "c")]
    assert join.__name__ == "join"


def test_locked_costs(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    One read and two commits around a call.
    """
    work = locked(locker, ttl=60, name="work")(lambda: None)
    firestore = oncetask_cloud.local.firestore
    firestore.reset_counts()
    work()

    assert dict(firestore.counts) == {"BatchGetDocuments": 1, "Commit": 2}


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("graph", "graph"),
        (lambda order: f"order-{order['id']}", "order-7"),
        (lambda order: None, "jobs.work"),
        (lambda order: ["order", order["id"]], 'jobs.work["order",7]'),
        (None, 'jobs.work{"order":{"id":7}}'),
    ],
)
def test_lock_is_named_by_the_key(locker: Locker, key: Any, name: str) -> None:
    """
    A text is the lock's whole name; other data, nothing and the arguments stand behind the function's.
    """

    @locked(locker, key=key, ttl=60, name="jobs.work")
    def work(order: dict[str, int]) -> list[str]:
        return [each["name"] for each in documents(locker).values()]

    assert work({"id": 7}) == [name]


def test_locks_collection_ttl_and_name_are_the_users(locker: Locker) -> None:
    """
    The ttl may follow from the arguments; the document is where it is asked for, under the function's own name by default.
    """

    @locked(locker, ttl=lambda hours: timedelta(hours=hours), collection="customers/7/locks")
    def work(hours: int) -> tuple[str, float]:
        [stored] = documents(locker, "customers/7/locks").values()
        return stored["name"], stored["lock"]["leaseSeconds"]

    name, seconds = work(12)
    assert name.endswith('test_locks_collection_ttl_and_name_are_the_users.<locals>.work{"hours":12}')
    assert name.startswith(f"{__name__}.")
    assert seconds == 12 * 3600
    assert documents(locker) == {}


def test_lock_is_in_the_lockers_own_database(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    Another client, another database, another lock.
    """
    other = Locker(config=Config(database="locks"))
    oncetask_cloud.use(other)
    seen: list[int] = []

    def work() -> None:
        seen.extend(len(documents(each)) for each in (locker, other))

    locked(other, key="graph", ttl=60)(work)()
    assert seen == [0, 1]


def test_busy_lock_is_skipped_waited_for_or_called_back(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    ``skip`` returns None, ``wait`` waits and then runs, a function decides for itself, with error and arguments.
    """
    told: list[tuple[str, int, int]] = []

    def busy(error: LockBusyError, a: int, *, b: int) -> str:
        told.append((error.name, a, b))
        return "busy"

    def work(a: int, *, b: int) -> str:
        return "ran"

    held = locker.lock("graph", ttl=60)
    held.acquire()
    assert locked(locker, key="graph", on_busy="skip")(work)(1, b=2) is None
    assert locked(locker, key="graph", on_busy=busy)(work)(1, b=2) == "busy"
    assert told == [("graph", 1, 2)]
    with pytest.raises(LockBusyError):
        locked(locker, key="graph", on_busy="wait", timeout=30)(work)(1, b=2)
    assert locked(locker, key="graph", on_busy="wait")(work)(1, b=2) == "ran"
    assert locked(locker, key="graph", on_busy=busy)(work)(1, b=2) == "ran"


def lost_calls(
    cloud: OncetaskCloud, locker: Locker, *, taken: bool, error: Exception | None, trouble: Exception | None = None
) -> tuple[list[tuple[bool, int]], Any]:
    """
    Run a function past its ttl; what its callback was told, and what came back.
    """
    told: list[tuple[bool, int]] = []

    def on_lost(lost: LeaseLostError, number: int) -> None:
        told.append((lost.taken_over, number))
        if trouble is not None:
            raise trouble

    @locked(locker, key="graph", ttl=10, on_lost=on_lost)
    def work(number: int) -> str:
        cloud.advance(seconds=11)
        if taken:
            locker.lock("graph", ttl=100).acquire()
        if error is not None:
            raise error
        return "done"

    try:
        return told, work(7)
    except Exception as raised:
        return told, raised


@pytest.mark.parametrize("taken", [True, False])
def test_lost_lock_calls_back_exactly_once(oncetask_cloud: OncetaskCloud, locker: Locker, taken: bool) -> None:
    """
    Taken over or just run out: one callback, and the function's result or exception goes on.
    """
    assert lost_calls(oncetask_cloud, locker, taken=taken, error=None) == ([(taken, 7)], "done")
    assert the_lock(locker).status is (Status.LEASED if taken else Status.SCHEDULED)
    oncetask_cloud.advance(seconds=100)
    error = ValueError("mine")
    assert lost_calls(oncetask_cloud, locker, taken=taken, error=error) == ([(taken, 7)], error)


def test_callbacks_trouble_hides_nothing(
    oncetask_cloud: OncetaskCloud, locker: Locker, caplog: pytest.LogCaptureFixture
) -> None:
    """
    What on_lost raises is the caller's, unless the function itself raised: that goes on, and the other is logged.
    """
    error, trouble = ValueError("mine"), KeyError("the callback's")
    assert lost_calls(oncetask_cloud, locker, taken=False, error=None, trouble=trouble) == ([(False, 7)], trouble)
    assert lost_calls(oncetask_cloud, locker, taken=False, error=error, trouble=trouble) == ([(False, 7)], error)

    assert "on_lost failed" in caplog.text


def test_lost_lock_is_logged_by_default(
    oncetask_cloud: OncetaskCloud, locker: Locker, caplog: pytest.LogCaptureFixture
) -> None:
    """
    An error that names the document.
    """
    locked(locker, key="graph", ttl=10, name="work")(lambda: oncetask_cloud.advance(seconds=11))()

    [record] = [each for each in caplog.records if each.name == "gcp_oncetask"]
    assert record.levelno == logging.ERROR
    assert "had run out before the lock 'graph' was released" in record.message


def test_failed_release_does_not_take_the_result(
    oncetask_cloud: OncetaskCloud, locker: Locker, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Firestore goes away while the function runs: its result is returned, and the log says that the lock stays.
    """

    def work() -> str:
        oncetask_cloud.faults.fail("*", times=None)
        return "done"

    assert locked(locker, key="graph", ttl=100)(work)() == "done"
    assert "The lock 'graph' could not be released" in caplog.text


def test_methods_are_locked_with_a_key(locker: Locker) -> None:
    """
    ``self`` has no canonical form: the error says so, and a key helps.
    """

    class Service:
        @locked(locker, ttl=60)
        def bad(self, id_: str) -> str:
            return id_

        @locked(locker, ttl=60, key=lambda self, id_: f"service-{id_}")
        def good(self, id_: str) -> str:
            return f"{id_}!"

    with pytest.raises(UsageError, match=r"'self' can't be part of a key: a .*Service has no canonical form"):
        Service().bad("1")
    assert Service().good("1") == "1!"
    assert len(documents(locker)) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_busy": "drop"}, "must be .raise., .skip. or .wait.*A function"),
        ({"timeout": 3}, "timeout= is for"),
    ],
)
def test_senseless_options_are_refused_at_decoration(locker: Locker, options: Any, message: str) -> None:
    """
    Before anything runs.
    """
    with pytest.raises(UsageError, match=message):
        locked(locker, **options)


# --- once -------------------------------------------------------------------------------------------------------------


class Receipt(BaseModel):
    amount: int
    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)


class Charges:
    """
    A function that runs once per event, and what it did.
    """

    def __init__(self, locker: Locker, **options: Any) -> None:
        self.ran: list[str] = []
        self.then: Callable[[], Any] = lambda: None
        options.setdefault("key", lambda event, amount: event)
        options.setdefault("result", Receipt)

        def charge(event: str, amount: int) -> Any:
            self.ran.append(event)
            value = self.then()
            return Receipt(amount=amount) if value is None else value

        self.charge = once(locker, name="charge", **options)(charge)


def test_function_runs_once_and_its_result_is_replayed(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    Two commits and no read; a second call returns an equal, typed result for one failed create and one read; also a year later.
    """
    charges = Charges(locker)
    firestore = oncetask_cloud.local.firestore
    firestore.reset_counts()
    first = charges.charge("e1", 5)
    assert (dict(firestore.counts), firestore.reads, firestore.writes) == ({"Commit": 2}, 0, 2)

    for _ in range(2):
        firestore.reset_counts()
        assert charges.charge("e1", amount=5) == first == Receipt(amount=5)
        assert (dict(firestore.counts), firestore.writes) == ({"Commit": 1, "GetDocument": 1}, 0)
        oncetask_cloud.advance(days=365)
    assert charges.ran == ["e1"]
    assert charges.charge("e2", 5) == first
    assert charges.ran == ["e1", "e2"]


def test_running_key_is_busy(locker: Locker) -> None:
    """
    A call beside the running one raises LockBusyError, with the instant at which that lease ends.
    """
    charges = Charges(locker, ttl=60)
    busy: list[LockBusyError] = []

    def again() -> None:
        with pytest.raises(LockBusyError) as caught:
            charges.charge("e1", 5)
        busy.append(caught.value)

    charges.then = again
    charges.charge("e1", 5)
    [error] = busy
    granted = the_lock(locker).granted_at
    assert granted is not None
    assert (error.key, error.name, error.until) == ("e1", "charge", granted + timedelta(seconds=60))
    assert charges.ran == ["e1"]


def test_other_payload_for_the_same_key_is_a_conflict(locker: Locker) -> None:
    """
    Also while the first one runs, and after it failed: it is never run, never answered with the other's result.
    """
    charges = Charges(locker)

    def fail() -> None:
        with pytest.raises(TaskConflictError):
            charges.charge("e1", 6)
        raise ValueError("mine")

    charges.then = fail
    with pytest.raises(ValueError, match="mine"):
        charges.charge("e1", 5)
    with pytest.raises(TaskConflictError, match="'e1' with another payload"):
        charges.charge("e1", 6)
    charges.then = lambda: None
    charges.charge("e1", 5)
    with pytest.raises(TaskConflictError):
        charges.charge("e1", 6)
    assert charges.ran == ["e1", "e1"]


def test_payload_is_what_it_is_told_to_be(locker: Locker) -> None:
    """
    Arguments that have no canonical form are named, with the option that does without them.
    """

    def handle(event: str, session: object) -> str:
        return event

    with pytest.raises(UsageError, match=r"'session' can't be part of a key.* Give payload="):
        once(locker, key=lambda event, session: event)(handle)("e1", object())
    run = once(locker, key=lambda event, session: event, payload=lambda event, session: None)(handle)
    assert [run("e1", object()), run("e1", object())] == ["e1", "e1"]


def test_dead_holder_is_taken_over_when_its_lease_has_ended(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    By the server's clock, not before; the failure stays in the record.
    """
    charges = Charges(locker, ttl=60)

    def die() -> None:
        raise Killed

    charges.then = die
    with pytest.raises(Killed):
        charges.charge("e1", 5)
    charges.then = lambda: None
    oncetask_cloud.advance(seconds=59)
    with pytest.raises(LockBusyError):
        charges.charge("e1", 5)
    oncetask_cloud.advance(seconds=1.1)

    assert charges.charge("e1", 5) == Receipt(amount=5)
    lock = the_lock(locker)
    assert (lock.status, lock.attempts, [e.message for e in lock.errors]) == (Status.COMPLETED, 2, ["lease expired"])


def test_late_holder_writes_nothing_and_is_told(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    A run past its limit that was taken over gets LeaseLostError; the stored result is the other's.
    """
    charges = Charges(locker, ttl=60, run_limit=120)
    results: list[Any] = []

    def slow() -> None:
        charges.then = lambda: Receipt(amount=99)
        oncetask_cloud.advance(seconds=121)
        results.append(charges.charge("e1", 5))

    charges.then = slow
    with pytest.raises(LeaseLostError):
        charges.charge("e1", 5)
    assert results == [Receipt(amount=99)]
    assert charges.charge("e1", 5) == Receipt(amount=99)
    assert charges.ran == ["e1", "e1"]


def test_lease_is_renewed_while_the_function_runs(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    Ten minutes under a lease of one: nobody may take over.
    """
    charges = Charges(locker, ttl=60)

    def slow() -> None:
        for _ in range(20):
            before = the_lock(locker).leased_at
            oncetask_cloud.advance(seconds=30)
            for _ in range(500):
                if the_lock(locker).leased_at != before:
                    break
                threading.Event().wait(0.01)
        with pytest.raises(LockBusyError):
            charges.charge("e1", 5)

    charges.then = slow
    charges.charge("e1", 5)
    assert charges.ran == ["e1"]
    assert the_lock(locker).attempts == 1


@pytest.mark.parametrize(
    "values",
    [
        (b"\xab\xcd", "abcd", bytearray(b"\xab\xcd")),
        (
            date(2026, 1, 1),
            "2026-01-01",
            datetime(2026, 1, 1),
            datetime(2026, 1, 1, tzinfo=UTC),
            "2026-01-01T00:00:00Z",
        ),
        (Decimal("1.5"), "1.5", 1.5),
        (UUID(int=1), str(UUID(int=1))),
        (timedelta(days=1), "P1D", 86400.0),
        ((1, 2), [1, 2], {1, 2}, frozenset({1, 2})),
        (Receipt(amount=1), Receipt(amount=1).model_dump(mode="json")),
        (Status.LEASED, "leased"),
    ],
)
def test_values_of_different_types_are_different_calls(locker: Locker, values: tuple[Any, ...]) -> None:
    """
    Each runs, under a lock and a key of its own, and gets its own result back.
    """
    run = once(locker, name="f")(lambda value: type(value).__name__)
    locks = locked(locker, ttl=60, name="g")(lambda value: [each["name"] for each in documents(locker).values()])

    assert [run(value) for value in values] == [type(value).__name__ for value in values]
    assert [run(value) for value in reversed(values)] == [type(value).__name__ for value in reversed(values)]
    held = [[name for name in locks(value) if name.startswith("g{")] for value in values]
    assert len({name for names in held for name in names}) == len(values)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))),
        (Decimal("1.0"), Decimal("1.00")),
        ({"a", "b", "c"}, {"c", "b", "a"}),
        (Receipt(amount=1), Receipt(at=datetime(2026, 1, 1, tzinfo=UTC), amount=1)),
    ],
)
def test_equal_values_of_one_type_are_one_call(locker: Locker, one: Any, other: Any) -> None:
    """
    As arguments, as a key, and as a payload: neither runs twice, neither is a conflict.
    """
    ran: list[Any] = []
    for options in ({}, {"key": lambda value: value}, {"key": "k", "payload": lambda value: [value]}):
        ran.clear()
        run = once(locker, name=f"f{len(documents(locker))}", **options)(ran.append)
        run(one)
        run(other)
        assert len(ran) == 1


def test_raising_function_is_noted_and_may_run_again(locker: Locker) -> None:
    """
    The caller gets the function's own exception, the record its words; the next call runs.
    """
    charges = Charges(locker)

    def fail() -> None:
        raise ValueError("no money")

    charges.then = fail
    for number in (1, 2):
        with pytest.raises(ValueError, match="no money"):
            charges.charge("e1", 5)
        lock = the_lock(locker)
        assert (lock.status, lock.attempts) == (Status.SCHEDULED, number)
    charges.then = lambda: None
    charges.charge("e1", 5)

    lock = the_lock(locker)
    assert [e.message for e in lock.errors] == ["ValueError: no money"] * 2
    assert (lock.status, lock.result["amount"], lock.due) == (Status.COMPLETED, 5, None)


def test_failure_that_can_not_be_noted_hides_nothing(
    oncetask_cloud: OncetaskCloud, locker: Locker, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Firestore is gone when the function raises: its exception goes on, and the other trouble is logged.
    """
    charges = Charges(locker)

    def fail() -> None:
        oncetask_cloud.faults.fail("*", times=None)
        raise ValueError("mine")

    charges.then = fail
    with pytest.raises(ValueError, match="mine"):
        charges.charge("e1", 5)
    assert "The function had raised ValueError, which goes on" in caplog.text


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (object(), "is no JSON data"),
        ("x" * 70_000, "at most 65536 are kept"),
        ({"amount": "many"}, "does not fit result=: amount"),
    ],
)
def test_result_that_cannot_be_stored_is_lost_and_nothing_runs_again(locker: Locker, value: Any, message: str) -> None:
    """
    What can't be kept, or does not fit: it has run, so every call is told that, and none runs it again.
    """
    charges = Charges(locker)
    charges.then = lambda: value
    for _ in range(2):
        with pytest.raises(ResultNotStoredError, match=message):
            charges.charge("e1", 5)

    lock = the_lock(locker)
    assert (lock.status, lock.result, lock.attempts) == (Status.COMPLETED, None, 1)
    assert message in (lock.returned.lost or "")


def test_first_caller_gets_what_no_other_can(locker: Locker, caplog: pytest.LogCaptureFixture) -> None:
    """
    Without ``result=``: the call that ran it has its value at hand.
    """
    value = object()
    run = once(locker, name="f")(lambda n: value)

    assert run(1) is value
    assert "its result could not be stored" in caplog.text
    with pytest.raises(ResultNotStoredError) as error:
        run(1)
    assert (error.value.name, "object" in error.value.reason) == ("f", True)


def test_untyped_results_are_json_both_times(locker: Locker) -> None:
    """
    The first call returns what the second one will.
    """
    run = once(locker, name="f")(lambda n: (n, {"at": datetime(2026, 1, 1, tzinfo=UTC)}))

    assert run(1) == run(1) == [1, {"at": "2026-01-01T00:00:00Z"}]
    assert run(2) != run(1)


def test_result_of_another_shape_is_a_clear_error(locker: Locker) -> None:
    """
    What an older version of the program stored is not passed off as the new model.
    """
    Charges(locker, result=None).charge("e1", 5)

    class Bigger(BaseModel):
        total: int

    with pytest.raises(UsageError, match="total: Field required"):
        Charges(locker, result=Bigger).charge("e1", 5)


def test_retention_lets_the_key_run_again(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    With ``retention`` TTL retires the result, without it never.
    """
    oncetask_cloud.local.firestore.set_ttl("onceLocks", "expireAt")
    short, long = Charges(locker, retention=timedelta(days=30)), Charges(locker, key=lambda event, amount: None)
    for _ in range(2):
        short.charge("e1", 5)
        long.charge("e1", 5)
        oncetask_cloud.advance(days=40)

    assert short.ran == ["e1", "e1"]
    assert long.ran == ["e1"]


def test_environments_functions_and_locks_do_not_meet(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    The same key of another function, of another environment, and a lock of that name are other documents.
    """
    other = Locker(config=Config(env="TEST"))
    oncetask_cloud.use(other)
    ran = [
        once(locker, key="x", name="f")(lambda: "f")(),
        once(locker, key="x", name="g")(lambda: "g")(),
        once(other, key="x", name="f")(lambda: "test")(),
        once(locker, key=lambda: None, name="f")(lambda: "ever")(),
    ]
    with locker.lock("x"):
        assert ran == ["f", "g", "test", "ever"]
        assert len(documents(locker)) == 5


def test_claim_of_unknown_fate_did_not_run(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    StoreError before the function: it did not run, and runs once the lease that may have been granted has ended.
    """
    charges = Charges(locker, ttl=60)
    oncetask_cloud.faults.fail("Commit", when="after")
    oncetask_cloud.faults.fail("*", times=None)
    with pytest.raises(StoreError) as caught:
        charges.charge("e1", 5)
    assert (charges.ran, caught.value.unknown) == ([], True)
    oncetask_cloud.faults.clear()
    with pytest.raises(LockBusyError):
        charges.charge("e1", 5)
    oncetask_cloud.advance(seconds=61)

    assert charges.charge("e1", 5) == Receipt(amount=5)
    assert charges.ran == ["e1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ttl": 1}, "more than twice the margin"),
        ({"ttl": 60, "run_limit": 59}, r"run_limit \(59 s\) must be at least the ttl"),
    ],
)
def test_senseless_durations_are_refused_at_decoration(locker: Locker, options: Any, message: str) -> None:
    """
    Before anything runs.
    """
    with pytest.raises(UsageError, match=message):
        once(locker, **options)
