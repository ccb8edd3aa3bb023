"""
Listeners: when a wait for a lock is woken, how the end of a listener ends its stream, and what a listener asks for.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from gcp_oncetask.clock import Wakeup
from gcp_oncetask.store.listen import listening
from gcp_oncetask.store.queries import range_query
from tests.support.base import Base
from tests.support.patience import patient


class Watched:
    """
    A store with one document, to which one listener listens.

    Attributes:
        told: The function that the listener is told by.
        ended: Whether the listener was ended.
    """

    def __init__(self, stream: Any = None) -> None:
        self.told: Any = None
        self.ended = False
        if stream is not None:
            self._rpc = stream
        self.wire = SimpleNamespace(client=SimpleNamespace(document=lambda path: self))

    def on_snapshot(self, told: Any) -> Watched:
        self.told = told
        return self

    def unsubscribe(self) -> None:
        self.ended = True


def document(fields: dict[str, Any] | None) -> Any:
    return SimpleNamespace(exists=fields is not None, to_dict=lambda: fields)


@pytest.mark.parametrize(
    ("fields", "wakes"),
    [
        ({"lock": {"status": "leased"}}, False),
        ({"lock": {"status": "completed"}}, True),
        ({"lock": {}}, True),
        ({"lock": "leased"}, True),
        ({"other": {"status": "leased"}}, True),
        (None, True),
    ],
)
def test_wait_is_woken_once_the_lock_is_free(fields: dict[str, Any] | None, wakes: bool) -> None:
    watched, wake = Watched(), Wakeup()
    with listening(watched, "onceLocks/a", wake) as started:  # type: ignore[arg-type]
        assert started
        watched.told([document(fields)], None, None)
        assert wake.is_set() is wakes
    assert watched.ended


def test_end_of_a_listener_ends_its_stream_for_good() -> None:
    """
    Another thread of Google's client would open it again.
    """
    cancelled: list[bool] = []
    stream = SimpleNamespace(
        call=SimpleNamespace(cancel=lambda: cancelled.append(True)),
        _should_recover=lambda _: True,
        _operational_lock=threading.RLock(),
    )
    with listening(Watched(stream), "onceLocks/a", Wakeup()):  # type: ignore[arg-type]
        pass
    assert cancelled == [True]
    assert not stream._should_recover(ConnectionError())
    stream.call = None
    with listening(Watched(stream), "onceLocks/a", Wakeup()):  # type: ignore[arg-type]
        pass


class Stream:
    """
    An open stream without answers.
    """

    def __init__(self) -> None:
        self.cancelled = False

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def cancel(self) -> None:
        self.cancelled = True


def test_listener_asks_for_its_queries_until_it_is_closed() -> None:
    base, stream, asked = Base(), Stream(), list[Any]()
    calls = base.wire._open()

    def listen(requests: Iterator[Any], *, metadata: Any = None) -> Stream:
        asked.extend((requests, metadata))
        return stream

    base.wire._calls = replace(calls, listen=listen)
    wanted = [range_query(name, False, "text", "a", "z", 0) for name in ("notes", "others")]
    changes, close = base.wire.listen(wanted)
    requests, metadata = asked
    assert metadata == calls.metadata
    made = [next(requests) for _ in wanted]
    assert [each.database for each in made] == [calls.database] * 2
    assert [each.add_target.target_id for each in made] == [1, 2]
    assert [each.add_target.query.parent for each in made] == [f"{calls.database}/documents"] * 2
    assert [each.add_target.query.structured_query for each in made] == wanted
    more: list[Any] = []
    sender = threading.Thread(target=lambda: more.extend(requests), daemon=True)
    sender.start()
    close()
    sender.join(patient(5))
    assert not sender.is_alive()
    assert (more, stream.cancelled, list(changes)) == ([], True, [])
    base.cloud.close()
