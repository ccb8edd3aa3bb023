"""
When tasks recur: rules of RFC 5545, cron lines and intervals, with one meaning. Pure: times come in as arguments.

Guarantee
    The same recurrence gives the same runs and the same occurrence ids in every process with the same zone data. Asking for the
    next run costs about the same however long ago the rule began, and an outage of a per-second rule no more than one of a
    daily rule.

No guarantee
    The zone data may change between two processes or two days; a generator's next time, once stored, is not computed anew.
    A rule whose runs are further apart than 15,000 periods of its frequency (41 years for a daily one) counts as ended.

Where
    ``rule``: the text. ``zones``: local times and instants. ``calendar``, ``elapsed``: the runs of one rule. ``schedule``: all
    of them together. ``value``: what the user writes. ``cron``: other ways to write it. ``advancing``: what a generator does.
    ``explaining``: in words.
"""

from __future__ import annotations

from gcp_oncetask.tasks.recurrence.advancing import MISFIRE_GRACE, Advance, advance, occurrence_id
from gcp_oncetask.tasks.recurrence.cron import cron, every
from gcp_oncetask.tasks.recurrence.explaining import explain
from gcp_oncetask.tasks.recurrence.value import Misfire, Overlap, Recurrence

__all__ = [
    "MISFIRE_GRACE",
    "Advance",
    "Misfire",
    "Overlap",
    "Recurrence",
    "advance",
    "cron",
    "every",
    "explain",
    "occurrence_id",
]
