"""
Mistakes that histories of chains catch.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

CHAIN_MUTANTS = (
    Mutant(
        "settling without the fence",
        "rules/attempts.py",
        "    lost = fenced(lock, fence)\n    if lost is not None:\n        return lost\n    assert lock is not None\n    mine",
        "    assert lock is not None\n    mine",
    ),
    Mutant(
        "the fence asks for a lease, not for its holder",
        "rules/attempts.py",
        "and lock.token == fence.token and lock.holder == fence.holder:",
        "and lock.sequence == fence.sequence:",
    ),
    Mutant(
        "a takeover does not look whether the judged holder is still there",
        "rules/expiry.py",
        "    lost = fenced(lock, fence)\n    if lost is not None:\n        return lost\n",
        '    if lock is None or lock.granted_at is None:\n        return Lost("gone", finished=True)\n',
    ),
    Mutant(
        "expiry judged by the local clock",
        "runtime/runtime.py",
        "            read=snapshot.read,\n",
        "            read=snapshot.read and self.clock.now(),\n",
    ),
    Mutant(
        "a holder without evidence is taken over at once",
        "rules/expiry.py",
        "if finding is Finding.UNKNOWN and min(asked or at.read, at.read) <= timeout:",
        "if finding is Finding.UNKNOWN and at.read <= expires_at(lock):",
    ),
    Mutant(
        "a look moves the time since when it can be claimed",
        "rules/attention.py",
        "    if known is not None and (known.sequence, known.token) == (lock.sequence, lock.token):\n        return known\n",
        "",
    ),
    Mutant(
        "the time of an older grant counts",
        "rules/attention.py",
        "(known.sequence, known.token) == (lock.sequence, lock.token)",
        "known.sequence == lock.sequence",
    ),
    Mutant(
        "a holder without evidence is taken over at its run limit",
        "rules/writes.py",
        "    return max(timeout, max(lease_end, run_end) + timedelta(0, log_grace))\n",
        "    return max(timeout, max(lease_end, run_end) - timedelta(0, log_grace))\n",
    ),
    Mutant(
        "an end line is not waited for",
        "rules/evidence.py",
        "    if found.over is None or now >= found.over + log_grace:\n",
        "    if found.over is None or now >= found.over:\n",
    ),
    Mutant(
        "the words of a web server may stand anywhere in a line",
        "rules/evidence.py",
        "    said = _WORKER.fullmatch(text)\n",
        "    said = _WORKER.search(text)\n",
    ),
    Mutant(
        "a line in the form of the web server counts for any writer",
        "rules/evidence.py",
        "    if by == place.pid or by != (by if place.parent is None else place.parent):\n        return False\n",
        "",
    ),
    Mutant(
        "data that a program logs replaces the fields of the attempt",
        "logs.py",
        "given if isinstance(given, Ours) else",
        "given if isinstance(given, dict) else",
    ),
    Mutant(
        "an ambiguous commit counts as done",
        "store/flow.py",
        "                self._unsure = (decision, snapshot)\n",
        "                return Changed(decision, Snapshot(self._path, snapshot.version, snapshot.source, decision.lock))\n",
    ),
    Mutant(
        "an ambiguous commit that was applied counts as failed",
        "rules/attempts.py",
        "    if found is None:\n        return False\n    for name",
        "    return False\n    for name",
    ),
    Mutant(
        "the token starts anew with each step",
        "rules/writes.py",
        "        scheduled_by=nonce,\n        attempts=0,\n",
        "        scheduled_by=nonce,\n        attempts=0,\n        token=0,\n",
    ),
    Mutant(
        "the due time is forgotten when a step is scheduled",
        "rules/writes.py",
        "        erased=False,\n    )\n",
        "        erased=False,\n    ).but(due=None)\n",
    ),
    Mutant(
        "the due time is forgotten at a grant",
        "rules/writes.py",
        "        instance=claimant.instance,\n    )\n    return Put(granted)\n",
        "        instance=claimant.instance,\n    )\n    return Put(granted.but(due=None))\n",
    ),
    Mutant(
        "the due time stays when the chain has ended",
        "rules/writes.py",
        "    return Put(with_due(over, at, status=status, wait_until=None, parked=None, paused=False, **changes), outcome)\n",
        "    return Put(over.but(status=status, wait_until=None, parked=None, paused=False, **changes), outcome)\n",
    ),
    Mutant("contents travel after a merge", "effects/dispatch.py", "if limit and snapshot.whole and", "if limit and"),
    Mutant(
        "a 2xx in the request log counts as success",
        "rules/evidence.py",
        "    found = _found(holder, by_event, lines)\n",
        "    found = _found(holder, by_event, lines)\n"
        "    place = origin(holder, lines)\n"
        "    if any(line.status == 200 and _is_request(holder, place, line) for line in lines):\n"
        '        return Verdict(Finding.RECORDED, "2xx", {"kind": "complete", "nonce": "mutant"}, ())\n',
    ),
    Mutant(
        "a settling is not decided again on the present record",
        "store/flow.py",
        "            decision = self._decide(snapshot)\n",
        "            decision = self._decide(snapshot) if self._tries == 0 else decision\n",
    ),
    Mutant(
        "renewals have no end",
        "rules/writes.py",
        "    return min(lease_end, run_end)\n",
        "    return max(lease_end, run_end) if lock.run_limit_seconds < 0 else lease_end\n",
    ),
    Mutant("attempts are not counted", "rules/writes.py", "        attempts=lock.attempts + 1,\n", ""),
    Mutant(
        "a finished step runs again for a duplicate",
        "rules/attempts.py",
        "    if lock.finished or lock.status is Status.QUARANTINED:\n",
        "    if lock.status is Status.QUARANTINED:\n",
    ),
    Mutant(
        "a step runs before its time",
        "rules/attempts.py",
        "    if lock.wait_until is None or at.now >= lock.wait_until:\n",
        "    if True:\n",
    ),
    Mutant(
        "writes without the precondition",
        "store/snapshot.py",
        "            message.current_document.update_time.CopyFrom(snapshot.version)\n",
        "                pass\n",
    ),
    Mutant(
        "a transaction reads its document outside of itself",
        "store/transaction.py",
        "store.wire.batch_get([path], transaction=transaction.id)[path]",
        "store.wire.batch_get([path])[path]",
    ),
    Mutant(
        "steps count from the last one",
        "rules/attempts.py",
        "    made = writes.scheduled(lock, target, nonce, at, base=lock.base)",
        "    made = writes.scheduled(lock, target, nonce, at, base=lock.sequence)",
    ),
    Mutant(
        "each attempt has a key of its own",
        "execution/held_lease.py",
        "self.context.document, lock.keyed, lock.granted)",
        "self.context.document, lock.token, lock.granted)",
    ),
    Mutant(
        "a cancelled chain goes on",
        "rules/attempts.py",
        "    if writes.stopped(lock):\n        return writes.cancelled(lock, at)\n    if lock.open:\n",
        "    if lock.open:\n",
    ),
    Mutant(
        "a takeover owes no alert",
        "rules/expiry.py",
        "owing = noted if finding is Finding.NEVER_STARTED else writes.owe(noted, Event.TAKEOVER, reason, evidence, at)",
        "owing = noted",
    ),
    Mutant(
        "an alert that was not sent counts as sent",
        "effects/owed_alerts.py",
        "        else:\n            sent.append(owed.id)\n",
        "        sent.append(owed.id)\n",
    ),
    Mutant(
        "an alert that was lent to one digest is lent to another one",
        "rules/owing.py",
        " and o.id in seen and o.digest == seen[o.id])",
        " and o.id in seen)",
        test="tests/unit/rules/test_rules.py::test_alerts_are_told_as_the_table_says",
    ),
    Mutant(
        "alerts are lent to a digest without its id",
        "recovery/digests.py",
        "owed_alerts.take(self._runtime, snapshot, seen, id_)",
        "owed_alerts.take(self._runtime, snapshot, seen)",
    ),
    Mutant(
        "a digest whose sender has died is not sent",
        "recovery/digests.py",
        "        for id_, entries in self._lent.items():\n",
        "        for id_, entries in dict[str, list[Entry]]().items():\n",
    ),
    Mutant(
        "an alert with the id of a digest is sent by itself once its sender is overdue",
        "recovery/digests.py",
        "            if owed.digest is not None:\n",
        "            if owed.digest is not None and owed.digest.startswith(WAITS):\n",
    ),
    Mutant(
        "a handler starts even if its claim took too long",
        "execution/claiming.py",
        "        if elapsed(self.mark, runtime.clock.mark()) > spec.policy.lease / 2:",
        "        if False:",
    ),
    Mutant(
        "a holder counts its lease from the answer",
        "execution/claiming.py",
        "policy=spec.policy, mark=self.mark)\n",
        "policy=spec.policy, mark=runtime.clock.mark())\n",
    ),
)
