"""
Carry out the act of a person on one record; before that, tell its effect on this record in a sentence.

Each act is one conditional commit that keeps the person in the record, and a line of the trail in Cloud Logging. A failure to
write that line is told, and does not undo the act.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple, NoReturn

from gcp_oncetask import rules
from gcp_oncetask.checks import words
from gcp_oncetask.clock import Duration
from gcp_oncetask.effects.act_trail import write_act
from gcp_oncetask.entities import journal_acts
from gcp_oncetask.entities.acted import Acting, check_next
from gcp_oncetask.entities.chains import Scheduled, has_verb, refusal, runtime_of, stored_chain
from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.errors import AlreadyScheduledError, ContentionError, DamagedError, TaskNotFoundError, UsageError
from gcp_oncetask.rules import choices, journal, ledger
from gcp_oncetask.rules.record import Lock, Person, Status
from gcp_oncetask.rules.timestamps import instant
from gcp_oncetask.store import journals
from gcp_oncetask.store.snapshot import version_of
from gcp_oncetask.tasks import bulk

RESOLUTIONS: Final = choices.RESOLUTIONS
_TRIES: Final = 10
_STATUS: Final = "{status}"
"""Reads of a document that keeps changing, before its deletion is given up."""
VERBS: Final = (*RESOLUTIONS, *choices.ANSWERS, "reset", "cancel", "delete", "dismiss", "ack", "pause", "resume")
"""The acts, by the words that the command line, the console and the trail have for them."""


@dataclass(frozen=True, slots=True)
class Decision:
    """
    The decision of a person.

    Attributes:
        verb: One of ``VERBS``.
        result: Result of the step (``happened``), of the chain (``complete``) or of the run (``answer``).
        next: With ``happened``: URL or path of the next step; ``"."``: the same target.
        params: With *next*: its parameters; None: *result*.
        end: With ``happened``: the chain ends.
        note: The person's own words.
        keep_errors: With ``reset``: keep the list of failed attempts.
        new_key: With ``reset`` of a damaged record whose idempotency key can't be read: use a new one.
        step: With ``reset`` of a damaged record whose step can't be read: the step to run.
        until: With ``ack``: time for which no reminder names the record, in seconds or as a timedelta.
        fresh: With ``reset``: run with a new key and an empty journal.
        from_name: With ``reset``: forget this entry of the journal and those after it.
        open_runs: With ``delete``: delete also a record that has begun a run once whose result is not known.
        run: With ``answer`` and ``not-done``: name of the run that was begun once and whose result is not known.
    """

    verb: str
    result: Any = None
    next: str | None = None
    params: Any = None
    end: bool = False
    note: str | None = None
    keep_errors: bool = False
    new_key: bool = False
    step: int | None = None
    until: Duration | None = None
    run: str | None = None
    fresh: bool = False
    from_name: str | None = None
    open_runs: bool = False

    def __post_init__(self) -> None:
        words.check("verb", self.verb, VERBS)

    def check(self) -> None:
        """
        Check that the decision has all that its verb needs, and no more.

        Raises:
            UsageError: A part is missing, or a part is of another verb.
        """
        if self.verb == "happened":
            check_next(self.next, self.params, end=self.end)
        elif self.next is not None or self.params is not None or self.end:
            raise UsageError("The next step (--next, --params) and the end (--end) are for happened alone.")
        if self.result is not None and self.verb not in ("happened", "complete", "answer"):
            raise UsageError("A result (--result) is for happened, complete and a run (--run) alone.")
        if (self.verb in choices.ANSWERS) is (self.run is None):
            raise UsageError("The name of a run (--run) is for the answer about it alone, which needs it.")
        if self.verb != "reset" and (self.keep_errors or self.new_key or self.step is not None):
            raise UsageError("keep_errors=, new_key= and step= (--keep-errors, --new-key, --step) are for reset alone.")
        if self.verb != "reset" and (self.fresh or self.from_name is not None):
            raise UsageError("fresh= and from_name= (--fresh, --from) are for reset alone.")
        if self.open_runs and self.verb != "delete":
            raise UsageError("open_runs= (--open-runs) is for delete alone.")
        if (self.verb == "ack") is (self.until is None):
            raise UsageError("ack needs until= (--for), a time like 4h; other acts have none.")


class Performed(NamedTuple):
    """
    An act that was carried out.

    Attributes:
        said: A sentence about the record after the act.
        warning: A sentence about a line of the trail that could not be written; None: it is written.
        done: Whether the act has changed the record; if not, there was nothing to do.
    """

    said: str
    warning: str | None = None
    done: bool = True

    @property
    def text(self) -> str:
        """
        Both sentences.
        """
        return self.said if self.warning is None else f"{self.said} {self.warning}"


def consequence(locker: Locker, path: str, decision: Decision) -> str:
    """
    Return a sentence about the effect that *decision* has on the record as it is now.

    Raises:
        TaskNotFoundError: There is no such document, or it was never scheduled.
        UsageError: The record does not have the verb; the message says what to do instead.
        StoreError: Firestore was unreachable or refused.
    """
    snapshot, lock = stored_chain(runtime_of(locker), path)
    has_verb(choices.verb_of(decision.verb), snapshot, lock)
    said = choices.consequence(
        path, lock, decision.verb, next=decision.next, end=decision.end, run=decision.run, fresh=decision.fresh
    )
    return f"{said}{_repeated(locker, path, lock, decision)}{_unchecked(locker, path, lock, decision)}"


def _unchecked(locker: Locker, path: str, lock: Lock, decision: Decision) -> str:
    """
    Return a sentence about the type that does not check the result of a run here; empty if there is none.
    """
    if decision.verb != "answer" or decision.run is None:
        return ""
    named = journal_acts.unchecked(runtime_of(locker), path, lock, decision.run)
    if named is None:
        return ""
    said = named.strip(":")
    return (
        f" The result is not checked here, because {said} is not loaded. If it does not fit, the handler leaves the task alone "
        "until it can read it; resolve_task() in your service checks it."
    )


def _repeated(locker: Locker, path: str, lock: Lock, decision: Decision) -> str:
    """
    Return a sentence about the effects that a reset repeats or has verified; empty if there are none.
    """
    anew = decision.fresh or (lock.status is Status.COMPLETED and decision.from_name is None)
    if decision.verb != "reset" or not lock.durable or not (anew or decision.from_name is not None):
        return ""
    try:
        entries = journal.latest(journals.read(runtime_of(locker).store, path, lock))
    except DamagedError as error:
        if not decision.fresh:
            raise
        return f" Its effects are not known: {error}"
    cut = entries.get(decision.from_name or "")
    place = 0 if cut is None else cut.ordinal
    done = [each for each in ledger.effects_of(entries) if entries[each.name].ordinal >= place and each.state == "done"]
    if not done:
        return ""
    names = ", ".join(f"{each.name!r} of {instant(each.begun)}" for each in done)
    return (
        f" These effects are repeated, with new keys: {names}."
        if anew
        else f" These are verified before a call: {names}."
    )


def perform(locker: Locker, path: str, decision: Decision, by: Person, if_version: str | None = None) -> Performed:
    """
    Carry out *decision* on the document at *path*.

    Args:
        locker: The locker.
        path: The document.
        decision: The decision.
        by: The person.
        if_version: Version of the document that the person has seen; None: any.

    Returns:
        Sentences about the record after the act, and about its line of the trail.

    Raises:
        AlreadyScheduledError: The record has changed since *if_version* (``refusal`` is ``moved``), or does not wait for
            this decision.
        UsageError: The decision lacks a part, such as the next step.
        OncetaskError: The errors of the act, see ``Locker``.
    """
    decision.check()
    acting = Acting(by, decision.note, if_version)
    if decision.verb == "delete":
        return _delete(locker, path, acting, open_runs=decision.open_runs)
    said = _act(locker, path, decision, acting)
    lock = locker.show(path)
    if said is None:
        return Performed(f"{path}: nothing to cancel; it is {lock.status}.", done=False)
    warning = write_act(runtime_of(locker), lock.acts[-1], path, lock=lock) if lock.acts else None
    return Performed(f"{path}: {said.replace(_STATUS, lock.status)}.", warning)


def _act(locker: Locker, path: str, decision: Decision, acting: Acting) -> str | None:
    """
    Carry out the act; return words about its effect, with ``_STATUS`` in place of the new status. None: there was nothing
    to do.
    """
    made: Scheduled | None = None
    match decision.verb:
        case "reset":
            made = locker.reset_path(
                path,
                keep_errors=decision.keep_errors,
                new_key=decision.new_key,
                step=decision.step,
                fresh=decision.fresh,
                from_name=decision.from_name,
                acting=acting,
            )
        case "cancel":
            if not locker.cancel_path(path, acting=acting):
                return None
            return f"{_STATUS}, cancellation recorded"
        case "dismiss":
            locker.dismiss_path(path, acting=acting)
            return "dismissed; list --dismissed still finds it"
        case "ack":
            assert decision.until is not None
            until = locker.acknowledge_path(path, decision.until, acting=acting)
            return f"no reminder names it until {until:%Y-%m-%d %H:%M:%S} UTC"
        case "pause" | "resume":
            locker.pause_path(path, resume=decision.verb == "resume", acting=acting)
            return "paused" if decision.verb == "pause" else "resumed"
        case "answer" | "not-done" as how:
            assert decision.run is not None
            given = {"not_done": True} if how == "not-done" else {"result": decision.result}
            made = locker.answer_path(path, decision.run, acting=acting, **given)
            return _sent(made, f"{_STATUS}, the answer is kept")
        case how:
            more: dict[str, Any] = {}
            if how == "happened":
                more = {"next": decision.next, "params": decision.params, "end": decision.end}
            made = locker.resolve_path(path, how, result=decision.result, acting=acting, **more)  # type: ignore[arg-type]
    return _sent(made, _STATUS)


def _sent(made: Scheduled | None, otherwise: str) -> str:
    if made is None:
        return otherwise
    how_sent = "dispatched" if made.dispatched else "the sweeper will dispatch it"
    return f"scheduled as sequence {made.sequence}, {how_sent}"


def _delete(locker: Locker, path: str, acting: Acting, *, open_runs: bool) -> Performed:
    """
    Delete a once-task. The trail has the intention before the commit, because afterwards no record has it.
    """
    runtime = runtime_of(locker)
    assert acting.person is not None
    for tried in range(_TRIES):
        try:
            snapshot, lock = stored_chain(runtime, path)
        except TaskNotFoundError:
            if not tried:
                raise
            return Performed(f"{path}: deleted meanwhile.", done=False)
        has_verb("delete", snapshot, lock)
        if acting.if_version not in (None, version_of(snapshot.version), rules.mark(lock)):
            _moved(path, lock, acting)
        refused = None if open_runs else choices.kept_for_runs(path, lock, lock.open)
        if refused is not None:
            raise refusal(path, refused)
        act = rules.act_of("delete", acting.person, lock, acting.note, runtime.store.estimate())
        write_act(runtime, act, path, lock=lock, intended=True)
        if bulk.delete_unchanged(runtime, snapshot):
            return Performed(f"{path}: deleted.", write_act(runtime, act, path, lock=lock))
    raise ContentionError(f"{path} could not be deleted, because it kept changing; try again.", document=path)


def _moved(path: str, lock: Lock, acting: Acting) -> NoReturn:
    raise AlreadyScheduledError(
        f"{path}: it has changed since version {acting.if_version} and is {lock.status} now; look at it again. Nothing was "
        "written.",
        document=path,
        refusal="moved",
    )
