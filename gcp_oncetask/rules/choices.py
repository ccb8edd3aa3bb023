"""
The acts that a person can choose for a record: the question that comes first, the acts that fit the record's state, the
effect of each in a sentence, and the prepared commands. Pure.

Mails, ``show`` and the console take their sentences from here, so that all three say the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from gcp_oncetask.rules import attention, journal, verbs
from gcp_oncetask.rules.admin import mark
from gcp_oncetask.rules.attention import Reason
from gcp_oncetask.rules.decisions import CallRefused
from gcp_oncetask.rules.delivery import idempotency_key
from gcp_oncetask.rules.record import TERMINAL, Intent, Lock, Status
from gcp_oncetask.rules.refusals import Refusal
from gcp_oncetask.rules.timestamps import instant
from gcp_oncetask.rules.verbs import Sort
from gcp_oncetask.rules.writes import expires_at

RESOLUTIONS: Final = ("run", "happened", "complete", "fail")
"""The acts of the verb ``resolve``."""
ANSWERS: Final = ("answer", "not-done")
"""The acts of the verb ``resolve`` about a run that was begun once and whose result is not known."""
ACK_FOR: Final = "4h"
"""Time of a prepared promise."""
_PREPARED: Final = (*ANSWERS, "run", "reset", "happened", "complete", "fail", "dismiss", "cancel")
_SAME_KEY: Final = "the same idempotency key, so a provider that keeps keys does the work once"
_NEW_KEY: Final = "a new idempotency key, so the work is done again"
_EFFECTS: Final = {
    "answer": "The run counts as done, with the given result. {then}",
    "not-done": "The run counts as not done, and is called again with the same key. {then} Refused before {over}.",
    "run": "The step runs again as sequence {sequence}, with {key}.",
    "happened": "The step counts as done. The next step runs as sequence {sequence} at {where}, with a new idempotency key.",
    "happened, end": "The step counts as done, and the chain ends as completed with the given result. Nothing runs again.",
    "complete": "The chain ends as completed. Nothing runs again, and no next step follows.",
    "fail": "The chain ends as failed, and is dismissed.",
    "fail, with a key": "The chain ends as failed, and is dismissed. Its resource key goes to the next task that waits.",
    "reset": "The step runs again as sequence {sequence}, with {key}.",
    "cancel": "It is cancelled. If its kind has a cancellation handler, that runs first.",
    "cancel, running": "The chain is cancelled when its present attempt settles; the handler sees attempt.cancelled.",
    "delete": "The document is deleted, with its payload, result and history.",
    "delete, with open runs": "The document is deleted, also the only record of the runs that were begun once: {runs}.",
    "delete, running": "The document is deleted; the handler that runs now can write nothing more by its attempt.",
    "dismiss": "It leaves the list of records that need a person; its status stays.",
    "ack": "No reminder names it until then; its status stays, and the list shows the promise.",
    "pause": "It makes no occurrences until it is resumed.",
    "resume": "It makes occurrences again; its misfire policy decides about those that were due meanwhile.",
}
_OR_NEXT: Final = "If a next step follows, give --next URL in place of --end; --result JSON gives its result."


class Prepared(NamedTuple):
    """
    A command for one record, ready to be pasted.

    Attributes:
        act: The act, such as ``run``.
        arguments: Arguments of ``python -m gcp_oncetask``; not quoted.
        effect: Sentence about its effect on the record as it is now.
    """

    act: str
    arguments: tuple[str, ...]
    effect: str


class LastAttempt(NamedTuple):
    """
    The last attempt of a record.

    Attributes:
        key: ``attempt.key``: the idempotency key by which remote systems know its calls.
        holder: Nonce of the attempt, which its log lines have.
        granted_at: Time at which it got its lease, by the server's clock.
        lease_ends: End of its lease, by the server's clock.
    """

    key: str
    holder: str
    granted_at: datetime
    lease_ends: datetime


def last_attempt(path: str, lock: Lock) -> LastAttempt | None:
    """
    Return the last attempt of the present sequence of the record at *path*; None: there was none, or its record is not
    complete.
    """
    if not lock.attempts or lock.holder is None or lock.granted_at is None or lock.leased_at is None:
        return None
    key = idempotency_key(lock.env, path, lock.keyed, lock.granted)
    return LastAttempt(key, lock.holder, lock.granted_at, expires_at(lock))


def question(path: str, lock: Lock) -> str | None:
    """
    Return the question that a person must answer before the record at *path* goes on; None: there is none.
    """
    if lock.status is not Status.QUARANTINED:
        return None
    if lock.open:
        runs = " and ".join(f"{name!r}, key {run_key}," for name, run_key in _open_runs(path, lock).items())
        return f"Did this happen: the run {runs} begun {instant(lock.open[0].begun)}? Ask the system that it calls."
    if (reason := halted(lock)) is not None:
        return (
            f"What now? The handler could not go on: {reason} Deploy a handler that fits the journal and let the step run "
            "again, or say how it ends."
        )
    return f"Did step {lock.step} happen? Ask the system that it calls for the key below."


def _open_runs(path: str, lock: Lock) -> dict[str, str]:
    key = idempotency_key(lock.env, path, lock.keyed, lock.granted)
    known = {entry.name: journal.key_in(entry) for entry in journal.open_entries(lock)}
    return {each.name: known.get(each.name) or journal.run_key(key, each.name) for each in lock.open}


def kept_for_runs(path: str, lock: Lock | None, begun: Sequence[Intent]) -> CallRefused | None:
    """
    Return the refusal to delete the record at *path*, which alone tells of the effects of the runs *begun* once whose results
    are not known; None: there are none.

    Args:
        path: The document.
        lock: The record; None: it is damaged, so that the keys of its runs are not known.
        begun: Its open intents.
    """
    if not begun:
        return None
    keys = {} if lock is None else _open_runs(path, lock)
    runs = " and ".join(f"{each.name!r}{f' (key {keys[each.name]})' if keys else ''}" for each in begun)
    then = f"Ask the system that it calls, then answer by resolve {path} --run {begun[0].name}"
    if lock is not None and lock.status is not Status.QUARANTINED:
        then = f"Let it end, or look at it by effects {path}"
    return CallRefused(
        Refusal.UNDECIDED,
        f"it has begun {runs} once, the result is not known, and only this record tells of it. {then}; or delete it with that "
        "knowledge by open_runs=True (--open-runs)",
    )


def halted(lock: Lock) -> str | None:
    """
    Return the reason for which a durable handler has set its sequence aside, such as a journal that does not fit the handler;
    None: it was not set aside so.
    """
    if lock.status is not Status.QUARANTINED or lock.holder is not None or lock.open or not lock.durable:
        return None
    mine = [each for each in lock.errors if each.sequence == lock.sequence]
    return mine[-1].message if mine else None


def fitting(sort: Sort, lock: Lock) -> tuple[str, ...]:
    """
    Return the acts that fit the present state of a record. The rules decide once more at the act.
    """
    return tuple(act for act in _suited(lock) if sort in verbs.VERBS[verb_of(act)])


def _suited(lock: Lock) -> list[str]:
    reason = attention.reason_of(lock)
    wanted: list[str] = []
    if lock.status is Status.QUARANTINED:
        wanted += ANSWERS if lock.open else RESOLUTIONS
    if lock.status in TERMINAL:
        wanted += ["happened"] if lock.status is Status.FAILED and lock.attempts else []
        wanted += ["reset"]
        wanted += ["dismiss"] if reason in (Reason.FAILED, Reason.RESULT_LOST) else []
    else:
        wanted += ["cancel"] if lock.status is not Status.QUARANTINED else []
        wanted += ["resume" if lock.paused else "pause"] if lock.status is Status.SCHEDULED else []
    wanted += ["ack"] if reason not in (None, Reason.DISMISSED) else []
    wanted += ["delete"] if lock.status in TERMINAL else []
    return wanted


def verb_of(act: str) -> str:
    """
    Return the verb of the command line that has *act*.
    """
    return "resolve" if act in RESOLUTIONS or act in ANSWERS else act


def effect(
    lock: Lock,
    act: str,
    *,
    next: str | None = None,  # noqa: A002
    end: bool = False,
    run: str | None = None,
    fresh: bool = False,
) -> str:
    """
    Return a sentence about the effect of *act* on the record as it is now.

    Args:
        lock: The record.
        act: The act.
        next: With ``happened``: URL or path of the next step; ``"."``: the same target.
        end: With ``happened``: whether the chain ends.
        run: With ``answer`` and ``not-done``: the run; None: the first one with a question.
        fresh: With ``reset``: whether it gets a new key.
    """
    if act in ANSWERS:
        return _answers(lock, act, run)
    case = act
    if act == "happened" and end:
        case = "happened, end"
    if act == "fail" and lock.key is not None:
        case = "fail, with a key"
    if act in ("cancel", "delete") and lock.status is Status.LEASED:
        case = f"{act}, running"
    if act == "delete" and lock.open:
        case = "delete, with open runs"
    if act == "cancel" and lock.finished:
        return "Nothing changes, because it has ended."
    if act in (*RESOLUTIONS, "dismiss") and act not in _suited(lock):
        return f"Nothing changes, because {act!r} does not fit this state."
    key = _NEW_KEY if act == "reset" and (fresh or lock.status is Status.COMPLETED) else _SAME_KEY
    runs = ", ".join(repr(each.name) for each in lock.open)
    where = "the same target" if next == "." else next
    return _EFFECTS[case].format(sequence=lock.sequence + 1, key=key, where=where, runs=runs)


def _answers(lock: Lock, act: str, run: str | None) -> str:
    asked = [each for each in lock.open if run in (None, each.name)]
    if lock.status is not Status.QUARANTINED or not asked:
        return f"Nothing changes, because the record has no question about {'a run' if run is None else f'the run {run!r}'}."
    then = f"The step goes on as sequence {lock.sequence + 1}, with its journal and idempotency key."
    if len(lock.open) > 1:
        then = "The questions about other runs stay."
    return _EFFECTS[act].format(then=then, over=instant(asked[0].over))


def consequence(
    path: str,
    lock: Lock,
    act: str,
    *,
    next: str | None = None,  # noqa: A002
    end: bool = False,
    run: str | None = None,
    fresh: bool = False,
) -> str:
    """
    Return the state of the record at *path* and the ``effect`` of *act* on it, as two sentences.
    """
    state = f"{path} is {lock.status}, at step {lock.step} (sequence {lock.sequence})."
    return f"{state} {effect(lock, act, next=next, end=end, run=run, fresh=fresh)}"


def prepared(path: str, sort: Sort, lock: Lock) -> tuple[Prepared, ...]:
    """
    Return the commands that decide about the record, each for its present state only (``--if-version``). A completed step
    is not run again by a prepared command.
    """
    fits = fitting(sort, lock)
    wanted = (act for act in _PREPARED if act in fits and (act != "reset" or lock.status is not Status.COMPLETED))
    made: list[Prepared] = []
    for act in wanted:
        if act in ANSWERS:
            made += [_answer(path, lock, act, intent) for intent in lock.open]
        else:
            made.append(_prepared(path, lock, act))
    return tuple(made)


def promise(path: str, lock: Lock | None) -> tuple[str, ...]:
    """
    Return the arguments of the command that silences the reminders of the record at *path* for a time; None: its lock can't
    be decoded.
    """
    return ("ack", path, "--for", ACK_FOR, *(() if lock is None else ("--if-version", mark(lock))))


def _answer(path: str, lock: Lock, act: str, intent: Intent) -> Prepared:
    given = ("--not-done",) if act == "not-done" else ("--result", "JSON")
    said = f"{intent.name!r}: {effect(lock, act, run=intent.name)}"
    if act == "answer":
        said = f"{said} Give the run's result in place of JSON."
    return Prepared(act, ("resolve", path, "--run", intent.name, *given, "--if-version", mark(lock)), said)


def _prepared(path: str, lock: Lock, act: str) -> Prepared:
    end = act == "happened"
    said = effect(lock, act, end=end)
    words = (verb_of(act), path, *((act,) if act in RESOLUTIONS else ()), *(("--end",) if end else ()))
    return Prepared(act, (*words, "--if-version", mark(lock)), f"{said} {_OR_NEXT}" if end else said)
