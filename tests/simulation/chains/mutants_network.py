"""
Mistakes that are caught by what goes wrong with remote calls and logs.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

NETWORK_MUTANTS = (
    Mutant(
        "a cancelled call counts as one without effect",
        "rules/statuses.py",
        '    "CANCELLED": (_A, _A, _A),\n',
        '    "CANCELLED": (_C, _C, _C),\n',
    ),
    Mutant(
        "a call of unknown fate counts as one without effect",
        "rules/statuses.py",
        '    "UNKNOWN": (_A, _A, _A),\n',
        '    "UNKNOWN": (_C, _C, _C),\n',
    ),
    Mutant(
        "a rollback that failed counts as one that worked",
        "store/transaction.py",
        "    rolled_back = roll_back(transaction)\n",
        "    roll_back(transaction)\n    rolled_back = True\n",
    ),
    Mutant(
        "the result of a run is dropped where its caller is refused",
        "execution/running.py",
        "    if not error.of_contents or less.kind is not how.kind:",
        "    if not error.final or less.kind is not how.kind:",
        test="tests/integration/execution/test_results.py::test_result_stays_where_its_caller_is_refused",
    ),
    Mutant(
        "a sweep that is refused tells nobody",
        "recovery/rounds.py",
        "        if made.final:\n            refused.tell(self._runtime, made)\n",
        "",
    ),
    Mutant(
        "a refused write tells nobody",
        "effects/refused.py",
        "        tell(runtime, error)\n        return Attended(Outcome.REFUSED",
        "        return Attended(Outcome.REFUSED",
        also=("recovery/rounds.py", "        if made.final:\n            refused.tell(self._runtime, made)\n", ""),
    ),
    Mutant(
        "a queue that refuses is told of to nobody",
        "recovery/unclaimed.py",
        '        if not refused.facts.get("final"):\n',
        "        if refused.facts:\n",
    ),
    Mutant(
        "a document that is too large for its alert is ended, and nobody is told",
        "effects/refused.py",
        "        not also or _daily(runtime, seen, error)\n",
        "        True\n",
        kind="tasks",
    ),
    Mutant(
        "a record that has moved on counts as one that a transaction has not written",
        "store/transaction.py",
        "    if signed or not rolled_back:\n",
        "    if not rolled_back:\n",
        also=(
            "store/transaction.py",
            "    if rules.was_applied(put.lock, before.lock, found.lock, alive=False):\n",
            "    if found.lock is not None and found.lock.settled_by == put.lock.settled_by:\n",
        ),
        test="tests/integration/execution/test_transactions.py::test_commit_below_a_record_that_has_moved_on_is_in_doubt",
    ),
)
