"""
Google's own Firestore emulator: found where its installers put it, started and stopped.
"""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import IO

from gcp_emulator.clock import Clock, SystemClock
from gcp_emulator.ports import free_port

ENVIRONMENT = "GCP_EMULATOR_FIRESTORE_JAR"
MAIN_CLASS = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"

_IN_SDK = Path("platform/cloud-firestore-emulator/cloud-firestore-emulator.jar")
_SDKS = (Path("/usr/lib/google-cloud-sdk"), Path("/opt/google-cloud-sdk"), Path("/google-cloud-sdk"))
_FIREBASE = Path(".cache/firebase/emulators")
_STARTS = 3
_READY_SECONDS = 35.0
_SURE_SECONDS = 3.0
_PRINTED_BYTES = 64 * 1024
_RUNNING = "Dev App Server is now running"


def find() -> Path | None:
    """
    The emulator's jar, or None if it or Java is missing.

    It is looked for in the environment variable ``GCP_EMULATOR_FIRESTORE_JAR``, in the gcloud installation, and in the
    downloads of the Firebase CLI.
    """
    if shutil.which("java") is None:
        return None
    named = os.environ.get(ENVIRONMENT)
    if named:
        return Path(named) if Path(named).is_file() else None
    sdks = list(_SDKS)
    gcloud = shutil.which("gcloud")
    if gcloud is not None:
        sdks.insert(0, Path(gcloud).resolve().parent.parent)
    for sdk in sdks:
        if (sdk / _IN_SDK).is_file():
            return sdk / _IN_SDK
    downloaded = sorted((Path.home() / _FIREBASE).glob("cloud-firestore-emulator-*.jar"), key=_version)
    return downloaded[-1] if downloaded else None


def _version(jar: Path) -> list[int]:
    text = jar.stem.removeprefix("cloud-firestore-emulator-").removeprefix("v")
    return [int(part) if part.isdigit() else 0 for part in text.split(".")]


class GoogleFirestore:
    """
    One process of the emulator.

    Args:
        jar: The emulator; None: ``find()``.
        memory: Of its heap, as Java takes it.
        clock: For the wait until it is ready.
        rules: A ``firestore.rules`` for callers without the owner's token; None: everything is allowed.

    Attributes:
        address: ``127.0.0.1:port`` while started.
    """

    def __init__(
        self,
        jar: Path | None = None,
        *,
        memory: str = "512m",
        clock: Clock | None = None,
        rules: Path | None = None,
    ) -> None:
        self.address = ""
        self._rules = rules
        self._jar = jar
        self._memory = memory
        self._clock = SystemClock() if clock is None else clock
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None

    def start(self, port: int = 0) -> str:
        """
        Start on a loopback *port* (0: a free one) and wait until it answers; returns the address.

        Raises:
            RuntimeError: The emulator is not installed, or it did not start; the message has its output.
        """
        jar = self._jar or find()
        if jar is None:
            raise RuntimeError(
                "Google's Firestore emulator was not found: install Java and `gcloud components install "
                f"cloud-firestore-emulator`, or set {ENVIRONMENT} to its jar."
            )
        if port and not _is_free(port):
            # Java would find out too late: until then the other server's answer looks like its own.
            raise RuntimeError(f"Address already in use: something listens on port {port} of 127.0.0.1.")
        # Another process may take a free port before Java binds it.
        for left in range(_STARTS - 1, -1, -1):
            try:
                return self._start(jar, port or free_port())
            except RuntimeError:
                self.stop()
                if port or not left:
                    raise
        raise AssertionError

    def stop(self) -> None:
        """
        End the process; its documents are gone.
        """
        process, self._process = self._process, None
        if process is not None:
            _end(process)
        if self._output is not None:
            self._output.close()
            self._output = None
        self.address = ""

    def wipe(self, project: str, database: str = "(default)") -> None:
        """
        Delete every document of one database.
        """
        status = self._http("DELETE", f"/emulator/v1/projects/{project}/databases/{database}/documents")
        if status != http.HTTPStatus.OK:
            raise RuntimeError(f"The emulator at {self.address} refused to wipe {project}/{database}: {status}.")

    def _start(self, jar: Path, port: int) -> str:
        self._output = tempfile.TemporaryFile(prefix="firestore-emulator-")  # noqa: SIM115 - closed in stop
        self._process = subprocess.Popen(  # noqa: S603 - our own command line
            [
                shutil.which("java") or "java",
                f"-Xmx{self._memory}",
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
                "-cp",
                str(jar),
                MAIN_CLASS,
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
                *(() if self._rules is None else ("--rules", str(self._rules))),
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.address = f"127.0.0.1:{port}"
        self._await_ready()
        return self.address

    def _await_ready(self) -> None:
        assert self._process is not None
        until = self._clock.micros() + round(_READY_SECONDS * 1_000_000)
        sure = None
        pause = threading.Condition()
        while self._process.poll() is None:
            now = self._clock.micros()
            if self._answers():
                # Another process may have taken the port and answer; then the emulator would end soon.
                sure = sure or now + round(_SURE_SECONDS * 1_000_000)
                if now >= sure or _RUNNING in self._printed():
                    return
            if now >= until:
                raise RuntimeError(f"The Firestore emulator wasn't ready in time. It printed:\n{self._printed()}")
            with pause:
                self._clock.wait(pause, now + 50_000)
        raise RuntimeError(
            f"The Firestore emulator ended with {self._process.returncode}. It printed:\n{self._printed()}"
        )

    def _answers(self) -> bool:
        try:
            return self._http("GET", "/", timeout=1) == http.HTTPStatus.OK
        except OSError:
            return False

    def _http(self, method: str, path: str, *, timeout: float = 30) -> int:
        connection = http.client.HTTPConnection(self.address, timeout=timeout)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()

    def _printed(self) -> str:
        assert self._output is not None
        # Not by seeking: the process writes at the position that we share with it.
        return os.pread(self._output.fileno(), _PRINTED_BYTES, 0).decode(errors="replace")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(10)
            return
        except subprocess.TimeoutExpired:
            continue
    process.wait()
