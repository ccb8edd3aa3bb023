"""
Being told of a change instead of asking for it: an aid to those who wait, on which nothing depends.
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
    While the block runs, set *wake* whenever the lock of the document at *path* is seen not to be held.

    Costs a stream, and a read for each change of the document. Where there is none to be had (no listener on this channel, a
    refused permission), nothing is told and nothing fails.

    Yields:
        Whether a listener was started.
    """

    def told(documents: Any, *_: Any) -> None:
        if not any(each.exists and _status(each) == Status.LEASED for each in documents):
            wake.set()

    watch: Any = None
    try:
        watch = store.wire.client.document(path).on_snapshot(told)
    except Exception as error:  # noqa: BLE001 - whatever stands in the way, polling goes on
        _LOGGER.debug("no listener on %s: %s", path, error)
    try:
        yield watch is not None
    finally:
        if watch is not None:
            watch.unsubscribe()


def _status(document: Any) -> Any:
    lock = document.to_dict().get("lock")
    return lock.get("status") if isinstance(lock, dict) else None
