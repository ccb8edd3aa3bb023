"""
Damaged records: what the decoder refuses, of which attribute, in which status; and what it keeps of it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.cloud.firestore import DELETE_FIELD

from gcp_oncetask.checks.values import LATEST
from gcp_oncetask.errors import DamagedError
from gcp_oncetask.rules import Wishes, repair
from gcp_oncetask.rules.decisions import CallRefused, DecisionContext, Put
from gcp_oncetask.rules.record import Failure, Lock, Status
from gcp_oncetask.rules.refusals import Refusal
from gcp_oncetask.rules.writes import first_number
from gcp_oncetask.store.codec import DocumentType, ValueType, encode, put
from gcp_oncetask.store.lock_codec import decode_lock, encode_lock, salvage
from tests.support.damages import ANY, DAMAGES, NO_MAPS, Damage

AGO = datetime(2026, 1, 1, tzinfo=UTC)


def stored(status: str) -> Any:
    """
    A document as it may be in *status*, written an hour after its lease.
    """
    lock = Lock(
        env="DEFAULT",
        sequence=1,
        status=Status(status),
        keyed=7,
        token=1,
        holder="h",
        granted_at=AGO,
        leased_at=AGO,
        url="https://a.test/x",
        queue="projects/p/locations/l/queues/q",
        due="DEFAULT/push/000/2026-01-01T00:00:00.000000Z",
    )
    document = DocumentType()
    encode_lock(document.fields["lock"], lock)
    document.update_time.FromDatetime((AGO + timedelta(hours=1)).replace(tzinfo=None))
    return document


def damaged(status: str, how: Damage) -> Any:
    """
    The same, changed by hand.
    """
    document = stored(status)
    inner = document.fields["lock"].map_value.fields
    for name, value in ((how.field, how.value), *how.also):
        inner.pop(name, None)
        if value is not DELETE_FIELD:
            inner[name].CopyFrom(encode(value))
    return document


@pytest.mark.parametrize("how", DAMAGES, ids=lambda how: how.id)
def test_each_change_by_hand_is_found_in_each_status(how: Damage) -> None:
    """
    The error names the attribute, in one sentence that is bounded, and the environment where that can be read; in a status
    where it is no damage the record is read. Nothing is changed by the look.
    """
    for status in ANY:
        document = damaged(status, how)
        before = document.SerializeToString(deterministic=True)
        if status not in how.statuses:
            assert decode_lock(document) is not None
            continue
        with pytest.raises(
            DamagedError, match=rf"^orders/1: its lock is damaged: {how.field}: .{{1,200}}\.$"
        ) as raised:
            decode_lock(document, "orders/1")
        assert (raised.value.document, raised.value.field) == ("orders/1", how.field)
        assert raised.value.env == (None if how.field == "env" else "DEFAULT")
        assert document.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("how", DAMAGES, ids=lambda how: how.id)
def test_the_rest_of_a_damaged_record_can_be_read(how: Damage) -> None:
    """
    One attribute costs no other.
    """
    found, lost = salvage(damaged("leased", how))

    intact = decode_lock(stored("leased"))
    assert intact is not None
    assert len(lost) <= 1
    changed = {how.field, *(name for name, _ in how.also)}
    kept = {name for name in ("keyed", "token", "holder", "url", "status") if name not in changed}
    assert {name: found[name] for name in kept} == {name: getattr(intact, name) for name in kept}


@pytest.mark.parametrize("value", NO_MAPS)
def test_a_lock_that_is_no_map_is_damaged(value: Any) -> None:
    """
    Whatever it is.
    """
    document = DocumentType()
    document.fields["lock"].CopyFrom(encode(value))
    with pytest.raises(DamagedError, match=r"its lock is damaged: lock: it is .*, and no map"):
        decode_lock(document, "orders/1")


def test_a_null_lock_is_none() -> None:
    """
    As if the field were not there.
    """
    document = DocumentType()
    document.fields["lock"].CopyFrom(encode(None))
    assert decode_lock(document, "orders/1") is None


def test_of_several_damages_the_same_one_is_named_always() -> None:
    """
    In the order of their names, the due time last; the sentence names them all.
    """
    document = damaged("scheduled", Damage("due", "x", also=(("token", "y"), ("attempts", -1))))
    with pytest.raises(DamagedError, match=r"attempts: it is -1; token: it is 'y'; due: it is 'x'") as raised:
        decode_lock(document, "orders/1")
    assert raised.value.field == "attempts"


def test_no_error_shows_what_may_be_secret() -> None:
    """
    Headers and URLs are the user's.
    """
    for field, value in (("headers", {"a": ["secret"]}), ("url", "secret"), ("url", "http://[secret")):
        with pytest.raises(DamagedError) as raised:
            decode_lock(damaged("scheduled", Damage(field, value)))
        assert "secret" not in str(raised.value)


def test_a_resource_key_has_no_time_of_its_own() -> None:
    """
    Held by a document, without a lease; another record without a lease's times is damaged.
    """
    document = DocumentType()
    encode_lock(document.fields["lock"], Lock(env="E", sequence=1, status=Status.LEASED, holder="orders/1", token=3))
    assert decode_lock(document, "onceLocks/aa:E:key:k") is not None
    for path in ("onceLocks/aa:E:lock:k", "orders/1"):
        with pytest.raises(DamagedError, match=r"grantedAt: it is missing"):
            decode_lock(document, path)
    document.fields["lock"].map_value.fields["holder"].string_value = "a key"
    with pytest.raises(DamagedError, match=r"holder: it is no path"):
        decode_lock(document, "onceLocks/aa:E:key:k")


# --- made anew --------------------------------------------------------------------------------------------------------

NOW = AGO + timedelta(days=1)
BEYOND = round(NOW.timestamp() * 1000)
ANEW = first_number(DecisionContext(NOW, NOW, "E/push/000", "E"), "n")
WHOLE = {
    "env": "E",
    "sequence": 5,
    "base": 2,
    "status": Status.LEASED,
    "keyed": 70,
    "token": 9,
    "scheduled_token": 8,
    "holder": "h",
    "granted_at": AGO,
    "leased_at": AGO,
    "wanted": 3,
    "granted": 2,
    "url": "https://a.test/x",
    "queue": "q",
    "params": {"a": 1},
    "attention": "E/damaged/000/x",
    "errors": (Failure(AGO, 1, 5, "no"),),
}
"""What can be read of a record, if all of it can."""


def anew(*lost: str, wishes: Wishes | None = None, read: datetime = NOW, **changes: Any) -> Put | CallRefused:
    """
    The record of WHOLE without what is *lost*, made anew.
    """
    found = {name: value for name, value in (WHOLE | changes).items() if name not in lost}
    return repair(found, lost, wishes or Wishes(), "n", DecisionContext(NOW, read, "E/push/000", "E"))


def made(*lost: str, **options: Any) -> Lock:
    """
    The new record.
    """
    put = anew(*lost, **options)
    assert isinstance(put, Put), put
    assert (put.dispatch, put.lock.scheduled_by, put.lock.status) == (True, "n", Status.SCHEDULED)
    assert (put.lock.attempts, put.lock.attention, put.lock.parked) == (0, None, None)
    return put.lock


def test_what_can_be_read_is_kept() -> None:
    """
    The next sequence, the same step, the same key, the same target; whatever was granted before can write nothing.
    """
    lock = made("retry", "owed")
    assert (lock.sequence, lock.step, lock.keyed, lock.token) == (6, 3, 70, 9)
    assert (lock.wanted, lock.granted, lock.url, lock.params) == (3, 2, "https://a.test/x", {"a": 1})
    assert (lock.errors, made(wishes=Wishes(keep_errors=True)).errors) == ((), WHOLE["errors"])
    assert made(status=Status.COMPLETED).keyed == 71
    assert made("status").keyed == 70


@pytest.mark.parametrize(
    ("lost", "wishes", "has"),
    [
        (["token"], Wishes(), {"token": BEYOND}),
        (["scheduled_token"], Wishes(), {"token": 9}),
        (["sequence"], Wishes(step=3), {"sequence": BEYOND + 1, "step": 3, "keyed": 70}),
        (["base"], Wishes(step=2), {"sequence": 6, "step": 2}),
        (["keyed"], Wishes(new_key=True), {"keyed": ANEW, "sequence": 6}),
        (["wanted"], Wishes(), {"wanted": 2, "granted": 2}),
        (["granted"], Wishes(), {"wanted": 3, "granted": 3}),
        (["wanted", "granted"], Wishes(new_key=True), {"wanted": 0, "granted": 0}),
        (["queue"], Wishes(queue="another"), {"queue": "another"}),
        (["env"], Wishes(), {"env": "E"}),
        (["status", "holder", "granted_at", "leased_at", "due"], Wishes(), {"sequence": 6}),
    ],
    ids=str,
)
def test_what_cannot_be_read_goes_on_beyond_all_there_was(lost: list[str], wishes: Wishes, has: dict[str, Any]) -> None:
    """
    Sequences and tokens never go back.
    """
    lock = made(*lost, wishes=wishes)
    assert {name: getattr(lock, name) for name in has} == has


def test_contradictions_are_resolved_upwards() -> None:
    """
    A token below the one that its sequence was scheduled with is not believed; of two revisions the larger counts.
    """
    assert made(token=3).token == BEYOND
    lock = made(granted=7)
    assert (lock.wanted, lock.granted) == (7, 7)


@pytest.mark.parametrize(
    ("lost", "changes", "refusal", "said"),
    [
        (["sequence"], {}, Refusal.DAMAGED, "--step"),
        (["base"], {}, Refusal.DAMAGED, "--step"),
        ([], {"base": 5}, Refusal.DAMAGED, "--step"),
        (["keyed"], {}, Refusal.DAMAGED, "--new-key"),
        ([], {"keyed": 0}, Refusal.DAMAGED, "--new-key"),
        (["wanted", "granted"], {}, Refusal.DAMAGED, "--new-key"),
        (["url"], {}, Refusal.DAMAGED, "url"),
        (["key"], {}, Refusal.DAMAGED, "resource key"),
        ([], {"env": "OTHER"}, Refusal.FOREIGN, "OTHER"),
        ([], {"erased": True}, Refusal.ERASED, "erased"),
    ],
    ids=str,
)
def test_what_it_needs_is_asked_for(lost: list[str], changes: dict[str, Any], refusal: Refusal, said: str) -> None:
    """
    Refused with what to say, or to repair by hand.
    """
    refused = anew(*lost, **changes)
    assert isinstance(refused, CallRefused)
    assert (refused.refusal, said in refused.reason) == (refusal, True)


@pytest.mark.parametrize(
    ("lost", "seconds"),
    [
        ([], 60),
        (["status"], 60),
        (["granted_at"], 60),
        (["run_limit_seconds"], 60),
        (["leased_at"], 630),
        (["lease_seconds"], 630),
    ],
    ids=str,
)
def test_what_may_be_held_is_left(lost: list[str], seconds: float) -> None:
    """
    Until the last lease is over by the end that can be read; its run limit is the later one here.
    """
    end = AGO + timedelta(seconds=seconds)
    refused = anew(*lost, read=end - timedelta(microseconds=1))
    assert isinstance(refused, CallRefused)
    assert (refused.refusal, refused.until) == (Refusal.RUNNING, end)
    made(*lost, read=end)


def test_what_has_ended_or_has_no_time_is_not_held() -> None:
    """
    So a record of which nothing is known can be made anew at all.
    """
    made("leased_at", "granted_at", read=AGO)
    made("leased_at", "run_limit_seconds", read=AGO)
    made(status=Status.FAILED, read=AGO)


def test_a_task_that_waits_goes_on_waiting() -> None:
    """
    Unless it had ended.
    """
    later = NOW + timedelta(days=3)
    assert made(status=Status.SCHEDULED, wait_until=later).wait_until == later
    assert made("status", wait_until=later).wait_until == later
    assert made(status=Status.FAILED, wait_until=later).wait_until is None


SECOND = timedelta(seconds=1)


def record(**changes: Any) -> Any:
    """
    A record that waits, with attributes as they are stored.
    """
    document = DocumentType()
    put(document.fields["lock"], {"env": "DEFAULT", "sequence": 3, "status": "scheduled", **changes})
    return document


@pytest.mark.parametrize(
    ("stored_as", "value", "attribute", "read"),
    [
        ("rides", False, "rides", False),
        ("rides", True, "rides", True),
        ("token", 2**62 - 1, "token", 2**62 - 1),
        ("token", 0, "token", 0),
        ("scheduledBy", "", "scheduled_by", ""),
        ("waitUntil", AGO, "wait_until", AGO),
        ("waitUntil", LATEST - SECOND, "wait_until", LATEST - SECOND),
        ("key", "k", "key", "k"),
        ("headers", {}, "headers", {}),
        ("headers", {"a": "b"}, "headers", {"a": "b"}),
        ("leaseSeconds", 60, "lease_seconds", 60),
        ("leaseSeconds", 0.5, "lease_seconds", 0.5),
    ],
)
def test_value_at_the_border_of_what_is_right(stored_as: str, value: Any, attribute: str, read: Any) -> None:
    lock = decode_lock(record(**{stored_as: value}))
    assert getattr(lock, attribute) == read


@pytest.mark.parametrize(
    ("name", "value", "trouble"),
    [
        ("rides", 1, "rides: it is 1."),
        ("rides", None, "rides: it is null."),
        ("token", 2**62, f"token: it is {2**62}."),
        ("token", -1, "token: it is -1."),
        ("token", "1", "token: it is '1'."),
        ("scheduledBy", 1, "scheduledBy: it is 1."),
        ("scheduledBy", None, "scheduledBy: it is null."),
        ("waitUntil", "now", "waitUntil: it is 'now'."),
        ("waitUntil", LATEST, f"waitUntil: it is {LATEST!r}."),
        ("readyAt", "now", "readyAt: it is 'now'."),
        ("readyAt", {"sequence": 1}, "readyAt: token is missing."),
        ("headers", ["a"], "headers: it is no map of texts."),
        ("headers", {"a": 1}, "headers: it is no map of texts."),
        ("errors", {}, "errors: it is a map."),
        ("needs", "tomorrow", "needs: it is 'tomorrow'."),
    ],
)
def test_value_beyond_the_border_is_damaged(name: str, value: Any, trouble: str) -> None:
    with pytest.raises(DamagedError) as raised:
        decode_lock(record(**{name: value}), "orders/1")
    assert str(raised.value) == f"orders/1: its lock is damaged: {trouble}"
    assert raised.value.facts["unknown"] is False


@pytest.mark.parametrize("missing", ["env", "sequence", "status"])
def test_missing_attribute_is_damaged(missing: str) -> None:
    document = record(unknown="to all releases")
    document.fields["lock"].map_value.fields.pop(missing)
    with pytest.raises(DamagedError, match=rf"^The lock is damaged: {missing}: it is missing\.$"):
        decode_lock(document)
    values, troubles = salvage(document)
    assert missing not in values
    assert troubles == {missing: "it is missing"}


def test_record_that_only_a_newer_release_can_read() -> None:
    """
    Attributes that can't be read have the values of a record that nobody may change; a contradiction is left to that release.
    """
    document = record(needs=["tomorrow"], token=5, granted="of another type")
    for name in ("env", "sequence", "status"):
        put(document.fields["lock"].map_value.fields[name], {"of": "another type"})
    lock = decode_lock(document)
    assert lock is not None
    assert (lock.env, lock.sequence, lock.status) == ("", 0, Status.SCHEDULED)
    assert (lock.needs, lock.token) == (("tomorrow",), 5)

    misfit = decode_lock(record(needs=["tomorrow"], base=9))
    assert misfit is not None
    assert misfit.base == 9
    with pytest.raises(DamagedError, match="base"):
        decode_lock(record(base=9))


def test_record_without_differences_is_an_empty_map() -> None:
    value = ValueType()
    lock = decode_lock(record())
    assert lock is not None
    assert encode_lock(value, lock, lock) == ((), ())
    assert value.HasField("map_value")
    assert not value.map_value.fields
