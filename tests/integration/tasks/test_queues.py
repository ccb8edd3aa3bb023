"""
Queues where the newest request per key wins, and kinds whose ids are unique only while queued or running.
"""

from __future__ import annotations

import json

import grpc
import pytest
from flask import Flask

from gcp_oncetask import Config, Fail, Locker, Retry, StoreError, UsageError
from gcp_oncetask.flask import blueprint
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.task_headers import TaskHeaders
from gcp_oncetask.tasks import Request, TaskData, TaskManager, TaskStatus, queue_kind
from gcp_oncetask.worker import Worker
from tests.support.orders import Killed
from tests.support.workers import Ledger, at_work

URL = "https://queues.test"


@pytest.fixture
def manager(oncetask_cloud):
    manager = TaskManager(Locker(config=Config(base_url=URL)))
    app = Flask("queues")
    app.register_blueprint(blueprint(manager))
    oncetask_cloud.use(manager.locker)
    oncetask_cloud.mount(URL, app)
    # Its process has created tasks before.
    manager.locker._runtime.register(None, URL)
    return manager


def test_of_several_waiting_requests_only_the_newest_runs(oncetask_cloud, manager):
    ran = []
    manager.register_task_handler(queue_kind("contacts"), lambda task, attempt: ran.append(task.data.data))
    first = manager.add_task("contacts", "ann", 1)
    assert (first.created, first.replaced) == (True, False)
    for number in (2, 3):
        assert manager.add_task("contacts", "ann", number).replaced
    manager.add_task("contacts", "bob", 9)
    oncetask_cloud.run_until_idle()
    assert sorted(ran) == [3, 9]
    assert manager.get_task(queue_kind("contacts"), "ann").payload["data"] == 3


def test_requests_while_it_runs_are_followed_by_one_more_run_with_the_newest(oncetask_cloud, manager):
    ran, keys = [], []

    def sync(task, attempt):
        ran.append(task.data.data)
        keys.append(attempt.key)
        if len(ran) == 1:
            for number in (2, 3):
                assert manager.add_task("contacts-busy", "ann", number).replaced

    manager.register_task_handler(queue_kind("contacts-busy"), sync)
    manager.add_task("contacts-busy", "ann", 1)
    oncetask_cloud.run_until_idle()
    assert ran == [1, 3]
    assert len(set(keys)) == 2
    assert manager.get_task(queue_kind("contacts-busy"), "ann").lock.status == "completed"


def test_a_failure_for_good_does_not_swallow_the_newer_request(oncetask_cloud, manager):
    ran, told = [], []
    manager.on_error = lambda task, error: told.append((task.id, str(error)))

    def sync(task, attempt):
        ran.append(task.data.data)
        if task.data.data == 1:
            manager.add_task("contacts-fail", "ann", 2)
            raise Fail("no such customer")
        return "done"

    manager.register_task_handler(queue_kind("contacts-fail"), sync)
    manager.add_task("contacts-fail", "ann", 1)
    oncetask_cloud.run_until_idle()
    assert ran == [1, 2]
    assert told == [("ann", "no such customer")]
    assert manager.result(queue_kind("contacts-fail"), "ann") == "done"


def test_a_request_after_the_end_runs_again_even_with_the_same_data(oncetask_cloud, manager):
    ran = []
    manager.register_task_handler(queue_kind("contacts-again"), lambda task, attempt: ran.append(task.data.data))
    for _ in range(2):
        manager.add_task("contacts-again", "ann", 1)
        oncetask_cloud.run_until_idle()
    assert ran == [1, 1]


def test_each_request_puts_a_debounced_one_off(oncetask_cloud, manager):
    ran = []
    manager.register_task_handler(queue_kind("contacts-late"), lambda task, attempt: ran.append(task.data.data))
    for number in range(3):
        manager.add_task("contacts-late", "ann", number, delay=10)
        oncetask_cloud.advance(seconds=6)
    assert ran == []
    oncetask_cloud.advance(seconds=6)
    assert ran == [2]


def test_what_the_handler_says_is_kept(oncetask_cloud, manager):
    said = iter([Retry("the service is closed", after=5), Fail("it is gone")])
    manager.register_task_handler(queue_kind("contacts-said"), lambda task, attempt: next(said))
    manager.add_task("contacts-said", "ann")
    oncetask_cloud.advance(seconds=10)
    task = manager.get_task(queue_kind("contacts-said"), "ann")
    assert [error.message for error in task.errors] == ["the service is closed", "it is gone"]
    assert task.status(oncetask_cloud.clock_now()) is TaskStatus.FAILED


def test_a_failing_error_callback_changes_nothing(oncetask_cloud, manager, caplog):
    manager.on_error = lambda task, error: 1 / 0
    manager.register_task_handler(queue_kind("contacts-callback"), lambda task, attempt: Fail("no"))
    manager.add_task("contacts-callback", "ann")
    oncetask_cloud.run_until_idle()
    assert "error callback failed" in caplog.text
    assert manager.get_task(queue_kind("contacts-callback"), "ann").lock.status == "failed"


def test_a_queue_has_its_options_once():
    assert queue_kind("contacts-options", pull=True) is queue_kind("contacts-options")
    with pytest.raises(UsageError, match="another pull="):
        queue_kind("contacts-options", pull=False)


# --- unique -----------------------------------------------------------------------------------------------------------

REFUSED = []


class Rebuild(TaskData, kind="rebuild", unique="queued_or_running", on_refused=REFUSED.append):
    index: str
    reason: str = ""

    def task_id(self) -> str:
        return self.index


class Reload(TaskData, kind="reload", unique="queued"):
    name: str

    def task_id(self) -> str:
        return self.name


class Replay(TaskData, kind="replay", unique="running"):
    name: str

    def task_id(self) -> str:
        return self.name


def test_unique_while_queued_or_running(oncetask_cloud, manager):
    REFUSED.clear()
    ran = []

    def rebuild(task, attempt):
        ran.append(task.data.reason)
        assert manager.create_task(Rebuild(index="a", reason="while running")).refused

    manager.register_task_handler(Rebuild, rebuild)
    assert manager.create_task(Rebuild(index="a", reason="first"))
    assert manager.create_task(Rebuild(index="a", reason="while queued")).refused
    oncetask_cloud.run_until_idle()
    assert manager.create_task(Rebuild(index="a", reason="afterwards")).replaced
    oncetask_cloud.run_until_idle()
    assert ran == ["first", "afterwards"]
    assert [data.reason for data in REFUSED] == ["while queued", "while running", "while running"]


@pytest.mark.parametrize(("model", "while_queued", "while_running"), [(Reload, True, False), (Replay, False, True)])
def test_unique_while_the_one_or_the_other(oncetask_cloud, manager, model, while_queued, while_running):
    ran = []

    def run(task, attempt):
        ran.append(task.id)
        if len(ran) == 1:
            assert manager.create_task(model(name="a")).refused is while_running

    manager.register_task_handler(model, run)
    assert manager.create_task(model(name="a"))
    assert manager.create_task(model(name="a")).refused is while_queued
    oncetask_cloud.run_until_idle()
    assert len(ran) == (1 if while_running else 2)


def test_unique_is_checked_when_the_class_is_made():
    with pytest.raises(UsageError, match="unique is 'waiting'"):
        type("Bad", (TaskData,), {"__module__": __name__}, kind="bad", unique="waiting")
    with pytest.raises(UsageError, match="unique="):
        type("Bad", (TaskData,), {"__module__": __name__}, kind="bad", on_refused=print)


def test_a_replacement_whose_answer_was_lost_is_not_made_twice(oncetask_cloud, manager):
    ran, wanted = [], []

    def sync(task, attempt):
        ran.append(task.data.data)
        if len(ran) == 1:
            # Of the creation, which finds the task there, and of the replacement.
            oncetask_cloud.faults.fail("Commit", when="after", times=2)
            manager.add_task("contacts-lost", "ann", 2)
            wanted.append(manager.get_task(queue_kind("contacts-lost"), "ann").lock.wanted)

    manager.register_task_handler(queue_kind("contacts-lost"), sync)
    manager.add_task("contacts-lost", "ann", 1)
    oncetask_cloud.run_until_idle()
    assert (ran, wanted) == ([1, 2], [1])


# --- max_running ------------------------------------------------------------------------------------------------------


class Call(TaskData, kind="call", pull=True, max_running=2):
    number: int

    def task_id(self) -> str:
        return str(self.number)


class Fax(TaskData, kind="fax", max_running=1):
    number: int

    def task_id(self) -> str:
        return str(self.number)


def test_at_most_so_many_of_a_kind_run_at_once_across_workers(make_manager):
    """
    Three workers of four places: two calls at once, never three, and each runs once.
    """
    ledger, inside, most = Ledger(), [], []

    def call(task, attempt):
        with ledger.news:
            inside.append(task.id)
            most.append(len(inside))
            ledger.news.notify_all()
            # Long enough for others to come in, were they let.
            ledger.news.wait_for(lambda: len(inside) > 2, 0.05)
            inside.remove(task.id)
        ledger.note(task.id)

    managers = [make_manager() for _ in range(3)]
    for manager in managers:
        manager.register_task_handler(Call, call)
    managers[0].create_tasks([Call(number=number) for number in range(30)])
    with at_work(*(Worker(manager, concurrency=4) for manager in managers)):
        ledger.wait(30)
    assert max(most) == 2
    assert set(ledger.runs.values()) == {1}


def test_at_most_one_delivery_of_a_kind_runs_and_the_others_follow_in_order(oncetask_cloud, manager):
    """
    Pushed: a delivery that comes while another one runs is parked, and runs afterwards.
    """
    ran, refused = [], []

    def fax(task, attempt):
        ran.append(task.id)
        for waiting in oncetask_cloud.local.tasks.tasks() if len(ran) == 1 else ():
            body = bytes(waiting.http_request.body)
            if not json.loads(body)["document"].endswith(f":{task.id}"):
                refused.append(manager._deliver(body, TaskHeaders()).outcome)

    manager.register_task_handler(Fax, fax)
    for number in range(3):
        manager.create_task(Fax(number=number))
    oncetask_cloud.run_until_idle()
    assert refused == [Outcome.PARKED] * 2
    assert sorted(ran) == ["0", "1", "2"]


def test_a_dead_holder_of_the_last_place_holds_up_nobody_for_ever(oncetask_cloud, manager):
    """
    Its lease ends, it is judged, and the next one runs.
    """
    ran = []

    def fax(task, attempt):
        ran.append(task.id)
        if len(ran) == 1:
            raise Killed

    manager.register_task_handler(Fax, fax)
    for number in range(2):
        manager.create_task(Fax(number=number))
    with pytest.raises(Killed):
        oncetask_cloud.run_until_idle()
    for _ in range(20):
        oncetask_cloud.advance(minutes=1)
        oncetask_cloud.sweep()
    assert {task.lock.status for number in "01" if (task := manager.get_task(Fax, number))} == {"completed"}
    assert sorted(ran) in (["0", "0", "1"], ["0", "1", "1"])


def test_a_task_is_replaced_though_the_limit_has_changed(oncetask_cloud, manager):
    """
    It keeps its place.
    """
    first = type("One", (Request,), {"__module__": __name__}, kind="limited", on_conflict="replace", max_running=1)
    later = type("Many", (Request,), {"__module__": __name__}, kind="limited", on_conflict="replace", max_running=50)
    manager.create_task(first(key="a", data=1))
    assert manager.create_task(later(key="a", data=2)).replaced
    ran = []
    manager.register_task_handler(later, lambda task, attempt: ran.append(task.data.data))
    oncetask_cloud.run_until_idle()
    assert ran == [2]


def test_max_running_is_checked_when_the_class_is_made(manager):
    with pytest.raises(UsageError, match="max_running is 0"):
        type("Bad", (TaskData,), {"__module__": __name__}, kind="bad", max_running=0)
    with pytest.raises(UsageError, match=r"can't have a resource_key\(\) too"):
        type("Bad", (TaskData,), {"__module__": __name__, "resource_key": lambda self: "k"}, kind="bad", max_running=1)
    for register in (manager.register_batch_handler, manager.register_resource_key_handler):
        with pytest.raises(UsageError, match="counts single tasks"):
            register(Fax, lambda tasks, attempts: None)


# --- what fails while a request is made -------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_request_that_fails_does_not_take_the_id_for_ever(oncetask_cloud, manager, when):
    """
    The commit fails, or its answer is lost: the caller's second try is a task that is queued and runs once.
    """
    ran = []
    manager.register_task_handler(Reload, lambda task, attempt: ran.append(task.id))
    manager.locker._runtime.store.estimate()
    oncetask_cloud.faults.fail("Commit", when=when, code=grpc.StatusCode.PERMISSION_DENIED, times=1)
    with pytest.raises(StoreError):
        manager.create_task(Reload(name="a"))
    again = manager.create_task(Reload(name="a"))
    assert (again.created, again.refused) == ((True, False) if when == "before" else (False, True))
    oncetask_cloud.run_until_idle()
    oncetask_cloud.advance(minutes=2)
    oncetask_cloud.sweep()
    oncetask_cloud.run_until_idle()
    assert ran == ["a"]


def test_a_hook_that_raises_leaves_the_queue_as_it_is(oncetask_cloud, manager):
    """
    What ``on_refused`` raises reaches the caller; the task that is there runs, and the id is free afterwards.
    """
    ran = []
    model = type(
        "Hooked", (Request,), {"__module__": __name__}, kind="hooked", unique="queued", on_refused=lambda data: 1 / 0
    )
    manager.register_task_handler(model, lambda task, attempt: ran.append(task.data.data))
    manager.create_task(model(key="a", data=1))
    with pytest.raises(ZeroDivisionError):
        manager.create_task(model(key="a", data=2))
    oncetask_cloud.run_until_idle()
    assert manager.create_task(model(key="a", data=3)).replaced
    oncetask_cloud.run_until_idle()
    assert ran == [1, 3]
