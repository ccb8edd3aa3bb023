"""
Mistakes in locks and runs, one for each check that no mistake beside them trips; and what one check let pass.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

UNTRIPPED_LOCK_MUTANTS = tuple(
    Mutant(mistake, file, old, new, "locks")
    for mistake, file, old, new in (
        (
            "once: a run counts the token after its own",
            "locks/holding.py",
            "            token=lock.token,\n            holder=holder,\n",
            '            token=lock.token + (":once:" in snapshot.path),\n            holder=holder,\n',
        ),
        (
            "once: a key that was used with another payload is refused only once it has run",
            "rules/named.py",
            "    if not same:\n",
            "    if not same and lock.status is Status.COMPLETED:\n",
        ),
        (
            "once: another result is recorded and returned than was made",
            "locks/runs.py",
            "nonce=runtime.clock.nonce(), result=result)\n",
            'nonce=runtime.clock.nonce(), result=result._replace(value={**result.value, "made": -1}))\n',
        ),
        (
            "a lock whose create came late is held with its old token",
            "locks/holding.py",
            "    while isinstance(changed.decision, Put) and changed",
            "    while False and isinstance(changed.decision, Put) and changed",
        ),
        (
            "tokens begin a minute behind the time when a document is made again",
            "rules/named.py",
            '"token": now - 1}',
            '"token": now - 60_000}',
        ),
    )
)
