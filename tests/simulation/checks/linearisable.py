"""
Linearisability of the calls on one named lock: there is one order of them, true to real time, that a lock used by one caller
after the other would have answered in the same way.

The search is that of Wing and Gong, with a memory of what was tried. Calls of unknown fate may have had their effect, or not.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

LATEST = 1_000 * 1_000_000
"""Micros after which no commit of a call of unknown fate is applied any more."""


class Kind(Enum):
    """
    The calls.
    """

    ACQUIRE = auto()
    REFRESH = auto()
    RELEASE = auto()
    READ = auto()
    DELETE = auto()
    """A person or TTL has deleted the document; this takes no time."""


class Result(Enum):
    """
    What the caller was told.
    """

    DONE = auto()
    """It was granted, refreshed or released; a read has shown it held."""
    REFUSED = auto()
    """The acquire was refused, the holding is lost; a read has shown it free."""
    UNKNOWN = auto()
    """An error, or nothing: the process has died."""


@dataclass(eq=False)
class LockCall:
    """
    One call.

    Attributes:
        kind: Its kind.
        invoked: When it began, micros.
        lease: Length of the lease in micros; infinity: it has no end, or is renewed in the background.
        least: Length of the lease if no renewal in the background is applied.
        token: Token of the holding; of an acquire, the one that was granted.
        returned: When it returned, micros; infinity: it never did.
        result: What the caller was told.
        erased: Whether the document was deleted between its beginning and its end.
    """

    kind: Kind
    invoked: int
    lease: float = math.inf
    least: float = math.inf
    token: int = 0
    returned: float = math.inf
    result: Result = Result.UNKNOWN
    erased: bool = False

    def __str__(self) -> str:
        end = "never" if self.returned == math.inf else f"{self.returned / 1e6:.3f}"
        kind, result = self.kind.name.lower(), self.result.name.lower()
        return f"{kind} of token {self.token} from {self.invoked / 1e6:.3f} to {end}: {result}"


class _Lock(NamedTuple):
    """
    The lock of the specification.

    Attributes:
        token: The last token that is known to have been granted.
        held: Whether it is held.
        first: Earliest instant at which its lease may have ended.
        last: Latest such instant.
        now: Earliest instant of the next call.
    """

    token: int = 0
    held: bool = False
    first: float = 0.0
    last: float = 0.0
    now: float = 0.0


def linearisable(calls: Sequence[LockCall]) -> bool:
    """
    Tell whether *calls* of one lock have an order that a lock would have answered so.
    """
    doubt = min((call.invoked for call in calls if _is_doubtful(call)), default=math.inf)
    calls = sorted(_certain(calls), key=lambda call: call.invoked)
    surely = sum(1 << at for at, call in enumerate(calls) if call.result is not Result.UNKNOWN)
    seen: set[tuple[int, _Lock]] = set()
    stack = [(0, _Lock())]
    while stack:
        done, lock = stack.pop()
        if done & surely == surely:
            return True
        if (done, lock) in seen:
            continue
        seen.add((done, lock))
        stack.extend((done | 1 << at, after) for at, after in _next(calls, done, lock, doubt))
    return False


def _is_doubtful(call: LockCall) -> bool:
    return call.kind is Kind.ACQUIRE and call.result is Result.UNKNOWN


def _certain(calls: Sequence[LockCall]) -> Iterator[LockCall]:
    """
    Leave out calls whose answer proves nothing: an acquire may be refused for contention at any time, and a failed read says
    nothing. Leave out acquires of unknown fate, too, and reads that may have shown the holder that one of them had made: there
    are too many orders of these, and a lock that is held too long shows in the other calls.
    """
    unknown = [call for call in calls if _is_doubtful(call)]
    for call in calls:
        if (call.kind, call.result) in ((Kind.ACQUIRE, Result.REFUSED), (Kind.READ, Result.UNKNOWN)):
            continue
        seen = call.kind is Kind.READ and call.result is Result.DONE
        if call in unknown or (
            seen and any(c.invoked <= call.returned <= c.invoked + LATEST + c.lease for c in unknown)
        ):
            continue
        yield call


def _next(calls: Sequence[LockCall], done: int, lock: _Lock, doubt: float) -> Iterator[tuple[int, _Lock]]:
    left = [(at, call) for at, call in enumerate(calls) if not done >> at & 1]
    # No call comes after one that began when it had returned already.
    limit = min((call.returned for _, call in left if call.result is not Result.UNKNOWN), default=math.inf)
    for at, call in reversed(left):
        if call.invoked <= limit:
            yield from ((at, after) for after in _answered(lock, call, doubt))


def _answered(lock: _Lock, call: LockCall, doubt: float) -> Iterator[_Lock]:
    """
    The lock after *call*, if it would have answered so; nothing if not. From *doubt* on an acquire of unknown fate may have
    taken over a lease that was over.
    """
    now = max(lock.now, call.invoked)
    ours = lock.held and lock.token == call.token
    match call.kind, call.result:
        case Kind.DELETE, _:
            yield lock._replace(held=False, now=now)
        case Kind.ACQUIRE, Result.DONE:
            now = max(now, lock.first) if lock.held else now
            if now <= call.returned and call.token > lock.token:
                yield _Lock(call.token, True, now + call.least, call.returned + call.lease, now)
        case Kind.REFRESH, Result.DONE:
            if ours:
                yield lock._replace(first=now + call.least, last=max(lock.last, call.returned + call.lease), now=now)
        case Kind.RELEASE, Result.DONE:
            if ours:
                yield lock._replace(held=False, now=now)
        case ((Kind.REFRESH | Kind.RELEASE), Result.REFUSED):
            if not ours:
                yield lock._replace(now=now)
            elif call.kind is Kind.RELEASE and call.erased:
                # It was released by the first try, whose answer was lost, and the document is gone since.
                yield lock._replace(held=False, now=now)
            elif call.returned >= lock.first and (call.kind is Kind.RELEASE or call.returned >= doubt):
                # It was released by the first try, whose answer was lost. Once its lease may have ended and others have had
                # the lock, the record does not show that any more.
                yield lock._replace(held=False, now=now)
        case Kind.RELEASE, Result.UNKNOWN:
            if ours:
                yield lock._replace(held=False, now=now)
        case Kind.REFRESH, Result.UNKNOWN:
            if ours:
                yield lock._replace(last=math.inf, now=now)
        case Kind.READ, Result.DONE:
            if lock.held and now < lock.last:
                yield lock._replace(now=now)
        case Kind.READ, Result.REFUSED:
            now = max(now, lock.first) if lock.held else now
            if now <= call.returned:
                yield lock._replace(now=now)


class _Grant(NamedTuple):
    """
    A grant that was applied.

    Attributes:
        at: When, micros.
        token: Its token.
        ended: Token of the same holder that it has ended, because the create came late; 0: none.
    """

    at: int
    token: int
    ended: int


@dataclass
class LockCalls:
    """
    The recorded calls of all locks of one history.

    Attributes:
        now: The time, micros.
        of: The calls of each document.
        grants: What was granted to each nonce on a document.
        renewals: When the lease of each token of a document was refreshed.
    """

    now: Callable[[], int]
    of: dict[str, list[LockCall]] = field(default_factory=lambda: defaultdict(list))
    grants: dict[tuple[str, str], list[_Grant]] = field(default_factory=lambda: defaultdict(list))
    renewals: dict[tuple[str, int], list[int]] = field(default_factory=lambda: defaultdict(list))

    def begin(self, path: str, kind: Kind, **known: float) -> LockCall:
        """
        Note that a call begins.
        """
        call = LockCall(kind, self.now(), **known)  # type: ignore[arg-type]
        self.of[path].append(call)
        return call

    def end(self, call: LockCall, result: Result, token: int | None = None) -> None:
        """
        Note what its caller was told.
        """
        call.returned, call.result = self.now(), result
        call.token = call.token if token is None else token

    def granted(self, path: str, holder: str, token: int, ended: int = 0) -> None:
        """
        Note that a grant to the nonce *holder* was applied, which has *ended* its token of before.
        """
        self.grants[path, holder].append(_Grant(self.now(), token, ended))

    def renewed(self, path: str, token: int) -> None:
        """
        Note that a refresh was applied.
        """
        self.renewals[path, token].append(self.now())

    def acquired(self, path: str, call: LockCall, token: int, holder: str) -> None:
        """
        Note that the acquire of the nonce *holder* was granted *token*. It may have been granted other tokens before, and have
        lost them before it knew of them: each was a holding of its own.
        """
        self.end(call, Result.DONE, token)
        missed: set[int] = set()
        for grant in self.grants[path, holder]:
            if grant.ended in missed:
                self.of[path].append(_instant(call, Kind.RELEASE, grant.at, grant.ended))
            if grant.token != token:
                missed.add(grant.token)
                held = _instant(call, Kind.ACQUIRE, grant.at, grant.token)
                # It may have been refreshed until the answer came.
                held.lease += call.returned - grant.at
                self.of[path].append(held)

    def lost(self, path: str, call: LockCall) -> None:
        """
        Note that the holder was told by its refresh that its lease is lost. An earlier try of the same call may have refreshed
        the lease all the same.
        """
        self.end(call, Result.REFUSED)
        for at in self.renewed_during(path, call):
            self.of[path].append(_instant(call, Kind.REFRESH, at, call.token))

    def renewed_during(self, path: str, call: LockCall) -> list[int]:
        """
        When the lease was refreshed since *call* began.
        """
        return [at for at in self.renewals[path, call.token] if at >= call.invoked]

    def deleted(self, path: str) -> None:
        """
        Note that the document was deleted.
        """
        for call in self.of[path]:
            call.erased |= call.returned == math.inf
        self.end(self.begin(path, Kind.DELETE), Result.DONE)

    def wrong(self) -> Iterator[tuple[str, LockCall]]:
        """
        Yield each document whose calls have no order, and the first call after which there is none.
        """
        for path, calls in self.of.items():
            if linearisable(calls):
                continue
            until = sorted(call.returned for call in calls if call.result is not Result.UNKNOWN)
            for end in until:
                known = [call if call.returned <= end else _open(call) for call in calls if call.invoked <= end]
                if not linearisable(known):
                    last = next(call for call in known if call.returned == end)
                    yield path, last
                    break


def _instant(call: LockCall, kind: Kind, at: int, token: int) -> LockCall:
    """
    What a try of *call* did at one instant.
    """
    return LockCall(kind, at, call.lease, call.least, token, at, Result.DONE)


def _open(call: LockCall) -> LockCall:
    return LockCall(call.kind, call.invoked, call.lease, call.least, call.token)
