"""
What only the embedded Firestore offers: its clock, its counts, its faults, its indexes, optimistic transactions.
"""

from __future__ import annotations

import threading
from collections import Counter

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from gcp_emulator.clock import VirtualClock
from gcp_emulator.faults import Faults
from gcp_emulator.firestore import FirestoreServer

INVALID = grpc.StatusCode.INVALID_ARGUMENT
ABORTED = grpc.StatusCode.ABORTED
UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def faults():
    return Faults()


@pytest.fixture
def server(clock, faults):
    server = FirestoreServer(clock=clock, faults=faults)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def wire(server, firestore_wire_to):
    with grpc.insecure_channel(server.address) as channel:
        yield firestore_wire_to(channel, "p")


def refusal(call, *args, **kwargs):
    with pytest.raises(grpc.RpcError) as caught:
        call(*args, **kwargs)
    return caught.value.code(), caught.value.details()


class TestTime:
    def test_versions_on_a_standing_clock(self, wire, clock):
        """On a clock that stands still every commit still has a later time, and a read shows what is before it."""
        times = []
        for n in range(3):
            times.append(wire.micros(wire.commit(wire.write("c/a", {"n": n})).commit_time))
            times.append(wire.micros(wire.batch_get("c/a")[0].read_time))
        first = clock.micros()
        assert times == [first, first, first + 1, first + 1, first + 2, first + 2]

    def test_request_time_is_arrival(self, wire, clock):
        """REQUEST_TIME is the clock's time in whole milliseconds."""
        clock.advance(0.001_234)
        now = wire.field_transform("at", "set_to_server_value")
        (result,) = wire.commit(wire.write("c/a", transforms=[now])).write_results[0].transform_results
        assert wire.micros(result.timestamp_value) == clock.micros() - 234

    def test_empty_commit_tells_the_time(self, wire, clock, server):
        """An empty commit has the server's time and writes nothing."""
        clock.advance(5)
        assert wire.micros(wire.commit().commit_time) == clock.micros()
        assert (server.writes, server.reads) == (0, 0)

    def test_idle_transaction_closes_after_60_seconds(self, wire, clock):
        """A transaction lives through 60 idle seconds and no more."""
        kept, lost = wire.begin(), wire.begin()
        clock.advance(59)
        wire.batch_get("c/a", transaction=kept)
        clock.advance(2)
        wire.commit(wire.write("c/a"), transaction=kept)
        assert refusal(wire.commit, transaction=lost) == (INVALID, "Transaction is invalid or closed.")

    def test_busy_transaction_closes_after_270_seconds(self, wire, clock):
        """A transaction that is used all the time ends all the same."""
        transaction = wire.begin()
        for _ in range(9):
            clock.advance(30)
            wire.batch_get("c/a", transaction=transaction)
        clock.advance(1)
        assert refusal(wire.batch_get, "c/a", transaction=transaction)[0] == INVALID


class TestOptimisticTransactions:
    @pytest.mark.parametrize("change", ["update", "delete", "create"])
    def test_stale_read_is_aborted(self, wire, change):
        """A document read in the transaction and changed, deleted or created since aborts it; nothing is written."""
        if change != "create":
            wire.commit(wire.write("c/a", {"x": 1}))
        transaction = wire.begin()
        wire.batch_get("c/a", transaction=transaction)
        wire.commit(wire.delete("c/a") if change == "delete" else wire.write("c/a", {"x": 2}))
        assert refusal(wire.commit, wire.write("c/b"), transaction=transaction) == (
            ABORTED,
            "Too much contention on these documents. Please try again.",
        )
        assert wire.batch_get("c/b")[0].missing
        assert refusal(wire.commit, transaction=transaction)[0] == INVALID

    def test_untouched_read_commits(self, wire):
        """Others' writes elsewhere, and writes that change nothing, don't abort."""
        wire.commit(wire.write("c/a", {"x": 1}))
        transaction = wire.begin()
        wire.batch_get("c/a", transaction=transaction)
        wire.commit(wire.write("c/other", {"x": 2}), wire.write("c/a", {"x": 1}))
        wire.commit(wire.write("c/a", {"x": 3}), transaction=transaction)

    def test_snapshot_from_first_read(self, wire):
        """All reads of a transaction show the moment of its first one, so what it sees fits together."""
        wire.commit(wire.write("c/a", {"x": 1}), wire.write("c/b", {"x": 1}))
        transaction = wire.begin()
        wire.commit(wire.write("c/a", {"x": 2}), wire.write("c/b", {"x": 2}))
        first = wire.batch_get("c/a", transaction=transaction)[0]
        for x in (3, 4):
            wire.commit(wire.write("c/a", {"x": x}), wire.write("c/b", {"x": x}))
        second = wire.batch_get("c/b", transaction=transaction)[0]
        assert [r.found.fields["x"].integer_value for r in (first, second)] == [2, 2]
        assert first.read_time == second.read_time

    @pytest.mark.parametrize(
        ("path", "data", "aborted"),
        [
            ("q/new", {"k": 1}, True),
            ("q/a", {"k": 2}, True),
            ("q/a", {"k": 1, "more": 1}, True),
            ("q/z", {"k": 1}, True),
            ("q/new", {"k": 2}, False),
            ("other/new", {"k": 1}, False),
        ],
    )
    def test_phantoms(self, wire, path, data, aborted):
        """A commit after a query is aborted exactly if the query would now show something else."""
        wire.commit(wire.write("q/a", {"k": 1}), wire.write("q/z", {"k": 2}))
        transaction = wire.begin()
        where = wire.filter("k", "EQUAL", 1)
        assert wire.ids("q", where=where, request={"transaction": transaction}) == ["a"]
        wire.commit(wire.write(path, data))
        assert wire.ids("q", where=where, request={"transaction": transaction}) == ["a"]
        if aborted:
            assert refusal(wire.commit, transaction=transaction)[0] == ABORTED
        else:
            wire.commit(transaction=transaction)

    def test_count_in_transaction(self, wire):
        """A count that no longer holds aborts; a change that leaves it alone does not."""
        wire.commit(wire.write("q/a", {"k": 1}))
        for path, data, aborted in (("q/a", {"k": 1, "x": 1}, False), ("q/b", {"k": 1}, True)):
            transaction = wire.begin()
            wire.count("q", where=wire.filter("k", "EQUAL", 1), request={"transaction": transaction})
            wire.commit(wire.write(path, data))
            if aborted:
                assert refusal(wire.commit, transaction=transaction)[0] == ABORTED
            else:
                wire.commit(transaction=transaction)

    def test_threads_lose_no_increment(self, server, firestore_wire_to):
        """Eight threads that read, add one and commit, with retries on ABORTED, lose nothing."""
        failures = []

        def add():
            with grpc.insecure_channel(server.address) as channel:
                wire = firestore_wire_to(channel, "p")
                for _ in range(10):
                    while True:
                        transaction = wire.begin()
                        (found,) = wire.batch_get("c/a", transaction=transaction)
                        n = found.found.fields["n"].integer_value + 1
                        try:
                            wire.commit(wire.write("c/a", {"n": n}), transaction=transaction)
                            break
                        except grpc.RpcError as error:
                            if error.code() != ABORTED:
                                failures.append(error)
                                return

        threads = [threading.Thread(target=add) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert server.documents("p")["c/a"].fields["n"].integer_value == 80


class TestCounts:
    def test_reads_and_writes(self, wire, server):
        """Documents count as they are billed; RPCs count by name, refused ones included."""
        wire.commit(wire.write("c/a", {"x": 1}), wire.write("c/b", {"x": 1}), wire.delete("c/m"))
        assert (server.writes, server.reads) == (3, 0)
        wire.batch_get("c/a", "c/m")
        wire.ids("c")
        wire.ids("nothing")
        wire.count("c")
        refusal(wire.commit, wire.write("c/a", exists=False))
        assert (server.writes, server.reads) == (3, 2 + 2 + 1 + 1)
        assert server.counts == Counter(Commit=2, BatchGetDocuments=1, RunQuery=2, RunAggregationQuery=1)
        server.reset_counts()
        assert (server.writes, server.reads, server.counts) == (0, 0, Counter())

    def test_documents_and_wipe(self, wire, server):
        """The snapshot holds copies by path; wiping forgets one project or all, and versions still only grow."""
        other = wire.other(project="p2")
        wire.commit(wire.write("c/a", {"x": 1}), wire.write("c/a/d/b", {"x": 2}))
        other.commit(other.write("c/a", {"x": 3}))
        documents = server.documents("p")
        assert list(documents) == ["c/a", "c/a/d/b"]
        documents["c/a"].fields["x"].integer_value = 9
        assert server.documents("p")["c/a"].fields["x"].integer_value == 1
        server.wipe("p")
        assert (server.documents("p"), list(server.documents("p2"))) == ({}, ["c/a"])
        again = wire.commit(wire.write("c/a", {"x": 1})).write_results[0].update_time
        assert wire.micros(again) > wire.micros(documents["c/a"].update_time)
        server.wipe()
        assert server.documents("p2") == {}


class TestFaults:
    def test_commit_fails_before(self, wire, faults, server):
        """A fault before the effect leaves nothing behind."""
        faults.fail("Commit", when="before")
        assert refusal(wire.commit, wire.write("c/a"))[0] == grpc.StatusCode.UNAVAILABLE
        assert server.documents("p") == {}

    def test_commit_fails_after(self, wire, faults, server):
        """A fault after the effect has written, and the caller doesn't know."""
        faults.fail("Commit", when="after", code=grpc.StatusCode.DEADLINE_EXCEEDED)
        assert refusal(wire.commit, wire.write("c/a"))[0] == grpc.StatusCode.DEADLINE_EXCEEDED
        assert list(server.documents("p")) == ["c/a"]

    def test_streams_fail(self, wire, faults):
        """A streamed call fails as a whole."""
        faults.fail("RunQuery")
        assert refusal(wire.query, "c")[0] == grpc.StatusCode.UNAVAILABLE
        assert len(wire.query("c")) == 1


class TestIndexes:
    @pytest.fixture
    def filled(self, wire, server):
        """
        2,000 documents, and every index used below built.
        """
        for start in range(0, 2000, 500):
            writes = [
                wire.write(f"q/d{n:04}", {"lock": {"due": f"DEFAULT/push/{n:06}"}, "kind": f"k{n % 10}", "n": n})
                for n in range(start, start + 500)
            ]
            wire.commit(*writes)
        return wire

    def examined(self, server, call, **query):
        before = server.examined
        found = call("q", **query)
        return server.examined - before, found

    def test_range_with_limit(self, filled, server):
        """A range over a field, in its order, with a limit, looks at no more than it returns."""
        w = filled
        due = w.both(
            w.filter("lock.due", "GREATER_THAN_OR_EQUAL", "DEFAULT/push/000500"),
            w.filter("lock.due", "LESS_THAN", "DEFAULT/push/001500"),
        )
        for order, first in (("lock.due", "d0500"), ("-lock.due", "d1499")):
            looked, found = self.examined(server, w.ids, where=due, order_by=w.order(order), limit={"value": 10})
            assert (looked, len(found), found[0]) == (10, 10, first)

    def test_equality(self, filled, server):
        """An equality looks at its matches only, with a limit at that many."""
        w = filled
        kind = w.filter("kind", "EQUAL", "k3")
        assert self.examined(server, w.ids, where=kind, limit={"value": 5})[0] == 5
        looked, found = self.examined(server, w.ids, where=kind)
        assert (looked, len(found)) == (200, 200)

    def test_smaller_index_wins(self, filled, server):
        """Of two filters the one that leaves less is walked."""
        w = filled
        where = w.both(w.filter("kind", "EQUAL", "k3"), w.filter("n", "GREATER_THAN", 1980))
        looked, found = self.examined(server, w.ids, where=where)
        assert (looked, found) == (19, ["d1983", "d1993"])

    def test_limit_does_not_mislead(self, filled, server):
        """A limit doesn't make a walk in the results' order look cheap when another filter leaves little of it."""
        w = filled
        w.commit(w.write("q/rare", {"kind": "rare", "n": 5000}))
        where = w.filter("kind", "EQUAL", "rare")
        query = {"where": where, "order_by": w.order("n"), "limit": {"value": 1}}
        looked, found = self.examined(server, w.ids, **query)
        assert (looked, found) == (1, ["rare"])

    def test_limit_makes_an_ordered_walk_cheap(self, filled, server):
        """Without other filters the walk in the results' order ends at the limit, and no smaller set is sorted."""
        w = filled
        query = {"order_by": w.order("-n"), "limit": {"value": 2}, "offset": 1}
        assert self.examined(server, w.ids, **query) == (3, ["d1998", "d1997"])

    def test_cursor_narrows(self, filled, server):
        """A page that starts at a cursor doesn't walk there from the beginning."""
        w = filled
        start = {"values": [w.value(1500)], "before": False}
        looked, found = self.examined(server, w.ids, order_by=w.order("n"), start_at=start, limit={"value": 3})
        assert (looked, found) == (3, ["d1501", "d1502", "d1503"])

    def test_index_follows_writes(self, filled):
        """A built index shows changes, deletions and new documents."""
        w = filled
        last = w.filter("n", "GREATER_THAN", 1997)
        assert w.ids("q", where=last) == ["d1998", "d1999"]
        w.commit(
            w.write("q/d1998", {"n": -1}),
            w.delete("q/d1999"),
            w.write("q/d0000", {"n": 3000}),
            w.write("q/new", {"n": 2500}),
            w.write("q/nothing", {"x": 1}),
        )
        assert w.ids("q", where=last) == ["new", "d0000"]
        assert w.ids("q", order_by=w.order("n"), limit={"value": 2}) == ["d1998", "d0001"]


class TestRefusals:
    @pytest.mark.parametrize("method", ["ExecutePipeline", "NoSuchMethod"])
    def test_other_calls(self, wire, method):
        """A call that isn't done is UNIMPLEMENTED, by name."""
        request = wire.pb("CommitRequest")(database=wire.database)
        code, sentence = refusal(wire.call, method, request, wire.pb("CommitResponse"))
        assert code == UNIMPLEMENTED
        assert sentence == f"google.firestore.v1.Firestore/{method} is not implemented by this local server."

    def test_queries(self, wire):
        """Each kind of query that isn't done is named in its refusal."""
        for query, named in (
            ({"find_nearest": {"limit": {"value": 1}}}, "find_nearest"),
            ({"request": {"explain_options": {"analyze": True}}}, "explain"),
        ):
            code, sentence = refusal(wire.query, "c", **query)
            assert (code, named in sentence) == (UNIMPLEMENTED, True), sentence

    def test_future(self, wire):
        """A time that has not come can't be read, nor one finer than a microsecond."""
        assert refusal(wire.get, "c/a", read_time=Timestamp(seconds=9_000_000_000))[0] == INVALID
        assert refusal(wire.get, "c/a", read_time=Timestamp(seconds=5, nanos=1))[0] == INVALID

    def test_request_size(self, wire, server):
        """A request over 10 MiB is refused, one below is not."""
        parts = [wire.write(f"c/d{n}", {"s": "x" * 1_000_000}) for n in range(11)]
        code, sentence = refusal(wire.commit, *parts)
        assert code == INVALID
        assert "10485760 bytes" in sentence
        wire.commit(*parts[:10])
        assert len(server.documents("p")) == 10

    def test_document_size(self, wire):
        """A document may take 1,048,572 bytes by Firestore's calculation and not one more."""
        # Name: 16 + "c" 2 + "a" 2; map of fields: 32; "s" 2 and "t" 2, each string one byte more than its length.
        fixed = 16 + 2 + 2 + 32 + 2 + 1 + 2 + 1
        room = 1_048_572 - fixed - 500_000
        wire.commit(wire.write("c/a", {"s": "x" * 500_000, "t": "x" * room}))
        code, sentence = refusal(wire.commit, wire.write("c/a", {"s": "x" * 500_000, "t": "x" * (room + 1)}))
        assert (code, "1,048,573 bytes" in sentence) == (INVALID, True)

    def test_transaction_of_another_database(self, wire):
        """A transaction belongs to its database."""
        transaction = wire.begin()
        other = wire.other(database="other")
        assert refusal(other.commit, transaction=transaction)[0] == INVALID
        wire.commit(transaction=transaction)

    def test_foreign_names(self, wire):
        """No read, filter or cursor reaches into another database."""
        name = "projects/p2/databases/(default)/documents/c/a"
        foreign = wire.pb("Value")(reference_value=name)
        assert refusal(wire.query, "c", where=wire.filter("__name__", "EQUAL", foreign))[0] == INVALID
        request = wire.pb("BatchGetDocumentsRequest")(database=wire.database, documents=[name])
        response = wire.pb("BatchGetDocumentsResponse")
        assert refusal(wire.call, "BatchGetDocuments", request, response, stream=True)[0] == INVALID
