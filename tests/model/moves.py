"""
The parts of which transitions are made: states with one thing changed, and words for a story.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from gcp_oncetask.execution.ended import Ended
from gcp_oncetask.rules.delivery import Delivery
from gcp_oncetask.rules.record import Lock
from tests.model import documents
from tests.model.documents import ROOT, instant, lock_of
from tests.model.loglines import LogLine
from tests.model.programs import Running
from tests.model.replay import Call, Failed, Request
from tests.model.state import Process, State, body_of, process_number

FAULTS: Final = (
    "lost answer",
    "late landing",
    "contention",
    "crash",
    "duplicate",
    "lost line",
    "late line",
    "failure",
    "idle sweep",
    "pause",
    "freed key",
    "deleted task",
)
"""Kinds of fault."""
NO_CALL: Final = Call("", (), 0, 0)


def having(state: State, fault: str) -> Iterator[State]:
    if state.budget and fault in state.faults:
        rest = tuple(other for other in state.faults if other != fault)
        yield state._replace(faults=rest if state.budget > 1 else (), budget=state.budget - 1)


def with_process(state: State, place: int | None, process: Process | None) -> State:
    numbers = [number for at, number in enumerate(state.processes) if at != place]
    if process is not None:
        numbers.append(process_number(process))
    return state._replace(processes=tuple(sorted(numbers)))


def given_back(state: State, message: int) -> State:
    return state._replace(messages=tuple(sorted({*state.messages, (message, 1)})))


def with_line(state: State, line: LogLine) -> State:
    return state._replace(lines=tuple(sorted({*state.lines, line})))


def tidied(state: State) -> State:
    """
    Forget lines that nobody will ask for any more.
    """
    nonces = {lock.holder for _, number in state.docs if (lock := lock_of(number)) is not None}
    kept = tuple(
        line for line in state.lines if line.nonce in nonces or (line.event == "never-started" and state.flying)
    )
    return state if kept == state.lines else state._replace(lines=kept)


def without_document(docs: tuple[tuple[str, int], ...], path: str) -> tuple[tuple[str, int], ...]:
    return tuple((each, documents.MISSING if each == path else number) for each, number in docs)


@cache
def named_in(body: int) -> tuple[str, int, int]:
    delivery = Delivery.from_json(body_of(body))
    return delivery.document, delivery.sequence, delivery.dispatch


@cache
def text_at(tick: int) -> str:
    return instant(tick).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def attempt_of(process: Process) -> tuple[str, tuple[str, int, int] | None]:
    """
    Nonce of the attempt that *process* is in, with its document, sequence and token; None: it is in none.
    """
    call = process.call
    running = process.running or (call.args[0] if call is not None and call.name in ("settle", "renew") else None)
    if isinstance(running, Running):
        lock = running.lock
        return lock.holder or "", (running.path, lock.sequence, lock.token)
    if call is not None and call.name == "deliver":
        delivery = Delivery.from_json(call.args[0])  # type: ignore[arg-type]
        return f"n{process.seed}.1", (delivery.document, delivery.sequence, delivery.token + 1)
    return "", None


def is_queued(state: State, path: str) -> bool:
    """
    Tell whether the Cloud Task of the present dispatch of *path* is in its queue.
    """
    lock = lock_of(dict(state.docs)[path])
    now = None if lock is None else (path, lock.sequence, max(lock.dispatches, 1))
    return any(named_in(number) == now for number, _ in state.messages)


def is_stale(state: State, body: int) -> bool:
    """
    Tell whether the sequence of a delivery is over.
    """
    path, sequence, _ = named_in(body)
    lock = lock_of(dict(state.docs).get(path, documents.MISSING))
    return lock is None or lock.sequence > sequence or lock.finished


def answer_of(state: State, asked: Request) -> Any:
    """
    Return what a request that changes nothing is answered in *state*.
    """
    docs = dict(state.docs)
    match asked.kind:
        case "get" | "read":
            return tuple(docs.get(path, documents.MISSING) for path in asked.value)
        case "parked":
            waiting = [(lock.parked, number) for _, number in state.docs if (lock := lock_of(number)) and lock.parked]
            return tuple(number for _, number in sorted(waiting))
        case "lines":
            # All of a crashed instance are found by its own lines, as in the library's query.
            return tuple(line for line in state.lines if line.nonce in asked.value and line.visible <= state.tick)
        case "queued":
            return is_queued(state, asked.value[0])
        case _:
            return None


def about_of(process: Process) -> str:
    _, own = attempt_of(process)
    assert own is not None
    return f"{own[0]}: token {own[2]}"


def noted(process: Process, before: tuple[tuple[str, int], ...], after: tuple[tuple[str, int], ...]) -> Process:
    """
    The same process, which is marked if the commit from *before* to *after* was its own.
    """
    call = process.call
    if call is None or process.applied:
        return process
    old = dict(before)
    for path, number in after:
        was, now = lock_of(old.get(path, documents.MISSING)), lock_of(number)
        if now is None or number == old.get(path):
            continue
        name, nonce = (
            ("settled_by", f"n{process.seed}.s") if call.name == "settle" else ("holder", f"n{process.seed}.1")
        )
        if getattr(now, name) == nonce and (was is None or getattr(was, name) != nonce):
            # Another process may commit the logged settlement; then it owes an alert.
            recovered = was is not None and now.owed != was.owed and call.name == "settle"
            return process._replace(applied="recovered" if recovered else "own")
    return process


def is_settled_by_holder(before: Lock, after: Lock, state: State, process: Process | None) -> bool:
    """
    Whether the holder in *before* has settled; one that has died, or whose commit lands late, may have as well.
    """
    if after.settled_by == before.settled_by:
        return False
    if process is None or process.call is None:
        return True
    return process.call.name in ("settle", "deliver") and (after.settled_by or "").startswith(f"n{process.seed}.")


def told_changes(before: tuple[tuple[str, int], ...], after: tuple[tuple[str, int], ...]) -> str:
    old = dict(before)
    told = []
    for path, number in after:
        if number != old.get(path):
            lock = lock_of(number)
            if lock is not None:
                told.append(f"{path} is {lock.status}, sequence {lock.sequence}, token {lock.token}, {lock.holder}")
    return "; ".join(told)


def shown_of(asked: Request) -> str:
    return " ".join(path.removeprefix(ROOT) for path in asked.value) if asked.kind in ("get", "read") else ""


def word_of(result: Any) -> str:
    match result:
        case Running():
            return f"granted, token {result.lock.token}"
        case Ended():
            return str(result.outcome)
        case Failed():
            return f"{result.error}{', unknown' if result.unknown else ''}"
        case _:
            return str(result)
