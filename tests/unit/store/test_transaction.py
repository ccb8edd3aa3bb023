"""
Transactions against the local Firestore: what is written, what is rolled back, and what is said of a commit without an answer.
"""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.api_core.exceptions import Aborted, NotFound
from google.cloud import firestore

from gcp_oncetask.errors import ContentionError, StoreError, UsageError
from gcp_oncetask.rules.decisions import Put
from gcp_oncetask.rules.document_paths import TaskName, key_path
from gcp_oncetask.rules.keys import taken
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.store import transaction as transactions
from gcp_oncetask.store.codec import encode
from gcp_oncetask.store.side_writes import Hold, key_write
from gcp_oncetask.store.snapshot import NO_CHANGES, Changes, Snapshot, Update
from gcp_oncetask.store.transaction import Ending, OwnTransaction
from tests.support.base import NOW, Base

ORDER = "orders/1"
TASK = TaskName("DEFAULT", "work", "1").path
KEY = key_path("DEFAULT", "k")
RUNS = Lock.of(
    {
        "env": "DEFAULT",
        "sequence": 1,
        "status": Status.LEASED,
        "holder": "me",
        "token": 1,
        "attempts": 1,
        "granted_at": NOW,
        "leased_at": NOW,
        "settled_by": "before",
    }
)
DONE = RUNS.but(status=Status.COMPLETED, settled_by="mine")
KEYED = RUNS.but(key="k")


def write(base: Base, lock: Lock, path: str = ORDER, before: Snapshot | None = None, **fields: Any) -> Snapshot:
    request = base.wire.request(path)
    known = before or Snapshot(path, None, None, None)
    changes = Changes({name: encode(value) for name, value in fields.items()}, None)
    update = Update(request.writes[0], known, lock, changes)
    return update.applied(base.wire.commit(request).write_results[0])


def begun(base: Base, path: str = ORDER) -> tuple[OwnTransaction, Snapshot]:
    return transactions.begin(base.store, path)


def ends(base: Base, txn: OwnTransaction, snapshot: Snapshot, *, hold: Hold | None = None, **ending: Any) -> Any:
    return transactions.commit(base.store, txn, snapshot, Ending(Put(ending.pop("lock", DONE)), **ending), hold)


def note(base: Base, txn: OwnTransaction) -> None:
    """
    A write of user code to another document.
    """
    client: firestore.Client = base.wire.client
    txn.set(client.document("notes/1"), {"text": "noted"})


def noted(base: Base) -> bool:
    return base.wire.get("notes/1") is not None


def stored(base: Base, path: str = ORDER) -> Lock:
    lock = base.store.get(path).lock
    assert lock is not None
    return lock


def rollbacks(base: Base) -> int:
    return int(base.cloud.firestore.counts["Rollback"])


def test_commit_writes_all_of_it(base: Base) -> None:
    write(base, RUNS, name="ann")
    txn, snapshot = begun(base)
    assert snapshot.read is not None
    note(base, txn)
    found, freed = ends(base, txn, snapshot, changes=Changes({"name": encode("bea")}, None))
    assert (found.lock, freed, found.whole) == (DONE, None, True)
    assert (stored(base), noted(base), rollbacks(base)) == (DONE, True, 0)
    assert base.wire.get(ORDER).fields == found.document.fields  # type: ignore[union-attr]
    assert not txn.in_progress
    assert len(txn.write_results) == 2


def test_document_that_user_code_writes_as_well_is_not_known_whole(base: Base) -> None:
    write(base, RUNS)
    txn, snapshot = begun(base)
    txn.update(base.wire.client.document(ORDER), {"name": "ann"})
    found, _ = ends(base, txn, snapshot)
    assert (found.lock, found.whole) == (DONE, False)


def test_transaction_that_can_not_begin_or_read(base: Base) -> None:
    write(base, RUNS)
    base.cloud.faults.fail("BeginTransaction", code=grpc.StatusCode.UNAVAILABLE)
    with pytest.raises(StoreError, match="beginning a transaction failed with UNAVAILABLE") as raised:
        begun(base)
    assert raised.value.facts["unknown"] is False
    base.cloud.faults.fail("BatchGetDocuments", code=grpc.StatusCode.UNAVAILABLE)
    with pytest.raises(StoreError, match=f"reading {ORDER} failed with UNAVAILABLE"):
        begun(base)
    assert rollbacks(base) == 1
    for method in ("BeginTransaction", "BatchGetDocuments"):
        base.cloud.faults.fail(method, code=grpc.StatusCode.ABORTED)
        with pytest.raises(ContentionError, match=r"met contention: injected fault\. Nothing was written\."):
            begun(base)
    with pytest.raises(StoreError, match="has not begun") as raised:
        transactions.read_in(base.store, base.wire.client.transaction(), ORDER)
    assert raised.value.facts["unknown"] is False


@pytest.mark.parametrize(
    ("code", "error", "final"),
    [
        (grpc.StatusCode.ABORTED, ContentionError, None),
        (grpc.StatusCode.FAILED_PRECONDITION, ContentionError, None),
        (grpc.StatusCode.PERMISSION_DENIED, StoreError, True),
    ],
)
def test_commit_that_is_refused_is_rolled_back(
    base: Base, code: grpc.StatusCode, error: type[Exception], final: bool | None
) -> None:
    write(base, RUNS)
    txn, snapshot = begun(base)
    note(base, txn)
    base.cloud.faults.fail("Commit", code=code)
    with pytest.raises(error, match=f"the transaction on {ORDER}") as raised:
        ends(base, txn, snapshot)
    assert (stored(base), noted(base), rollbacks(base)) == (RUNS, False, 1)
    if final is not None:
        facts = raised.value.facts  # type: ignore[attr-defined]
        assert (facts["unknown"], facts["final"]) == (False, final)


def test_commit_that_met_another_writer_is_no_doubt(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    It surely had no effect, also if the other writer has signed the record.
    """
    write(base, RUNS)
    txn, snapshot = begun(base)
    base.cloud.faults.fail("Commit", code=grpc.StatusCode.ABORTED)
    monkeypatch.setattr(base.store, "get", lambda path: Snapshot(path, None, None, RUNS.but(settled_by="another")))
    with pytest.raises(ContentionError):
        ends(base, txn, snapshot)
    assert not txn.in_progress


def test_commit_whose_answer_is_lost_is_recognised(base: Base) -> None:
    write(base, RUNS)
    txn, snapshot = begun(base)
    note(base, txn)
    base.cloud.faults.fail("Commit", when="after")
    found, freed = ends(base, txn, snapshot)
    assert (found.lock, found.version, freed) == (DONE, base.store.get(ORDER).version, None)
    assert noted(base)


def test_commit_without_effect_is_ruled_out_by_its_rollback(base: Base) -> None:
    write(base, RUNS)
    txn, snapshot = begun(base)
    base.cloud.faults.fail("Commit")
    with pytest.raises(StoreError, match=f"the transaction on {ORDER} failed") as raised:
        ends(base, txn, snapshot)
    assert raised.value.facts["unknown"] is False
    assert (stored(base), rollbacks(base)) == (RUNS, 1)


@pytest.mark.parametrize("trouble", ["rollback", "read", "signed"])
def test_commit_that_may_be_applied_is_told_as_unknown(base: Base, trouble: str) -> None:
    """
    The rollback or the read fails as well, or another process has signed the record meanwhile.
    """
    before = write(base, RUNS)
    txn, snapshot = begun(base)
    base.cloud.faults.fail("Commit")
    if trouble == "rollback":
        base.cloud.faults.fail("Rollback")
    if trouble == "read":
        base.cloud.faults.fail("GetDocument", code=grpc.StatusCode.PERMISSION_DENIED)
    if trouble == "signed":
        real = base.store.get

        def signed(path: str) -> Snapshot:
            write(base, RUNS.but(settled_by="another"), before=before)
            return real(path)

        base.store.get = signed  # type: ignore[method-assign]
    with pytest.raises(StoreError, match=rf"the transaction on {ORDER} .*It may still be applied") as raised:
        ends(base, txn, snapshot)
    assert raised.value.facts["unknown"] is True


@pytest.mark.parametrize("gone", [True, False])
def test_commit_in_doubt_whose_record_is_gone_is_unknown(base: Base, gone: bool) -> None:
    """
    Or whose document had none before.
    """
    write(base, RUNS)
    txn, snapshot = begun(base)
    if not gone:
        snapshot = Snapshot(ORDER, snapshot.version, snapshot.source, None)
    base.cloud.faults.fail("Commit")
    if gone:
        base.store.get = lambda path: Snapshot(path, None, None, None)  # type: ignore[method-assign]
    with pytest.raises(StoreError) as raised:
        ends(base, txn, snapshot, lock=RUNS.but(token=5, holder="new", settled_by="mine", scheduled_by="me"))
    assert raised.value.facts["unknown"] is True


def test_step_without_room_is_rolled_back(base: Base) -> None:
    """
    A step that schedules needs room; one that ends, or that nobody asks room for, does not.
    """
    following = RUNS.but(sequence=2, status=Status.SCHEDULED, holder=None, settled_by="mine")
    full = write(base, RUNS, filler=b"x" * 1_030_000)
    txn, snapshot = begun(base)
    with pytest.raises(UsageError):
        ends(base, txn, snapshot, lock=following, room=True)
    assert (stored(base), rollbacks(base)) == (RUNS, 1)
    txn, snapshot = begun(base)
    found, _ = ends(base, txn, snapshot, lock=following)
    write(base, RUNS, before=found)
    txn, snapshot = begun(base)
    assert ends(base, txn, snapshot, room=True)[0].lock == DONE
    assert full.version is not None


# --- resource keys ----------------------------------------------------------------------------------------------------


def keyed(base: Base, *, waiting: bool) -> Hold:
    """
    A task that runs under its key.
    """
    write(base, KEYED, TASK)
    request = base.wire.request()
    request.writes.append(
        key_write(base.wire.name(KEY), "k", None, taken(None, "DEFAULT", TASK, 1, "n"), waiting=waiting)
    )
    version = base.wire.commit(request).write_results[0].update_time
    return Hold(KEY, TASK, 1, version)


@pytest.mark.parametrize("waiting", [True, False])
def test_key_is_given_back_with_the_end(base: Base, waiting: bool) -> None:
    hold = keyed(base, waiting=waiting)
    txn, snapshot = begun(base, TASK)
    note(base, txn)
    found, freed = ends(base, txn, snapshot, hold=hold, lock=KEYED.but(status=Status.COMPLETED, settled_by="mine"))
    key = base.store.get(KEY)
    assert key.lock is not None
    assert (key.lock.status, key.lock.holder) == (Status.COMPLETED, None)
    assert (freed is not None) is waiting
    if freed is not None:
        assert (freed.key, freed.version) == ("k", key.version)
    assert found.lock == stored(base, TASK)


def test_key_that_was_given_back_unheard_may_have_waiters(base: Base) -> None:
    hold = keyed(base, waiting=False)
    txn, snapshot = begun(base, TASK)
    base.cloud.faults.fail("Commit", when="after")
    _, freed = ends(base, txn, snapshot, hold=hold, lock=KEYED.but(status=Status.COMPLETED, settled_by="mine"))
    assert freed is not None
    assert (freed.key, freed.version) == ("k", None)


@pytest.mark.parametrize("others", [True, False])
@pytest.mark.parametrize("lost", [True, False])
def test_other_documents_are_written_only_under_the_key(base: Base, others: bool, lost: bool) -> None:
    """
    The commit of a save checks the key's version if user code writes other documents, and the key is not known as lost.
    """
    hold = keyed(base, waiting=False)
    request = base.wire.request(KEY)
    request.writes[0].update.fields["waiting"].integer_value = 1
    request.writes[0].update_mask.field_paths.append("waiting")
    base.wire.commit(request)
    hold.lost = lost
    txn, snapshot = begun(base, TASK)
    if others:
        note(base, txn)
    saved = KEYED.but(settled_by="mine")
    if others and not lost:
        with pytest.raises(ContentionError):
            ends(base, txn, snapshot, hold=hold, lock=saved)
    else:
        ends(base, txn, snapshot, hold=hold, lock=saved)
    assert noted(base) is (others and lost)


def test_schedule_from_outside_is_a_write_of_the_callers_transaction(base: Base) -> None:
    waits = RUNS.but(sequence=2, status=Status.SCHEDULED, holder=None)
    write(base, DONE, filler=b"x")
    txn, snapshot = begun(base)
    transactions.add_write(base.store, txn, snapshot, Put(waits), NO_CHANGES)
    assert len(txn._write_pbs) == 1
    txn._commit()
    assert stored(base) == waits
    write(base, DONE, "orders/full", filler=b"x" * 1_030_000)
    txn, snapshot = begun(base, "orders/full")
    with pytest.raises(UsageError):
        transactions.add_write(base.store, txn, snapshot, Put(waits), NO_CHANGES)
    transactions.add_write(base.store, txn, snapshot, Put(DONE.but(token=9)), NO_CHANGES)
    assert transactions.roll_back(txn)
    assert transactions.roll_back(txn), "nothing is left to roll back"
    assert rollbacks(base) == 1


def test_rollback_that_fails_says_so(base: Base) -> None:
    write(base, RUNS)
    txn, _ = begun(base)
    base.cloud.faults.fail("Rollback")
    assert transactions.roll_back(txn) is False
    assert not txn.in_progress


def test_writes_of_user_code_count(base: Base) -> None:
    write(base, RUNS)
    txn, snapshot = begun(base)
    opened = transactions.Open(txn, snapshot)
    assert opened.writes_others is False
    note(base, txn)
    assert opened.writes_others is True
    transactions.roll_back(txn)


def test_only_an_aborted_read_of_user_code_means_contention() -> None:
    assert transactions.contended(Aborted("too much")) is True
    assert transactions.contended(NotFound("gone")) is False
    assert transactions.contended(ValueError()) is False


def test_transaction_that_begins_again_has_no_writes(base: Base) -> None:
    txn, _ = begun(base)
    note(base, txn)
    first = txn.id
    txn._begin(first)
    assert txn.id != first
    assert txn._write_pbs == []
    transactions.roll_back(txn)


def test_one_try_of_a_transaction(base: Base) -> None:
    """
    The attempt repeats it, not Google's client.
    """
    txn, _ = begun(base)
    assert txn._max_attempts == 1
    transactions.roll_back(txn)
