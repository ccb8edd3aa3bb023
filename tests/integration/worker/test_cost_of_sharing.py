"""
What a task costs with several workers: as much as with one, also while shards move.
"""

from __future__ import annotations

from gcp_oncetask import Config, Locker
from gcp_oncetask.tasks import TaskData, TaskManager
from gcp_oncetask.testing.cloud import OncetaskCloud
from gcp_oncetask.worker import Worker

COUNT = 800
PLACES = 4
FLAT = 1.10
"""A cost is flat if the greater one is not more than so many times the lesser one."""


class Crate(TaskData, kind="crate", pull=True):
    number: int

    def task_id(self) -> str:
        return str(self.number)


def worker_of(cloud: OncetaskCloud, number: int) -> Worker:
    """
    Return a worker with a session, in a process of its own as it were. The *number* makes the id of the session, which
    decides about its shards.
    """
    manager = TaskManager(Locker(config=Config()))
    cloud.use(manager.locker)
    manager.register_task_handler(Crate, lambda task, attempt: None)
    worker = Worker(manager, concurrency=PLACES, listen=False)
    worker._start()
    assert worker._membership is not None
    worker._membership.id = str(number)
    beat(worker)
    return worker


def beat(worker: Worker) -> None:
    assert worker._membership is not None
    worker._beat(worker._membership)


def drained(cloud: OncetaskCloud, workers: list[Worker]) -> tuple[float, float]:
    """
    Let *workers* run tasks of a long queue, all at the same time: in each round, each has queried before any runs what it
    has found. Return the documents read and the calls, per task.
    """
    workers[0].manager.create_tasks(Crate(number=number) for number in range(3 * COUNT))
    firestore = cloud.local.firestore
    firestore.reset_counts()
    while (done := sum(worker.done for worker in workers)) < COUNT:
        found = [(worker, worker._due("crate", PLACES)) for worker in workers]
        for worker, tasks in found:
            for task in tasks:
                worker.run_here(task)
        cloud.advance(seconds=0.05)
    return firestore.reads / done, sum(firestore.counts.values()) / done


def of_one() -> tuple[float, float]:
    cloud = OncetaskCloud()
    try:
        return drained(cloud, [worker_of(cloud, 0)])
    finally:
        cloud.stop()


def test_task_costs_as_much_with_four_workers_as_with_one(oncetask_cloud: OncetaskCloud) -> None:
    """
    Nor does it cost more after shards have moved, while each worker still watches those that it had before.
    """
    workers = [worker_of(oncetask_cloud, number) for number in range(4)]
    for worker in workers:
        beat(worker)
    assert sum(len(worker.shards["crate"]) for worker in workers) == 8
    assert workers[0]._membership is not None
    assert workers[0]._membership.watched["crate"] == tuple(range(8))
    reads, calls = drained(oncetask_cloud, workers)
    reads_of_one, calls_of_one = of_one()
    assert all(worker.done for worker in workers)
    assert reads / reads_of_one < FLAT
    assert calls / calls_of_one < FLAT
