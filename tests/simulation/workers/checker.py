"""
The promise of workers: what they pull is run as once-tasks are; and their sessions share all shards, evenly.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gcp_oncetask import Attempt
from gcp_oncetask.store.sessions import SESSIONS
from gcp_oncetask.tasks import OnceTask
from gcp_oncetask.worker import Worker
from tests.simulation.chains.checker import Running
from tests.simulation.clients import path_of
from tests.simulation.hub import SECOND
from tests.simulation.tasks.checker import TasksChecker
from tests.simulation.workers.plan import REPEATING, WorkersPlan
from tests.simulation.world import Process

TTL = 60.0
"""Seconds for which a heartbeat counts."""
BEAT = TTL / 3
SLACK = 5.0
"""Seconds that the calls of a heartbeat may take where nothing goes wrong."""
MOST_BEATS = 30
"""Heartbeats of one worker within a minute, whatever goes wrong."""
_HURTING = (
    "refused_calls",
    "lost_answers",
    "late_calls",
    "crashes",
    "freezes",
    "outages",
    "skews",
    "starved_renewals",
    "final_refusals",
    "damages",
    "long_runs",
    "hangs",
    "failing_handlers",
)


@dataclass(eq=False)
class Session:
    """
    A worker's session as stored.

    Attributes:
        process: Who wrote it.
        path: Its document.
        beat_at: Its last heartbeat, micros by the server's clock.
        there: Whether its document is.
        ended: Politely.
        counted: Its death was counted.
    """

    process: Process
    path: str
    beat_at: int
    there: bool = True
    ended: bool = False
    counted: bool = False


@dataclass
class WorkersChecker(TasksChecker):
    """
    Watches one world of workers.

    Attributes:
        sessions: By id, those that there were.
        workers: Of each process.
        entered: The attempts that a handler was entered for: (document, sequence, payload, cleanup) -> all of them.
        beats: When each process tried to beat.
        owners: Of each kind and shard the worker that had it at the last look.
    """

    plan: WorkersPlan
    sessions: dict[str, Session] = field(default_factory=dict)
    workers: dict[Process, Worker] = field(default_factory=dict)
    entered: defaultdict[tuple[str, int, int, bool], list[Attempt]] = field(default_factory=lambda: defaultdict(list))
    beats: dict[Process, list[int]] = field(default_factory=dict)
    owners: dict[tuple[str, int], Process] = field(default_factory=dict)

    # --- after each call ---

    def observe(self, process: Process | None, name: str, request: Any) -> None:
        """
        Look at every session and every task that a commit has touched.
        """
        super().observe(process, name, request)
        if name != "Commit":
            return
        for write in request.writes:
            path = path_of(write)
            if path.startswith(f"{SESSIONS}/"):
                if process is None:
                    self._meddled(path, deleted=bool(write.delete))
                else:
                    self._session(process, path, ended="left" in write.update.fields)

    def _meddled(self, path: str, *, deleted: bool) -> None:
        """
        A person has deleted or damaged a session: its worker writes it anew with its next heartbeat, or begins another one.
        """
        session = self.sessions[path.rpartition(":")[2]]
        process, at = session.process, self.world.hub.now
        session.there = not deleted
        if deleted:
            self.world.tell("a person", f"deletes {path}")

        def is_written() -> bool:
            return max(one.beat_at for one in self.sessions.values() if one.process is process) >= at

        def is_hurt() -> bool:
            over = process.dead or session.ended or self.workers[process]._stopping.is_set()
            return over or max(process.hurt_until, process.failed_at) >= at

        def look() -> None:
            written = is_written()
            self.world.counts["sessions written anew"] += written
            # A call that is under way may fail yet.
            self.world.hub.sleep(TTL)
            if not written and not is_hurt():
                self.broken(path, "a person has changed it, and its worker has not written it anew")

        self.world.hub.spawn(self.world.cloud, look, after=BEAT + SLACK)

    def _session(self, process: Process, path: str, *, ended: bool) -> None:
        id_ = path.rpartition(":")[2]
        known = self.sessions.get(id_)
        if known is not None:
            known.there = True
        if known is not None and known.process is not process:
            self.broken(f"session {id_}", "it was written by somebody else than its worker")
            return
        if ended:
            if known is not None:
                known.ended = True
            self.world.tell(process.name, f"ends its session {id_}")
            self.world.counts["sessions ended"] += 1
        elif known is None:
            self.world.tell(process.name, f"begins the session {id_}")
            self.sessions[id_] = Session(process, path, self.world.hub.now)
            self.world.counts["sessions begun"] += 1
        elif known.ended:
            self.broken(f"session {id_}", "a late heartbeat has revived it")
        else:
            known.beat_at = self.world.hub.now

    def beating(self, process: Process) -> None:
        """
        A worker is about to say that it is alive.
        """
        now = self.world.hub.now
        recent = [at for at in self.beats.get(process, ()) if at > now - 60 * SECOND]
        self.beats[process] = [*recent, now]
        if len(recent) > MOST_BEATS:
            self.broken(process.name, f"it has tried {len(recent)} heartbeats within a minute")

    def looks(self, process: Process, kind: str, shards: Sequence[int]) -> None:
        """
        A worker asks for what is due.
        """
        membership = self.workers[process]._membership
        # A worker asks for the shards of its session: without one it has none to ask for.
        assert membership is not None
        session = self.sessions.get(membership.id)
        self.world.counts["looks"] += 1
        if session is None or session.ended or not self._counts(session):
            self.broken(process.name, f"it looks for {kind} in {list(shards)} although its session has died")

    def _counts(self, session: Session) -> bool:
        return self.world.hub.now < session.beat_at + round(TTL * SECOND)

    # --- handlers ---

    def begins(self, running: Running, task: OnceTask[Any], *, cleans: bool) -> None:
        """
        A handler is entered: where nothing goes wrong once for each sequence and payload, and again only where a person has
        freed the key of the run before, and one of its transactions was refused.
        """
        super().begins(running, task, cleans=cleans)
        attempt = running.attempt
        which = (attempt._running.context.document, attempt.sequence, attempt._running.granted.granted, cleans)
        if running.process in self.workers:
            self.world.counts["pulled runs"] += 1
        before = self.entered[which]
        counts = self.world.counts
        drilled = counts["drill: stop"] or counts["drill: kill"]
        quiet = not drilled and not any(self.plan.has(name) for name in (*_HURTING, *REPEATING))
        if quiet and not all(map(self._lost_its_key, before)):
            self.broken(which[0], f"sequence {which[1]} ran {len(before) + 1} times though nothing went wrong")
        before.append(attempt)

    def _lost_its_key(self, attempt: Attempt) -> bool:
        """
        Whether a person has freed the key under which *attempt* ran, and it or one of its batch was told so.
        """
        together = [one for attempts in self.entered.values() for one in attempts if _leader(one) is _leader(attempt)]
        return self._is_freed(attempt) and any(one.lost.is_set() for one in together)

    # --- sessions ---

    def look_at_shards(self) -> None:
        """
        Count what has moved, and who has died.
        """
        counts = self.world.counts
        for session in self.sessions.values():
            if not session.ended and not session.counted and not self._counts(session):
                session.counted = True
                counts["sessions died"] += 1
        for process, worker in self.workers.items():
            if process.dead:
                continue
            for kind, owned in worker.shards.items():
                for shard in owned:
                    before = self.owners.get((kind, shard))
                    counts["shards moved"] += before is not None and before is not process
                    self.owners[kind, shard] = process

    def shares(self, kinds: Sequence[str], count: int, when: str) -> None:
        """
        At rest every shard of every kind is one worker's, and no two differ by more than one.
        """
        self.look_at_shards()
        live = {
            process: worker.shards
            for process, worker in self.workers.items()
            if not process.dead and not worker._stopping.is_set()
        }
        self.world.counts["shares looked at"] += bool(live)
        if not live:
            return
        for kind in kinds:
            self._even({process: owned.get(kind, ()) for process, owned in live.items()}, kind, count, when)

    def _even(self, owned: Mapping[Process, Sequence[int]], kind: str, count: int, when: str) -> None:
        told = ", ".join(f"{process.name}: {list(shards)}" for process, shards in owned.items())
        every = sorted(shard for shards in owned.values() for shard in shards)
        if every != list(range(count)):
            self.broken(kind, f"{when} its shards are not each one worker's: {told}")
        sizes = [len(shards) for shards in owned.values()]
        if max(sizes) - min(sizes) > 1:
            self.broken(kind, f"{when} its shards are shared unevenly: {told}")


def _leader(attempt: Attempt) -> object:
    return attempt._running.leader or attempt._running
