"""
Mistakes in the rules of once-tasks, each to be caught by their histories.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

_IN_ONE_PLACE = tuple(
    Mutant(mistake, file, old, new, "tasks")
    for mistake, file, old, new in (
        (
            "the settling commit does not give the key back",
            "rules/keys.py",
            "    if not holds:\n        return Effect.FREE\n",
            "    if not holds:\n        return Effect.NONE\n",
        ),
        (
            "a document that is made again has the idempotency keys of the first",
            "rules/attempts.py",
            '"sequence": 0, "keyed": keyed, ',
            '"sequence": 0, ',
        ),
        (
            "a key is given back without a look for those that wait",
            "effects/keys.py",
            "    try:\n        pass_on(runtime, freed.key, freed.version)\n",
            "    try:\n        pass\n",
        ),
        (
            "a task parks without the condition on its key",
            "effects/keys.py",
            "self._written(waited, waiting=True)\n        return",
            'self._written(waited, waiting=True)\n        self._write.ClearField("current_document")\n        return',
        ),
        (
            "a task parks and does not say so on its key",
            "effects/keys.py",
            "        self._write = self._written(waited, waiting=True)\n",
            "",
        ),
        (
            "a key is taken from an expired holder unjudged",
            "rules/keys.py",
            "else KeyStanding.EXPIRED\n",
            "else KeyStanding.FREE\n",
        ),
        (
            "a key that was handed over counts as free",
            "rules/keys.py",
            "    handed_over = holder.token == key.token - 1 and",
            "    handed_over = False and",
        ),
        (
            "a key is handed to the last that waits",
            "effects/keys.py",
            "    first = waiters[0] if waiters else None\n",
            "    first = waiters[-1] if waiters else None\n",
        ),
        (
            "a key is handed over without the condition on it",
            "store/side_writes.py",
            "        write.current_document.update_time.CopyFrom(version)\n",
            "        pass\n",
        ),
        (
            "the settling frees the key without a condition",
            "store/side_writes.py",
            "            added.increment.integer_value = 0\n        write.current_document.update_time.CopyFrom(self.version)\n",
            "            added.increment.integer_value = 0\n",
        ),
        (
            "an attempt whose key was freed counts the key as its own",
            "rules/keys.py",
            "    return key is not None and key.status is Status.LEASED and key.holder == path and key.token == token\n",
            "    return key is not None\n",
        ),
        (
            "a transaction writes on after its key was freed",
            "rules/keys.py",
            "    if not lost:\n        return None\n",
            "    return None\n",
        ),
        (
            "a takeover does not move the key to its attempt",
            "rules/keys.py",
            "    return Effect.MOVE if before",
            "    return Effect.NONE if before",
        ),
        (
            "riders give the key back",
            "rules/keys.py",
            "    held = before is not None and before.status is Status.LEASED and not before.rides\n",
            "    held = before is not None and before.status is Status.LEASED\n",
        ),
        (
            "an expired rider is granted anew without the key",
            "execution/claiming.py",
            "        grant_to = None if alone else",
            "        grant_to = None if False else",
        ),
        (
            "a batch starts even if it was gathered for too long",
            "tasks/batch.py",
            "        if any(one.held_for() <= 0 for _, one in everybody):\n",
            "        if False:\n",
        ),
        (
            "cancelling turns completed into cancelled",
            "rules/admin.py",
            "def cancel(lock: Lock, at: DecisionContext) -> Put | CallRefused:\n",
            (
                "def cancel(lock: Lock, at: DecisionContext) -> Put:\n"
                "    if lock.finished: return Put(lock.but(status=Status.CANCELLED))\n"
            ),
        ),
        (
            "a cancelled task is tried again",
            "rules/writes.py",
            "    return lock.cancel_requested_at is not None and not lock.cancelling\n",
            "    return False\n",
        ),
        (
            "an attempt on an older payload writes its own back",
            "execution/running.py",
            "            return NO_CHANGES if rules.outdated(seen.lock, how) else changes\n",
            "            return changes\n",
        ),
        (
            "an existing id takes the other payload",
            "tasks/creation.py",
            "    if not made.kind.replaces:\n",
            "    if False:\n",
        ),
        (
            "occurrences are named by the time they are made",
            "tasks/generator.py",
            "occurrence_id(generator, nominal))",
            "occurrence_id(generator, self._runtime.store.estimate()))",
        ),
        (
            "a generator advances without its occurrence",
            "tasks/generator.py",
            "        self._written = [new_task(self._runtime, draft) for draft in self._planned]\n",
            "        self._written = [new_task(self._runtime, draft) for draft in self._planned][1:]\n",
        ),
        (
            "a generator counts from now and not from when it was due",
            "tasks/generator.py",
            "        due = lock.wait_until or at.now\n",
            "        due = at.now\n",
        ),
        (
            "a changed schedule of a generator does nothing",
            "tasks/redeclaring.py",
            "    if not found and not (",
            "    if True or not (",
        ),
        (
            "a changed schedule keeps the time of the old one",
            "tasks/redeclaring.py",
            "        upcoming = made.recurrence.first(",
            "        made.recurrence.first(",
        ),
        (
            "a changed schedule drops the runs that the old one owes",
            "tasks/redeclaring.py",
            "    return late and ",
            "    return False and ",
        ),
        (
            "a task that owes an alert expires",
            "rules/retention.py",
            "    return not lock.finished or bool(lock.owed) or bool(lock.orphans)\n",
            "    return not lock.finished\n",
        ),
        (
            "the commit that records an alert as sent lets nothing expire",
            "store/retiring.py",
            "    if before is None or not (before.finished or after.finished):\n",
            "    if before is None or before.finished == after.finished:\n",
        ),
        (
            "a task that runs again expires all the same",
            "store/retiring.py",
            "        return {EXPIRE_AT: None} if EXPIRE_AT in stored else {}\n",
            "        return {}\n",
        ),
        (
            "a skipping generator looks at no last occurrence",
            "tasks/generator.py",
            "        if LAST not in seen.fields:\n            return False\n",
            "        if True:\n            return False\n",
        ),
    )
)

TASK_MUTANTS = (
    *_IN_ONE_PLACE,
    Mutant(
        "a quarantined holder writes on under its key",
        "rules/attempts.py",
        "    if lost is None and lock is not None and lock.status is Status.QUARANTINED and lock.key is not None:\n",
        "    if False:\n",
        "tasks",
        ("execution/fenced_transaction.py", "    if lost is not None and opened.writes_others:\n", "    if False:\n"),
    ),
)
