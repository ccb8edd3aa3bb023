"""
``oncetask_cloud.check``: plays a scenario again and again, each time with one fault at another place, and compares the ends.
"""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from gcp_emulator.faults import Fault, Faults
from gcp_emulator.run.logs import RunLogs
from gcp_oncetask.entities.chains import runtime_of
from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.testing import scheduled
from gcp_oncetask.testing.cloud import OncetaskCloud, StandardOutput
from gcp_oncetask.testing.watching_plays import Died, PlayWatch, RunCall, Strike

_STEPS: Final = (*[120] * 10, *[1_800] * 4, *[21_600] * 8)
"""Seconds between two looks at the tasks; then a day each."""
_DAY: Final = 86_400
_AFTER: Final = 2_000
"""Seconds after which a frozen handler has surely lost its lease."""
_ENDED: Final = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.QUARANTINED})
_CALL_SORTS: Final = ("before", "after", "takeover")


def check(start: Callable[[OncetaskCloud], object], effects: Sequence[Any], days: int) -> None:
    """
    See ``OncetaskCloud.check``.
    """
    values: dict[tuple[str, str], Any] = {}
    first = Play(start, PlayWatch(None, effects, values), days)
    first.run()
    _judge(None, first, first)
    for strike in _strikes(first.watch):
        play = Play(start, PlayWatch(strike, effects, values), days)
        play.run()
        _judge(strike, play, first)


def _strikes(watch: PlayWatch) -> Iterator[Strike]:
    for number in range(1, len(watch.calls) + 1):
        for sort in _CALL_SORTS:
            yield Strike(sort, number)
    for number in range(1, len(watch.remote) + 1):
        yield Strike("remote", number)
    for number in range(1, watch.deliveries + 1):
        yield Strike("duplicate", number)


class Play:
    """
    One play on a cloud of its own.

    Attributes:
        watch: The calls and the mistakes in it.
        ends: Status and result of each task, by document.
        asking: Documents that wait for a person's answer about a run that was begun once.
    """

    def __init__(self, start: Callable[[OncetaskCloud], object], watch: PlayWatch, days: int) -> None:
        self.watch = watch
        self.ends: dict[str, tuple[str, Any]] = {}
        self.asking: set[str] = set()
        self._start, self._days = start, days

    def run(self) -> None:
        """
        Play the scenario until its tasks have ended, or until the days are over.
        """
        cloud = PlayCloud(self.watch)
        before = sys.getprofile()
        if self.watch.strike is None:
            sys.setprofile(self.watch.profile)
        try:
            self._start(cloud)
            cloud.run_until_idle()
            for seconds in (*_STEPS, *[_DAY] * self._days):
                if all(lock.status in _ENDED for lock in cloud.locks().values()):
                    break
                cloud.advance(seconds=seconds)
                cloud.sweep()
                cloud.run_until_idle()
        finally:
            sys.setprofile(before)
            locks = cloud.locks()
            cloud.stop()
        for path, lock in locks.items():
            self.ends[path] = str(lock.status), lock.result
            if lock.status is Status.QUARANTINED and lock.open:
                self.asking.add(path)


class PlayCloud(OncetaskCloud):
    """
    The cloud of one play.
    """

    def __init__(self, watch: PlayWatch) -> None:
        super().__init__()
        self._watch = watch
        watch.take_over = self._take_over
        for service in (self.local.firestore.service, self.local.tasks.service):
            service.faults = _CountedFaults(watch)

    def use(self, locker: Locker) -> None:
        super().use(locker)
        runtime = runtime_of(locker)
        runtime.watch = self._watch
        runtime.clock.__dict__["nonce"] = _Nonces()
        runtime.trail_to(_MortalStream(self._logs, self._watch))

    def mount(self, url: str, app: Any) -> None:
        super().mount(url, _MortalApp(app, self._watch))

    def locks(self) -> dict[str, Lock]:
        """
        Return the records of all tasks and entities.
        """
        documents: dict[str, Any] = {}
        for locker, _, _ in self._used:
            documents |= self.local.firestore.documents(self.local.project, locker.config.database)
        return {found.path: found.lock for found in scheduled.found(documents)}

    def _take_over(self) -> None:
        delivering, self._watch.delivering = self._watch.delivering, False
        self.clock.advance(_AFTER)
        self.sweep()
        self.run_until_idle()
        self._watch.delivering = delivering


class _MortalStream(StandardOutput):
    """
    Standard output of a process that may have died.
    """

    def __init__(self, logs: RunLogs, watch: PlayWatch) -> None:
        super().__init__(logs)
        self._watch = watch

    def write(self, text: str) -> int:
        return 0 if self._watch.dead else super().write(text)


class _Nonces:
    """
    Nonces that are the same in each play, so that keys are the same.
    """

    def __init__(self) -> None:
        self._number = 0

    def __call__(self) -> str:
        self._number += 1
        return hashlib.sha256(str(self._number).encode()).hexdigest()[:24]


class _CountedFaults(Faults):
    """
    Faults that tell each remote call.
    """

    __slots__ = ("_watch",)

    def __init__(self, watch: PlayWatch) -> None:
        super().__init__()
        self._watch = watch

    def take(self, method: str) -> Fault | None:
        self._watch.remote_call(method)
        return super().take(method)


class _MortalApp:
    """
    A WSGI app whose process may die, and whose deliveries may come twice.
    """

    def __init__(self, app: Any, watch: PlayWatch) -> None:
        self._app, self._watch = app, watch

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        watch = self._watch
        watch.deliveries += 1
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        again = watch.strike == Strike("duplicate", watch.deliveries)
        answer = self._once(environ, body)
        if again:
            watch.strike = None
            self._once(environ, body)
        start_response(*answer[0])
        return answer[1]

    def _once(self, environ: dict[str, Any], body: bytes) -> Any:
        watch, said = self._watch, []
        outer, watch.delivering = watch.delivering, True
        try:
            parts = list(self._app({**environ, "wsgi.input": io.BytesIO(body)}, lambda *args: said.append(args[:2])))
        except Died:
            parts = []
        finally:
            died, watch.dead, watch.delivering = watch.dead, False, outer
        if died:
            return ("503 Service Unavailable", []), [b"The process has died."]
        return said[-1], parts


# --- judging ----------------------------------------------------------------------------------------------------------


def _judge(strike: Strike | None, play: Play, first: Play) -> None:
    """
    Raise if the play shows a mistake, or differs from the first one.
    """
    watch = play.watch
    different = [*watch.mistakes, *_differences(play, first)]
    if not different:
        return
    causes = dict.fromkeys((*first.watch.causes, *watch.causes))
    lines = ["check: the handler does not stand the story below.", f"Story: {_story(strike, first.watch)}"]
    lines += [f"Found: {each}" for each in different[:3]]
    lines += [f"Cause, perhaps: {each}" for each in causes if each not in different]
    raise AssertionError("\n".join(lines))


def _story(strike: Strike | None, watch: PlayWatch) -> str:
    if strike is None:
        return "nothing is disturbed."
    match strike.sort:
        case "remote":
            method = watch.remote[strike.number - 1]
            return f"the process dies before remote call {strike.number} ({method}); the task is delivered again."
        case "duplicate":
            return f"delivery {strike.number} comes twice."
        case "takeover":
            name = watch.calls[strike.number - 1].name
            return f"the process stands still after it has called {name!r}; another one takes the task over, then it goes on."
    return f"the process dies {strike.sort} the call of {watch.calls[strike.number - 1].name!r}; the task is delivered again."


def _differences(play: Play, first: Play) -> Iterator[str]:
    watch = play.watch
    yield from _calls(watch)
    for path, (status, result) in first.ends.items():
        if path in play.asking:
            continue
        now = play.ends.get(path, ("missing", None))
        if now[0] != status:
            yield f"{path} is {now[0]} in the end; undisturbed it is {status}."
        elif now[1] != result:
            yield f"{path} has the result {now[1]!r:.200}; undisturbed it has {result!r:.200}."
    for path, name in watch.kept.keys() ^ first.watch.kept.keys():
        if path in play.asking:
            continue
        which = "only in this story" if (path, name) in watch.kept else "only in the undisturbed play"
        line = watch.lines.get(name) or first.watch.lines.get(name)
        yield f"{line}: the name {name!r} is said {which}; names and their order must not come from what changes."
    for key in watch.kept.keys() & first.watch.kept.keys():
        if key[0] not in play.asking and watch.kept[key] != first.watch.kept[key]:
            number = sum(call.name == key[1] for call in watch.calls)
            yield (
                f"{watch.lines.get(key[1])}: {key[1]!r} has the answer {watch.kept[key][1]!r:.200}; undisturbed "
                f"{first.watch.kept[key][1]!r:.200}. Its function was called {number} times."
            )


def _calls(watch: PlayWatch) -> Iterator[str]:
    seen: dict[tuple[str, str], RunCall] = {}
    for call in watch.calls:
        before = seen.setdefault((call.path, call.name), call)
        if before.arguments != call.arguments:
            yield (
                f"{watch.lines.get(call.name)}: the run {call.name!r} is called with {before.arguments:.200}, and then with "
                f"{call.arguments:.200}."
            )
    for call in dict.fromkeys(call for call in watch.done if call.once):
        if sum(each[:2] == call[:2] for each in watch.done) > 1:
            yield f"{watch.lines.get(call.name)}: the run {call.name!r} has once=True, and was called more than once."
