"""
Named locks: one holder at a time for a name, among all processes and machines.

Shape:
    reads and writes onceLocks/{2 hex}:{env}:lock:{name}: ``lock`` (the record of every document), ``name``, ``env``,
    ``schema``, and ``expireAt``, by which a TTL policy deletes unused locks.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from types import TracebackType
from typing import Final, Self

from gcp_oncetask import forks
from gcp_oncetask.checks import values
from gcp_oncetask.checks.paths import trouble_with_path
from gcp_oncetask.clock import Duration, Mark, Wakeup, elapsed
from gcp_oncetask.errors import ContentionError, LeaseLostError, LockBusyError, OncetaskError, StoreError, UsageError
from gcp_oncetask.execution.renewal import Renewals
from gcp_oncetask.locks.arguments import document_id, readable
from gcp_oncetask.locks.holding import Holding, checked_lease, claim, expiring
from gcp_oncetask.observe.log_context import LOGGER
from gcp_oncetask.rules import expires_at, named
from gcp_oncetask.rules.decisions import CallRefused, Claimant, DecisionContext, Fence, Lost, NeedTime, Policy, Put
from gcp_oncetask.rules.document_paths import LOCKS
from gcp_oncetask.rules.record import SCHEMA, Lock, Status
from gcp_oncetask.rules.refusals import Refusal
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.codec import encode
from gcp_oncetask.store.listen import listening
from gcp_oncetask.store.snapshot import Changes, Snapshot

_RETENTION: Final = timedelta(days=7).total_seconds()
"""Seconds; a lock that was not used for so long may be deleted by TTL."""
_TRUSTED: Final = 3600.0
"""
Seconds for which the document is taken to be as this object left it. Later it is read first, because the machine may have
slept.
"""
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 5.0
_LONGEST_WITH_LISTENER: Final = 30.0
_LISTEN_AFTER: Final = 3
"""Refusals after which a listener is opened."""


class NamedLock:
    """
    One holder's access to the lock on a name; ``Locker.lock()`` makes it.

    One object is one holder: it is not reentrant, and threads that exclude each other take one each. It does not survive a
    fork: the parent goes on holding the lock, the child does not hold it.

    Guaranteed: no two objects hold the lock at once by the server's clock, and ``release`` and ``refresh`` never touch the
    lock of a later holder. A holder that was stopped until after the end of its lease may still act on it for a moment,
    before it checks. So send ``token`` with each write to another system, and refuse smaller tokens there.

    Args:
        runtime: Shared parts.
        renewals: Returns the object that renews leases in the background.
        name: Any text that is not empty.
        ttl: Seconds, or a timedelta, after which the lock may be taken over, counted by the server from the acquire or the
            last ``refresh``. None or 0: the lock is held until it is released, even if its holder dies.
        keep_alive: A ttl that is refreshed in the background for as long as the lock is held and this process lives.
        timeout: Seconds, or a timedelta, for which ``acquire`` and ``with`` wait; None: for ever.
        collection: Path of the collection of the lock's document.
        listen: Whether to shorten a long wait by a Firestore listener; False: only poll.

    Raises:
        UsageError: The name is no text, both ttl and keep_alive are given, or they are too short.
    """

    def __init__(
        self,
        runtime: Runtime,
        renewals: Callable[[], Renewals],
        name: str,
        *,
        ttl: Duration | None = None,
        keep_alive: Duration | None = None,
        timeout: Duration | None = None,
        collection: str = LOCKS,
        listen: bool = True,
    ) -> None:
        if ttl and keep_alive:
            raise UsageError("Give ttl= (it ends by itself) or keep_alive= (it is renewed while you live), not both.")
        values.name(name, "name")
        values.collection(collection, "collection")
        lease = named.UNLIMITED
        if ttl or keep_alive:
            lease = checked_lease(runtime, "ttl" if ttl else "keep_alive", ttl or keep_alive or 0.0)
        self.name: Final = name
        self.document: Final = f"{collection}/{document_id(runtime.config.env, 'lock', name)}"
        trouble = trouble_with_path(self.document)
        if trouble is not None:
            raise UsageError(
                f"collection={collection!r:.80} is not the path of a collection, as {LOCKS} or customers/7/locks is: {trouble}."
            )
        self._shown: Final = readable(name)
        self._runtime = runtime
        self._renewals = renewals
        self._policy = Policy(lease=lease, timeout=lease, run_limit=named.UNLIMITED)
        self._renews = bool(keep_alive)
        self._timeout = _waiting(timeout)
        self._listen = listen
        self._start()

    def _start(self) -> None:
        self._forks = forks.generation
        self._guard = threading.Lock()
        self._holding: Holding | None = None
        self._known: tuple[Snapshot, Mark] | None = None
        self._nonce: str | None = None
        self._unsure = False

    def _look(self) -> Holding | None:
        """
        Return the lease that this process holds, if any; the lease of a forked process's parent does not count.
        """
        if self._forks != forks.generation:
            self._start()
        return self._holding

    # --- known without a call to Firestore ---

    @property
    def held(self) -> bool:
        """
        True if this object may still rely on holding the lock, because it was acquired and not lost, and its lease has not run
        out.
        """
        return self.remaining() > 0

    def remaining(self) -> float:
        """
        Return the seconds for which this object may still rely on holding the lock, less the margin; ``inf`` without a ttl,
        0 if it is not held.
        """
        holding = self._look()
        return 0.0 if holding is None else max(0.0, holding.held_for())

    @property
    def token(self) -> int:
        """
        Fencing token of the present lease. Each later holder's token is greater, also if the document was deleted and
        created again.

        Raises:
            UsageError: This object has not acquired the lock.
        """
        return self._mine("has a token").context.token

    def _mine(self, what: str) -> Holding:
        holding = self._look()
        if holding is None:
            raise UsageError(
                f"The lock {self._shown!r} {what} only while this object, in this process, has acquired it."
            )
        return holding

    # --- acquire ---

    def acquire(self, blocking: bool = True, timeout: Duration | None = None) -> bool:
        """
        Take the lock; return True if it was granted.

        Each try while waiting costs one read. The pauses grow from 50 ms to 5 s, or to 30 s with a listener, which wakes
        the wait at once. Another try is made when the holder's lease ends.

        Args:
            blocking: False: try once, without waiting.
            timeout: Seconds, or a timedelta, to wait; None: as given to ``Locker.lock()``.

        Raises:
            UsageError: This object holds the lock, or another thread is acquiring it by this object.
            StoreError: Firestore was unreachable or refused. If ``unknown``, the lock may have been granted: call
                ``acquire`` again, which recognises it, or ``release``.
        """
        return self.take(0.0 if not blocking else timeout) is None

    def take(self, timeout: Duration | None = None) -> LockBusyError | None:
        """
        Take the lock as ``acquire`` does. If another holder has it, return the error instead of raising it. The error has
        ``name``, ``document`` and ``until``, the end of the holder's lease by the server's clock (None: it ends with the
        release).
        """
        holding = self._look()
        if holding is not None and not holding.lost.is_set():
            raise UsageError(f"The lock {self._shown!r} is not reentrant: this object has acquired it already.")
        if not self._guard.acquire(blocking=False):
            raise UsageError(f"Another thread is acquiring {self._shown!r} by this object; each holder takes its own.")
        try:
            self._drop()
            limit = self._timeout if timeout is None else _waiting(timeout)
            refused = self._wait(limit)
        finally:
            self._guard.release()
        if refused is None:
            return None
        return LockBusyError(
            f"The lock {self._shown!r} is busy: {refused.reason}; waited {limit:g} s.",
            document=self.document,
            name=self.name,
            until=refused.until,
        )

    def _wait(self, limit: float) -> CallRefused | None:
        runtime = self._runtime
        start = runtime.clock.mark()
        freed = Wakeup()
        longest, tries = _LONGEST_PAUSE, 0
        with ExitStack() as stack:
            while (refused := self._try()) is not None:
                left = limit - elapsed(start, runtime.clock.mark())
                if left <= 0:
                    return refused
                tries += 1
                if (
                    self._listen
                    and tries == _LISTEN_AFTER
                    and stack.enter_context(listening(runtime.store, self.document, freed))
                ):
                    longest = _LONGEST_WITH_LISTENER
                pause = min(_FIRST_PAUSE * 2 ** min(tries, 16), longest) * (0.5 + runtime.clock.random() / 2)
                if refused.until is not None:
                    # Try again as soon as the lease has ended by the server's clock.
                    pause = min(pause, max(0.0, (refused.until - runtime.store.estimate()).total_seconds()) + 0.01)
                runtime.clock.wait(freed, min(pause, left))
                freed.clear()
        return None

    def _try(self) -> CallRefused | None:
        """
        Try once to take the lock; return None if it was granted.
        """
        runtime = self._runtime
        nonce = self._nonce = self._nonce or runtime.clock.nonce()
        claimant = Claimant(nonce, instance=runtime.instance())
        before: list[Lock | None] = []

        def decide(seen: Snapshot) -> Put | CallRefused | NeedTime:
            before[:] = [seen.lock]
            return named.acquire(seen.lock, self._policy, claimant, runtime.decision_context(seen))

        mark = runtime.clock.mark()
        # The document is probably as this object left it. Any other earlier state is out of date.
        start, self._known = self._as_left(mark), None
        start = start or runtime.store.read(self.document)
        unsure, self._unsure = self._unsure, True
        try:
            changed = claim(runtime, self.document, decide, start=start, changes=self._fields)
        except ContentionError as error:
            self._unsure = unsure
            return CallRefused(Refusal.HELD, str(error))
        except StoreError as error:
            self._unsure = unsure or bool(error.facts.get("unknown"))
            raise
        if isinstance(changed.decision, CallRefused):
            # An earlier try of unknown fate holds nothing any more, and can't be applied any more.
            self._unsure = False
            return changed.decision
        holding = Holding(runtime, changed.snapshot, nonce, policy=self._policy, mark=mark, retention=_RETENTION)
        if not holding.long_enough():
            self._unsure = False
            return CallRefused(Refusal.HELD, "it was granted and taken over before the answer came")
        self._granted(holding, before[0])
        return None

    def _as_left(self, now: Mark) -> Snapshot | None:
        if self._known is None or elapsed(self._known[1], now) > _TRUSTED:
            return None
        return self._known[0]

    def _granted(self, holding: Holding, before: Lock | None) -> None:
        runtime, mine = self._runtime, holding.context
        self._holding, self._nonce, self._unsure = holding, None, False
        if self._renews:
            self._renewals().add(holding, self._policy.lease, runtime.clock.mark())
        if before is not None and before.status is Status.LEASED and before.holder != mine.holder:
            message = f"{self.document}: token {before.token} of {before.instance} was not given back in time"
            runtime.events.lock_taken(mine, message)

    def _fields(self, seen: Snapshot) -> Changes:
        finite = self._policy.lease < named.UNLIMITED
        values = expiring(self._runtime, self._policy.lease + _RETENTION if finite else None)
        if seen.lock is None:
            values |= {"name": encode(self._shown), "env": encode(self._runtime.config.env), "schema": encode(SCHEMA)}
        return Changes(values, None)

    # --- refresh and release ---

    def refresh(self) -> None:
        """
        Renew the lease, whose length begins again. It costs one commit.

        Raises:
            LeaseLostError: The lock was taken over; the later holder's lease is untouched.
            UsageError: This object has not acquired the lock.
            StoreError, ContentionError: Firestore was unreachable or refused; the lease goes on until its end.
        """
        self._mine("is refreshed").renew()

    def release(self) -> None:
        """
        Release the lock. It costs one commit, and may be repeated if Firestore was unreachable or refused.

        If the lease had run out but the lock was not taken over, the lock is released all the same, with a warning in the
        log.

        Raises:
            LeaseLostError: The lock was taken over; the later holder's lock is untouched.
            UsageError: This object has not acquired the lock.
            StoreError, ContentionError: Firestore was unreachable or refused.
        """
        lost = self.end()
        if lost is None:
            return
        if lost.taken_over:
            raise lost
        LOGGER.warning("%s", lost)

    def end(self) -> LeaseLostError | None:
        """
        Release the lock as ``release`` does. If the lease was lost, return the error instead of raising it; ``taken_over``
        tells whether another holder took it over.
        """
        holding = self._look()
        if holding is None and self._unsure:
            self._abandon()
            return None
        holding = self._mine("is released")
        nonce = self._runtime.clock.nonce()

        def free(lock: Lock | None, fence: Fence, _: DecisionContext) -> Put | CallRefused | Lost:
            mine = holding.snapshot.lock
            assert mine is not None
            return named.free(lock, fence, nonce, mine=mine)

        try:
            ended = holding.end(free, lambda: expiring(self._runtime, _RETENTION))
        except LeaseLostError as error:
            self._drop()
            return error
        self._drop()
        if ended.lock is not None and ended.lock.status is Status.SCHEDULED:
            self._known = ended, self._runtime.clock.mark()
        if not holding.expired_before(ended):
            return None
        return LeaseLostError(
            f"{self.document}: the lease of {self._policy.lease:g} s had run out before the lock {self._shown!r} was released; "
            "no other process had taken it. Give it a longer ttl, or keep_alive.",
            document=self.document,
            token=holding.context.token,
            taken_over=False,
        )

    def _drop(self) -> None:
        if self._holding is not None and self._renews:
            self._renewals().remove(self._holding)
        self._holding = None

    def _abandon(self) -> None:
        holder, nonce = self._nonce or "", self._runtime.clock.nonce()
        fields = Changes(expiring(self._runtime, _RETENTION), None)
        self._runtime.store.change(
            self.document, lambda seen: named.abandon(seen.lock, holder, nonce), changes=lambda _: fields
        )
        self._unsure, self._nonce = False, None

    def locked(self) -> bool:
        """
        Tell whether the lock is held by any holder at this moment. It costs one read.

        Raises:
            StoreError: Firestore was unreachable or refused.
        """
        seen = self._runtime.store.read(self.document)
        assert seen.read is not None
        lock = seen.lock
        return lock is not None and lock.status is Status.LEASED and seen.read < expires_at(lock)

    # --- with ---

    def __enter__(self) -> Self:
        busy = self.take()
        if busy is not None:
            raise busy
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._look() is None:
            # The lock was released in the block; or this is a forked child, and its parent holds the lock.
            return
        try:
            self.release()
        except OncetaskError as trouble:
            if error is None:
                raise
            LOGGER.error("%s; the block had raised %s, which goes on.", trouble, type(error).__name__)

    def __repr__(self) -> str:
        return f"<NamedLock {self._shown!r} {'held' if self.held else 'not held'}>"


def _waiting(timeout: Duration | None) -> float:
    return math.inf if timeout is None else values.seconds(timeout, "timeout", hint=", and None waits for ever")
