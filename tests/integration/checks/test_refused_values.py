"""
Values that can't be: every public call that takes one, with every bad value of its sort. Each is one UsageError that names the
option, and neither a document nor a Cloud Task has changed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from pydantic import PrivateAttr

from gcp_oncetask import (
    Attempt,
    Config,
    Continue,
    ExponentialBackoff,
    Fail,
    FixedDelay,
    LockedModel,
    Locker,
    NoRetry,
    Retry,
    Snooze,
    Status,
    UsageError,
    locked,
    once,
)
from gcp_oncetask.flask import blueprint, locked_handler
from gcp_oncetask.tasks import OnceTask, PerTask, TaskData, TaskManager, cron, every, explain, queue_kind
from gcp_oncetask.testing import OncetaskCloud
from gcp_oncetask.worker import Worker

NAN: Final = float("nan")
INF: Final = float("inf")
EAST: Final = timezone(timedelta(hours=14))
WEST: Final = timezone(timedelta(hours=-12))

LENGTHS: Final = (NAN, INF, -INF, -1, 1e300, 10**400, "5", True, b"1", Decimal(1), timedelta.max, timedelta.min, [])
NO_LENGTHS: Final = (*LENGTHS, 0, timedelta(0), None)
"""Where nothing must not be."""
INSTANTS: Final = (
    datetime(2026, 1, 1),
    datetime.max,  # noqa: DTZ901 - likewise
    datetime.min,  # noqa: DTZ901
    datetime.max.replace(tzinfo=UTC),
    datetime.min.replace(tzinfo=UTC),
    datetime.max.replace(tzinfo=WEST),
    datetime.max.replace(tzinfo=EAST),
    datetime.min.replace(tzinfo=EAST),
    datetime.min.replace(tzinfo=WEST),
    datetime.max.replace(tzinfo=ZoneInfo("America/New_York")),
    datetime.min.replace(tzinfo=ZoneInfo("Asia/Tokyo")),
    datetime(9999, 1, 1, tzinfo=UTC),
    datetime(1969, 12, 31, tzinfo=UTC),
    date(2026, 1, 1),
    "2026-01-01T00:00:00Z",
    1767225600.0,
)
BEYOND: Final = tuple(at for at in INSTANTS if not isinstance(at, datetime) or at.utcoffset() is None)
DATA_NAMED: Final = r"data\S*( of| holds| is nested| has more)|field .data"
NOTE_NAMED: Final = r"note\S* of Parcel|Parcel can.t be stored: (a key in )?note"
OUTSIDE: Final = (datetime.max.replace(tzinfo=WEST), datetime.min.replace(tzinfo=EAST))
"""What no calendar has in UTC."""
NAMES: Final = ("", "\ud800", "a\udfffb", "a\0b", 5, b"x", b"\xff")
URLS: Final = (
    "",
    "tasks/order",
    "//evil.test/x",
    "ftp://orders.test/x",
    "HTTPS://orders.test/x",
    "https:",
    "https://",
    "https:///x",
    "https://?x",
    "https://user:pw@orders.test/x",
    "https://user@orders.test/x",
    "https://orders.test/x#part",
    "/x#part",
    "/x y",
    "/x\r\nHost: evil.test",
    "/x\n",
    "\t/x",
    "/x\0",
    "/x\\y",
    "/x\ud800",
    "https://orders.test:0/x",
    "https://orders.test:99999/x",
    "https://orders.test:\uff18\uff10/x",
    "https://orders.test:x/x",
    "https://[::1/x",
    "https://or ders.test/x",
    "https://orders.test\\@evil.test/x",
    "https://-orders.test/x",
    "/" + "x" * 3000,
    "/" + "ü" * 1000,
    5,
    b"/x",
)
HEADERS: Final = (
    {"": "x"},
    {"X Y": "x"},
    {"X:": "x"},
    {"X\n": "x"},
    {"Xü": "x"},
    {5: "x"},
    {"X": "a\r\nY: b"},
    {"X": "a\0"},
    {"X": " a"},
    {"X": "ü"},
    {"X": "\ud800"},
    {"X": 5},
    {"X": None},
    {"X": "1", "x": "2"},
    {"Authorization": "Bearer x"},
    {"host": "evil.test"},
    {"Content-Length": "0"},
    {"content-type": "text/plain"},
    {"Transfer-Encoding": "chunked"},
    {"X-CloudTasks-TaskName": "x"},
    {"x-cloudtasks-queuename": "x"},
    {"X-Google-Anything": "x"},
    {"X-AppEngine-TaskName": "x"},
    {"X": "x" * 80_000},
    {f"X-{number}": "x" * 100 for number in range(800)},
    "X: y",
    [("X", "y")],
    5,
)
QUEUES: Final = (
    "",
    "a b",
    "a\n",
    "a_b",
    "ü",
    "x" * 101,
    "projects/p/queues/q",
    "projects/p/locations/l/queues/a\nb",
    "projects/p/locations/l/queues/",
    "/q",
    5,
    b"q",
)
COLLECTIONS: Final = ("", "a/b", "a//b", "/a", ".", "..", "__x__", "a\0", "\ud800", "x" * 1501, 5, b"x")
DATA: Final = (
    "\ud800",
    ["x", "\udfff"],
    {"\ud800": 1},
    {"deep": [{"er": "\ud800"}]},
    2**63,
)
COUNTS: Final = (0, -1, 1.5, "3", True, NAN, 2**63, b"1")
FACTORS: Final = (0, -1, NAN, INF, 10**400, "2", True)


class Parcel(LockedModel, collection="shops/{shop}/parcels"):
    shop: str = "1"
    note: Any = ""
    times: Any = None


class Job(TaskData, kind="refused-job"):
    name: str = "a"
    data: Any = None

    def payload(self) -> dict[str, Any]:
        # Of what the methods return nothing is stored.
        options, self._options = self._options, {}
        try:
            return super().payload()
        finally:
            self._options = options

    _options: dict[str, Any] = PrivateAttr(default_factory=dict)

    def task_id(self) -> str:
        return self._options.get("id", "same")  # type: ignore[no-any-return]  # whatever a test wants

    def resource_key(self) -> str | None:
        return self._options.get("key")

    def scheduled_at(self) -> datetime | None:
        return self._options.get("at")


def job(data: Any = None, **options: Any) -> Job:
    """
    A payload with *data*, whose methods return the *options*.
    """
    made = Job(data=data)
    made._options = options
    return made


class Raw(TaskData, kind="refused-raw"):
    raw: bytes = b""


class Pulled(TaskData, kind="refused-pulled", pull=True):
    pass


class World:
    """
    A locker with one stored document and one task, and a manager.
    """

    def __init__(self, cloud: OncetaskCloud) -> None:
        self.cloud = cloud
        self.locker = Locker(config=Config())
        self.manager = TaskManager(self.locker)
        cloud.use(self.locker)
        self.app = Flask("refused")
        cloud.mount("https://orders.test", self.app)
        self.locker.schedule(Parcel(id="there"), "/tasks/parcel", delay=3600)
        self.manager.create_task(job(id="there", key="k"))
        self.manager.register_task_handler(Pulled, lambda task, attempt: None)
        self.worker = Worker(self.manager, listen=False)
        self.lock = self.locker.lock("free")

    def parcel(self) -> Parcel:
        """
        The stored one, loaded.
        """
        found: Parcel = self.locker.get(Parcel, "there", shop="1")
        return found

    def stored(self) -> tuple[Any, ...]:
        """
        All documents and all Cloud Tasks.
        """
        local = self.cloud.local
        documents = {path: str(document) for path, document in local.firestore.documents(local.project).items()}
        return documents, [task.name for task in local.tasks.tasks()]


@pytest.fixture
def world(oncetask_cloud: OncetaskCloud) -> World:
    """
    One of the test's own.
    """
    return World(oncetask_cloud)


Call = Callable[[World, Any], object]


def declared(**options: Any) -> object:
    """
    A kind of a class with these arguments.
    """
    return type("Declared", (TaskData,), {"__module__": __name__}, kind="refused-declared", **options)


def one_call(**options: Any) -> Callable[[Locker], object]:
    """
    Calls a function that is locked with these options.
    """

    def work() -> None:
        pass

    return lambda locker: locked(locker, **options)(work)()


def saved(world: World, **fields: Any) -> object:
    """
    Saves the loaded parcel with these fields.
    """
    parcel = world.parcel()
    for name, value in fields.items():
        setattr(parcel, name, value)
    return world.locker.save(parcel)


def moved_on(world: World, **fields: Any) -> object:
    """
    Completes the loaded parcel, from outside, with these fields.
    """
    parcel = world.parcel()
    for name, value in fields.items():
        setattr(parcel, name, value)
    return world.locker.complete(parcel)


def handled(world: World, **options: Any) -> object:
    """
    Decorates a handler with these options.
    """
    return locked_handler(world.locker, Parcel, **options)


def registered(world: World, **options: Any) -> object:
    """
    Registers a handler with these options.
    """
    return world.manager.register_task_handler(Job, lambda task, attempt: None, **options)


HOURLY: Final = every(timedelta(hours=1))
CALLS: Final[tuple[tuple[str, str, Sequence[Any], Call], ...]] = (
    # name of the call, what the error names, bad values, the call
    ("schedule delay", "delay", LENGTHS, lambda w, v: w.locker.schedule(Parcel(id="new"), "/x", delay=v)),
    ("add_task delay", "delay", LENGTHS, lambda w, v: w.manager.add_task("refused-queue", "k", delay=v)),
    ("Snooze", "delay", (*LENGTHS, None), lambda w, v: Snooze(v)),
    ("Retry after", "after", LENGTHS, lambda w, v: Retry("no", after=v)),
    ("Continue delay", "delay", LENGTHS, lambda w, v: Continue(delay=v)),
    ("PerTask.finished", "again", (*LENGTHS, None), lambda w, v: PerTask.finished([], again=v)),
    ("FixedDelay", "delay", (*LENGTHS, None), lambda w, v: FixedDelay(delay=v)),
    ("backoff initial", "initial", (*LENGTHS, None), lambda w, v: ExponentialBackoff(initial=v)),
    ("backoff maximum", "maximum", (*LENGTHS, None), lambda w, v: ExponentialBackoff(maximum=v)),
    ("backoff multiplier", "multiplier", FACTORS, lambda w, v: ExponentialBackoff(multiplier=v)),
    ("backoff jitter", "jitter", (*FACTORS[1:], 1.1), lambda w, v: ExponentialBackoff(jitter=v)),
    ("lock ttl", "ttl", [v for v in LENGTHS if v != []], lambda w, v: w.locker.lock("n", ttl=v)),
    ("lock keep_alive", "keep_alive", [v for v in LENGTHS if v != []], lambda w, v: w.locker.lock("n", keep_alive=v)),
    ("lock timeout", "timeout", LENGTHS, lambda w, v: w.locker.lock("n", timeout=v)),
    ("acquire timeout", "timeout", LENGTHS, lambda w, v: w.lock.acquire(timeout=v)),
    ("locked ttl", "ttl", LENGTHS, lambda w, v: locked(w.locker, ttl=v)),
    ("locked ttl of a call", "ttl", [v for v in LENGTHS if v != []], lambda w, v: one_call(ttl=lambda: v)(w.locker)),
    ("locked keep_alive", "keep_alive", LENGTHS, lambda w, v: locked(w.locker, keep_alive=v)),
    ("locked timeout", "timeout", LENGTHS, lambda w, v: locked(w.locker, on_busy="wait", timeout=v)),
    ("once ttl", "ttl", NO_LENGTHS, lambda w, v: once(w.locker, ttl=v)),
    ("once run_limit", "run_limit", NO_LENGTHS, lambda w, v: once(w.locker, run_limit=v)),
    ("once retention", "retention", LENGTHS, lambda w, v: once(w.locker, retention=v)),
    ("handler lease_duration", "lease_duration", NO_LENGTHS, lambda w, v: handled(w, lease_duration=v)),
    ("handler lease_timeout", "lease_timeout", NO_LENGTHS, lambda w, v: handled(w, lease_timeout=v)),
    ("handler run_limit", "run_limit", LENGTHS, lambda w, v: handled(w, run_limit=v)),
    ("handler max_attempts", "max_attempts", COUNTS, lambda w, v: handled(w, max_attempts=v)),
    ("task handler lease_duration", "lease_duration", NO_LENGTHS, lambda w, v: registered(w, lease_duration=v)),
    ("task handler lease_timeout", "lease_timeout", NO_LENGTHS, lambda w, v: registered(w, lease_timeout=v)),
    ("task handler run_limit", "run_limit", LENGTHS, lambda w, v: registered(w, run_limit=v)),
    ("policy attempts", "max_attempts", COUNTS, lambda w, v: FixedDelay(delay=1, max_attempts=v)),
    ("backoff attempts", "max_attempts", COUNTS, lambda w, v: ExponentialBackoff(max_attempts=v)),
    ("NoRetry attempts", "max_attempts", COUNTS, lambda w, v: NoRetry(max_attempts=v)),
    ("kind retention", "retention", LENGTHS, lambda w, v: declared(retention=v)),
    ("kind max_running", "max_running", COUNTS, lambda w, v: declared(max_running=v)),
    ("queue_kind retention", "retention", LENGTHS, lambda w, v: queue_kind("refused-other", retention=v)),
    ("worker poll_interval", "poll_interval", NO_LENGTHS, lambda w, v: Worker(w.manager, poll_interval=v)),
    ("worker session_ttl", "session_ttl", NO_LENGTHS, lambda w, v: Worker(w.manager, session_ttl=v)),
    ("worker max_tasks", "max_tasks", COUNTS, lambda w, v: Worker(w.manager, max_tasks=v)),
    ("worker stop", "timeout", LENGTHS, lambda w, v: w.worker.stop(timeout=v)),
    ("batch size", "size", COUNTS, lambda w, v: w.manager.register_batch_handler(Raw, lambda tasks, _: None, size=v)),
    ("every", "interval", NO_LENGTHS, lambda w, v: every(v)),
    # --- times
    ("schedule at", "at", INSTANTS, lambda w, v: w.locker.schedule(Parcel(id="new"), "/x", at=v)),
    ("scheduled_at", r"Job.scheduled_at\(\)", INSTANTS, lambda w, v: w.manager.create_task(job(at=v))),
    (
        "scheduled_at of many",
        r"Job.scheduled_at\(\)",
        INSTANTS,
        lambda w, v: w.manager.create_tasks([job(), job(at=v)]),
    ),
    ("every start", "dtstart|rrule", BEYOND[:2], lambda w, v: every(timedelta(hours=1), start=v)),
    ("every start outside", "dtstart|rrule", OUTSIDE[:1], lambda w, v: every(timedelta(hours=1), start=v)),
    ("first", "at_or_after", (*BEYOND, *OUTSIDE), lambda w, v: HOURLY.first(v)),
    ("next_after", "instant", (*BEYOND, *OUTSIDE), lambda w, v: HOURLY.next_after(v)),
    ("local", "nominal", (*BEYOND, *OUTSIDE), lambda w, v: HOURLY.local(v)),
    ("explain after", "after", (*BEYOND, *OUTSIDE), lambda w, v: explain(HOURLY, after=v)),
    ("exdates", "exdates", OUTSIDE, lambda w, v: cron("0 0 * * *", exdates=[v])),
    ("assert_scheduled at", "at", BEYOND[:3], lambda w, v: w.cloud.assert_scheduled(Job, at=v)),
    # --- URLs, headers, queues, collections
    ("schedule url", "url", URLS, lambda w, v: w.locker.schedule(Parcel(id="new"), v)),
    ("Continue url", "url", URLS, lambda w, v: Continue(v)),
    ("manager path", "path", URLS, lambda w, v: TaskManager(w.locker, path=v)),
    ("mount", "url", URLS, lambda w, v: w.cloud.mount(v, w.app)),
    ("schedule headers", "headers", HEADERS, lambda w, v: w.locker.schedule(Parcel(id="new"), "/x", headers=v)),
    ("schedule queue", "queue", QUEUES, lambda w, v: w.locker.schedule(Parcel(id="new"), "/x", queue=v)),
    ("Continue queue", "queue", QUEUES, lambda w, v: Continue(queue=v)),
    ("kind queue", "queue", QUEUES, lambda w, v: declared(queue=v)),
    ("lock collection", "collection", COLLECTIONS, lambda w, v: w.locker.lock("n", collection=v)),
    ("locked collection", "collection", COLLECTIONS, lambda w, v: locked(w.locker, collection=v)),
    ("once collection", "collection", COLLECTIONS, lambda w, v: once(w.locker, collection=v)),
    # --- names
    ("lock name", "name", NAMES, lambda w, v: w.locker.lock(v)),
    ("locked name", "name", NAMES, lambda w, v: locked(w.locker, name=v)),
    ("locked key", "name|key", NAMES[:4], lambda w, v: one_call(key=lambda: v)(w.locker)),
    ("once name", "name", NAMES, lambda w, v: once(w.locker, name=v)),
    ("once key", "key", NAMES[:4], lambda w, v: once(w.locker, key=lambda: v)(world_of_work)()),
    ("get id", "id", NAMES, lambda w, v: w.locker.get(Parcel, v, shop="1")),
    ("get part", "shop", [v for v in NAMES[:4] if v], lambda w, v: w.locker.get(Parcel, "1", shop=v)),
    ("schedule id", "id", NAMES[1:], lambda w, v: w.locker.schedule(Parcel.model_construct(id=v, shop="1"), "/x")),
    ("result id", "id", NAMES, lambda w, v: w.locker.result(Parcel, v, shop="1")),
    ("cancel id", "id", NAMES, lambda w, v: w.locker.cancel(Parcel, v, shop="1")),
    ("reset id", "id", NAMES, lambda w, v: w.locker.reset(Parcel, v, shop="1")),
    ("resolve id", "id", NAMES, lambda w, v: w.locker.resolve(Parcel, v, "run", shop="1")),
    ("task_id", r"Job.task_id\(\)", NAMES, lambda w, v: w.manager.create_task(job(id=v))),
    ("task_id of many", r"Job.task_id\(\)", NAMES, lambda w, v: w.manager.create_tasks([job(), job(id=v)])),
    ("resource_key", r"Job.resource_key\(\)", NAMES[1:], lambda w, v: w.manager.create_task(job(key=v))),
    ("add_task key", "key", NAMES, lambda w, v: w.manager.add_task("refused-queue", v)),
    ("add_task name", "is not a kind", NAMES[:6], lambda w, v: w.manager.add_task(v, "k")),
    ("get_task", "id", NAMES, lambda w, v: w.manager.get_task(Job, v)),
    ("get_tasks_by_ids", "id", NAMES, lambda w, v: w.manager.get_tasks_by_ids(Job, ["there", v])),
    ("get by key", "key", NAMES, lambda w, v: w.manager.get_tasks_by_resource_key(Job, v)),
    ("cancel by key", "key", NAMES, lambda w, v: w.manager.cancel_tasks_by_resource_key(Job, v)),
    ("cancel_task", "id", NAMES, lambda w, v: w.manager.cancel_task(Job, v)),
    ("reset_task", "id", NAMES, lambda w, v: w.manager.reset_task(Job, v)),
    ("delete_task", "id", NAMES, lambda w, v: w.manager.delete_task(Job, v)),
    ("task result", "id", NAMES, lambda w, v: w.manager.result(Job, v)),
    ("pause", "id", NAMES, lambda w, v: w.manager.pause(Job, v)),
    ("resume", "id", NAMES, lambda w, v: w.manager.resume(Job, v)),
    # --- contents
    (
        "create_task data",
        DATA_NAMED,
        DATA,
        lambda w, v: w.manager.create_task(job(data=v)),
    ),
    (
        "create_tasks data",
        DATA_NAMED,
        DATA,
        lambda w, v: w.manager.create_tasks([job(), job(id="2", data=v)]),
    ),
    (
        "create_task bytes",
        "Raw: the field .raw.",
        (b"\xff", b"a\xed\xa0\x80"),
        lambda w, v: w.manager.create_task(Raw(raw=v)),
    ),
    (
        "add_task data",
        DATA_NAMED,
        DATA,
        lambda w, v: w.manager.add_task("refused-queue", "k", v),
    ),
    (
        "schedule field",
        NOTE_NAMED,
        DATA,
        lambda w, v: w.locker.schedule(Parcel(id="new", note=v), "/x"),
    ),
    ("save field", NOTE_NAMED, DATA, lambda w, v: saved(w, note=v)),
    (
        "complete field",
        NOTE_NAMED,
        DATA,
        lambda w, v: moved_on(w, note=v),
    ),
    ("schedule time", "times of Parcel", OUTSIDE, lambda w, v: w.locker.schedule(Parcel(id="new", times=v), "/x")),
    ("save time", "times of Parcel", OUTSIDE, lambda w, v: saved(w, times=[1, v])),
)


def world_of_work() -> None:
    """
    What is run once.
    """


def wrongly_taken(world: World, call: Call, values: Sequence[Any], pattern: str) -> Iterator[str]:
    """
    The *values* for which *call* does anything else than to raise a UsageError that names the option.
    """
    before = world.stored()
    for value in values:
        shown = f"{value!r:.60}"
        try:
            call(world, value)
        except UsageError as error:
            if pytest.raises(UsageError, match=pattern).matches(error):
                if str(error) and "\ud800" not in str(error) and len(str(error)) < 500:
                    continue
                yield f"{shown}: the message can't be printed: {error!r:.300}"
            else:
                yield f"{shown}: {error} does not name {pattern}"
        except Exception as error:
            yield f"{shown}: {type(error).__name__}: {error}"
        else:
            yield f"{shown}: it was taken"
        if world.stored() != before:
            yield f"{shown}: something was written"


@pytest.mark.parametrize(("named", "values", "call"), [pytest.param(*row[1:], id=row[0]) for row in CALLS])
def test_value_that_cannot_be_is_refused_before_anything_is_written(
    world: World, named: str, values: Sequence[Any], call: Call
) -> None:
    """
    Each bad value is a UsageError that names the option, in a sentence that can be printed; nothing was written.
    """
    assert list(wrongly_taken(world, call, values, rf"(?<!\w)(?:{named})(?!\w)")) == []


def test_sentence_about_a_password_tells_what_to_do_and_not_the_password(world: World) -> None:
    """
    A URL with a password is refused for that, and the password is in no message.
    """
    with pytest.raises(UsageError, match=r"url is '\*\*\*@orders.test/x'; it must have no user and password"):
        world.locker.schedule(Parcel(id="new"), "https://user:pw@orders.test/x")


# --- in a handler -----------------------------------------------------------------------------------------------------


def broken() -> None:
    """
    Raises an error whose text no codec takes.
    """
    raise ValueError("a\ud800b")


INSIDE: Final[tuple[tuple[str, str, Callable[[World, Parcel, Attempt], object]], ...]] = (
    ("returned delay", "delay is nan s", lambda w, p, a: Snooze(NAN)),
    ("Retry", "after is -1 s", lambda w, p, a: Retry("no", after=-1)),
    ("Continue", "url is '//evil.test/x'", lambda w, p, a: Continue("//evil.test/x")),
    ("at", "at is 9999", lambda w, p, a: w.locker.schedule(p, at=datetime.max.replace(tzinfo=UTC))),
    ("headers", "headers has Host", lambda w, p, a: w.locker.schedule(p, headers={"Host": "x"})),
    ("field", "note of Parcel", lambda w, p, a: setattr(p, "note", "\ud800")),
    ("field of a step", "note of Parcel", lambda w, p, a: w.locker.schedule(p.model_copy(update={"note": "\ud800"}))),
    (
        "raised",
        "ValueError: a?b",
        lambda w, p, a: int("x") if a is None else (_ for _ in ()).throw(ValueError("a\ud800b")),
    ),
    ("Retry text", "a?b", lambda w, p, a: Retry("a\ud800b")),
    ("Fail text", "a?b", lambda w, p, a: Fail("a\ud800b")),
)


@pytest.mark.parametrize(("message", "act"), [pytest.param(*row[1:], id=row[0]) for row in INSIDE])
def test_value_that_cannot_be_is_a_failed_attempt_of_its_handler(
    world: World, monkeypatch: pytest.MonkeyPatch, message: str, act: Callable[[World, Parcel, Attempt], object]
) -> None:
    """
    In a handler it ends the attempt as failed, with the sentence in the record; a broken text of an error is made storable.
    """
    # The traceback of a broken text would be in the report of this test, which one process sends to another as UTF-8.
    monkeypatch.setattr(logging.getLogger("gcp_oncetask"), "disabled", True)

    @world.app.post("/tasks/inside")
    @locked_handler(world.locker, Parcel, retry=NoRetry())
    def inside(parcel: Parcel, attempt: Attempt) -> Any:
        return act(world, parcel, attempt)

    world.locker.schedule(Parcel(id="inside"), "/tasks/inside")
    world.cloud.run_until_idle()

    lock = world.locker.show("shops/1/parcels/inside")
    assert (lock.status, len(lock.errors)) == (Status.FAILED, 1)
    assert message in lock.errors[0].message
    assert world.cloud.deliveries[-1].status == 200


def test_broken_text_of_an_error_is_stored_for_a_once_function(world: World) -> None:
    """
    What a function that runs once has raised is noted, whatever its text; the caller gets it as it was.
    """

    @once(world.locker, name="raises")
    def raises() -> None:
        raise ValueError("a\ud800b")

    with pytest.raises(ValueError, match="a\ud800b"):
        raises()
    [lock] = [
        world.locker.show(path)
        for path in world.cloud.local.firestore.documents(world.cloud.local.project)
        if path.startswith("onceLocks/") and ":once:" in path
    ]
    assert [error.message for error in lock.errors] == ["ValueError: a?b"]


# --- what is taken ----------------------------------------------------------------------------------------------------


def test_values_at_the_limits_arrive_as_they_were_given(world: World) -> None:
    """
    NUL characters and line breaks in contents, and the first and the last microsecond of the calendar, come back equal.
    """
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    world.locker.schedule(Parcel(id="limits", note="a\0\r\n\U0010ffff", times=[first, last]), "/x")
    world.manager.create_task(job(id="limits", data="a\0\r\n\U0010ffff"))

    parcel: Parcel = world.locker.get(Parcel, "limits", shop="1")
    assert (parcel.note, parcel.times) == ("a\0\r\n\U0010ffff", [first, last])
    task: OnceTask[Job] = world.manager.get_task(Job, "limits")
    assert task.data.data == "a\0\r\n\U0010ffff"


def test_lengths_are_seconds_or_timedeltas_everywhere(world: World) -> None:
    """
    A number of seconds and a timedelta mean the same, for policies, retentions and intervals too.
    """
    minute = timedelta(minutes=1)
    assert FixedDelay(delay=60) == FixedDelay(delay=minute)
    assert FixedDelay(delay=60).next_delay(1, None, 0.5) == minute
    assert ExponentialBackoff(initial=60, maximum=600) == ExponentialBackoff(initial=minute, maximum=10 * minute)
    assert every(60) == every(minute)

    class Kept(TaskData, kind="refused-kept", retention=60):
        pass

    assert Kept.__kind__ is not None
    assert Kept.__kind__.retention == minute
    assert world.locker.lock("short", ttl=minute).acquire(blocking=False)


@pytest.mark.parametrize("at", [timedelta(days=40), timedelta(days=400)])
def test_delay_beyond_what_cloud_tasks_takes_is_relayed(world: World, at: timedelta) -> None:
    """
    A step that is due after more than 30 days runs once, when it is due: no call refused it, and none ran it early.
    """
    ran: list[datetime] = []

    @world.app.post("/tasks/late")
    @locked_handler(world.locker, Parcel)
    def late(parcel: Parcel, attempt: Attempt) -> None:
        ran.append(world.cloud.clock_now())

    due = world.cloud.clock_now() + at
    world.locker.schedule(Parcel(id="late"), "/tasks/late", delay=at)
    world.cloud.advance(seconds=at.total_seconds() - 60)
    assert ran == []
    world.cloud.advance(minutes=2)

    assert [abs(when - due) < timedelta(seconds=5) for when in ran] == [True]


# --- a base URL with a path -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["https://example.test/api", "https://example.test/api/", "https://example.test"])
def test_path_of_the_base_url_is_part_of_every_delivery(oncetask_cloud: OncetaskCloud, base: str) -> None:
    """
    Paths of schedule(), of later steps and of once-tasks are joined to the whole base URL, and found by the path below it.
    """
    locker = Locker(config=Config(base_url=base))
    manager = TaskManager(locker)
    app = Flask("prefixed")
    app.register_blueprint(blueprint(manager))
    oncetask_cloud.use(locker)
    oncetask_cloud.mount(base, app)
    seen: list[str] = []

    @app.post("/tasks/parcel")
    @locked_handler(locker, Parcel)
    def steps(parcel: Parcel, attempt: Attempt) -> Any:
        seen.append(f"step {attempt.step}")
        return Continue("/tasks/parcel?again") if attempt.step == 1 else None

    @manager.handler(Job)
    def work(task: OnceTask[Job], attempt: Attempt) -> None:
        seen.append("task")

    locker.schedule(Parcel(id="1"), "/tasks/parcel")
    manager.create_task(job())
    full = f"{base.rstrip('/')}/tasks/parcel"
    for url in (full, full.removeprefix("https://example.test"), "/tasks/parcel"):
        oncetask_cloud.assert_scheduled(Parcel, "1", url=url)
    with pytest.raises(AssertionError):
        oncetask_cloud.assert_scheduled(Parcel, "1", url="/parcel")
    oncetask_cloud.run_until_idle()

    assert sorted(seen) == ["step 1", "step 2", "task"]
    assert {delivery.status for delivery in oncetask_cloud.deliveries} == {200}
