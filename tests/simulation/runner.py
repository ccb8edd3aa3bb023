"""
Many histories on several cores; what they exercised; and the first failing one, made small and told as a story.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, fields
from functools import partial
from urllib.parse import quote

from tests.simulation.history import History, Told
from tests.simulation.history import play as play_as
from tests.simulation.locks_history import LocksHistory
from tests.simulation.locks_plan import LocksPlan, locks_plan_of
from tests.simulation.plan import Plan, plan_of
from tests.simulation.tasks_history import TasksHistory
from tests.simulation.tasks_plan import TasksPlan, tasks_plan_of
from tests.simulation.workers_history import WorkersHistory
from tests.simulation.workers_plan import WorkersPlan, workers_plan_of

BATCH = 10
MOST_SHRINKS = 150

EXERCISED = (
    "lease.taken_over died",
    "lease.taken_over unknown",
    "lease.taken_over finished",
    "lease.taken_over recorded",
    "lease.taken_over never-started",
    "delivery.completed",
    "delivery.continued",
    "delivery.duplicate",
    "delivery.busy",
    "delivery.unknown",
    "delivery.early",
    "delivery.lost-to-later",
    "delivery.lost",
    "delivery.failed",
    "delivery.quarantined",
    "delivery.undispatched",
    "delivery.recovered",
    "delivery.retrying",
    "delivery.snoozed",
    "delivery.failed-attempt",
    "delivery.cancelled",
    "delivery.short-lease",
    "delivery.unavailable",
    "late Commit applied",
    "late Commit refused",
    "late CreateTask applied",
    "late duplicates",
    "leases ended by others",
    "requests timed out",
    "zombies refused",
    "effects of zombies",
    "effects repeated with their key",
    "evidence.unwritten",
    "task.redispatched",
    "task.undispatched",
    "transactions",
    "cancelled",
    "cancelled in vain",
    "mails refused",
    "crashes",
    "freezes",
    "thaws",
    "wall clock off by +1 days",
    "wall clock off by -1 days",
    "outages",
    "lost_answers",
    "refused_calls",
    "late_calls",
    "lost_lines",
    "late_lines",
    "paused_queue",
    "queue: duplicate",
    "queue: delay",
    "queue: lose",
    "queue: lose_answer",
    "deliveries out of order",
    "sweeps beside another",
    "ambiguous commit: UNAVAILABLE",
    "ambiguous commit: DEADLINE_EXCEEDED",
    "ambiguous commit: INTERNAL",
    "ambiguous commit: to scheduled",
    "ambiguous commit: to leased",
    "ambiguous commit: to completed",
    "calls into an outage",
    "long_runs",
    "hangs",
    "failing_handlers",
    "user_writes",
    "resolved: run",
    "resolved: complete",
    "resolved: fail",
)
"""What a large number of histories must have met; a zero in one of these proves nothing and fails."""

TASKS_EXERCISED = (
    "parked",
    "hand-overs",
    "given back with others waiting",
    "granted from the queue of a key",
    "moved to the next attempt",
    "taken from a holder that was past it",
    "parked, then freed by a takeover",
    "key.contested died",
    "key.contested unknown",
    "cancelled while running",
    "cancelled while parked",
    "cancelled while scheduled",
    "cancellations heeded",
    "cleanup runs",
    "replaced while running",
    "replaced while scheduled",
    "replaced while ended",
    "deleted while running",
    "deleted while parked",
    "keys taken from deleted holders",
    "batches with riders",
    "riders",
    "riders lost",
    "occurrences",
    "occurrences found existing",
    "occurrences left out",
    "misfires",
    "pauses",
    "recreations",
    "resets",
    "created again",
    "task.kept",
    "bulk creations",
    "transactions",
    "lease.taken_over died",
    "lease.taken_over unknown",
    "lease.taken_over finished",
    "lease.taken_over recorded",
    "lease.taken_over never-started",
    "delivery.parked",
    "delivery.continued",
    "delivery.completed",
    "delivery.cancelled",
    "delivery.quarantined",
    "delivery.snoozed",
    "delivery.failed",
    "late Commit applied",
    "late Commit refused",
    "late duplicates",
    "resolved: run",
    "resolved: complete",
    "resolved: fail",
)
"""The same for histories of once-tasks."""

LOCKS_EXERCISED = (
    "refreshes",
    "releases",
    "locks taken over",
    "zombie releases refused",
    "zombie refreshes refused",
    "zombie writes refused",
    "zombie writes that were sent in time",
    "released after its end, nobody had taken it",
    "lost answers of acquire recognised",
    "acquires of unknown fate given up",
    "waited and was granted",
    "busy locks refused",
    "held for longer than documents are kept",
    "documents retired by TTL",
    "documents made again",
    "locks of the dead deleted by a person",
    "forgets",
    "effects of runs",
    "replays",
    "busy runs refused",
    "conflicts refused",
    "runs taken over",
    "runs after a crash",
    "runs after a loss",
    "runs after an error",
    "results refused, too late",
    "ambiguous commit: to leased",
    "ambiguous commit: to scheduled",
    "ambiguous commit: to completed",
    "late Commit applied",
    "late Commit refused",
    "calls into an outage",
    "crashes",
    "thaws",
    "hangs",
    "wall clock off by +1 days",
    "wall clock off by -1 days",
)
"""The same for histories of named locks and of functions that run once."""

WORKERS_EXERCISED = (
    "sessions begun",
    "sessions died",
    "sessions ended",
    "shards moved",
    "shares looked at",
    "looks",
    "pulled runs",
    "workers that ended politely",
    "tasks drained",
    "drill: join",
    "drill: stop",
    "drill: kill",
    "stops",
    "joins",
    "parked",
    "hand-overs",
    "batches with riders",
    "replaced while running",
    "replaced while scheduled",
    "replaced while ended",
    "cancelled while running",
    "cancelled while scheduled",
    "occurrences",
    "transactions",
    "lease.taken_over died",
    "lease.taken_over unknown",
    "leases ended by others",
    "late Commit applied",
    "late Commit refused",
    "late RunQuery applied",
    "calls into an outage",
    "crashes",
    "thaws",
    "long_runs",
    "failing_handlers",
    "wall clock off by +1 days",
    "wall clock off by -1 days",
)
"""The same for histories of workers."""


@dataclass(frozen=True)
class Sort:
    """
    A kind of histories.

    Attributes:
        plan_of: The plan of a seed.
        plan: Type of those.
        history: Plays them.
        exercised: What many of them must have met.
    """

    plan_of: Callable[[int], Plan]
    plan: type[Plan]
    history: type[History]
    exercised: tuple[str, ...]


KINDS = {
    "chains": Sort(plan_of, Plan, History, EXERCISED),
    "tasks": Sort(tasks_plan_of, TasksPlan, TasksHistory, TASKS_EXERCISED),
    "locks": Sort(locks_plan_of, LocksPlan, LocksHistory, LOCKS_EXERCISED),
    "workers": Sort(workers_plan_of, WorkersPlan, WorkersHistory, WORKERS_EXERCISED),
}
"""Of entities in chains, of once-tasks, of named locks and runs, of workers."""


def planned(seed: int, kind: str) -> Plan:
    """
    The history of *seed* among those of a *kind*.
    """
    return KINDS[kind].plan_of(seed)


def play(plan: Plan) -> Told:
    """
    Play *plan*, of whatever kind.
    """
    return play_as(plan, next(kind.history for kind in KINDS.values() if kind.plan is type(plan)))


@dataclass
class Summary:
    """
    How many histories went.

    Attributes:
        counts: What was exercised, summed.
        failed: Seeds whose histories broke the promise.
        kind: Kind of the histories.
    """

    counts: Counter[str] = field(default_factory=Counter)
    failed: list[int] = field(default_factory=list)
    kind: str = "chains"

    @property
    def missing(self) -> list[str]:
        """
        What should have been met and was not.
        """
        return [name for name in KINDS[self.kind].exercised if not self.counts[name]]

    def table(self) -> str:
        """
        Name and count, one a line.
        """
        return "\n".join(f"  {name:<46}{count:>10}" for name, count in sorted(self.counts.items()))


def run_many(
    seeds: Sequence[int],
    jobs: int,
    *,
    kind: str = "chains",
    stop: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Summary:
    """
    Play the histories of *seeds* on *jobs* processes; with *stop*, until the first one fails.
    """
    summary = Summary(kind=kind)
    batches = [seeds[at : at + BATCH] for at in range(0, len(seeds), BATCH)]
    done = 0
    context = multiprocessing.get_context("spawn")
    # Whatever else runs on this machine goes first: nothing here goes by real time.
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=os.nice, initargs=(10,)) as pool:
        for counts, failed in pool.map(partial(_play_batch, kind), batches):
            summary.counts.update(counts)
            summary.failed.extend(failed)
            done += BATCH
            if progress is not None:
                progress(min(done, len(seeds)), len(seeds))
            if stop and summary.failed:
                pool.shutdown(wait=True, cancel_futures=True)
                break
    return summary


def _play_batch(kind: str, seeds: Sequence[int]) -> tuple[Counter[str], list[int]]:
    counts: Counter[str] = Counter()
    failed = []
    for seed in seeds:
        told = play(planned(seed, kind))
        counts.update(told.counts)
        if told.violations:
            failed.append(seed)
    return counts, failed


def shrunk(plan: Plan) -> Plan:
    """
    The smallest plan found that still fails.
    """
    left = MOST_SHRINKS
    found = True
    while found and left > 0:
        found = False
        for smaller in plan.smaller():
            left -= 1
            if left <= 0:
                break
            if play(smaller).violations:
                plan, found = smaller, True
                break
    return plan


def story_of(plan: Plan, told: Told) -> str:
    """
    Who did what, when: the lines about the document that broke the promise, and about the processes that touched it.
    """
    lines = [f"seed {plan.seed}: {plan}", ""]
    start = told.story[0][0] if told.story else 0
    paths = {violation.partition(":")[0] for violation in told.violations}
    names = {path.rpartition("/")[2] for path in paths}
    about = [
        (at, who, what)
        for at, who, what in told.story
        if who in ("CHECKER", "the world")
        or not paths
        or any(f"jobs/{n}" in what or f"jobs%2F{n}" in what for n in names)
        or (type(plan) is not Plan and any(n in what or quote(n, safe="") in what for n in names))
        or not any(place in what for place in ("jobs/", "jobs%2F", "onceTasks", "onceLocks"))
    ]
    for at, who, what in about[-120:]:
        lines.append(f"{(at - start) / 1_000_000:10.3f} s  {who:<9} {what}")
    lines += ["", *told.violations]
    return "\n".join(lines)


def report(seed: int, kind: str = "chains") -> str:
    """
    The failing history of *seed*, made small, as a story.
    """
    plan = shrunk(planned(seed, kind))
    kept = f"To keep it, once it is mended, give it a name among FOUND in test_found.py: {kept_of(plan)}"
    return f"{story_of(plan, play(plan))}\n\n{kept}"


def kept_of(plan: Plan) -> str:
    """
    *plan* as the source text that makes it.
    """
    given = [f"{each.name}={getattr(plan, each.name)!r}" for each in fields(plan) if each.name != "troubles"]
    return f"{type(plan).__name__}({', '.join(given)}, troubles=frozenset({sorted(plan.troubles)!r}))"
