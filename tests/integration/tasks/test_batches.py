"""
Batches of a resource key: the leader has the key, and the others ride with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest

from gcp_oncetask import Attempt, LeaseLostError
from gcp_oncetask.tasks.batch import Batch
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.damages import Damage, damage
from tests.support.tasks import Service


@pytest.mark.parametrize("how", ["deleted", "not renewed"])
def test_rider_relies_on_its_lease_no_longer_than_its_leader(oncetask_cloud: OncetaskCloud, how: str) -> None:
    """
    The key goes to another task when the leader has lost it, while the lease of the rider would go on.
    """
    service = Service(oncetask_cloud).handle_keys(lease_duration=60, renew=False)
    held: list[tuple[bool, bool]] = []

    def ship(tasks: Sequence[Any], attempts: Sequence[Attempt]) -> None:
        if held or len(tasks) < 2:
            return
        [leader] = [one for one in attempts if one._running.leader is None]
        [rider] = [one for one in attempts if one is not leader]
        held.append((leader.held_for() > 0, rider.held_for() > 0))
        if how == "deleted":
            service.manager.locker.client.document(leader._running.context.document).delete()
            with suppress(LeaseLostError):
                leader.renew()
        else:
            oncetask_cloud.clock.advance(40)
            rider.renew()
            oncetask_cloud.clock.advance(40)
        assert rider._running.left() > 0
        held.append((leader.held_for() > 0 and not leader.lost.is_set(), rider.held_for() > 0))

    service.act = ship
    service.create("a", "b", key="K")
    oncetask_cloud.run_until_idle()
    assert held == [(True, True), (False, False)]


def test_no_rider_is_leased_once_the_lease_of_the_leader_is_over(
    oncetask_cloud: OncetaskCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A process slept while it gathered. The key may be another task's by now, so nobody else is leased for this batch.
    """
    service = Service(oncetask_cloud).handle_keys(lease_duration=60, renew=False)
    leased: list[bool] = []
    real = Batch._lease

    def slow(self: Batch, *args: Any) -> Any:
        rider = real(self, *args)
        leased.append(rider is not None)
        if len(leased) == 1:
            oncetask_cloud.clock.advance(70)
        return rider

    monkeypatch.setattr(Batch, "_lease", slow)
    service.create("a", "b", "c", key="K")
    oncetask_cloud.run_until_idle()
    assert leased[:2] == [True, False]
    assert service.batches == [["a", "b", "c"]]
    assert {one.number for one in service.attempts} == {1}


def test_rider_relies_on_nothing_once_its_leader_has_given_the_key_back(oncetask_cloud: OncetaskCloud) -> None:
    """
    A process that is stopped hands its batch back. The record of the rider takes no write just then: the rider is not
    released, but the key goes to another task.
    """
    service = Service(oncetask_cloud).handle_keys(lease_duration=60)
    client = service.manager.locker.client
    held: list[bool] = []

    def ship(tasks: Sequence[Any], attempts: Sequence[Attempt]) -> None:
        if held or len(tasks) < 2:
            return
        [leader] = [one for one in attempts if one._running.leader is None]
        [rider] = [one for one in attempts if one is not leader]
        paths = [one._running.context.document for one in (leader, rider)]
        held.append(rider.held_for() > 0)
        damage(client, paths[1], Damage("owed", [7]))
        assert service.manager._executor.hand_back(paths[:1]) == 1
        client.document(paths[1]).update({"lock.owed": []})
        rider.renew()
        held.append(rider.held_for() > 0)

    service.act = ship
    service.create("a", "b", key="K")
    oncetask_cloud.run_until_idle()
    assert held == [True, False]
