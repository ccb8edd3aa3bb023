"""
Batches of a resource key: the leader has the key, and the others ride with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
from flask import Flask

from gcp_oncetask import Attempt, Config, LeaseLostError, Locker
from gcp_oncetask.flask import blueprint
from gcp_oncetask.tasks import TaskData, TaskManager
from gcp_oncetask.testing.cloud import OncetaskCloud

URL = "https://batches.test"


class Parcel(TaskData, kind="batches-parcel"):
    name: str

    def task_id(self) -> str:
        return self.name

    def resource_key(self) -> str:
        return "K"


@pytest.fixture
def manager(oncetask_cloud: OncetaskCloud) -> TaskManager:
    manager, app = TaskManager(Locker(config=Config(base_url=URL))), Flask("batches")
    app.register_blueprint(blueprint(manager))
    oncetask_cloud.use(manager.locker)
    oncetask_cloud.mount(URL, app)
    return manager


@pytest.mark.parametrize("how", ["deleted", "not renewed"])
def test_rider_relies_on_its_lease_no_longer_than_its_leader(
    oncetask_cloud: OncetaskCloud, manager: TaskManager, how: str
) -> None:
    """
    The key goes to another task when the leader has lost it, while the lease of the rider would go on.
    """
    held: list[tuple[bool, bool]] = []

    def ship(tasks: Sequence[Any], attempts: Sequence[Attempt]) -> None:
        if held or len(tasks) < 2:
            return
        [leader] = [one for one in attempts if one._running.leader is None]
        [rider] = [one for one in attempts if one is not leader]
        held.append((leader.held_for() > 0, rider.held_for() > 0))
        if how == "deleted":
            manager.locker.client.document(leader._running.context.document).delete()
            with suppress(LeaseLostError):
                leader.renew()
        else:
            oncetask_cloud.clock.advance(40)
            rider.renew()
            oncetask_cloud.clock.advance(40)
        assert rider._running.left() > 0
        held.append((leader.held_for() > 0 and not leader.lost.is_set(), rider.held_for() > 0))

    manager.register_resource_key_handler(Parcel, ship, lease_duration=60, renew=False)
    for name in ("a", "b"):
        manager.create_task(Parcel(name=name))
    oncetask_cloud.run_until_idle()
    assert held == [(True, True), (False, False)]
