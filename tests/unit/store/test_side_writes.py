"""
The additional writes of a commit: fields of once-tasks, and the document of the resource key.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from gcp_oncetask.rules.document_paths import TaskName, key_path, resource_of, state_of
from gcp_oncetask.rules.keys import Effect, taken
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.store.codec import DocumentType, decode, put
from gcp_oncetask.store.side_writes import NOTHING, Consequences, Freed, Hold, consequences, key_write, needs_time
from gcp_oncetask.store.snapshot import Snapshot, WriteType

NOW = datetime(2026, 1, 1, tzinfo=UTC)
V1, V2 = Timestamp(seconds=1), Timestamp(seconds=2)
NAME = TaskName("DEFAULT", "work", "1")
WAITS = Lock.of({"env": "DEFAULT", "sequence": 1, "status": Status.SCHEDULED})
RUNS = WAITS.but(status=Status.LEASED, token=1, holder="n1")
DONE = RUNS.but(status=Status.COMPLETED)
KEYED = {name: lock.but(key="k") for name, lock in {"waits": WAITS, "runs": RUNS, "done": DONE}.items()}
AGAIN = KEYED["runs"].but(token=2, holder="n2")


def at(lock: Lock | None, path: str = NAME.path, **fields: Any) -> Snapshot:
    document = DocumentType()
    for name, value in fields.items():
        put(document.fields[name], value)
    return Snapshot(path, V1, document, lock)


def state(lock: Lock) -> str:
    return state_of("work", lock)


@pytest.mark.parametrize(
    ("before", "after", "fields", "effect", "key"),
    [
        pytest.param(at(None), WAITS, {"state": state(WAITS)}, Effect.NONE, None, id="created"),
        pytest.param(at(WAITS), RUNS, {"state": state(RUNS)}, Effect.NONE, None, id="claimed"),
        pytest.param(at(RUNS), RUNS, {}, Effect.NONE, None, id="renewed"),
        pytest.param(at(RUNS), DONE, {"state": state(DONE), "doneAt": NOW}, Effect.NONE, None, id="ended"),
        pytest.param(at(DONE), DONE, {}, Effect.NONE, None, id="ended before"),
        pytest.param(
            at(DONE, doneAt=NOW), WAITS, {"state": state(WAITS), "doneAt": None}, Effect.NONE, None, id="runs again"
        ),
        pytest.param(
            at(None),
            KEYED["waits"],
            {"state": state(WAITS), "resource": resource_of("work", KEYED["waits"], "k")},
            Effect.NONE,
            None,
            id="created with a key",
        ),
        pytest.param(
            at(KEYED["waits"]),
            KEYED["runs"],
            {"state": state(RUNS)},
            Effect.TAKE,
            None,
            id="claimed with its key",
        ),
        pytest.param(at(KEYED["runs"]), KEYED["runs"], {}, Effect.NONE, None, id="renewed with its key"),
        pytest.param(at(KEYED["runs"]), AGAIN, {}, Effect.MOVE, "k", id="taken over with its key"),
        pytest.param(
            at(KEYED["runs"]),
            KEYED["done"],
            {
                "state": state(DONE),
                "resource": resource_of("work", KEYED["done"], "k"),
                "doneAt": NOW,
            },
            Effect.FREE,
            "k",
            id="ended with its key",
        ),
        pytest.param(at(RUNS, "orders/1"), DONE, {}, Effect.NONE, None, id="an entity"),
        pytest.param(at(RUNS, "onceTasks/1"), DONE, {}, Effect.NONE, None, id="another document beside the tasks"),
        pytest.param(
            at(RUNS, "onceLocks/ab:DEFAULT:once:f", retentionSeconds=86_400.0),
            DONE,
            {"expireAt": datetime(2026, 1, 2, tzinfo=UTC)},
            Effect.NONE,
            None,
            id="the key of a function",
        ),
    ],
)
def test_consequences_of_a_step(
    before: Snapshot, after: Lock, fields: dict[str, Any], effect: Effect, key: str | None
) -> None:
    found = consequences(before, after, NOW)
    assert {name: None if value is None else decode(value) for name, value in found.fields.items()} == fields
    assert (found.effect, found.key) == (effect, key)
    assert found.frees is (effect is Effect.FREE)
    if not fields and key is None:
        assert found == NOTHING


@pytest.mark.parametrize(
    ("before", "after", "needed"),
    [
        (at(RUNS), RUNS, True),
        (at(RUNS, "orders/1"), DONE, False),
        (at(RUNS, "onceLocks/ab:DEFAULT:once:f", retentionSeconds=60.0), DONE, True),
        (at(RUNS, "onceLocks/ab:DEFAULT:once:f"), DONE, False),
    ],
)
def test_time_is_needed_where_there_may_be_consequences(before: Snapshot, after: Lock, needed: bool) -> None:
    assert needs_time(before, after) is needed


# --- the key ----------------------------------------------------------------------------------------------------------

FREES, MOVES, TAKES = (
    Consequences(effect=Effect.FREE, key="k"),
    Consequences(effect=Effect.MOVE, key="k"),
    Consequences(effect=Effect.TAKE),
)


def result(version: Timestamp, waiting: int) -> Any:
    from google.cloud.firestore_v1.types import WriteResult

    made = WriteResult.pb()(update_time=version)
    made.transform_results.add().integer_value = waiting
    return made


@pytest.mark.parametrize(
    ("more", "answer", "freed"),
    [
        (FREES, result(V2, 1), Freed("k", V2)),
        (FREES, result(V2, 0), None),
        (FREES, None, Freed("k")),
        (MOVES, result(V2, 1), None),
        (MOVES, None, None),
        (TAKES, None, None),
        (NOTHING, None, None),
        (Consequences(effect=Effect.FREE), None, None),
    ],
)
def test_key_is_handed_over_if_tasks_wait_or_may_wait(more: Consequences, answer: Any, freed: Freed | None) -> None:
    assert more.freed(answer) == freed
    assert more.frees is (more is FREES)


def facts(hold: Hold | None) -> Any:
    return None if hold is None else (hold.path, hold.holder, hold.token, hold.version, hold.lost)


KEY = key_path("DEFAULT", "k")
MINE = Hold(KEY, NAME.path, 1, V1)


@pytest.mark.parametrize(
    ("more", "hold", "answer", "moved"),
    [
        (MOVES, MINE, result(V2, 0), (KEY, NAME.path, 2, V2, False)),
        (MOVES, MINE, None, (KEY, NAME.path, 2, None, False)),
        (MOVES, None, result(V2, 0), None),
        (FREES, MINE, result(V2, 0), None),
    ],
)
def test_key_that_moves_on(more: Consequences, hold: Hold | None, answer: Any, moved: Any) -> None:
    assert facts(more.moved(hold, AGAIN, answer)) == moved


def test_key_of_the_attempt_in_a_snapshot() -> None:
    """
    As it is known, if that is of the same attempt; else as the record says.
    """
    runs, other = at(KEYED["runs"]), Hold(KEY, "onceTasks/other", 1, V1)
    assert FREES.hold_in(runs, MINE) is MINE
    for stale in (None, other, Hold(KEY, NAME.path, 7, V1)):
        assert facts(FREES.hold_in(runs, stale)) == (KEY, NAME.path, 1, None, False)
    for more, snapshot in ((NOTHING, runs), (FREES, at(None))):
        assert more.hold_in(snapshot, other) is other
    assert Hold.of(NAME.path, RUNS) is None
    assert Hold.of(NAME.path, KEYED["runs"].but(rides=True)) is None


def test_key_is_known_by_its_version_or_as_lost() -> None:
    fresh = Hold(KEY, NAME.path, 1)
    assert not fresh.known
    assert MINE.known
    fresh.learn(Snapshot(KEY, V2, None, taken(None, "DEFAULT", NAME.path, 1, "n")))
    assert (fresh.known, fresh.lost, fresh.version) == (True, False, V2)
    fresh.learn(Snapshot(KEY, V2, None, taken(None, "DEFAULT", NAME.path, 2, "n")))
    assert (fresh.known, fresh.lost) == (True, True)
    gone = Hold(KEY, NAME.path, 1)
    gone.learn(Snapshot(KEY, None, None, None))
    assert (gone.known, gone.lost) == (True, True)


def test_writes_of_the_key() -> None:
    """
    Each on condition of the version that is known.
    """
    expected = WriteType()
    expected.update.name = "name"
    expected.current_document.update_time.CopyFrom(V1)
    check = WriteType.FromString(expected.SerializeToString())
    check.update_mask.SetInParent()
    assert MINE.check("name") == check

    move = WriteType.FromString(expected.SerializeToString())
    put(move.update.fields["lock"], {"token": 2, "scheduledBy": "n2"})
    move.update_mask.field_paths.extend(["lock.token", "lock.scheduledBy"])
    assert MINE.write("name", Effect.MOVE, AGAIN) == move

    free = WriteType.FromString(expected.SerializeToString())
    put(free.update.fields["lock"], {"status": "completed"})
    free.update_mask.field_paths.extend(["lock.status", "lock.holder"])
    free.update_transforms.add(field_path="waiting").increment.integer_value = 0
    assert MINE.write("name", Effect.FREE, KEYED["done"]) == free

    for version, waiting in ((None, True), (V1, False)):
        whole = key_write("name", "k", version, taken(None, "DEFAULT", NAME.path, 1, "n"), waiting=waiting)
        assert {name: decode(value) for name, value in whole.update.fields.items() if name != "lock"} == {
            "key": "k",
            "waiting": int(waiting),
        }
        assert decode(whole.update.fields["lock"])["holder"] == NAME.path
        condition = whole.current_document
        assert condition.WhichOneof("condition_type") == ("exists" if version is None else "update_time")
        assert not condition.exists
