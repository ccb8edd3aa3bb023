"""
``python -m benchmarks.instructions``: instructions of Python's byte code that one task takes, counted and not timed.

For each flow of ``benchmarks.ways``, warm, on the local cloud in this process, on one thread: the mean of many runs, of the
library's own code, and of all Python code but that of the local cloud. The numbers are the same on each machine with the same
Python: run it before and after a change.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import mean
from types import FrameType
from typing import Any, Self

import gcp_emulator
from benchmarks.ways import FLOWS, LIBRARY, World
from gcp_oncetask.testing.cloud import OncetaskCloud

CLOUD = (str(Path(gcp_emulator.__file__).parent), str(LIBRARY / "testing"))
WARM = 5


class Instructions:
    """
    Counts instructions while it is open, on this thread.

    Attributes:
        own: Those of the library.
        all: Those of all code but the local cloud's.
    """

    def __init__(self) -> None:
        self.own = self.all = 0

    def __enter__(self) -> Self:
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _enter(self, frame: FrameType, event: str, _: Any) -> Any:
        file = frame.f_code.co_filename
        if file.startswith(CLOUD):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._own if file.startswith(str(LIBRARY)) else self._other

    def _own(self, frame: FrameType, event: str, _: Any) -> Any:
        if event == "opcode":
            self.own += 1
            self.all += 1
        return self._own

    def _other(self, frame: FrameType, event: str, _: Any) -> Any:
        if event == "opcode":
            self.all += 1
        return self._other


def measure(runs: int) -> dict[str, tuple[int, int]]:
    """
    The means of each flow: of the library's own, and of all.
    """
    cloud = OncetaskCloud()
    try:
        world = World(cloud, Instructions)
        means = {}
        for name, flow in FLOWS.items():
            counted = [flow(world) for _ in range(WARM + runs)][WARM:]
            means[name] = (round(mean(one.own for one in counted)), round(mean(one.all for one in counted)))
        return means
    finally:
        cloud.stop()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    # The logs may be asked 30 times a minute, and here no time passes.
    parser.add_argument("--runs", type=int, default=25, help="runs of each flow, at most 25 (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_args()
    means = measure(chosen.runs)
    if chosen.json:
        print(json.dumps(means, indent=2))
        return 0
    print("| flow | the library's | all |\n|---|---|---|")
    for name, (own, every) in means.items():
        print(f"| {name} | {own:,} | {every:,} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
