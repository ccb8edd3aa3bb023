"""
``make bench``: ratios within one run, a table and a JSON file.

Interleaved rounds (a b c .. c b a) on a fresh, warmed Firestore; medians. Times differ between machines, and with their
load. So the ratios, each taken within one round, are compared with the targets.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from google.cloud import firestore

from benchmarks import latency, own_share
from benchmarks.variants import NUMBERS, VARIANTS, Variant
from gcp_emulator.firestore import GoogleFirestore
from gcp_emulator.firestore.google import find

RESULTS = Path(__file__).with_name("results")


def main() -> int:
    """
    Run the benchmarks, print the tables and write the file.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds (default: %(default)s)")
    parser.add_argument("--tasks", type=int, default=200, help="tasks per run and variant (default: %(default)s)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 8, 32], help="client threads (default: 1 8 32)")
    parser.add_argument(
        "--firestore", choices=("google", "embedded"), help="default: Google's emulator if it is installed"
    )
    parser.add_argument(
        "--out", type=Path, default=RESULTS / "latest.json", help="the JSON file (default: results/latest.json)"
    )
    parser.add_argument("--strict", action="store_true", help="exit 1 if a target is missed")
    chosen = parser.parse_args()
    kind = chosen.firestore or ("google" if find() is not None else "embedded")
    report: dict[str, Any] = {"firestore": kind, "tasks": chosen.tasks, "rounds": chosen.rounds, "threads": {}}
    with fresh_firestore(kind) as client:
        variants = [make(client) for make in VARIANTS]
        say(f"warming {kind} Firestore ...")
        for variant in variants:
            measure(variant, chosen.tasks, 4)
        for threads in chosen.threads:
            report["threads"][threads] = compare(variants, chosen.tasks, chosen.rounds, threads)
    say("schedule to handler ...")
    report["latency"] = latency.measure(chosen.tasks)
    say("own share of one push ...")
    report["own_share"] = own_share.measure(2 * chosen.tasks)
    report["targets"] = targets(report)
    show(report)
    chosen.out.parent.mkdir(exist_ok=True)
    chosen.out.write_text(json.dumps(report, indent=2))
    print(f"\nwritten to {chosen.out}")
    return int(chosen.strict and not all(t["met"] for t in report["targets"]))


def say(text: str) -> None:
    """
    Print progress.
    """
    print(text, file=sys.stderr, flush=True)


@contextmanager
def fresh_firestore(kind: str) -> Iterator[firestore.Client]:
    """
    Start a Firestore in a process of its own, so that its CPU is not counted.
    """
    if kind == "google":
        server = GoogleFirestore()
        os.environ["FIRESTORE_EMULATOR_HOST"] = server.start()
        try:
            yield firestore.Client(project="bench")
        finally:
            server.stop()
            del os.environ["FIRESTORE_EMULATOR_HOST"]
        return
    with latency.emulator() as environment:
        os.environ["FIRESTORE_EMULATOR_HOST"] = environment["FIRESTORE_EMULATOR_HOST"]
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


def compare(variants: list[Variant], tasks: int, rounds: int, threads: int) -> dict[str, Any]:
    """
    Return medians over interleaved rounds, and medians of the last variant's ratios to the others within each round.
    """
    found: dict[str, list[tuple[float, float]]] = {v.name: [] for v in variants}
    for number in range(rounds):
        say(f"{threads} threads, round {number + 1} of {rounds} ...")
        for variant in variants if number % 2 == 0 else reversed(variants):
            found[variant.name].append(measure(variant, tasks, threads))
    ours = found[variants[-1].name]
    return {
        name: {
            "tasks_per_s": statistics.median(rate for rate, _ in theirs),
            "cpu_ms": statistics.median(cpu for _, cpu in theirs),
            "our_rate_to_it": statistics.median(our[0] / their[0] for our, their in zip(ours, theirs, strict=True)),
            "our_cpu_to_it": statistics.median(our[1] / their[1] for our, their in zip(ours, theirs, strict=True)),
        }
        for name, theirs in found.items()
    }


def targets(report: dict[str, Any]) -> list[dict[str, Any]]:
    """
    Return the promised ratios and the measured ones.
    """
    a, b, _ = (make.name for make in VARIANTS)
    found: list[tuple[str, float, float, bool]] = []
    one, eight = report["threads"].get(1), report["threads"].get(8)
    if one:
        found.append(("client CPU, 1 thread, c/a", one[a]["our_cpu_to_it"], 0.45, True))
        found.append(("client CPU, 1 thread, c/b", one[b]["our_cpu_to_it"], 1.25, True))
    if eight:
        found.append(("tasks/s, 8 threads, c/a", eight[a]["our_rate_to_it"], 2.0, False))
    found.append(("own share of a push, ms CPU", report["own_share"]["share_ms"], 0.1, True))
    found.append(("verification, ms CPU", report["own_share"]["verification_ms"], 0.25, True))
    return [
        {"target": name, "measured": value, "limit": limit, "met": value <= limit if at_most else value >= limit}
        for name, value, limit, at_most in found
    ]


def show(report: dict[str, Any]) -> None:
    """
    Print the tables.
    """
    print(f"\n{'threads':>7}  {'variant':<28}{'tasks/s':>9}{'CPU ms/task':>13}")
    for threads, rows in report["threads"].items():
        for name, row in rows.items():
            print(f"{threads:>7}  {name:<28}{row['tasks_per_s']:>9.0f}{row['cpu_ms']:>13.2f}")
    late = report["latency"]
    print(
        f"\nschedule() to handler, paced: p50 {late['p50_ms']:.1f} ms, p99 {late['p99_ms']:.1f} ms ({late['tasks']} tasks)"
    )
    own = report["own_share"]
    print(
        f"\none push, ms CPU over a bare view ({own['bare_ms']:.3f}): {own['share_ms']:.3f} without I/O; "
        f"{own['whole_ms']:.3f} with claim, handler and settling, where the same two writes by hand are {own['by_hand_ms']:.3f}"
    )
    print(f"\n{'target':<36}{'measured':>10}{'limit':>8}")
    for row in report["targets"]:
        print(f"{row['target']:<36}{row['measured']:>10.3f}{row['limit']:>8.2f}  {'met' if row['met'] else 'MISSED'}")


if __name__ == "__main__":
    sys.exit(main())
