"""
The Write RPC: writes one after the other on one stream, which goes on after a break.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import grpc
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore
from google.cloud.firestore_v1.types import WriteRequest, WriteResponse

from gcp_emulator.firestore import FirestoreServer
from tests.support.closing import made_and_closed
from tests.support.patience import patient, until

DATABASE = "projects/p/databases/(default)"


class Call:
    """
    One Write call, through the client's generated stub.
    """

    def __init__(self, client: firestore.Client) -> None:
        self._requests: queue.SimpleQueue[WriteRequest | None] = queue.SimpleQueue()
        self.answers = client._firestore_api._transport.write(iter(self._requests.get, None), timeout=patient(60))
        self.id = ""
        self.token = b""

    def begin(self, id_: str = "", token: bytes = b"", **more: Any) -> WriteResponse:
        self._requests.put(WriteRequest(database=DATABASE, stream_id=id_, stream_token=token, **more))
        answer = self.next()
        self.id = answer.stream_id or id_
        return answer

    def write(self, *writes: dict[str, Any], token: bytes | None = None) -> None:
        self._requests.put(WriteRequest(writes=writes, stream_token=self.token if token is None else token))

    def next(self) -> WriteResponse:
        answer = next(self.answers)
        self.token = answer.stream_token
        return answer

    def end(self) -> None:
        self._requests.put(None)

    def close(self) -> None:
        self.answers.cancel()
        self._requests.put(None)


def put(path: str, number: int, **more: Any) -> dict[str, Any]:
    return {"update": {"name": f"{DATABASE}/documents/{path}", "fields": {"n": {"integer_value": number}}}, **more}


class Stage:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        self.server = FirestoreServer(**settings)
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", self.server.start())
        self.client = firestore.Client(project="p", credentials=AnonymousCredentials())
        self._calls: list[Call] = []

    def call(self) -> Call:
        self._calls.append(Call(self.client))
        return self._calls[-1]

    def numbers(self) -> dict[str, int]:
        return {path: each.fields["n"].integer_value for path, each in self.server.documents("p").items()}

    def close(self) -> None:
        for call in self._calls:
            call.close()
        self.client.close()
        self.server.stop()


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Stage]]:
    yield from made_and_closed(partial(Stage, monkeypatch))


def refused(call: Call) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call.next()
    return caught.value.code(), caught.value.details()


def test_writes_are_applied_in_order(stage):
    """A greeting with an id and a token; then the results of each request, and a new token."""
    stage = stage()
    call = stage.call()
    greeting = call.begin()
    assert greeting.stream_id
    assert greeting.stream_token
    assert not greeting.write_results
    for number in range(3):
        call.write(put("things/a", number), put("things/b", -number))
    tokens = {greeting.stream_token}
    for _ in range(3):
        answer = call.next()
        assert answer.stream_id == ""
        assert len(answer.write_results) == 2
        assert answer.write_results[0].update_time == answer.commit_time
        tokens.add(answer.stream_token)
    assert len(tokens) == 4
    assert stage.numbers() == {"things/a": 2, "things/b": -2}
    call.end()
    assert list(call.answers) == []


def test_writes_before_the_end_are_answered(stage):
    """The caller closes its side while a write waits for a lock."""
    stage = stage(conflicts="pessimistic")
    reader = stage.client.transaction()
    reader._begin()
    stage.client.document("things/a").get(transaction=reader)
    call = stage.call()
    call.begin()
    call.write(put("things/a", 1))
    call.write(put("things/b", 2))
    call.end()
    stage.client.document("things/c").set({"n": 3})
    assert stage.numbers() == {"things/c": 3}
    reader._rollback()
    assert [len(answer.write_results) for answer in call.answers] == [1, 1]
    assert stage.numbers() == {"things/a": 1, "things/b": 2, "things/c": 3}


def test_refused_write_ends_the_stream(stage):
    """Nothing of its request is applied, and nothing behind it."""
    stage = stage()
    call = stage.call()
    call.begin()
    call.write(put("things/a", 1), put("things/none", 1, current_document={"exists": True}))
    call.write(put("things/b", 1))
    code, sentence = refused(call)
    assert code == grpc.StatusCode.NOT_FOUND
    assert "no entity to update" in sentence
    assert stage.numbers() == {}


def test_writes_behind_a_refused_one_are_dropped(stage):
    """They have come while it waited for a lock; their caller can't know of them."""
    stage = stage(conflicts="pessimistic")
    reader = stage.client.transaction()
    reader._begin()
    stage.client.document("things/a").get(transaction=reader)
    call = stage.call()
    call.begin()
    call.write(put("things/a", 1, current_document={"exists": True}))
    call.write(put("things/b", 2))
    stage.client.document("things/c").set({"n": 3})
    reader._rollback()
    assert refused(call)[0] == grpc.StatusCode.NOT_FOUND
    stage.client.document("things/c").set({"n": 4})
    assert stage.numbers() == {"things/c": 4}


def test_stream_is_resumed(stage):
    """The answers behind the token first, then a token; writes go on."""
    stage = stage()
    call = stage.call()
    call.begin()
    call.write(put("things/a", 1))
    first = call.next()
    call.write(put("things/a", 2))
    second = call.next()
    call.close()
    again = stage.call()
    missed = again.begin(call.id, first.stream_token)
    assert (missed.commit_time, missed.stream_token) == (second.commit_time, second.stream_token)
    assert len(missed.write_results) == 1
    ready = again.next()
    assert (len(ready.write_results), ready.stream_token) == (0, second.stream_token)
    again.write(put("things/a", 3))
    assert again.next().stream_token not in (first.stream_token, second.stream_token)
    assert stage.numbers() == {"things/a": 3}


def test_acknowledged_answers_are_forgotten(stage):
    """An earlier token than the last one that was sent is refused."""
    stage = stage()
    call = stage.call()
    greeting = call.begin()
    for number in range(2):
        call.write(put("things/a", number))
        call.next()
    call.write(put("things/a", 2))
    call.next()
    call.close()
    code, sentence = refused_resumption(stage, call.id, greeting.stream_token)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "stream token" in sentence
    assert refused_resumption(stage, call.id, b"\xff" * 8)[0] == grpc.StatusCode.INVALID_ARGUMENT


def refused_resumption(stage: Stage, id_: str, token: bytes) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        stage.call().begin(id_, token)
    return caught.value.code(), caught.value.details()


def test_unknown_stream_is_refused(stage):
    """NOT_FOUND; and a first request has no writes."""
    stage = stage()
    assert refused_resumption(stage, "none", b"")[0] == grpc.StatusCode.NOT_FOUND
    call = stage.call()
    with pytest.raises(grpc.RpcError, match="has no writes"):
        call.begin(writes=[put("things/a", 1)])
    assert stage.numbers() == {}


def test_resumption_waits_for_the_writes_before_the_break(stage):
    """The answer of a write that still waited at the break is among those that were missed: no client repeats it."""
    stage = stage(conflicts="pessimistic")
    reader = stage.client.transaction()
    reader._begin()
    stage.client.document("things/a").get(transaction=reader)
    call = stage.call()
    greeting = call.begin()
    call.write(put("things/a", 1))
    call.write(put("things/b", 2))
    stream = stage.server._write_streams.find(call.id, DATABASE)
    until(lambda: stream.running and stream.waiting)
    call.close()
    again = stage.call()
    again._requests.put(WriteRequest(database=DATABASE, stream_id=call.id, stream_token=greeting.stream_token))
    stage.client.document("things/c").set({"n": 4})
    reader._rollback()
    assert [len(again.next().write_results) for _ in range(3)] == [1, 1, 0]
    assert stage.numbers() == {"things/a": 1, "things/b": 2, "things/c": 4}
