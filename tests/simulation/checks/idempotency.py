"""
The idempotency key is the same over retries, takeovers and resets, and never the same for two pieces of work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from gcp_oncetask import Attempt, Status
from gcp_oncetask.rules.record import Lock

Work = tuple[str, int, int, int]
"""Document, which of its lives, a number that goes up with each piece of work, revision of the payload."""


@dataclass
class Idempotency:
    """
    Watches the keys that handlers are given in one world.

    Attributes:
        broken: Told of violations: a document and a sentence.
        count: Told of what was exercised.
        late: Lives ("document life number") that began with a commit that landed long after it was sent.
        begun: The lives that have begun: document, number.
        numbers: Of each document the number of its present piece of work.
        of_grant: Of each grant (document, token, holder) its piece of work.
        keys: Of each piece of work its key.
        owners: Of each key its piece of work.
        renewed: Documents whose next sequence may have a new key, because a person said so.
        unsure: Documents whose present piece of work has such a key.
    """

    broken: Callable[[str, str], None]
    count: Callable[[str], None]
    late: Collection[str]
    begun: set[tuple[str, int]] = field(default_factory=set)
    numbers: Counter[str] = field(default_factory=Counter)
    of_grant: dict[tuple[str, int, str | None], Work] = field(default_factory=dict)
    keys: dict[Work, str] = field(default_factory=dict)
    owners: dict[str, Work] = field(default_factory=dict)
    renewed: set[str] = field(default_factory=set)
    unsure: set[str] = field(default_factory=set)

    def changed(self, path: str, life: int, before: Lock | None, lock: Lock, *, anew: bool) -> None:
        """
        The record at *path* went from *before* to *lock*; *anew*: by the reset of a damaged record.
        """
        if before is None:
            self.begun.add((path, life))
        if before is None or lock.sequence > before.sequence:
            again = before is not None and (_is_reset(before, lock) or (anew and not before.finished))
            self.numbers[path] += not again
            if not again:
                self.unsure.discard(path)
            if path in self.renewed:
                self.renewed.remove(path)
                self.unsure.add(path)
            if again:
                self.count("resets with the key of before")
        if path not in self.unsure and (before is None or lock.token > before.token):
            self.of_grant[path, lock.token, lock.holder] = (path, life, self.numbers[path], lock.granted)

    def starts(self, attempt: Attempt) -> None:
        """
        A handler is entered.
        """
        path, lock = attempt._running.context.document, attempt._running.granted
        work = self.of_grant.get((path, attempt.token, lock.holder))
        if work is None:
            return
        if self.keys.setdefault(work, attempt.key) != attempt.key:
            self.broken(path, f"token {attempt.token} has another idempotency key than its earlier attempts")
        owner = self.owners.setdefault(attempt.key, work)
        two_lives = owner[:2] != work[:2]
        if owner != work and not (two_lives and f"{path} life {work[1]}" in self.late):
            self.broken(path, f"token {attempt.token} has the idempotency key of other work: {owner}, and is {work}")


def _is_reset(before: Lock, lock: Lock) -> bool:
    """
    Whether a step that did not complete is run again as the next sequence.
    """
    stopped = before.status in (Status.FAILED, Status.CANCELLED, Status.QUARANTINED)
    return (
        stopped
        and lock.base == before.base + 1
        and (lock.wanted, lock.settled_by) == (before.wanted, before.settled_by)
    )
