"""
The contents of a reminder.
"""

from __future__ import annotations

import hashlib
from collections import Counter

from gcp_oncetask.effects.commands import command_line
from gcp_oncetask.finding.searching import FoundRecord
from gcp_oncetask.observe.alerts import Alert
from gcp_oncetask.reminders.unattended import InNeed
from gcp_oncetask.rules import choices, floods
from gcp_oncetask.rules.record import Event, Failure
from gcp_oncetask.rules.reminders import LastReminder
from gcp_oncetask.rules.timestamps import instant
from gcp_oncetask.runtime.runtime import Runtime

NAMED = 20
"""Most records that a mail names."""


def letter(runtime: Runtime, found: InNeed, last: LastReminder) -> Alert:
    """
    Return the mail about the records that need a person.

    Args:
        runtime: Shared parts.
        found: The records; a mail needs at least one row.
        last: Slot of the mail, of which its Message-ID is made, and time at which it was decided, which is its date.
    """
    config, rows, oldest = runtime.config, found.rows, found.rows[0]
    identity = (runtime.project(), config.database, config.env, "reminder", instant(last.slot))
    counts = Counter((floods.kind_of(row.path), str(row.reason)) for row in rows)
    return Alert(
        id=hashlib.sha256("\n".join(identity).encode()).hexdigest()[:40],
        event=Event.FAILURE,
        env=config.env,
        project=runtime.project(),
        database=config.database,
        document=oldest.path,
        sequence=0,
        attempt=0,
        max_attempts=None,
        at=last.at,
        reason=_reason(found, last),
        evidence=(),
        errors=tuple(Failure(row.since or last.at, row.attempts, row.sequence, _told(row)) for row in rows[:NAMED]),
        commands=(
            command_line(runtime, "list"),
            command_line(runtime, "show", oldest.path),
            command_line(runtime, *choices.promise(oldest.path, oldest.lock)),
        ),
        status="",
        url=None,
        count=len(rows),
        documents=tuple(row.path for row in rows[:NAMED]),
        reminder=True,
        totals=tuple(f"{kind}: {number:,} {reason}" for (kind, reason), number in sorted(counts.items())),
    )


def _told(row: FoundRecord) -> str:
    return f"{row.reason}, step {row.step}" if row.step else str(row.reason)


def _reason(found: InNeed, last: LastReminder) -> str:
    number, promised = len(found.rows), found.promised
    one = number == 1 and not found.more
    said = f"{number:,}{' or more' if found.more else ''} {'record needs' if one else 'records need'} a person"
    said += f", the oldest since {instant(found.rows[0].since or last.at)}."
    if promised:
        said += f" Left out, because a person has promised to attend to them: {promised:,}."
    return said
