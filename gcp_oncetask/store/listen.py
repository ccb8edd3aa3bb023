"""
Listen for the change of a lock, to shorten a wait. No result depends on the listener.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from gcp_oncetask.clock import Wakeup
from gcp_oncetask.rules.record import Status
from gcp_oncetask.store.store import Store

_LOGGER: Final = logging.getLogger("gcp_oncetask")


@contextmanager
def listening(store: Store, path: str, wake: Wakeup) -> Iterator[bool]:
    """
    Set *wake* whenever the lock of the document at *path* is seen to be free, while the block runs.

    It costs a stream, and a read for each change of the document. If no listener can be opened (the channel has none, or
    the permission is refused), *wake* is not set and no error is raised.

    Yields:
        True if a listener was started.
    """

    def told(documents: Any, *_: Any) -> None:
        if not any(each.exists and _status(each) == Status.LEASED for each in documents):
            wake.set()

    watch: Any = None
    try:
        watch = store.wire.client.document(path).on_snapshot(told)
    except Exception as error:  # noqa: BLE001 - any error is tolerated; polling goes on
        _LOGGER.debug("no listener on %s: %s", path, error)
    try:
        yield watch is not None
    finally:
        if watch is not None:
            _end(watch)


def _end(watch: Any) -> None:
    """
    End *watch*. If its stream breaks at this very moment, another thread of Google's client may be opening it again. Without an
    end of the new stream the client would open it again for ever.
    """
    stream = getattr(watch, "_rpc", None)
    watch.unsubscribe()
    if stream is None:
        return
    stream._should_recover = lambda _: False  # noqa: SLF001 - there is no public way
    with stream._operational_lock:  # noqa: SLF001 - so that no other thread is opening it
        if stream.call is not None:
            stream.call.cancel()


def _status(document: Any) -> Any:
    lock = document.to_dict().get("lock")
    return lock.get("status") if isinstance(lock, dict) else None
