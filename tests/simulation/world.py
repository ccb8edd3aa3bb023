"""
The world of one history: the in-process cloud, app processes that live and die on it, and everything that goes wrong.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import Any

import grpc

from gcp_emulator.faults import Faults
from gcp_emulator.firestore import FirestoreServer
from gcp_emulator.firestore.listen import Listener
from gcp_emulator.firestore.messages import CommitRequest, Write
from gcp_emulator.logging import LoggingServer
from gcp_emulator.rpc import RpcError, Service
from gcp_emulator.run.logs import RequestRecord, RunLogs
from gcp_emulator.tasks import Answer, Dispatch, TasksServer, WsgiTransport
from gcp_oncetask import Config, Locker, forks
from gcp_oncetask.clock import Mark, Wakeup
from gcp_oncetask.execution.renewal import Renewals
from gcp_oncetask.logs import CloudFormatter
from gcp_oncetask.observe.alerts import Alert
from gcp_oncetask.services.cloud_logging import CloudRequestLog
from tests.simulation.chains.plan import Plan
from tests.simulation.clients import DATABASE, PROJECT, Clients
from tests.simulation.hub import SECOND, Hub, Owner, Promise, Signal
from tests.simulation.outlets import Mail, Stdout
from tests.simulation.troubles.listeners import Stream
from tests.simulation.troubles.versions import Versions

QUEUE = f"projects/{PROJECT}/locations/here/queues/default"
ORIGIN = "https://app.test"
REQUEST_TIMEOUT = 300.0
MOST_READS = 3
"""Tries of one read, as many as the library makes."""
_WRITING = ("Commit", "BatchWrite", "CreateTask")
"""Calls that change something also when their caller has given up."""
_LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.INTERNAL)
_REFUSED = (grpc.StatusCode.ABORTED, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)


class ProcessClock:
    """
    The library's clock in one process: virtual time, and a wall clock that may be wrong.
    """

    def __init__(self, hub: Hub, process: Process) -> None:
        self._hub = hub
        self._process = process

    def now(self) -> datetime:
        return self._hub.time() + self._process.skew

    def mark(self) -> Mark:
        seconds = self._hub.now / SECOND
        return Mark(seconds, seconds, seconds + self._process.skew.total_seconds())

    def wait(self, event: Wakeup | Signal, timeout: float) -> bool:
        # Rounded up: who waits for less than a microsecond would look again at the same instant, for ever.
        wait = timeout + 1 / SECOND if timeout > 0 else 0.0
        if isinstance(event, Signal):
            event.wait(wait)
        else:
            self._hub.sleep(wait)
        return event.is_set()

    def random(self) -> float:
        return self._hub.rng.random()

    def nonce(self) -> str:
        return f"{self._hub.rng.getrandbits(96):024x}"


@dataclass(eq=False)
class Process(Owner):
    """
    One app process.

    Attributes:
        skew: How wrong its wall clock is.
        cut_off: Until then (micros) its network is down.
        hurt_until: Until then it may be frozen, cut off, or unable to read.
        unread: How often it has failed to read a document since it last wrote it.
        unheard: Nonces that were granted a lease by a commit whose answer never came.
        locker: Its locker.
        app: Its Flask app; None before the first delivery.
        released: Whether it is of the release before.
        requests: Those it has not answered.
    """

    skew: timedelta = timedelta(0)
    cut_off: int = 0
    hurt_until: int = 0
    unread: Counter[str] = field(default_factory=Counter)
    unheard: set[str] = field(default_factory=set)
    locker: Any = None
    app: Any = None
    released: bool = False
    requests: list[Promise] = field(default_factory=list)


class World:
    """
    Everything that one history has.

    Args:
        plan: What it is made of.
        begin: Told of every process that starts.
        make_app: Makes the Flask app of a process, once something is delivered to it.
        observe: Told of every call that took effect: process, name, request.
        settings: Of the library, beside those that all worlds have.
    """

    def __init__(
        self,
        plan: Plan,
        begin: Callable[[World, Process], None],
        make_app: Callable[[World, Process], Any],
        observe: Callable[[Process | None, str, Any], None],
        settings: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.plan = plan
        self._settings = settings
        self.hub = Hub(plan.seed, datetime(2026, 1, 1, tzinfo=UTC))
        self.faults = Faults(plan.seed)
        self.firestore = FirestoreServer(self.hub, self.faults)
        self.tasks = TasksServer(self.hub, self.faults, None, self.deliver, auto=False)
        self.logging = LoggingServer(self.hub, self.faults)
        self.tasks.create_queue(QUEUE)
        self.cloud = Owner("cloud")
        self.processes: list[Process] = []
        self.alerts: list[Alert] = []
        self.mailed: Callable[[Alert], None] = lambda alert: None
        self.sender: Process | None = None
        self.mail_down = False
        self.returned: set[str] = set()
        self.in_time: dict[str, datetime] = {}
        self.streams: list[tuple[Process, Stream]] = []
        self.no_listeners = False
        self.versions = Versions() if plan.has("versions") else None
        self.hub.before = None if self.versions is None else self.versions.be
        self.landing = False
        self.latest = 900.0
        self.quiet_from = 0
        self.trouble = True
        self.counts: Counter[str] = Counter()
        self.story: list[tuple[int, str, str]] = []
        self._begin = begin
        self._make_app = make_app
        self._observe = observe
        self._made = 0
        self.made: dict[str, int] = {}
        self._newest = -1
        self._clients: list[Clients] = []
        self._started: list[Process] = []

    def listener(self) -> Listener:
        """
        The server's side of a Listen call.
        """
        return self.firestore.listener(DATABASE)

    def _clients_by(self, process: Process) -> Clients:
        services = (self.firestore.service, self.tasks.service, self.logging.service)
        via, talk = self._call_of(process), partial(Stream, self, process)
        self._clients.append(Clients.to(services, self.hub, via, talk))
        return self._clients[-1]

    def close(self) -> None:
        """
        End what still waits; the clients are free for another world.
        """
        self.hub.close()
        if self.versions is not None:
            self.versions.be(self.cloud)
        for process in self._started:
            process.locker._executor.renewals.close()
        while self._clients:
            self._clients.pop().give_back()

    def tell(self, who: str, what: str) -> None:
        """
        Add a line to the story.
        """
        self.story.append((self.hub.now, who, what))

    def hit(self, trouble: str, chance: float) -> bool:
        """
        Whether *trouble* strikes now.
        """
        struck = self.trouble and self.plan.has(trouble) and self.hub.rng.random() < chance
        if struck:
            self.counts[trouble] += 1
        return struck

    # --- processes ---

    def start_process(self) -> Process:
        """
        Start an app process, with a locker of its own.
        """
        self._made += 1
        process = Process(f"app-{self._made}")
        if self.versions is not None and self.hub.rng.random() < 0.5:
            process.released = True
            self.counts["processes of the release before"] += 1
        clients = self._clients_by(process)
        clock = ProcessClock(self.hub, process)
        config = Config(
            project=PROJECT,
            location="here",
            verify="off",
            base_url=ORIGIN,
            log_contents=self.plan.log_contents,
            inline_limit=16_384 if self.plan.inline else 0,
            collections=("jobs",),
            alert_window=self.plan.window,
            **self._settings,
        )
        process.locker = Locker(
            clients.firestore,
            config=config,
            tasks=clients.tasks,
            request_log=CloudRequestLog(project=lambda: PROJECT, emulator=None, clock=clock, client=clients.logging),
            alerts=Mail(self, process),
            clock=clock,
        )
        process.locker._runtime.trail_to(Stdout(self, process))
        process.locker._runtime.instance = lambda: process.name
        process.locker._executor.renewals = Renewals(clock, lambda run, *a: self.hub.spawn(process, run, *a))
        self._begin(self, process)
        self.processes.append(process)
        self._started.append(process)
        self.runtime = process.locker._runtime
        self.tell(process.name, "starts")
        return process

    def freeze(self, process: Process, seconds: float, when: str = "") -> None:
        """
        SIGSTOP, and SIGCONT after *seconds*.
        """
        self.words(process)
        process.frozen = True
        process.hurt_until = max(process.hurt_until, self.hub.now + round(seconds * SECOND))
        self.tell(process.name, f"is frozen for {seconds:g} s {when}")
        self.hub.spawn(self.cloud, self.thaw, process, after=seconds)

    def thaw(self, process: Process) -> None:
        """
        Let it go on, if it is frozen.
        """
        if process.frozen:
            self.counts["thaws"] += 1
            self.tell(process.name, "goes on")
            self.hub.thaw(process)

    def kill(self, process: Process, when: str = "") -> None:
        """
        SIGKILL: nothing of it runs again, its requests are broken off.
        """
        process.dead = True
        self.processes.remove(process)
        self.tell(process.name, f"is killed {when} with {len(process.requests)} requests")
        if self.hub.rng.random() < 0.5:
            self.run_logs(process).system("Container terminated on signal 9.", process.name)
        for promise in process.requests:
            promise.give(Answer(503, b"connection error"))

    def words(self, process: Process) -> None:
        """
        What users say on the instance of *process*: it looks like evidence about its holders, and is none.
        """
        if not (self.trouble and self.plan.has("words")):
            return
        self.counts["words"] += 1
        logs = self.run_logs(process, delay=0.3)
        killed = f"Worker (pid:{forks.pid}) was sent SIGKILL! Perhaps out of memory?"
        stamped = f"[{self.hub.time():%Y-%m-%d %H:%M:%S %z}] [{{}}] [ERROR] {killed}"
        logs.line("stderr", f"WARNING:root:can't parse comment '{killed}'", process.name)
        logs.line("stderr", f"can't parse comment 'x\n{stamped.format(forks.parent)}", process.name)
        logs.line("stderr", f"{stamped.format(forks.parent)}, says a user", process.name)
        logs.line("stderr", stamped.format(forks.pid), process.name)
        logs.line("stdout", "Container terminated on signal 9.", process.name)
        data = {"oncetask": {"event": "returned", "settlement": '{"kind": "complete", "nonce": "users"}'}}
        created = self.hub.time().timestamp()
        record = logging.makeLogRecord({"msg": "ordered", "levelno": logging.INFO, "created": created, **data})
        logs.line("stdout", CloudFormatter().format(record), process.name)

    def kill_if_alive(self, process: Process, when: str) -> None:
        """
        SIGKILL, which may come too late.
        """
        if process in self.processes:
            self.kill(process, when)

    def some_process(self) -> Process:
        """
        Any process that is alive; a new one if there is none.
        """
        alive = self.processes
        if len(alive) < self.plan.instances and (not alive or self.hub.rng.random() < 0.3):
            return self.start_process()
        return self.hub.rng.choice(alive)

    # --- remote calls ---

    def _call_of(self, process: Process) -> Callable[..., Any]:
        def call(service: Service, name: str, request: Any, timeout: float | None) -> Any:
            if name == "Commit":
                for write in request.writes:
                    process.unread.pop(write.update.name, None)
            try:
                return hurt(service, name, request, timeout)
            except RpcError:
                for read in [request.name] if name == "GetDocument" else getattr(request, "documents", ()):
                    self._unread(process, read)
                raise

        def hurt(service: Service, name: str, request: Any, timeout: float | None) -> Any:
            draw = self.hub.rng
            self.hub.sleep(draw.expovariate(50))
            self._struck(process, f"before its {name}")
            if self.hub.now < process.cut_off:
                self._cut(process, service, name, request, timeout)
            if self.hit("refused_calls", 0.05):
                code = draw.choice(_REFUSED)
                self.tell(process.name, f"{name} fails before its effect: {code.name}")
                raise RpcError(code, "refused by the simulation")
            if self.hit("late_calls", 0.04):
                self._lands_late(process, service, name, request, timeout)
            if name == "ListLogEntries" and self.trouble and draw.random() < 0.5:
                # The worst moment to come back: while somebody asks whether one is still alive.
                for other in self.processes:
                    self.thaw(other)
            answer = self._applied(process, service, name, request)
            self._struck(process, f"after its {name}")
            if self.hit("lost_answers", 0.06):
                code = draw.choice(_LOST)
                self.tell(process.name, f"the answer of {name} is lost: {code.name}")
                if name == "Commit":
                    self.counts[f"ambiguous commit: {code.name}"] += 1
                    self.counts[f"ambiguous commit: {_kind(request)}"] += 1
                    process.unheard |= _holders(request)
                self.hub.sleep(draw.expovariate(1))
                raise RpcError(code, "the answer was lost")
            self.hub.sleep(draw.expovariate(50))
            return answer

        return call

    def _unread(self, process: Process, name: str) -> None:
        """
        A library that can't read back what became of its commit leaves that to others, after a few tries.
        """
        process.unread[name] += 1
        if process.unread[name] >= MOST_READS:
            self.counts["claims never heard of"] += 1
            process.hurt_until = max(process.hurt_until, self.hub.now)

    def _struck(self, process: Process, when: str) -> None:
        """
        The process may die, or stop for a while, right here.
        """
        if self.hit("crashes", 0.015):
            self.kill(process, when)
            self.hub.sleep(0)
        if self.hit("freezes", 0.01):
            self.freeze(process, self.hub.rng.choice((30, 90, 400, 1000)), when)
            self.hub.sleep(0)

    def _cut(self, process: Process, service: Service, name: str, request: Any, timeout: float | None) -> None:
        """
        The network of the process is down: nothing is answered, and what it sent may have got through.
        """
        self.counts["calls into an outage"] += 1
        # A stream hangs in silence on a connection that is lost; the heartbeats on it are lost too.
        if name == "Commit" and any("/onceSessions/" in write.update.name for write in request.writes):
            for _, stream in [each for each in self.streams if each[0] is process]:
                stream.hang()
        if self.hub.rng.random() < 0.3:
            self._lands_late(process, service, name, request, timeout)
        self.hub.sleep(1)
        raise RpcError(grpc.StatusCode.UNAVAILABLE, "the network is down")

    def _lands_late(self, process: Process, service: Service, name: str, request: Any, timeout: float | None) -> None:
        after = min(self.hub.rng.choice((1.0, 15.0, 90.0, 900.0)), self.latest)
        if name in _WRITING:
            self.quiet_from = max(self.quiet_from, self.hub.now + round(after * SECOND))
        self.tell(process.name, f"{name} gets no answer; it lands {after:g} s later")

        def land() -> None:
            self.tell("network", f"the {name} of {process.name} lands")
            self.landing = True
            try:
                self._applied(process, service, name, request)
            except RpcError as error:
                self.counts[f"late {name} refused"] += 1
                self.tell("network", f"and is refused: {error.code.name}")
            else:
                self.counts[f"late {name} applied"] += 1
                if name == "Commit":
                    process.unheard |= _holders(request)
            finally:
                self.landing = False

        self.hub.spawn(self.cloud, land, after=after)
        self.hub.sleep(timeout or 10.0)
        raise RpcError(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def _applied(self, process: Process | None, service: Service, name: str, request: Any) -> Any:
        answer = service.call(name, request)
        if name == "CreateTask":
            self.made[request.task.name.rpartition("/")[2]] = self.counts["tasks made"]
            self.counts["tasks made"] += 1
        with nullcontext() if self.versions is None else self.versions.newest():
            self._observe(process, name, request)
        return answer

    def write(self, **write: Any) -> None:
        """
        A user's own write, past the library: a ``Write``, as their Firestore client would send it.
        """
        self._applied(None, self.firestore.service, "Commit", CommitRequest(database=DATABASE, writes=[Write(**write)]))

    # --- deliveries ---

    def deliver(self, dispatch: Dispatch) -> Answer:
        """
        One push: to some process, through its WSGI app, as Cloud Run would.
        """
        process = self.some_process()
        self._note_order(dispatch)
        trace = f"{self.hub.rng.getrandbits(128):032x}"
        promise = Promise(self.hub)
        process.requests.append(promise)
        named = dispatch.url.partition("?")[2].replace("oncetask_", "")
        self.tell(process.name, f"gets {named}, retry {dispatch.headers['X-CloudTasks-TaskRetryCount']}")
        sent = replace(dispatch, headers={**dispatch.headers, "X-Cloud-Trace-Context": f"{trace}/1"})
        self.hub.spawn(process, self._serve, process, sent, promise)
        begun = self.hub.now
        if not promise.wait(REQUEST_TIMEOUT):
            promise.give(Answer(504, b"upstream request timeout"))
            self.counts["requests timed out"] += 1
        if promise in process.requests:
            process.requests.remove(promise)
        answer: Answer = promise.value
        self._log_request(process, dispatch, trace, begun, answer)
        self.tell(process.name, f"answers {answer.status} to {named}")
        return answer

    def _note_order(self, dispatch: Dispatch) -> None:
        """
        Count a first delivery that comes after that of a task made later.
        """
        name = dispatch.headers["X-CloudTasks-TaskName"]
        number = self.made.pop(name, None)
        if number is not None:
            self.counts["deliveries out of order"] += number < self._newest
            self._newest = max(self._newest, number)

    def _serve(self, process: Process, dispatch: Dispatch, promise: Promise) -> None:
        if process.app is None:
            process.app = self._make_app(self, process)
        answer = WsgiTransport({ORIGIN: process.app})(dispatch)
        if answer.status == 500 and b"Traceback" in answer.body:
            raise AssertionError(answer.body.decode())
        promise.give(answer)

    def _log_request(self, process: Process, dispatch: Dispatch, trace: str, begun: int, answer: Answer) -> None:
        if self.hit("lost_lines", 0.1):
            return
        record = RequestRecord(
            method="POST",
            url=dispatch.url,
            # A proxy may have sent the head of an answer before the process behind it died.
            status=200 if process.dead and self.hit("lost_lines", 0.3) else answer.status or 0,
            started=begun,
            ended=self.hub.now,
            request_size=0,
            response_size=0,
            user_agent="",
            remote_ip="",
            referer="",
            trace=trace,
            span_id="",
            instance_id=process.name,
        )
        self.run_logs(process).request(record)

    def log_delay(self) -> float:
        """
        Seconds until a line that is written now can be read: within the log grace, or far beyond it.
        """
        return self.hub.rng.choice((5.0, 100.0, 400.0)) if self.hit("late_lines", 0.1) else 0.3

    def run_logs(self, process: Process, delay: float | None = None) -> RunLogs:
        """
        The platform's log writer, as slow as this moment is unless *delay* says otherwise.
        """
        return RunLogs(
            self.logging,
            self.hub,
            project=PROJECT,
            region="here",
            service="app",
            revision=f"app-{process.name}",
            delay=self.log_delay() if delay is None else delay,
        )


def _kind(commit: Any) -> str:
    """
    What a commit of the library's makes of its lock.
    """
    for write in commit.writes:
        lock = write.update.fields.get("lock")
        if lock is not None and "status" in lock.map_value.fields:
            return f"to {lock.map_value.fields['status'].string_value}"
    return "others"


def _holders(commit: Any) -> set[str]:
    """
    Nonces that a commit grants leases to.
    """
    locks = [write.update.fields["lock"].map_value for write in commit.writes if "lock" in write.update.fields]
    return {lock.fields["holder"].string_value for lock in locks if "holder" in lock.fields}
