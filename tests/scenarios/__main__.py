"""
``make scenarios``: row, result, test, deviation.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

EXPECTED = [f"DL-{number:02}" for number in range(1, 46)]
EXPECTED += [f"SL-{number:02}" for number in range(1, 25)]
EXPECTED += [f"RL-{number:02}" for number in range(1, 35)]
EXPECTED += [f"ES-{number:02}" for number in range(1, 35)]
EXPECTED += [f"OT-{number:03}" for number in range(1, 141)]
TO_COME = frozenset({"OT-136", "OT-137", "OT-138", "OT-139", "OT-140"})
"""Rows that wait for the pull worker: printed as missing, not counted as failures."""


class Results:
    """
    Collects the outcome of each test.
    """

    def __init__(self) -> None:
        self.by_row: dict[str, list[tuple[str, str]]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """
        Note a result; a failed set-up counts.
        """
        if report.when == "call" or report.failed:
            name = report.nodeid.split("::")[-1]
            id_ = "-".join(name.split("_")[1:3]).upper()
            self.by_row.setdefault(id_, []).append((name, report.outcome))


def main() -> int:
    """
    Run and print.
    """
    results = Results()
    code = pytest.main(["-q", "--no-header", str(Path(__file__).parent)], plugins=[results])
    from tests.scenarios import ROWS

    missing = [id_ for id_ in EXPECTED if id_ not in results.by_row]
    print(f"\n{'row':<8}{'result':<8}test\n{'-' * 100}")
    for id_ in EXPECTED:
        for name, outcome in results.by_row.get(id_, [("no test", "MISSING")]):
            print(f"{id_:<8}{outcome:<8}{name}")
        if id_ in ROWS:
            print(f"{'':<16}ancestor: {ROWS[id_].then}")
            if ROWS[id_].deviation:
                print(f"{'':<16}here:     {ROWS[id_].deviation}")
    print(f"\n{len(EXPECTED) - len(missing)} of {len(EXPECTED)} rows have a test; without one: {missing or 'none'}")
    done = sorted(TO_COME - {*missing})
    if done:
        print(f"Listed as to come, and there: {done}; take them off TO_COME.")
    return int(code) or int(bool({*missing} - TO_COME or done))


if __name__ == "__main__":
    sys.exit(main())
