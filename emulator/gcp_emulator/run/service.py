"""
A service: instances that are started, watched, restarted and stopped, and requests that are spread over them.
"""

from __future__ import annotations

import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from gcp_emulator.clock import Clock, SystemClock, new_id
from gcp_emulator.logging import LoggingServer
from gcp_emulator.run.front import Front, Request
from gcp_emulator.run.instance import (
    HOST,
    Answer,
    BrokenInstanceError,
    Instance,
    RequestTimeoutError,
    RunError,
)
from gcp_emulator.run.logs import LogName, RequestRecord, RunLogs

TIMED_OUT = (
    "The request has been terminated because it has reached the maximum request timeout. To change this limit, see "
    "https://cloud.google.com/run/docs/configuring/request-timeout"
)
BROKEN = (
    "The request failed because either the HTTP response was malformed or connection to the instance had an error. "
    "Additional troubleshooting documentation can be found at: "
    "https://cloud.google.com/run/docs/troubleshooting#malformed-response-or-connection-error"
)
UNAVAILABLE = "The request was aborted because there was no available instance."
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}.*")
_CLOUD_TRACE = re.compile(r"([0-9a-f]{32})(?:/.*)?")
_TRACE_HEADERS = ("x-cloud-trace-context", "traceparent")


class RunService:
    """
    One service of Cloud Run with one revision.

    Args:
        command: Program and arguments; it must listen on 127.0.0.1 or 0.0.0.0 at the port in ``PORT``.
        name: The service's name.
        logging: Gets the output, requests and the platform's remarks.
        clock: Stamps the log entries; all waiting is on the machine's clock.
        port: Port on which the service listens; 0 for a free one.
        request_timeout: Seconds until a request is answered 504; its code goes on running.
        concurrency: Requests that one instance works on at a time.
        env: Added to this process's environment.
        cwd: Directory in which the command runs.
        instances: Copies of the command.
        startup_timeout: Seconds an instance may take until it listens.
        shutdown_grace: Seconds between SIGTERM and SIGKILL.
        queue_timeout: Seconds a request waits for an instance before it is answered 429.
        log_delay: Seconds until this service's log entries can be listed, instead of the logging server's.

    Attributes:
        url: ``http://127.0.0.1:port`` once started.
        requests: Answers given, by status.
        revision: Name of the revision, as in ``K_REVISION``.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        name: str,
        project: str,
        logging: LoggingServer,
        region: str = "us-central1",
        clock: Clock | None = None,
        port: int = 0,
        request_timeout: float = 300.0,
        concurrency: int = 80,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        instances: int = 1,
        startup_timeout: float = 60.0,
        shutdown_grace: float = 10.0,
        queue_timeout: float = 10.0,
        log_delay: float | None = None,
    ) -> None:
        self.url = ""
        self.requests: Counter[int] = Counter()
        self.revision = f"{name}-00001-{new_id()[:3]}"
        self._command = list(command)
        self._environment = {
            **os.environ,
            **(env or {}),
            "K_SERVICE": name,
            "K_REVISION": self.revision,
            "K_CONFIGURATION": name,
        }
        self._cwd = cwd
        self._clock = clock or SystemClock()
        self._port = port
        self._request_timeout = request_timeout
        self._concurrency = concurrency
        self._count = instances
        self._startup_timeout = startup_timeout
        self._shutdown_grace = shutdown_grace
        self._queue_timeout = queue_timeout
        self._logs = RunLogs(
            logging,
            self._clock,
            project=project,
            region=region,
            service=name,
            revision=self.revision,
            delay=log_delay,
        )
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._serving: list[Instance] = []
        self._alive: set[Instance] = set()
        self._failure: RunError | None = None
        self._turn = 0
        self._keepers: list[threading.Thread] = []
        self._front: Front | None = None

    @property
    def instances(self) -> list[Instance]:
        """
        Instances that take requests now.
        """
        with self._changed:
            return list(self._serving)

    def start(self) -> str:
        """
        Start every instance, wait until all listen, and serve; returns the URL.

        Raises:
            RunError: An instance could not start.
        """
        self._stopping.clear()
        self._failure = None
        self._keepers = [
            threading.Thread(target=self._keep, name=f"run-instance-{number}", daemon=True)
            for number in range(self._count)
        ]
        for keeper in self._keepers:
            keeper.start()
        with self._changed:
            self._changed.wait_for(lambda: self._failure or len(self._serving) >= self._count)
        try:
            if self._failure is not None:
                raise self._failure
            self._front = Front(self._handle, self._port)
        except (RunError, OSError):
            self.stop()
            raise
        self.url = f"http://{HOST}:{self._front.port}"
        return self.url

    def stop(self) -> None:
        """
        Take no new requests, send SIGTERM, and after the grace SIGKILL; requests in flight may finish until then.
        """
        if self._front is not None:
            self._front.stop_accepting()
        self._stopping.set()
        with self._changed:
            self._serving.clear()
            alive = list(self._alive)
            self._changed.notify_all()
        for instance in alive:
            instance.send(signal.SIGTERM)
        with self._changed:
            if not self._changed.wait_for(lambda: not self._alive, self._shutdown_grace):
                for instance in self._alive:
                    instance.send(signal.SIGKILL)
        for keeper in self._keepers:
            keeper.join()
        self._keepers = []
        if self._front is not None:
            self._front.close()
            self._front = None

    def kill_instance(self, number: int = signal.SIGKILL, instance: Instance | None = None) -> Instance:
        """
        Send a signal to *instance*, or to the first that serves: SIGTERM to the command, others to its whole group.

        Raises:
            RunError: No instance is serving.
        """
        if instance is None:
            serving = self.instances
            if not serving:
                raise RunError("no instance is serving")
            instance = serving[0]
        instance.send(number)
        return instance

    def _keep(self) -> None:
        """
        Keep one instance running until the service stops.
        """
        pause = 0.0
        while not self._stopping.wait(pause):
            try:
                self._run_once()
            except RunError as error:
                pause = min(max(0.1, pause * 2), 5.0)
                self._logs.system(str(error)[:2000], "", severity="ERROR")
                with self._changed:
                    self._failure = self._failure or error
                    self._changed.notify_all()
            else:
                pause = 0.0

    def _run_once(self) -> None:
        instance = Instance(self._command, self._environment, self._cwd, self._line)
        with self._changed:
            self._alive.add(instance)
        if self._stopping.is_set():
            instance.send(signal.SIGTERM)
        try:
            instance.wait_listening(self._startup_timeout, self._stopping)
            with self._changed:
                if not self._stopping.is_set():
                    self._serving.append(instance)
                self._changed.notify_all()
            code = instance.wait_ended()
        except RunError:
            instance.destroy()
            raise
        finally:
            with self._changed:
                self._alive.discard(instance)
                if instance in self._serving:
                    self._serving.remove(instance)
                self._changed.notify_all()
        ending = f"Container called exit({code})." if code >= 0 else f"Container terminated on signal {-code}."
        self._logs.system(ending, instance.id, severity="WARNING" if code else "INFO")

    def _line(self, stream: str, text: str, instance_id: str) -> None:
        self._logs.line(cast("LogName", stream), text, instance_id)

    def _handle(self, request: Request) -> Answer:
        started = self._clock.micros()
        trace, span = _trace(request), new_id()[:16]
        instance = self._acquire()
        note = ""
        if instance is None:
            answer, note = _platform_answer(429, "Too Many Requests", "Rate exceeded."), UNAVAILABLE
        else:
            try:
                answer = instance.exchange(
                    request.method,
                    request.target,
                    _forwarded(request, trace, span),
                    request.body,
                    self._request_timeout,
                )
            except RequestTimeoutError:
                answer, note = _platform_answer(504, "Gateway Timeout", "upstream request timeout"), TIMED_OUT
                self._logs.system(TIMED_OUT, instance.id, severity="ERROR", trace=trace, span_id=span)
            except BrokenInstanceError:
                answer, note = _platform_answer(503, "Service Unavailable", "Service Unavailable"), BROKEN
            finally:
                self._release(instance)
        self._logs.request(
            RequestRecord(
                method=request.method,
                url=f"http://{request.header('host')}{request.target}",
                status=answer.status,
                started=started,
                ended=self._clock.micros(),
                request_size=len(request.body),
                response_size=len(answer.body),
                user_agent=request.header("user-agent"),
                remote_ip=request.remote_ip,
                referer=request.header("referer"),
                trace=trace,
                span_id=span,
                instance_id=instance.id if instance is not None else "",
                note=note,
            )
        )
        with self._changed:
            self.requests[answer.status] += 1
        return answer

    def _acquire(self) -> Instance | None:
        """
        An instance with room for one more request, in turn; None if there is none in time.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._stopping.is_set() or self._free(), self._queue_timeout)
            free = self._free()
            if not free:
                return None
            self._turn += 1
            instance = free[self._turn % len(free)]
            instance.in_flight += 1
            return instance

    def _release(self, instance: Instance) -> None:
        with self._changed:
            instance.in_flight -= 1
            self._changed.notify_all()

    def _free(self) -> list[Instance]:
        return [one for one in self._serving if one.in_flight < self._concurrency]


def _platform_answer(status: int, reason: str, text: str) -> Answer:
    return Answer(status, reason, [("Content-Type", "text/plain; charset=utf-8")], text.encode())


def _trace(request: Request) -> str:
    """
    The trace that came with the request, else a new one: 32 hexadecimal digits.
    """
    if match := _TRACEPARENT.fullmatch(request.header("traceparent")):
        return match[1]
    if match := _CLOUD_TRACE.fullmatch(request.header("x-cloud-trace-context")):
        return match[1]
    return new_id()


def _forwarded(request: Request, trace: str, span: str) -> list[tuple[str, str]]:
    """
    The headers that the container sees.
    """
    headers = [(name, value) for name, value in request.headers if name.lower() not in _TRACE_HEADERS]
    came_by = request.header("x-forwarded-for")
    return [
        *((name, value) for name, value in headers if name.lower() != "x-forwarded-for"),
        ("X-Forwarded-For", f"{came_by}, {request.remote_ip}" if came_by else request.remote_ip),
        ("X-Forwarded-Proto", "http"),
        ("X-Cloud-Trace-Context", f"{trace}/{int(span, 16)};o=1"),
        ("traceparent", f"00-{trace}-{span}-01"),
    ]
