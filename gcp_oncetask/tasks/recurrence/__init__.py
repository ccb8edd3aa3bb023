"""
Recurrence of tasks: rules of RFC 5545, cron lines and intervals, computed by one set of rules. Pure: times come in as
arguments.

Guarantee
    The same recurrence gives the same runs and the same occurrence ids in every process with the same zone data. The cost
    of the next run does not depend on how long ago the rule began, and an outage costs a per-second rule no more than a
    daily rule. A rule of up to 10,000 characters takes at most 0.2 seconds of CPU, also if it never has a run.

No guarantee
    The zone data may change between two processes or two days; the stored next time of a generator is not computed again.
    The search for runs ends at the year 9990. For a daily, weekly, monthly or yearly rule it also ends after 400 years
    times the interval without a run, because the calendar then repeats. For an hourly, minutely or secondly rule it ends
    after 15,000 chosen days (or steps, if they are longer than a day) without a run. Such a rule counts as ended. Several
    rules of one text share 10,000 years, and those 15,000 days.

Where
    ``rule``: reads the text. ``zones``: local times and instants. ``days``, ``periods``: the dates that a rule chooses.
    ``calendar``, ``elapsed``: the runs of one rule. ``schedule``: the runs of all rules and the exceptions. ``value``: the
    recurrence as users write it. ``cron``: cron lines and intervals. ``advancing``: the step of a generator.
    ``explaining``: runs in words. ``texts``: the limit of a text.
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
