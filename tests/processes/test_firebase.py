"""
The project under ``firebase emulators:exec``: Google's Firestore emulator fires the triggers, firebase-tools runs the functions.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import psutil
import pytest
from google.cloud.firestore import Client

from gcp_emulator.cloud import LocalCloud
from gcp_emulator.ports import free_port
from gcp_oncetask import Config, Locker
from tests.support.branches import Branch
from tests.support.firebase_tools import PROGRAM, missing, startable
from tests.support.functions import ROOT, free_ports, post
from tests.support.orders import Order
from tests.support.patience import patient

pytestmark = [
    pytest.mark.google,
    pytest.mark.timeout(300),
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]

ACCOUNT = "functions@demo-local.iam.gserviceaccount.com"
_HOLD = "import socket,sys; s=socket.create_connection(('127.0.0.1',int(sys.argv[1]))); s.recv(1)"


class Emulators:
    """
    The project under firebase-tools.

    Attributes:
        functions: host:port of the functions emulator.
        firestore: host:port of Firestore.
    """

    def __init__(self, folder: Path, database: str) -> None:
        self.folder = folder
        names = ("firestore", "functions", "tasks", "eventarc", "hub", "logging", "websocket")
        self._ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.functions = f"127.0.0.1:{self._ports['functions']}"
        self.firestore = f"127.0.0.1:{self._ports['firestore']}"
        self.deliver = f"http://{self.functions}/demo-local/us-central1/deliver"
        self._write(database)

    def _write(self, database: str) -> None:
        functions = self.folder / "functions"
        functions.mkdir()
        (functions / "main.py").write_text(
            f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
            "from tests.support.functions_app import deliver, dispatch, sweep\n"
        )
        (functions / "requirements.txt").write_text((ROOT / "functions" / "requirements.txt").read_text())
        settings = (ROOT / "functions" / ".env").read_text()
        assert "ONCETASK_DATABASE=(default)" in settings
        (functions / ".env").write_text(settings.replace("(default)", database))
        # The tools run what is in functions/venv; ours has the SDK and the library.
        (functions / "venv").symlink_to(sys.prefix)
        for name in ("firestore.rules", "firestore.indexes.json"):
            (self.folder / name).write_text((ROOT / name).read_text())
        project = json.loads((ROOT / "firebase.json").read_text())
        [codebase] = project["functions"]
        codebase["runtime"] = f"python3{sys.version_info.minor}"
        for name, port in self._ports.items():
            if name != "websocket":
                project["emulators"][name] = {"host": "127.0.0.1", "port": port}
        project["emulators"]["firestore"]["websocketPort"] = self._ports["websocket"]
        (self.folder / "firebase.json").write_text(json.dumps(project))

    @contextmanager
    def running(self, environment: dict[str, str]) -> Iterator[None]:
        """
        Until the end of the block; its processes are gone afterwards.
        """
        with socket.create_server(("127.0.0.1", 0)) as gate, tempfile.TemporaryFile() as output:
            gate.settimeout(1)
            process, held = self._start(gate, environment, output)
            try:
                with held:
                    yield
                assert process.wait(patient(60)) == 0, _printed(output)
            except BaseException:
                print(_printed(output))
                raise
            finally:
                _end(process)

    def _start(
        self, gate: socket.socket, environment: dict[str, str], output: IO[bytes]
    ) -> tuple[subprocess.Popen[bytes], socket.socket]:
        hold = shlex.join([sys.executable, "-c", _HOLD, str(gate.getsockname()[1])])
        for _ in range(3):
            output.truncate(0)
            output.seek(0)
            process = subprocess.Popen(
                [str(PROGRAM), "emulators:exec", "--project", "demo-local", "--only", "firestore,functions", hold],
                cwd=self.folder,
                env={
                    **os.environ,
                    **environment,
                    # No log-in, no settings and no caches of the user's.
                    "HOME": str(self.folder),
                    "TMPDIR": str(self.folder),
                    "CI": "1",
                    "METADATA_SERVER_DETECTION": "none",
                    "FIRESTORE_EMULATOR_BINARY_PATH": str(startable(self.folder)),
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            held = _held(gate, process, output)
            if held is not None:
                return process, held
            _end(process)
        raise AssertionError(f"the port of its discovery was taken three times: {_printed(output)}")


def _held(gate: socket.socket, process: subprocess.Popen[bytes], output: IO[bytes]) -> socket.socket | None:
    """
    The command that emulators:exec runs once everything is up; None if the port that it looks for functions on (8081, or
    the next that it finds free) was taken by somebody else in between: then it waits for ever.
    """
    end = time.monotonic() + 120
    while "is in use by another program" not in _printed(output):
        assert process.poll() is None, _printed(output)
        assert time.monotonic() < end, _printed(output)
        try:
            return gate.accept()[0]
        except TimeoutError:
            continue
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    # It leaves the workers of Python functions behind, in its process group.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(patient(30))


def _printed(output: IO[bytes]) -> str:
    return os.pread(output.fileno(), 262_144, 0).decode(errors="replace")


class World:
    """
    Everything: the emulators, the local Cloud Tasks with tokens, and two lockers: one whose CreateTask fails, as if its
    process died after the commit.
    """

    def __init__(self, emulators: Emulators, cloud: LocalCloud, database: str) -> None:
        self.emulators, self.cloud = emulators, cloud
        self.environment = {
            **cloud.environment(),
            "ONCETASK_LOCATION": cloud.location,
            "ONCETASK_BASE_URL": f"http://{emulators.functions}",
            "ONCETASK_SERVICE_ACCOUNT": ACCOUNT,
            "ONCETASK_COLLECTIONS": "orders,shops/{shop}/branches",
            "GCP_EMULATOR_TASKS_HOST": cloud.tasks.address,
        }
        settings = {
            **self.environment,
            "ONCETASK_DATABASE": database,
            "FIRESTORE_EMULATOR_HOST": emulators.firestore,
            "CLOUD_TASKS_EMULATOR_HOST": f"127.0.0.1:{free_port()}",
            "ONCETASK_DISPATCH_GRACE_SECONDS": "0.001",
        }
        self.dead = Locker(config=Config.from_env(settings))
        del self.environment["FIRESTORE_EMULATOR_HOST"]

    def finished(self, path: str) -> dict[str, Any]:
        """
        The lock of *path* once it is completed.
        """
        done = threading.Event()
        found: list[dict[str, Any]] = []

        def on_change(documents: Any, *_: Any) -> None:
            for document in documents:
                lock = (document.to_dict() or {}).get("lock", {})
                if lock.get("status") == "completed":
                    found.append(lock)
                    done.set()

        client: Client = self.dead.client
        watch = client.document(path).on_snapshot(on_change)
        try:
            assert done.wait(90), f"{path} is not completed: {client.document(path).get().to_dict()}"
        finally:
            watch.unsubscribe()
        return found[0]

    def deliveries(self, path: str) -> list[int | None]:
        """
        Statuses of the deliveries of *path*, once all are answered.
        """
        assert self.cloud.tasks.idle(patient(30))
        name = path.replace("/", "%2F")
        return [record.status for record in self.cloud.tasks.dispatches if f"oncetask_document={name}&" in record.url]


def test_project_runs_under_firebase_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A document whose writer could not dispatch is dispatched by the trigger and delivered to the task queue function, once;
    one that no trigger is called for is dispatched by the sweep. In another database as well. No process is left.
    """
    # One after the other: two of them would meet on the port of their discovery.
    for database in ("(default)", "orders-eu"):
        folder = tmp_path / database.strip("()")
        folder.mkdir()
        emulators = Emulators(folder, database)
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", emulators.firestore)
        with LocalCloud(smtp=False) as cloud:
            world = World(emulators, cloud, database)
            with emulators.running(world.environment):
                _trigger_dispatches(world)
                _sweep_dispatches(world)
    ending = [found for found in psutil.process_iter() if _belongs(found, tmp_path)]
    assert psutil.wait_procs(ending, timeout=patient(10))[1] == []


def _trigger_dispatches(world: World) -> None:
    assert not world.dead.schedule(Order(id="1", amount=5), f"{world.emulators.deliver}/tasks/order").dispatched
    lock = world.finished("orders/1")

    assert lock["result"]["done"] == "1"
    assert (lock["attempts"], lock["dispatches"], world.deliveries("orders/1")[-1]) == (1, 1, 200)


def _sweep_dispatches(world: World) -> None:
    branch = Branch(id="7", shop="berlin")
    assert not world.dead.schedule(branch, f"{world.emulators.deliver}/tasks/branch").dispatched
    # Without the Pub/Sub emulator firebase-tools does not keep the schedule; it runs the function when told to.
    url = f"http://{world.emulators.functions}/functions/projects/demo-local/triggers/us-central1-sweep-0"
    status, text = post(url)
    assert status == 200, text
    lock = world.finished("shops/berlin/branches/7")

    # firebase-tools hangs up on a request now and then; Cloud Tasks delivers again.
    assert (lock["attempts"], lock["dispatches"], world.deliveries("shops/berlin/branches/7")[-1]) == (1, 2, 200)


def _belongs(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.cwd().startswith(str(folder)) or any(str(folder) in part for part in process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return False


def test_checked_in_project_names_files_that_are_there() -> None:
    """
    firebase.json's rules, indexes, source and predeploy command exist.
    """
    project = json.loads((ROOT / "firebase.json").read_text())
    [codebase] = project["functions"]
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert all((ROOT / project["firestore"][name]).is_file() for name in ("rules", "indexes"))
    assert {"main.py", "requirements.txt", ".env"} <= {path.name for path in (ROOT / codebase["source"]).iterdir()}
    assert [command.removeprefix("make ") for command in codebase["predeploy"]] == ["functions"]
    assert "functions" in targets
