"""
A process of the release before: what it does not know of a record, it neither reads nor writes nor clears.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

from gcp_oncetask.effects import owed_alerts
from gcp_oncetask.recovery.digests import Digests
from gcp_oncetask.rules import attention, features
from gcp_oncetask.rules.record import DEFAULTS, STORED_NAMES, Lock
from gcp_oncetask.store import lock_codec, readers, snapshot

NEW = ("needs", "ready_at", "attention", "fingerprint")
"""Attributes that it does not know."""


def replacements() -> tuple[tuple[Any, str, Any], ...]:
    """
    What of the library is otherwise in that process: module, name and value.
    """
    known = {name: DEFAULTS[name] for name in NEW}
    encode = lock_codec.encode_lock

    def encode_lock(target: Any, lock: Lock, before: Lock | None = None) -> Any:
        return encode(target, lock.but(**known), None if before is None else before.but(**known))

    def one_owed(entry: Any) -> Any:
        return replace(one_owed_of(entry), digest=None)

    def attend(self: Digests, seen: Any, ids: Any) -> int:
        return owed_alerts.take_and_send(
            self._runtime, seen, {owed.id: owed.digest for owed in seen.lock.owed if owed.id in ids}
        )

    one_owed_of = readers._one_owed
    fields = {
        stored: read for stored, read in lock_codec._FIELDS.items() if stored not in {STORED_NAMES[n] for n in NEW}
    }
    return (
        (lock_codec, "_FIELDS", fields),
        (lock_codec, "encode_lock", encode_lock),
        (snapshot, "encode_lock", encode_lock),
        (attention, "ready", lambda lock, at: None),
        (attention, "look_by", lambda ready, when, at: when),
        (attention, "reason_of", lambda lock: None),
        (features, "unknown", lambda lock: ()),
        # Each alert is a mail.
        (readers, "_one_owed", one_owed),
        (owed_alerts, "send_owed", owed_alerts.send_each),
        (owed_alerts, "wait_of", lambda *args: None),
        (owed_alerts, "alert_of", owed_alerts._alert_of),
        (Digests, "attend", attend),
    )


@contextmanager
def released() -> Iterator[None]:
    """
    Be that process meanwhile.
    """
    with ExitStack() as stack:
        for module, name, value in replacements():
            stack.enter_context(mock.patch.object(module, name, value))
        yield
