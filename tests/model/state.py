"""
The states of the model, and what each commit may do to a record.
"""

from __future__ import annotations

import re
from datetime import timedelta
from functools import cache
from typing import Final, NamedTuple

from gcp_oncetask.rules.record import Lock, Status
from tests.model import documents
from tests.model.documents import TICK, instant
from tests.model.loglines import LogLine
from tests.model.programs import Running
from tests.model.replay import Answer, Call

_SEED: Final = re.compile(rb"\bn(\d+)\.")
KEY_AT: Final = "onceLocks/"
LOG_GRACE: Final = float(TICK)


class Process(NamedTuple):
    """
    One process.

    Attributes:
        call: The call of the library that it is in; None: its user code runs.
        answers: What that call was answered so far.
        running: The attempt whose user code runs; None: none does.
        message: Number of the message that it serves.
        seed: Number of which its nonces are made.
        applied: Whether the commit that *call* is about was applied: ``own``, ``recovered`` by another process from the log,
            or empty.
        paused: Whether it stands still, while time may go on.
    """

    call: Call | None
    answers: tuple[Answer, ...] = ()
    running: Running | None = None
    message: int | None = None
    seed: int = 0
    applied: str = ""
    paused: bool = False


class State(NamedTuple):
    """
    One state. Processes and messages are sorted: who is who makes no difference.

    Attributes:
        tick: The time.
        stamp: Number of commits since the last tick.
        docs: Number of each document, by path.
        processes: Numbers of the processes.
        messages: Deliveries under way: number of the body, and whether it was tried before.
        flying: Commits that may still land.
        lines: What was logged and may still be asked for.
        faults: Those that have not happened yet.
        budget: How many more may happen.
        freed: Whether a person has interfered with a resource key.
    """

    tick: int
    stamp: int
    docs: tuple[tuple[str, int], ...]
    processes: tuple[int, ...] = ()
    messages: tuple[tuple[int, int], ...] = ()
    flying: tuple[bytes, ...] = ()
    lines: tuple[LogLine, ...] = ()
    faults: tuple[str, ...] = ()
    budget: int = 0
    freed: bool = False


_processes: list[Process] = []
_process_numbers: dict[Process, int] = {}
_bodies: list[bytes] = []
_body_numbers: dict[bytes, int] = {}


def process_of(number: int) -> Process:
    """
    Return the process with *number*.
    """
    return _processes[number]


def process_number(process: Process) -> int:
    """
    Return the number of *process*.
    """
    number = _process_numbers.get(process)
    if number is None:
        number = _process_numbers[process] = len(_processes)
        _processes.append(process)
    return number


def body_of(number: int) -> bytes:
    """
    Return the body of the message with *number*.
    """
    return _bodies[number]


def body_number(body: bytes) -> int:
    """
    Return the number of the message with *body*.
    """
    number = _body_numbers.get(body)
    if number is None:
        number = _body_numbers[body] = len(_bodies)
        _bodies.append(body)
    return number


# --- nonces -----------------------------------------------------------------------------------------------------------


def fresh(state: State) -> int:
    """
    Return the least number of which no nonce in *state* is made.
    """
    used: set[int] = set()
    for _, number in state.docs:
        used |= _in_document(number)
    for number in state.processes:
        process = _processes[number]
        used.add(process.seed)
        used |= _in_process(process)
    for number, _ in state.messages:
        used |= _in_bytes(_bodies[number])
    for message in state.flying:
        used |= _in_bytes(message)
    for line in state.lines:
        used |= _in_bytes(f"{line.nonce} ".encode())
    return next(number for number in range(1, 100) if number not in used)


@cache
def _in_document(number: int) -> frozenset[int]:
    document = documents.document_of(number)
    return frozenset() if document is None else _in_bytes(document.SerializeToString())


@cache
def _in_bytes(text: bytes) -> frozenset[int]:
    return frozenset(int(found) for found in _SEED.findall(text))


@cache
def _in_process(process: Process) -> frozenset[int]:
    found = set()
    if process.running is not None:
        found |= _in_bytes(repr(process.running.lock).encode())
    for answer in process.answers:
        for number in answer.value if isinstance(answer.value, tuple) else ():
            if isinstance(number, int):
                found |= _in_document(number)
    if process.call is not None:
        for arg in process.call.args:
            if isinstance(arg, Running):
                found |= _in_bytes(repr(arg.lock).encode())
    return frozenset(found)


# --- what a commit may do ---------------------------------------------------------------------------------------------


def broken_by(
    before: Lock | None, after: Lock | None, *, own: bool, running: list[Running], began: bool, tick: int
) -> str | None:
    """
    Return what is wrong with the step of a record from *before* to *after*, as a sentence; None: nothing.

    Args:
        before: The record before the commit.
        after: The record after it.
        own: Whether its holder has made the commit, to settle.
        running: Attempts whose user code runs.
        began: Whether the holder in *before* has begun to run.
        tick: The server's time.
    """
    if before is None or after is None:
        return None
    if after.token not in (before.token, before.token + 1):
        return f"the token went from {before.token} to {after.token}"
    if after.sequence not in (before.sequence, before.sequence + 1):
        return f"the sequence went from {before.sequence} to {after.sequence}"
    if before.finished and (after.sequence, after.status) != (before.sequence, before.status):
        return f"{before.status} did not stay: {after.status}, sequence {after.sequence}"
    granted = after.status is Status.LEASED and (after.holder != before.holder or before.status is not Status.LEASED)
    if granted != (after.token == before.token + 1):
        was, now = f"{before.status} of {before.holder}", f"{after.status} of {after.holder}"
        return f"{was} became {now} with the token {after.token} after {before.token}"
    if granted and after.attempts != before.attempts + 1 and after.sequence == before.sequence:
        return f"a grant took the attempts from {before.attempts} to {after.attempts}"
    if after.sequence > before.sequence and before.status is not Status.LEASED:
        return f"sequence {before.sequence} was left while it was {before.status}"
    moved = (after.status, after.holder, after.sequence) != (before.status, before.holder, before.sequence)
    if before.status is Status.LEASED and moved and not own:
        return _ended_by_others(before, after, running, began=began, tick=tick)
    return None


def _ended_by_others(before: Lock, after: Lock, running: list[Running], *, began: bool, tick: int) -> str | None:
    now = instant(tick)
    # The ends are computed here once more, so that a mistake in the rules shows.
    assert before.leased_at is not None
    assert before.granted_at is not None
    run_end = before.granted_at + timedelta(seconds=before.run_limit_seconds)
    lease = timedelta(seconds=before.lease_seconds)
    timeout = before.granted_at + timedelta(seconds=before.timeout_seconds)
    heard = max(min(before.leased_at, run_end) + lease, run_end) + timedelta(seconds=LOG_GRACE)
    if now < min(before.leased_at + lease, run_end):
        return f"the lease of token {before.token} was ended before its end"
    if now <= max(timeout, heard):
        for one in running:
            if one.lock.holder == before.holder and one.lock.token == before.token:
                return f"token {before.token} was taken over without evidence while its code runs"
    owed = {owed.id for owed in after.owed}
    if began and f"{before.sequence}-{before.token}-takeover" not in owed:
        return f"token {before.token} was taken over, and nobody is owed an alert"
    return None


@cache
def looked_after(number: int) -> str | None:
    """
    Return what is wrong with a record by itself.
    """
    lock = documents.lock_of(number)
    if lock is None:
        return None
    if lock.status in (Status.SCHEDULED, Status.LEASED) and lock.parked is None and lock.due is None:
        return f"it is {lock.status}, and nobody is to look at it"
    if lock.owed and lock.due is None:
        return "an alert is owed, and nobody is to send it"
    if lock.attempts > lock.max_attempts:
        return f"attempt {lock.attempts} of {lock.max_attempts}"
    return None
