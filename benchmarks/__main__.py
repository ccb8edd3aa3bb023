"""
``make bench``: ratios within one run, with targets, a comparison with the kept ones, and a JSON file if wanted.

Interleaved rounds (a b c .. c b a) on a fresh, warmed Firestore; medians. Times differ between machines, and with their
load. So the ratios, each taken within one round, are compared.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from google.cloud import firestore

from benchmarks import kept, latency, own_share
from benchmarks.instant import instant_firestore
from benchmarks.kept import Ratio
from benchmarks.variants import NUMBERS, VARIANTS, Idiom, Library, Raw, Shared, Stubs, Variant
from gcp_emulator.firestore import GoogleFirestore

ROUNDS = 5
FULL_ROUNDS = 10
TARGETS: dict[str, tuple[type[Any], type[Any], str, dict[int, float]]] = {
    "client CPU to the documented way": (Library, Idiom, "cpu", {1: 0.35}),
    "client CPU to bare stubs": (Library, Stubs, "cpu", {1: 1.5}),
    "client CPU to raw messages": (Library, Raw, "cpu", {1: 1.25}),
    "client CPU, shared calls, to the documented way": (Shared, Idiom, "cpu", {1: 0.35, 8: 0.38, 32: 0.30}),
    "client CPU, shared calls, to calls of their own": (Shared, Library, "cpu", {}),
    "tasks/s to the documented way": (Library, Idiom, "rate", {8: 2.0}),
    "tasks/s, shared calls, to the documented way": (Shared, Idiom, "rate", {8: 2.3, 32: 3.5}),
}
"""Ratio -> a variant, the variant to which it is compared, the figure, and its target by the number of threads."""


def main() -> int:
    """
    Run the benchmarks, print the tables and write the file.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, help=f"interleaved rounds (default: {ROUNDS}, --full: {FULL_ROUNDS})")
    parser.add_argument("--tasks", type=int, default=200, help="tasks per run and variant (default: %(default)s)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 8, 32], help="client threads (default: 1 8 32)")
    parser.add_argument(
        "--firestore",
        choices=("google", "embedded", "instant"),
        default="instant",
        help="Google's emulator, the embedded one, or one that answers at once (default: %(default)s)",
    )
    kept.add_options(parser)
    chosen = parser.parse_args()
    kind = chosen.firestore
    rounds = chosen.rounds or (FULL_ROUNDS if chosen.full else ROUNDS)
    report: dict[str, Any] = {"firestore": kind, "tasks": chosen.tasks, "rounds": rounds, "threads": {}}
    ratios: dict[str, Ratio] = {}
    print(f"{kind} Firestore, {rounds} rounds of {chosen.tasks} tasks", flush=True)
    print(f"\n{'threads':>7}  {'variant':<32}{'tasks/s':>9}{'CPU ms/task':>13}", flush=True)
    with fresh_firestore(kind) as client:
        variants = [make(client) for make in VARIANTS]
        for variant in variants:
            measure(variant, chosen.tasks, 4)
        for threads in chosen.threads:
            found = compare(variants, chosen.tasks, rounds, threads)
            report["threads"][threads] = medians(found)
            for name, row in report["threads"][threads].items():
                print(f"{threads:>7}  {name:<32}{row['tasks_per_s']:>9.0f}{row['cpu_ms']:>13.2f}", flush=True)
            ratios |= ratios_of(found, threads)
    report["latency"] = late = latency.measure(chosen.tasks)
    print(
        f"\nschedule() to handler, paced: p50 {late['p50_ms']:.1f} ms, p99 {late['p99_ms']:.1f} ms ({late['tasks']} tasks)",
        flush=True,
    )
    report["own_share"] = own = own_share.measure(2 * chosen.tasks)
    print(
        f"one push, ms CPU over a bare view ({own['bare_ms']:.3f}): {own['share_ms']:.3f} without I/O; "
        f"{own['whole_ms']:.3f} with claim, handler and settling, where the same two writes by hand are {own['by_hand_ms']:.3f}"
    )
    ratios["own share of a push, to a bare view"] = Ratio(own["share_ms"] / own["bare_ms"])
    ratios["a push, to the same writes by hand"] = Ratio(own["whole_ms"] / own["by_hand_ms"])
    return kept.finish(f"benchmarks on {kind} Firestore", ratios, chosen, report)


@contextmanager
def fresh_firestore(kind: str) -> Iterator[firestore.Client]:
    """
    Start a Firestore in a process of its own, so that its CPU is not counted.
    """
    if kind == "instant":
        with instant_firestore() as address, _client_of(address) as client:
            yield client
        return
    if kind == "google":
        server = GoogleFirestore()
        try:
            with _client_of(server.start()) as client:
                yield client
        finally:
            server.stop()
        return
    with latency.emulator() as environment, _client_of(environment["FIRESTORE_EMULATOR_HOST"]) as client:
        yield client


@contextmanager
def _client_of(address: str) -> Iterator[firestore.Client]:
    os.environ["FIRESTORE_EMULATOR_HOST"] = address
    try:
        yield firestore.Client(project="bench")
    finally:
        del os.environ["FIRESTORE_EMULATOR_HOST"]


def measure(variant: Variant, tasks: int, threads: int) -> tuple[float, float]:
    """
    Return tasks per second, and client CPU milliseconds per task.
    """
    names = [hashlib.sha256(str(next(NUMBERS)).encode()).hexdigest()[:20] for _ in range(tasks)]
    cpu, wall = time.process_time(), time.perf_counter()
    if threads == 1:
        for name in names:
            variant.run(name)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(variant.run, names))
    return tasks / (time.perf_counter() - wall), (time.process_time() - cpu) * 1000 / tasks


Rounds = dict[str, list[tuple[float, float]]]
"""Variant -> tasks per second and CPU milliseconds per task, of each round."""


def compare(variants: list[Variant], tasks: int, rounds: int, threads: int) -> Rounds:
    """
    Measure all variants in interleaved rounds.
    """
    found: Rounds = {v.name: [] for v in variants}
    for number in range(rounds):
        print(f"{threads} threads, round {number + 1} of {rounds} ...", file=sys.stderr, flush=True)
        for variant in variants if number % 2 == 0 else reversed(variants):
            found[variant.name].append(measure(variant, tasks, threads))
    return found


def medians(found: Rounds) -> dict[str, dict[str, float]]:
    """
    Return the medians of each variant.
    """
    return {
        name: {
            "tasks_per_s": statistics.median(rate for rate, _ in rounds),
            "cpu_ms": statistics.median(cpu for _, cpu in rounds),
        }
        for name, rounds in found.items()
    }


def ratios_of(found: Rounds, threads: int) -> dict[str, Ratio]:
    """
    Return the ratios of ``TARGETS``: medians of the ratios within each round.
    """
    made = {}
    for what, (ours, theirs, figure, targets) in TARGETS.items():
        place = ("rate", "cpu").index(figure)
        pairs = zip(found[ours.name], found[theirs.name], strict=True)
        value = statistics.median(mine[place] / other[place] for mine, other in pairs)
        made[f"{threads} threads: {what}"] = Ratio(value, targets.get(threads), figure == "rate")
    return made


if __name__ == "__main__":
    sys.exit(main())
