"""
TailLogEntries: new entries as they come, held back a while so that late ones find their place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from gcp_emulator.clock import Clock, VirtualClock
from gcp_emulator.logging import messages
from gcp_emulator.logging.lexer import FilterError
from gcp_emulator.logging.matching import Matches, compiled
from gcp_emulator.logging.store import Store, Stored
from gcp_emulator.rpc import Mouth, RpcError

WINDOW, MOST_WINDOW = 2_000_000, 60_000_000
"""
Microseconds.
"""
_TOGETHER = 100


@dataclass(frozen=True, slots=True)
class _Wish:
    parents: frozenset[str]
    matches: Matches
    window: int


class TailTalk:
    """
    One TailLogEntries call through a port. A later request takes the place of the earlier one.

    Args:
        store: Tells of new entries.
        clock: Measures the buffer window.
        parents: Checks resource names.
        mouth: The way to the caller.
    """

    def __init__(self, store: Store, clock: Clock, parents: Callable[[Any], list[str]], mouth: Mouth) -> None:
        self._store = store
        self._clock = clock
        self._parents = parents
        self._mouth = mouth
        self._wish: _Wish | None = None
        self._pending: list[tuple[int, Stored]] = []
        self._leave: Callable[[], None] = _nothing
        self._alarm: Callable[[], None] = _nothing

    def heard(self, request: Any) -> None:
        first = self._wish is None
        self._wish = self._read(request)
        if first:
            self._leave = self._store.observe(lambda one: self._mouth.soon(lambda: self._arrived(one)))

    def over(self) -> None:
        self._leave()
        self._alarm()

    def _read(self, request: Any) -> _Wish:
        window = messages.nanos(request.buffer_window) // 1000 if request.HasField("buffer_window") else WINDOW
        if not 0 <= window <= MOST_WINDOW:
            raise RpcError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"buffer_window is {window / 1_000_000:g} s; it may be from 0 to 60 s.",
            )
        parents = frozenset(self._parents(request.resource_names))
        try:
            return _Wish(parents, compiled(request.filter).matches, window)
        except FilterError as error:
            raise RpcError(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from None

    def _arrived(self, one: Stored) -> None:
        wish = self._wish
        assert wish is not None
        parent = one.entry.log_name.partition("/logs/")[0]
        if parent in wish.parents and wish.matches(one.entry):
            received = messages.nanos(one.entry.receive_timestamp) // 1000
            self._pending.append((max(one.visible, received + wish.window), one))
            self._send()

    def _send(self) -> None:
        """
        Send the entries that are due, by their timestamps, and come again for the others.
        """
        now = self._clock.micros()
        due = sorted(one for until, one in self._pending if until <= now)
        self._pending = [each for each in self._pending if each[0] > now]
        for begin in range(0, len(due), _TOGETHER):
            entries = [one.entry for one in due[begin : begin + _TOGETHER]]
            self._mouth.say([messages.TailLogEntriesResponse(entries=entries)])
        self._alarm()
        self._alarm = self._at(min(until for until, _ in self._pending)) if self._pending else _nothing

    def _at(self, until: int) -> Callable[[], None]:
        import asyncio

        def again() -> None:
            self._mouth.soon(self._send)

        if isinstance(self._clock, VirtualClock):
            return self._clock.alarm(until, again)
        left = max(0.0, (until - self._clock.micros()) / 1_000_000)
        return asyncio.get_running_loop().call_later(left, again).cancel


def _nothing() -> None:
    pass
