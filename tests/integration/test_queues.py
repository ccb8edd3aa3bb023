"""
Queues where the newest request per key wins, and kinds whose ids are unique only while queued or running.
"""

from __future__ import annotations

import pytest
from flask import Flask

from gcp_oncetask import Config, Fail, Locker, Retry, UsageError
from gcp_oncetask.flask import blueprint
from gcp_oncetask.tasks import TaskData, TaskManager, TaskStatus, queue_kind

URL = "https://queues.test"


@pytest.fixture
def manager(oncetask_cloud):
    manager = TaskManager(Locker(config=Config(base_url=URL)))
    app = Flask("queues")
    app.register_blueprint(blueprint(manager))
    oncetask_cloud.use(manager.locker)
    oncetask_cloud.mount(URL, app)
    return manager


def test_of_several_waiting_requests_only_the_newest_runs(oncetask_cloud, manager):
    ran = []
    manager.register_task_handler(queue_kind("crm"), lambda task, attempt: ran.append(task.data.data))
    first = manager.add_task("crm", "ann", 1)
    assert (first.created, first.replaced) == (True, False)
    for number in (2, 3):
        assert manager.add_task("crm", "ann", number).replaced
    manager.add_task("crm", "bob", 9)
    oncetask_cloud.run_until_idle()
    assert sorted(ran) == [3, 9]
    assert manager.get_task(queue_kind("crm"), "ann").payload["data"] == 3


def test_requests_while_it_runs_are_followed_by_one_more_run_with_the_newest(oncetask_cloud, manager):
    ran, keys = [], []

    def sync(task, attempt):
        ran.append(task.data.data)
        keys.append(attempt.key)
        if len(ran) == 1:
            for number in (2, 3):
                assert manager.add_task("crm-busy", "ann", number).replaced

    manager.register_task_handler(queue_kind("crm-busy"), sync)
    manager.add_task("crm-busy", "ann", 1)
    oncetask_cloud.run_until_idle()
    assert ran == [1, 3]
    assert len(set(keys)) == 2
    assert manager.get_task(queue_kind("crm-busy"), "ann").lock.status == "completed"


def test_a_failure_for_good_does_not_swallow_the_newer_request(oncetask_cloud, manager):
    ran, told = [], []
    manager.on_error = lambda task, error: told.append((task.id, str(error)))

    def sync(task, attempt):
        ran.append(task.data.data)
        if task.data.data == 1:
            manager.add_task("crm-fail", "ann", 2)
            raise Fail("no such customer")
        return "done"

    manager.register_task_handler(queue_kind("crm-fail"), sync)
    manager.add_task("crm-fail", "ann", 1)
    oncetask_cloud.run_until_idle()
    assert ran == [1, 2]
    assert told == [("ann", "no such customer")]
    assert manager.result(queue_kind("crm-fail"), "ann") == "done"


def test_a_request_after_the_end_runs_again_even_with_the_same_data(oncetask_cloud, manager):
    ran = []
    manager.register_task_handler(queue_kind("crm-again"), lambda task, attempt: ran.append(task.data.data))
    for _ in range(2):
        manager.add_task("crm-again", "ann", 1)
        oncetask_cloud.run_until_idle()
    assert ran == [1, 1]


def test_each_request_puts_a_debounced_one_off(oncetask_cloud, manager):
    ran = []
    manager.register_task_handler(queue_kind("crm-late"), lambda task, attempt: ran.append(task.data.data))
    for number in range(3):
        manager.add_task("crm-late", "ann", number, delay=10)
        oncetask_cloud.advance(seconds=6)
    assert ran == []
    oncetask_cloud.advance(seconds=6)
    assert ran == [2]


def test_what_the_handler_says_is_kept(oncetask_cloud, manager):
    said = iter([Retry("the service is closed", after=5), Fail("it is gone")])
    manager.register_task_handler(queue_kind("crm-said"), lambda task, attempt: next(said))
    manager.add_task("crm-said", "ann")
    oncetask_cloud.advance(seconds=10)
    task = manager.get_task(queue_kind("crm-said"), "ann")
    assert [error.message for error in task.errors] == ["the service is closed", "it is gone"]
    assert task.status(oncetask_cloud.clock_now()) is TaskStatus.FAILED


def test_a_failing_error_callback_changes_nothing(oncetask_cloud, manager, caplog):
    manager.on_error = lambda task, error: 1 / 0
    manager.register_task_handler(queue_kind("crm-callback"), lambda task, attempt: Fail("no"))
    manager.add_task("crm-callback", "ann")
    oncetask_cloud.run_until_idle()
    assert "error callback failed" in caplog.text
    assert manager.get_task(queue_kind("crm-callback"), "ann").lock.status == "failed"


def test_a_queue_has_its_options_once():
    assert queue_kind("crm-options", pull=True) is queue_kind("crm-options")
    with pytest.raises(UsageError, match="another pull="):
        queue_kind("crm-options", pull=False)


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
            manager.add_task("crm-lost", "ann", 2)
            wanted.append(manager.get_task(queue_kind("crm-lost"), "ann").lock.wanted)

    manager.register_task_handler(queue_kind("crm-lost"), sync)
    manager.add_task("crm-lost", "ann", 1)
    oncetask_cloud.run_until_idle()
    assert (ran, wanted) == ([1, 2], [1])
