"""
Compare the embedded Firestore with Google's emulator by ratios in one run: start, rates, queries. Then measure its own
memory and ageing.
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
from typing import Any

from google.cloud import firestore

from gcp_emulator.channel import InProcessChannel, firestore_client
from gcp_emulator.firestore import FirestoreServer, GoogleFirestore
from gcp_emulator.firestore.google import find


def main() -> int:
    """
    Measure and print a table.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.firestore", description=__doc__)
    parser.add_argument("--calls", type=int, default=400, help="calls per round (default: %(default)s)")
    parser.add_argument(
        "--documents", type=int, default=50_000, help="in the query and in memory, at least 500 (default: %(default)s)"
    )
    parser.add_argument("--writes", type=int, default=500_000, help="writes of the ageing run (default: %(default)s)")
    chosen = parser.parse_args()
    if find() is None:
        print("Google's Firestore emulator is not installed: nothing to compare with.")
        return 1
    rows: list[tuple[str, float, float, bool]] = []
    say("start to first write ...")
    google, started = _start_google()
    try:
        rows.append(("first write sooner, in process", started / _start_in_process(), 20, True))
        rows.append(("first write sooner, as a process", started / _start_process(), 2, True))
        say("rates ...")
        theirs = _client_at(google.address)
        rows += [(f"rate of {name}, in process", r, 4, True) for name, r in _rates(_in_process(), theirs, chosen.calls)]
        with _process() as address:
            one, many = _loopback(_client_at(address), theirs, chosen.calls)
        rows += [("rate over loopback, 1 thread", one, 1, True), ("rate over loopback, 16 threads", many, 0.7, True)]
        say(f"an equality query on {chosen.documents} documents ...")
        slow, fast = (_query(client, chosen.documents) for client in (theirs, _in_process()))
        rows.append(("equality query with a limit", slow / fast, 20, True))
    finally:
        google.stop()
    say("memory and ageing, each in a process of its own ...")
    rows.append((f"MB for {chosen.documents} small documents", _alone("memory", chosen.documents), 300, False))
    rows.append((f"rate after {chosen.writes} writes, to the first", _alone("ageing", chosen.writes), 0.9, True))
    print(f"\n{'target':<44}{'measured':>10}{'limit':>8}")
    for name, value, limit, at_least in rows:
        met = value >= limit if at_least else value <= limit
        print(f"{name:<44}{value:>10.2f}{limit:>8g}  {'met' if met else 'MISSED'}")
    return 0


def say(text: str) -> None:
    """
    Print progress.
    """
    print(text, file=sys.stderr, flush=True)


def _start_google() -> tuple[GoogleFirestore, float]:
    begun = time.perf_counter()
    server = GoogleFirestore()
    server.start()
    _client_at(server.address).document("a/b").set({"x": 1})
    return server, time.perf_counter() - begun


def _start_in_process() -> float:
    begun = time.perf_counter()
    _in_process().document("a/b").set({"x": 1})
    return time.perf_counter() - begun


def _start_process() -> float:
    begun = time.perf_counter()
    with _process() as address:
        _client_at(address).document("a/b").set({"x": 1})
        return time.perf_counter() - begun


@contextmanager
def _process() -> Iterator[str]:
    """
    Run the embedded server in a process of its own, like Google's; yields its address.
    """
    code = "from gcp_emulator.firestore import FirestoreServer as S; s = S(); print(s.start(), flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


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


def _rates(ours: firestore.Client, theirs: firestore.Client, calls: int) -> list[tuple[str, float]]:
    pairs = _calls(ours), _calls(theirs)
    found = []
    for name in pairs[0]:
        ratios = []
        for _ in range(3):
            times = [_timed(pair[name], calls) for pair in pairs]
            ratios.append(times[1] / times[0])
        found.append((name, statistics.median(ratios)))
    return found


def _timed(call: Callable[[], Any], times: int) -> float:
    for _ in range(20):
        call()
    begun = time.perf_counter()
    for _ in range(times):
        call()
    return time.perf_counter() - begun


def _loopback(ours: firestore.Client, theirs: firestore.Client, calls: int) -> tuple[float, float]:
    def rate(client: firestore.Client, threads: int) -> float:
        def one(number: int) -> None:
            client.document(f"loop/d{number % 100}").set({"n": number})

        begun = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(one, range(calls)))
        return calls / (time.perf_counter() - begun)

    ratios: dict[int, list[float]] = {1: [], 16: []}
    for threads, found in ratios.items():
        for _ in range(4):
            found.append(rate(ours, threads) / rate(theirs, threads))
    return statistics.median(ratios[1]), statistics.median(ratios[16])


def _query(client: firestore.Client, documents: int) -> float:
    _fill(client, documents)
    query = client.collection("many").where(filter=firestore.FieldFilter("kind", "==", 7)).limit(10)
    list(query.stream())
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        assert len(list(query.stream())) == 10
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def _fill(client: firestore.Client, documents: int) -> None:
    many = client.collection("many")
    for first in range(0, documents, 500):
        batch = client.batch()
        for number in range(first, first + 500):
            batch.set(
                many.document(f"d{number:06d}"),
                {"kind": number % (documents // 50), "name": f"document {number}", "on": True},
            )
        batch.commit()


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


def _ageing(writes: int) -> float:
    client = _in_process()
    references = [client.document(f"age/d{number}") for number in range(1000)]

    def rate(count: int) -> float:
        begun = time.perf_counter()
        for number in range(count):
            references[number % 1000].set({"n": number, "s": "text"})
        return count / (time.perf_counter() - begun)

    rate(2000)
    first = rate(writes // 20)
    rate(writes - 2 * (writes // 20))
    return rate(writes // 20) / first


if __name__ == "__main__":
    sys.exit(main())
