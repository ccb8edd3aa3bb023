"""
Compare the embedded Firestore, in process and behind its port, with Google's emulator, where that is installed, by the CPU
time that client and server take for an operation. Then measure its memory and ageing.

A busy machine changes the CPU time of an operation little. Both sides of a ratio are measured in turns. A row is printed as
soon as its number is known. The rows that compare are left out without Google's emulator.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.cloud import firestore

from gcp_emulator.channel import InProcessChannel, firestore_client
from gcp_emulator.firestore import FirestoreServer, GoogleFirestore
from gcp_emulator.firestore.google import find

ROUNDS = 5
WARM = 300
TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Side:
    """
    One server with a client.

    Attributes:
        client: Its client, in this process.
        pid: Its process; None: it is this one.
    """

    client: firestore.Client
    pid: int | None = None

    def spent(self) -> tuple[float, float]:
        """
        CPU seconds so far of this process, and of the server's if it is another one.
        """
        return time.process_time(), 0.0 if self.pid is None else _cpu_of(self.pid)


class Table:
    """
    Rows, printed as they come, and the time that is left.
    """

    def __init__(self, minutes: float) -> None:
        self._until = time.monotonic() + minutes * 60
        print(f"{'target':<48}{'ours':>10}{'theirs':>10}{'ratio':>9}{'limit':>8}", flush=True)

    @property
    def left(self) -> float:
        """
        Seconds until all must be over.
        """
        return self._until - time.monotonic()

    def share(self, seconds: float) -> float:
        """
        Time at which a part that may take *seconds* must be over.
        """
        return min(time.monotonic() + seconds, self._until)

    def compared(self, name: str, ours: float, theirs: float, limit: float) -> None:
        """
        Print CPU milliseconds of both sides; theirs must be *limit* times ours.
        """
        ratio = theirs / max(ours, 1e-9)
        self._row(name, f"{ours * 1000:.3f}", f"{theirs * 1000:.3f}", ratio, limit, met=ratio >= limit)

    def own(self, name: str, value: float, limit: float, *, at_least: bool) -> None:
        """
        Print a number of the embedded server's own.
        """
        self._row(name, "", "", value, limit, met=value >= limit if at_least else value <= limit)

    def _row(self, name: str, ours: str, theirs: str, value: float, limit: float, *, met: bool) -> None:
        verdict = "met" if met else "MISSED"
        print(f"{name:<48}{ours:>10}{theirs:>10}{value:>9.2f}{limit:>8g}  {verdict}", flush=True)


def main() -> int:
    """
    Measure and print a table.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.firestore", description=__doc__)
    parser.add_argument("--calls", type=int, default=400, help="calls per round (default: %(default)s)")
    parser.add_argument(
        "--documents", type=int, default=50_000, help="in the query and in memory, at least 500 (default: %(default)s)"
    )
    parser.add_argument("--writes", type=int, default=100_000, help="writes of the ageing run (default: %(default)s)")
    parser.add_argument(
        "--minutes", type=float, default=4.0, help="rounds are left out to end by then (default: %(default)s)"
    )
    chosen = parser.parse_args()
    table = Table(chosen.minutes)
    if find() is None:
        say("Google's Firestore emulator is not installed: nothing to compare with.")
        with _process() as (address, pid):
            say(
                f"a get through the port: {_each(Side(_client_at(address), pid), 'get', chosen.calls) * 1000:.3f} ms of CPU"
            )
    else:
        _compare(table, chosen.calls, chosen.documents)
    say("memory and ageing, each in a process of its own; rates by CPU time ...")
    table.own(f"MB for {chosen.documents} small documents", _alone("memory", chosen.documents), 300, at_least=False)
    seconds = max(1, int(table.left - 10))
    rate = _alone("ageing", chosen.writes, seconds)
    table.own(f"rate after {chosen.writes} writes, to the first", rate, 0.9, at_least=True)
    return 0


def say(text: str) -> None:
    """
    Print progress.
    """
    print(text, file=sys.stderr, flush=True)


def _compare(table: Table, calls: int, documents: int) -> None:
    say("start to first write ...")
    google, started, theirs = _start_google()
    try:
        table.compared("first write, in process", _start_in_process(), started, 20)
        table.compared("first write, as a process", _start_process(), started, 2)
        say("operations in process, client and server ...")
        _operations(table, Side(_in_process()), theirs, calls, "in process", {}, 4.0, table.share(40))
        with _process() as (address, pid):
            port = Side(_client_at(address), pid)
            say("operations through the port, client and server ...")
            _operations(table, port, theirs, calls, "through the port", {"transaction": 0.9}, 1.0, table.share(40))
            say("sixteen threads ...")
            _loopback(table, port, theirs, calls, table.share(25))
        say(f"an equality query on {documents} documents ...")
        _query(table, Side(_in_process()), theirs, documents)
    finally:
        google.stop()


def _cpu_of(pid: int) -> float:
    """
    CPU seconds of a process, with the children that it has collected.
    """
    numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(number) for number in numbers[11:15]) * TICK


def _start_google() -> tuple[GoogleFirestore, float, Side]:
    begun = time.process_time()
    server = GoogleFirestore()
    address = server.start()
    process = server._process
    assert process is not None
    client = _client_at(address)
    client.document("a/b").set({"x": 1})
    spent = time.process_time() - begun + _cpu_of(process.pid)
    return server, spent, Side(client, process.pid)


def _start_in_process() -> float:
    begun = time.process_time()
    _in_process().document("a/b").set({"x": 1})
    return time.process_time() - begun


def _start_process() -> float:
    begun = time.process_time()
    with _process() as (address, pid):
        _client_at(address).document("a/b").set({"x": 1})
        return time.process_time() - begun + _cpu_of(pid)


@contextmanager
def _process() -> Iterator[tuple[str, int]]:
    """
    Run the embedded server in a process of its own, like Google's; yields its address and process id.
    """
    code = "from gcp_emulator.firestore import FirestoreServer as S; s = S(); print(s.start(), flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), process.pid
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _in_process() -> firestore.Client:
    return firestore_client(InProcessChannel([FirestoreServer().service]), "bench")


def _client_at(address: str) -> firestore.Client:
    os.environ["FIRESTORE_EMULATOR_HOST"] = address
    try:
        client = firestore.Client(project="bench")
        client.document("warm/up").get()
        return client
    finally:
        del os.environ["FIRESTORE_EMULATOR_HOST"]


def _calls(client: firestore.Client) -> dict[str, Callable[[], Any]]:
    reference = client.document("rates/a")
    state = {"version": reference.set({"n": 0}).update_time, "n": 0}

    def conditional() -> None:
        state["n"] += 1
        option = client.write_option(last_update_time=state["version"])
        state["version"] = reference.update({"n": state["n"]}, option=option).update_time

    @firestore.transactional
    def in_transaction(transaction: firestore.Transaction) -> None:
        found = other.get(transaction=transaction)
        transaction.update(other, {"n": found.get("n") + 1})

    other = client.document("rates/b")
    other.set({"n": 0})
    written = client.document("rates/c")
    return {
        "set": lambda: written.set({"n": 1, "s": "text"}),
        "get": other.get,
        "conditional update": conditional,
        "transaction": lambda: in_transaction(client.transaction()),
    }


def _operations(
    table: Table,
    ours: Side,
    theirs: Side,
    calls: int,
    where: str,
    limits: dict[str, float],
    limit: float,
    until: float,
) -> None:
    pairs = _calls(ours.client), _calls(theirs.client)
    served: list[tuple[float, float]] = []
    for number, name in enumerate(pairs[0]):
        last = until - (len(pairs[0]) - 1 - number) * (until - time.monotonic()) / (len(pairs[0]) - number)
        for pair in pairs:
            for _ in range(min(WARM, calls)):
                pair[name]()
        costs = _turns(lambda side, name=name: _cost(side, pairs[side is theirs][name], calls), ours, theirs, last)
        table.compared(f"{name}, {where}", sum(costs[0]), sum(costs[1]), limits.get(name, limit))
        served.append((costs[0][1], costs[1][1]))
    if ours.pid is not None:
        # A share of the sums above: a get is the second operation.
        say(f"of which the server of a get: {served[1][0] * 1000:.3f} ms, Google's {served[1][1] * 1000:.3f} ms")


def _turns(
    measure: Callable[[Side], tuple[float, float]], ours: Side, theirs: Side, until: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """
    Measure both sides in turns; returns the medians of the client's and the server's seconds of each.
    """
    found: tuple[list[tuple[float, float]], list[tuple[float, float]]] = ([], [])
    for number in range(ROUNDS):
        if number and time.monotonic() > until:
            break
        for side, costs in zip((ours, theirs), found, strict=True):
            costs.append(measure(side))
    mine, yours = (tuple(map(statistics.median, zip(*costs, strict=True))) for costs in found)
    return (mine[0], mine[1]), (yours[0], yours[1])


def _cost(side: Side, call: Callable[[], Any], times: int) -> tuple[float, float]:
    before = side.spent()
    for _ in range(times):
        call()
    after = side.spent()
    return (after[0] - before[0]) / times, (after[1] - before[1]) / times


def _each(side: Side, name: str, times: int) -> float:
    return sum(_cost(side, _calls(side.client)[name], times))


def _loopback(table: Table, ours: Side, theirs: Side, calls: int, until: float) -> None:
    def cost(side: Side) -> tuple[float, float]:
        def one(number: int) -> None:
            side.client.document(f"loop/d{number % 100}").set({"n": number})

        before = side.spent()
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(one, range(calls)))
        after = side.spent()
        return (after[0] - before[0]) / calls, (after[1] - before[1]) / calls

    mine, yours = _turns(cost, ours, theirs, until)
    table.compared("set through the port, 16 threads", sum(mine), sum(yours), 0.7)


def _query(table: Table, ours: Side, theirs: Side, documents: int) -> None:
    costs = []
    for side in (ours, theirs):
        until = table.share(40)
        filled = _fill(side.client, documents, until)
        query = side.client.collection("many").where(filter=firestore.FieldFilter("kind", "==", 7)).limit(10)
        list(query.stream())
        runs = []
        while len(runs) < 3 or (sum(runs) < 20 * TICK and len(runs) < 2000 and time.monotonic() < until):
            before = side.spent()
            assert len(list(query.stream())) == 10
            runs.append(sum(side.spent()) - sum(before))
        # Scaled, if the time did not suffice to fill it.
        costs.append(sum(runs) / len(runs) * documents / filled)
    table.compared(f"equality query with a limit, {documents}", costs[0], costs[1], 20)


def _fill(client: firestore.Client, documents: int, until: float = float("inf")) -> int:
    """
    Write documents, 500 at once; returns how many were written by the time *until*.
    """
    many = client.collection("many")
    for first in range(0, documents, 500):
        if first >= 5000 and time.monotonic() > until:
            return first
        batch = client.batch()
        for number in range(first, first + 500):
            batch.set(
                many.document(f"d{number:06d}"),
                {"kind": number % (documents // 50), "name": f"document {number}", "on": True},
            )
        batch.commit()
    return documents


def _alone(what: str, *arguments: int) -> float:
    command = [
        sys.executable,
        "-c",
        f"from benchmarks.firestore import _{what}; print(_{what}({', '.join(map(str, arguments))}))",
    ]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _memory(documents: int) -> float:
    _fill(_in_process(), documents)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _ageing(writes: int, seconds: int) -> float:
    until = time.monotonic() + seconds
    client = _in_process()
    references = [client.document(f"age/d{number}") for number in range(1000)]

    def rate(count: int, until: float = float("inf")) -> float:
        begun = time.process_time()
        for number in range(count):
            references[number % 1000].set({"n": number, "s": "text"})
            if number % 1000 == 999 and time.monotonic() > until:
                return (number + 1) / (time.process_time() - begun)
        return count / (time.process_time() - begun)

    rate(2000)
    first = rate(writes // 20)
    rate(writes - 2 * (writes // 20), until)
    return rate(writes // 20) / first


if __name__ == "__main__":
    sys.exit(main())
