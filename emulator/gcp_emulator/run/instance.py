"""
One container instance: a process group, its port, its output, and HTTP exchanges with it.

Waits are by the machine's clock, because processes use it; another clock may stamp the logs.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from gcp_emulator.clock import SystemClock, new_id
from gcp_emulator.ports import free_port

HOST = "127.0.0.1"
MAX_LINE = 256 * 1024
# Below the keep-alive time of common servers (gunicorn: 2 s), so that a request hardly ever meets a closing connection.
MAX_IDLE_SECONDS = 1.0
_REAL = SystemClock()

Headers = Sequence[tuple[str, str]]
OnLine = Callable[[str, str, str], None]


class RunError(Exception):
    """
    The command can't serve: it was not found, ended, or never listened on its port.
    """


class BrokenInstanceError(Exception):
    """
    The connection to the instance could not be made or broke before the answer was complete.
    """


class RequestTimeoutError(Exception):
    """
    No complete answer within the request time-out.
    """


@dataclass(frozen=True, slots=True)
class Answer:
    """
    The answer for the client.
    """

    status: int
    reason: str
    headers: Headers
    body: bytes


class Instance:
    """
    A running copy of the command, in a process group of its own.

    Attributes:
        id: Long hexadecimal id, as in ``labels.instanceId``.
        port: Port on which it listens.
        in_flight: Requests it is working on; kept by the service.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], cwd: str | Path | None, on_line: OnLine
    ) -> None:
        self.id = f"00{new_id()}{new_id()}"
        self.port = free_port()
        self.in_flight = 0
        self._on_line = on_line
        self._last_lines: deque[str] = deque(maxlen=20)
        self._draining = False
        self._idle: list[tuple[http.client.HTTPConnection, int]] = []
        self._lock = threading.Lock()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - running the caller's command is the purpose
                list(command),
                env={**environment, "PORT": str(self.port)},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise RunError(f"'{command[0]}' can't be started: {error.strerror}") from error
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._readers = [
            self._reader("stdout", self._process.stdout),
            self._reader("stderr", self._process.stderr),
        ]

    @property
    def pid(self) -> int:
        """
        Process id of the command itself; also the id of its process group.
        """
        return self._process.pid

    def processes(self) -> list[int]:
        """
        Process ids of the group that are alive: the command and its children, such as a server's workers.
        """
        return sorted(_members(self.pid))

    def send(self, number: int) -> None:
        """
        Send a signal as the platform would: SIGTERM to the command alone, any other to the whole group.
        """
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGTERM:
                self._process.send_signal(number)
                # A server that ends in good order waits for its open connections.
                self._draining = True
                self._close_idle()
            else:
                os.killpg(self.pid, number)

    def wait_listening(self, timeout: float, cancelled: threading.Event) -> None:
        """
        Wait until the port accepts connections.

        Raises:
            RunError: The command ended first, or *timeout* seconds passed.
        """
        until = _REAL.micros() + round(timeout * 1_000_000)
        while not cancelled.is_set():
            with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), 1.0):
                return
            if self._process.poll() is not None:
                self._finish_output()
                raise RunError(
                    f"The command ended with {_ending(self._process.returncode)} before it listened on "
                    f"port {self.port} (the PORT variable).{self._said()}"
                )
            if _REAL.micros() > until:
                raise RunError(
                    f"The command did not listen on 127.0.0.1:{self.port} (the PORT variable) within "
                    f"{timeout:g} s.{self._said()}"
                )
            cancelled.wait(0.02)

    def wait_ended(self) -> int:
        """
        Wait for the command's end, end the rest of its group, and collect the output; return the exit code, negative for a
        signal.
        """
        # The zombie keeps the group's id from being given to others until the group has been killed.
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        return self.destroy()

    def destroy(self) -> int:
        """
        Kill the whole group and collect it; returns the command's exit code.
        """
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        code = self._process.wait()
        self._finish_output()
        self._close_idle()
        return code

    def exchange(
        self, method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes, timeout: float
    ) -> Answer:
        """
        One request and its answer.

        Raises:
            BrokenInstanceError: The connection failed.
            RequestTimeoutError: *timeout* seconds passed; the instance works on and is not told.
        """
        until = _REAL.micros() + round(timeout * 1_000_000)
        connection = self._connection(timeout)
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            connection.endheaders(body or None)
            wire = connection.sock
            answer, reusable = self._answer(connection, wire, until)
        except TimeoutError:
            _abandon(connection, method)
            raise RequestTimeoutError from None
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise BrokenInstanceError(str(error) or type(error).__name__) from error
        with self._lock:
            if reusable and not self._draining:
                self._idle.append((connection, _REAL.micros()))
                return answer
        connection.close()
        return answer

    def _answer(self, connection: http.client.HTTPConnection, wire: socket.socket, until: int) -> tuple[Answer, bool]:
        wire.settimeout(_left(until))
        response = connection.getresponse()
        parts: list[bytes] = []
        while part := response.read1(1 << 20):
            parts.append(part)
            if response.isclosed():
                break
            wire.settimeout(_left(until))
        missing = response.length
        response.close()
        if missing:
            raise http.client.IncompleteRead(b"", missing)
        answer = Answer(response.status, response.reason, response.getheaders(), b"".join(parts))
        return answer, not response.will_close

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        now = _REAL.micros()
        while True:
            with self._lock:
                connection, used = self._idle.pop() if self._idle else (None, 0)
            if connection is None:
                return http.client.HTTPConnection(HOST, self.port, timeout=timeout)
            if now - used < MAX_IDLE_SECONDS * 1_000_000 and not _closed_by_peer(connection):
                connection.sock.settimeout(timeout)
                return connection
            connection.close()

    def _reader(self, stream: str, pipe: IO[bytes]) -> threading.Thread:
        def read() -> None:
            with pipe:
                while raw := pipe.readline(MAX_LINE):
                    text = raw.decode("utf-8", "replace").rstrip("\r\n")
                    if text:
                        self._last_lines.append(text)
                        self._on_line(stream, text, self.id)

        thread = threading.Thread(target=read, name=f"run-{stream}-{self.pid}", daemon=True)
        thread.start()
        return thread

    def _close_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.close()

    def _finish_output(self) -> None:
        for reader in self._readers:
            reader.join(5.0)

    def _said(self) -> str:
        lines = "".join(f"\n    {line}" for line in self._last_lines)
        return f" Its last output:{lines}" if lines else " It wrote nothing."


def _left(until: int) -> float:
    left = (until - _REAL.micros()) / 1_000_000
    if left <= 0:
        raise TimeoutError
    return left


def _closed_by_peer(connection: http.client.HTTPConnection) -> bool:
    try:
        connection.sock.setblocking(False)
        connection.sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _abandon(connection: http.client.HTTPConnection, method: str) -> None:
    """
    Let the instance finish its answer unread, because the platform does not tell it that the client has gone.
    """
    wire = connection.sock
    if wire is None:
        return

    def drain() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            wire.settimeout(None)
            late = http.client.HTTPResponse(wire, method=method)
            late.begin()
            late.read()
        connection.close()

    threading.Thread(target=drain, name="run-abandoned", daemon=True).start()


def _ending(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {-code}"


def _members(group: int) -> list[int]:
    """
    Living processes of a process group, from /proc or else from ps.
    """
    if not Path("/proc/self/stat").exists():
        listed = subprocess.run(
            ["/bin/ps", "-A", "-o", "pid=,pgid=,stat="], capture_output=True, text=True, check=True
        ).stdout
        rows = [line.split() for line in listed.splitlines()]
        return [int(pid) for pid, pgid, state in rows if int(pgid) == group and not state.startswith("Z")]
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                # The command's name in parentheses may itself hold spaces and parentheses.
                state, _, pgid, *_ = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(pgid) == group and state not in "ZX":
                    found.append(int(entry.name))
    return found
