"""
A listener goes on after a break: it is sent the differences, or everything if those are not known any more.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import grpc
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore
from google.cloud.firestore import FieldFilter
from google.cloud.firestore_v1.types import ListenRequest, ListenResponse

from gcp_emulator.clock import VirtualClock
from gcp_emulator.firestore import FirestoreServer
from tests.support.closing import made_and_closed
from tests.support.patience import patient

DATABASE = "projects/p/databases/(default)"
ADD, REMOVE, CURRENT, RESET = 1, 2, 3, 4
Message = dict[str, Any]


class Call:
    """
    One Listen call.
    """

    def __init__(self, channel: grpc.Channel) -> None:
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.answers = channel.stream_stream(
            "/google.firestore.v1.Firestore/Listen",
            request_serializer=ListenRequest.pb().SerializeToString,
            response_deserializer=ListenResponse.pb().FromString,
        )(iter(self._requests.get, None), timeout=patient(60))
        self.token = b""
        self.time: Any = None

    def add(self, **target: Any) -> None:
        target = {"target_id": 1, **target}
        self._requests.put(ListenRequest.pb()(database=DATABASE, add_target=target))

    def remove(self, id_: int) -> None:
        self._requests.put(ListenRequest.pb()(database=DATABASE, remove_target=id_))

    def snapshot(self) -> list[str]:
        """The answers up to the next consistent moment, in short."""
        found = []
        for answer in self.answers:
            change = answer.target_change
            if answer.HasField("target_change") and not change.target_ids:
                self.token, self.time = change.resume_token, change.read_time
                return found
            found.append(short(answer))
        raise AssertionError(found)

    def next(self) -> str:
        return short(next(self.answers))

    def close(self) -> None:
        self.answers.cancel()
        self._requests.put(None)


def short(answer: Any) -> str:
    kind = answer.WhichOneof("response_type")
    found = getattr(answer, kind)
    match kind:
        case "target_change":
            code = f" {grpc_name(found.cause.code)}" if found.cause.code else ""
            return f"{['NO', 'ADD', 'REMOVE', 'CURRENT', 'RESET'][found.target_change_type]} {list(found.target_ids)}{code}"
        case "filter":
            return f"filter {found.count}"
        case "document_change":
            return f"{found.document.name.rpartition('/')[2]}={found.document.fields['n'].integer_value}"
        case _:
            return f"{kind.removeprefix('document_')} {found.document.rpartition('/')[2]}"


def grpc_name(code: int) -> str:
    return next(each.name for each in grpc.StatusCode if each.value[0] == code)


class Stage:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        self.server = FirestoreServer(**settings)
        self.port = int(self.server.start().rpartition(":")[2])
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", self.server.address)
        self.client = firestore.Client(project="p", credentials=AnonymousCredentials())
        self.channel = grpc.insecure_channel(self.server.address)
        self._calls: list[Call] = []
        self.things = self.client.collection("things")

    def listen(self) -> Call:
        self._calls.append(Call(self.channel))
        return self._calls[-1]

    def query(self, **more: Any) -> Message:
        query = {"from_": [{"collection_id": "things"}], **more}
        where = {"field": {"field_path": "n"}, "op": "GREATER_THAN", "value": {"integer_value": 0}}
        query = ListenRequest(
            add_target={
                "query": {
                    "parent": f"{DATABASE}/documents",
                    "structured_query": {**query, "where": {"field_filter": where}},
                }
            }
        )
        return {"query": ListenRequest.pb(query).add_target.query}

    def close(self) -> None:
        for call in self._calls:
            call.close()
        self.client.close()
        self.channel.close()
        self.server.stop()


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Stage]]:
    yield from made_and_closed(partial(Stage, monkeypatch))


@pytest.fixture
def broken(stage):
    """
    A listener's target, its token and time, and the changes since: a changed, b no more a result, c gone, d new.
    """
    stage = stage()
    for id_ in ("same", "a", "b", "c"):
        stage.things.document(id_).set({"n": 1})
    call = stage.listen()
    call.add(**stage.query())
    assert sorted(call.snapshot()) == ["ADD [1]", "CURRENT [1]", "a=1", "b=1", "c=1", "same=1"]
    call.close()
    stage.things.document("a").set({"n": 2})
    stage.things.document("b").set({"n": 0})
    stage.things.document("c").delete()
    stage.things.document("d").set({"n": 4})
    stage.things.document("brief").set({"n": 5})
    stage.things.document("brief").delete()
    return stage, call


DIFFERENCES = ["ADD [1]", "CURRENT [1]", "a=2", "d=4", "delete c", "remove b"]
EVERYTHING = ["ADD [1]", "CURRENT [1]", "RESET [1]", "a=2", "d=4", "same=1"]


def test_token_brings_the_differences(broken):
    """Those alone, and then the changes go on."""
    stage, call = broken
    again = stage.listen()
    again.add(**stage.query(), resume_token=call.token)
    assert sorted(again.snapshot()) == DIFFERENCES
    stage.things.document("same").set({"n": 7})
    assert again.snapshot() == ["same=7"]


def test_read_time_does_as_well(broken):
    """The client that knows the results of a time names it."""
    stage, call = broken
    again = stage.listen()
    again.add(**stage.query(), read_time=call.time)
    assert sorted(again.snapshot()) == DIFFERENCES


def test_token_of_a_query_with_a_limit(stage):
    """What the limit lets in instead is sent too."""
    stage = stage()
    for number in range(1, 5):
        stage.things.document(f"d{number}").set({"n": number})
    call = stage.listen()
    call.add(**stage.query(limit={"value": 2}))
    assert call.snapshot() == ["ADD [1]", "d1=1", "d2=2", "CURRENT [1]"]
    call.close()
    stage.things.document("d1").delete()
    again = stage.listen()
    again.add(**stage.query(limit={"value": 2}), resume_token=call.token)
    assert again.snapshot() == ["ADD [1]", "d3=3", "delete d1", "CURRENT [1]"]


def test_token_of_a_document(stage):
    """Changed, gone, or as it was."""
    stage = stage()
    name = f"{DATABASE}/documents/things/a"
    token: dict[str, Any] = {}
    for change, told in (
        (lambda: None, ["delete a"]),
        (lambda: stage.things.document("a").set({"n": 1}), ["a=1"]),
        (lambda: stage.things.document("other").set({"n": 1}), []),
        (lambda: stage.things.document("a").delete(), ["delete a"]),
    ):
        change()
        call = stage.listen()
        call.add(documents={"documents": [name]}, **token)
        assert call.snapshot() == ["ADD [1]", *told, "CURRENT [1]"]
        call.close()
        token = {"resume_token": call.token}


@pytest.mark.parametrize("why", ["another server", "no token of ours", "wiped", "an hour old", "the future"])
def test_unknown_past_is_reset(stage, why):
    """RESET, and everything."""
    clock = VirtualClock()
    stage = stage(clock=clock)
    stage.things.document("a").set({"n": 1})
    call = stage.listen()
    call.add(**stage.query())
    call.snapshot()
    token = call.token
    match why:
        case "another server":
            token = bytes(8) + token[8:]
        case "no token of ours":
            token = b"?"
        case "wiped":
            stage.server.wipe()
            stage.things.document("a").set({"n": 1})
            call.snapshot()
        case "an hour old":
            clock.advance(timedelta(hours=1, seconds=1).total_seconds())
        case "the future":
            token = token[:8] + (int.from_bytes(token[8:]) + 10**9).to_bytes(8, "big")
    again = stage.listen()
    again.add(**stage.query(), resume_token=token)
    assert again.snapshot() == ["ADD [1]", "RESET [1]", "a=1", "CURRENT [1]"]


def test_token_is_of_all_targets(stage):
    """A client that adds a target hears of the others first, since the token that follows is theirs as well."""
    stage = stage()
    told: list[int] = []
    listener = stage.server.listener(DATABASE, lambda: told.append(1))
    request = ListenRequest.pb()(database=DATABASE, add_target={"target_id": 1, **stage.query()})
    listener.asked(request)
    stage.things.document("a").set({"n": 1})
    assert told == [1]
    request = ListenRequest.pb()(
        database=DATABASE, add_target={"target_id": 2, "documents": {"documents": [f"{DATABASE}/documents/others/x"]}}
    )
    answers = [short(each) for each in listener.asked(request)]
    assert answers == ["a=1", "ADD [2]", "delete x", "CURRENT [2]", "NO []"]
    assert listener.news() == []
    listener.over()


def test_token_of_the_moment_of_a_commit(stage):
    """On a clock that stands still, what was committed at the token's time has been seen."""
    stage = stage(clock=VirtualClock())
    stage.things.document("a").set({"n": 1})
    stage.things.document("b").set({"n": 2})
    call = stage.listen()
    call.add(**stage.query())
    assert call.snapshot() == ["ADD [1]", "a=1", "b=2", "CURRENT [1]"]
    again = stage.listen()
    again.add(**stage.query(), resume_token=call.token)
    assert again.snapshot() == ["ADD [1]", "CURRENT [1]"]


def test_expected_count_is_answered_by_a_filter(broken):
    """The number of results now: a client that has another number begins anew."""
    stage, call = broken
    again = stage.listen()
    again.add(**stage.query(), resume_token=call.token, expected_count={"value": 4})
    assert sorted(again.snapshot()) == [*DIFFERENCES[:-2], *DIFFERENCES[-2:-1], "filter 3", DIFFERENCES[-1]]


def test_target_that_is_wanted_once(stage):
    """It is removed as soon as it is current."""
    stage = stage()
    call = stage.listen()
    call.add(**stage.query(), once=True)
    assert call.snapshot() == ["ADD [1]", "CURRENT [1]"]
    assert call.next() == "REMOVE [1]"
    stage.things.document("a").set({"n": 1})
    call.add(**stage.query())
    assert call.snapshot() == ["ADD [1]", "a=1", "CURRENT [1]"]


def test_targets_without_an_id_are_given_one(stage):
    """And one with an id is refused after them."""
    stage = stage()
    call = stage.listen()
    for id_ in (1, 2):
        call.add(**stage.query(), target_id=0)
        assert call.snapshot() == [f"ADD [{id_}]", f"CURRENT [{id_}]"]
    call.add(**stage.query(), target_id=9)
    assert call.next() == "REMOVE [9] INVALID_ARGUMENT"
    call.remove(1)
    assert call.next() == "REMOVE [1]"


class Seen:
    """
    What the ordinary client's listener was told, as (kind of change, id).
    """

    def __init__(self) -> None:
        self.changes: list[tuple[str, str]] = []
        self._told = threading.Condition()

    def __call__(self, _: Any, changes: Any, __: Any) -> None:
        with self._told:
            self.changes += [(change.type.name, change.document.id) for change in changes]
            self._told.notify_all()

    def until(self, *changes: tuple[str, str]) -> None:
        with self._told:
            assert self._told.wait_for(lambda: len(self.changes) >= len(changes), patient(20)), self.changes
            assert self.changes == list(changes)


@pytest.mark.parametrize("restarts", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_python_s_listener_goes_on_after_a_restart(stage, restarts):
    """The port is closed and opened again; the listener hears of what was written meanwhile, and of nothing twice."""
    stage = stage()
    for id_ in ("a", "b"):
        stage.things.document(id_).set({"n": 1})
    seen = Seen()
    watch = stage.things.where(filter=FieldFilter("n", ">", 0)).on_snapshot(seen)
    told = [("ADDED", "a"), ("ADDED", "b")]
    seen.until(*told)
    for number in range(2, 2 + restarts):
        stage.server.stop()
        inside = FirestoreChange(stage.server)
        inside.set("a", number)
        stage.server.start(stage.port)
        told.append(("MODIFIED", "a"))
        seen.until(*told)
    stage.things.document("b").delete(timeout=patient(20))
    seen.until(*told, ("REMOVED", "b"))
    watch.unsubscribe()


class FirestoreChange:
    """
    Changes behind a closed port.
    """

    def __init__(self, server: FirestoreServer) -> None:
        from gcp_emulator.channel import InProcessChannel, firestore_client

        self._client = firestore_client(InProcessChannel([server.service]), "p")

    def set(self, id_: str, number: int) -> None:
        self._client.document(f"things/{id_}").set({"n": number})


def test_python_s_listener_goes_on_with_another_server(stage):
    """The documents are gone with the process; those of the new one take their place."""
    stage = stage()
    stage.things.document("a").set({"n": 1})
    seen = Seen()
    watch = stage.things.on_snapshot(seen)
    seen.until(("ADDED", "a"))
    stage.server.stop()
    stage.server = FirestoreServer()
    FirestoreChange(stage.server).set("b", 1)
    stage.server.start(stage.port)
    seen.until(("ADDED", "a"), ("REMOVED", "a"), ("ADDED", "b"))
    watch.unsubscribe()
