"""
When tasks recur: rules of RFC 5545, cron lines and intervals, with one meaning. Pure: times come in as arguments.

Guarantee
    The same recurrence gives the same runs and the same occurrence ids in every process with the same zone data. Asking for the
    next run costs about the same however long ago the rule began, and an outage of a per-second rule no more than one of a
    daily rule. A text of up to 10,000 characters is answered within 0.2 seconds of CPU, also if it never has a run.

No guarantee
    The zone data may change between two processes or two days; a generator's next time, once stored, is not computed anew.
    No run is looked for from the year 9990 on. A daily, weekly, monthly or yearly rule is searched for 400 years times its
    interval, after which the calendar repeats; an hourly, minutely or secondly one over 15,000 days that it chooses (or steps,
    where they are longer than a day): one without a run in so long counts as ended. Several rules of one text share 10,000
    years, and those 15,000 days.

Where
    ``rule``: the text. ``zones``: local times and instants. ``days``, ``periods``: the dates that a rule chooses.
    ``calendar``, ``elapsed``: the runs of one rule. ``schedule``: all of them together. ``value``: what the user writes.
    ``cron``: other ways to write it. ``advancing``: what a generator does. ``explaining``, ``texts``: in words.
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
