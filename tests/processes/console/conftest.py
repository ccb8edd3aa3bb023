"""
A console on a loopback port, with 10,000 tasks behind it, and a browser before it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.serving import make_server

from gcp_oncetask import Locker
from gcp_oncetask.rules.document_paths import TaskName
from gcp_oncetask.tasks import TaskManager
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support import browser as browsers
from tests.support.console_app import BASE, HOSTILE, Charge, Nightly, Parcel, app_of, config, register
from tests.support.orders import Mortal

TASKS = 10_000


class Site:
    """
    A deployment on the local cloud, and its console.
    """

    def __init__(self, cloud: OncetaskCloud) -> None:
        self.cloud = cloud
        self.manager = TaskManager(Locker(config=config(firestore_emulator="127.0.0.1:1")))
        register(self.manager)
        app = app_of(self.manager, secret=None)
        cloud.use(self.manager.locker)
        cloud.mount("https://tasks.test", Mortal(app))
        self._server = make_server("127.0.0.1", 0, app, threaded=True)
        self.origin = f"http://127.0.0.1:{self._server.port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def url(self, path: str = "/") -> str:
        return f"{self.origin}{BASE}{path}"

    def fail(self, *numbers: str, note: str = "") -> list[str]:
        """
        Create parcels that fail; return their paths.
        """
        for number in numbers:
            self.manager.create_task(Parcel(number=f"bad{number}", note=note))
        self.cloud.run_until_idle()
        return [TaskName("DEFAULT", "parcel", f"bad{number}").path for number in numbers]

    def quarantine(self, *orders: str) -> list[str]:
        """
        Create charges whose processes are killed; return their paths.
        """
        for order in orders:
            self.manager.create_task(Charge(order=order))
        self.cloud.run_until_idle()
        self.cloud.advance(minutes=13)
        self.cloud.sweep()
        return [TaskName("DEFAULT", "charge", order).path for order in orders]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """
    A site with 10,000 waiting parcels, some that need a person, and hostile texts.
    """
    if not browsers.is_installed():
        pytest.skip(browsers.MISSING)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    cloud = OncetaskCloud()
    made = Site(cloud)
    try:
        made.quarantine("1", "2", "3", "4")
        made.fail("a", "b", "c", note="a street of no town")
        made.fail(HOSTILE, note=HOSTILE * 9_000)
        made.manager.create_task(Nightly(name="report"))
        far = cloud.clock_now().replace(year=cloud.clock_now().year + 1)
        made.manager.create_tasks([Parcel(number=str(number), at=far) for number in range(TASKS)])
        yield made
    finally:
        made.stop()
        cloud.stop()


@pytest.fixture(scope="module")
def window(site: Site) -> Iterator[Any]:
    """
    A browser.
    """
    with browsers.opened() as driver:
        yield driver
