"""
Durable programs on Google's Firestore emulator where it is installed, and on the embedded server beside it; on the machine's
clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from gcp_emulator.cloud import LocalCloud
from gcp_emulator.faults import DeliveryFaults
from gcp_emulator.firestore.google import find
from gcp_emulator.tasks import WsgiTransport
from gcp_oncetask import Locker
from tests.integration.execution.test_durable_ways import PROGRAMS, World, whole
from tests.support.patience import patient
from tests.support.tasks import Service

GOOGLE = [pytest.mark.google, pytest.mark.skipif(find() is None, reason="Google's emulator is not installed")]
AT_ONCE = ["run", "once", "event-early", "event-late", "map", "map-wide", "children", "pages", "transaction"]
"""The programs that no time has to pass for."""


class Quiet:
    """
    A stream for the trail.
    """

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        """
        Nothing is held back.
        """


class Loopback:
    """
    The part of ``OncetaskCloud`` that a service needs, on *local*.
    """

    def __init__(self, local: LocalCloud) -> None:
        self.local = local

    def use(self, locker: Locker) -> None:
        locker._runtime.trail_to(Quiet())

    def mount(self, url: str, app: Any) -> None:
        assert isinstance(self.local.tasks.transport, WsgiTransport)
        self.local.tasks.transport.mount(url, app)


class Beside(World):
    """
    The world of a program, in a project of its own.
    """

    def __init__(self, local: LocalCloud, project: str) -> None:
        self.effects, self.outside, self.broken = Counter(), {}, True
        cloud: Any = Loopback(local)
        local.tasks.create_queue(f"projects/{project}/locations/l/queues/default")
        self.service = Service(
            cloud,
            project=project,
            location="l",
            verify="off",
            tasks_emulator=local.tasks.address,
            logging_emulator=local.logging.address,
            log_interval=0,
        )
        self.client = self.service.manager.locker.client


@pytest.fixture(scope="module", params=["embedded", pytest.param("google", marks=GOOGLE)])
def local(request: pytest.FixtureRequest) -> Iterator[LocalCloud]:
    """
    A local cloud on the machine's clock, whose tasks are delivered when the test says so.
    """
    cloud = LocalCloud(firestore=request.param, auto=False, transport=WsgiTransport({}), smtp=False)
    with cloud, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIRESTORE_EMULATOR_HOST", cloud.firestore.address)
        yield cloud


@pytest.mark.slow
@pytest.mark.timeout(patient(60))
@pytest.mark.parametrize("way", ["push", "duplicates"])
@pytest.mark.parametrize("name", AT_ONCE)
def test_a_program_does_the_same_on_both_firestores(local: LocalCloud, name: str, way: str) -> None:
    program, world = PROGRAMS[name], Beside(local, f"{name}-{way}")
    local.faults.deliveries = DeliveryFaults(duplicate=float(way == "duplicates"))
    world.start(program.act)
    program.early(world)
    local.tasks.run_due()
    program.after(world)
    local.tasks.run_due()
    whole(world, program)
    assert world.effects == program.effects
