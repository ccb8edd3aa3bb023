"""
The flow of a change without a store: which requests it makes, in which order, for each answer that it may get.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.cloud.firestore_v1.types import firestore as _api
from google.protobuf.timestamp_pb2 import Timestamp

from gcp_emulator.clock import VirtualClock
from gcp_oncetask import (
    ConflictError,
    ContentionError,
    DamagedError,
    OncetaskError,
    StoreError,
    UnknownFeatureError,
    UsageError,
)
from gcp_oncetask.rules.decisions import Lost, NeedTime, Put, Refused
from gcp_oncetask.rules.document_paths import key_path
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.rules.statuses import FailureClass
from gcp_oncetask.store import flow
from gcp_oncetask.store.codec import DocumentType, encode, put
from gcp_oncetask.store.failures import WireError
from gcp_oncetask.store.flow import Changed, ChangeFlow, FlowRequest
from gcp_oncetask.store.side_writes import Hold
from gcp_oncetask.store.snapshot import Changes, Snapshot
from gcp_oncetask.testing.cloud import TestClock

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PATH = "orders/1"
TASK = "onceTasks/c9:work:DEFAULT:1"
KEY = key_path("DEFAULT", "k")
FREE = Lock.of({"env": "DEFAULT", "sequence": 1, "status": Status.SCHEDULED})
MINE = FREE.but(status=Status.LEASED, holder="me", token=1, granted_at=NOW, leased_at=NOW)
OTHERS = MINE.but(holder="other")
DONE = MINE.but(status=Status.COMPLETED, holder=None, settled_by="mine")
BEYOND = FREE.but(sequence=3, token=5, scheduled_by="other", scheduled_token=4)
NEWER = FREE.but(needs=("tomorrow",))
BUSY = Refused(Outcome.BUSY, "it is held")
LOST = Lost("it is gone", finished=True)

Answer = Snapshot | dict[str, Snapshot] | Sequence[Any] | Exception | datetime | None


def at(version: int, lock: Lock | None, path: str = PATH, read: datetime | None = None) -> Snapshot:
    """
    The document with *lock* as it is at *version*.
    """
    return Snapshot(path, Timestamp(seconds=version), DocumentType(), lock, read)


def fails(fate: FailureClass) -> WireError:
    return WireError(fate, grpc.StatusCode.UNAVAILABLE, "no")


MOVED, CONTENTION, AMBIGUOUS, REFUSED = (
    fails(fate) for fate in (FailureClass.MOVED, FailureClass.CONTENTION, FailureClass.AMBIGUOUS, FailureClass.REFUSED)
)
UNREADABLE = StoreError("Firestore: reading failed.", unknown=False)
APPLIED: list[Any] = []


class Plain:
    """
    Messages of a database that nobody can reach.
    """

    def __init__(self) -> None:
        self.time: datetime | None = NOW

    def request(self, path: str) -> Any:
        made = _api.CommitRequest.pb()()
        made.writes.add().update.name = self.name(path)
        return made

    def name(self, path: str) -> str:
        return f"projects/p/databases/d/documents/{path}"

    def estimate(self) -> datetime | None:
        return self.time


class Beside:
    """
    Another document that is written along, and what is heard of it.
    """

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def writes(self, put: Put) -> Sequence[Any]:
        request = _api.CommitRequest.pb()()
        request.writes.add().update.name = "beside"
        return request.writes

    def done(self, results: Sequence[Any] | None) -> None:
        self.heard.append(None if results is None else len(results))

    def again(self) -> None:
        raise AssertionError("the flow asks for it, and does not call it")


class Player:
    """
    Answers the requests of a flow by a list, in its order.

    Attributes:
        asked: What was asked, a word or two each; of a commit, the documents that it writes.
    """

    def __init__(self, answers: Sequence[Answer]) -> None:
        self.asked: list[str] = []
        self._answers = list(answers)
        self.clock = TestClock(VirtualClock())

    def __call__(self, request: FlowRequest) -> Any:
        match request:
            case flow.Backoff():
                self.asked.append(f"pause {request.tries}")
                self.clock.virtual.advance(1)
                return None
            case flow.Commit():
                names = [write.update.name.removeprefix(Plain().name("")) for write in request.message.writes]
                shares = "" if request.path is None else "share "
                self.asked.append(f"{shares}commit {' '.join(names)}")
            case flow.Get() | flow.Read():
                self.asked.append(f"{type(request).__name__.lower()} {request.path}")
            case flow.ReadAll():
                self.asked.append(f"read {' '.join(request.paths)}")
            case flow.ServerTime():
                self.asked.append("time")
            case flow.ReadAlong():
                self.asked.append("along")
        assert self._answers, f"not foreseen: {self.asked[-1]}"
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if answer is APPLIED:
            response = _api.CommitResponse.pb()()
            for _ in request.message.writes:
                result = response.write_results.add(update_time=Timestamp(seconds=99))
                result.transform_results.add().integer_value = 1
            return response
        return answer

    def play(self, decide: Callable[[Snapshot], Any], path: str = PATH, **options: Any) -> Changed[Any] | OncetaskError:
        """
        Run a change to its end, with 3 s of patience, and a second for each pause.
        """
        messages = Plain()
        messages.time = options.pop("time", NOW)
        change = ChangeFlow(messages, self.clock, 3, path, decide, **options)
        try:
            end: Changed[Any] | OncetaskError = flow.drive(change.run(), self)
        except OncetaskError as error:
            end = error
        assert not self._answers, f"not asked for: {self._answers}"
        return end


def claim(seen: Snapshot) -> Put | Refused:
    """
    Take what is free.
    """
    return Put(MINE) if seen.lock == FREE else BUSY


def timely(seen: Snapshot) -> Put | NeedTime:
    return Put(MINE) if seen.read is not None else NeedTime()


def end(seen: Snapshot) -> Put | Lost:
    """
    Complete what is mine.
    """
    return Put(DONE) if seen.lock == MINE else LOST


COMMIT = f"commit {PATH}"
GET = f"get {PATH}"
PATIENT = [COMMIT, "pause 1", COMMIT, "pause 2", COMMIT, "pause 3", COMMIT]


@pytest.mark.parametrize(
    ("answers", "asked", "decided", "version"),
    [
        pytest.param([at(1, FREE), APPLIED], [GET, COMMIT], Put(MINE), 99, id="applied"),
        pytest.param([at(1, OTHERS)], [GET], BUSY, 1, id="refused by the rule"),
        pytest.param(
            [at(1, FREE), MOVED, at(2, OTHERS)], [GET, COMMIT, GET], BUSY, 2, id="moved, and refused by the rule"
        ),
        pytest.param(
            [at(1, FREE), MOVED, at(2, FREE), APPLIED],
            [GET, COMMIT, GET, COMMIT],
            Put(MINE),
            99,
            id="moved, and decided anew without a pause",
        ),
        pytest.param(
            [at(1, FREE), MOVED, at(2, FREE), MOVED, at(3, FREE), APPLIED],
            [GET, COMMIT, GET, COMMIT, GET, "pause 2", COMMIT],
            Put(MINE),
            99,
            id="moved twice, then a pause",
        ),
        pytest.param(
            [at(1, FREE), CONTENTION, APPLIED], [GET, COMMIT, "pause 1", COMMIT], Put(MINE), 99, id="contention, once"
        ),
        pytest.param(
            [at(1, FREE), AMBIGUOUS, MOVED, at(2, MINE)],
            [GET, COMMIT, "pause 1", COMMIT, GET],
            Put(MINE),
            2,
            id="answer lost, and applied",
        ),
        pytest.param(
            [at(1, FREE), AMBIGUOUS, APPLIED],
            [GET, COMMIT, "pause 1", COMMIT],
            Put(MINE),
            99,
            id="answer lost, not applied, and nobody came between",
        ),
        pytest.param(
            [at(1, FREE), AMBIGUOUS, MOVED, at(2, OTHERS)],
            [GET, COMMIT, "pause 1", COMMIT, GET, "pause 2"],
            BUSY,
            2,
            id="answer lost, not applied, and somebody came between",
        ),
        pytest.param(
            [at(1, FREE), AMBIGUOUS, CONTENTION, at(1, FREE), APPLIED],
            [GET, COMMIT, "pause 1", COMMIT, GET, "pause 2", COMMIT],
            Put(MINE),
            99,
            id="answer lost, then contention: looked at, and written again",
        ),
    ],
)
def test_claim(answers: Sequence[Answer], asked: list[str], decided: Any, version: int) -> None:
    player = Player(answers)
    changed = player.play(claim)
    assert player.asked == asked
    assert isinstance(changed, Changed)
    assert (changed.decision, changed.snapshot.version.seconds) == (decided, version)


NEW = at(0, None)
AGAIN = FREE.but(attempts=1)
RUNNING = MINE.but(attempts=1)


@pytest.mark.parametrize(
    ("before", "after", "options", "answers", "asked"),
    [
        pytest.param(NEW, FREE, {}, [APPLIED], [f"share {COMMIT}"], id="created"),
        pytest.param(at(1, FREE), RUNNING, {}, [APPLIED], [f"share {COMMIT}"], id="claimed first"),
        pytest.param(at(1, RUNNING), DONE, {}, [APPLIED], [f"share {COMMIT}"], id="settled"),
        pytest.param(at(1, AGAIN), MINE.but(attempts=2), {}, [APPLIED], [COMMIT], id="claimed again"),
        pytest.param(at(1, RUNNING), RUNNING.but(leased_at=None), {}, [APPLIED], [COMMIT], id="renewed"),
        pytest.param(at(1, FREE), FREE.but(due="later"), {}, [APPLIED], [COMMIT], id="put off"),
        pytest.param(NEW, FREE, {"shares": False}, [APPLIED], [COMMIT], id="its caller lets it not share"),
        pytest.param(
            at(1, FREE), RUNNING, {"along": Beside()}, [APPLIED], [f"{COMMIT} beside"], id="with another document"
        ),
        pytest.param(
            at(1, FREE),
            RUNNING,
            {},
            [CONTENTION, APPLIED],
            [f"share {COMMIT}", "pause 1", COMMIT],
            id="the second try goes alone",
        ),
    ],
)
def test_commit_may_share_a_call(
    before: Snapshot, after: Lock, options: dict[str, Any], answers: Sequence[Answer], asked: list[str]
) -> None:
    """
    A create, a first claim or a settling, of one document, in its first try, if its caller lets it.
    """
    player = Player(answers)
    changed = player.play(lambda seen: Put(after), start=before, **{"shares": True, **options})
    assert player.asked == asked
    assert isinstance(changed, Changed)


def test_first_decision_is_on_what_is_known() -> None:
    player = Player([APPLIED])
    player.play(claim, start=at(1, FREE))
    assert player.asked == [COMMIT]


def test_decision_that_needs_the_time_reads_again() -> None:
    player = Player([at(1, FREE, read=NOW), APPLIED])
    player.play(timely, start=at(1, FREE))
    assert player.asked == [f"read {PATH}", COMMIT]


@pytest.mark.parametrize(
    ("answers", "asked", "error", "unknown"),
    [
        pytest.param([CONTENTION] * 4, PATIENT, ContentionError, None, id="contention until patience is over"),
        pytest.param([AMBIGUOUS] * 4, PATIENT, StoreError, True, id="answers lost until then"),
        pytest.param(
            [AMBIGUOUS, MOVED, at(2, FREE), CONTENTION, CONTENTION],
            [COMMIT, "pause 1", COMMIT, GET, "pause 2", COMMIT, "pause 3", COMMIT],
            ContentionError,
            None,
            id="answer lost, somebody came between, then contention: nothing of it is in doubt",
        ),
        pytest.param([REFUSED], [COMMIT], StoreError, False, id="refused for good"),
        pytest.param(
            [AMBIGUOUS, REFUSED, at(1, FREE), REFUSED, at(1, FREE), REFUSED, at(1, FREE)],
            [COMMIT, "pause 1", COMMIT, GET, "pause 2", COMMIT, GET, "pause 3", COMMIT, GET],
            StoreError,
            True,
            id="refused, after an answer was lost: looked at",
        ),
        pytest.param(
            [AMBIGUOUS, MOVED, UNREADABLE],
            [COMMIT, "pause 1", COMMIT, GET],
            StoreError,
            True,
            id="answer lost, and unreadable",
        ),
        pytest.param([MOVED, UNREADABLE], [COMMIT, GET], StoreError, False, id="moved, and unreadable"),
    ],
)
def test_errors(answers: Sequence[Answer], asked: list[str], error: type[OncetaskError], unknown: bool | None) -> None:
    player = Player(answers)
    raised = player.play(claim, start=at(1, FREE))
    assert player.asked == asked
    assert type(raised) is error
    assert raised.facts.get("unknown") is unknown
    if answers == [REFUSED]:
        assert raised.seen.version.seconds == 1


@pytest.mark.parametrize(("alive", "decided"), [(True, Put(DONE)), (False, LOST)])
def test_holder_that_is_alive_has_moved_it_beyond_its_end_itself(alive: bool, decided: Any) -> None:
    player = Player([AMBIGUOUS, MOVED, at(9, BEYOND)])
    changed = player.play(end, start=at(1, MINE), alive=lambda: alive)
    assert player.asked[:4] == [COMMIT, "pause 1", COMMIT, GET]
    assert isinstance(changed, Changed)
    assert changed.decision == decided


def test_record_that_needs_a_newer_release_is_its_holders_alone() -> None:
    player = Player([])
    assert isinstance(player.play(claim, start=at(1, NEWER)), UnknownFeatureError)
    player = Player([APPLIED])
    player.play(lambda seen: Put(MINE), start=at(1, NEWER), own=True)
    assert player.asked == [COMMIT]


# --- what is written along --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "asked", "heard"),
    [
        ([APPLIED], [f"{COMMIT} beside"], [1]),
        ([MOVED, at(2, FREE), None, APPLIED], [f"{COMMIT} beside", GET, "along", f"{COMMIT} beside"], [1]),
        (
            [AMBIGUOUS, None, MOVED, at(2, MINE)],
            [f"{COMMIT} beside", "pause 1", "along", f"{COMMIT} beside", GET],
            [None],
        ),
        ([MOVED, at(2, OTHERS), None], [f"{COMMIT} beside", GET, "along"], []),
    ],
)
def test_other_documents_are_written_along(answers: Sequence[Answer], asked: list[str], heard: list[Any]) -> None:
    player, beside = Player(answers), Beside()
    player.play(claim, start=at(1, FREE), along=beside)
    assert (player.asked, beside.heard) == (asked, heard)


def test_failure_to_look_at_them_again_tells_of_a_lost_answer() -> None:
    player = Player([AMBIGUOUS, UNREADABLE])
    raised = player.play(claim, start=at(1, FREE), along=Beside())
    assert player.asked == [f"{COMMIT} beside", "pause 1", "along"]
    assert isinstance(raised, StoreError)
    assert raised.facts["unknown"] is True


HOLDING = MINE.but(key="k")
HELD = at(7, Lock.of({"env": "DEFAULT", "sequence": 1, "status": Status.LEASED, "holder": TASK, "token": 1}), KEY)
TAKEN = at(
    8, Lock.of({"env": "DEFAULT", "sequence": 1, "status": Status.LEASED, "holder": "onceTasks/x", "token": 1}), KEY
)
MINE_OF_TASK = at(1, HOLDING, TASK)
UNREADABLE_KEY = DamagedError("its lock is damaged", document=KEY, field="status", trouble="x", env=None)
UNREADABLE_TASK = DamagedError("its lock is damaged", document=TASK, field="status", trouble="x", env=None)
BOTH = f"commit {TASK} {KEY}"
AGAIN = f"read {TASK} {KEY}"


@pytest.mark.parametrize(
    ("answers", "asked"),
    [
        pytest.param([{KEY: HELD}, APPLIED], [f"read {KEY}", BOTH], id="read, and given back"),
        pytest.param([{KEY: TAKEN}, APPLIED], [f"read {KEY}", f"commit {TASK}"], id="read, and no longer ours"),
        pytest.param(
            [{KEY: HELD}, MOVED, {TASK: MINE_OF_TASK, KEY: TAKEN}, APPLIED],
            [f"read {KEY}", BOTH, AGAIN, f"commit {TASK}"],
            id="moved, and read with the document",
        ),
        pytest.param(
            [{KEY: HELD}] + [MOVED, {TASK: MINE_OF_TASK, KEY: HELD}] * 3 + [APPLIED],
            [f"read {KEY}", BOTH, AGAIN, BOTH, AGAIN, "pause 2", BOTH, AGAIN, "pause 3", f"commit {TASK}"],
            id="moved three times: left alone",
        ),
        pytest.param(
            [{KEY: HELD}] + [CONTENTION] * 3 + [APPLIED],
            [f"read {KEY}", BOTH, "pause 1", BOTH, "pause 2", BOTH, "pause 3", f"commit {TASK}"],
            id="contention three times: left alone",
        ),
        pytest.param([UNREADABLE_KEY, APPLIED], [f"read {KEY}", f"commit {TASK}"], id="damaged: left alone"),
        pytest.param(
            [{KEY: HELD}, MOVED, UNREADABLE_KEY, MINE_OF_TASK, APPLIED],
            [f"read {KEY}", BOTH, AGAIN, f"get {TASK}", f"commit {TASK}"],
            id="moved, and damaged meanwhile: left alone",
        ),
    ],
)
def test_resource_key_is_given_back_with_the_end(answers: Sequence[Answer], asked: list[str]) -> None:
    player = Player(answers)
    changed = player.play(
        lambda seen: Put(HOLDING.but(status=Status.COMPLETED, settled_by="mine")), TASK, start=MINE_OF_TASK
    )
    assert player.asked == asked
    assert isinstance(changed, Changed)
    assert changed.freed is not None


def moves_on(seen: Snapshot) -> Put:
    """
    A takeover grants the lease to another attempt, to which the key moves on.
    """
    return Put(HOLDING.but(token=2, holder="next"))


@pytest.mark.parametrize(
    ("decide", "answers", "asked", "document"),
    [
        pytest.param(moves_on, [UNREADABLE_KEY], [f"read {KEY}"], KEY, id="a damaged key can't move on"),
        pytest.param(
            moves_on, [{KEY: HELD}, MOVED, UNREADABLE_KEY], [f"read {KEY}", BOTH, AGAIN], KEY, id="damaged meanwhile"
        ),
        pytest.param(
            lambda seen: Put(HOLDING.but(status=Status.COMPLETED)),
            [{KEY: HELD}, MOVED, UNREADABLE_TASK],
            [f"read {KEY}", BOTH, AGAIN],
            TASK,
            id="the record of the task is damaged itself",
        ),
    ],
)
def test_damage_of_what_must_be_read_is_told(
    decide: Any, answers: Sequence[Answer], asked: list[str], document: str
) -> None:
    player = Player(answers)
    error = player.play(decide, TASK, start=MINE_OF_TASK)
    assert player.asked == asked
    assert isinstance(error, DamagedError)
    assert error.document == document


def test_key_that_moves_on_is_known_to_the_next_attempt() -> None:
    player = Player([{KEY: HELD}, APPLIED])
    changed = player.play(moves_on, TASK, start=MINE_OF_TASK)
    assert player.asked == [f"read {KEY}", BOTH]
    assert isinstance(changed, Changed)
    assert changed.hold is not None
    assert (changed.hold.token, changed.hold.version.seconds, changed.freed) == (2, 99, None)


def test_key_that_moves_on_is_never_left_alone() -> None:
    """
    However often its commit is refused: the next attempt needs it.
    """
    player = Player([{KEY: HELD}] + [CONTENTION] * 3 + [APPLIED])
    player.play(moves_on, TASK, start=MINE_OF_TASK)
    assert [asked for asked in player.asked if not asked.startswith("pause")] == [f"read {KEY}", *[BOTH] * 4]


def test_lost_answers_are_no_refusals_of_the_key() -> None:
    """
    Only a key that others change is left alone.
    """
    player = Player([{KEY: HELD}] + [AMBIGUOUS] * 3 + [APPLIED])
    player.play(lambda seen: Put(HOLDING.but(status=Status.COMPLETED, settled_by="mine")), TASK, start=MINE_OF_TASK)
    assert [asked for asked in player.asked if not asked.startswith("pause")] == [f"read {KEY}", *[BOTH] * 4]


def test_results_of_other_documents_come_behind_that_of_the_key() -> None:
    beside = Beside()
    player = Player([{KEY: HELD}, APPLIED])
    player.play(
        lambda seen: Put(HOLDING.but(status=Status.COMPLETED, settled_by="mine")),
        TASK,
        start=MINE_OF_TASK,
        along=beside,
    )
    assert beside.heard == [1]


def test_task_without_a_key_asks_for_none() -> None:
    """
    It may be refused as often as it likes.
    """
    ending = Put(MINE.but(status=Status.COMPLETED, settled_by="mine"))
    player = Player([MOVED, at(1, MINE, TASK)] * 3 + [APPLIED])
    player.play(lambda seen: ending, TASK, start=at(1, MINE, TASK), hold=Hold(KEY, TASK, 1))
    assert [asked for asked in player.asked if not asked.startswith("pause")] == [
        f"commit {TASK}",
        f"get {TASK}",
    ] * 3 + [f"commit {TASK}"]


def test_changes_of_another_writer_are_noticed_before_the_commit() -> None:
    document = DocumentType()
    put(document.fields["name"], "theirs")
    changed = Changes({"name": encode("mine")}, {"name": encode("before")})
    player = Player([])
    error = player.play(claim, start=Snapshot(PATH, Timestamp(seconds=1), document, FREE), changes=changed)
    assert isinstance(error, ConflictError)
    assert player.asked == []


def test_room_is_asked_for_by_steps_that_schedule_alone() -> None:
    """
    A document without room can be completed, and scheduled where nothing asks for room.
    """
    document = DocumentType()
    put(document.fields["filler"], b"x" * 1_040_000)
    full = Snapshot(PATH, Timestamp(seconds=1), document, MINE)
    next_step = MINE.but(sequence=2, status=Status.SCHEDULED)
    for after, room, fits in ((next_step, True, False), (next_step, False, True), (DONE, True, True)):
        player = Player([APPLIED] if fits else [])
        found = player.play(lambda seen, after=after: Put(after), start=full, room=room)
        assert isinstance(found, Changed if fits else UsageError)


def test_resource_key_that_is_known_is_not_read() -> None:
    player, hold = Player([APPLIED]), Hold(KEY, TASK, 1, Timestamp(seconds=7))
    player.play(lambda seen: Put(HOLDING.but(status=Status.COMPLETED)), TASK, start=MINE_OF_TASK, hold=hold)
    assert player.asked == [BOTH]


def test_time_is_asked_for_where_none_is_known_and_one_is_written() -> None:
    player = Player([NOW, APPLIED])
    player.play(lambda seen: Put(MINE), TASK, start=at(1, FREE, TASK), time=None)
    assert player.asked == ["time", f"commit {TASK}"]
    player = Player([APPLIED])
    player.play(claim, start=at(1, FREE), time=None)
    assert player.asked == [COMMIT]


def test_room_is_checked_by_what_is_stored() -> None:
    after_a_transaction = Snapshot(PATH, Timestamp(seconds=1), DocumentType(), MINE, whole=False)
    next_step = MINE.but(sequence=2, status=Status.SCHEDULED)
    player = Player([at(1, MINE), APPLIED])
    player.play(lambda seen: Put(next_step), start=after_a_transaction, room=True)
    assert player.asked == [GET, COMMIT]
