"""
Children of durable handlers: made once, waited for without a process, cancelled with their parent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from gcp_oncetask import CancelledByRequest, ChildFailedError, Fail, Snooze, Status, UsageError
from gcp_oncetask.cli import main
from gcp_oncetask.execution.durable_words import running_of
from gcp_oncetask.execution.journaling import journal_of
from gcp_oncetask.testing.cloud import ACCOUNT, OncetaskCloud
from gcp_oncetask.worker import Worker
from tests.support.durable import SECOND
from tests.support.orders import Killed, Mortal, Order, make_shop
from tests.support.tasks import Fleeting, Latest, Other, Pull, Service, Work


@pytest.fixture
def service(oncetask_cloud: OncetaskCloud, monkeypatch: pytest.MonkeyPatch) -> Service:
    """
    A deployment; the command line has its locker.
    """
    made = Service(oncetask_cloud)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", oncetask_cloud.local.project)
    monkeypatch.setenv("ONCETASK_SERVICE_ACCOUNT", ACCOUNT)
    monkeypatch.setattr("gcp_oncetask.cli.Locker", lambda config: made.manager.locker)
    return made


@pytest.fixture
def clouds() -> Iterator[Callable[[], OncetaskCloud]]:
    """
    Makes clouds; each ends when the next one is made.
    """
    made: list[OncetaskCloud] = []

    def make() -> OncetaskCloud:
        while made:
            made.pop().stop()
        made.append(OncetaskCloud())
        return made[-1]

    yield make
    while made:
        made.pop().stop()


class Family:
    """
    A parent ``a`` of a kind, and its children of another.
    """

    def __init__(self, service: Service, act: Callable[[Any, Any], Any], child: Callable[[Any, Any], Any]) -> None:
        self.service = service
        self.acts = {"work": act, "latest": act, "other": child, "pulled": child, "fleeting": child}
        service.act = lambda task, attempt: self.acts[type(task.data).__kind__.name](task, attempt)

    def handle(self, parent: Any = Work, child: Any = Other, **options: Any) -> Family:
        self.service.handle(parent, **{"retry": SECOND, **options})
        if child is not parent:
            self.service.handle(child, retry=SECOND)
        return self

    def start(self, *, settle: int = 0, **options: Any) -> Family:
        self.handle(**options).service.create("a", model=options.get("parent", Work))
        self.service.cloud.run_until_idle()
        if settle:
            self.service.settle(settle)
        return self

    def children(self) -> list[dict[str, Any]]:
        client = self.service.manager.locker.client
        found = [each.to_dict() or {} for each in client.collection("onceTasks").stream()]
        return sorted((each for each in found if "parent" in each), key=lambda each: each["data"]["name"])


def upper(task: Any, attempt: Any) -> str:
    return str(task.data.name).upper()


def three(task: Any, attempt: Any) -> list[str]:
    found = attempt.run_tasks("label", [Other(name=name) for name in "xyz"])
    assert all(isinstance(each, str) for each in found)
    return [*found]


def test_a_parent_gets_the_results_of_its_children_in_order(service: Service) -> None:
    family = Family(service, three, upper).start()
    lock = service.lock("a")
    assert (lock.status, lock.result, lock.children, lock.orphans) == (Status.COMPLETED, ["X", "Y", "Z"], (), ())
    # The parent's two attempts, and one of each child.
    assert len(service.ran) == 5
    assert [each["parent"].split("/")[1] for each in family.children()] == ["ended"] * 3
    assert {each["parentPath"] for each in family.children()} == {service.path("a")}


def test_one_child(service: Service) -> None:
    Family(service, lambda task, attempt: attempt.run_task("one", Other(name="x")), upper).start()
    assert service.lock("a").result == "X"


def test_no_children(service: Service) -> None:
    Family(service, lambda task, attempt: attempt.run_tasks("none", []), upper).start()
    assert (service.lock("a").result, len(service.ran)) == ([], 1)


class Held:
    """
    A child's handler that comes back later until it is let go.
    """

    def __init__(self) -> None:
        self.free = False

    def __call__(self, task: Any, attempt: Any) -> str:
        if not self.free:
            raise Snooze(60)
        return upper(task, attempt)


def test_a_waiting_parent_is_a_duplicate_and_keeps_a_due(service: Service) -> None:
    held = Held()
    family = Family(service, three, held).start()
    lock = service.lock("a")
    assert lock.wait is not None
    assert (lock.status, lock.due is not None, lock.attempts) == (Status.SCHEDULED, True, 0)
    service.cloud.duplicate_last()
    service.settle(60)
    assert (service.ran.count("a"), len(family.children())) == (1, 3)
    held.free = True
    service.settle(10)
    assert (service.ran.count("a"), service.lock("a").result) == (2, ["X", "Y", "Z"])


def test_du_74_a_parent_that_dies_makes_no_child_twice(service: Service) -> None:
    deaths = [Killed()]

    def act(task: Any, attempt: Any) -> Any:
        try:
            return three(task, attempt)
        finally:
            if deaths:
                raise deaths.pop()

    family = Family(service, act, upper).start(settle=60)
    assert (service.lock("a").result, len(family.children())) == (["X", "Y", "Z"], 3)
    assert sorted(service.ran.count(each["id"]) for each in family.children()) == [1, 1, 1]


def test_du_75_the_missing_children_are_made_by_the_next_attempt(service: Service) -> None:
    names = [f"{n:03}" for n in range(120)]
    crash = Crash(service)

    def act(task: Any, attempt: Any) -> Any:
        # The entry, the first 50 and their deliveries are made; the process dies at the commit of the next 50.
        crash.arm("Commit", skip=2)
        return len(attempt.run_tasks("label", [Other(name=name) for name in names]))

    family = Family(service, act, upper).handle()
    service.create("a")
    service.cloud.run_until_idle()
    assert len(family.children()) == 50
    service.settle(60)
    assert (service.lock("a").result, len(family.children())) == (120, 120)
    assert {service.ran.count(each["id"]) for each in family.children()} == {1}


class Crash:
    """
    Lets the process die at a remote call: no call goes out any more, until the next request comes.
    """

    def __init__(self, service: Service) -> None:
        runtime = service.manager.locker._runtime
        self.calls: list[str] = []
        self.at: Callable[[str, int], str | None] = lambda name, number: None
        self.dead = self.inside = self.spent = False
        wire: Any = runtime.wire
        wire._unary = self._around(wire._unary, lambda args: str(type(args[2]).__name__).removesuffix("Request"))
        stream = wire._stream

        def streamed(*args: Any) -> Any:
            return iter(self._call(str(type(args[2]).__name__), lambda: list(stream(*args))))

        wire._stream = streamed
        tasks: Any = runtime.tasks
        tasks._call = self._around(tasks._call, lambda args: "CreateTask")
        app = service.app.wsgi_app

        def request(environ: Any, start_response: Any) -> Any:
            self.dead, self.inside = False, True
            try:
                return app(environ, start_response)
            finally:
                self.dead = self.inside = False

        service.app.wsgi_app = Mortal(request)  # type: ignore[method-assign]

    def _around(self, call: Any, name: Callable[[Any], str]) -> Any:
        return lambda *args, **more: self._call(name(args), lambda: call(*args, **more))

    def _call(self, name: str, call: Callable[[], Any]) -> Any:
        if not self.inside:
            return call()
        if self.dead:
            raise Killed
        self.calls.append(name)
        when = None if self.spent else self.at(name, len(self.calls) - 1)
        if when == "before":
            self.dead = self.spent = True
            raise Killed
        found = call()
        if when == "after":
            self.dead = self.spent = True
            raise Killed
        return found

    def arm(self, name: str, skip: int) -> None:
        """
        Die before a call of *name*, after so many others of that name from now on.
        """
        start = len(self.calls)
        self.at = lambda called, number: (
            "before" if called == name and self.calls[start : number + 1].count(name) == skip + 1 else None
        )


def test_du_76_78_a_crash_at_any_call_loses_no_parent(clouds: Callable[[], OncetaskCloud]) -> None:
    calls = _story(clouds(), None, "")
    assert len(calls) > 15
    for number in range(len(calls)):
        for when in ("before", "after"):
            _story(clouds(), number, when)


def _story(cloud: OncetaskCloud, number: int | None, when: str) -> list[str]:
    service = Service(cloud)
    crash = Crash(service)
    crash.at = lambda name, count: when if count == number else None
    family = Family(service, three, upper).handle()
    service.create("a")
    cloud.run_until_idle()
    for _ in range(40):
        if service.lock("a").status is Status.COMPLETED and service.lock("a").due is None:
            break
        service.settle(4)
    lock, told = service.lock("a"), (number, when, crash.calls)
    assert (lock.status, lock.result) == (Status.COMPLETED, ["X", "Y", "Z"]), told
    assert len(family.children()) == 3, told
    assert (lock.children, lock.orphans) == ((), ()), told
    return crash.calls


def test_du_76_children_that_end_before_their_parent_waits_wake_it(service: Service) -> None:
    def act(task: Any, attempt: Any) -> Any:
        try:
            return three(task, attempt)
        finally:
            for body in service.bodies():
                if b":other:" in body:
                    service.post(body)

    family = Family(service, act, upper).handle()
    service.create("a")
    service.deliver("a")
    assert [each["parent"].split("/")[1] for each in family.children()] == ["ended"] * 3
    assert service.lock("a").dispatches == 2
    service.cloud.run_until_idle()
    assert service.lock("a").result == ["X", "Y", "Z"]


def test_du_76_a_delivery_that_was_not_made_is_made_by_the_sweeper(service: Service) -> None:
    Family(service, three, upper).handle()
    service.create("a")
    service.deliver("a")
    bodies = [body for body in service.bodies() if b":other:" in body]
    service.post_all(bodies[:2])
    service.cloud.local.faults.fail("CreateTask", times=20)
    service.post_all(bodies[2:])
    assert service.lock("a").dispatches == 2
    service.cloud.local.faults.clear()
    service.settle(10)
    assert service.lock("a").result == ["X", "Y", "Z"]


def test_du_77_children_that_end_together_wake_their_parent_once(service: Service) -> None:
    family = Family(service, three, upper).handle()
    service.create("a")
    service.deliver("a")
    bodies = [body for body in service.bodies() if b"other" in body]
    assert service.post_all(bodies) == ["completed"] * 3
    assert service.lock("a").dispatches == 2
    service.cloud.run_until_idle()
    assert (service.lock("a").result, service.ran.count("a")) == (["X", "Y", "Z"], 2)
    assert len(family.children()) == 3


def test_du_78_the_sweeper_wakes_a_parent_that_was_not_told(service: Service) -> None:
    Family(service, three, upper).handle()
    runtime = service.manager.locker._runtime
    told, runtime.after_kin = runtime.after_kin, None
    service.create("a")
    service.deliver("a")
    service.cloud.run_until_idle()
    assert service.lock("a").status is Status.SCHEDULED
    runtime.after_kin = told
    service.cloud.advance(minutes=6)
    service.cloud.sweep()
    service.cloud.run_until_idle()
    assert service.lock("a").result == ["X", "Y", "Z"]


def test_du_79_the_calls_of_a_parent_grow_with_its_children(clouds: Callable[[], OncetaskCloud]) -> None:
    def cost(count: int) -> dict[str, int]:
        service = Service(clouds())
        Family(
            service,
            lambda task, attempt: len(attempt.run_tasks("c", [Other(name=f"{n:04}") for n in range(count)])),
            upper,
        ).handle()
        service.create("a")
        service.start_counting()
        service.cloud.run_until_idle()
        assert service.lock("a").result == count
        return service.firestore()

    few, many = cost(20), cost(200)
    for name in ("RunAggregationQuery", "Commit", "BatchGetDocuments", "GetDocument"):
        assert many.get(name, 0) <= 10 * few.get(name, 0) + 2, (name, few, many)
    assert many["RunAggregationQuery"] <= 202


def fails(task: Any, attempt: Any) -> Any:
    if task.data.name == "y":
        raise Fail("no paper")
    return upper(task, attempt)


def test_du_80_a_failed_child_wakes_its_parent_at_once(service: Service) -> None:
    seen: list[Any] = []
    held = Held()

    def child(task: Any, attempt: Any) -> Any:
        return fails(task, attempt) if task.data.name == "y" else held(task, attempt)

    def act(task: Any, attempt: Any) -> str:
        try:
            three(task, attempt)
        except ChildFailedError as error:
            seen.append((error.name, error.status, "no paper" in str(error)))
            if len(seen) == 1:
                raise ValueError("again") from None
            return "compensated"
        raise AssertionError

    family = Family(service, act, child).start(settle=4)
    assert (seen, service.lock("a").result) == ([("label", "failed", True)] * 2, "compensated")
    held.free = True
    service.settle(6)
    # The other children go on.
    assert [each["parent"].split("/")[1] for each in family.children()] == ["ended", "failed", "ended"]
    assert service.ran.count("a") == 3


def test_du_80_a_tolerated_failure_is_in_its_place(service: Service) -> None:
    def act(task: Any, attempt: Any) -> Any:
        found = attempt.run_tasks("label", [Other(name=name) for name in "xyz"], return_exceptions=True)
        return [each.status if isinstance(each, ChildFailedError) else each for each in found]

    Family(service, act, fails).start(settle=4)
    assert (service.lock("a").result, service.ran.count("a")) == (["X", "failed", "Z"], 2)


@pytest.mark.parametrize(("tolerate", "ends"), [(1, "X failed Z"), (0, "raised")])
def test_so_many_failures_are_tolerated(service: Service, tolerate: int, ends: str) -> None:
    def act(task: Any, attempt: Any) -> Any:
        try:
            found = attempt.run_tasks("label", [Other(name=name) for name in "xyz"], tolerate=tolerate)
        except ChildFailedError:
            return "raised"
        return " ".join(each.status if isinstance(each, ChildFailedError) else each for each in found)

    Family(service, act, fails).start(settle=4)
    assert service.lock("a").result == ends


def test_du_80_a_deleted_child_counts_as_failed(service: Service) -> None:
    def act(task: Any, attempt: Any) -> Any:
        try:
            return attempt.run_task("one", Other(name="x"))
        except ChildFailedError as error:
            return error.status

    family = Family(service, act, Held()).start()
    [child] = family.children()
    assert service.manager.delete_task(Other, child["id"])
    service.cloud.run_until_idle()
    assert service.lock("a").result == "deleted"


def test_du_81_a_cancelled_parent_cancels_its_children_and_theirs(service: Service) -> None:
    def child(task: Any, attempt: Any) -> Any:
        if task.data.name == "x":
            return "ended"
        return attempt.run_task("grandchild", Fleeting(name=f"{task.data.name}-child"))

    family = Family(service, three, child)
    family.acts["fleeting"] = Held()
    service.handle(Fleeting, retry=SECOND)
    family.start()
    assert service.manager.cancel_task(Work, "a")
    service.settle(10)
    assert service.lock("a").status is Status.CANCELLED
    found = {each["data"]["name"]: each["lock"]["status"] for each in family.children()}
    assert found == {
        "x": "completed",
        "y": "cancelled",
        "z": "cancelled",
        "y-child": "cancelled",
        "z-child": "cancelled",
    }
    assert (service.lock("a").children, service.lock("a").orphans, service.lock("a").due) == ((), (), None)


def test_du_81_a_cancellation_that_dies_after_its_commit_is_done_by_the_sweeper(service: Service) -> None:
    family = Family(service, three, Held()).start()
    runtime = service.manager.locker._runtime
    told, runtime.after_kin = runtime.after_kin, None
    assert service.manager.cancel_task(Work, "a")
    assert len(service.lock("a").orphans) == 1
    runtime.after_kin = told
    service.settle(6)
    assert {each["lock"]["status"] for each in family.children()} == {"cancelled"}
    assert (service.lock("a").status, service.lock("a").orphans) == (Status.CANCELLED, ())


def test_du_81_the_handler_of_a_cancelled_parent_is_told_in_its_word(service: Service) -> None:
    told: list[str] = []

    def act(task: Any, attempt: Any) -> Any:
        try:
            return three(task, attempt)
        except CancelledByRequest:
            told.append(attempt.run("undo", lambda: "undone"))
            raise

    family = Family(service, act, Held()).start()
    assert service.manager.cancel_task(Work, "a")
    service.settle(6)
    assert (told, service.lock("a").status) == (["undone"], Status.CANCELLED)
    assert {each["lock"]["status"] for each in family.children()} == {"cancelled"}


def test_du_81_no_child_is_created_after_the_cancellation(service: Service) -> None:
    def act(task: Any, attempt: Any) -> Any:
        def cancel() -> None:
            # The cancellation comes between the entry and the children.
            assert service.manager.cancel_task(Work, "a")

        journal = journal_of(running_of(attempt))
        commit: Any = journal.commit

        def committed(entries: Any, **more: Any) -> None:
            if more.get("also") is not None:
                cancel()
            commit(entries, **more)

        journal.commit = committed  # type: ignore[method-assign]
        return three(task, attempt)

    family = Family(service, act, Held()).start(settle=6)
    assert (service.lock("a").status, family.children()) == (Status.CANCELLED, [])


def test_the_end_of_a_child_wakes_no_wait_for_others(service: Service) -> None:
    first, second = Held(), Held()

    def child(task: Any, attempt: Any) -> Any:
        if task.data.name == "y":
            return fails(task, attempt)
        return (second if task.data.name == "second" else first)(task, attempt)

    def act(task: Any, attempt: Any) -> Any:
        try:
            three(task, attempt)
        except ChildFailedError:
            return attempt.run_task("second", Other(name="second"))

    Family(service, act, child).start(settle=4)
    first.free = True
    service.settle(6)
    lock = service.lock("a")
    assert (lock.status, lock.wait is not None and lock.wait.ended, service.ran.count("a")) == (
        Status.SCHEDULED,
        None,
        2,
    )
    second.free = True
    service.settle(6)
    assert (service.lock("a").result, service.ran.count("a")) == ("SECOND", 3)


def test_du_82_a_child_outlives_its_retention_until_its_parent_ends(service: Service) -> None:
    held = Held()

    def act(task: Any, attempt: Any) -> Any:
        return [attempt.run_task("one", Fleeting(name="x")), attempt.run_task("two", Fleeting(name="y"))]

    family = Family(service, act, lambda task, attempt: held(task, attempt) if task.data.name == "y" else "X")
    family.start(child=Fleeting)
    [child, _] = family.children()
    assert child["expireAt"] - child["doneAt"] == timedelta(days=30 + 366)
    held.free = True
    service.settle(10)
    assert (service.lock("a").status, service.lock("a").children, service.lock("a").orphans) == (
        Status.COMPLETED,
        (),
        (),
    )
    assert [each["expireAt"] - each["doneAt"] for each in family.children()] == [timedelta(days=30)] * 2


def test_du_82_the_debt_of_a_parent_that_died_after_its_end_is_paid_by_the_sweeper(service: Service) -> None:
    family = Family(service, lambda task, attempt: attempt.run_task("one", Fleeting(name="x")), upper)
    family.handle(child=Fleeting)
    runtime = service.manager.locker._runtime
    told = runtime.after_kin
    assert told is not None

    def dies(runtime: Any, snapshot: Any) -> None:
        if snapshot.path != service.path("a"):
            told(runtime, snapshot)

    runtime.after_kin = dies
    service.create("a")
    service.cloud.run_until_idle()
    assert (service.lock("a").status, service.lock("a").orphans) == (Status.COMPLETED, ("*",))
    [child] = family.children()
    assert child["expireAt"] - child["doneAt"] == timedelta(days=30 + 366)
    runtime.after_kin = told
    service.settle(6)
    [child] = family.children()
    assert (child["expireAt"] - child["doneAt"], service.lock("a").orphans) == (timedelta(days=30), ())


def test_du_82_the_last_child_that_finds_its_parent_ended_does_it_itself(service: Service) -> None:
    held = Held()

    def child(task: Any, attempt: Any) -> Any:
        return fails(task, attempt) if task.data.name == "y" else held(task, attempt)

    def act(task: Any, attempt: Any) -> Any:
        try:
            attempt.run_tasks("label", [Fleeting(name=name) for name in "xyz"])
        except ChildFailedError:
            return "without them"

    family = Family(service, act, child).start(child=Fleeting)
    service.settle(4)
    assert service.lock("a").result == "without them"
    held.free = True
    service.settle(10)
    found = family.children()
    assert [each["parent"].split("/")[1] for each in found] == ["ended", "failed", "ended"]
    assert {each["expireAt"] - each["doneAt"] for each in found} == {timedelta(days=30)}


def test_du_83_a_child_with_its_parents_key_does_not_deadlock(service: Service) -> None:
    def act(task: Any, attempt: Any) -> Any:
        return attempt.run_task("one", Other(name="x", key="printer"))

    Family(service, act, upper).handle()
    service.create("a", key="printer")
    service.cloud.run_until_idle()
    service.settle(6)
    assert service.lock("a").result == "X"


def test_du_84_another_document_is_not_taken_for_a_child(service: Service) -> None:
    def act(task: Any, attempt: Any) -> Any:
        return attempt.run_task("one", Other(name="x"))

    family = Family(service, act, Held()).handle()
    crash = Crash(service)
    crash.arm("Commit", skip=2)
    service.create("a")
    service.cloud.run_until_idle()
    [nonce] = service.lock("a").children
    path = service.path(f"{nonce}-0", Other)
    service.manager.locker.client.document(path).set({"mine": 1})
    service.settle(20)
    lock = service.lock("a")
    assert lock.status is Status.QUARANTINED
    assert "has the id of a child" in lock.errors[-1].message
    assert family.children() == []


def test_another_list_is_a_mismatch(service: Service) -> None:
    names = ["xy", "xz"]

    def act(task: Any, attempt: Any) -> Any:
        return attempt.run_tasks("label", [Other(name=name) for name in names.pop(0)])

    Family(service, act, upper).start(settle=4)
    assert service.lock("a").status is Status.QUARANTINED
    assert "another list of tasks" in service.lock("a").errors[-1].message


def test_a_replaced_parent_cancels_its_children(service: Service) -> None:
    def act(task: Any, attempt: Any) -> Any:
        return "new" if task.data.note else three(task, attempt)

    family = Family(service, act, Held()).start(parent=Latest)
    service.manager.create_task(Latest(name="a", note="newer"))
    service.settle(6)
    assert service.lock("a", Latest).result == "new"
    assert {each["lock"]["status"] for each in family.children()} == {"cancelled"}


def test_children_that_workers_pull(service: Service) -> None:
    def act(task: Any, attempt: Any) -> Any:
        return attempt.run_tasks("label", [Pull(name=name) for name in "xyz"])

    family = Family(service, act, upper).start(child=Pull)
    assert len(family.children()) == 3
    service.cloud.work(Worker(service.manager))
    service.cloud.run_until_idle()
    assert service.lock("a").result == ["X", "Y", "Z"]


def test_a_parent_that_workers_pull(service: Service) -> None:
    family = Family(service, upper, upper)
    family.acts["pulled"] = three
    family.handle(Pull)
    worker = Worker(service.manager)
    service.create("a", model=Pull)
    for _ in range(6):
        service.cloud.work(worker)
        service.cloud.run_until_idle()
        service.cloud.advance(minutes=2)
    assert service.lock("a", Pull).result == ["X", "Y", "Z"]


def test_results_that_fill_several_entries(service: Service) -> None:
    def act(task: Any, attempt: Any) -> Any:
        found = attempt.run_tasks("label", [Other(name=name) for name in "uvwxyz"])
        attempt.sleep("s", 60)
        return [len(each) for each in found]

    Family(service, act, lambda task, attempt: task.data.name * 30_000).start(settle=6)
    assert service.lock("a").result == [30_000] * 6


def test_without_a_manager_the_error_says_what_to_do(oncetask_cloud: OncetaskCloud) -> None:
    shop = make_shop()
    oncetask_cloud.use(shop.locker)
    oncetask_cloud.mount("https://orders.test", shop.app)
    told: list[str] = []

    def at_charge(order: Any, attempt: Any) -> None:
        try:
            attempt.run_task("one", Other(name="x"))
        except UsageError as error:
            told.append(str(error))

    shop.on_charge = at_charge
    shop.locker.schedule(Order(id="1", amount=1, email="x"), "/tasks/order")
    oncetask_cloud.run_until_idle()
    assert told
    assert "TaskManager(locker)" in told[0]


def parts(service: Service, verb: str, path: str, capsys: pytest.CaptureFixture[str]) -> str:
    """
    Return the output of a command about the document at *path*.
    """
    capsys.readouterr()
    assert main([verb, path]) == 0
    return capsys.readouterr().out


def test_du_80_a_quarantined_child_holds_its_parent_and_both_are_told(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    def child(task: Any, attempt: Any) -> Any:
        if task.data.name == "y":
            raise Killed
        return upper(task, attempt)

    family = Family(service, three, child)
    service.handle(retry=SECOND).handle(Other, retry=SECOND, on_unknown="quarantine")
    service.create("a")
    service.cloud.run_until_idle()
    service.cloud.advance(hours=2)
    service.settle(4)
    [held] = [each for each in family.children() if each["lock"]["status"] == "quarantined"]
    path = service.path(held["id"], Other)
    assert service.lock("a").status is Status.SCHEDULED
    assert f"{path}: quarantined" in parts(service, "show", service.path("a"), capsys)
    assert f"child of: {service.path('a')}" in " ".join(parts(service, "show", path, capsys).split())
    [alert] = [each for each in service.cloud.alerts.sent if each.document == path]
    assert alert.kin == (f"child of {service.path('a')}",)


def test_op_20_timelines_name_parent_and_children(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    family = Family(service, three, upper).start()
    said = parts(service, "timeline", service.path("a"), capsys)
    paths = [service.path(each["id"], Other) for each in family.children()]
    assert [f"child: {path}: completed" in said for path in paths] == [True] * 3
    assert f"child of: {service.path('a')}" in parts(service, "timeline", paths[0], capsys)


def test_the_children_of_a_failed_parent_that_have_not_begun_are_cancelled_and_its_mail_lists_them(
    service: Service,
) -> None:
    held = Held()

    def child(task: Any, attempt: Any) -> Any:
        return fails(task, attempt) if task.data.name == "y" else held(task, attempt)

    def act(task: Any, attempt: Any) -> Any:
        try:
            three(task, attempt)
        except ChildFailedError as error:
            raise Fail("no label") from error

    family = Family(service, act, child).handle()
    service.create("a")
    service.deliver("a")
    bodies = sorted(
        (body for body in service.bodies() if b":other:" in body), key=lambda body: body.split(b":other:")[1]
    )
    for body in bodies[:2]:
        service.post(body)
    service.deliver("a")
    assert service.lock("a").status is Status.FAILED
    cancelled = [each["data"]["name"] for each in family.children() if "cancelRequestedAt" in each["lock"]]
    assert cancelled == ["z"]
    [alert] = [each for each in service.cloud.alerts.sent if each.document == service.path("a")]
    told = {f"child {service.path(each['id'], Other)}: {each['lock']['status']}" for each in family.children()}
    assert set(alert.kin) == {each for each in told if not each.endswith("failed")}
    held.free = True
    service.settle(8)
    assert sorted(each["lock"]["status"] for each in family.children()) == ["cancelled", "completed", "failed"]


def test_du_81_a_running_child_sees_the_cancellation(service: Service) -> None:
    seen: list[Any] = []

    def child(task: Any, attempt: Any) -> Any:
        assert service.manager.cancel_task(Work, "a")
        attempt.renew()
        seen.append(attempt.cancelled)
        return "too late"

    family = Family(service, lambda task, attempt: attempt.run_task("one", Other(name="x")), child).start()
    service.settle(4)
    assert seen == [True]
    assert [each["lock"]["status"] for each in family.children()] == ["completed"]
    assert service.lock("a").status is Status.CANCELLED
