"""
Waiting for a lock with a listener of Google's client.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from google.cloud.firestore_v1.watch import Watch

from gcp_oncetask.store.listen import listening
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
        stream._reopen()
        assert stream.call.is_active()
        streams.append(stream)

    monkeypatch.setattr(Watch, "unsubscribe", unsubscribe)
    with listening(store, "onceLocks/a", threading.Event()) as started:
        assert started
    [stream] = streams
    assert not stream.call.is_active()
    assert not stream._should_recover(ConnectionError())
