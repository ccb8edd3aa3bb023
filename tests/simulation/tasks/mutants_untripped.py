"""
Mistakes in once-tasks, one for each check that no mistake beside them trips.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

UNTRIPPED_TASK_MUTANTS = tuple(
    Mutant(mistake, file, old, new, "tasks")
    for mistake, file, old, new in (
        (
            "a renewal of a once-task counts as a hundred attempts",
            "rules/attempts.py",
            "    return Put(writes.with_due(lock, at, leased_at=SERVER_TIME))\n",
            "    return Put(writes.with_due(lock, at, leased_at=SERVER_TIME, attempts=lock.attempts + 100))\n",
        ),
        (
            "a key is written without its record when no task waits for it",
            "store/side_writes.py",
            '    encode_lock(write.update.fields["lock"], after)\n',
            (
                "    if waiting or after.status is Status.LEASED:\n"
                '        encode_lock(write.update.fields["lock"], after)\n'
            ),
        ),
        (
            "a cancellation is passed on to the handler instead of the cancellation handler",
            "execution/handler_spec.py",
            "        return self.cleanup if granted.cancelling and self.cleanup is not None else self\n",
            "        return self\n",
        ),
        (
            "the integers of a payload are read as one more",
            "tasks/task.py",
            '    payload = fields.get("data") or {}\n',
            (
                '    payload = fields.get("data") or {}\n'
                "    payload = {name: one + 1 if type(one) is int else one for name, one in payload.items()}\n"
            ),
        ),
        (
            "a rider does not bear the trace of its leader",
            "tasks/batch.py",
            "        claimant = Claimant(runtime.clock.nonce(), leader.context.trace, runtime.instance())\n",
            "        claimant = Claimant(runtime.clock.nonce(), runtime.clock.nonce(), runtime.instance())\n",
        ),
        (
            "an occurrence is dated a moment after its run",
            "tasks/generator.py",
            '"occurrenceAt": nominal}',
            '"occurrenceAt": nominal.replace(microsecond=1)}',
        ),
        (
            "a once-task begins with a lease that is over",
            "execution/claiming.py",
            "        if elapsed(self.mark, runtime.clock.mark()) > spec.policy.lease / 2:\n",
            "        if elapsed(self.mark, runtime.clock.mark()) > spec.policy.lease * 10**6:\n",
        ),
    )
)
