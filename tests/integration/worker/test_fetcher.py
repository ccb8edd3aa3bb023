"""
The queries of a worker for due tasks.
"""

from __future__ import annotations

from gcp_oncetask.store.queries import due_for_workers, shard_of
from gcp_oncetask.tasks import TaskData
from gcp_oncetask.testing.cloud import OncetaskCloud
from gcp_oncetask.worker.fetcher import FRESH, LEFT_ALONE, TURN, Fetcher
from tests.support.tasks import Service

SHARDS = range(8)


class Fetched(TaskData, kind="fetched", pull=True):
    name: str

    def task_id(self) -> str:
        return self.name


def test_skipped_task_is_queried_again_though_its_time_ends_between_two_queries(oncetask_cloud: OncetaskCloud) -> None:
    """
    The query for its kind skips it still, and that for the next kind comes after its time: with a listener, nothing else
    would make the worker look for it.
    """
    manager = Service(oncetask_cloud).manager
    manager.create_task(Fetched(name="a"))
    fetcher = Fetcher(manager.locker._runtime, {"fetched": 1, "other": 1}, lambda: True)

    def asks(between: float = 0.0) -> list[str]:
        fetcher.begin()
        found = fetcher.due("fetched", SHARDS, 1)
        oncetask_cloud.clock.advance(between)
        fetcher.due("other", SHARDS, 1)
        return [one.path for one in found]

    [task] = asks()
    fetcher.leave(task)
    oncetask_cloud.clock.advance(LEFT_ALONE - 0.01)
    assert (asks(between=0.02), fetcher.again_in) == ([], LEFT_ALONE)
    oncetask_cloud.clock.advance(fetcher.again_in)
    assert (asks(), fetcher.again_in) == ([task], float("inf"))


def test_shards_of_others_have_a_turn_though_its_own_are_never_empty(oncetask_cloud: OncetaskCloud) -> None:
    """
    Until each worker knows of all others, such shards may have no owner.
    """
    manager = Service(oncetask_cloud).manager
    runtime = manager.locker._runtime
    manager.create_tasks(Fetched(name=str(number)) for number in range(40))
    stored = due_for_workers(runtime.store, runtime.config.env, "fetched", SHARDS, 40)
    assert {shard_of(task) for task in stored} == set(SHARDS)
    own, others = SHARDS[:6], SHARDS[6:]
    fetcher = Fetcher(runtime, {"fetched": 1}, lambda: True)
    found = []
    for _ in range(2 * TURN):
        fetcher.begin()
        found += [shard_of(task) for task in fetcher.due("fetched", own, 1, others=others)]
        oncetask_cloud.clock.advance(FRESH)
    assert found == [0, 1, 2, 3, 4, 5, 0, 6, 1, 2, 3, 4, 5, 0, 1, 6]
