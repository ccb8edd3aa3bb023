"""
``on_snapshot`` of the ordinary client, on both servers.
"""

from __future__ import annotations

import threading
from typing import Any

import pytest
from google.api_core.exceptions import MethodNotImplemented
from google.cloud.firestore import FieldFilter

from gcp_emulator.channel import InProcessChannel, firestore_client
from gcp_emulator.firestore import FirestoreServer


class Seen:
    """
    What a listener was told, as (kind of change, id), waited for.
    """

    def __init__(self) -> None:
        self.changes: list[tuple[str, str]] = []
        self.snapshots: list[list[str]] = []
        self._told = threading.Condition()

    def __call__(self, documents: Any, changes: Any, _: Any) -> None:
        with self._told:
            self.snapshots.append([each.id for each in documents if each.exists])
            self.changes += [(change.type.name, change.document.id) for change in changes]
            self._told.notify_all()

    def until(self, *changes: tuple[str, str]) -> None:
        """Wait until exactly these changes were told."""
        with self._told:
            assert self._told.wait_for(lambda: len(self.changes) >= len(changes), 10), self.changes
            assert self.changes == list(changes)

    def first(self) -> None:
        """Wait for the first snapshot."""
        with self._told:
            assert self._told.wait_for(lambda: bool(self.snapshots), 10)


@pytest.fixture
def seen() -> Seen:
    return Seen()


def test_query_tells_what_is_added_modified_and_removed(firestore_client, seen):
    """A document that no longer matches is removed, as is one that is deleted; others are not told."""
    things = firestore_client.collection("things")
    things.document("a").set({"n": 1})
    things.document("small").set({"n": 0})
    watch = things.where(filter=FieldFilter("n", ">", 0)).order_by("n").on_snapshot(seen)
    try:
        seen.until(("ADDED", "a"))
        told = [("ADDED", "a")]
        for write, change in (
            (lambda: things.document("b").set({"n": 2}), ("ADDED", "b")),
            (lambda: things.document("a").update({"n": 3}), ("MODIFIED", "a")),
            (lambda: things.document("b").update({"n": 0}), ("REMOVED", "b")),
            (lambda: things.document("a").delete(), ("REMOVED", "a")),
        ):
            firestore_client.document("other/x").set({"n": 5})
            write()
            told.append(change)
            seen.until(*told)
        assert seen.snapshots[-1] == []
    finally:
        watch.unsubscribe()


def test_document_is_watched_from_before_it_exists(firestore_client, seen):
    """Missing first, then there, changed, gone."""
    reference = firestore_client.document("things/a")
    watch = reference.on_snapshot(seen)
    try:
        seen.first()
        reference.set({"n": 1})
        seen.until(("ADDED", "a"))
        reference.update({"n": 2})
        seen.until(("ADDED", "a"), ("MODIFIED", "a"))
        reference.delete()
        seen.until(("ADDED", "a"), ("MODIFIED", "a"), ("REMOVED", "a"))
    finally:
        watch.unsubscribe()


def test_several_listeners_hear_of_one_write(firestore_client):
    """Each by itself; one that has left hears nothing more."""
    heard = [Seen() for _ in range(3)]
    watches = [firestore_client.collection("things").on_snapshot(each) for each in heard]
    try:
        for each in heard:
            each.first()
        firestore_client.document("things/a").set({"n": 1})
        for each in heard:
            each.until(("ADDED", "a"))
        watches.pop().unsubscribe()
        firestore_client.document("things/b").set({"n": 1})
        for each in heard[:2]:
            each.until(("ADDED", "a"), ("ADDED", "b"))
        assert heard[2].changes == [("ADDED", "a")]
    finally:
        for watch in watches:
            watch.unsubscribe()


def test_in_process_it_is_refused():
    """Without a port there is nobody to call back."""
    channel = InProcessChannel([FirestoreServer().service])
    client = firestore_client(channel, "p")
    with pytest.raises(MethodNotImplemented, match="needs a port"):
        list(client._firestore_api.listen(iter([]), metadata=()))
