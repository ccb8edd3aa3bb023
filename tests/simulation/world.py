"""
The world of one history: the in-process cloud, app processes that live and die on it, and everything that goes wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from types import MappingProxyType
from typing import Any

import grpc
from google.cloud.firestore_v1.types import GetDocumentRequest

from gcp_emulator.faults import Faults
from gcp_emulator.firestore import FirestoreServer
from gcp_emulator.firestore.listen import Listener
from gcp_emulator.firestore.messages import CommitRequest, Write
from gcp_emulator.logging import LoggingServer
from gcp_emulator.rpc import RpcError
from gcp_emulator.tasks import Answer, Dispatch, TasksServer, WsgiTransport
from gcp_oncetask import Config, Locker
from gcp_oncetask.observe.alerts import Alert
from gcp_oncetask.services.cloud_logging import CloudRequestLog
from tests.simulation.chains.plan import Plan
from tests.simulation.checks.transactions import Transactions
from tests.simulation.clients import DATABASE, PROJECT, ROOT, Clients
from tests.simulation.hub import SECOND, Hub, Owner, Promise
from tests.simulation.network import Network
from tests.simulation.outlets import Mail, Stdout
from tests.simulation.process import ENV, MachineClocks, Process, ProcessClock
from tests.simulation.troubles import clocks, deployments, starvation
from tests.simulation.troubles.listeners import Stream
from tests.simulation.troubles.logs import Logs, request_record
from tests.simulation.troubles.refusals import Refusals
from tests.simulation.troubles.versions import Versions

QUEUE = f"projects/{PROJECT}/locations/here/queues/default"
ORIGIN = "https://app.test"
_Get = GetDocumentRequest.pb()
REQUEST_TIMEOUT = 300.0
IMPATIENT, PATIENT = 240.0, 900.0
"""Seconds after which a person is told of a task that stands still: where tasks often do, and elsewhere."""


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
        self.origins = {ORIGIN: ENV}
        self.later: set[str] = set()
        self.alerts: list[Alert] = []
        self.calls: Callable[[Process], None] = lambda process: None
        self.mailed: Callable[[Process, Alert], None] = lambda process, alert: None
        self.lined: Callable[[Process, dict[str, str], float | None], None] = lambda process, own, delay: None
        self.fetches: Callable[[], bool] = lambda: True
        self.failed: Callable[[Process, str, Any, grpc.StatusCode], None] = lambda process, name, request, code: None
        self.stuck = IMPATIENT if plan.has("standstills") else PATIENT
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
        self.queue = QUEUE
        self.counts: Counter[str] = Counter()
        self.story: list[tuple[int, str, str]] = []
        self._begin = begin
        self._make_app = make_app
        self.network = Network(self, observe)
        self.logs = Logs(self)
        self.refusals = Refusals(self)
        self.transactions = Transactions()
        self._made = 0
        self.made: dict[str, int] = {}
        self._newest = -1
        self._clients: list[Clients] = []
        self._started: list[Process] = []

    def listener(self, changed: Callable[[], None]) -> Listener:
        """
        The server's side of a Listen call, which calls *changed* when it has something to tell.
        """
        return self.firestore.listener(DATABASE, changed)

    def _clients_by(self, process: Process) -> Clients:
        services = (self.firestore.service, self.tasks.service, self.logging.service)
        via, talk = self.network.call_of(process), partial(Stream, self, process)
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

    def start_process(self, origin: str = ORIGIN, *, later: bool = False) -> Process:
        """
        Start an app process that serves *origin*, with a locker of its own; *later*: it is of the later deployment.
        """
        self._made += 1
        process = Process(f"app-{self._made}", clocks=MachineClocks(self.hub), env=self.origins[origin])
        clocks.drift(self, process)
        if not later and self.versions is not None and self.hub.rng.random() < 0.5:
            process.released = True
            self.counts["processes of the release before"] += 1
        address = deployments.deployed(self, process, origin, later=later)
        clients = self._clients_by(process)
        clock = ProcessClock(self.hub, process)
        config = Config(
            project=PROJECT,
            location="here",
            verify="off",
            env=process.env,
            base_url=address,
            log_contents=self.plan.log_contents,
            inline_limit=16_384 if self.plan.inline else 0,
            collections=("jobs",),
            alert_window=self.plan.window,
            stuck=self.stuck,
            coalesce=bool(self.plan.calls),
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
        process.locker._executor.renewals = starvation.renewals(self, process)
        self._begin(self, process)
        self.processes.append(process)
        self._started.append(process)
        self.runtime = process.locker._runtime
        self.tell(process.name, "starts")
        return process

    def freeze(self, process: Process, seconds: float, when: str = "") -> None:
        """
        SIGSTOP, and SIGCONT after *seconds*; or its whole machine is suspended.
        """
        self.logs.words(process)
        process.frozen = True
        clocks.suspend(self, process)
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
            clocks.resume(process)
            self.hub.thaw(process)

    def kill(self, process: Process, when: str = "") -> None:
        """
        SIGKILL: nothing of it runs again, its requests are broken off.
        """
        process.dead = True
        self.processes.remove(process)
        self.tell(process.name, f"is killed {when} with {len(process.requests)} requests")
        if self.hub.rng.random() < 0.5:
            self.logs.of(process).system("Container terminated on signal 9.", process.name)
        for promise in process.requests:
            promise.give(Answer(503, b"connection error"))

    def kill_if_alive(self, process: Process, when: str) -> None:
        """
        SIGKILL, which may come too late.
        """
        if process in self.processes:
            self.kill(process, when)

    def some_process(self, origin: str = ORIGIN) -> Process:
        """
        Any process that is alive and serves *origin*; a new one if there is none.
        """
        alive = self.processes
        if len(self.origins) > 1:
            alive = [process for process in alive if process.env == self.origins[origin]]
        if len(alive) < self.plan.instances and (not alive or self.hub.rng.random() < 0.3):
            return self.start_process(origin)
        return self.hub.rng.choice(alive)

    def stored(self, path: str) -> Any:
        """
        The document at *path*, past everything that watches; None: there is none.
        """
        try:
            return self.firestore.service.call("GetDocument", _Get(name=ROOT + path))
        except RpcError:
            return None

    def write(self, **write: Any) -> None:
        """
        A user's own write, past the library: a ``Write``, as their Firestore client would send it.
        """
        request = CommitRequest(database=DATABASE, writes=[Write(**write)])
        self.network.applied(None, self.firestore.service, "Commit", request)

    # --- deliveries ---

    def deliver(self, dispatch: Dispatch) -> Answer:
        """
        One push: to some process, through its WSGI app, as Cloud Run would.
        """
        process = self.some_process(_origin(dispatch))
        self._note_order(dispatch)
        trace = f"{self.hub.rng.getrandbits(128):032x}"
        promise = Promise(self.hub)
        process.requests.append(promise)
        named = dispatch.url.partition("?")[2].replace("oncetask_", "")
        self.tell(process.name, f"gets {named}, retry {dispatch.headers['X-CloudTasks-TaskRetryCount']}")
        sent = replace(dispatch, headers={**dispatch.headers, "X-Cloud-Trace-Context": f"{trace}/1"})
        self.hub.spawn(process, self._serve, process, sent, promise)
        begun = self.hub.now
        self.logs.passed_on(dispatch.url, trace, begun)
        if not promise.wait(REQUEST_TIMEOUT):
            promise.give(Answer(504, b"upstream request timeout"))
            self.counts["requests timed out"] += 1
        if promise in process.requests:
            process.requests.remove(promise)
        answer: Answer = promise.value
        self._log_request(process, dispatch, trace, begun, answer)
        self.tell(process.name, f"answers {answer.status} to {named}")
        return answer

    def deliver_as(self, task: str, dispatch: Dispatch, url: str, body: bytes | None = None) -> Answer:
        """
        One push of a Cloud Task that nobody has asked for, to *url*: like *dispatch*, with another name, and perhaps another
        body.
        """
        headers = {**dispatch.headers, "X-CloudTasks-TaskName": task}
        return self.deliver(replace(dispatch, url=url, headers=headers, body=dispatch.body if body is None else body))

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
        answer = WsgiTransport({_origin(dispatch): process.app})(dispatch)
        if answer.status == 500 and b"Traceback" in answer.body:
            raise AssertionError(answer.body.decode())
        promise.give(answer)

    def _log_request(self, process: Process, dispatch: Dispatch, trace: str, begun: int, answer: Answer) -> None:
        if self.hit("lost_lines", 0.1):
            return
        # A proxy may have sent the head of an answer before the process behind it died.
        status = 200 if process.dead and self.hit("lost_lines", 0.3) else answer.status or 0
        record = request_record(
            dispatch.url, status, started=begun, ended=self.hub.now, trace=trace, instance=process.name
        )
        self.logs.request(process, record)


def _origin(dispatch: Dispatch) -> str:
    return "/".join(dispatch.url.split("/", 3)[:3])
