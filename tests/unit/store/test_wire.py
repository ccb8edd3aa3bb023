"""
Single calls of the wire against the local Firestore: what is returned, what tells the server's time, what an error means.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.cloud.firestore_v1.types import WriteResult

from gcp_oncetask import forks
from gcp_oncetask.rules.statuses import FailureClass
from gcp_oncetask.store.codec import get_timestamp
from gcp_oncetask.store.failures import WireError
from gcp_oncetask.store.queries import range_query
from tests.support.base import Base


def note(base: Base, path: str, text: str, *, exists: bool | None = None) -> Any:
    write = base.wire.write(path)
    write.update.fields["text"].string_value = text
    if exists is not None:
        write.current_document.exists = exists
    return write


def results_of(base: Base, path: str) -> list[Any]:
    """
    The results of a write that was applied when *path* was written last.
    """
    made = WriteResult.pb()()
    made.update_time.CopyFrom(base.wire.get(path).update_time)  # type: ignore[union-attr]
    return [made]


def forget_time(base: Base) -> None:
    """
    A new channel knows no time.
    """
    base.wire.reopen()
    assert base.wire.client is not None
    assert base.wire.estimate() is None


def later(base: Base, seconds: float = 10) -> None:
    base.cloud.clock.advance(seconds)


# --- reads -------------------------------------------------------------------------------------------------------------


def test_missing_document_is_none_and_a_failure_is_none_of_it(base: Base) -> None:
    assert base.wire.get("notes/1") is None
    for code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.FAILED_PRECONDITION):
        base.cloud.faults.fail("GetDocument", code=code)
        with pytest.raises(WireError) as raised:
            base.wire.get("notes/1")
        assert raised.value.code is code
    # The database itself is missing.
    base.cloud.faults.fail(
        "GetDocument", code=grpc.StatusCode.NOT_FOUND, message="The database (default) does not exist for project p"
    )
    with pytest.raises(WireError) as raised:
        base.wire.get("notes/1")
    assert raised.value.failure is FailureClass.REFUSED


def test_documents_are_read_with_the_time_of_the_read(base: Base) -> None:
    base.wire.batch_write([note(base, "notes/1", "one")])
    later(base)
    read = base.wire.batch_get(["notes/1", "notes/2"])
    (one, at), (none, other) = read["notes/1"], read["notes/2"]
    assert one is not None
    assert (one.fields["text"].string_value, none) == ("one", None)
    assert at == other == base.wire.estimate()


def test_read_in_a_transaction_is_one_of_that_transaction(base: Base) -> None:
    base.wire.batch_write([note(base, "notes/1", "one")])
    transaction = base.wire.begin()
    base.wire.batch_get(["notes/1"], transaction=transaction)
    base.wire.rollback(transaction)
    with pytest.raises(WireError):
        base.wire.batch_get(["notes/1"], transaction=transaction)


def test_answer_to_a_count_tells_the_time(base: Base) -> None:
    base.wire.batch_write([note(base, "notes/a", "one"), note(base, "notes/b", "two")])
    forget_time(base)
    assert base.wire.count(range_query("notes", False, "text", "one", "two", 0)) == 2
    counted = base.wire.estimate()
    assert base.wire.count(range_query("notes", False, "text", "x", "y", 0)) == 0
    assert counted is not None
    assert counted >= get_timestamp(base.wire.get("notes/a").update_time)  # type: ignore[union-attr]


# --- writes that do not depend on each other ---------------------------------------------------------------------------


def test_each_write_of_a_batch_has_its_own_answer(base: Base) -> None:
    base.wire.batch_write([note(base, "notes/1", "one")])
    (first, good), (second, bad) = base.wire.batch_write(
        [note(base, "notes/2", "two", exists=False), note(base, "notes/1", "again", exists=False)]
    )
    assert (good.code, bad.code) == (0, grpc.StatusCode.ALREADY_EXISTS.value[0])
    assert first.update_time == base.wire.get("notes/2").update_time  # type: ignore[union-attr]
    assert not second.HasField("update_time")
    assert base.wire.get("notes/1").fields["text"].string_value == "one"  # type: ignore[union-attr]


def test_changed_write_of_a_batch_tells_the_time(base: Base) -> None:
    base.wire.batch_write([note(base, "notes/1", "one")])
    first = base.wire.estimate()
    assert first == get_timestamp(base.wire.get("notes/1").update_time)  # type: ignore[union-attr]
    later(base)
    base.wire.batch_write([note(base, "notes/2", "two"), note(base, "notes/1", "three")])
    latest = max(get_timestamp(base.wire.get(path).update_time) for path in ("notes/1", "notes/2"))  # type: ignore[union-attr]
    assert base.wire.estimate() == latest


def test_write_that_changes_nothing_tells_no_time(base: Base) -> None:
    base.wire.batch_write([note(base, "notes/1", "one")])
    version = base.wire.get("notes/1").update_time  # type: ignore[union-attr]
    later(base)
    base.wire.reopen()
    same = note(base, "notes/1", "one")
    same.current_document.update_time.CopyFrom(version)
    [(result, status)] = base.wire.batch_write([same])
    assert (status.code, result.update_time) == (0, version)
    assert base.wire.estimate() is None, "nothing is known of the present time"
    base.wire.batch_write([note(base, "notes/1", "one", exists=False)])
    late = note(base, "notes/1", "two")
    late.current_document.update_time.FromSeconds(1)
    base.wire.batch_write([late])
    assert base.wire.estimate() is None, "a write that was refused tells none either"
    base.wire.batch_write([late, note(base, "notes/2", "two")])
    assert base.wire.estimate() == get_timestamp(base.wire.get("notes/2").update_time)  # type: ignore[union-attr]


def test_latest_of_the_writes_tells_the_time(base: Base) -> None:
    """
    Each write of a call has a time of its own.
    """
    base.wire.batch_write([note(base, "notes/1", "one")])
    later(base)
    base.wire.batch_write([note(base, "notes/2", "two")])
    [older], [newer] = results_of(base, "notes/1"), results_of(base, "notes/2")
    for results in ([older, newer], [newer, older]):
        forget_time(base)
        base.wire._saw_changes([note(base, "notes/3", "x"), note(base, "notes/4", "x")], results)
        assert base.wire.estimate() == get_timestamp(newer.update_time)


def test_time_that_is_known_better_stays(base: Base) -> None:
    base.wire.batch_write([note(base, "notes/1", "one")])
    later(base)
    base.wire.commit(base.wire.request())
    known = base.wire.estimate()
    base.wire._saw_changes([note(base, "notes/1", "two")], results_of(base, "notes/1"))
    assert base.wire.estimate() == known


# --- the channel --------------------------------------------------------------------------------------------------------


def test_channel_is_opened_once_and_again_on_demand_and_after_a_fork(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = base.wire.client
    assert base.wire.client is client
    assert base.wire.database == client._database_string
    base.wire.reopen()
    assert base.wire.client is not client
    client = base.wire.client
    monkeypatch.setattr(forks, "generation", forks.generation + 1)
    assert base.wire.client is not client


def test_calls_have_a_deadline_and_name_their_database(base: Base) -> None:
    made: list[tuple[str, dict[str, Any]]] = []

    def kept(method: str, call: Any) -> Any:
        def called(request: Any, **options: Any) -> Any:
            made.append((method, options))
            return call(request, **options)

        return called

    calls = base.wire._open()
    methods = ("commit", "get", "run_query")
    base.wire._calls = replace(calls, **{name: kept(name, getattr(calls, name)) for name in methods})
    base.wire.commit(base.wire.request())
    base.wire.commit(base.wire.request(), timeout=3.0)
    base.wire.get("notes/1", timeout=2.0)
    base.wire.run_query(range_query("notes", False, "text", "a", "z", 0))
    assert [(method, options["timeout"]) for method, options in made] == [
        ("commit", 10.0),
        ("commit", 3.0),
        ("get", 2.0),
        ("run_query", 10.0),
    ]
    database = "projects%2Fdemo-local%2Fdatabases%2F%28default%29"
    for _, options in made:
        assert ("x-goog-request-params", f"database={database}") in options["metadata"]


def test_transaction_that_repeats_another_one_names_it(base: Base) -> None:
    asked: list[Any] = []
    calls = base.wire._open()

    def begin(request: Any, **options: Any) -> Any:
        asked.append(request)
        return calls.begin(request, **options)

    base.wire._calls = replace(calls, begin=begin)
    first = base.wire.begin()
    base.wire.rollback(first)
    base.wire.rollback(base.wire.begin(first))
    assert [bytes(request.options.read_write.retry_transaction) for request in asked] == [b"", first]
