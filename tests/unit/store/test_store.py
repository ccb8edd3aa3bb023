"""
The store's own calls against the local Firestore: writes of user fields, of documents without a lock, and of damaged ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
import pytest

from gcp_oncetask.errors import StoreError
from gcp_oncetask.rules.decisions import NeedTime, Put
from gcp_oncetask.rules.record import Status
from gcp_oncetask.store.codec import encode
from gcp_oncetask.store.flow import Backoff, Get, Read, ReadAll, ReadAlong, ServerTime
from gcp_oncetask.store.snapshot import NO_CHANGES, Changes, Snapshot
from tests.support.base import NOW, Base

PATH = "orders/1"
NAMED = Changes({"name": encode("bea")}, None)


@pytest.fixture(autouse=True)
def _order(base: Base) -> None:
    """
    Each test begins with one document.
    """
    base.set(PATH)


def commits(base: Base) -> int:
    return int(base.cloud.firestore.counts["Commit"])


def seconds(base: Base) -> float:
    return float(base.cloud.clock.micros() / 1_000_000)


def name(base: Base, path: str = PATH) -> str | None:
    document = base.wire.get(path)
    return None if document is None else document.fields["name"].string_value


# --- save: user fields alone --------------------------------------------------------------------------------------


def test_save_of_nothing_costs_nothing(base: Base) -> None:
    known, before = base.store.get(PATH), commits(base)
    assert base.store.save(known, NO_CHANGES) is known
    assert commits(base) == before


def test_save_writes_the_fields_and_returns_the_document(base: Base) -> None:
    known = base.store.get(PATH)
    saved = base.store.save(known, NAMED)
    assert saved is not None
    assert (name(base), saved.version) == ("bea", base.store.get(PATH).version)
    assert saved.lock == known.lock
    assert saved.document.fields["name"].string_value == "bea"


def test_save_of_a_document_that_is_gone(base: Base) -> None:
    known = base.store.get(PATH)
    base.wire.client.document(PATH).delete()
    assert base.store.save(known, NAMED) is None
    assert base.wire.get(PATH) is None


def test_save_goes_on_over_a_change_of_another_field(base: Base) -> None:
    known = base.store.get(PATH)
    base.wire.client.document(PATH).update({"other": 1})
    assert base.store.save(known, NAMED) is not None
    assert base.wire.client.document(PATH).get().to_dict()["other"] == 1
    assert name(base) == "bea"


@pytest.mark.parametrize("when", ["before", "after"])
def test_save_whose_answer_is_lost_is_written_again(base: Base, when: Any) -> None:
    known = base.store.get(PATH)
    base.cloud.faults.fail("Commit", when=when)
    before = seconds(base)
    assert base.store.save(known, NAMED) is not None
    assert name(base) == "bea"
    assert seconds(base) > before, "it waits before it tries again"


def test_save_that_is_refused_is_not_repeated(base: Base) -> None:
    known, before = base.store.get(PATH), commits(base)
    base.cloud.faults.fail("Commit", code=grpc.StatusCode.PERMISSION_DENIED, times=None)
    with pytest.raises(StoreError, match=f"{PATH}.*PERMISSION_DENIED") as raised:
        base.store.save(known, NAMED)
    assert (raised.value.facts["unknown"], commits(base) - before) == (False, 1)


def test_save_gives_up_when_its_patience_is_over(base: Base) -> None:
    known, before = base.store.get(PATH), commits(base)
    began = seconds(base)
    base.cloud.faults.fail("Commit", times=None)
    with pytest.raises(StoreError) as raised:
        base.store.save(known, NAMED)
    assert raised.value.facts["unknown"] is True
    assert commits(base) - before > 2
    assert 1 <= seconds(base) - began < 3, "a second of patience, and one pause"


# --- put, of a record that was decided on --------------------------------------------------------------------------------


def test_put_is_written_only_onto_the_record_it_was_decided_on(base: Base) -> None:
    known = base.store.get(PATH)
    assert known.lock is not None
    done = Put(known.lock.but(status=Status.CANCELLED))
    put = base.store.put(known, done, NAMED)
    assert put is not None
    assert (put.lock, name(base)) == (base.store.get(PATH).lock, "bea")
    assert base.store.put(known, Put(known.lock.but(status=Status.FAILED))) is None
    stored = base.store.get(PATH).lock
    assert stored is not None
    assert stored.status is Status.CANCELLED


def test_put_needs_no_read(base: Base) -> None:
    known = base.store.get(PATH)
    assert known.lock is not None
    reads = base.cloud.firestore.counts["GetDocument"] + base.cloud.firestore.counts["BatchGetDocuments"]
    base.store.put(known, Put(known.lock.but(status=Status.CANCELLED)))
    after = base.cloud.firestore.counts["GetDocument"] + base.cloud.firestore.counts["BatchGetDocuments"]
    assert after == reads


# --- ensure: a wanted state ----------------------------------------------------------------------------------------------


def wants(base: Base, path: str) -> Any:
    def wanted(seen: Mapping[str, Snapshot]) -> Any | None:
        [snapshot] = seen.values()
        if snapshot.exists:
            return None
        request = base.wire.request(path)
        request.writes[0].current_document.exists = False
        request.writes[0].update.fields["name"].string_value = "made"
        return request

    return wanted


@pytest.mark.parametrize("when", ["before", "after"])
def test_ensure_goes_on_after_a_lost_answer(base: Base, when: Any) -> None:
    base.cloud.faults.fail("Commit", when=when)
    before = seconds(base)
    base.store.ensure(["notes/1"], wants(base, "notes/1"))
    assert name(base, "notes/1") == "made"
    assert seconds(base) > before


def test_ensure_gives_up(base: Base) -> None:
    before, began = commits(base), seconds(base)
    base.cloud.faults.fail("Commit", times=None)
    with pytest.raises(StoreError, match="writing notes/1 failed") as raised:
        base.store.ensure(["notes/1"], wants(base, "notes/1"))
    assert raised.value.facts["unknown"] is False
    assert commits(base) - before > 2
    assert 1 <= seconds(base) - began < 3
    base.cloud.faults.clear()
    before = commits(base)
    base.cloud.faults.fail("Commit", code=grpc.StatusCode.PERMISSION_DENIED, times=None)
    with pytest.raises(StoreError, match="PERMISSION_DENIED"):
        base.store.ensure(["notes/1"], wants(base, "notes/1"))
    assert commits(base) - before == 1


# --- documents without a lock, and damaged ones ---------------------------------------------------------------------------


def test_whole_document_is_written_only_as_it_is_known(base: Base) -> None:
    missing = base.store.get("notes/1")
    made = base.store.put_fields(missing, {"name": "one", "old": True})
    assert made is not None
    assert (made.path, made.lock, name(base, "notes/1")) == ("notes/1", None, "one")
    assert base.store.put_fields(missing, {"name": "two"}) is None, "it exists now"
    again = base.store.put_fields(made, {"name": "three"})
    assert again is not None
    assert base.wire.client.document("notes/1").get().to_dict() == {"name": "three"}
    assert base.store.put_fields(made, {"name": "four"}) is None, "it has changed"
    base.cloud.faults.fail("Commit")
    with pytest.raises(StoreError, match="writing notes/1 failed") as raised:
        base.store.put_fields(again, {"name": "five"})
    assert raised.value.facts["unknown"] is True
    base.cloud.faults.fail("Commit", code=grpc.StatusCode.PERMISSION_DENIED)
    with pytest.raises(StoreError) as raised:
        base.store.put_fields(again, {"name": "five"})
    assert raised.value.facts["unknown"] is False
    assert name(base, "notes/1") == "three"


def test_fields_of_a_damaged_document_are_written_only_at_its_version(base: Base) -> None:
    base.set(PATH, sound=False, note="stays")
    document = base.wire.get(PATH)
    assert document is not None
    version = document.update_time
    assert base.store.write_raw(PATH, version, {"lock.due": encode("E/d/000/x")}) is True
    found = base.wire.client.document(PATH).get().to_dict()
    assert (found["lock"]["due"], found["lock"]["note"], "createdAt" in found) == ("E/d/000/x", "stays", True)
    assert base.store.write_raw(PATH, version, {"lock.due": encode("other")}) is False
    document = base.wire.get(PATH)
    assert document is not None
    for code, unknown in ((grpc.StatusCode.UNAVAILABLE, True), (grpc.StatusCode.PERMISSION_DENIED, False)):
        base.cloud.faults.fail("Commit", code=code)
        with pytest.raises(StoreError, match=f"writing {PATH} failed") as raised:
            base.store.write_raw(PATH, document.update_time, {"lock.due": encode("other")})
        assert raised.value.facts["unknown"] is unknown
    assert base.wire.client.document(PATH).get().to_dict()["lock"]["due"] == "E/d/000/x"


# --- reads, and the server's time ------------------------------------------------------------------------------------------


def gets(base: Base) -> int:
    return int(base.cloud.firestore.counts["GetDocument"])


def test_read_is_repeated_twice_at_most(base: Base) -> None:
    before = gets(base)
    base.cloud.faults.fail("GetDocument", times=2)
    assert base.store.get(PATH).exists
    assert gets(base) - before == 3
    base.cloud.faults.fail("GetDocument", times=None)
    with pytest.raises(StoreError, match=f"reading {PATH} failed") as raised:
        base.store.get(PATH)
    assert (raised.value.facts["unknown"], gets(base) - before) == (False, 6)


def test_read_is_not_repeated_once_its_patience_is_over(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    before = gets(base)
    base.cloud.faults.fail("GetDocument", times=None)
    monkeypatch.setattr(base.store, "_patience", 0.0)
    with pytest.raises(StoreError):
        base.store.get(PATH)
    assert gets(base) - before == 1
    # The time counts from the first failure.
    monkeypatch.setattr(base.store, "_patience", 0.01)
    with pytest.raises(StoreError):
        base.store.get(PATH)
    assert gets(base) - before == 3


@pytest.mark.parametrize("code", [grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.FAILED_PRECONDITION])
def test_read_that_is_refused_is_not_repeated(base: Base, code: grpc.StatusCode) -> None:
    before = gets(base)
    base.cloud.faults.fail("GetDocument", code=code, times=None)
    with pytest.raises(StoreError):
        base.store.get(PATH)
    assert gets(base) - before == 1


@pytest.mark.parametrize(("tries", "shortest"), [(1, 0.02), (2, 0.04), (3, 0.08), (6, 0.5), (50, 0.5)])
@pytest.mark.parametrize("chance", [0.0, 0.5])
def test_pauses_grow_and_vary(
    base: Base, monkeypatch: pytest.MonkeyPatch, tries: int, shortest: float, chance: float
) -> None:
    monkeypatch.setattr(base.store._clock, "random", lambda: chance)
    began = seconds(base)
    base.store._pause(tries)
    assert seconds(base) - began == pytest.approx(shortest * (1 + chance))


def test_time_that_can_not_be_asked_for(base: Base) -> None:
    base.wire.reopen()
    assert base.wire.client is not None, "a new channel knows no time"
    base.cloud.faults.fail("Commit", times=None)
    with pytest.raises(StoreError, match="asking for the time failed"):
        base.store.estimate()


def test_name_of_a_document_as_a_reference(base: Base) -> None:
    reference = base.store.reference(base.wire.name("orders/documents/a/1"))
    assert reference.path == "orders/documents/a/1"


# --- commits of several writes ------------------------------------------------------------------------------------------------


def test_commit_of_both_or_none(base: Base) -> None:
    request = base.wire.request("notes/1")
    request.writes[0].update.fields["name"].string_value = "one"
    request.writes[0].current_document.exists = False
    answer = base.store.commit_both(request)
    assert answer is not None
    assert answer.write_results[0].update_time == base.store.get("notes/1").version
    assert base.store.commit_both(request) is None, "its condition does not hold"
    base.cloud.faults.fail("Commit")
    assert base.store.commit_both(request) is None, "its fate is not known"
    base.cloud.faults.fail("Commit", code=grpc.StatusCode.PERMISSION_DENIED)
    with pytest.raises(StoreError, match="writing failed") as raised:
        base.store.commit_both(request)
    assert raised.value.facts["unknown"] is False


# --- change ------------------------------------------------------------------------------------------------------------------


def cancelled(seen: Snapshot) -> Put:
    assert seen.lock is not None
    return Put(seen.lock.but(status=Status.CANCELLED))


def test_change_reads_decides_and_commits(base: Base) -> None:
    changed = base.store.change(PATH, cancelled)
    assert changed.snapshot.lock == base.store.get(PATH).lock
    assert isinstance(changed.decision, Put)


def test_change_that_writes_nothing(base: Base) -> None:
    before = commits(base)
    changed = base.store.change(PATH, lambda seen: seen.path)
    assert (changed.decision, commits(base)) == (PATH, before)


def test_change_is_decided_again_with_the_servers_time(base: Base) -> None:
    times = []

    def decide(seen: Snapshot) -> Any:
        times.append(seen.read)
        return NeedTime() if seen.read is None else cancelled(seen)

    base.store.change(PATH, decide)
    assert times[0] is None
    assert times[1] is not None
    assert len(times) == 2


def test_change_is_decided_again_after_another_one(base: Base) -> None:
    known = base.store.get(PATH)
    base.wire.client.document(PATH).update({"other": 1})
    seen = []

    def decide(snapshot: Snapshot) -> Put:
        seen.append(snapshot.version)
        return cancelled(snapshot)

    began = seconds(base)
    base.store.change(PATH, decide, start=known)
    assert len(seen) == 2
    assert seen[0] == known.version
    assert seen[1] != known.version
    assert seconds(base) >= began


class Shared:
    """
    Keeps the paths of the commits that may share a call.
    """

    def __init__(self, base: Base) -> None:
        self.wire, self.paths, self.on = base.wire, list[str](), True

    def commit(self, path: str, request: Any) -> Any:
        self.paths.append(path)
        return self.wire.commit(request)


@pytest.mark.parametrize("shares", [True, False])
def test_commit_shares_a_call_only_if_it_may(base: Base, shares: bool) -> None:
    shared = Shared(base)
    base.store._coalescer = shared  # type: ignore[assignment]

    def granted(seen: Snapshot) -> Put:
        assert seen.lock is not None
        return Put(seen.lock.but(status=Status.LEASED, holder="me", token=1, attempts=1, granted_at=NOW, leased_at=NOW))

    base.store.change(PATH, granted, shares=shares)
    assert shared.paths == [PATH] * shares
    stored = base.store.get(PATH).lock
    assert stored is not None
    assert stored.holder == "me"


def test_lost_answer_is_judged_by_whether_the_lease_holds(base: Base) -> None:
    asked = []

    def alive() -> bool:
        asked.append(True)
        return True

    base.cloud.faults.fail("Commit", when="after")
    changed = base.store.change(PATH, cancelled, alive=alive)
    assert asked
    assert changed.snapshot.lock is not None


class Along:
    """
    A document that is read again.
    """

    def __init__(self) -> None:
        self.read = 0

    def again(self) -> None:
        self.read += 1


def test_every_request_of_a_flow_is_answered(base: Base) -> None:
    answer = base.store._answer
    base.wire.reopen()
    time = answer(ServerTime())
    assert time == base.store.estimate()
    assert answer(Get(PATH)).read is None
    assert answer(Read(PATH)).read is not None
    assert answer(ReadAll([PATH, "notes/1"])).keys() == {PATH, "notes/1"}
    began = seconds(base)
    answer(Backoff(3))
    assert seconds(base) > began
    along = Along()
    answer(ReadAlong(along))  # type: ignore[arg-type]
    assert along.read == 1
