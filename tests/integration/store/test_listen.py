"""
Waiting for a lock with a listener of Google's client, and the listener of workers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import grpc
import pytest
from google.cloud.firestore_v1.watch import Watch

from gcp_oncetask.store.failures import WireError
from gcp_oncetask.store.listen import listening
from gcp_oncetask.store.queries import range_query
from gcp_oncetask.tasks import TaskManager


def test_stream_that_is_opened_again_while_its_watch_ends_is_ended(
    make_manager: Callable[..., TaskManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The stream breaks as the wait ends: another thread of the client is opening it again, after the old one was cancelled.
    """
    store = make_manager().locker._runtime.store
    real, streams = Watch.unsubscribe, []

    def unsubscribe(watch: Watch) -> None:
        stream = watch._rpc
        real(watch)
        # The mark of the end, if the old stream has not taken it yet, would end the new one at once.
        while not stream._request_queue.empty():
            stream._request_queue.get()
        stream._reopen()
        assert stream.call.is_active()
        streams.append(stream)

    monkeypatch.setattr(Watch, "unsubscribe", unsubscribe)
    with listening(store, "onceLocks/a", threading.Event()) as started:
        assert started
    [stream] = streams
    assert not stream.call.is_active()
    assert not stream._should_recover(ConnectionError())


def test_listener_is_told_of_changes_until_it_is_closed(make_manager: Callable[..., TaskManager]) -> None:
    wire = make_manager().locker._runtime.store.wire

    def note(name: str) -> None:
        wire.client.document(f"notes/{name}").set({"text": name})

    note("one")
    changes, close = wire.listen([range_query(each, False, "text", "a", "z", 0) for each in ("others", "notes")])
    seen = []
    while not {-1, -2} <= {place for place, _, _ in seen}:
        seen.append(next(changes))
    assert [(place, wire.path(name)) for place, name, found in seen if found is not None] == [(1, "notes/one")]
    note("two")
    while (told := next(changes))[0] < 0:
        pass
    assert (told[0], wire.path(told[1])) == (1, "notes/two")
    close()
    with pytest.raises(WireError) as raised:
        list(changes)
    assert raised.value.code is grpc.StatusCode.CANCELLED
