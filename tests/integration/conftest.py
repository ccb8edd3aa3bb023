"""
Fixtures of the integration tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.cloud.firestore import Client

from gcp_emulator.cloud import LocalCloud
from gcp_oncetask import Config, Locker
from gcp_oncetask.services import identity
from gcp_oncetask.tasks import TaskManager
from gcp_oncetask.testing.cloud import ACCOUNT, OncetaskCloud
from tests.support.orders import URL, Shop, make_shop
from tests.support.tasks import Service


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Let commands act in the name of an account, without credentials: these have tests of their own.
    """
    monkeypatch.setattr(identity, "account", lambda: "ops@test")


@pytest.fixture
def open_shop(oncetask_cloud: OncetaskCloud) -> Callable[..., Shop]:
    """
    Opens the shop on the test's cloud; options are those of ``locked_handler``.
    """

    def make(config: Config | None = None, **options: Any) -> Shop:
        shop = make_shop(config, **options)
        oncetask_cloud.use(shop.locker)
        oncetask_cloud.mount(URL, shop.app)
        # Its process has scheduled orders before: what is counted and made to fail is the chain's own.
        shop.locker._runtime.register("orders", URL)
        return shop

    return make


@pytest.fixture
def shop(open_shop: Callable[..., Shop]) -> Shop:
    """
    The shop with the library's defaults.
    """
    return open_shop()


@pytest.fixture
def service(oncetask_cloud: OncetaskCloud) -> Service:
    """
    A deployment.
    """
    return Service(oncetask_cloud)


@pytest.fixture
def cloud_on_ports(oncetask_cloud: OncetaskCloud) -> Iterator[OncetaskCloud]:
    """
    The test's cloud, for other processes as well.
    """
    local = oncetask_cloud.local
    for server in (local.firestore, local.tasks, local.logging):
        server.start()
    yield oncetask_cloud
    for server in (local.firestore, local.tasks, local.logging):
        server.stop()


@pytest.fixture
def cloud_of_commands(cloud_on_ports: OncetaskCloud, monkeypatch: pytest.MonkeyPatch) -> OncetaskCloud:
    """
    The same, with the environment in which commands use it.
    """
    local = cloud_on_ports.local
    for name, value in (
        ("GOOGLE_CLOUD_PROJECT", local.project),
        ("FIRESTORE_EMULATOR_HOST", local.firestore.address),
        ("CLOUD_TASKS_EMULATOR_HOST", local.tasks.address),
        ("CLOUD_LOGGING_EMULATOR_HOST", local.logging.address),
        ("ONCETASK_SERVICE_ACCOUNT", ACCOUNT),
        ("ONCETASK_AUDIENCE", "https://oncetask.test"),
    ):
        monkeypatch.setenv(name, value)
    return cloud_on_ports


@pytest.fixture
def loopback() -> Iterator[LocalCloud]:
    """
    A cloud on loopback, on the real clock.
    """
    with LocalCloud(smtp=False) as cloud:
        yield cloud


@pytest.fixture
def make_manager(loopback: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> Callable[..., TaskManager]:
    """
    Makes managers on it, each with a client of its own; options are those of ``Config``.
    """
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", loopback.environment()["FIRESTORE_EMULATOR_HOST"])

    def make(**options: Any) -> TaskManager:
        options = {"verify": "off", "logging_emulator": loopback.logging.address, "log_interval": 0.0, **options}
        return TaskManager(Locker(Client(project=loopback.project), config=Config(project=loopback.project, **options)))

    return make
