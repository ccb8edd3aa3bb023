"""
What stands still is told, and what does not is not: since when each record could have been claimed, as the wire shows it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gcp_oncetask.observe.alerts import Alert
from gcp_oncetask.recovery.unclaimed import LEFT
from tests.simulation.checks.wire import Record, time
from tests.simulation.hub import SECOND
from tests.simulation.world import Process, World

if TYPE_CHECKING:
    from tests.simulation.checks.watch import Watch
from tests.simulation.troubles.deployments import LATER, NEXT

SLACK = 60 * SECOND
"""How much older than the server's time an estimate of it may be."""
LONGEST = 3600 * SECOND
"""Longest time between two looks at a record."""
LONGEST_WAIT = 30 * 24 * LONGEST
"""Time after which a person is told of a wait for an event that has no time-out."""
RECHECK = 30 * SECOND
"""Time between two looks at a lease of unknown fate."""
_SECOND_MORE = 2 * SECOND
_LATEST = 1000 * SECOND
"""How long a commit may be under way."""


@dataclass
class Stand:
    """
    A record that can be claimed.

    Attributes:
        since: From then on.
        lane: Its queue, or the lane of its workers.
        sure: Whether the commit that made it so was not held up after it was decided.
        until: When that was over; 0: it is not.
        told: Whether the record owed an alert that it stands still.
        looked_at_by: Who has moved its due time last.
        looked_at: When.
        refused: Whether it said that its Cloud Task was refused for good; a person is alerted of the whole queue then.
    """

    since: int
    lane: str
    sure: bool
    until: int = 0
    told: bool = False
    refused: bool = False
    looked_at_by: Process | None = None
    looked_at: int = 0


@dataclass
class Begun:
    """
    A sweep that has begun.

    Attributes:
        process: Whose sweep it is.
        at: When.
        looks: Records that it must look at: those that are due and stand still for too long.
    """

    process: Process
    at: int
    looks: dict[str, Stand]


class Standing:
    """
    Watches the records of one world.

    Attributes:
        stuck: Setting of the library: the time after which a person is told.
    """

    def __init__(self, watch: Watch, world: World, broken: Callable[[str, str], None]) -> None:
        self._watch = watch
        self._world = world
        self._broken = broken
        self.stuck = round(world.stuck * SECOND)
        self._stands: dict[str, Stand] = {}
        self._over: list[Stand] = []
        self._alarms: dict[str, Any] = {}
        self._mailed: dict[tuple[str, int], str] = {}
        self._under_way: list[Begun] = []

    # --- records ---

    def changed(self, process: Process | None, path: str, before: Record | None, after: Record) -> None:
        """
        A commit has changed a record.
        """
        now = self._world.hub.now
        if before is not None and not before.url and before.due != after.due:
            self._attended(before, now)
        if not after.claimable:
            self.gone(path)
        elif before is None or not before.claimable or _turn(before) != _turn(after):
            self.gone(path)
            lane = after.queue if after.url else after.lane
            self._stands[path] = Stand(max(now, after.wait_until), lane, self._sure(process))
        kept = before is not None and before.due == after.due
        if not (kept and path in self._watch.damaged):
            # A record that a person has repaired keeps the due time that it had while it was damaged.
            self._looked_at(path, after, now)
        stand = self._stands.get(path)
        if stand is not None and "/undispatched/" in after.attention:
            stand.refused = True
        if stand is not None and before is not None and before.due != after.due:
            stand.looked_at_by, stand.looked_at = process, now
        if "/stuck/" in after.attention and (stand is None or (stand.sure and not self._long(stand, now))):
            self._broken(path, f"it is said to be stuck, and could be claimed since {stand and stand.since}")

    def adopted(self, path: str, after: Record) -> None:
        """
        A person has written a record; the attention that he leaves in it says whether its Cloud Task was refused, and whether it
        is told that it stands still.
        """
        self.gone(path)
        if after.claimable:
            lane, since = after.queue if after.url else after.lane, max(self._world.hub.now, after.wait_until)
            refused, told = "/undispatched/" in after.attention, "/stuck/" in after.attention
            self._stands[path] = Stand(since, lane, sure=False, refused=refused, told=told)

    def _sure(self, process: Process | None) -> bool:
        world = self._world
        return process is not None and not world.landing and process.hurt_until < world.hub.now - _LATEST

    def _long(self, stand: Stand, now: int) -> bool:
        return now - stand.since > self.stuck - SLACK

    def _looked_at(self, path: str, after: Record, now: int) -> None:
        """
        It is due in time, by whatever it waits for.
        """
        if after.owed and after.due_at > min(owed.until for owed in after.owed):
            self._broken(path, f"it owes an alert, and is looked at too late: {after.due}")
        stand, due = self._stands.get(path), after.due_at
        if stand is not None:
            latest = max(now, after.wait_until) + LONGEST
            alarm = stand.since + self.stuck + _SECOND_MORE
            if after.url and stand.sure and now < stand.since + self.stuck - SLACK:
                latest = min(latest, alarm)
        elif after.status == "leased":
            latest = max(after.ends_at, now + RECHECK) + _SECOND_MORE
        elif after.waiting and "/waiting/" not in after.attention:
            latest = now + LONGEST if after.awaits == "children" else max(now, after.awaits_since + LONGEST_WAIT)
        else:
            return
        if not due or due > latest + _SECOND_MORE:
            self._broken(
                path, f"{after.status}, it is looked at too late: {after.due}, and {latest} was the latest time"
            )

    def gone(self, path: str) -> None:
        """
        It can't be claimed any more.
        """
        stand = self._stands.pop(path, None)
        if stand is not None:
            stand.until = self._world.hub.now
            if "/" in stand.lane and self._long(stand, stand.until):
                self._over.append(stand)

    def is_told(self, process: Process | None, path: str, before: Record | None) -> None:
        """
        A record owes an alert that it stands still.
        """
        stand = self._stands.get(path)
        self._world.counts["told to stand still"] += 1
        if stand is None or (stand.sure and not self._long(stand, self._world.hub.now)):
            self._broken(
                path, f"an alert says that it stands still, and it could be claimed since {stand and stand.since}"
            )
        elif stand.told:
            self._broken(path, "it is told twice that it stands still")
        if stand is not None:
            stand.told = True

    # --- queues and lanes ---

    def alarm(self, process: Process | None, path: str, document: Any) -> None:
        """
        The alarm of a queue was written.
        """
        if document is None:
            self._alarms.pop(path, None)
            return
        fields, known = document.fields, self._alarms.get(path)
        self._alarms[path] = document
        since = time(fields, "since")
        if known is not None and time(known.fields, "since") == since:
            return
        now, lane = self._world.hub.now, fields["queue"].string_value
        self._world.counts["standstills of queues" if "/" in lane else "standstills of workers"] += 1
        late = not self._sure(process)
        stands = [*self._stands.values(), *self._over] if "/" in lane else self._over + self._waits_for_workers(now)
        right = (not stand.sure or self._long(stand, stand.until or now) for stand in stands if stand.lane == lane)
        if not late and not any(right):
            self._broken(path, f"an alarm says that tasks of {lane} stand still, and none does")

    def _waits_for_workers(self, now: int) -> list[Stand]:
        """
        Records that workers should have looked at, whatever for: that counts from their due time.
        """
        waits = [record for record in self._watch.records.values() if not record.url and record.due]
        return [Stand(record.due_at, record.lane, sure=True) for record in waits if record.due_at < now]

    def _attended(self, before: Record, now: int) -> None:
        if before.due and now - before.due_at > self.stuck - SLACK:
            self._over.append(Stand(before.due_at, before.lane, sure=True, until=now))

    def mailed(self, alert: Alert) -> None:
        """
        The mail server has taken the alarm of a queue: each standstill has one Message-ID.
        """
        alarm = self._alarms.get(alert.document)
        since = 0 if alarm is None else time(alarm.fields, "since")
        self._world.counts["mails: standstill"] += 1
        if alarm is None:
            self._broken(alert.document, "a mail tells of its standstill, and nothing is known of that")
        elif self._mailed.setdefault((alert.document, since), alert.id) != alert.id:
            self._broken(alert.document, f"its standstill since {since} is told under two Message-IDs")

    # --- sweeps ---

    def sweep_begins(self, process: Process) -> Begun:
        """
        A sweep begins.
        """
        now = self._world.hub.now
        looks = {}
        for path, stand in self._stands.items():
            record = self._watch.records[path]
            if record.owed:
                # The sweep sends its alert, and leaves the rest to the next look, which is soon.
                continue
            # Tasks for workers are told by a query for those that are due for so long.
            due = record.due_at + (0 if record.url else self.stuck) + _SECOND_MORE
            if stand.since + self.stuck + _SECOND_MORE < now and due < now:
                looks[path] = stand
        self._under_way.append(Begun(process, now, looks))
        return self._under_way[-1]

    def sweep_is_over(self, begun: Begun) -> None:
        """
        A sweep has ended, perhaps by an error.
        """
        self._under_way = [each for each in self._under_way if each is not begun]

    def swept(self, begun: Begun) -> None:
        """
        A sweep has ended without an error: if nothing went wrong in it, a person is told of what it had to look at.
        """
        process = begun.process
        if process.frozen or _has_failed(process, begun) or self._world.mail_down:
            return
        for path, stand in begun.looks.items():
            other = stand.looked_at_by
            if stand.until or (other is not None and _has_failed(other, begun)):
                # Another sweep has looked at it first, and could not raise the alarm.
                continue
            if self._is_left(path, stand, begun):
                continue
            self._world.counts["stood still for too long, and was swept"] += 1
            # A task for the later deployment's address is left to that one; all tasks that are left have one alarm.
            left = self._watch.records[path].url.startswith(NEXT) and process.deployment != LATER
            alarmed = self._alarmed(stand.lane) or (left and self._alarmed(LEFT))
            if not stand.told and not stand.refused and not alarmed:
                self._broken(path, f"it can be claimed since {stand.since}, was swept, and nobody is told")

    def _is_left(self, path: str, stand: Stand, begun: Begun) -> bool:
        """
        Whether another sweep has looked at the record since *begun*, and has not ended. A sweep raises alarms at its end, and
        is judged then.
        """
        others = [each for each in self._under_way if each is not begun and path in each.looks]
        first = any(each.process is stand.looked_at_by and not each.process.dead for each in others)
        return first and stand.looked_at >= begun.at

    def _alarmed(self, lane: str) -> bool:
        """
        Whether the alarm of a queue was told, or somebody is to tell it.
        """
        for alarm in self._alarms.values():
            if alarm.fields["queue"].string_value == lane:
                told = alarm.fields["told"].boolean_value
                return told or time(alarm.fields, "sendUntil") > self._world.hub.now
        return False


def _has_failed(process: Process, begun: Begun) -> bool:
    """
    Whether a call of *process* has failed since then, or the process itself.
    """
    return process.dead or max(process.hurt_until, process.failed_at) >= begun.at


def _turn(record: Record) -> tuple[int, int, int, bool]:
    """
    What starts the time anew since when a record can be claimed.
    """
    return record.sequence, record.token, record.wait_until, record.cancelling
