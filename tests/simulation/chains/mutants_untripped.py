"""
Mistakes in chains, one for each check that no mistake beside them trips.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

UNTRIPPED_CHAIN_MUTANTS = (
    *(
        Mutant(mistake, file, old, new)
        for mistake, file, old, new in (
            (
                "a settlement in the log is not written, and the lease goes on to another",
                "rules/expiry.py",
                (
                    "    # 1. The holder had finished and logged its settlement: write exactly that.\n"
                    "    if finding is Finding.RECORDED and settlement is not None:\n"
                ),
                "    if False:\n",
            ),
            (
                "a renewal of a chain counts as a hundred attempts",
                "rules/attempts.py",
                "    return Put(writes.with_due(lock, at, leased_at=SERVER_TIME))\n",
                "    return Put(writes.with_due(lock, at, leased_at=SERVER_TIME, attempts=lock.attempts + 100))\n",
            ),
            (
                "a transaction of an attempt loses the writes to other documents",
                "store/transaction.py",
                "    transaction._add_write_pbs([_WRAP(write) for write in writes])",
                "    transaction._write_pbs[:] = [_WRAP(write) for write in writes]",
            ),
            (
                "a chain begins with a lease that is over",
                "execution/claiming.py",
                "        if elapsed(self.mark, runtime.clock.mark()) > spec.policy.lease / 2:\n",
                "        if elapsed(self.mark, runtime.clock.mark()) > spec.policy.lease * 10**6:\n",
            ),
            (
                "the idempotency key changes with the first renewal",
                "execution/held_lease.py",
                "        return idempotency_key(lock.env, self.context.document, lock.keyed, lock.granted)\n",
                (
                    "        renewed = self.leased_mark != self.granted_mark\n"
                    "        return idempotency_key(lock.env, self.context.document, lock.keyed, lock.granted + renewed)\n"
                ),
            ),
        )
    ),
    Mutant(
        "a lease is taken over before its end, without evidence",
        "rules/writes.py",
        "    return min(lease_end, run_end)\n",
        "    return min(lease_end, run_end) - timedelta(seconds=59)\n",
        also=(
            "rules/expiry.py",
            "    if finding is Finding.UNKNOWN and min(asked or at.read, at.read) <= timeout:\n",
            "    if False:\n",
        ),
    ),
)
