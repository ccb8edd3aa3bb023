"""
Mistakes in generators, each to be caught by the histories of once-tasks.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

GENERATOR_MUTANTS = tuple(
    Mutant(mistake, file, old, new, "tasks")
    for mistake, file, old, new in (
        (
            "an occurrence that has ended keeps the next one from being made",
            "tasks/generator.py",
            "last.lock is not None and not last.lock.finished\n",
            "last.lock is not None\n",
        ),
        (
            "the misfire policy skip leaves out each run that is late",
            "tasks/recurrence/advancing.py",
            "MISFIRE_GRACE: Final = timedelta(minutes=1)\n",
            "MISFIRE_GRACE: Final = timedelta(0)\n",
        ),
        (
            "the misfire policy latest makes two runs",
            "tasks/recurrence/advancing.py",
            'if recurrence.misfire == "all" else 1\n',
            'if recurrence.misfire == "all" else 2\n',
        ),
        (
            "the overlap policy skip makes all missed runs",
            "tasks/generator.py",
            "else spawn[-1:]\n",
            "else spawn\n",
        ),
        (
            "the overlap policy queue gives occurrences no key",
            "tasks/generator.py",
            'if key is None and recurrence.overlap == "queue":\n',
            "if False:\n",
        ),
        (
            "a paused generator makes its occurrences all the same",
            "rules/attempts.py",
            "    if lock.paused:\n",
            "    if False:\n",
        ),
    )
)
"""Need the checks of ``checks/generators.py``; ``test_misfire_policy_after_an_outage`` catches runs that are too late."""
GENERATOR_MUTANTS += (
    Mutant(
        "a quarantined occurrence counts as ended",
        "tasks/generator.py",
        "last.lock is not None and not last.lock.finished\n",
        "last.lock is not None and str(last.lock.status) in ('scheduled', 'leased')\n",
        test="tests/integration/tasks/test_recurrence.py::test_quarantined_run_has_not_ended",
    ),
)
