"""
The worlds of tasks: deliveries, attempts, sweeps, their troubles, and what must hold.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from gcp_oncetask import rules
from gcp_oncetask.execution.ended import Ended
from gcp_oncetask.rules.decisions import SettlementKind
from gcp_oncetask.rules.delivery import Delivery
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.rules.statuses import FailureClass
from tests.model import documents
from tests.model.documents import ROOT, instant, lock_of
from tests.model.explorer import Step
from tests.model.loglines import LogLine
from tests.model.programs import Running, believes, settlement
from tests.model.replay import Answer, Call, Failed, Request, run
from tests.model.state import (
    KEY_AT,
    Process,
    State,
    body_number,
    body_of,
    broken_by,
    fresh,
    looked_after,
    process_number,
    process_of,
)

AGAIN: Final = (Outcome.BUSY, Outcome.UNKNOWN, Outcome.EARLY, Outcome.SHORT_LEASE, Outcome.LOST)
"""Outcomes after which the queue delivers again."""
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
SLOTS: Final = 2


@dataclass
class TaskWorld:
    """
    A world of tasks.

    Attributes:
        docs: The documents at the beginning.
        bodies: The deliveries at the beginning.
        last: The last tick.
        faults: Kinds of fault, each of which may happen once.
        budget: How many faults may happen in one path.
        steps_of_chain: Steps of each chain.
        key: Path of the resource key that all tasks need; None: they need none.
        met: What has happened, and how often.
    """

    docs: tuple[tuple[str, int], ...]
    bodies: tuple[bytes, ...]
    last: int = 5
    faults: tuple[str, ...] = FAULTS
    budget: int = 2
    steps_of_chain: int = 2
    key: str | None = None
    met: Counter[str] = field(default_factory=Counter)

    def first(self) -> State:
        """
        Return the state in which the world begins.
        """
        messages = tuple(sorted((body_number(body), 0) for body in self.bodies))
        return State(
            0, len(self.docs), self.docs, messages=messages, faults=tuple(sorted(self.faults)), budget=self.budget
        )

    # --- transitions ---

    def steps(self, state: State) -> Iterator[Step[State]]:
        """
        Yield all transitions from *state*.
        """
        if state.tick < self.last and self._passes(state):
            yield Step(f"time goes on to {state.tick + 1}", state._replace(tick=state.tick + 1, stamp=0))
        for place in range(len(state.processes)):
            yield from self._goes_on(state, place)
        if len(state.processes) < SLOTS:
            yield from self._deliveries(state)
            yield from self._sweeps(state)
        for place, message in enumerate(state.flying):
            rest = state._replace(flying=state.flying[:place] + state.flying[place + 1 :])
            yield self._applies(rest, message, None, "a commit lands late")
        yield from self._people(state)

    def _passes(self, state: State) -> bool:
        """
        Whether time goes on: only while every process that is not paused runs user code and has renewed its lease. It makes
        no difference while nothing but a delivery is waited for.
        """
        for number in state.processes:
            process = process_of(number)
            quick = process.call is None and process.running is not None and process.running.leased == state.tick
            if not process.paused and not quick:
                return False
        locks = [lock_of(number) for path, number in state.docs if not path.startswith(KEY_AT)]
        if not state.processes and not state.flying and all(lock is None or lock.finished for lock in locks):
            return False
        waits = not state.processes and state.messages and not state.flying
        return not waits or any(lock is not None and lock.status is Status.LEASED for lock in locks)

    def _deliveries(self, state: State) -> Iterator[Step[State]]:
        for place, (number, tried) in enumerate(state.messages):
            seed = fresh(state)
            process = Process(Call("deliver", (body_of(number), tried), seed, state.tick), message=number, seed=seed)
            told = f"process {seed} gets sequence {_named(number)[1]} of {_named(number)[0]}"
            rest = state._replace(messages=state.messages[:place] + state.messages[place + 1 :])
            if self.key is None and self._stale(state, number):
                yield self._at_once(rest, process, f"a duplicate of sequence {_named(number)[1]} comes late")
                continue
            yield self._with(rest, None, process, told)
            for after in _uses(state, "duplicate"):
                yield self._with(after, None, process, f"{told}; it will come again")

    @staticmethod
    def _stale(state: State, body: int) -> bool:
        path, sequence, _ = _named(body)
        lock = lock_of(dict(state.docs).get(path, documents.MISSING))
        return lock is None or lock.sequence > sequence or lock.finished

    def _at_once(self, state: State, process: Process, told: str) -> Step[State]:
        """
        Let a delivery run to its end that can only be refused: when it is does not matter to the others.
        """
        assert process.call is not None
        while isinstance(asked := run(process.call, process.answers), Request):
            failure, value = None, None
            if asked.kind == "commit":
                if documents.commit(state.docs, asked.value, state.tick, state.stamp + 1) is not None:
                    return Step(told, state, f"{told}, and is granted a lease")
                failure = FailureClass.MOVED
            else:
                value = self._answered(state, asked)
            process = process._replace(answers=(*process.answers, Answer(asked.kind, state.tick, failure, value)))
        return Step(told, _tidy(state))

    def _sweeps(self, state: State) -> Iterator[Step[State]]:
        if any((process_of(number).call or _NO_CALL).name == "sweep" for number in state.processes):
            return
        for path, number in state.docs:
            lock = lock_of(number)
            due = None if lock is None or lock.due is None else lock.due.rsplit("/", 1)[-1]
            if lock is None or due is None or due > _text(state.tick):
                continue
            seed = fresh(state)
            process = Process(Call("sweep", (path,), seed, state.tick), seed=seed)
            idle = (
                lock.status is Status.SCHEDULED and self._queued(state, path)
                if lock.status is not Status.LEASED
                else (not path.startswith(KEY_AT) and instant(state.tick) < rules.expires_at(lock))
            )
            for base in _uses(state, "idle sweep") if idle else (state,):
                yield self._with(base, None, process, f"process {seed} sweeps {path}")
        if self.key is not None and state.freed and not dict(state.docs).get(self.key):
            seed = fresh(state)
            process = Process(Call("look_for_forgotten", (), seed, state.tick), seed=seed)
            yield self._with(state, None, process, f"process {seed} looks for forgotten keys")

    @staticmethod
    def _queued(state: State, path: str) -> bool:
        lock = lock_of(dict(state.docs)[path])
        now = None if lock is None else (path, lock.sequence, max(lock.dispatches, 1))
        return any(_named(number) == now for number, _ in state.messages)

    def _people(self, state: State) -> Iterator[Step[State]]:
        if self.key is not None and dict(state.docs).get(self.key):
            for after in _uses(state, "freed key"):
                yield Step("a person deletes the key", after._replace(docs=_without(after.docs, self.key), freed=True))
        for path, number in state.docs:
            if number and path != self.key:
                for after in _uses(state, "deleted task"):
                    yield Step(f"a person deletes {path}", after._replace(docs=_without(after.docs, path), freed=True))

    def _goes_on(self, state: State, place: int) -> Iterator[Step[State]]:
        process = process_of(state.processes[place])
        name = f"process {process.seed}"
        if process.paused:
            yield Step(f"{name} goes on", _replaced(state, place, process._replace(paused=False)))
            return
        for after in _uses(state, "pause"):
            yield Step(f"{name} is paused", _replaced(after, place, process._replace(paused=True)))
        yield from self._crashes(state, place, process, name)
        if process.call is None:
            yield from self._user_code(state, place, process, name)
            return
        asked = run(process.call, process.answers)
        assert isinstance(asked, Request)
        if asked.kind == "commit":
            yield from self._commits(state, place, process, asked.value, name)
        else:
            value = self._answered(state, asked)
            after = state
            if asked.kind == "create":
                message = body_number(asked.value), 0
                after = state._replace(messages=tuple(sorted({*state.messages, message})))
            yield self._told(
                after,
                place,
                process,
                Answer(asked.kind, state.tick, None, value),
                f"{name}: {asked.kind} {_shown(asked)}",
            )

    def _answered(self, state: State, asked: Request) -> Any:
        docs = dict(state.docs)
        match asked.kind:
            case "get" | "read":
                return tuple(docs.get(path, documents.MISSING) for path in asked.value)
            case "parked":
                waiting = [
                    (lock.parked, number) for _, number in state.docs if (lock := lock_of(number)) and lock.parked
                ]
                return tuple(number for _, number in sorted(waiting))
            case "lines":
                # All of a crashed instance are found by its own lines, as in the library's query.
                return tuple(line for line in state.lines if line.nonce in asked.value and line.visible <= state.tick)
            case "queued":
                return self._queued(state, asked.value[0])
            case _:
                return None

    def _commits(self, state: State, place: int, process: Process, message: bytes, name: str) -> Iterator[Step[State]]:
        yield self._applies(state, message, place, f"{name} commits")
        for after in _uses(state, "lost answer"):
            yield self._applies(
                after, message, place, f"{name} commits, and its answer is lost", FailureClass.AMBIGUOUS
            )
        for after in _uses(state, "late landing"):
            flying = after._replace(flying=tuple(sorted((*after.flying, message))))
            answer = Answer("commit", state.tick, FailureClass.AMBIGUOUS)
            yield self._told(
                flying, place, process, answer, f"{name} commits, is told nothing, and the commit is under way"
            )
        for after in _uses(state, "contention"):
            yield self._told(
                after,
                place,
                process,
                Answer("commit", state.tick, FailureClass.CONTENTION),
                f"{name} is refused for contention",
            )

    def _crashes(self, state: State, place: int, process: Process, name: str) -> Iterator[Step[State]]:
        for after in _uses(state, "crash"):
            gone = _replaced(after, place, None)
            if process.message is not None:
                gone = _back(gone, process.message)
            yield Step(f"{name} dies, and nothing is logged", _tidy(gone))
            nonce, own = _attempt_of(process)
            if own is not None:
                line = LogLine("crash", nonce, own[0], own[1], own[2], state.tick, state.tick)
                yield Step(f"{name} dies, and the platform logs it", _tidy(_logged(gone, line)))

    # --- user code ---

    def _user_code(self, state: State, place: int, process: Process, name: str) -> Iterator[Step[State]]:
        running = process.running
        assert running is not None
        if running.leased < state.tick:
            call = Call("renew", (running,), process.seed, state.tick)
            yield self._with(state, place, process._replace(call=call, answers=(), applied=""), f"{name} renews")
        last = running.lock.step >= self.steps_of_chain
        kinds = [(state, SettlementKind.COMPLETE if last else SettlementKind.CONTINUE)]
        kinds += [(after, SettlementKind.RETRY) for after in _uses(state, "failure")]
        for base, kind in kinds:
            yield from self._ends(base, place, process, running, kind, f"{name} ends: {kind}")

    def _ends(
        self, state: State, place: int, process: Process, running: Running, kind: SettlementKind, told: str
    ) -> Iterator[Step[State]]:
        call = Call("settle", (running, kind), process.seed, state.tick)
        ending = process._replace(call=call, answers=(), running=None, applied="")
        lock = running.lock
        logged = json.dumps({**settlement(running, process.seed, kind).to_data(), "fields": {}})
        line = LogLine(
            "returned", lock.holder or "", running.path, lock.sequence, lock.token, state.tick, state.tick, logged
        )
        yield self._with(_logged(state, line), place, ending, told)
        for after in _uses(state, "lost line"):
            yield self._with(after, place, ending, f"{told}, and its line is lost")
        for after in _uses(state, "late line"):
            late = line._replace(visible=state.tick + 3)
            yield self._with(_logged(after, late), place, ending, f"{told}, and its line comes late")

    # --- after a commit, and after an answer ---

    def _applies(
        self, state: State, message: bytes, place: int | None, told: str, failure: FailureClass | None = None
    ) -> Step[State]:
        """
        Apply a commit, of the process at *place* or landing late, and answer it.
        """
        process = None if place is None else process_of(state.processes[place])
        done = documents.commit(state.docs, message, state.tick, state.stamp + 1)
        if done is None:
            if place is None or process is None:
                return Step(f"{told}: it is refused", state)
            answer = Answer("commit", state.tick, failure or FailureClass.MOVED)
            return self._told(state, place, process, answer, f"{told}: the document has moved")
        told += f": {_changes(state.docs, done.documents)}"
        broken = self._broken(state, done.documents, process)
        after = state._replace(docs=done.documents, stamp=state.stamp + 1)
        numbers = list(after.processes)
        for at, number in enumerate(numbers):
            numbers[at] = process_number(_noted(process_of(number), state.docs, done.documents))
        if place is None:
            return Step(told, _tidy(after._replace(processes=tuple(sorted(numbers)))), broken)
        process = process_of(numbers[place])
        after = after._replace(processes=tuple(numbers))
        answer = Answer("commit", state.tick, failure, None if failure is not None else done.response)
        step = self._told(after, place, process, answer, told)
        return step if broken is None else step._replace(broken=broken)

    def _broken(self, state: State, after: tuple[tuple[str, int], ...], process: Process | None) -> str | None:
        old = dict(state.docs)
        running = [r for number in state.processes if (r := process_of(number).running) is not None]
        for path, number in after:
            if path.startswith(KEY_AT) or number == old.get(path):
                continue
            before, now = lock_of(old.get(path, documents.MISSING)), lock_of(number)
            own = before is not None and now is not None and _settled(before, now, state, process)
            began = before is not None and any(
                line.nonce == before.holder and line.event == "started" for line in state.lines
            )
            wrong = broken_by(before, now, own=own, running=running, began=began, tick=state.tick)
            if wrong is not None:
                return f"{path}: {wrong}"
        return None

    def _told(self, state: State, place: int, process: Process, answer: Answer, told: str) -> Step[State]:
        return self._with(state, place, process._replace(answers=(*process.answers, answer)), told)

    def _with(self, state: State, place: int | None, process: Process, told: str) -> Step[State]:
        """
        Put *process* at *place* (None: it is new); if its call has ended, let it draw the consequences.
        """
        if process.call is not None:
            result = run(process.call, process.answers)
            if not isinstance(result, Request):
                return self._ended(state, place, process, result[0], told)
        return Step(told, _tidy(_replaced(state, place, process)))

    def _ended(self, state: State, place: int | None, process: Process, result: Any, told: str) -> Step[State]:
        assert process.call is not None
        name = process.call.name
        self.met[f"{name}: {_word(result)}"] += 1
        told = f"{told}; {name}: {_word(result)}"
        gone = _replaced(state, place, None)
        after, broken = gone, None
        back = None if process.message is None else _back(gone, process.message)
        if name == "deliver" and isinstance(result, Running):
            lock = result.lock
            if not process.applied:
                broken = f"{result.path}: token {lock.token} begins, and was never granted"
            line = LogLine("started", lock.holder or "", result.path, lock.sequence, lock.token, state.tick, state.tick)
            begun = process._replace(call=None, answers=(), running=result, applied="")
            after = _logged(_replaced(state, place, begun), line)
        elif name == "deliver" and back is not None:
            after = back if not isinstance(result, Ended) or result.outcome in AGAIN else gone
            if isinstance(result, Failed) and result.unknown:
                nonce, own = _attempt_of(process)
                assert own is not None
                after = _logged(after, LogLine("never-started", nonce, *own, state.tick, state.tick))
        elif name == "renew":
            after, broken = self._renewed(state, place, process, result, back or gone)
        elif name == "settle":
            lost = isinstance(result, Failed) and result.error == "LeaseLostError"
            if lost and process.applied == "own":
                broken = f"{_about(process)} is told that its lease is lost, and its settling was applied"
            if not isinstance(result, Failed) and not process.applied:
                broken = f"{_about(process)} is told that it is settled, and nothing was applied"
            after = back if isinstance(result, Failed) and not lost and back is not None else gone
        return Step(told, _tidy(after), broken)

    def _renewed(
        self, state: State, place: int | None, process: Process, result: Any, gone: State
    ) -> tuple[State, str | None]:
        running = process.running
        assert running is not None
        if isinstance(result, Running):
            known, mine = result.lock, running.lock
            if (known.status, known.token, known.holder) != (Status.LEASED, mine.token, mine.holder):
                return (
                    gone,
                    f"{running.path}: token {mine.token} has renewed the lease of {known.token}, {known.status}",
                )
            going = process._replace(call=None, answers=(), running=result, applied="")
            return _replaced(state, place, going), None
        if result.error != "LeaseLostError":
            return _replaced(state, place, process._replace(call=None, answers=(), applied="")), None
        lock = lock_of(dict(state.docs).get(running.path, documents.MISSING))
        mine = lock is not None and (lock.status, lock.token, lock.holder) == (
            Status.LEASED,
            running.lock.token,
            running.lock.holder,
        )
        return (
            gone,
            f"{running.path}: token {running.lock.token} is told that it is lost, and it is not" if mine else None,
        )

    # --- what must hold ---

    def wrong(self, state: State) -> str | None:
        """
        Return what is wrong in *state*.
        """
        believers: Counter[str] = Counter()
        for number in state.processes:
            running = process_of(number).running
            if running is not None and believes(running, state.tick):
                believers[running.path] += 1
                if self.key is not None and running.hand is not None and not state.freed:
                    believers[self.key] += 1
        for path, count in believers.items():
            if count > 1:
                return f"{path}: {count} attempts believe that they have it"
        for path, number in state.docs:
            wrong = looked_after(number)
            if wrong is not None and not path.startswith(KEY_AT):
                return f"{path}: {wrong}"
        return self._parked(state) if self.key is not None and not state.freed else None

    def _parked(self, state: State) -> str | None:
        docs = dict(state.docs)
        assert self.key is not None
        for path, number in state.docs:
            lock = lock_of(number)
            if lock is None or lock.parked is None:
                continue
            key = documents.document_of(docs.get(self.key, documents.MISSING))
            record = lock_of(docs.get(self.key, documents.MISSING))
            if key is None or record is None or not key.fields["waiting"].integer_value or record.due is None:
                return f"{path}: it waits for its key, and nobody is to look at the key"
        return None


_NO_CALL: Final = Call("", (), 0, 0)


def _uses(state: State, fault: str) -> Iterator[State]:
    if state.budget and fault in state.faults:
        rest = tuple(other for other in state.faults if other != fault)
        yield state._replace(faults=rest if state.budget > 1 else (), budget=state.budget - 1)


def _replaced(state: State, place: int | None, process: Process | None) -> State:
    numbers = [number for at, number in enumerate(state.processes) if at != place]
    if process is not None:
        numbers.append(process_number(process))
    return state._replace(processes=tuple(sorted(numbers)))


def _back(state: State, message: int) -> State:
    return state._replace(messages=tuple(sorted({*state.messages, (message, 1)})))


def _logged(state: State, line: LogLine) -> State:
    return state._replace(lines=tuple(sorted({*state.lines, line})))


def _tidy(state: State) -> State:
    """
    Forget lines that nobody will ask for any more.
    """
    nonces = {lock.holder for _, number in state.docs if (lock := lock_of(number)) is not None}
    kept = tuple(line for line in state.lines if line.nonce in nonces or (line.event == "never-started" and state.flying))
    return state if kept == state.lines else state._replace(lines=kept)


def _without(docs: tuple[tuple[str, int], ...], path: str) -> tuple[tuple[str, int], ...]:
    return tuple((each, documents.MISSING if each == path else number) for each, number in docs)


@cache
def _named(body: int) -> tuple[str, int, int]:
    delivery = Delivery.from_json(body_of(body))
    return delivery.document, delivery.sequence, delivery.dispatch


@cache
def _text(tick: int) -> str:
    return instant(tick).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _attempt_of(process: Process) -> tuple[str, tuple[str, int, int] | None]:
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


def _about(process: Process) -> str:
    _, own = _attempt_of(process)
    assert own is not None
    return f"{own[0]}: token {own[2]}"


def _noted(process: Process, before: tuple[tuple[str, int], ...], after: tuple[tuple[str, int], ...]) -> Process:
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


def _settled(before: Lock, after: Lock, state: State, process: Process | None) -> bool:
    """
    Whether the holder in *before* has settled; one that has died, or whose commit lands late, may have as well.
    """
    if after.settled_by == before.settled_by:
        return False
    if (
        process is None
        or process.call is None
        or (process.call.name in ("settle", "deliver")
        and process.seed
        and (after.settled_by or "").startswith(f"n{process.seed}."))
    ):
        return True
    return False


def _changes(before: tuple[tuple[str, int], ...], after: tuple[tuple[str, int], ...]) -> str:
    old = dict(before)
    told = []
    for path, number in after:
        if number != old.get(path):
            lock = lock_of(number)
            if lock is not None:
                told.append(f"{path} is {lock.status}, sequence {lock.sequence}, token {lock.token}, {lock.holder}")
    return "; ".join(told)


def _shown(asked: Request) -> str:
    return " ".join(path.removeprefix(ROOT) for path in asked.value) if asked.kind in ("get", "read") else ""


def _word(result: Any) -> str:
    match result:
        case Running():
            return f"granted, token {result.lock.token}"
        case Ended():
            return str(result.outcome)
        case Failed():
            return f"{result.error}{', unknown' if result.unknown else ''}"
        case _:
            return str(result)
