"""
Calls that wait hold no thread of a port, and cost the others nothing.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore
from google.cloud.firestore_v1.types import CommitRequest, ListenRequest, ListenResponse

from gcp_emulator.clock import VirtualClock
from gcp_emulator.firestore import FirestoreServer
from gcp_emulator.waiting import WaitingRoom
from gcp_oncetask import Config, Locker
from tests.support.closing import made_and_closed
from tests.support.patience import patient, until

DATABASE = "projects/p/databases/(default)"
FIRESTORE = "/google.firestore.v1.Firestore/"


class Stage:
    """
    A server on a port, the ordinary client, and plain messages.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        self._others = _threads()
        self.server = FirestoreServer(**settings)
        self.server.start()
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", self.server.address)
        self.client = firestore.Client(project="p", credentials=AnonymousCredentials())
        self.channel = grpc.insecure_channel(self.server.address)

    def close(self) -> None:
        self.client.close()
        self.channel.close()
        self.server.stop()

    def begun(self, *paths: str) -> firestore.Transaction:
        """A transaction that has read the documents at *paths*."""
        transaction = self.client.transaction(max_attempts=1)
        transaction._begin()
        for path in paths:
            self.client.document(path).get(transaction=transaction)
        return transaction

    def write(self, path: str, number: int, timeout: float | None = None) -> Any:
        """A commit that is not waited for."""
        request = CommitRequest.pb()(database=DATABASE)
        write = request.writes.add()
        write.update.name = f"{DATABASE}/documents/{path}"
        write.update.fields["n"].integer_value = number
        commit = self.channel.unary_unary(FIRESTORE + "Commit")
        return commit.future(request.SerializeToString(), timeout=timeout or patient(60))

    def until(self, rpc: str, count: int) -> None:
        """Wait until the server has begun this many calls."""
        until(lambda: self.server.counts[rpc] >= count)

    def number(self, path: str) -> int | None:
        return (self.client.document(path).get().to_dict() or {}).get("n")

    def threads(self) -> int:
        """Threads of the server; other servers of the session have theirs."""
        return len(_threads() - self._others)

    def calls_of(self, action: Callable[[], Any]) -> int:
        """The number of Python calls in the server's thread while *action* runs: the fewest of several times."""
        port = self.server._port
        assert port is not None
        counted = []

        def profile(*_: Any) -> None:
            counted.append(1)

        found = []
        for _ in range(7):
            counted.clear()
            self._in_loop(lambda: sys.setprofile(profile))
            action()
            self._in_loop(lambda: sys.setprofile(None))
            found.append(len(counted))
        return min(found)

    def cpu_of(self, action: Callable[[], Any]) -> float:
        """Seconds of CPU of the server's thread while *action* runs: the fewest of several times."""
        port = self.server._port
        assert port is not None
        assert port._thread is not None
        assert port._thread.ident is not None
        clock = time.pthread_getcpuclockid(port._thread.ident)
        found = []
        for _ in range(5):
            before = time.clock_gettime(clock)
            action()
            found.append(time.clock_gettime(clock) - before)
        return min(found)

    def _in_loop(self, run: Callable[[], Any]) -> None:
        loop = self.server._port._loop  # type: ignore[union-attr]
        assert loop is not None
        done = threading.Event()
        loop.call_soon_threadsafe(lambda: (run(), done.set()))
        assert done.wait(patient(10))


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Stage]]:
    yield from made_and_closed(partial(Stage, monkeypatch))


def _threads() -> set[threading.Thread]:
    return {each for each in threading.enumerate() if each.name.startswith("gcp-emulator")}


def gets(stage: Stage, number: int) -> Callable[[], None]:
    """*number* reads of one document."""
    reference = stage.client.document("things/a")

    def get() -> None:
        for _ in range(number):
            reference.get()

    return get


class TestWrites:
    def test_five_hundred_wait_and_are_applied(self, stage):
        """One thread serves; a read costs the same beside them; the end of the reader lets all of them go on."""
        stage = stage(conflicts="pessimistic")
        stage.client.document("things/a").set({"n": 0})
        alone, cpu = stage.calls_of(gets(stage, 20)), stage.cpu_of(gets(stage, 100))
        reader = stage.begun("things/b")
        writes = [stage.write("things/b", number) for number in range(500)]
        stage.until("Commit", 501)
        assert stage.threads() == 1
        assert stage.calls_of(gets(stage, 20)) <= alone * 1.05
        assert stage.cpu_of(gets(stage, 100)) <= cpu * 3
        assert not any(each.done() for each in writes)
        reader._rollback()
        assert {each.code() for each in writes} == {grpc.StatusCode.OK}
        assert stage.server.writes == 501

    def test_end_of_one_reader_wakes_its_own_waiters(self, stage):
        """Others go on waiting, and are not looked at."""
        stage = stage(conflicts="pessimistic")
        readers = [stage.begun(f"things/{number}") for number in range(100)]
        writes = [stage.write(f"things/{number}", number) for number in range(100)]
        stage.until("Commit", 100)
        last = stage.calls_of(lambda: None)
        costs = stage.calls_of(lambda: readers.pop()._rollback()) - last
        until(lambda: sum(each.done() for each in writes) == 7)
        assert costs < 5000
        for each in readers:
            each._rollback()
        assert {each.code() for each in writes} == {grpc.StatusCode.OK}

    def test_deadline_of_the_caller_undoes_nothing(self, stage):
        """The caller has DEADLINE_EXCEEDED while its write waits; it is applied later, as Google's emulator does."""
        stage = stage(conflicts="pessimistic")
        reader = stage.begun("things/a")
        write = stage.write("things/a", 1, timeout=0.2)
        assert write.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert stage.number("things/a") is None
        reader._rollback()
        until(lambda: stage.number("things/a") == 1)

    def test_caller_that_has_gone_undoes_nothing(self, stage):
        """Its connection breaks while its write waits."""
        stage = stage(conflicts="pessimistic")
        reader = stage.begun("things/a")
        write = stage.write("things/a", 1)
        stage.until("Commit", 1)
        stage.channel.close()
        assert write.code() == grpc.StatusCode.CANCELLED
        reader._rollback()
        until(lambda: stage.number("things/a") == 1)

    @pytest.mark.parametrize(("conflicts", "seconds"), [("pessimistic", 20), ("emulator", 2)])
    def test_wait_ends_in_virtual_time(self, stage, conflicts, seconds):
        """ABORTED when its time is over, by the clock of the server."""
        clock = VirtualClock()
        stage = stage(conflicts=conflicts, clock=clock)
        stage.begun("things/a")
        write = stage.write("things/a", 1)
        stage.until("Commit", 1)
        clock.advance(seconds - 0.1)
        stage.number("things/b")
        assert not write.done()
        clock.advance(0.2)
        assert write.code() == grpc.StatusCode.ABORTED

    def test_idle_reader_lets_go_in_time(self, stage):
        """A wait ends when the reader's transaction has been idle for a minute."""
        clock = VirtualClock()
        stage = stage(conflicts="pessimistic", clock=clock)
        stage.begun("things/a")
        clock.advance(50)
        write = stage.write("things/a", 1)
        stage.until("Commit", 1)
        clock.advance(10.1)
        assert write.code() == grpc.StatusCode.OK

    def test_wipe_ends_the_wait(self, stage):
        """The readers are gone with the documents."""
        stage = stage(conflicts="pessimistic")
        stage.begun("things/a")
        write = stage.write("things/a", 1)
        stage.until("Commit", 1)
        stage.server.wipe()
        assert write.code() == grpc.StatusCode.OK

    def test_two_that_wait_for_each_other(self, stage):
        """Both have read both: the second to commit is aborted at once, and the first goes through."""
        stage = stage(conflicts="pessimistic")
        first, second = stage.begun("things/a"), stage.begun("things/a")
        for each in (first, second):
            each.set(stage.client.document("things/a"), {"n": 1})
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(first._commit)
            stage.until("Commit", 1)
            with pytest.raises(Exception, match="contention"):
                second._commit()
            assert waiting.result(patient(10))
        assert stage.number("things/a") == 1

    @pytest.mark.parametrize("how", ["set", "update", "delete", "batch"])
    def test_other_writes_wait_as_well(self, stage, how):
        """BatchWrite, and the RPCs on single documents."""
        stage = stage(conflicts="pessimistic")
        stage.client.document("things/a").set({"n": 0})
        reader = stage.begun("things/a", "things/new")
        api = stage.client._firestore_api
        name = f"{DATABASE}/documents/things/a"
        runs = {
            "set": lambda: api.create_document(
                {"parent": f"{DATABASE}/documents", "collection_id": "things", "document_id": "new", "document": {}}
            ),
            "update": lambda: api.update_document({"document": {"name": name, "fields": {}}}),
            "delete": lambda: api.delete_document({"name": name}),
            "batch": lambda: api.batch_write({"database": DATABASE, "writes": [{"delete": name}]}),
        }
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(runs[how])
            rpc = {
                "set": "CreateDocument",
                "update": "UpdateDocument",
                "delete": "DeleteDocument",
                "batch": "BatchWrite",
            }[how]
            stage.until(rpc, 1)
            assert stage.number("things/a") == 0
            assert not running.done()
            reader._rollback()
            running.result(patient(10))

    def test_delayed_calls_hold_no_thread(self, stage):
        """An injected delay of many calls at once; others are answered meanwhile."""
        stage = stage()
        stage.client.document("things/a").set({"n": 0})
        stage.server.service.faults.fail("Commit", code=None, delay=2.0, times=200)
        writes = [stage.write(f"things/{number}", number) for number in range(200)]
        stage.until("Commit", 201)
        assert stage.threads() == 1
        assert stage.number("things/a") == 0
        assert not any(each.done() for each in writes)
        assert {each.code() for each in writes} == {grpc.StatusCode.OK}


def test_change_between_looking_and_waiting_is_not_missed():
    """A wait whose reason ended before it was parked is over at once."""
    room = WaitingRoom()
    with room.lock:
        hold = room.hold(None, ["reader"])
    with room.lock:
        room.ended("reader")
    assert room.park(hold, lambda: None) is None
    room.wait(hold, VirtualClock())
    with room.lock:
        hold = room.hold(None, ["reader"])
    woken: list[int] = []
    leave = room.park(hold, lambda: woken.append(1))
    assert leave is not None
    leave()
    with room.lock:
        room.ended("reader")
    assert woken == []


class Streams:
    """
    Many Listen calls of one channel, in a loop of their own: the synchronous client takes a thread for each.
    """

    def __init__(self, address: str) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="client", daemon=True).start()
        self._channel = self._run(self._open(address))
        self._calls: list[Any] = []

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(patient(120))

    async def _open(self, address: str) -> Any:
        return grpc.aio.insecure_channel(address)

    def open(self, count: int) -> None:
        """Listen to a document each, until all have their first snapshot."""

        async def open_() -> None:
            stub = self._channel.stream_stream(
                FIRESTORE + "Listen",
                request_serializer=ListenRequest.pb().SerializeToString,
                response_deserializer=ListenResponse.pb().FromString,
            )
            self._calls = [stub() for _ in range(count)]
            for number, call in enumerate(self._calls):
                request = ListenRequest.pb()(database=DATABASE)
                request.add_target.target_id = 1
                request.add_target.documents.documents.append(f"{DATABASE}/documents/listened/{number}")
                await call.write(request)
            for call in self._calls:
                await self._snapshot(call)

        self._run(open_())

    @staticmethod
    async def _snapshot(call: Any) -> list[Any]:
        found = []
        while True:
            answer = await call.read()
            found.append(answer)
            if answer.HasField("target_change") and not answer.target_change.target_ids:
                return found

    def next(self, number: int) -> list[Any]:
        """The next snapshot of one of them."""
        return self._run(self._snapshot(self._calls[number]))

    def close(self) -> None:
        async def close() -> None:
            for call in self._calls:
                call.cancel()
            await self._channel.close()

        self._run(close())
        self._loop.call_soon_threadsafe(self._loop.stop)


class TestListeners:
    def test_two_thousand_cost_the_others_nothing(self, stage):
        """No thread, no work for a read, and none for a write of another document."""
        stage = stage()
        things = stage.client.document("things/a")
        things.set({"n": 0})
        numbers = iter(range(1000))

        def set_() -> None:
            things.set({"n": next(numbers)})

        alone, set_alone, cpu = stage.calls_of(gets(stage, 20)), stage.calls_of(set_), stage.cpu_of(gets(stage, 100))
        streams = Streams(stage.server.address)
        streams.open(2000)
        assert stage.threads() == 1
        assert stage.calls_of(gets(stage, 20)) <= alone * 1.05
        assert stage.calls_of(set_) <= set_alone * 1.05
        assert stage.cpu_of(gets(stage, 100)) <= cpu * 3
        stage.client.document("listened/7").set({"n": 1})
        assert [each.document_change.document.fields["n"].integer_value for each in streams.next(7)[:-1]] == [1]
        streams.close()
        until(lambda: not stage.server._databases[DATABASE].audience._told)

    def test_others_on_the_same_connection_cost_little(self, stage):
        """A hundred reads among a thousand streams of one connection look at none of them."""
        stage = stage()
        stage.client.document("things/a").set({"n": 0})
        streams = Streams(stage.server.address)
        streams.open(1)
        few = self.reads_beside(stage, streams)
        streams.close()
        streams = Streams(stage.server.address)
        streams.open(1000)
        assert self.reads_beside(stage, streams) <= few * 1.2
        streams.close()

    @staticmethod
    def reads_beside(stage: Stage, streams: Streams) -> int:
        get = streams._channel.unary_unary(FIRESTORE + "GetDocument")
        name = f"{DATABASE}/documents/things/a".encode()
        request = b"\n" + bytes([len(name)]) + name

        async def one() -> None:
            await get(request)

        def run() -> None:
            for _ in range(100):
                streams._run(one())

        return stage.calls_of(run)


def test_forty_wait_for_a_named_lock(stage):
    """Each waiter has a listener open, so more than threads could hold; all get the lock in turn."""
    stage = stage()
    locker = Locker(config=Config(project="p"))
    held = []

    def work(number: int) -> None:
        with locker.lock("graph", ttl=300, timeout=patient(60)):
            held.append(number)

    with ThreadPoolExecutor(40) as pool:
        with locker.lock("graph", ttl=300):
            running = [pool.submit(work, number) for number in range(40)]
            stage.until("Listen", 40)
            assert held == []
            assert stage.threads() == 1
        for each in running:
            each.result(patient(120))
    assert sorted(held) == list(range(40))
