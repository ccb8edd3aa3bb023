"""
Four processes add lines to one railway network: python -m examples.graph_lock

A line is an entry in the documents of two stations, and the network's own document counts them; each is read, changed and
written back by an ordinary client. The named lock "network-graph" keeps the processes apart. ``--unlocked`` shows that
entries get lost without the lock.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from contextlib import ExitStack, nullcontext

from google.cloud.firestore import Client

from gcp_emulator.cloud import LocalCloud
from gcp_oncetask import Config, Locker

STATIONS = ["Bern", "Chur", "Genf", "Lugano", "Olten", "Zug"]


def main() -> int:
    """
    Run the processes and check the graph that they leave; the exit code is 0 only if it is whole.
    """
    parser = argparse.ArgumentParser(prog="python -m examples.graph_lock", description=__doc__)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--lines", type=int, default=10, help="per process (default: %(default)s)")
    parser.add_argument("--unlocked", action="store_true", help="without the lock")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker is not None:
        return worker(chosen.worker, chosen.lines, locked=not chosen.unlocked)
    with ExitStack() as stack:
        if "FIRESTORE_EMULATOR_HOST" not in os.environ:
            cloud = stack.enter_context(LocalCloud(smtp=False))
            os.environ["FIRESTORE_EMULATOR_HOST"] = cloud.firestore.address
            os.environ["GOOGLE_CLOUD_PROJECT"] = cloud.project
        command = [sys.executable, "-m", "examples.graph_lock", "--lines", str(chosen.lines)]
        command += ["--unlocked"] if chosen.unlocked else []
        workers = [
            subprocess.Popen([*command, "--worker", str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for n in range(chosen.processes)
        ]
        begin_together(workers)
        failed = sum(process.wait() != 0 for process in workers)
        return report(Locker.from_env().client, chosen.processes * chosen.lines) or failed


def begin_together(workers: list[subprocess.Popen[str]]) -> None:
    """
    Wait until every process is ready, then start all of them.
    """
    for process in workers:
        assert process.stdout is not None
        process.stdout.readline()
    for process in workers:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


def worker(number: int, lines: int, *, locked: bool) -> int:
    """
    Run in one process: add its lines, each under the lock.
    """
    locker = Locker(config=Config.from_env(os.environ))
    # The lease is renewed while this process lives; if the process is killed, the others go on ten seconds later.
    lock = locker.lock("network-graph", keep_alive=10)
    print("ready", flush=True)
    sys.stdin.readline()
    for line in range(lines):
        with lock if locked else nullcontext():
            add_line(locker.client, f"{number}-{line}", token=lock.token if locked else 0)
    return 0


def add_line(client: Client, name: str, *, token: int) -> None:
    """
    Read, change and write back three documents, one after the other.
    """
    where = hash_of(name)
    here, there = STATIONS[where % 6], STATIONS[(where + 1 + where % 5) % 6]
    stations = {station: client.document("stations", station) for station in (here, there)}
    network = client.document("networks/rail")
    lines = {station: reference.get().to_dict() or {} for station, reference in stations.items()}
    count = (network.get().to_dict() or {}).get("lines", 0)
    # Changes of other processes between these reads and the writes below would be lost: only one process may be here.
    for station, other in ((here, there), (there, here)):
        stations[station].set({**lines[station], name: other})
    # Each holder has a greater token, so a reader of the graph can tell which holder changed it last.
    network.set({"lines": count + 1, "token": token})


def hash_of(name: str) -> int:
    """
    Return a hash that is the same in every process.
    """
    return sum(ord(letter) * pow(31, place, 1009) for place, letter in enumerate(name)) % 1009


def report(client: Client, expected: int) -> int:
    """
    Report whether every line is there, from both ends; return the exit code.
    """
    stations = {each.id: each.to_dict() or {} for each in client.collection("stations").stream()}
    ends = [(name, here, there) for here, lines in stations.items() for name, there in lines.items()]
    one_sided = [name for name, here, there in ends if stations.get(there, {}).get(name) != here]
    network = client.document("networks/rail").get().to_dict() or {}
    lost = max(expected - network.get("lines", 0), expected - len({name for name, _, _ in ends}))
    print(f"lines added {expected}")
    print(f"lines lost {lost}")
    print(f"lines with one end {len(one_sided)}")
    return int(bool(lost or one_sided))


if __name__ == "__main__":
    sys.exit(main())
