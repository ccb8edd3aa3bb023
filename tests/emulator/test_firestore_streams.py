"""
Write and Listen with each field, through Google's client.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.cloud.firestore_v1 import types

from tests.support.calls import Calls, numbers


class Stream:
    """
    Requests of a call with two streams, put one by one.
    """

    def __init__(self, calls: Calls, rpc: str, first: Any) -> None:
        self._requests: queue.Queue[Any] = queue.Queue()
        # The client waits for the first answer at once.
        self.put(first)
        self.answers = getattr(calls.api, rpc)(requests=self._all(), metadata=calls.headers, timeout=30)

    def _all(self) -> Iterator[Any]:
        while (request := self._requests.get()) is not None:
            yield request

    def put(self, request: Any) -> None:
        self._requests.put(request)

    def close(self) -> None:
        self._requests.put(None)
        self.answers.cancel()

    def until(self, found: Callable[[Any], bool]) -> list[Any]:
        """
        The answers up to the first for which *found* holds.
        """
        seen = []
        for answer in self.answers:
            seen.append(answer)
            if found(answer):
                return seen
        raise AssertionError(seen)


def test_write(calls, firestore_client):
    """Commits on one stream, each with the token of the answer before; labels are taken."""
    stream = Stream(calls, "write", types.WriteRequest(database=calls.database, labels={"from": "test"}))
    try:
        begun = next(stream.answers)
        token = begun.stream_token
        assert begun.stream_id
        for n in range(3):
            document = {"name": calls.name("c/a"), "fields": {"n": {"integer_value": n}}}
            stream.put(types.WriteRequest(stream_token=token, writes=[{"update": document}]))
            answer = next(stream.answers)
            assert answer.write_results[0].update_time == answer.commit_time
            assert answer.stream_token != token
            token = answer.stream_token
    finally:
        stream.close()
    assert numbers(calls("get_document", name=calls.name("c/a"))) == {"n": 2}


CURRENT = types.TargetChange.TargetChangeType.CURRENT
REMOVED = types.TargetChange.TargetChangeType.REMOVE


def target(calls: Calls, **more: Any) -> Any:
    query = {"parent": calls.root, "structured_query": {"from_": [{"collection_id": "c"}]}}
    made = {"target_id": 7} | more
    if "documents" not in made:
        made["query"] = query
    return types.ListenRequest(database=calls.database, labels={"from": "test"}, add_target=made)


def test_listen(calls, firestore_client):
    """A query or documents, under an id, until they are removed."""
    calls.put("c/a", n=1)
    stream = Stream(calls, "listen", target(calls))
    try:
        seen = stream.until(lambda each: each.target_change.target_change_type == CURRENT)
        assert [numbers(each.document_change.document) for each in seen if each.document_change.document.name] == [
            {"n": 1}
        ]
        stream.put(target(calls, target_id=8, documents={"documents": [calls.name("d/b")]}))
        calls.put("d/b", n=2)
        stream.until(
            lambda each: 8 in each.document_change.target_ids and numbers(each.document_change.document) == {"n": 2}
        )
        stream.put(types.ListenRequest(database=calls.database, remove_target=8))
        [*_, last] = stream.until(lambda each: each.target_change.target_change_type == REMOVED)
        assert list(last.target_change.target_ids) == [8]
    finally:
        stream.close()


@pytest.mark.parametrize("by", ["resume_token", "read_time"])
def test_listen_goes_on(firestore_client, firestore_server, by):
    """From a token, or a time: only what has changed since is told."""
    if firestore_server.name != "embedded":
        pytest.skip("Google's emulator tells everything again")
    calls = Calls(firestore_client)
    calls.put("c/a", n=1)
    stream = Stream(calls, "listen", target(calls))
    try:
        [*_, last] = stream.until(lambda each: bool(each.target_change.resume_token and each.target_change.read_time))
    finally:
        stream.close()
    calls.put("c/b", n=2)
    stream = Stream(calls, "listen", target(calls, **{by: getattr(last.target_change, by)}, expected_count=1))
    try:
        seen = stream.until(lambda each: each.target_change.target_change_type == CURRENT)
    finally:
        stream.close()
    assert [numbers(each.document_change.document) for each in seen if each.document_change.document.name] == [{"n": 2}]


def test_listen_once(firestore_client, firestore_server):
    """A target that is asked once is removed when its results have been told."""
    if firestore_server.name != "embedded":
        pytest.skip("Google's emulator does not remove it")
    calls = Calls(firestore_client)
    calls.put("c/a", n=1)
    stream = Stream(calls, "listen", target(calls, once=True))
    try:
        seen = stream.until(lambda each: each.target_change.target_change_type == REMOVED)
    finally:
        stream.close()
    assert [numbers(each.document_change.document) for each in seen if each.document_change.document.name] == [{"n": 1}]
