"""
Final refusals of one API: for a while, or until a person is told and mends it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from gcp_emulator.rpc import RpcError, Service
from gcp_emulator.tasks.messages import PurgeQueueRequest
from gcp_oncetask.observe.alerts import Alert
from gcp_oncetask.rules.record import Lock
from tests.simulation.checks.refused import TOLD_WITHIN, Refused
from tests.simulation.hub import SECOND
from tests.simulation.process import ENV

if TYPE_CHECKING:
    from tests.simulation.world import Process, World

_DENIED = grpc.StatusCode.PERMISSION_DENIED
_WRITES = ("Commit", "BatchWrite", "BeginTransaction", "Rollback")
_NO_API = "{} has not been used in project sim before or it is disabled."
_TOO_LARGE = (
    "Document '{}' cannot be written because its size ({:,} bytes) exceeds the maximum allowed size of {:,} bytes."
)


@dataclass(frozen=True)
class Refusal:
    """
    One API that refuses.

    Attributes:
        name: What is wrong.
        service: End of the service's name.
        methods: That are refused; none: all.
        code: The status.
        message: The service's sentence.
        alerts: Beginning of the document that an alert about it names; empty: nothing stands still because of it.
        document: The only document that it concerns, as a full name; empty: it concerns all.
        limit: The largest write of that document that is taken, in bytes.
    """

    name: str
    service: str
    methods: tuple[str, ...]
    code: grpc.StatusCode
    message: str
    alerts: str = ""
    document: str = ""
    limit: int = 0

    def refuses(self, service: Service, method: str, request: Any) -> bool:
        """
        Whether it refuses this call.
        """
        if not service.name.endswith(self.service) or (self.methods and method not in self.methods):
            return False
        if not self.document:
            return True
        # A read-only part of a transaction and an empty commit write nothing.
        return any(w.update.name == self.document and w.ByteSize() > self.limit for w in request.writes)


_SOON = 60 * SECOND
"""Time within which a process that is refused tells it."""
_QUEUE = "queues/default"
_FIRESTORE = "firestore/permission_denied"
GONE = Refusal(
    "the queue is deleted", ".CloudTasks", ("CreateTask",), grpc.StatusCode.NOT_FOUND, "Queue does not exist.", _QUEUE
)
_TASKS = (
    GONE,
    Refusal("no role to make tasks", ".CloudTasks", ("CreateTask",), _DENIED, "lacks cloudtasks.tasks.create", _QUEUE),
    Refusal("no role to look up tasks", ".CloudTasks", ("GetTask",), _DENIED, "lacks cloudtasks.tasks.get"),
    Refusal("Cloud Tasks is disabled", ".CloudTasks", (), _DENIED, _NO_API.format("Cloud Tasks API"), _QUEUE),
)
_STORE = (
    Refusal(
        "no role to write documents", ".Firestore", _WRITES, _DENIED, "Missing or insufficient permissions.", _FIRESTORE
    ),
    Refusal("Firestore is disabled", ".Firestore", (), _DENIED, _NO_API.format("Cloud Firestore API"), _FIRESTORE),
)
_LOGS = (
    Refusal(
        "no role to read logs", ".LoggingServiceV2", ("ListLogEntries",), _DENIED, "Permission denied for all log views"
    ),
    Refusal("Cloud Logging is disabled", ".LoggingServiceV2", (), _DENIED, _NO_API.format("Cloud Logging API")),
)


def too_large(name: str, limit: int) -> Refusal:
    """
    The document *name* takes no write of more than *limit* bytes.
    """
    path = name.partition("/documents/")[2]
    message = _TOO_LARGE.format(name, 1_048_900 + limit, 1_048_576)
    code = grpc.StatusCode.INVALID_ARGUMENT
    return Refusal("a document is too large", ".Firestore", ("Commit", "BatchWrite"), code, message, path, name, limit)


class Refusals:
    """
    The final refusals of one world, one at a time.

    Args:
        world: The world.

    Attributes:
        now: The present one.
        ever: Whether a call was ever refused.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.now: Refusal | None = None
        self.ever = False
        self._large: set[str] = set()
        self._refused_at: dict[str, int] = {}
        self._untold: set[str] = set()
        self._mails = 0
        self._mailing = True
        self._refused: dict[str, int] = {}
        self._tellers: set[tuple[str, str]] = set()

    def check(self, process: Process, service: Service, method: str, request: Any) -> None:
        """
        Raise the refusal of a call, if it is refused.

        Raises:
            RpcError: It is.
        """
        refusal = self.now
        # Another environment has an account of its own.
        if refusal is None or process.env != ENV or not refusal.refuses(service, method, request):
            return
        world = self._world
        self.ever = True
        self._refused_at[self.document] = world.hub.now
        self._refused.setdefault(process.name, world.hub.now)
        process.hurt_until = max(process.hurt_until, world.hub.now)
        world.counts[f"refused for good: {refusal.name}"] += 1
        world.tell(process.name, f"{method} is refused: {refusal.name}")
        raise RpcError(refusal.code, refusal.message)

    def mailed(self, process: Process, alert: Alert) -> None:
        """
        The mail server has taken a mail of *process*.
        """
        self._tellers |= {(name, process.name) for name in (alert.document, *alert.documents)}

    @property
    def document(self) -> str:
        """
        Path of the document that is too large now; empty: there is none.
        """
        return "" if self.now is None else self.now.document.partition("/documents/")[2]

    def refuses_lately(self, path: str) -> bool:
        """
        Whether the document at *path* is too large, or a write of it was refused so lately that a hand-over of that time may be
        under way.
        """
        at = self._refused_at.get(path)
        return path == self.document or (at is not None and self._world.hub.now <= at + 60 * SECOND)

    def tells_instead(self, path: str) -> bool:
        """
        Whether the document at *path* was too large for what it owes; then a person is told directly, perhaps by a digest.
        """
        if self.was_large(path):
            self._untold.add(path)
        return self.was_large(path)

    def was_large(self, path: str) -> bool:
        """
        Whether the document at *path* was too large at some time.
        """
        return path in self._large

    def at_the_end(self, broken: Callable[[str, str], None]) -> None:
        """
        A person was told of each document that could not say itself that it has failed.
        """
        mails = [alert for alert in self._world.alerts if "failed with INVALID_ARGUMENT" in alert.reason]
        # The release before sends a digest as an alert about the document of the digest; its text names the others.
        told = {name for alert in mails for name in (alert.document, *alert.documents)}
        told |= {path for alert in mails for path in self._untold if path in alert.reason}
        for path in sorted(self._untold - told):
            broken(path, "it was too large to owe an alert, and nobody was told")
        self._world.counts["told in place of a document"] += len(self._untold & told)

    # --- its course ---

    def course(self, documents: Callable[[], list[str]] | None) -> None:
        """
        Refuse one API after the other, while there is trouble; perhaps the last one until a person is told.

        Args:
            documents: Full names of documents that may become too large; None: the processes of this world send no mails,
                and only Firestore refuses.
        """
        world, draw = self._world, self._world.hub.rng
        self._mailing = documents is not None
        left = [list(_TASKS), list(_STORE), list(_LOGS), [None]] if documents else [list(_STORE)]
        while world.trouble and left:
            world.hub.sleep(draw.expovariate(1 / 150))
            if not world.hit("final_refusals", 0.7):
                continue
            # Of each day a person is told once, so each API refuses once.
            kind = draw.choice(left.pop(draw.randrange(len(left))))
            refusal = self._too_large(documents) if kind is None else kind
            if refusal is None:
                continue
            self._begin(refusal)
            if documents and draw.random() < 0.5:
                world.counts["refused until a person is told"] += 1
                return
            world.hub.sleep(draw.choice((20.0, 120.0, 600.0)))
            if world.trouble:
                self.lift()

    def _too_large(self, documents: Callable[[], list[str]] | None) -> Refusal | None:
        draw, names = self._world.hub.rng, documents() if documents else []
        return too_large(draw.choice(names), draw.choice((0, 500, 900, 1300))) if names else None

    def _begin(self, refusal: Refusal) -> None:
        world = self._world
        self.now, self._mails = refusal, len(world.alerts)
        self._refused.clear()
        world.tell("a person", f"makes a mistake: {refusal.name} {refusal.document}")
        if self.document:
            self._large.add(self.document)
        if refusal is GONE:
            # Its tasks are lost. A queue of that name can't be made again for days, so this one stays, and takes no task.
            world.tasks.service.call("PurgeQueue", PurgeQueueRequest(name=world.queue))

    def lift(self) -> None:
        """
        A person mends it.
        """
        world = self._world
        if self.now is not None:
            world.tell("a person", f"mends it: {self.now.name}")
        self.now = None

    def until_told(self, locks: Callable[[], dict[str, Lock]], broken: Callable[[str, str], None]) -> None:
        """
        Wait until a person is told of the present refusal, or nothing stands still because of it; then mend it.
        """
        world, refusal = self._world, self.now
        if refusal is None:
            return
        standing = Refused(world.hub, world.fetches)
        if refusal.alerts and self._mailing:
            end = world.hub.now + round((2 * TOLD_WITHIN + self._world.plan.window) * SECOND)
            while world.hub.now < end and not self._is_told(refusal):
                world.hub.sleep(30)
                stood = standing.longest(locks(), refusal)
                if stood is None or stood.seconds <= TOLD_WITHIN + world.plan.window or self._is_told(refusal):
                    continue
                if not self._was_told_before(refusal):
                    broken(stood.path, f"it stands still for {stood.seconds:g} s, and nobody is told: {refusal.name}")
                break
            world.counts["told of a refusal"] += self._is_told(refusal)
        world.hub.sleep(world.hub.rng.choice((10.0, 300.0, 1500.0)))
        self.lift()

    def _is_told(self, refusal: Refusal) -> bool:
        mails = self._world.alerts[self._mails :]
        return any(name.startswith(refusal.alerts) for mail in mails for name in (mail.document, *mail.documents))

    def _was_told_before(self, refusal: Refusal) -> bool:
        """
        Whether each process that Firestore refuses has told so on the same day, before the present refusal. A process tells it
        once a day, for all documents together, and a single write of a shared call may have been refused for good before. A
        history is shorter than a day. A process that was refused just now has not told it yet.
        """
        if refusal.alerts != _FIRESTORE:
            return False
        tellers = {process for name, process in self._tellers if name.startswith(_FIRESTORE)}
        late = self._world.hub.now - _SOON
        alive = [process.name for process in self._world.processes if process.name not in tellers]
        silent = [process for process in alive if self._refused.get(process, late) < late]
        told = bool(self._refused) and not silent
        self._world.counts["told of a refusal before, on the same day"] += told
        return told
