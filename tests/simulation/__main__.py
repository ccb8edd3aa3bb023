"""
``make simulate SEEDS=5000``: as many histories as wanted of each kind; ``python -m tests.simulation --kind tasks --story 42``
tells one.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from pathlib import Path

from tests.simulation.campaign import Campaign
from tests.simulation.runner import KINDS, Summary, planned, play, report, run_many, story_of


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
    parser.add_argument("--check", metavar="NAME", help="with --quiet: a history fails only if it trips this check")
    parser.add_argument(
        "--state",
        type=Path,
        metavar="FILE",
        help="go on where FILE says that a run of the same sources was stopped; failing histories don't stop the run",
    )
    chosen = parser.parse_args()
    if chosen.story is not None:
        plan = planned(chosen.story, chosen.kind or "chains")
        told = play(plan)
        print(story_of(plan, told))
        return int(bool(told.violations))
    kinds = (chosen.kind,) if chosen.kind else tuple(KINDS)
    if chosen.state is not None:
        return _resumed(kinds, chosen)
    seeds = range(chosen.first, chosen.first + chosen.seeds)
    return max(_played(kind, seeds, chosen) for kind in kinds)


def _played(kind: str, seeds: range, chosen: argparse.Namespace) -> int:
    progress = None if chosen.quiet else Progress(len(seeds)).add
    summary = run_many(seeds, chosen.jobs, kind=kind, check=chosen.check, progress=progress)
    if chosen.quiet and summary.failed:
        seed = summary.failed[0]
        print("\n".join([str(seed), *summary.tripped[seed]]))
    if chosen.quiet:
        return int(bool(summary.failed))
    return _told(summary)


def _resumed(kinds: tuple[str, ...], chosen: argparse.Namespace) -> int:
    campaign = Campaign(chosen.state, chosen.first)
    worst = 0
    for kind in kinds:
        played = campaign.of(kind)
        done, end = chosen.first + played.histories, chosen.first + chosen.seeds
        if played.histories:
            print(f"{kind}: {played.histories} histories were played before", file=sys.stderr, flush=True)
        progress = Progress(max(0, end - done))

        def add(part: Summary, kind: str = kind, progress: Progress = progress) -> None:
            campaign.of(kind).add(part)
            campaign.keep()
            progress.add(part)

        run_many(range(done, end), chosen.jobs, kind=kind, stop=False, progress=add)
        summary = Summary(Counter(played.counts), played.failed, kind=kind, played=played.histories, cpu=played.cpu)
        worst = max(worst, _told(summary))
    return worst


def _told(summary: Summary) -> int:
    if summary.failed:
        print(report(summary.failed[0], summary.kind))
        for seed in summary.failed[1:]:
            print(f"ALSO FAILED: python -m tests.simulation --kind {summary.kind} --story {seed}")
    else:
        print(f"\n{summary.kind}\n{summary.table()}")
        for name in summary.missing:
            print(f"NEVER EXERCISED: {name}")
    each = summary.cpu / max(1, summary.played)
    print(f"{summary.kind}: {summary.played} histories, {summary.cpu:.0f} CPU seconds, {each:.3f} each", flush=True)
    return int(bool(summary.failed or summary.missing))


class Progress:
    """
    A line on standard error for every hundred histories, of *total*.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._begun = time.monotonic()

    def add(self, part: Summary) -> None:
        """
        Count the histories of *part*.
        """
        before, self._done = self._done, self._done + part.played
        if self._done // 100 == before // 100 and self._done < self._total:
            return
        rate = self._done / max(time.monotonic() - self._begun, 1e-3)
        print(f"{self._done} of {self._total} histories, {rate:.1f} a second", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
