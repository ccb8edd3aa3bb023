"""
The worlds of tasks: deliveries, attempts, sweeps, their troubles, and what must hold.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from gcp_oncetask import rules
from gcp_oncetask.execution.ended import Ended
from gcp_oncetask.rules.decisions import SettlementKind
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import Status
from gcp_oncetask.rules.statuses import FailureClass
from tests.model import documents
from tests.model.documents import instant, lock_of
from tests.model.explorer import Step
from tests.model.invariants import broken_in, wrong_in
from tests.model.loglines import LogLine
from tests.model.moves import (
    FAULTS,
    NO_CALL,
    about_of,
    answer_of,
    attempt_of,
    given_back,
    having,
    is_queued,
    is_stale,
    named_in,
    noted,
    shown_of,
    text_at,
    tidied,
    told_changes,
    with_line,
    with_process,
    without_document,
    word_of,
)
from tests.model.programs import Running, settlement
from tests.model.replay import Answer, Call, Failed, Request, run
from tests.model.state import (
    KEY_AT,
    Process,
    State,
    body_number,
    body_of,
    fresh,
    process_number,
    process_of,
)

AGAIN: Final = (Outcome.BUSY, Outcome.UNKNOWN, Outcome.EARLY, Outcome.SHORT_LEASE, Outcome.LOST)
"""Outcomes after which the queue delivers again."""
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
            told = f"process {seed} gets sequence {named_in(number)[1]} of {named_in(number)[0]}"
            rest = state._replace(messages=state.messages[:place] + state.messages[place + 1 :])
            if self.key is None and is_stale(state, number):
                yield self._at_once(rest, process, f"a duplicate of sequence {named_in(number)[1]} comes late")
                continue
            yield self._with(rest, None, process, told)
            for after in having(state, "duplicate"):
                yield self._with(after, None, process, f"{told}; it will come again")

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
                value = answer_of(state, asked)
            process = process._replace(answers=(*process.answers, Answer(asked.kind, state.tick, failure, value)))
        return Step(told, tidied(state))

    def _sweeps(self, state: State) -> Iterator[Step[State]]:
        if any((process_of(number).call or NO_CALL).name == "sweep" for number in state.processes):
            return
        for path, number in state.docs:
            lock = lock_of(number)
            due = None if lock is None or lock.due is None else lock.due.rsplit("/", 1)[-1]
            if lock is None or due is None or due > text_at(state.tick):
                continue
            seed = fresh(state)
            process = Process(Call("sweep", (path,), seed, state.tick), seed=seed)
            idle = (
                lock.status is Status.SCHEDULED and is_queued(state, path)
                if lock.status is not Status.LEASED
                else (not path.startswith(KEY_AT) and instant(state.tick) < rules.expires_at(lock))
            )
            for base in having(state, "idle sweep") if idle else (state,):
                yield self._with(base, None, process, f"process {seed} sweeps {path}")
        if self.key is not None and state.freed and not dict(state.docs).get(self.key):
            seed = fresh(state)
            process = Process(Call("look_for_forgotten", (), seed, state.tick), seed=seed)
            yield self._with(state, None, process, f"process {seed} looks for forgotten keys")

    def _people(self, state: State) -> Iterator[Step[State]]:
        if self.key is not None and dict(state.docs).get(self.key):
            for after in having(state, "freed key"):
                yield Step(
                    "a person deletes the key", after._replace(docs=without_document(after.docs, self.key), freed=True)
                )
        for path, number in state.docs:
            if number and path != self.key:
                for after in having(state, "deleted task"):
                    yield Step(
                        f"a person deletes {path}", after._replace(docs=without_document(after.docs, path), freed=True)
                    )

    def _goes_on(self, state: State, place: int) -> Iterator[Step[State]]:
        process = process_of(state.processes[place])
        name = f"process {process.seed}"
        if process.paused:
            yield Step(f"{name} goes on", with_process(state, place, process._replace(paused=False)))
            return
        for after in having(state, "pause"):
            yield Step(f"{name} is paused", with_process(after, place, process._replace(paused=True)))
        yield from self._crashes(state, place, process, name)
        if process.call is None:
            yield from self._user_code(state, place, process, name)
            return
        asked = run(process.call, process.answers)
        assert isinstance(asked, Request)
        if asked.kind == "commit":
            yield from self._commits(state, place, process, asked.value, name)
        else:
            value = answer_of(state, asked)
            after = state
            if asked.kind == "create":
                message = body_number(asked.value), 0
                after = state._replace(messages=tuple(sorted({*state.messages, message})))
            yield self._told(
                after,
                place,
                process,
                Answer(asked.kind, state.tick, None, value),
                f"{name}: {asked.kind} {shown_of(asked)}",
            )

    def _commits(self, state: State, place: int, process: Process, message: bytes, name: str) -> Iterator[Step[State]]:
        yield self._applies(state, message, place, f"{name} commits")
        for after in having(state, "lost answer"):
            yield self._applies(
                after, message, place, f"{name} commits, and its answer is lost", FailureClass.AMBIGUOUS
            )
        for after in having(state, "late landing"):
            flying = after._replace(flying=tuple(sorted((*after.flying, message))))
            answer = Answer("commit", state.tick, FailureClass.AMBIGUOUS)
            yield self._told(
                flying, place, process, answer, f"{name} commits, is told nothing, and the commit is under way"
            )
        for after in having(state, "contention"):
            yield self._told(
                after,
                place,
                process,
                Answer("commit", state.tick, FailureClass.CONTENTION),
                f"{name} is refused for contention",
            )

    def _crashes(self, state: State, place: int, process: Process, name: str) -> Iterator[Step[State]]:
        for after in having(state, "crash"):
            gone = with_process(after, place, None)
            if process.message is not None:
                gone = given_back(gone, process.message)
            yield Step(f"{name} dies, and nothing is logged", tidied(gone))
            nonce, own = attempt_of(process)
            if own is not None:
                line = LogLine("crash", nonce, own[0], own[1], own[2], state.tick, state.tick)
                yield Step(f"{name} dies, and the platform logs it", tidied(with_line(gone, line)))

    # --- user code ---

    def _user_code(self, state: State, place: int, process: Process, name: str) -> Iterator[Step[State]]:
        running = process.running
        assert running is not None
        if running.leased < state.tick:
            call = Call("renew", (running,), process.seed, state.tick)
            yield self._with(state, place, process._replace(call=call, answers=(), applied=""), f"{name} renews")
        last = running.lock.step >= self.steps_of_chain
        kinds = [(state, SettlementKind.COMPLETE if last else SettlementKind.CONTINUE)]
        kinds += [(after, SettlementKind.RETRY) for after in having(state, "failure")]
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
        yield self._with(with_line(state, line), place, ending, told)
        for after in having(state, "lost line"):
            yield self._with(after, place, ending, f"{told}, and its line is lost")
        for after in having(state, "late line"):
            late = line._replace(visible=state.tick + 3)
            yield self._with(with_line(after, late), place, ending, f"{told}, and its line comes late")

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
        told += f": {told_changes(state.docs, done.documents)}"
        broken = broken_in(state, done.documents, process)
        after = state._replace(docs=done.documents, stamp=state.stamp + 1)
        numbers = list(after.processes)
        for at, number in enumerate(numbers):
            numbers[at] = process_number(noted(process_of(number), state.docs, done.documents))
        if place is None:
            return Step(told, tidied(after._replace(processes=tuple(sorted(numbers)))), broken)
        process = process_of(numbers[place])
        after = after._replace(processes=tuple(numbers))
        answer = Answer("commit", state.tick, failure, None if failure is not None else done.response)
        step = self._told(after, place, process, answer, told)
        return step if broken is None else step._replace(broken=broken)

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
        return Step(told, tidied(with_process(state, place, process)))

    def _ended(self, state: State, place: int | None, process: Process, result: Any, told: str) -> Step[State]:
        assert process.call is not None
        name = process.call.name
        self.met[f"{name}: {word_of(result)}"] += 1
        told = f"{told}; {name}: {word_of(result)}"
        gone = with_process(state, place, None)
        after, broken = gone, None
        back = None if process.message is None else given_back(gone, process.message)
        if name == "deliver" and isinstance(result, Running):
            lock = result.lock
            if not process.applied:
                broken = f"{result.path}: token {lock.token} begins, and was never granted"
            line = LogLine("started", lock.holder or "", result.path, lock.sequence, lock.token, state.tick, state.tick)
            begun = process._replace(call=None, answers=(), running=result, applied="")
            after = with_line(with_process(state, place, begun), line)
        elif name == "deliver" and back is not None:
            after = back if not isinstance(result, Ended) or result.outcome in AGAIN else gone
            if isinstance(result, Failed) and result.unknown:
                nonce, own = attempt_of(process)
                assert own is not None
                after = with_line(after, LogLine("never-started", nonce, *own, state.tick, state.tick))
        elif name == "renew":
            after, broken = self._renewed(state, place, process, result, back or gone)
        elif name == "settle":
            lost = isinstance(result, Failed) and result.error == "LeaseLostError"
            # Nothing is left to read its settling from, once a person has deleted the document.
            if lost and process.applied == "own" and not self._is_deleted(state, process):
                broken = f"{about_of(process)} is told that its lease is lost, and its settling was applied"
            if not isinstance(result, Failed) and not process.applied:
                broken = f"{about_of(process)} is told that it is settled, and nothing was applied"
            after = back if isinstance(result, Failed) and not lost and back is not None else gone
        return Step(told, tidied(after), broken)

    @staticmethod
    def _is_deleted(state: State, process: Process) -> bool:
        # The call is of the attempt that is settled.
        assert process.call is not None
        return dict(state.docs).get(process.call.args[0].path, documents.MISSING) == documents.MISSING

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
            return with_process(state, place, going), None
        if result.error != "LeaseLostError":
            return with_process(state, place, process._replace(call=None, answers=(), applied="")), None
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
        return wrong_in(state, self.key)
