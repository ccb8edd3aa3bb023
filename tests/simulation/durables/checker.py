"""
The promise for durable handlers: no kept run is called again, no run begun once is called twice, answers replay equal, no event
is lost or taken twice, and what waits comes back; checked after every commit, at every word and at the end.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from gcp_oncetask import Status
from gcp_oncetask.rules.record import Lock
from tests.simulation.chains.checker import Running
from tests.simulation.checks.attempts import Attempts
from tests.simulation.durables import stored
from tests.simulation.durables.plan import DurablesPlan
from tests.simulation.hub import SECOND
from tests.simulation.tasks.checker import TasksChecker
from tests.simulation.world import Process

MOST_DISPATCHES = 400
"""Cloud Tasks of one sequence of a durable handler."""
SLACK = 61.0
"""How much older than the server's time an estimate of it may be, in seconds."""
RUN_LIMIT = 630.0
"""Seconds from a grant to the end of the run limit."""

Work = tuple[str, str]
"""Document, and the idempotency key: that of a run, or that of the attempt."""


class DurableAttempts(Attempts):
    """
    Attempts of durable handlers: they count since the journal was brought forward last.
    """

    def changed(
        self, process: Process | None, path: str, life: int, before: Lock | None, lock: Lock, most: int
    ) -> None:
        """
        The record at *path* went from *before* to *lock*; *most* attempts are allowed without any progress.
        """
        this = (path, life, lock.sequence, lock.granted, lock.cancelling)
        if before is None:
            return
        told = stored.told(lock) != stored.told(before)
        ends = before.status is Status.LEASED and lock.status is Status.SCHEDULED
        if told or (ends and lock.errors == before.errors):
            self.counted[this] = 0
        if lock.token > before.token and lock.status is Status.LEASED:
            self.counted[this] += 1
            if self.counted[this] > most:
                self.broken(path, f"sequence {lock.sequence} was granted {self.counted[this]} times without progress")
            if lock.tries > most:
                self.broken(path, f"it says that it has {lock.tries} attempts without progress, {most} are allowed")


@dataclass
class DurablesChecker(TasksChecker):
    """
    Watches one world of durable handlers.

    Attributes:
        answers: Of each work and name the first answer.
        kept: Of each work and name the token of the attempt that has kept it.
        called: How often each run that was begun once was called since it was withdrawn.
        withdrawn: Runs that surely have not happened since their last call: document and key.
        happened: Runs that have happened: document and key.
        inside: Runs that are being called.
        slept: When each sleep was said first, micros.
        drawn: Of each attempt the answers that are not committed yet.
        sent: Events whose senders were told that they are stored: document, life, id.
        stored_events: Events that were stored: document, life, id.
        taken: Of each event the key of the work, and the name of the wait, that has taken it.
        entries: Of each work the entries as stored last, by name.
    """

    plan: DurablesPlan
    answers: dict[tuple[Work, str], Any] = field(default_factory=dict)
    kept: dict[tuple[Work, str], int] = field(default_factory=dict)
    called: Counter[Work] = field(default_factory=Counter)
    withdrawn: set[Work] = field(default_factory=set)
    happened: Counter[Work] = field(default_factory=Counter)
    inside: dict[Work, Running] = field(default_factory=dict)
    slept: dict[tuple[Work, str], int] = field(default_factory=dict)
    drawn: defaultdict[Running, dict[str, Any]] = field(default_factory=lambda: defaultdict(dict))
    sent: set[tuple[str, int, str]] = field(default_factory=set)
    stored_events: set[tuple[str, int, str]] = field(default_factory=set)
    taken: dict[tuple[str, int, str], tuple[str, str]] = field(default_factory=dict)
    entries: defaultdict[tuple[str, int, int, int], dict[str, Any]] = field(default_factory=lambda: defaultdict(dict))

    def __post_init__(self) -> None:
        super().__post_init__()
        self.attempts = DurableAttempts(
            self.broken, lambda grant: grant in self.started, lambda grant: grant[2] in self.world.returned
        )

    # --- words ---

    def work(self, running: Running) -> Work:
        """
        What the handler of *running* works at.
        """
        return running.attempt._running.context.document, running.attempt.key

    def run_of(self, running: Running, name: str) -> Work:
        """
        One run of it, by its key.
        """
        return running.attempt._running.context.document, running.attempt.key_of(name)

    def calls(self, running: Running, name: str) -> None:
        """
        The function of a run is called.
        """
        self.commits(running)
        kept = self.kept.get((self.work(running), name))
        self.world.counts["calls of runs"] += 1
        if kept is None or self.is_orphan(running.attempt):
            return
        # A machine whose clocks have stood does not know that its lease is over.
        if running.attempt.token >= kept or not self.plan.has("suspends"):
            self.broken(self.work(running)[0], f"{name!r} is called, and its result is in the journal")

    def commits(self, running: Running) -> None:
        """
        What the attempt has drawn is committed now.
        """
        for name, value in self.drawn.pop(running, {}).items():
            self.answered(running, name, value)

    def draws(self, running: Running, name: str, value: Any) -> None:
        """
        The handler has a time and a chance; they are kept with the next commit.
        """
        if (self.work(running), name) in self.answers:
            self.answered(running, name, value)
        else:
            self.drawn[running][name] = value

    def answered(self, running: Running, name: str, answer: Any) -> None:
        """
        A word has returned *answer*.
        """
        if self.is_orphan(running.attempt):
            return
        which = (self.work(running), name)
        first = self.answers.setdefault(which, answer)
        self.world.counts["answers replayed"] += which in self.kept
        self.kept.setdefault(which, running.attempt.token)
        if first != answer:
            self.broken(which[0][0], f"{name!r} has answered {first} before, and answers {answer}")

    def calls_once(self, running: Running, name: str) -> None:
        """
        The function of a run that is begun once is called.
        """
        self.calls(running, name)
        run = self.run_of(running, name)
        if self.called[run] and run not in self.withdrawn and not self.is_orphan(running.attempt):
            self.broken(run[0], f"{name!r} is called again, and nobody has said that it has not happened")
        self.called[run] += 1
        self.withdrawn.discard(run)
        if not stored.is_open(self.locks.get(run[0]), name) and not self.is_orphan(running.attempt):
            self.broken(run[0], f"{name!r} is called, and its intent is not stored")
        self.inside[run] = running

    def happens(self, running: Running, name: str) -> None:
        """
        The remote service has done what it was asked for.
        """
        run = self.run_of(running, name)
        self.happened[run] += 1
        if self.happened[run] > 1 and not self.is_orphan(running.attempt):
            self.broken(run[0], f"{name!r} has happened {self.happened[run]} times")

    def withdraws(self, running: Running, name: str) -> None:
        """
        The run has not happened, and its caller or its verification says so.
        """
        run = self.run_of(running, name)
        self.withdrawn.add(run)
        self.inside.pop(run, None)

    def leaves(self, running: Running, name: str) -> None:
        """
        The function of the run is over.
        """
        self.inside.pop(self.run_of(running, name), None)

    def verifies(self, running: Running, name: str) -> None:
        """
        A verification is asked: the attempt that has begun the run must be over.
        """
        other = self.inside.get(self.run_of(running, name))
        if other is None or other is running or other.process.dead or self.is_orphan(other.attempt):
            return
        granted = other.attempt._running.granted.granted_at
        runs = other.attempt._running.settled is None and other in self.running
        if runs and granted is not None and self.world.hub.time() < granted + timedelta(seconds=RUN_LIMIT - SLACK):
            self.broken(self.work(running)[0], f"{name!r} is verified while it is being called")

    def sleeps(self, running: Running, name: str) -> None:
        """
        A sleep is said. Its process may die before it commits anything.
        """
        self.slept.setdefault((self.work(running), name), self.world.hub.now)

    def wakes(self, running: Running, name: str, delay: float) -> None:
        """
        A sleep of so many seconds is over.
        """
        began = self.slept.get((self.work(running), name), 0)
        if self.world.hub.now < began + round((delay - SLACK) * SECOND):
            self.broken(self.work(running)[0], f"{name!r} is over before its time")

    def takes(self, running: Running, name: str, id_: str) -> None:
        """
        A wait has taken an event.
        """
        if self.is_orphan(running.attempt):
            return
        path, key = self.work(running)
        event = (path, self.lives[path], id_)
        self.world.counts["events taken"] += 1
        if self.taken.setdefault(event, (key, name)) != (key, name):
            self.broken(path, f"the event {id_!r} was taken twice")
        if event not in self.stored_events:
            self.broken(path, f"the event {id_!r} was taken, and was never stored")

    def was_sent(self, path: str, life: int, id_: str) -> None:
        """
        The sender of an event was told that it is there.
        """
        if self.lives[path] == life and path in self.locks and (path, life, id_) not in self.stored_events:
            self.broken(path, f"the event {id_!r} was said to be stored, and is not there")

    # --- records ---

    def _most(self, lock: Lock) -> int:
        return super()._most(lock) if self.plan.cleanup else self.plan.max_attempts

    def _state(self, path: str, lock: Lock, fields: dict[str, Any]) -> None:
        live = lock.status in (Status.SCHEDULED, Status.LEASED)
        if live and lock.due is None and lock.parked is None and lock.attention is None:
            self.broken(path, f"{lock.status} with nobody to look at it")
        if lock.parked is not None and lock.status is not Status.SCHEDULED:
            self.broken(path, f"{lock.status} and parked")
        if lock.finished and not lock.owed and not lock.orphans and lock.due is not None:
            self.broken(path, f"{lock.status}, and still due")
        if lock.owed and lock.due is None:
            self.broken(path, "an alert is owed, and nobody is to send it")
        if lock.dispatches > MOST_DISPATCHES:
            self.broken(path, f"{lock.dispatches} dispatches of one sequence")
        trouble = stored.trouble_of(lock, self.world.hub.time())
        if trouble is not None:
            self.broken(path, trouble)

    def _always(self, process: Process | None, path: str, before: Lock | None, lock: Lock, *, anew: bool) -> None:
        super()._always(process, path, before, lock, anew=anew)
        self._journal(path, before, lock)
        self._events(path, before, lock)
        counts = self.world.counts
        counts["journals sealed"] += before is not None and len(lock.chunks) > len(before.chunks)
        counts["journals kept by a reset"] += before is not None and lock.sequence > before.sequence and lock.durable

    def _journal(self, path: str, before: Lock | None, lock: Lock) -> None:
        """
        What is kept stays as it is, in the record or in a sealed part.
        """
        known = self.entries[path, self.lives[path], lock.keyed, lock.granted]
        rows = {row["n"]: row for row in stored.rows(lock, self.world.stored)}
        if known and lock.durable:
            gone = {name for name in known.keys() - rows.keys() if not self._is_over(known[name], rows)}
            if gone:
                self.broken(path, f"the journal has lost {', '.join(sorted(gone))}")
        for name, row in rows.items():
            old = known.get(name)
            over = old is not None and old.get("e", "done") in ("done", "failed", "timed-out")
            if old is not None and over and (old["v"], old.get("e")) != (row["v"], row.get("e")):
                self.broken(path, f"{name!r} was kept, and has another answer now")
        known.update(rows)
        for running in [one for one in self.drawn if one.lease == (path, lock.token, lock.holder)]:
            if rows.keys() >= self.drawn[running].keys():
                self.commits(running)

    def _is_over(self, row: dict[str, Any], rows: dict[str, dict[str, Any]]) -> bool:
        """
        Whether a row may be dropped, by what the others say.
        """
        return False

    def _events(self, path: str, before: Lock | None, lock: Lock) -> None:
        """
        An event leaves the mailbox by the commit that has its entry, or with its task.
        """
        life = self.lives[path]
        now, old = stored.events(lock), [] if before is None else stored.events(before)
        for id_ in now:
            if id_ not in old and (path, life, id_) in self.stored_events:
                kept = before is not None and before.sequence != lock.sequence
                if not kept:
                    self.broken(path, f"the event {id_!r} was stored twice")
            self.stored_events.add((path, life, id_))
        if len(set(now)) != len(now):
            self.broken(path, "its mailbox has an event twice")
        if before is None or before.base != lock.base or lock.finished:
            return
        rows = self.entries[path, life, before.keyed, before.granted].values()
        written = {(row.get("x") or {}).get("id") for row in rows}
        written |= {
            (row.get("x") or {}).get("id") for row in self.entries[path, life, lock.keyed, lock.granted].values()
        }
        if lock.sequence > before.sequence:
            # The handler that has gone on to the next step has taken it.
            written |= {id_ for where, at, id_ in self.taken if (where, at) == (path, life)}
            # A person has said that a step has happened whose wait it had ended.
            written |= {before.wait.event} if before.wait is not None and before.wait.ended is not None else set()
        lost = [id_ for id_ in old if id_ not in now and id_ not in written]
        if lost:
            self.broken(path, f"the event {lost[0]!r} is lost")

    def at_the_end(self, chains: list[str]) -> None:
        """
        Once troubles have stopped and time has passed.
        """
        super().at_the_end(chains)
        for path, lock in self.locks.items():
            if lock.open or lock.wait is not None:
                self.broken(path, f"it has ended, and waits: {lock.open} {lock.wait}")
