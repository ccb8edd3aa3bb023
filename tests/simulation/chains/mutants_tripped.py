"""
Mistakes in chains, each played until its history trips the check for which it was made.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

TRIPPED_CHAIN_MUTANTS = (
    Mutant(
        "a task that stood still asks for a person while it runs",
        "rules/attention.py",
        "        case Status.SCHEDULED if said(lock.attention) in _WAITING:\n",
        "        case Status.SCHEDULED | Status.LEASED if said(lock.attention) in _WAITING:\n",
        check="chains: it runs, and asks for a person's attention",
    ),
    Mutant(
        "a digest that was not sent counts as sent",
        "effects/owed_alerts.py",
        '            about.log(logging.ERROR, "the alert of its %s is still owed: %s", owed.event, error)\n',
        (
            '            about.log(logging.ERROR, "the alert of its %s is still owed: %s", '
            "owed.event, error)\n"
            "            sent += [owed.id] if is_digest(snapshot.path) else []\n"
        ),
        check="checks/alerts: it is not owed any more, and was not told",
    ),
    Mutant(
        "all alerts of a document have one Message-ID",
        "effects/owed_alerts.py",
        "snapshot.path, since, owed.id)",
        "snapshot.path)",
        check="checks/alerts: the Message-ID … is that of another alert too",
    ),
    Mutant(
        "the time of an alert that is owed is not looked at",
        "rules/expiry.py",
        "    if ripe or lock.orphans:\n        return Look(",
        "    if lock.orphans:\n        return Look(",
        check="checks/alerts: its alert … was owed and never told",
    ),
    Mutant(
        "a delivery that comes a moment too early is replaced",
        "rules/writes.py",
        "EARLY: Final = timedelta(seconds=60)\n",
        "EARLY: Final = timedelta(0)\n",
        check="checks/dispatches: it gets dispatch …, … micros early",
    ),
    Mutant(
        "a record that waits is not due for its alert",
        "rules/writes.py",
        "    times = [owed.until for owed in lock.owed] if lock.owed else []\n    match",
        "    times = [owed.until for owed in lock.owed] if lock.finished else []\n    match",
        check="checks/standing: it owes an alert, and is looked at too late: …",
    ),
    Mutant(
        "a task is told to stand still after a part of the time",
        "rules/attention.py",
        "    return age(lock, at) > timedelta(seconds=at.stuck)\n",
        "    return age(lock, at) > timedelta(seconds=at.stuck / 10)\n",
        check="checks/standing: an alert says that it stands still, and it could be claimed since …",
    ),
    Mutant(
        "a task that stands still is told at each look",
        "rules/expiry.py",
        "    if present is not None and ORDER.index(present) <= ORDER.index(reason):\n",
        "    if present is not None and ORDER.index(present) < ORDER.index(reason):\n",
        also=(
            "rules/expiry.py",
            "    return marked if message is None or present is not None else",
            "    return marked if message is None else",
        ),
        check="checks/standing: it is told twice that it stands still",
    ),
    Mutant(
        "the alarm of a queue is sent and never recorded",
        "effects/queue_alarm.py",
        "    mine = runtime.store.put_fields(stored, fields)\n    if mine is None or told:\n        return 0\n",
        "    mine = stored\n    if told:\n        return 0\n",
        check="checks/standing: a mail tells of its standstill, and nothing is known of that",
    ),
    Mutant(
        "a handler is told that a commit in doubt wrote nothing",
        "store/transaction.py",
        "unknown=True) from error\n",
        "unknown=False) from error\n",
        check="checks/transactions: its transaction took effect, and its handler was told that nothing was written",
    ),
    Mutant(
        "a transaction goes on after its document was deleted",
        "execution/fenced_transaction.py",
        "            lost = rules.writable(snapshot.lock, attempt.fence)\n",
        (
            "            txn.gone = not snapshot.exists\n"
            "            snapshot = attempt.snapshot if txn.gone else snapshot\n"
            "            lost = rules.writable(snapshot.lock, attempt.fence)\n"
        ),
        also=(
            "store/transaction.py",
            "    writes = (*chunks, *ending.along, *keyed, update.message)\n",
            (
                '    own = () if getattr(transaction, "gone", False) else (update.message,)\n'
                "    writes = (*chunks, *ending.along, *keyed, *own)\n"
            ),
        ),
        check="chains: its handler wrote on after it was deleted",
    ),
    Mutant(
        "a digest that is sent again forgets its members",
        "effects/owed_alerts.py",
        (
            "    changed = runtime.store.change(snapshot.path, decide, start=snapshot)\n"
            "    return (changed.snapshot, mine) if"
        ),
        (
            '    less = Changes({"members": None} if is_digest(snapshot.path) else {})\n'
            "    changed = runtime.store.change(snapshot.path, decide, start=snapshot, changes=less)\n"
            "    return (changed.snapshot, mine) if"
        ),
        check="checks/alerts: its members have changed",
    ),
    Mutant(
        "the alert of a damage says when it was found",
        "effects/damage.py",
        'f"{DAMAGED}{error.field}-{digest[:12]}", _said(error)):',
        'f"{DAMAGED}{error.field}-{digest[:12]}", f"{_said(error)} {runtime.store.estimate()}"):',
        check="checks/alerts: the mail … says …, and said …",
    ),
    Mutant(
        "the name of a Cloud Task depends on the version of its document",
        "effects/dispatch.py",
        "        task_id=task_id or cloud_task_id(snapshot.path, lock),\n",
        "        task_id=(task_id or cloud_task_id(snapshot.path, lock))\n"
        '        + (delivery.version or "").replace(".", ""),\n',
        check="checks/dispatches: dispatch … of sequence … has the name of another one",
    ),
    Mutant(
        "an attempt that has lost its lease ends as completed",
        "execution/settling.py",
        '    outcome = Outcome.LOST_TO_LATER if error.facts.get("finished") else Outcome.LOST\n',
        '    outcome = Outcome.LOST_TO_LATER if error.facts.get("finished") else Outcome.COMPLETED\n',
        check="checks/late: token … was lost when its handler ended, and it is …",
    ),
    Mutant(
        "an attempt that was lost to a later sequence ends as one that is tried again",
        "execution/settling.py",
        '    outcome = Outcome.LOST_TO_LATER if error.facts.get("finished") else Outcome.LOST\n',
        "    outcome = Outcome.LOST\n",
        check="checks/late: token … was lost to a later sequence, and it is …",
    ),
    Mutant(
        "a look at a damaged record writes when it was",
        "effects/damage.py",
        "        return runtime.store.write_raw(path,",
        '        fields["lock.lookedAt"] = encode(now)\n        return runtime.store.write_raw(path,',
        check="checks/damages: … changed a damaged record",
    ),
    Mutant(
        "a reset of a damaged record begins its tokens anew",
        "rules/repair.py",
        '    if token < found.get("scheduled_token", 0):\n',
        '    if token:\n        token = 0\n    elif token < found.get("scheduled_token", 0):\n',
        check="checks/damages: its reset went from sequence … to …, token …",
    ),
    Mutant(
        "a call from outside on an ended chain is refused as a conflict",
        "rules/refusals.py",
        "    Refusal.ENDED: AlreadyFinishedError,\n",
        "    Refusal.ENDED: TaskConflictError,\n",
        check="troubles/people: … from outside was refused with …: …",
    ),
    Mutant(
        "an alert that is sent again says how often it was tried",
        "effects/owed_alerts.py",
        "        reason=owed.reason,\n",
        '        reason=f"{owed.reason} ({owed.tries})",\n',
        check="checks/alerts: a digest of … alerts was mailed, and no document has it",
    ),
    Mutant(
        "a holder measures with the wall clock alone",
        "clock.py",
        "    most = max(end.monotonic - start.monotonic, end.boottime - start.boottime, end.wall - start.wall)\n",
        "    most = end.wall - start.wall\n",
        check="checks/belief: … believes in token … past the end of its lease, …",
    ),
    Mutant(
        "a mail names the sequence that the record has meanwhile",
        "effects/owed_alerts.py",
        "        sequence=owed.sequence,\n        attempt=owed.attempt,\n        step",
        "        sequence=lock.sequence,\n        attempt=owed.attempt,\n        step",
        check="checks/alerts: a mail tells of its … of sequence …; … such are owed",
    ),
    Mutant(
        "a failed record is not on the list of those that need a person",
        "rules/attention.py",
        "            return Reason.DISMISSED if said(lock.attention) is Reason.DISMISSED else Reason.FAILED\n",
        "            return Reason.DISMISSED if lock.errors else Reason.FAILED\n",
        check="checks/listed: it is …, and the list of records that need a person lacks it",
    ),
    Mutant(
        "a cancelled record is on the list of those that need a person",
        "rules/attention.py",
        "        case Status.FAILED:\n            return Reason.DISMISSED",
        "        case Status.FAILED | Status.CANCELLED:\n            return Reason.DISMISSED",
        check="checks/listed: it is …, and is listed as if it needed a person",
    ),
    Mutant(
        "a page of a list begins with the last record of the page before",
        "store/by_instant.py",
        "        if after is None or seen.place > after:\n",
        "        if after is None or seen.place >= after:\n",
        also=(
            "store/by_instant.py",
            "    last = _cursor(store, span.field, floor, after) if _is_in(span.area, after) else None\n",
            "    last = None\n",
        ),
        check="checks/listed: it is listed twice",
    ),
)
