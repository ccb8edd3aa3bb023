"""
Alerts, from what is stored and from what the mail server takes: each takeover owes one, none is owed or mailed for what did
not happen, each is told under one Message-ID, and a mail comes twice only if its sender was hurt.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from gcp_emulator.clock import micros_of
from gcp_oncetask.observe.alerts import Alert
from tests.simulation.checks.wire import Owed, Record, record_of, time
from tests.simulation.hub import SECOND
from tests.simulation.world import Process, World

if TYPE_CHECKING:
    from tests.simulation.checks.watch import Watch

Events = tuple[str, ...]
SLACK = 60 * SECOND
"""How much older than the server's time an estimate of it may be."""
_LONGEST = 200
"""Characters of a reason in a digest."""
_MOST = 10
"""Alerts that one record owes at most: each further one takes the place of the oldest."""


class Entry(NamedTuple):
    """
    An alert that a document owes: unique among all.
    """

    path: str
    id: str
    at: int


class Digest(NamedTuple):
    """
    A digest as its document has it.
    """

    path: str
    event: str
    at: int
    reason: str
    count: int
    documents: tuple[str, ...]
    members: frozenset[Entry]


class Sent(NamedTuple):
    """
    The last mail of a Message-ID: when, by whom, and what it says.
    """

    at: int
    process: Process
    says: tuple[Any, ...]


class Alerts:
    """
    Watches the alerts of one world.

    Attributes:
        owed: Every entry that was ever owed, with what it says; without those of deleted documents.
        told: Message-IDs of the mails that told an entry.
    """

    def __init__(self, watch: Watch, world: World, broken: Callable[[str, str], None]) -> None:
        self._watch = watch
        self._world = world
        self._broken = broken
        self.owed: dict[Entry, Owed] = {}
        self._every: dict[Entry, Owed] = {}
        self.told: defaultdict[Entry, set[str]] = defaultdict(set)
        self._means: dict[str, frozenset[Entry]] = {}
        self._sent: dict[str, Sent] = {}
        self._digests: dict[str, Digest] = {}
        self._apart: set[Entry] = set()
        self._told_digests: set[str] = set()
        self._lent: defaultdict[str, set[Entry]] = defaultdict(set)
        self._granted: dict[str, Process | None] = {}

    # --- what is stored ---

    def changed(self, process: Process | None, path: str, before: Record | None, after: Record) -> bool:
        """
        A commit has changed a record. Returns whether it lends an alert to a digest.
        """
        if after.token > (before.token if before is not None else 0) and after.status == "leased":
            self._granted[after.holder] = process
            self._world.counts["grants"] += 1
        known = {owed.id: owed for owed in before.owed} if before is not None else {}
        fresh = [owed for owed in after.owed if owed.id not in known or known[owed.id].at != owed.at]
        for owed in after.owed:
            entry = Entry(path, owed.id, owed.at)
            self.owed[entry] = self._every[entry] = owed
            if owed.digest and not owed.digest.startswith("wait-"):
                self._lent[owed.digest].add(entry)
        kept = {(owed.id, owed.at) for owed in after.owed}
        for owed in known.values():
            entry = Entry(path, owed.id, owed.at)
            if (owed.id, owed.at) in kept or self.told[entry]:
                continue
            if owed.id.endswith("-stuck") and any(one.id == owed.id for one in fresh):
                # It stood still once more before its alert was sent: the later alert tells of both.
                self.owed.pop(entry, None)
                self._world.counts["alerts of a standstill replaced"] += 1
                continue
            if owed.id.endswith("-quarantine") and after.open and any(one.id == owed.id for one in fresh):
                # It was asked for once more, by the same grant: the later alert asks the same.
                self.owed.pop(entry, None)
                continue
            if len(after.owed) == _MOST and owed.at <= after.owed[0].at:
                # A record has room for so many.
                self.owed.pop(entry, None)
                self._world.counts["alerts without room"] += 1
                continue
            if self._world.plan.window and self._world.refusals.was_large(path):
                # It was told directly, by a digest that lists it under another id.
                self.owed.pop(entry, None)
                self._world.counts["alerts of a large document in a digest"] += 1
                continue
            self._broken(path, f"its alert {owed.id} is not owed any more, and was not told")
        if fresh or before is None or (before.status, before.token) != (after.status, after.token):
            self._reasons(process, path, before, after, fresh)
        return any(owed.digest and not owed.digest.startswith("wait-") for owed in after.owed)

    def adopted(self, path: str, after: Record) -> None:
        """
        A person has written a record.
        """
        for owed in after.owed:
            self.owed[Entry(path, owed.id, owed.at)] = self._every[Entry(path, owed.id, owed.at)] = owed

    def _reasons(
        self, process: Process | None, path: str, before: Record | None, after: Record, fresh: list[Owed]
    ) -> None:
        """
        What a commit owes tells exactly what it did.
        """
        named = [owed for owed in fresh if owed.id.endswith("-stuck")]
        plain = [owed for owed in fresh if owed not in named]
        for _ in named:
            self._watch.standing.is_told(process, path, before)
        if before is None:
            right = {()}
        elif self._taken_over(process, before, after):
            right = self._by_takeover(before, after)
        else:
            right = _failures(before, after)
            if after.status == "quarantined" != before.status:
                # A person is asked whether a run has happened that was begun once.
                right = {("quarantine",)}
            if before.status == "leased" and self._world.hub.now >= before.ends_at:
                # The process of the holder may have settled it from the log.
                right |= {(*each, "takeover") for each in right}
        for owed in plain:
            self._world.counts[f"owed: {owed.event}"] += 1
        allowed = before.alert_on if before is not None else ()
        events = tuple(sorted(owed.event for owed in plain))
        wrong = events not in {tuple(event for event in each if event in allowed) for each in right}
        # A document that is too large can't owe an alert: its process tells a person directly.
        silent = wrong and not events and () not in right and self._world.refusals.tells_instead(path)
        # The process that finds it so ends it, also when it takes it over.
        ended = events == ("failure",) and after.status == "failed" and self._world.refusals.was_large(path)
        if wrong and not silent and not ended:
            self._broken(path, f"it owes alerts of {events}, and what happened asks for one of {sorted(right)}")
        if before is None:
            return
        for owed in plain:
            self._facts(process, path, before, owed)

    def _taken_over(self, process: Process | None, before: Record, after: Record) -> bool:
        """
        Whether somebody else than the holder has ended its lease. Its own end always leaves its nonce.
        """
        if before.status != "leased":
            return False
        if (after.status, after.holder, after.sequence) == (before.status, before.holder, before.sequence):
            return False
        own = process is not None and process is self._granted.get(before.holder)
        return not own or after.settled_by == before.settled_by

    def _by_takeover(self, before: Record, after: Record) -> set[Events]:
        """
        The alerts that a takeover may owe: exactly one about a holder that has begun.
        """
        counts, recorded = self._world.counts, after.settled_by != before.settled_by
        begun = before.holder in self._watch.began
        how = "settled from the log" if recorded else "running" if begun else "not begun"
        counts[f"taken over: {how}"] += 1
        if after.status == "quarantined":
            # The end of the holder is known, and the fate of a run that it has begun once is not.
            return {("quarantine",), ("quarantine", "takeover")} if after.open else {("quarantine",)}
        failures = _failures(before, after)
        if recorded:
            return {(*each, "takeover") for each in failures}
        right: set[Events] = {each or ("takeover",) for each in failures}
        # The process of a holder that has not begun may have said so.
        return right if begun or failures == {("failure",)} else {*right, ()}

    def _facts(self, process: Process | None, path: str, before: Record, owed: Owed) -> None:
        world, now = self._world, self._world.hub.now
        if (owed.sequence, owed.attempt) != (before.sequence, before.attempts):
            told = f"sequence {owed.sequence}, attempt {owed.attempt}"
            self._broken(
                path, f"its alert {owed.id} is about {told}, and it was at {before.sequence}, {before.attempts}"
            )
        late = process is None or world.landing or process.hurt_until >= now - 1000 * SECOND
        if owed.at > now or (not late and owed.at < now - SLACK):
            self._broken(path, f"its alert {owed.id} says that it was decided at {owed.at}, and it is {now}")

    def digest(self, path: str, document: Any) -> None:
        """
        The document of a digest was written.
        """
        record = record_of(document)
        if record is None or not record.owed:
            if path in self._digests and path not in self._told_digests:
                self._broken(path, "it is not owed any more, and was not told")
            return
        owed, fields = record.owed[0], document.fields
        lines = [one.map_value.fields for one in fields["first"].array_value.values]
        documents = tuple(line["document"].string_value for line in lines)
        count, many = int(fields["count"].integer_value), len(fields["members"].array_value.values)
        members = frozenset[Entry]()
        if many:
            id_ = path.rpartition(":")[2]
            members = self._members(path, id_, lines)
            self._world.counts["digests of several" if many > 1 else "digests of one"] += path not in self._digests
            if not count == many == len(members) == len(lines):
                told = f"it says {count} alerts, lists {many} and names {len(lines)}"
                self._broken(path, f"{told}, and {len(members)} of those bear its id")
        known = self._digests.get(path)
        if known is not None and known.members and known.members != members:
            self._broken(path, "its members have changed")
        self._digests[path] = Digest(path, owed.event, owed.at, owed.reason, count, documents, members)

    def _members(self, path: str, id_: str, lines: list[Any]) -> frozenset[Entry]:
        """
        The entries that bear the id of a digest and that its lines name.
        """
        named = {
            (
                line["document"].string_value,
                int(line["sequence"].integer_value),
                int(line["attempt"].integer_value),
                time(line, "at"),
                line["reason"].string_value,
            )
            for line in lines
        }
        bear = set[Entry]()
        for entry in self._lent[id_]:
            owed = self._every.get(entry)
            if owed is not None and owed.digest == id_:
                says = (entry.path, owed.sequence, owed.attempt, owed.at, owed.reason[:_LONGEST])
                if says in named:
                    bear.add(entry)
        return frozenset(bear)

    def listed(self, path: str) -> tuple[str, ...]:
        """
        The documents that the digest at *path* lists; none if no digest was there.
        """
        digest = self._digests.get(path)
        return digest.documents if digest is not None else ()

    def deleted(self, path: str) -> None:
        """
        The document at *path* was deleted, and with it what it owed; another one may be made there.
        """
        self.owed = {entry: owed for entry, owed in self.owed.items() if entry.path != path}

    # --- what is mailed ---

    def mailed(self, process: Process, alert: Alert) -> None:
        """
        The mail server has taken *alert* from *process*.
        """
        world = self._world
        world.counts[f"mails: {alert.event}"] += 1
        # Of a standstill each sender tells how many tasks wait at the moment at which it looks.
        # Nothing stores when the damage of a record was found: two processes that find it at once differ in that.
        at = None if alert.damaged or _is_of_no_record(alert) else alert.at
        moving = () if ":queue:" in alert.document else (alert.reason, at)
        says = (alert.event, alert.count, alert.documents, alert.document, *moving, alert.sequence)
        before = self._sent.get(alert.id)
        if before is not None:
            world.counts["mails sent again"] += 1
            if before.says != says and not _is_daily(alert):
                self._broken(alert.document, f"the mail {alert.id} says {says}, and said {before.says}")
            sender = before.process
            hurt = sender.dead or sender.frozen or max(sender.hurt_until, sender.failed_at) >= before.at
            # One that was held up before it sent does not know that others were trusted meanwhile.
            trusted = max(process.hurt_until, process.failed_at) < micros_of(alert.at)
            # Two threads may find the damage of a record at once.
            at_once = alert.damaged and world.hub.now - before.at <= SLACK
            if not hurt and trusted and not (at_once or _is_daily(alert) or _is_of_no_record(alert)):
                self._broken(
                    alert.document, f"the mail {alert.id} comes again, and {sender.name}, its sender, was well"
                )
        self._sent[alert.id] = Sent(world.hub.now, process, says)
        entries = self._meant(alert)
        if entries is None:
            return
        if self._means.setdefault(alert.id, entries) != entries:
            self._broken(alert.document, f"the Message-ID {alert.id} is that of another alert too")
        for entry in sorted(entries):
            self.told[entry].add(alert.id)
            if process.released:
                # The release before knows no digests, and tells again what one of them has told.
                self._apart.add(entry)
            if len(self.told[entry]) > self._most(entry) and entry not in self._apart:
                self._broken(entry.path, f"its alert {entry.id} was told under {len(self.told[entry])} Message-IDs")

    def _most(self, entry: Entry) -> int:
        """
        How many Message-IDs an entry may be told under: one. A document that is too large to be written can't keep that its alert
        was told, by a mail of its own or by a digest. Once it is written again, the other of the two tells the alert again,
        because an alert must not be lost. But all mails of its own have one Message-ID, and it is told by one digest.
        """
        digests = sum(bool(self._sent[id_].says[2]) for id_ in self.told[entry])
        both = 0 < digests < len(self.told[entry])
        return 2 if both and self._world.refusals.was_large(entry.path) else 1

    def _meant(self, alert: Alert) -> frozenset[Entry] | None:
        """
        The entries that a mail tells; None: no record owes such alerts.
        """
        at = micros_of(alert.at)
        if alert.documents:
            return self._digested(alert, at)
        says = (alert.event, alert.sequence, alert.attempt, alert.reason)
        found = [
            entry
            for entry, owed in self._every.items()
            if (entry.path, entry.at) == (alert.document, at)
            and (owed.event, owed.sequence, owed.attempt, owed.reason) == says
        ]
        if len(found) == 1:
            return frozenset(found)
        if ":queue:" not in alert.document and not self._unstored(alert):
            self._broken(
                alert.document,
                f"a mail tells of its {alert.event} of sequence {alert.sequence}; {len(found)} such are owed",
            )
        return None

    def _unstored(self, alert: Alert) -> bool:
        """
        Whether something happened that no record can owe: a person has written it, it is of others, or its writes or those
        of its queue are refused for good.
        """
        path, dispatches = alert.document, self._watch.dispatches
        return (
            path in self._watch.damaged
            or path in self._watch.outside
            or path in dispatches.refused
            or (path.startswith("queues/") and dispatches.closed)
            or (_is_daily(alert) and self._world.refusals.ever)
            # What user code raises once its attempt is settled changes nothing that is stored.
            or " after it had settled " in alert.reason
        )

    def _digested(self, alert: Alert, at: int) -> frozenset[Entry] | None:
        says = (alert.event, at, alert.reason, alert.count, alert.documents)
        found = [
            digest
            for digest in self._digests.values()
            if (digest.event, digest.at, digest.reason, digest.count, digest.documents) == says
        ]
        if not found:
            self._broken(alert.document, f"a digest of {alert.count} alerts was mailed, and no document has it")
            return None
        self._told_digests.update(digest.path for digest in found)
        return found[0].members if len(found) == 1 and found[0].members else None

    def at_the_end(self) -> None:
        """
        Everything was told, but for what documents owed that were deleted.
        """
        for entry in sorted(self.owed):
            if not self.told[entry]:
                self._broken(entry.path, f"its alert {entry.id} was owed and never told")


def _is_of_no_record(alert: Alert) -> bool:
    """
    Whether it tells of a once-task whose lock was removed: no record is left that could keep that it was told, so each of its
    deliveries may tell it again, under the same Message-ID.
    """
    return "its field 'lock' was removed" in alert.reason


def _is_daily(alert: Alert) -> bool:
    """
    Whether it tells of a refusal: of one day all processes have one Message-ID, and each names what it was about to do.
    """
    return alert.document.startswith(("queues/", "firestore/")) or " So is what would " in alert.reason


def _failures(before: Record, after: Record) -> set[Events]:
    """
    The alerts that a commit may owe as it gives the step up, if it does: it failed; or its cancellation did; or it had failed,
    and a newer payload follows.
    """
    if before.status not in ("scheduled", "leased", "quarantined"):
        return {()}
    # What is quarantined fails by its own holder, which is told, or by a person, who knows.
    if after.status == "failed" and before.status != "quarantined":
        return {("failure",)}
    cleaned = before.cancelling and after.status == "cancelled"
    return {(), ("failure",)} if cleaned or after.sequence > before.sequence or after.status == "failed" else {()}
