"""
The results that are kept in ``benchmarks/results.json``: ratios alone, since times differ from machine to machine. A benchmark
compares its ratios with them, and says which ones have become worse.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

RESULTS = Path(__file__).with_name("results.json")
WORSE = 0.10
"""Share by which a ratio must be worse than the kept one to be told."""


class Ratio(NamedTuple):
    """
    A measured ratio, and its target.

    Attributes:
        value: The measured ratio.
        limit: The target; None: there is none.
        more: Whether more is better.
    """

    value: float
    limit: float | None = None
    more: bool = False

    @property
    def met(self) -> bool:
        """
        Tell whether the target is met.
        """
        if self.limit is None:
            return True
        return self.value >= self.limit if self.more else self.value <= self.limit


def add_options(parser: argparse.ArgumentParser) -> None:
    """
    Add the options that all benchmarks have.
    """
    parser.add_argument("--full", action="store_true", help="take longer than four minutes, for steadier numbers")
    parser.add_argument("--out", type=Path, help="write the numbers to this JSON file, too")
    parser.add_argument(
        "--keep", action="store_true", help=f"keep these ratios in {RESULTS.name}, to compare with later"
    )
    parser.add_argument("--strict", action="store_true", help="exit 1 if a target is missed")


def finish(name: str, ratios: Mapping[str, Ratio], chosen: argparse.Namespace, report: object = None) -> int:
    """
    Print the *ratios* of the benchmark *name* with their targets, and those that are worse than the kept ones; write the
    files that *chosen* asks for. Return the exit status.
    """
    known = _read().get(name, {})
    print(f"\n{'ratio':<52}{'measured':>10}{'target':>10}{'kept':>10}")
    for what, ratio in ratios.items():
        target = "" if ratio.limit is None else f"{'>=' if ratio.more else '<='} {ratio.limit:g}"
        kept = f"{known[what]:.3f}" if what in known else ""
        missed = "" if ratio.met else "  MISSED"
        print(f"{what:<52}{ratio.value:>10.3f}{target:>10}{kept:>10}{missed}")
    for sentence in worse(ratios, known):
        print(f"WORSE: {sentence}")
    if chosen.out is not None:
        numbers = {"ratios": {what: ratio.value for what, ratio in ratios.items()}, "report": report}
        chosen.out.write_text(json.dumps(numbers, indent=2) + "\n")
        print(f"written to {chosen.out}")
    if chosen.keep:
        everything = _read() | {name: {what: round(ratio.value, 4) for what, ratio in ratios.items()}}
        RESULTS.write_text(json.dumps(everything, indent=2, sort_keys=True) + "\n")
        print(f"kept in {RESULTS}")
    return int(chosen.strict and not all(ratio.met for ratio in ratios.values()))


def worse(ratios: Mapping[str, Ratio], known: Mapping[str, float]) -> list[str]:
    """
    Return a sentence for each of *ratios* that is worse than the *known* one by more than ``WORSE``.
    """
    found = []
    for what, ratio in ratios.items():
        before = known.get(what)
        if not before:
            continue
        change = ratio.value / before - 1
        if (-change if ratio.more else change) > WORSE:
            found.append(f"{what} is {ratio.value:.3f}, and was {before:.3f} ({change:+.0%})")
    return found


def _read() -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return found
