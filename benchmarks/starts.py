"""
``python -m benchmarks.starts``: the CPU that it costs to import the library and to use its fixture in a pytest run, and the
memory of a process that has run many tasks. Each number is that of a process of its own.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import kept
from benchmarks.kept import Ratio

ROUNDS = 5
FULL_ROUNDS = 15
BASE = "import flask, google.cloud.firestore"
LIBRARY = "import gcp_oncetask.flask"
PLAIN = "def test_one():\n    assert 1\n"
FIXTURE = "def test_one(oncetask_cloud):\n    assert oncetask_cloud.alerts\n"
MANY = 10_000


def main() -> int:
    """
    Measure and print.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.starts", description=__doc__)
    parser.add_argument("--rounds", type=int, help=f"default: {ROUNDS}, --full: {FULL_ROUNDS}")
    parser.add_argument("--tasks", type=int, default=MANY, help="for the memory (default: %(default)s)")
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    kept.add_options(parser)
    chosen = parser.parse_args()
    if chosen.memory is not None:
        print(_memory(chosen.memory))
        return 0
    rounds = chosen.rounds or (FULL_ROUNDS if chosen.full else ROUNDS)
    base, library = _pairs("import", rounds, ["-c", BASE], ["-c", f"{BASE}\n{LIBRARY}"])
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"test_{name}.py" for name in ("plain", "fixture")}
        files["plain"].write_text(PLAIN)
        files["fixture"].write_text(FIXTURE)
        pytest = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", folder]
        plain, fixture = _pairs("fixture", rounds, *([*pytest, str(file)] for file in files.values()))
    print(f"memory after {chosen.tasks} tasks ...", file=sys.stderr, flush=True)
    few, many = (_run(["-m", "benchmarks.starts", "--memory", str(number)]) for number in (100, chosen.tasks))
    print(f"Flask and Firestore's client: {base:.2f} CPU s; with gcp_oncetask.flask: {library - base:.2f} more")
    print(f"pytest with one test: {plain:.2f} CPU s; with oncetask_cloud: {fixture - plain:.2f} more")
    print(f"memory after 100 tasks: {few} MB; after {chosen.tasks}: {many} MB")
    ratios = {
        "import over Flask and Firestore, to those": Ratio((library - base) / base),
        "pytest run with the fixture, to one without": Ratio(fixture / plain),
        f"memory after {chosen.tasks} tasks, to 100": Ratio(int(many) / int(few), 1.25),
    }
    seconds = {"import": library - base, "fixture": fixture - plain}
    return kept.finish("benchmarks.starts", ratios, chosen, seconds)


def _pairs(what: str, rounds: int, one: list[str], other: list[str]) -> tuple[float, float]:
    """
    Return the median CPU seconds of two commands of Python, run in turn.
    """
    found: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        print(f"{what}: round {number} of {rounds} ...", file=sys.stderr, flush=True)
        for times, command in zip(found, (one, other), strict=True):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            _run(command)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            if number:
                # The first round fills the caches of the file system.
                times.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return statistics.median(found[0]), statistics.median(found[1])


def _run(command: list[str]) -> str:
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {(done.stdout + done.stderr)[-2000:]}")
    return done.stdout.strip()


def _memory(tasks: int) -> int:
    """
    Run so many tasks in this process, with a Firestore in a process of its own; return its memory in MB.
    """
    from benchmarks.__main__ import fresh_firestore
    from benchmarks.variants import Shared

    with fresh_firestore("embedded") as client:
        library = Shared(client)
        for number in range(tasks):
            library.run(f"m{number}")
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20


if __name__ == "__main__":
    sys.exit(main())
