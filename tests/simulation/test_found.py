"""
Histories that have broken the promise, made small and kept by name: each must hold for ever. And histories that meet a rare
case.

The former come from ``report()``, which ends with the line to be pasted into ``found.py`` of its kind.
"""

from __future__ import annotations

import pytest

from tests.simulation.alone import ALONE
from tests.simulation.chains.found import CHAINS_FOUND
from tests.simulation.chains.plan import Plan
from tests.simulation.durables.found import DURABLES_FOUND
from tests.simulation.locks.found import LOCKS_FOUND
from tests.simulation.runner import play
from tests.simulation.tasks.found import TASKS_FOUND
from tests.simulation.workers.found import WORKERS_FOUND

FOUND: dict[str, Plan] = {**CHAINS_FOUND, **TASKS_FOUND, **LOCKS_FOUND, **WORKERS_FOUND, **DURABLES_FOUND}


@pytest.mark.parametrize("name", FOUND)
def test_found_once_and_mended(name: str) -> None:
    """
    It does not break the promise again.
    """
    told = play(FOUND[name])

    assert told.violations == []
    met = ("conflicts refused", "pulled runs", "releases")
    assert any(count for name, count in told.counts.items() if name.startswith("delivery.") or name in met)


@pytest.mark.parametrize(("kind", "case"), ALONE)
def test_rare_case_is_met_by_a_history_of_its_own(kind: str, case: str) -> None:
    """
    If the library or the simulator changed, and a history does not meet its case any more, ``make simulate`` meets it.
    """
    told = play(ALONE[kind, case])

    assert told.violations == []
    assert told.counts[case] > 0
