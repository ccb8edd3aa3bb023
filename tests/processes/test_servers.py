"""
Real processes, real HTTP, real kills: gunicorn before the local cloud, leases of three seconds (more on a busy machine).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import urllib3

from gcp_emulator.cloud import LocalCloud
from gcp_oncetask import Config, Locker, Status, sweep
from tests.support.jobs import Job
from tests.support.patience import patient

ROOT = Path(__file__).parents[2]
ACCOUNT = "jobs@demo-local.iam.gserviceaccount.com"


class Control:
    """
    What the handlers tell, and when they may go on.
    """

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.news = threading.Condition()
        self.hold: Callable[[dict[str, Any]], threading.Event | None] = lambda fact: None
        control = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                fact = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with control.news:
                    control.told.append(fact)
                    control.news.notify_all()
                gate = control.hold(fact)
                if gate is not None:
                    gate.wait()
                try:
                    self.send_response(200)
                    self.end_headers()
                except OSError:
                    pass

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/"

    def wait(self, event: str, count: int = 1, timeout: float = 30) -> list[dict[str, Any]]:
        """
        The first *count* facts of that event.
        """
        with self.news:
            found = self.news.wait_for(lambda: len(self.of(event)) >= count, patient(timeout))
        assert found, f"{event} did not come {count} times: {self.told}"
        return self.of(event)[:count]

    def of(self, event: str) -> list[dict[str, Any]]:
        """
        The facts of that event so far.
        """
        return [fact for fact in self.told if fact["event"] == event]


class Service:
    """
    The app under gunicorn, and a locker of the test's own.
    """

    def __init__(
        self,
        cloud: LocalCloud,
        control: Control,
        locker: Locker,
        url: str,
        process: subprocess.Popen[bytes],
        lease: float,
    ) -> None:
        self.cloud, self.control, self.locker, self.url, self.process = cloud, control, locker, url, process
        self.lease = lease

    def status(self, id_: str) -> Status | None:
        """
        Stored status of a job.
        """
        found = self.locker.get(Job, id_)
        return None if found is None or found.lock is None else found.lock.status

    def until(self, true: Callable[[], bool], timeout: float = 80) -> None:
        """
        Sweep until *true*.
        """
        end = time.monotonic() + patient(timeout)
        while not true():
            assert time.monotonic() < end, self.control.told
            sweep(self.locker, collections=("jobs",))
            threading.Event().wait(0.2)


@contextmanager
def serving(workers: int = 4, **extra: str) -> Iterator[Service]:
    """
    The whole of it.
    """
    # Listened to before the server begins: a port that was only looked up may be somebody else's by then.
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    lease = patient(3)
    control = Control()
    with LocalCloud(smtp=False) as cloud:
        settings = {
            **cloud.environment(),
            "ONCETASK_LOCATION": cloud.location,
            "ONCETASK_BASE_URL": url,
            "ONCETASK_SERVICE_ACCOUNT": ACCOUNT,
            "ONCETASK_REQUEST_TIMEOUT_SECONDS": str(lease + 1),
            "JOB_LEASE": str(lease),
            "ONCETASK_DISPATCH_GRACE_SECONDS": "2",
            "ONCETASK_LOG_GRACE_SECONDS": "1",
            "ONCETASK_LOG_INTERVAL_SECONDS": "0",
        }
        command = [
            sys.executable,
            "-m",
            "gunicorn",
            "tests.support.process_app:app",
            "--bind",
            f"fd://{listener.fileno()}",
        ]
        command += ["--workers", str(workers), "--worker-class", "gthread", "--threads", "16", "--timeout", "120"]
        process = subprocess.Popen(
            [*command, *(["--preload"] if extra else [])],
            cwd=ROOT,
            env={**os.environ, **settings, "CONTROL_URL": control.url, **extra},
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=(listener.fileno(),),
        )
        listener.close()
        before = os.environ.get("FIRESTORE_EMULATOR_HOST")
        os.environ["FIRESTORE_EMULATOR_HOST"] = settings["FIRESTORE_EMULATOR_HOST"]
        try:
            locker = Locker(config=Config.from_env(settings))
            yield Service(cloud, control, locker, url, process, lease)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(patient(30))
            control.server.shutdown()
            control.server.server_close()
            if before is None:
                del os.environ["FIRESTORE_EMULATOR_HOST"]
            else:
                os.environ["FIRESTORE_EMULATOR_HOST"] = before


def hold_first_attempt(fact: dict[str, Any], gate: threading.Event) -> threading.Event | None:
    """
    The gate for the first attempt; the others pass.
    """
    return gate if fact["event"] == "running" and fact["number"] == 1 else None


def test_stopped_holder_is_taken_over_changes_nothing_and_is_told() -> None:
    """
    A process stopped (SIGSTOP) past lease and timeout is taken over; resumed, it writes nothing and learns LeaseLostError.
    """
    with serving(workers=2) as service:
        gate = threading.Event()
        service.control.hold = lambda fact: hold_first_attempt(fact, gate)
        service.locker.schedule(Job(id="a"), "/tasks/job")
        [first] = service.control.wait("running")
        os.kill(first["pid"], signal.SIGSTOP)
        try:
            service.until(lambda: service.status("a") is Status.COMPLETED)
        finally:
            gate.set()
            os.kill(first["pid"], signal.SIGCONT)
        [lost] = service.control.wait("lost")

        job = service.locker.get(Job, "a")
        assert job is not None
        assert job.note == "by attempt 2"
        assert (lost["number"], lost["pid"]) == (1, first["pid"])
        runs = service.control.of("running")
        assert [run["number"] for run in runs] == [1, 2]
        assert len({run["key"] for run in runs}) == 1
        assert [run["token"] for run in runs] == [1, 2]


@pytest.mark.slow
def test_fifty_copies_on_an_expired_lease_run_once() -> None:
    """
    Fifty simultaneous copies over HTTP to four processes, when the lease of a killed holder has run out: one runs.
    """
    with serving(workers=4) as service:
        gate = threading.Event()
        service.control.hold = lambda fact: hold_first_attempt(fact, gate)
        service.locker.schedule(Job(id="b"), "/tasks/job")
        [first] = service.control.wait("running")
        [task] = service.cloud.tasks.tasks()
        service.cloud.tasks.service.call("PauseQueue", _pause(service.cloud.queue()))
        os.kill(first["pid"], signal.SIGKILL)
        gate.set()
        # The timeout, which is two leases, and a log grace: there is no evidence here.
        threading.Event().wait(2 * service.lease + 1.5)
        token = service.cloud.oidc.token(service.url, ACCOUNT)
        pool = urllib3.PoolManager(num_pools=1, maxsize=50)

        def post(_: int) -> int:
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            answer = pool.request(
                "POST", task.http_request.url, body=task.http_request.body, headers=headers, retries=False
            )
            return int(answer.status)

        with ThreadPoolExecutor(50) as posters:
            statuses = list(posters.map(post, range(50)))

        assert [run["number"] for run in service.control.of("running")] == [1, 2], service.control.told
        assert {200, 409} >= set(statuses)
        assert service.status("b") is Status.COMPLETED


def _pause(queue: str) -> Any:
    from google.cloud.tasks_v2.types import PauseQueueRequest

    return PauseQueueRequest.pb()(name=queue)


def test_killed_worker_is_replaced_and_its_task_runs_again_with_the_same_key() -> None:
    """
    SIGKILL in the middle of a handler: taken over after the timeout, run again with the same key, completed.
    """
    with serving(workers=2) as service:
        gate = threading.Event()
        service.control.hold = lambda fact: hold_first_attempt(fact, gate)
        service.locker.schedule(Job(id="c"), "/tasks/job")
        [first] = service.control.wait("running")
        os.kill(first["pid"], signal.SIGKILL)
        service.until(lambda: service.status("c") is Status.COMPLETED)
        gate.set()

        one, two = service.control.of("running")
        assert one["key"] == two["key"]
        assert one["pid"] != two["pid"]


@pytest.mark.timeout(180)
def test_locker_that_was_used_before_the_fork_works_in_the_children() -> None:
    """
    gunicorn --preload: the master has scheduled at import; its children open channels of their own and serve.
    """
    with serving(workers=2, SCHEDULE_AT_IMPORT="1") as service:
        service.until(lambda: service.status("preloaded") is Status.COMPLETED)
        for number in range(8):
            service.locker.schedule(Job(id=f"d{number}"), "/tasks/job")
        service.until(lambda: all(service.status(f"d{number}") is Status.COMPLETED for number in range(8)))

        assert service.process.pid not in {run["pid"] for run in service.control.of("running")}
