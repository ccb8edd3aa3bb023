"""
Once-tasks, end to end on the local cloud.
"""

from __future__ import annotations

from datetime import timedelta

from gcp_oncetask.tasks import TaskData, TaskStatus, current_task_id, every
from gcp_oncetask.worker import Worker
from tests.support.tasks import serve


class Charge(TaskData, kind="charge"):
    order: str
    amount: int

    def task_id(self) -> str:
        return self.order


class Step(TaskData, kind="step"):
    number: int

    def task_id(self) -> str:
        return str(self.number)

    def resource_key(self) -> str:
        return "K"


class Report(TaskData, kind="report"):
    name: str

    def task_id(self) -> str:
        return self.name

    def recurrence(self):
        return every(timedelta(hours=1))


def test_a_task_runs_once_and_is_read_back(oncetask_cloud):
    manager = serve(oncetask_cloud)
    ran = []

    @manager.handler(Charge)
    def charge(task, attempt):
        ran.append((task.id, attempt.number, current_task_id()))
        if attempt.number == 1:
            raise ValueError("the card reader is asleep")
        return {"charged": task.data.amount}

    assert manager.create_task(Charge(order="1", amount=3)).dispatched
    again = manager.create_task(Charge(order="1", amount=4))
    assert not again
    assert again.differences == ("amount: 3 -> 4",)
    oncetask_cloud.advance(seconds=5)
    assert ran == [("1", 1, "1"), ("1", 2, "1")]
    assert manager.result(Charge, "1") == {"charged": 3}
    task = manager.get_task(Charge, "1")
    assert task.status(oncetask_cloud.clock_now()) is TaskStatus.COMPLETED
    assert [error.message for error in task.errors] == ["ValueError: the card reader is asleep"]


def test_tasks_of_a_resource_key_run_one_at_a_time_in_their_order(oncetask_cloud):
    manager = serve(oncetask_cloud)
    ran = []

    @manager.handler(Step)
    def step(task, attempt):
        ran.append(task.id)

    for number in range(3):
        manager.create_task(Step(number=number))
    oncetask_cloud.run_until_idle()
    assert ran == ["0", "1", "2"]
    assert [task.id for task in manager.get_tasks_by_resource_key(Step, "K")] == ["0", "1", "2"]
    assert manager.count(Step)[TaskStatus.COMPLETED] == 3


def test_a_recurring_task_makes_one_occurrence_per_run(oncetask_cloud):
    manager = serve(oncetask_cloud)
    ran = []

    @manager.handler(Report)
    def report(task, attempt):
        ran.append((task.id, task.parent_id))

    manager.create_task(Report(name="r"))
    oncetask_cloud.advance(hours=3)
    assert ran == [(f"r_occ_2026-01-01T0{hour}:00:00Z", "r") for hour in range(4)]


def test_many_are_created_at_once_and_cleared(oncetask_cloud):
    manager = serve(oncetask_cloud)
    seen = []

    @manager.handler(Charge)
    def charge(task, attempt):
        seen.append(task.id)

    payloads = [Charge(order=str(number), amount=number) for number in range(120)]
    steps = []
    many = manager.create_tasks([*payloads, payloads[0]], progress=lambda done, total: steps.append((done, total)))
    assert (many.created, len(many), many.errors) == (120, 121, ())
    assert steps == [(50, 120), (100, 120), (120, 120)]
    assert manager.create_tasks(payloads).created == 0
    assert manager.cancel_task(Charge, "7")
    assert manager.count(Charge)[TaskStatus.CANCELLATION_PENDING] == 1
    oncetask_cloud.run_until_idle()
    assert len(seen) == 119
    assert manager.count(Charge)[TaskStatus.CANCELLED] == 1
    assert manager.clear(Charge) == 120


class Pulled(TaskData, kind="pulled", pull=True):
    name: str

    def task_id(self) -> str:
        return self.name


class Nightly(TaskData, kind="nightly", pull=True):
    name: str

    def task_id(self) -> str:
        return self.name

    def recurrence(self):
        return every(timedelta(days=1))


def test_workers_run_on_the_virtual_clock(oncetask_cloud):
    manager = serve(oncetask_cloud)
    ran = []

    @manager.handler(Pulled)
    def pulled(task, attempt):
        assert attempt.delivery is None
        ran.append((task.id, attempt.number))
        if attempt.number == 1:
            raise ValueError("once more")

    manager.register_task_handler(Nightly, lambda task, attempt: ran.append((task.id, 0)))
    oncetask_cloud.work(Worker(manager))
    assert manager.create_task(Pulled(name="a")).dispatched
    assert manager.create_task(Nightly(name="n"))
    oncetask_cloud.advance(days=2)
    nights = [(f"n_occ_2026-01-0{day}T00:00:00Z", 0) for day in (2, 3)]
    assert sorted(ran) == sorted([("a", 1), ("a", 2), *nights])
    assert ran[-2:] == nights
    assert oncetask_cloud.deliveries == []


def test_a_recurring_task_whose_rule_is_damaged_ends_and_a_person_is_told(oncetask_cloud):
    manager = serve(oncetask_cloud)
    manager.register_task_handler(Report, lambda task, attempt: None)
    manager.create_task(Report(name="r"))
    path = manager._name_of(Report, "r").path
    manager.locker.client.document(path).update({"recurrence": {"rrule": "FREQ=NEVER"}})
    oncetask_cloud.advance(hours=5)
    lock = manager.locker.show(path)
    assert lock.status == "failed"
    assert "recurrence can't be read" in lock.errors[-1].message
    [alert] = oncetask_cloud.alerts.sent
    assert alert.document == path
    assert [delivery.status for delivery in oncetask_cloud.deliveries] == [200]
