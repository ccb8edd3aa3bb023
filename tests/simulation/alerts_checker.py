"""
Promise 7, checked at every mail: each alert that was owed is told, by mails with one Message-ID, which always say the same; and a
digest tells exactly the entries that bear its id.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gcp_oncetask.effects import owed_alerts, windows
from gcp_oncetask.observe.alerts import Alert
from gcp_oncetask.rules.document_paths import is_digest
from gcp_oncetask.rules.floods import WAITS
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.codec import decode
from gcp_oncetask.store.snapshot import Snapshot, snapshot_of

Entry = tuple[str, str, datetime]
"""An alert that a document owes: path, its id there, and when it was decided."""


@dataclass
class AlertsChecker:
    """
    Watches the alerts of one world.

    Attributes:
        broken: Told of violations: a document and a sentence.
        count: Told of what was exercised.
        means: Message-ID -> what it tells.
        told: Entry -> Message-IDs of the mails that told it.
        said: Message-ID -> what its first mail said.
    """

    broken: Callable[[str, str], None]
    count: Callable[[str], None]
    means: dict[str, frozenset[Entry]] = field(default_factory=dict)
    told: dict[Entry, set[str]] = field(default_factory=lambda: defaultdict(set))
    said: dict[str, Any] = field(default_factory=dict)
    _known: set[Entry] = field(default_factory=set)

    def committed(self, runtime: Runtime, path: str, document: Any, locks: Mapping[str, Lock]) -> bool:
        """
        Look at a *document* that a commit has written; *locks* are all records as they are now. Returns whether it is part of
        making a digest.
        """
        snapshot = snapshot_of(path, document, None)
        if snapshot.lock is None or not snapshot.lock.owed:
            return False
        if is_digest(path):
            self._digest(runtime, snapshot, locks)
            return True
        for owed in snapshot.lock.owed:
            entry = (path, owed.id, owed.at)
            if entry not in self._known:
                self._known.add(entry)
                self.means[owed_alerts.alert_of(runtime, snapshot, owed).id] = frozenset({entry})
        return any(owed.digest is not None and not owed.digest.startswith(WAITS) for owed in snapshot.lock.owed)

    def _digest(self, runtime: Runtime, snapshot: Snapshot, locks: Mapping[str, Lock]) -> None:
        assert snapshot.lock is not None
        alert = owed_alerts.alert_of(runtime, snapshot, snapshot.lock.owed[0])
        if alert.id in self.means:
            return
        members = set(decode(snapshot.fields["members"]))
        if not members:
            # Of alerts that no record owes.
            return
        id_ = snapshot.path.rsplit(":", 1)[-1]
        bear = {
            windows.entry_id(path, owed): (path, owed.id, owed.at)
            for path, lock in locks.items()
            for owed in lock.owed
            if owed.digest == id_
        }
        if not members <= set(bear):
            self.broken(
                snapshot.path, f"of {len(members)} alerts that it tells, {len(members & set(bear))} bear its id"
            )
        if alert.count != len(members):
            self.broken(snapshot.path, f"it says that it tells {alert.count} alerts, and has {len(members)}")
        self.count("digests")
        self.count("digests of several" if len(members) > 1 else "digests of one")
        self.means[alert.id] = frozenset(bear[one] for one in members if one in bear)

    def mailed(self, alert: Alert) -> None:
        """
        The mail server has taken *alert*.
        """
        # Nothing stores when the damage of a record was found: two processes that find it at once differ in that.
        at = None if alert.damaged else alert.at
        says = (alert.event, alert.count, alert.documents, alert.reason, at, alert.sequence)
        if alert.id in self.said:
            self.count("mails sent again")
            if self.said[alert.id] != says:
                self.broken(alert.document, f"the mail {alert.id} says {says}, and said {self.said[alert.id]}")
        self.said[alert.id] = says
        for entry in self.means.get(alert.id, ()):
            self.told[entry].add(alert.id)
            if len(self.told[entry]) > 1:
                self.broken(entry[0], f"its alert {entry[1]} was told under {len(self.told[entry])} Message-IDs")

    def deleted(self, path: str) -> None:
        """
        A person has deleted the document at *path*, and with it what it owed; another one may be made there.
        """
        self._known = {entry for entry in self._known if entry[0] != path}

    def at_the_end(self, gone: Callable[[str], bool]) -> None:
        """
        Everything was told, but for what documents owed that are *gone*.
        """
        for entry in sorted(self._known):
            if not self.told[entry] and not gone(entry[0]):
                self.broken(entry[0], f"its alert {entry[1]} was owed and never told")
