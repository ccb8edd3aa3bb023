"""
What people were told: by which mail, under which Message-ID, each alert that was ever owed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from gcp_oncetask.effects import owed_alerts
from gcp_oncetask.observe.alerts import Alert
from gcp_oncetask.rules.document_paths import is_digest
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.lock_codec import decode_lock
from gcp_oncetask.store.snapshot import snapshot_of
from gcp_oncetask.testing.cloud import OncetaskCloud

Entry = tuple[str, str]
"""Document and id of an alert that it owes."""


class Told:
    """
    Listens to the alerts of a cloud.

    Attributes:
        mails: Message-ID -> what each mail with it said: its text, and the alerts that it told.
        ever: Every alert that was seen to be owed.
        dies: Called at each mail, before it is taken and after.
    """

    def __init__(self, cloud: OncetaskCloud, runtime: Runtime) -> None:
        self.cloud, self.runtime = cloud, runtime
        self.mails: dict[str, list[tuple[Any, frozenset[Entry]]]] = defaultdict(list)
        self.ever: set[Entry] = set()
        self.dies: Callable[[str], None] = lambda when: None
        self._send = cloud.alerts.send
        cloud.alerts.send = self.send  # type: ignore[method-assign]

    def send(self, alert: Alert) -> None:
        """
        Take *alert*.
        """
        self.dies("before")
        entries = self._told_by(alert)
        self._send(alert)
        self.mails[alert.id].append(((alert.count, alert.documents, alert.reason, alert.at), entries))
        self.dies("after")

    def owed(self) -> dict[Entry, Any]:
        """
        Every alert that is owed by a document now, but for those of digests.
        """
        return {(path, owed.id): owed for path, lock in self.locks() if not is_digest(path) for owed in lock.owed}

    def locks(self) -> list[tuple[str, Lock]]:
        """
        Every record that is stored now, by its path.
        """
        local = self.cloud.local
        stored = local.firestore.documents(local.project)
        decoded = (
            (path, decode_lock(document, path)) for path, document in stored.items() if "lock" in document.fields
        )
        return [(path, lock) for path, lock in decoded if lock is not None]

    def _told_by(self, alert: Alert) -> frozenset[Entry]:
        """
        What owes *alert*; of a digest exactly the entries that bear its id.
        """
        local = self.cloud.local
        for path, document in local.firestore.documents(local.project).items():
            snapshot = snapshot_of(path, document, None)
            for owed in snapshot.lock.owed if snapshot.lock is not None else ():
                if owed_alerts.alert_of(self.runtime, snapshot, owed).id != alert.id:
                    continue
                if not is_digest(path):
                    return frozenset({(path, owed.id)})
                digest = path.rsplit(":", 1)[-1]
                return frozenset(one for one, each in self.owed().items() if each.digest == digest)
        raise AssertionError(f"nothing owes {alert}")

    def check(self, entries: set[Entry]) -> None:
        """
        Each of *entries* was told under one Message-ID, and nothing else; what a Message-ID says does not change.
        """
        for id_, said in self.mails.items():
            assert len(set(said)) == 1, (id_, said)
        told = [entry for said in self.mails.values() for entry in said[0][1]]
        assert sorted(told) == sorted(entries), (len(told), len(entries))
