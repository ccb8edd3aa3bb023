"""
``python -m benchmarks.workers``: a queue drained by 1, 2, 4 and 8 worker processes of four places each, on the embedded Firestore
in a process of its own; with --full then 10,000 tasks by 32 claimers. Each task must have run once.

Claims get in each other's way if a task costs more calls or documents with more workers; these are counted in the workers, from
the instant on at which all tasks fall due. Before that instant the workers share the shards, and run some tasks.

The CPU per task says the same only while each process has a core to itself. With more processes than cores a task takes more CPU,
although its calls, documents and Python calls are the same. So the CPU has a target only up to as many workers as have a core
each beside the Firestore. The rate depends on the cores, and on the Firestore, which is one Python process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import kept, latency
from benchmarks.kept import Ratio
from gcp_oncetask import Config, Locker
from gcp_oncetask.execution.ended import Ended
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.store.snapshot import Snapshot
from gcp_oncetask.store.wire import Wire
from gcp_oncetask.tasks import TaskData, TaskManager, TaskStatus
from gcp_oncetask.worker import Worker

PLACES = 4
WARM = 40
"""Tasks for each worker before the clock starts."""
TTL = 15.0
"""Seconds a session lives; a third of it after they all have joined, each worker watches its own shards alone."""
AHEAD = timedelta(seconds=4)
"""Time that the creation of the tasks has before they fall due."""
FLAT = 1.10
COUNTS = {"calls": "calls", "documents": "documents read", "refused": "claims refused"}
"""Counted numbers: name in a report of a worker, and column of the table."""


class Parcel(TaskData, kind="bench-parcel", pull=True):
    number: int
    at: datetime | None = None

    def task_id(self) -> str:
        return str(self.number)

    def scheduled_at(self) -> datetime | None:
        return self.at


class CountingWorker(Worker):
    """
    A worker that counts the costs of its tasks.

    Attributes:
        counted: The numbers of calls to Firestore, of documents that queries have found, and of claims that ran no task.
    """

    def __init__(self, manager: TaskManager) -> None:
        super().__init__(manager, concurrency=PLACES, session_ttl=TTL)
        self.counted: Counter[str] = Counter()
        self._count(manager.locker._runtime.wire)

    def _count(self, wire: Wire) -> None:
        unary, stream = wire._unary, wire._stream

        def counted_unary(*arguments: Any) -> Any:
            self.counted["calls"] += 1
            return unary(*arguments)

        def counted_stream(*arguments: Any) -> Iterator[Any]:
            self.counted["calls"] += 1
            for answer in stream(*arguments):
                self.counted["documents"] += "document" in answer.DESCRIPTOR.fields_by_name and answer.HasField(
                    "document"
                )
                yield answer

        wire._unary, wire._stream = counted_unary, counted_stream  # type: ignore[method-assign]

    def _run_one(self, kind: str, snapshot: Snapshot) -> Ended | None:
        ended = super()._run_one(kind, snapshot)
        self.counted["refused"] += ended is None or ended.outcome is not Outcome.COMPLETED
        return ended

    def report(self) -> dict[str, int]:
        """
        Return the counts so far, the number of shards of this worker, and the number that it watches.
        """
        membership = self._membership
        shards = 0 if membership is None else sum(map(len, membership.shards.values()))
        watched = 0 if membership is None else sum(map(len, membership.watched.values()))
        return {**dict.fromkeys(COUNTS, 0), **self.counted, "shards": shards, "watched": watched}


def main() -> int:
    """
    Run the benchmark and print it; the exit code is 1 if a task did not run once.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description=__doc__)
    parser.add_argument("--tasks", type=int, default=2_000, help="of each run (default: %(default)s)")
    parser.add_argument("--many", type=int, default=10_000, help="of the last run of --full (default: %(default)s)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8], help="processes (default: 1 2 4 8)")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    kept.add_options(parser)
    chosen = parser.parse_args()
    if chosen.worker:
        return worker()
    heads = "".join(f"{what:>16}" for what in COUNTS.values())
    print(
        f"{'workers':>8}{'tasks':>8}{'seconds':>9}{'tasks/s':>9}{'CPU ms':>9}{heads}  run once; by worker", flush=True
    )
    found = list[Drained]()
    runs = [(workers, chosen.tasks) for workers in chosen.workers]
    runs += [(max(chosen.workers), chosen.many)] if chosen.full else []
    for workers, tasks in runs:
        with latency.emulator() as environment:
            os.environ["FIRESTORE_EMULATOR_HOST"] = environment["FIRESTORE_EMULATOR_HOST"]
            found.append(one := drain(tasks, workers))
        numbers = f"{one.seconds:>9.1f}{one.rate:>9.0f}{one.cpu_ms:>9.2f}"
        counts = "".join(f"{one.counts[name]:>16.3f}" for name in COUNTS)
        print(f"{workers:>8}{tasks:>8}{numbers}{counts}  {one.once}; {sorted(one.by)}", flush=True)
    once = all(one.once for one in found)
    print(f"each task once: {once}")
    report = [one._asdict() for one in found]
    return kept.finish("benchmarks.workers", ratios_of(found), chosen, report) or int(not once)


class Drained(NamedTuple):
    """
    The cost of draining one queue.

    Attributes:
        workers: The number of worker processes.
        seconds: Time from the instant at which the tasks fell due.
        rate: Tasks per second.
        cpu_ms: CPU milliseconds of the workers per task.
        counts: Counted numbers per task; see ``COUNTS``.
        once: Whether each task ran once.
        by: The numbers of tasks that each worker ran.
    """

    workers: int
    seconds: float
    rate: float
    cpu_ms: float
    counts: dict[str, float]
    once: bool
    by: list[int]


def ratios_of(found: Sequence[Drained]) -> dict[str, Ratio]:
    """
    Return the greatest cost of each sort to that of the first run, and the least rate to its rate.
    """
    first, cores = found[0], len(os.sched_getaffinity(0))
    made = {
        f"{COUNTS[name]} per task, most to first": Ratio(
            max(one.counts[name] for one in found) / first.counts[name], FLAT
        )
        for name in ("calls", "documents")
    }
    made["claims refused per task, most"] = Ratio(max(one.counts["refused"] for one in found), FLAT - 1)
    fitting = [one.cpu_ms for one in found if one.workers < cores] or [first.cpu_ms]
    made["CPU per task, a core for each, dearest to first"] = Ratio(max(fitting) / first.cpu_ms, FLAT)
    made["CPU per task, dearest to first"] = Ratio(max(one.cpu_ms for one in found) / first.cpu_ms)
    made["tasks/s, slowest to first"] = Ratio(min(one.rate for one in found) / first.rate, more=True)
    return made


def manager_of() -> TaskManager:
    """
    Return a manager on the benchmark's Firestore.
    """
    return TaskManager(Locker(config=Config.from_env({**os.environ, "GOOGLE_CLOUD_PROJECT": "bench"})))


def worker() -> int:
    """
    Run in a worker process: work until SIGTERM, and answer each line on standard input by a report.
    """
    manager = manager_of()
    manager.register_task_handler(Parcel, lambda task, attempt: os.getpid())
    counting = CountingWorker(manager)

    def answer() -> None:
        for _ in sys.stdin:
            # Standard output has the evidence of the attempts, and standard error log lines: so this is one write.
            sys.stderr.write(json.dumps(counting.report()) + "\n")

    threading.Thread(target=answer, daemon=True).start()
    counting.run()
    return 0


@contextmanager
def at_work(workers: int) -> Iterator[list[subprocess.Popen[str]]]:
    """
    Run worker processes.
    """
    command = [sys.executable, "-m", "benchmarks.workers", "--worker"]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in range(workers)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.communicate(timeout=30)


def reports(processes: Sequence[subprocess.Popen[str]]) -> list[Counter[str]]:
    """
    Ask each worker for its report.
    """
    found = []
    for process in processes:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write("report\n")
        process.stdin.flush()
        lines = (line for line in iter(process.stderr.readline, "") if line.startswith("{"))
        found.append(Counter(json.loads(next(lines))))
    return found


def drain(tasks: int, workers: int) -> Drained:
    """
    Let *workers* drain a queue of *tasks*.
    """
    manager, pause = manager_of(), threading.Event()
    shards = manager.locker._runtime.config.pull_shards
    with at_work(workers) as processes:
        while True:
            now = reports(processes)
            if sum(one["shards"] for one in now) == sum(one["watched"] for one in now) == shards:
                break
            pause.wait(0.1)
        manager.create_tasks(Parcel(number=-1 - number) for number in range(WARM * workers))
        completed(manager, WARM * workers)
        at = manager.locker._runtime.store.estimate() + AHEAD
        manager.create_tasks(Parcel(number=number, at=at) for number in range(tasks))
        pause.wait(max(0.0, (at - manager.locker._runtime.store.estimate()).total_seconds()))
        before, idle, start = reports(processes), sum(map(_spent, processes)), time.perf_counter()
        completed(manager, WARM * workers + tasks)
        seconds = time.perf_counter() - start
        cpu, after = sum(map(_spent, processes)) - idle, reports(processes)
    found = manager.get_tasks_by_ids(Parcel, map(str, range(tasks)))
    once = len(found) == tasks and all((task.lock.token, task.lock.attempts) == (1, 1) for task in found)
    counts = {name: sum(one[name] for one in after) - sum(one[name] for one in before) for name in COUNTS}
    return Drained(
        workers,
        seconds,
        tasks / seconds,
        cpu * 1000 / tasks,
        {name: count / tasks for name, count in counts.items()},
        once,
        list(Counter(task.result for task in found).values()),
    )


def completed(manager: TaskManager, count: int) -> None:
    """
    Wait until *count* tasks are completed. Counting the pending ones is cheap, and cheaper near the end.
    """
    pause = threading.Event()
    while manager.get_pending_count(Parcel):
        pause.wait(0.2)
    while manager.count(Parcel)[TaskStatus.COMPLETED] < count:
        pause.wait(0.05)


def _spent(process: subprocess.Popen[str]) -> float:
    """
    Return the CPU seconds that a process has used.
    """
    user, system = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
