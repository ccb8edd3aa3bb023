"""
One act on all records that fit a filter, as they were at a cut-off time.

Safe to repeat: with the same cut-off time, an act takes no record that needs a person only since then, or that has been changed
since then, so a second run goes on where the first one has ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import Final, NamedTuple

from gcp_oncetask import rules
from gcp_oncetask.clock import Clock, Mark, Wakeup, at_least
from gcp_oncetask.entities.chains import runtime_of
from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.errors import BackendError, ConfigError, OncetaskError, TaskNotFoundError, UsageError
from gcp_oncetask.finding import searching
from gcp_oncetask.finding.criteria import Criteria
from gcp_oncetask.finding.searching import FoundRecord
from gcp_oncetask.operate.acts import Decision, perform
from gcp_oncetask.rules import verbs
from gcp_oncetask.rules.choices import kept_for_runs, verb_of
from gcp_oncetask.rules.decisions import CallRefused
from gcp_oncetask.rules.record import Person, Status
from gcp_oncetask.rules.refusals import Refusal
from gcp_oncetask.rules.verbs import Sort
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.snapshot import Snapshot, time_of

VERBS: Final = ("reset", "cancel", "run", "complete", "fail", "dismiss", "delete")
"""The acts on many records."""
TYPED: Final = 100
"""Acts on more records than this ask for the number."""
COUNTED: Final = 10_000
"""A question counts no further."""
_PAGE: Final = 200
_MOST_FAILURES: Final = 3
"""Records in a row at which a service failed, or a setting was missing, after which a run ends."""
_SHOWN: Final = 5
_MOVED_ON: Final = frozenset({Refusal.MOVED, Refusal.MISSING, Refusal.NOT_NEEDED})

DONE: Final = "done"
SKIPPED: Final = "skipped"
REFUSED: Final = "refused"


class ActReport(NamedTuple):
    """
    The outcome of an act on one record.

    Attributes:
        path: Path of the record.
        outcome: ``done``; ``skipped``: it has changed since it was found, or there was nothing to do; ``refused``.
        said: The sentence about it.
    """

    path: str
    outcome: str
    said: str

    @property
    def done(self) -> bool:
        """
        True if the act was done.
        """
        return self.outcome == DONE


class Counted(NamedTuple):
    """
    The records on which an act would be done.

    Attributes:
        by_kind: Their numbers by kind or collection, and by reason or status.
        oldest: The first five.
        refused: For each reason for which a rule is going to refuse some of them: their number, and an example.
        more: Whether there are more than were counted.
    """

    by_kind: Counter[tuple[str, str]]
    oldest: list[FoundRecord]
    refused: list[tuple[int, str]]
    more: bool

    @property
    def number(self) -> int:
        """
        Number of the records.
        """
        return self.by_kind.total()


class Pace:
    """
    The rate of acts, and the wish to stop.

    Args:
        clock: The clock.
        per_second: Most acts in a second; None: any number.
        stop: Set by a person who wants the run to end after the present record.
    """

    def __init__(self, clock: Clock, per_second: float | None = None, stop: Wakeup | None = None) -> None:
        self._clock = clock
        self._gap = 0.0 if per_second is None else 1 / per_second
        self._stop = Wakeup() if stop is None else stop
        self._last: Mark | None = None

    def turn(self) -> bool:
        """
        Wait until the next act may begin; return False if the run is to end before it.
        """
        while self._last is not None and not self._stop.is_set():
            left = self._gap - at_least(self._last, self._clock.mark())
            if left <= 0:
                break
            self._clock.wait(self._stop, left)
        self._last = self._clock.mark()
        return not self._stop.is_set()


def fitting(locker: Locker, wanted: Criteria, cut: datetime, *, paths: Collection[str] = ()) -> Iterator[FoundRecord]:
    """
    Yield the records that fit, in the order of a search.

    Args:
        locker: The locker.
        wanted: The criteria.
        cut: The cut-off time: a record counts if it has needed a person since before *cut*; one that needs none, if its
            document was not changed after *cut*; one that runs, if its attempt began before *cut*.
        paths: If there are any, only records at these paths.

    Raises:
        UsageError: No index serves the search.
        StoreError: Firestore was unreachable or refused.
    """
    for each in searching.find_each(runtime_of(locker), wanted, page=_PAGE):
        if _arrived(each) <= cut and (not paths or each.path in paths):
            yield each


def _arrived(row: FoundRecord) -> datetime:
    # A renewal changes the document of an attempt, so the attempt counts by its grant.
    if row.since is not None and (row.reason is not None or row.status == Status.LEASED):
        return row.since
    return time_of(row.version)


def count(locker: Locker, found: Iterable[FoundRecord], decision: Decision, most: int = COUNTED) -> Counted:
    """
    Count the first *most* records, and those of them on which a rule is going to refuse *decision*.
    """
    runtime = runtime_of(locker)
    by_kind: Counter[tuple[str, str]] = Counter()
    refusals: Counter[str] = Counter()
    oldest: list[FoundRecord] = []
    examples: dict[str, str] = {}
    rows = iter(found)
    for each in islice(rows, most):
        by_kind[each.kind or each.path.rpartition("/")[0], str(each.reason or each.status)] += 1
        if len(oldest) < _SHOWN:
            oldest.append(each)
        refused = _foreseen(runtime, each, decision)
        if refused is not None:
            refusals[refused.refusal] += 1
            examples.setdefault(refused.refusal, f"{each.path}: {refused.reason}")
    told = [(number, examples[refusal]) for refusal, number in refusals.most_common()]
    more = by_kind.total() == most and next(rows, None) is not None
    return Counted(by_kind, oldest, told, more)


def _foreseen(runtime: Runtime, row: FoundRecord, decision: Decision) -> CallRefused | None:
    """
    Return the refusal that a rule gives *decision* on a record as it was found; None: none is foreseen.
    """
    verb, lock = verb_of(decision.verb), row.lock
    if Sort(row.sort) not in verbs.VERBS[verb]:
        return CallRefused(Refusal.NO_VERB, f"it is a {row.sort}, which has no {verb}")
    if lock is None:
        # A reset writes the record anew, if enough of its values can be read.
        return None if verb == "reset" else CallRefused(Refusal.DAMAGED, "it can't be decoded")
    at = runtime.decision_context(Snapshot(row.path, None, None, lock))
    match decision.verb:
        case "reset":
            decided = rules.reset(lock, "", at)
        case "cancel":
            decided = rules.cancel(lock, at)
        case "dismiss":
            decided = rules.dismiss(lock, at)
        case "run" | "complete" | "fail":
            decided = rules.resolve(lock, decision.verb, "", at)
        case "delete" if not decision.open_runs:
            return kept_for_runs(row.path, lock, lock.open)
        case _:
            return None
    return decided if isinstance(decided, CallRefused) else None


def perform_all(
    locker: Locker,
    found: Iterable[FoundRecord],
    decision: Decision,
    by: Person,
    pace: Pace | None = None,
) -> Iterator[ActReport]:
    """
    Carry out *decision* on each of *found*, and report it. A record that has changed since it was found is skipped.

    Args:
        locker: The locker.
        found: The records.
        decision: The decision; ``happened`` is refused, because the result and the next step differ by record.
        by: The person.
        pace: Rate and end of the run; None: as fast as it goes, to the last record.

    Raises:
        UsageError: The act is not one of ``VERBS``.
        StoreError: Firestore was unreachable or refused while the records were looked for.
        BackendError, ConfigError: A service failed, or a setting was missing, at three records in a row.
    """
    if decision.verb not in VERBS:
        raise UsageError(f"There is no act {decision.verb!r:.40} on many records; the acts are {', '.join(VERBS)}.")
    decision.check()
    failures = 0
    for each in found:
        if pace is not None and not pace.turn():
            return
        try:
            done = perform(locker, each.path, decision, by, each.version)
        except OncetaskError as error:
            moved = isinstance(error, TaskNotFoundError) or error.facts.get("refusal") in _MOVED_ON
            yield ActReport(each.path, SKIPPED if moved else REFUSED, str(error))
            failures = failures + 1 if isinstance(error, BackendError | ConfigError) else 0
            if failures == _MOST_FAILURES:
                raise
        else:
            failures = 0
            yield ActReport(each.path, DONE if done.done else SKIPPED, done.text)
