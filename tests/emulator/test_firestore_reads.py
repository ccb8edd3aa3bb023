"""
Reads, queries and transactions on the wire: proved on both servers.
"""

from __future__ import annotations

import grpc
import pytest

OK = grpc.StatusCode.OK
INVALID = grpc.StatusCode.INVALID_ARGUMENT


class TestReads:
    def test_batch_get(self, firestore_wire):
        """Found and missing carry one read time, not before the commit; a name asked for twice is answered once."""
        w = firestore_wire
        commit = w.commit(w.write("c/a", {"x": 1, "m": {"a": 1, "b": 2}}))
        responses = w.batch_get("c/a", "c/m", "c/a")
        assert [r.found.name or r.missing for r in responses] == [w.name("c/a"), w.name("c/m")]
        times = {w.micros(r.read_time) for r in responses}
        assert len(times) == 1
        assert times.pop() >= w.micros(commit.commit_time)

    def test_masks(self, firestore_wire):
        """A mask picks fields, nested ones too; an empty one gives none."""
        w = firestore_wire
        w.commit(w.write("c/a", {"x": 1, "m": {"a": 1, "b": 2}}))
        for mask, fields in ((["m.a", "zz"], {"m": {"a": 1}}), ([], {}), (["__name__"], {}), (["x"], {"x": 1})):
            found = w.batch_get("c/a", mask={"field_paths": mask})[0].found
            assert found.fields == w.value(fields).map_value.fields
            assert w.get("c/a", mask={"field_paths": mask}) == found

    def test_get_missing(self, firestore_wire):
        """GetDocument of a missing document is NOT_FOUND."""
        assert firestore_wire.outcome(firestore_wire.get, "c/m") == grpc.StatusCode.NOT_FOUND

    def test_past(self, firestore_wire):
        """The past can be read for a while: documents, queries, transactions; not what lies long ago, nor the future."""
        w = firestore_wire
        w.commit(w.write("c/a", {"x": 1}), w.write("c/gone", {"x": 1}))
        then = w.batch_get("c/a")[0].read_time
        w.commit(w.write("c/a", {"x": 2}), w.delete("c/gone"), w.write("c/new", {"x": 1}))
        found = w.batch_get("c/a", "c/gone", "c/new", read_time=then)
        assert [r.found.fields["x"].integer_value if r.HasField("found") else None for r in found] == [1, 1, None]
        assert found[0].read_time == then
        assert w.get("c/a", read_time=then).fields["x"] == w.value(1)
        assert w.ids("c", request={"read_time": then}) == ["a", "gone"]
        assert w.count("c", request={"read_time": then}) == 2
        transaction = w.begin(read_only={"read_time": then})
        assert w.ids("c", request={"transaction": transaction}) == ["a", "gone"]
        assert w.ids("c") == ["a", "new"]
        assert w.outcome(w.batch_get, "c/a", read_time={"seconds": 5}) == grpc.StatusCode.FAILED_PRECONDITION


class TestTransactions:
    def test_finished(self, firestore_wire):
        """A finished transaction takes no reads and no commits; rolling back again is no error."""
        w = firestore_wire
        transaction = w.begin()
        w.batch_get("c/a", transaction=transaction)
        w.commit(w.write("c/a", {"x": 1}), transaction=transaction)
        for call in (w.commit, w.batch_get, w.query):
            with pytest.raises(grpc.RpcError) as caught:
                call(
                    *(["c"] if call == w.query else []),
                    **({"request": {"transaction": transaction}} if call == w.query else {"transaction": transaction}),
                )
            assert caught.value.details() == "Transaction is invalid or closed."
            assert caught.value.code() == INVALID
        w.rollback(transaction)
        w.rollback(transaction)

    def test_unknown(self, firestore_wire):
        """An id that was never given out is INVALID_ARGUMENT everywhere."""
        w = firestore_wire
        assert w.outcome(w.commit, transaction=b"garbage") == INVALID
        assert w.outcome(w.batch_get, "c/a", transaction=b"garbage") == INVALID
        assert w.outcome(w.rollback, b"garbage") == INVALID
        assert w.outcome(w.begin, read_write={"retry_transaction": b"garbage"}) == INVALID

    def test_refused_commit_ends_it(self, firestore_wire):
        """A failed precondition at commit leaves no transaction behind, and nothing written."""
        w = firestore_wire
        w.commit(w.write("c/a", {"x": 1}))
        transaction = w.begin()
        assert w.outcome(w.commit, w.write("c/a", exists=False), transaction=transaction) == (
            grpc.StatusCode.ALREADY_EXISTS
        )
        assert w.outcome(w.commit, transaction=transaction) == INVALID

    def test_read_only(self, firestore_wire):
        """A read-only transaction keeps its snapshot while others write, and may not write."""
        w = firestore_wire
        w.commit(w.write("c/a", {"x": 1}), w.write("c/b", {"x": 1}))
        transaction = w.begin(read_only={})
        w.commit(w.write("c/a", {"x": 2}), w.delete("c/b"), w.write("c/new", {"x": 1}))
        found = w.batch_get("c/a", "c/b", "c/new", transaction=transaction)
        assert [r.found.fields["x"].integer_value if r.HasField("found") else None for r in found] == [1, 1, None]
        assert w.ids("c", where=w.filter("x", "EQUAL", 1), request={"transaction": transaction}) == ["a", "b"]
        assert w.count("c", request={"transaction": transaction}) == 2
        assert w.outcome(w.commit, w.write("c/a", {"x": 3}), transaction=transaction) == INVALID
        assert w.ids("c") == ["a", "new"]

    @pytest.mark.parametrize("read_only", [False, True])
    def test_new_transaction_in_reads(self, firestore_wire, read_only):
        """A read that begins a transaction answers with its id first."""
        w = firestore_wire
        options = {"new_transaction": {"read_only": {}} if read_only else {"read_write": {}}}
        for responses in (w.batch_get("c/a", **options), w.query("c", request=options)):
            assert responses[0].transaction
            assert responses[1].HasField("read_time")
            w.rollback(responses[0].transaction)

    def test_interfering_write(self, firestore_wire, firestore_server):
        """A transaction and a plain write to the document it has read: one of the two is aborted."""
        w = firestore_wire
        w.commit(w.write("c/a", {"x": 1}))
        transaction = w.begin()
        w.batch_get("c/a", transaction=transaction)
        plain = w.outcome(w.commit, w.write("c/a", {"x": 2}))
        assert plain == firestore_server.expected("write while a transaction has read the document")
        in_transaction = w.outcome(w.commit, w.write("c/b", {"x": 2}), transaction=transaction)
        assert {plain, in_transaction} == {OK, grpc.StatusCode.ABORTED}


VALUES = [
    None, False, True, float("nan"), float("-inf"), -5, 0, -0.0, 1, 1.0, 1.5, 2**53 + 1, float("inf"),
    "", "a", "b", "é", "\uffee", "\U0001f600", b"", b"a", [], [1], [1, 2], ["a"],
    {"__type__": "__vector__", "value": [3.0]}, {"__type__": "__vector__", "value": [1.0, 2.0]},
    {}, {"a": 1}, {"a": 1, "b": 0}, {"a": 2}, {"b": 0},
]  # fmt: skip


class TestQueries:
    def test_order_across_types(self, firestore_wire):
        """Values sort by type, then within it; documents without the field are left out."""
        w = firestore_wire
        stored = {f"d{n:02}": value for n, value in enumerate(VALUES)}
        w.commit(*[w.write(f"q/{key}", {"v": stored[key]}) for key in stored], w.write("q/none", {"other": 1}))
        assert w.ids("q", order_by=w.order("v")) == list(stored)
        assert w.ids("q", order_by=w.order("-v")) == list(reversed(stored))
        assert len(w.ids("q")) == len(stored) + 1

    @pytest.mark.parametrize(
        ("operator", "operand", "results"),
        [
            ("LESS_THAN", 1, [4, 5, 6, 7]),
            ("LESS_THAN_OR_EQUAL", 1, [4, 5, 6, 7, 8, 9]),
            ("GREATER_THAN", 1, [10, 11, 12]),
            ("GREATER_THAN_OR_EQUAL", 1.0, [8, 9, 10, 11, 12]),
            ("EQUAL", 0, [6, 7]),
            ("GREATER_THAN_OR_EQUAL", "a", [14, 15, 16, 17, 18]),
            ("LESS_THAN", "b", [13, 14]),
            ("LESS_THAN_OR_EQUAL", True, [1, 2]),
            ("GREATER_THAN", [1], [23, 24]),
            ("EQUAL", [1, 2], [23]),
            ("GREATER_THAN", {"a": 1}, [29, 30, 31]),
            ("EQUAL", {"a": 1}, [28]),
            ("LESS_THAN", b"a", [19]),
        ],
    )
    def test_filters_keep_to_the_type(self, firestore_wire, operator, operand, results):
        """A range filter finds values of its operand's type only, and never NaN; 1 and 1.0 are equal."""
        w = firestore_wire
        w.commit(*[w.write(f"q/d{n:02}", {"v": value}) for n, value in enumerate(VALUES)])
        assert w.ids("q", where=w.filter("v", operator, operand)) == [f"d{n:02}" for n in results]

    def test_null_and_nan(self, firestore_wire):
        """IS_NULL and IS_NAN find just those."""
        w = firestore_wire
        w.commit(*[w.write(f"q/d{n:02}", {"v": value}) for n, value in enumerate(VALUES)])
        for operator, found in ((3, ["d00"]), (2, ["d03"])):
            where = {"unary_filter": {"field": {"field_path": "v"}, "op": operator}}
            assert w.ids("q", where=where) == found

    @pytest.fixture
    def numbered(self, firestore_wire):
        """
        d00 to d29 with n, n modulo 2 and a name's reference.
        """
        w = firestore_wire
        w.commit(*[w.write(f"q/d{n:02}", {"n": n, "e": n % 2, "lock": {"due": n // 2}}) for n in range(30)])
        return w

    def test_orders(self, numbered):
        """Implied orders: the range's field, then the name, both in the direction of the last order."""
        w = numbered

        def found(orders, *filters, limit=4):
            where = {"where": w.both(*filters)} if filters else {}
            ids = w.ids("q", order_by=w.order(*orders), limit={"value": limit}, **where)
            return [int(each[1:]) for each in ids]

        above = w.filter("n", "GREATER_THAN", 20)
        odd = w.filter("e", "EQUAL", 1)
        assert found(["e", "-n"]) == [28, 26, 24, 22]
        assert found(["-e"]) == [29, 27, 25, 23]
        assert found(["-e"], above) == [29, 27, 25, 23]
        assert found([], above, odd) == [21, 23, 25, 27]
        assert found(["-n"], above, odd, w.filter("n", "LESS_THAN_OR_EQUAL", 26)) == [25, 23, 21]
        assert found(["lock.due", "-__name__"]) == [1, 0, 3, 2]
        assert found(["-lock.due"]) == [29, 28, 27, 26]
        assert found(["__name__"], odd) == [1, 3, 5, 7]
        assert found([], above, w.filter("n", "LESS_THAN", 3)) == []

    def test_names(self, numbered):
        """Filters on __name__ are ranges of names."""
        w = numbered
        at = w.pb("Value")(reference_value=w.name("q/d27"))
        assert w.ids("q", where=w.filter("__name__", "EQUAL", at)) == ["d27"]
        assert w.ids("q", where=w.filter("__name__", "GREATER_THAN", at)) == ["d28", "d29"]
        assert w.outcome(w.query, "q", where=w.filter("__name__", "EQUAL", "d27")) == INVALID

    @pytest.mark.parametrize(
        ("orders", "cursors", "results"),
        [
            (["n"], {"start_at": (True, 28)}, [28, 29]),
            (["n"], {"start_at": (False, 28)}, [29]),
            (["n"], {"end_at": (True, 2)}, [0, 1]),
            (["n"], {"end_at": (False, 2)}, [0, 1, 2]),
            (["-n"], {"start_at": (True, 1)}, [1, 0]),
            (["-n"], {"start_at": (False, 1)}, [0]),
            (["-n"], {"end_at": (True, 28)}, [29]),
            (["-n"], {"end_at": (False, 28)}, [29, 28]),
            (["-e", "-n"], {"start_at": (True, 0, 4)}, [4, 2, 0]),
            (["-e", "n"], {"start_at": (False, 0, 26)}, [28]),
            (["lock.due", "__name__"], {"start_at": (False, 14, "d28")}, [29]),
            (["lock.due", "__name__"], {"end_at": (True, 0, "d01")}, [0]),
            (["-lock.due", "-__name__"], {"start_at": (True, 0, "d00")}, [0]),
            (["n"], {"start_at": (True, 5), "end_at": (True, 7)}, [5, 6]),
            (["n"], {"start_at": (True, 9), "end_at": (True, 7)}, []),
        ],
    )
    def test_cursors(self, numbered, orders, cursors, results):
        """Cursors start and end before or behind the place they name, in either direction."""
        w = numbered
        made = {
            name: {
                "before": before,
                "values": [
                    w.pb("Value")(reference_value=w.name(f"q/{v}")) if isinstance(v, str) else w.value(v)
                    for v in values
                ],
            }
            for name, (before, *values) in cursors.items()
        }
        assert w.ids("q", order_by=w.order(*orders), **made) == [f"d{n:02}" for n in results]

    def test_limit_offset_projection(self, numbered):
        """Limit, offset and select."""
        w = numbered
        assert w.ids("q", order_by=w.order("n"), offset=3, limit={"value": 2}) == ["d03", "d04"]
        assert w.ids("q", limit={"value": 0}) == []
        select = {"fields": [{"field_path": "lock.due"}, {"field_path": "zz"}]}
        (found,) = w.query("q", where=w.filter("n", "EQUAL", 8), select=select)
        assert found.document.fields == w.value({"lock": {"due": 4}}).map_value.fields

    def test_empty_result_has_read_time(self, firestore_wire):
        """A query without results still tells the server's time, not before an earlier commit."""
        w = firestore_wire
        commit = w.commit(w.write("c/a", {"x": 1}))
        (response,) = w.query("c", where=w.filter("x", "EQUAL", 2))
        assert not response.HasField("document")
        assert w.micros(response.read_time) >= w.micros(commit.commit_time)

    def test_count(self, numbered):
        """Counts stop at up_to, and respect filters, limits and offsets."""
        w = numbered
        odd = w.filter("e", "EQUAL", 1)
        assert (w.count("q"), w.count("q", where=odd), w.count("q", up_to=3)) == (30, 15, 3)
        assert (w.count("q", limit={"value": 4}), w.count("q", offset=28), w.count("none")) == (4, 2, 0)

    def test_groups(self, firestore_wire):
        """A group's results sort by path, segment by segment; a parent narrows it to its descendants."""
        w = firestore_wire
        paths = ["a/1/sub/x", "a/1/sub/x/sub/deep", "a/2/sub/y", "a!/1/sub/w", "sub/z"]
        w.commit(*[w.write(path, {"k": 1}) for path in paths], w.write("a/1/other/x", {"k": 1}))

        def found(**query):
            return ["sub/z" if each == "z" else each for each in w.ids("sub", **query)]

        assert found(group=True) == paths
        assert found(group=True, where=w.filter("k", "EQUAL", 1), limit={"value": 2}) == paths[:2]
        assert found(group=True, parent="a/1") == paths[:2]
        assert found(parent="a/1") == paths[:1]
        assert found(group=True, order_by=w.order("-k")) == list(reversed(paths))

    def test_refused(self, numbered):
        """Ill-formed queries are INVALID_ARGUMENT."""
        w = numbered
        long = {"values": [w.value(1), w.value(2)]}
        for query in (
            {"limit": {"value": -1}},
            {"offset": -1},
            {"order_by": w.order("n", "n")},
            {"order_by": w.order("__name__", "n")},
            {"order_by": w.order("n"), "start_at": long},
            {"order_by": w.order("__name__"), "start_at": {"values": [w.value("d03")]}},
            {"where": w.filter("a..b", "EQUAL", 1)},
            {"where": w.filter("n", "OPERATOR_UNSPECIFIED", 1)},
        ):
            assert w.outcome(w.query, "q", **query) == INVALID, query
        assert w.outcome(w.query, "a/b") == INVALID
        assert w.outcome(w.query, "q", parent="odd") == INVALID
