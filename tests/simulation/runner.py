"""
Many histories on several cores; what they exercised; and the first failing one, made small and told as a story.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, fields
from functools import partial
from urllib.parse import quote

from tests.simulation.alone import ALONE
from tests.simulation.chains.history import History, Told
from tests.simulation.chains.history import play as play_as
from tests.simulation.chains.plan import Plan, plan_of
from tests.simulation.durables.history import DurablesHistory
from tests.simulation.durables.plan import DurablesPlan, durables_plan_of
from tests.simulation.exercised import (
    DURABLES_EXERCISED,
    EXERCISED,
    FAMILIES_EXERCISED,
    LOCKS_EXERCISED,
    TASKS_EXERCISED,
    WORKERS_EXERCISED,
)
from tests.simulation.families.history import FamiliesHistory
from tests.simulation.families.plan import FamiliesPlan, families_plan_of
from tests.simulation.locks.history import LocksHistory
from tests.simulation.locks.plan import LocksPlan, locks_plan_of
from tests.simulation.tasks.history import TasksHistory
from tests.simulation.tasks.plan import TasksPlan, tasks_plan_of
from tests.simulation.workers.history import WorkersHistory
from tests.simulation.workers.plan import WorkersPlan, workers_plan_of

BATCH = 10
MOST_SHRINKS = 150


@dataclass(frozen=True)
class Sort:
    """
    A kind of histories.

    Attributes:
        plan_of: The plan of a seed.
        plan: Type of those.
        history: Plays them.
        exercised: What *many* of them must have met.
        few: How many ``make test`` plays: of all kinds together as many as fit into 80 CPU seconds.
        many: How many more ``make test-all`` plays.
        together: How many one test plays: some two CPU seconds.
    """

    plan_of: Callable[[int], Plan]
    plan: type[Plan]
    history: type[History]
    exercised: tuple[str, ...]
    few: int
    many: int
    together: int


KINDS = {
    "chains": Sort(plan_of, Plan, History, EXERCISED, few=250, many=2200, together=50),
    "tasks": Sort(tasks_plan_of, TasksPlan, TasksHistory, TASKS_EXERCISED, few=80, many=1100, together=25),
    "locks": Sort(locks_plan_of, LocksPlan, LocksHistory, LOCKS_EXERCISED, few=80, many=490, together=30),
    "workers": Sort(workers_plan_of, WorkersPlan, WorkersHistory, WORKERS_EXERCISED, few=20, many=240, together=10),
    "durables": Sort(
        durables_plan_of, DurablesPlan, DurablesHistory, DURABLES_EXERCISED, few=40, many=400, together=20
    ),
    "families": Sort(
        families_plan_of, FamiliesPlan, FamiliesHistory, FAMILIES_EXERCISED, few=40, many=400, together=20
    ),
}
"""Of entities in chains, of once-tasks, of named locks and runs, of workers, of durable handlers, and of those with families."""


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
        tripped: Of each of those, the names of the checks that found it.
        kind: Kind of the histories.
        played: How many there were.
        cpu: CPU seconds of all of them.
    """

    counts: Counter[str] = field(default_factory=Counter)
    failed: list[int] = field(default_factory=list)
    tripped: dict[int, list[str]] = field(default_factory=dict)
    kind: str = "chains"
    played: int = 0
    cpu: float = 0.0

    @property
    def missing(self) -> list[str]:
        """
        What should have been met and was not, without the cases that have a history of their own.
        """
        wanted = [name for name in KINDS[self.kind].exercised if (self.kind, name) not in ALONE]
        return [name for name in wanted if not self.counts[name]]

    def add(self, part: Summary, check: str | None = None) -> None:
        """
        Add the histories of *part*. If *check* is named, only those that trip it count as failed.
        """
        self.counts.update(part.counts)
        self.failed.extend(seed for seed in part.failed if check is None or check in part.tripped[seed])
        self.tripped.update(part.tripped)
        self.played += part.played
        self.cpu += part.cpu

    def table(self) -> str:
        """
        Name and count, one a line.
        """
        return "\n".join(f"  {name:<46}{count:>10}" for name, count in sorted(self.counts.items()))


def run_some(seeds: Sequence[int], kind: str) -> Summary:
    """
    Play the histories of *seeds* in this process, all of them.
    """
    summary = Summary(kind=kind)
    begun = time.process_time()
    for seed in seeds:
        told = play(planned(seed, kind))
        summary.played += 1
        summary.counts.update(told.counts)
        if told.violations:
            summary.failed.append(seed)
            summary.tripped[seed] = told.tripped
    summary.cpu = time.process_time() - begun
    return summary


def run_many(
    seeds: Sequence[int],
    jobs: int,
    *,
    kind: str = "chains",
    stop: bool = True,
    check: str | None = None,
    progress: Callable[[Summary], None] | None = None,
) -> Summary:
    """
    Play the histories of *seeds* on *jobs* processes; with *stop*, until the first one fails. If *check* is named, only a
    history that trips it counts as failed. *progress* is told of each part, in the order of the seeds.
    """
    summary = Summary(kind=kind)
    batches = [seeds[at : at + BATCH] for at in range(0, len(seeds), BATCH)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_start) as pool:
        for part in pool.map(partial(run_some, kind=kind), batches):
            summary.add(part, check)
            if progress is not None:
                progress(part)
            if stop and summary.failed:
                pool.shutdown(wait=True, cancel_futures=True)
                break
    return summary


def _start() -> None:
    # Whatever else runs on this machine goes first: nothing here goes by real time.
    os.nice(10)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    # A process of the pool waits for work for ever when the one that gives it was killed.
    threading.Thread(target=follow, daemon=True).start()


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
    kept = f"To keep it, once it is mended, give it a name in tests/simulation/{kind}/found.py: {kept_of(plan)}"
    return f"{story_of(plan, play(plan))}\n\n{kept}"


def kept_of(plan: Plan) -> str:
    """
    *plan* as the source text that makes it.
    """
    given = [f"{each.name}={getattr(plan, each.name)!r}" for each in fields(plan) if each.name != "troubles"]
    return f"{type(plan).__name__}({', '.join(given)}, troubles=frozenset({sorted(plan.troubles)!r}))"
