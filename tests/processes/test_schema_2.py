"""
A form of the stored record is changed in two releases, forward and back, with processes of both at once: this release, one that
reads both forms (``reads``) and one that writes the new form (``writes``). See ``docs/how-to/upgrading.md``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import urllib3

from gcp_emulator.cloud import LocalCloud
from gcp_emulator.tasks.transport import Answer, Dispatch, HttpTransport
from gcp_oncetask import Config, Locker
from tests.processes.test_servers import Control
from tests.support import schema_2
from tests.support.patience import patient
from tests.support.readme import ROOT

BASE = "https://service.test"
ACCOUNT = "service@demo-local.iam.gserviceaccount.com"


class Fleet:
    """
    One service: processes of some releases behind one URL. Deliveries go to each in turn.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._http, self._pool = HttpTransport(), urllib3.PoolManager()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._urls: dict[str, str] = {}
        self._deliveries = 0
        self.answers: list[tuple[str, int | None, str]] = []
        self.control = Control()
        self.cloud = LocalCloud(auto=False, transport=self._carry, smtp=False)
        self.cloud.start()
        # A delivery that is refused comes again soon.
        self.cloud.tasks.create_queue(self.cloud.queue(), max_backoff=timedelta(seconds=0.2))
        self._settings = {
            **self.cloud.environment(),
            "ONCETASK_BASE_URL": BASE,
            "ONCETASK_SERVICE_ACCOUNT": ACCOUNT,
            "ONCETASK_DISPATCH_GRACE_SECONDS": "1",
        }

    def close(self) -> None:
        for release in list(self._processes):
            self.stop(release)
        self.cloud.stop()
        self._http.close()
        self._pool.clear()
        self.control.server.shutdown()
        self.control.server.server_close()

    def _carry(self, dispatch: Dispatch) -> Answer:
        release = list(self._processes)[self._deliveries % len(self._processes)]
        self._deliveries += 1
        answer = self._http(replace(dispatch, url=dispatch.url.replace(BASE, self._urls[release])))
        outcome = json.loads(answer.body)["outcome"] if answer.status in {200, 409} else repr(answer.body)
        self.answers.append((release, answer.status, outcome))
        return answer

    def deploy(self, *releases: str) -> None:
        """
        Let processes of *releases* run, and no others.
        """
        for release in releases:
            if release not in self._processes:
                self._start(release)
        for release in set(self._processes) - set(releases):
            self.stop(release)

    def _start(self, release: str) -> None:
        place = self._folder / release
        if not place.exists():
            schema_2.make(release, self._folder)
        before = len(self.control.of("ready"))
        self._processes[release] = subprocess.Popen(
            [sys.executable, "-m", "tests.support.release_app"],
            cwd=place,
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("ONCE")},
                **self._settings,
                "PYTHONPATH": os.pathsep.join(map(str, (place, ROOT, ROOT / "emulator"))),
                "CONTROL_URL": self.control.url,
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        ready = self.control.wait("ready", before + 1, timeout=60)[-1]
        assert ready["release"] == release
        self._urls[release] = f"http://127.0.0.1:{ready['port']}"

    def stop(self, release: str) -> None:
        process = self._processes.pop(release)
        process.terminate()
        process.wait(patient(30))

    def do(self, release: str, call: str, *arguments: Any) -> Any:
        """
        Let a process make a call; its value, or the name of its error.
        """
        answer = self._pool.request("POST", f"{self._urls[release]}/do/{call}", json=list(arguments))
        assert answer.status == 200, answer.data
        found = answer.json()
        return found.get("value", found.get("error"))

    def deliver(self) -> None:
        """
        Deliver until no Cloud Task is left, and let a worker of each release fetch its tasks.
        """
        self.until(lambda: not self.cloud.tasks.tasks())
        for release in self._processes:
            self.do(release, "pull")

    def until(self, true: Callable[[], bool]) -> None:
        """
        Deliver until *true*.
        """
        end = time.monotonic() + patient(60)
        while not true():
            assert time.monotonic() < end, self.answers
            if not self.cloud.tasks.run_due():
                threading.Event().wait(0.02)

    @property
    def ran(self) -> Counter[str]:
        """
        How often each task has run.
        """
        return Counter(fact["what"] for fact in self.control.of("ran"))

    def document(self, path: str) -> dict[str, Any]:
        """
        The document as it is stored.
        """
        [found] = [value for name, value in self.documents().items() if name == path or name.endswith(f":{path}")]
        return found

    def documents(self) -> dict[str, dict[str, Any]]:
        """
        All documents, by path.
        """
        return {
            one.reference.path: one.to_dict()
            for name in ("orders", "onceTasks", "onceLocks")
            for one in self._client.collection(name).stream()
        }

    @property
    def _client(self) -> Any:
        return self._locker.client

    @property
    def _locker(self) -> Locker:
        return Locker(config=Config.from_env(self._settings))


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    """
    The cloud, without processes.
    """
    made = Fleet(tmp_path)
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", made.cloud.environment()["FIRESTORE_EMULATOR_HOST"])
    try:
        yield made
    finally:
        made.close()


def form(document: dict[str, Any]) -> int:
    """
    The form of a record that has a target.
    """
    lock = document["lock"]
    assert ("target" in lock, "url" in lock, "queue" in lock, lock.get("needs", [])) in [
        (False, True, True, []),
        (True, False, False, [schema_2.FEATURE]),
    ]
    return 2 if "target" in lock else 1


STAGES = [
    ["old"],
    ["old", "reads"],
    ["reads"],
    ["reads", "writes"],
    ["writes"],
    # Back by one release, and forward again.
    ["writes", "reads"],
    ["reads"],
    ["reads", "writes"],
    ["writes"],
]


@pytest.mark.timeout(300)
def test_forward_and_back_by_one_release_each_task_runs_once(fleet: Fleet) -> None:
    """
    At each stage each release leaves tasks for the next one: orders before their first and before their second step, mails,
    parcels. Each process can do all that it is given; each release writes new records in its own form.
    """
    expected: set[str] = set()
    crossings: set[tuple[int, str]] = set()
    for number, stage in enumerate(STAGES):
        fleet.deploy(*stage)
        waiting = {path: form(one) for path, one in fleet.documents().items() if waits(one)}
        told = len(fleet.control.of("ran"))
        fleet.deliver()
        for fact in fleet.control.of("ran")[told:]:
            id_ = fact["what"].split()[1]
            crossings |= {(was, fact["release"]) for path, was in waiting.items() if path.endswith(id_)}
        for release in stage:
            half, whole = f"{number}{release[0]}-h", f"{number}{release[0]}-w"
            fleet.do(release, "order", half)
            assert fleet.cloud.tasks.run_next() == 1
            fleet.do(release, "order", whole)
            fleet.do(release, "mail", whole)
            fleet.do(release, "parcel", whole)
            assert form(fleet.document(f"mail:{whole}")) == form(fleet.document(f"orders/{whole}"))
            assert form(fleet.document(f"mail:{whole}")) == (2 if release == "writes" else 1)
            assert "needs" not in fleet.document(f"parcel:{whole}")["lock"]
            expected |= {f"{what} {half}" for what in ("order", "receipt")}
            expected |= {f"{what} {whole}" for what in ("order", "receipt", "mail", "parcel")}
    fleet.deliver()

    assert fleet.ran == Counter(expected)
    assert {(status, outcome) for _, status, outcome in fleet.answers} == {(200, "completed"), (200, "continued")}
    assert crossings == {(1, "old"), (1, "reads"), (1, "writes"), (2, "reads"), (2, "writes")}
    orders = [path.partition("/")[2] for path in fleet.documents() if path.startswith("orders/")]
    fleet.deploy("writes", "reads")
    for release in ("writes", "reads"):
        assert {fleet.do(release, "state", order) for order in orders} == {"completed"}


def waits(document: dict[str, Any]) -> bool:
    """
    Whether it is a task that has a target and waits.
    """
    lock = document.get("lock", {})
    return lock.get("status") == "scheduled" and ("url" in lock or "target" in lock)


def test_back_by_two_releases_records_wait_unchanged(fleet: Fleet) -> None:
    """
    This release does not know the new form: deliveries, sweeps, people and newer payloads leave such records alone. It works on
    those that do not need the feature, also if the newer release has made them. Deployed again, the newer one does the rest.
    """
    fleet.deploy("writes")
    fleet.do("writes", "order", "half")
    assert fleet.cloud.tasks.run_next() == 1
    for call in ("order", "mail", "parcel"):
        fleet.do("writes", call, "new")
    fleet.deploy("old")
    paths = [path for path, one in fleet.documents().items() if waits(one)]
    before = {path: fleet.documents()[path] for path in paths}
    assert (len(paths), {form(one) for one in before.values()}) == (3, {2})

    for call in ("order", "mail", "parcel"):
        fleet.do("old", call, "own")
    fleet.until(lambda: Counter(outcome for *_, outcome in fleet.answers)["unhandled"] >= 9)
    assert {(status, outcome) for _, status, outcome in fleet.answers[1:]} <= {
        (409, "unhandled"),
        (200, "continued"),
        (200, "completed"),
    }
    assert fleet.do("old", "pull") == 2
    left = {"newer": 3, "needs": [schema_2.FEATURE], "damaged": 0, "failed": 0}
    fleet.until(lambda: fleet.do("old", "sweep") == left)
    for path in paths:
        assert {fleet.do("old", verb, path) for verb in ("cancel", "reset")} == {"UnknownFeatureError"}
    assert fleet.do("old", "mail", "new", "newer") == "UnknownFeatureError"
    assert fleet.do("old", "order", "new") == "UnknownFeatureError"
    ended = {"parcel new", "order own", "receipt own", "mail own", "parcel own"}
    assert fleet.ran == Counter({"order half", *ended})
    assert {path: fleet.documents()[path] for path in paths} == before

    fleet.deploy("writes")
    fleet.deliver()
    assert fleet.ran == Counter({"order half", "receipt half", "order new", "receipt new", "mail new", *ended})


def test_holder_of_an_older_release_goes_on_with_its_record(fleet: Fleet) -> None:
    """
    A release that was skipped: the old one runs a mail while the newest stores another payload for it. The record keeps its form
    until its holder has settled it, so that the holder's own commit leads to the run with the newer payload.
    """
    fleet.deploy("old")
    fleet.do("old", "mail", "a", "first")
    with held(fleet) as running:
        fleet.deploy("old", "writes")
        fleet.do("writes", "mail", "a", "newer")
        assert form(fleet.document("mail:a")) == 1
        running.set()
    fleet.deploy("writes")
    fleet.deliver()
    assert [fact["what"] for fact in fleet.control.of("ran")] == ["mail a first", "mail a newer"]
    assert form(fleet.document("mail:a")) == 2


@contextmanager
def held(fleet: Fleet) -> Iterator[threading.Event]:
    """
    Meanwhile a task runs, until the event is set; then it ends.
    """
    gate = threading.Event()
    fleet.control.hold = lambda fact: gate if fact["event"] == "ran" else None
    with ThreadPoolExecutor(1) as pool:
        delivery = pool.submit(fleet.cloud.tasks.run_next)
        try:
            fleet.control.wait("ran")
            yield gate
        finally:
            gate.set()
        assert delivery.result(patient(30)) == 1
    fleet.control.hold = lambda fact: None
