"""
Mistakes in alerts and standstills that histories of chains catch by what is seen on the wire.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

CHAIN_WIRE_MUTANTS = (
    Mutant(
        "a takeover owes a second alert",
        "rules/expiry.py",
        "owing = noted if finding is Finding.NEVER_STARTED else writes.owe(noted, Event.TAKEOVER, reason, evidence, at)",
        "owing = noted if finding is Finding.NEVER_STARTED else writes.owe(\n"
        "        writes.owe(noted, Event.QUARANTINE, reason, evidence, at), Event.TAKEOVER, reason, evidence, at)",
    ),
    Mutant(
        "a settling from the log owes no alert",
        "rules/expiry.py",
        "return _recovered(writes.owe(lock, Event.TAKEOVER, reason, evidence, at), fence, settlement, at)",
        "return _recovered(lock, fence, settlement, at)",
    ),
    Mutant(
        "an alert is about the attempt after",
        "rules/writes.py",
        "        attempt=lock.attempts,\n        reason=",
        "        attempt=lock.attempts + 1,\n        reason=",
    ),
    Mutant(
        "each retry owes an alert",
        "rules/writes.py",
        "    waiting = with_due(lock, at, status=Status.SCHEDULED, wait_until=wait_until, dispatches=lock.dispatches + 1)\n",
        "    lock = owe(lock, Event.FAILURE, 'retried', (), at)\n"
        "    waiting = with_due(lock, at, status=Status.SCHEDULED, wait_until=wait_until, dispatches=lock.dispatches + 1)\n",
    ),
    Mutant(
        "each sending of an alert has a Message-ID of its own",
        "effects/owed_alerts.py",
        "    since = instant(owed.at) if owed.id",
        "    since = instant(owed.until) if owed.id",
    ),
    Mutant(
        "a digest names its first document again and again",
        "effects/windows.py",
        "    first, nonce = [_line(alert) for alert in alerts[:NAMED]], runtime.clock.nonce()\n",
        "    first, nonce = [_line(alerts[0]) for _ in alerts[:NAMED]], runtime.clock.nonce()\n",
    ),
    Mutant(
        "an alert says a later time than that of its decision",
        "rules/writes.py",
        "        event=event,\n        at=at.now,\n",
        "        event=event,\n        at=at.now + timedelta(seconds=at.alert_retry),\n",
    ),
    Mutant(
        "no person is told of a queue that stands still",
        "recovery/unclaimed.py",
        "            if queue.since is not None:\n",
        "            if queue.since is not None and False:\n",
    ),
    Mutant(
        "a queue that stands still is told of at each sweep",
        "effects/queue_alarm.py",
        '    if known and (now - known["seenAt"] < SEEN_EVERY if told else now < known["sendUntil"]):\n        return 0\n',
        "    told = False\n",
    ),
    Mutant(
        "the alarm of a queue has a Message-ID of its own each time",
        "effects/queue_alarm.py",
        "    about, id_ = Snapshot(path, None, None, None), f\"stuck-{instant(fields['since'])}\"\n",
        '    about, id_ = Snapshot(path, None, None, None), f"stuck-{instant(now)}"\n',
        also=("effects/queue_alarm.py", "    if not owed_alerts.send_directly(", "    if owed_alerts.send_directly("),
    ),
    Mutant(
        "a task is stuck after a part of the time",
        "rules/attention.py",
        "    return age(lock, at) > timedelta(seconds=at.stuck)\n",
        "    return age(lock, at) > timedelta(seconds=at.stuck / 3)\n",
    ),
    Mutant(
        "a task is looked at when it has been stuck for a while",
        "rules/attention.py",
        "    return alarm if at.now < alarm < when else when\n",
        "    return when\n",
    ),
    Mutant(
        "no person is told of a task that has no Cloud Task and is not claimed",
        "rules/expiry.py",
        "    again = lock.but(dispatches=lock.dispatches + 1)\n    if attention.is_stuck(lock, at):\n",
        "    again = lock.but(dispatches=lock.dispatches + 1)\n    if False:\n",
    ),
    Mutant(
        "a queued task is looked at once a day",
        "rules/attention.py",
        "    return at.now + min(max(timedelta(seconds=at.grace), age(lock, at) / 2), LONGEST_LOOK)\n",
        "    return at.now + timedelta(days=1)\n",
    ),
    Mutant(
        "the sweeper dispatches again what is queued",
        "recovery/unclaimed.py",
        "        if seen is None:\n            self._dispatch(snapshot, lock)\n",
        "        if seen is None or seen.attempts == 0:\n            self._dispatch(snapshot, lock)\n",
    ),
    Mutant(
        "a delivery comes at once, even if it is for later",
        "effects/dispatch.py",
        "    at = lock.wait_until\n    if at is not None:\n",
        "    at = None\n    if at is not None:\n",
    ),
    Mutant(
        "a retry is left to the sweeper",
        "rules/writes.py",
        "    return Put(waiting, outcome, dispatch=True)\n",
        "    return Put(waiting, outcome)\n",
    ),
    Mutant(
        "a document that the sweeper takes over is not delivered until the next look",
        "recovery/sweep.py",
        "    if decision.dispatch:\n        swept.dispatched += dispatch(runtime, changed.snapshot)\n",
        "",
    ),
)
