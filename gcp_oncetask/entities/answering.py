"""
Answers of people through links: the event and the act of the person are one commit.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from gcp_oncetask import rules
from gcp_oncetask.effects.act_trail import write_act
from gcp_oncetask.effects.dispatch import dispatch
from gcp_oncetask.rules import journal, link_tokens, mailbox, waits
from gcp_oncetask.rules.decisions import CallRefused, Put
from gcp_oncetask.rules.delivery import idempotency_key
from gcp_oncetask.rules.link_tokens import LinkClaims
from gcp_oncetask.rules.record import Act, Chunk, Lock, Person
from gcp_oncetask.rules.refusals import Refusal
from gcp_oncetask.rules.waits import SentEvent
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store import journals as stored_journals
from gcp_oncetask.store.snapshot import Snapshot

VERB: Final = "answer"
"""Verb of the act."""


class LinkState(Enum):
    """
    The states of a question, as its page shows them.
    """

    OPEN = auto()
    """The question can be answered."""
    SENT = auto()
    """This request has answered it."""
    ANSWERED = auto()
    """A link has answered it before."""
    CLOSED = auto()
    """The wait is over without a link, was cancelled, or has another event; or the task has ended or is gone."""
    EXPIRED = auto()
    """The link is too old."""
    FULL = auto()
    """The mailbox takes no more events."""


@dataclass(frozen=True, slots=True)
class LinkFound:
    """
    The state of a question.

    Attributes:
        state: The state.
        act: The act that has answered it; None: it is not answered, or the record does not keep that act any more.
        doubt: Of a question that is open, or was answered by this request: the reason for which the handler may not take the
            answer; None: none is known.
    """

    state: LinkState
    act: Act | None = None
    doubt: str | None = None


class _SealedError(Exception):
    """
    The journal has other sealed parts than those that were read.
    """

    def __init__(self, lock: Lock) -> None:
        super().__init__()
        self.lock = lock


class LinkQuestion:
    """
    The question of a link.

    Args:
        runtime: Shared parts.
        claims: The contents of the link, verified.
    """

    def __init__(self, runtime: Runtime, claims: LinkClaims) -> None:
        self._runtime = runtime
        self._claims = claims
        self._chunks: tuple[Chunk, ...] = ()
        self._sealed: Collection[str] = ()
        self._doubt: str | None = None

    def look(self) -> LinkFound:
        """
        Return the state of the question; nothing is written.

        Raises:
            OncetaskError: The record can't be read.
        """
        seen = self._runtime.store.get(self._claims.path)
        while True:
            try:
                return self._told(self._decide(seen, None, ""), seen.lock)
            except _SealedError as more:
                self._read(more.lock)

    def answer(self, person: Person) -> LinkFound:
        """
        Send the event of the link for *person*, and wake the handler.

        Raises:
            OncetaskError: The record can't be read or written. A repeated answer finds one that was stored.
        """
        runtime, claims = self._runtime, self._claims
        nonce = runtime.clock.nonce()
        while True:
            try:
                changed = runtime.store.change(claims.path, lambda seen: self._decide(seen, person, nonce))
                break
            except _SealedError as more:
                self._read(more.lock)
        decision, lock = changed.decision, changed.snapshot.lock
        if isinstance(decision, CallRefused) or lock is None:
            return self._told(decision, lock)
        act = lock.acts[-1]
        if decision.dispatch and lock.url is not None:
            runtime.events.scheduled(changed.snapshot)
            dispatch(runtime, changed.snapshot)
        write_act(runtime, act, claims.path, lock=lock)
        return LinkFound(LinkState.SENT, act, self._doubt)

    def _decide(self, seen: Snapshot, person: Person | None, nonce: str) -> Put | CallRefused:
        claims, lock = self._claims, seen.lock
        if lock is None:
            return CallRefused(Refusal.MISSING, "it does not exist")
        at = self._runtime.decision_context(seen)
        if not waits.is_known(lock, claims.id) and not lock.finished:
            if lock.chunks != self._chunks:
                raise _SealedError(lock)
            key = idempotency_key(lock.env, claims.path, lock.keyed, lock.granted)
            if link_tokens.digest_of(key) != claims.key or claims.wait in self._sealed:
                return CallRefused(Refusal.ENDED, f"its wait {claims.wait!r} is over")
        event = SentEvent(claims.id, claims.event, at.now, claims.data, claims.wait)
        put = rules.send(lock, event, nonce, at)
        if isinstance(put, CallRefused):
            return put
        self._doubt = mailbox.doubt(lock, event, claims.issued)
        if at.now >= claims.expires:
            return CallRefused(Refusal.RETENTION_OVER, "the link is too old")
        if person is None:
            return put
        note = f"{claims.wait!r}: {claims.answer}"
        return rules.acted(put, rules.act_of(VERB, person, lock, note, at.now))

    def _read(self, lock: Lock) -> None:
        """
        Read the sealed parts of the journal, which may have the end of the wait.
        """
        rows = stored_journals.read(self._runtime.store, self._claims.path, lock)
        found = journal.latest(rows)
        self._chunks = lock.chunks
        self._sealed = [name for name, entry in found.items() if mailbox.is_answered(entry)]

    def _told(self, decision: Put | CallRefused, lock: Lock | None) -> LinkFound:
        if isinstance(decision, Put):
            return LinkFound(LinkState.OPEN, doubt=self._doubt)
        match decision.refusal:
            case Refusal.DUPLICATE:
                return LinkFound(LinkState.ANSWERED, self._act(lock))
            case Refusal.RETENTION_OVER:
                return LinkFound(LinkState.EXPIRED)
            case Refusal.FULL:
                return LinkFound(LinkState.FULL)
        return LinkFound(LinkState.CLOSED)

    def _act(self, lock: Lock | None) -> Act | None:
        beginning, since = f"{self._claims.wait!r}: ", self._claims.issued
        acts = () if lock is None else lock.acts
        found = (act for act in acts if act.verb == VERB and act.at >= since and (act.note or "").startswith(beginning))
        return next(found, None)


def answer_of(act: Act, wait: str) -> str:
    """
    Return the answer that *act* gave to *wait*, in words.
    """
    return (act.note or "").removeprefix(f"{wait!r}: ")
