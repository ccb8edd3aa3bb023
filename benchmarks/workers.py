"""
``python -m benchmarks.workers``: a queue drained by 1, 2, 4 and 8 worker processes of four places each, on the embedded Firestore
in a process of its own; with --full then 10,000 tasks by 32 claimers. Each task must have run once.

The figure is the CPU of the workers per task: it shows whether claims get in each other's way. The rate depends on the cores,
and on the Firestore, which is one Python process.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import kept, latency
from benchmarks.kept import Ratio
from gcp_oncetask import Config, Locker
from gcp_oncetask.tasks import TaskData, TaskManager, TaskStatus
from gcp_oncetask.worker import Worker

PLACES = 4


class Parcel(TaskData, kind="bench-parcel", pull=True):
    number: int

    def task_id(self) -> str:
        return str(self.number)


def main() -> int:
    """
    Run the benchmark and print it; the exit code is 1 if a task did not run once, or the rate falls.
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
    print(
        f"{'workers':>8}{'places':>8}{'tasks':>8}{'seconds':>9}{'tasks/s':>9}{'CPU ms':>9}  run once; by worker",
        flush=True,
    )
    rates, costs = list[float](), list[float]()
    once = True
    runs = [(workers, chosen.tasks) for workers in chosen.workers]
    runs += [(max(chosen.workers), chosen.many)] if chosen.full else []
    for workers, tasks in runs:
        with latency.emulator() as environment:
            os.environ["FIRESTORE_EMULATOR_HOST"] = environment["FIRESTORE_EMULATOR_HOST"]
            seconds, cpu, good, by = drain(tasks, workers)
        once = once and good
        rates.append(tasks / seconds)
        costs.append(cpu * 1000 / tasks)
        numbers = f"{seconds:>9.1f}{rates[-1]:>9.0f}{costs[-1]:>9.2f}"
        print(f"{workers:>8}{workers * PLACES:>8}{tasks:>8}{numbers}  {good}; {sorted(by)}", flush=True)
    print(f"each task once: {once}")
    ratios = {
        "CPU per task, dearest number of workers, to one worker": Ratio(max(costs) / costs[0], 1.10),
        "tasks/s, slowest number of workers, to one worker": Ratio(min(rates) / rates[0], more=True),
    }
    return kept.finish("benchmarks.workers", ratios, chosen, {"rates": rates, "cpu_ms": costs}) or int(not once)


def manager_of() -> TaskManager:
    """
    Return a manager on the benchmark's Firestore.
    """
    return TaskManager(Locker(config=Config.from_env({**os.environ, "GOOGLE_CLOUD_PROJECT": "bench"})))


def worker() -> int:
    """
    Run in a worker process: get ready, wait for a line on standard input, work until SIGTERM.
    """
    manager = manager_of()
    manager.register_task_handler(Parcel, lambda task, attempt: os.getpid())
    manager.locker._runtime.store.estimate()
    print("ready", file=sys.stderr, flush=True)
    sys.stdin.readline()
    Worker(manager, concurrency=PLACES).run()
    return 0


@contextmanager
def ready(workers: int) -> Iterator[list[subprocess.Popen[str]]]:
    """
    Start worker processes that wait for a line on standard input.
    """
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.workers", "--worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(workers)
    ]
    try:
        for process in processes:
            assert process.stderr is not None
            process.stderr.readline()
        yield processes
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.communicate(timeout=30)


def drain(tasks: int, workers: int) -> tuple[float, float, bool, list[int]]:
    """
    Return the seconds, the CPU seconds of the workers from their start on, whether each task ran once, and the number of tasks
    that each worker ran.
    """
    manager, pause = manager_of(), threading.Event()
    manager.create_tasks(Parcel(number=number) for number in range(tasks))
    with ready(workers) as processes:
        idle = sum(_spent(process.pid) for process in processes)
        start = time.perf_counter()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        # Counting the pending tasks is cheap, and cheaper near the end.
        while manager.get_pending_count(Parcel):
            pause.wait(0.2)
        while manager.count(Parcel)[TaskStatus.COMPLETED] < tasks:
            pause.wait(0.05)
        seconds = time.perf_counter() - start
        cpu = sum(_spent(process.pid) for process in processes) - idle
    found = manager.get_tasks_by_ids(Parcel, map(str, range(tasks)))
    by = Counter(task.result for task in found)
    good = len(found) == tasks and all((task.lock.token, task.lock.attempts) == (1, 1) for task in found)
    return seconds, cpu, good, list(by.values())


def _spent(process: int) -> float:
    """
    Return the CPU seconds that a process has used.
    """
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
