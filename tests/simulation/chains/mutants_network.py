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
        "a single write of a batch that failed counts as applied",
        "tasks/bulk.py",
        "        if code == 0:\n            dispatched",
        "        if result is not None:\n            dispatched",
        kind="tasks",
    ),
    Mutant(
        "the result of a run is dropped where its caller is refused",
        "execution/running.py",
        "    if not error.of_contents or less.kind is not how.kind:",
        "    if not error.final or less.kind is not how.kind:",
        kind="locks",
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
        "an end of another service's instance counts",
        "rules/evidence.py",
        "not line.payload and (line.resource, line.instance) == place[:2]:",
        "not line.payload and line.instance == place.instance:",
    ),
    Mutant(
        "the request of another service counts",
        "rules/evidence.py",
        "    if place is not None and (line.resource, line.instance) != place[:2]:\n        return False\n    return line.at",
        "    return line.at",
    ),
    Mutant(
        "an attempt's lines count in the order in which they come",
        "rules/evidence.py",
        "    own = sorted((line for line in lines if _is_own(holder, line)), key=lambda line: line.at)\n",
        "    own = [line for line in lines if _is_own(holder, line)]\n",
    ),
)
