"""
``make simulate SEEDS=5000``: as many histories as wanted of each kind; ``python -m tests.simulation --kind tasks --story 42``
tells one.
"""

from __future__ import annotations

import argparse
import os
import sys

from tests.simulation.runner import KINDS, planned, play, report, run_many, story_of


def main() -> int:
    """
    Play, print what was exercised; exit 1 if a history failed, or if something was never exercised.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many histories (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 2, help="processes (default: %(default)s)")
    parser.add_argument("--kind", choices=KINDS, help="of histories (default: all)")
    parser.add_argument("--story", type=int, metavar="SEED", help="play one history and tell it")
    parser.add_argument("--quiet", action="store_true", help="only the first failing seed and its checks")
    chosen = parser.parse_args()
    if chosen.story is not None:
        plan = planned(chosen.story, chosen.kind or "chains")
        told = play(plan)
        print(story_of(plan, told))
        return int(bool(told.violations))
    seeds = range(chosen.first, chosen.first + chosen.seeds)
    return max(_played(kind, seeds, chosen) for kind in ((chosen.kind,) if chosen.kind else KINDS))


def _played(kind: str, seeds: range, chosen: argparse.Namespace) -> int:
    summary = run_many(seeds, chosen.jobs, kind=kind, progress=None if chosen.quiet else _progress)
    if summary.failed:
        seed = summary.failed[0]
        print("\n".join([str(seed), *summary.tripped[seed]]) if chosen.quiet else report(seed, kind))
        return 1
    if chosen.quiet:
        return 0
    print(f"\n{kind}\n{summary.table()}", flush=True)
    for name in summary.missing:
        print(f"NEVER EXERCISED: {name}")
    return int(bool(summary.missing))


def _progress(done: int, of: int) -> None:
    if done % 100 == 0 or done == of:
        print(f"{done} of {of} histories", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
