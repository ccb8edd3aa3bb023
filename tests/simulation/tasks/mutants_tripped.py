"""
Mistakes in once-tasks, each played until its history trips the check for which it was made.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

TRIPPED_TASK_MUTANTS = (
    Mutant(
        "the misfire policy skip makes a run however late it is",
        "tasks/recurrence/advancing.py",
        "now - spawn[0] > MISFIRE_GRACE:",
        "now - spawn[0] > 1000 * MISFIRE_GRACE:",
        "tasks",
        check="checks/generators: it made …, which is too late for its policy",
    ),
    Mutant(
        "a process keeps the payload that it has read first",
        "tasks/handlers.py",
        "        attempt.model = fingerprint(self.model)\n        return task\n",
        (
            "        attempt.model = fingerprint(self.model)\n"
            '        object.__setattr__(task, "data", self.__dict__.setdefault(task.path, task.data))\n'
            "        return task\n"
        ),
        "tasks",
        check="tasks: revision … runs after a newer one has completed",
    ),
    Mutant(
        "occurrences and their generator are written apart from its version",
        "tasks/generator.py",
        "        refusal = rules.ready(seen.lock, self._delivery, at)\n        if refusal is not None:\n",
        "        refusal = rules.ready(seen.lock, self._delivery, at)\n        if False:\n",
        "tasks",
        check="tasks: an error escaped: …: …",
    ),
    Mutant(
        "a single write of a batch that failed counts as applied",
        "tasks/bulk.py",
        "        if status is not None and status.code == 0:\n            dispatched",
        "        if result is not None:\n            dispatched",
        "tasks",
        check="tasks: it was said to be created, and is not there",
    ),
    Mutant(
        "a key is taken from a live holder",
        "rules/keys.py",
        "        return KeyStanding.BUSY if read < expires_at(holder) else KeyStanding.EXPIRED\n",
        "        return KeyStanding.FREE\n",
        "tasks",
        check="tasks: token … is granted with the key … while token … of … still believes in it",
    ),
    Mutant(
        "the token of a once-task rises when it is settled",
        "rules/attempts.py",
        "    signed = lock.but(settled_by=how.nonce, fingerprint",
        "    signed = lock.but(token=lock.token + 1, settled_by=how.nonce, fingerprint",
        "tasks",
        check="tasks: token … wrote when it was not the holder",
    ),
    Mutant(
        "completing swallows a newer payload",
        "rules/writes.py",
        "    if superseded(lock):\n        return following(lock, at)\n",
        "",
        "tasks",
        check="tasks: it ended with revision …, and … is the newest",
    ),
    Mutant(
        "tasks that wait behind a freed key are not looked for",
        "recovery/sweep.py",
        "        swept.handed_over += keys.look_for_forgotten(runtime)\n",
        "        pass\n",
        "tasks",
        check="chains: a late duplicate was granted a lease",
    ),
)
