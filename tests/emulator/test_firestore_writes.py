"""
Commits: preconditions, masks, transforms, limits: proved on both servers.
"""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

OK = grpc.StatusCode.OK
INVALID = grpc.StatusCode.INVALID_ARGUMENT


class TestPreconditions:
    def test_codes(self, firestore_wire):
        """Each failed precondition has its own code."""
        w = firestore_wire
        version = w.commit(w.write("c/a", {"x": 1})).write_results[0].update_time
        stale = Timestamp(seconds=5)
        code = grpc.StatusCode
        cases = [
            (w.write("c/a", exists=False), code.ALREADY_EXISTS),
            (w.delete("c/a", exists=False), code.ALREADY_EXISTS),
            (w.write("c/m", exists=True), code.NOT_FOUND),
            (w.delete("c/m", exists=True), code.NOT_FOUND),
            (w.write("c/a", update_time=stale), code.FAILED_PRECONDITION),
            (w.write("c/m", update_time=stale), code.FAILED_PRECONDITION),
            (w.delete("c/m", update_time=stale), code.FAILED_PRECONDITION),
            (w.write("c/a", update_time=Timestamp(seconds=5, nanos=1)), INVALID),
            (w.delete("c/m"), OK),
            (w.delete("c/m", exists=False), OK),
            (w.write("c/a", {"x": 2}, update_time=version), OK),
        ]
        assert [w.outcome(w.commit, write) for write, _ in cases] == [code for _, code in cases]

    def test_sentences(self, firestore_wire):
        """The sentences say which condition failed."""
        w = firestore_wire
        w.commit(w.write("c/a"))
        for write, sentence in [
            (w.write("c/a", exists=False), "entity already exists: "),
            (w.write("c/m", exists=True), "no entity to update: "),
            (w.write("c/m", update_time=Timestamp(seconds=5)), "the stored version (0) does not match"),
        ]:
            with pytest.raises(grpc.RpcError) as caught:
                w.commit(write)
            assert caught.value.details().startswith(sentence)

    def test_all_or_nothing(self, firestore_wire):
        """One bad write refuses the whole commit."""
        w = firestore_wire
        code = w.outcome(w.commit, w.write("c/a", {"x": 1}), w.write("c/b", exists=True))
        assert code == grpc.StatusCode.NOT_FOUND
        assert w.batch_get("c/a")[0].missing

    def test_unchanged_keeps_version(self, firestore_wire):
        """A write that changes nothing succeeds with the old update time, so its precondition still holds."""
        w = firestore_wire
        first = w.commit(w.write("c/a", {"x": 1})).write_results[0].update_time
        again = w.commit(w.write("c/a", {"x": 1}, update_time=first))
        assert again.write_results[0].update_time == first
        assert w.micros(again.commit_time) > w.micros(first)
        changed = w.commit(w.write("c/a", {"x": 2}, update_time=first))
        assert w.micros(changed.write_results[0].update_time) == w.micros(changed.commit_time)

    def test_empty_mask_asserts(self, firestore_wire):
        """An empty mask with a version changes nothing, and fails the commit once the document has moved."""
        w = firestore_wire
        first = w.commit(w.write("c/a", {"x": 1})).write_results[0].update_time
        assert w.outcome(w.commit, w.write("c/a", mask=[], update_time=first), w.write("c/b", {"y": 1})) == OK
        w.commit(w.write("c/a", {"x": 2}))
        writes = w.write("c/a", mask=[], update_time=first), w.write("c/b", {"y": 2})
        assert w.outcome(w.commit, *writes) == grpc.StatusCode.FAILED_PRECONDITION
        assert w.get("c/b").fields["y"].integer_value == 1

    def test_version_grows_over_recreation(self, firestore_wire):
        """Deleting and recreating gives a later version and create time, never an old one."""
        w = firestore_wire
        first = w.commit(w.write("c/a", {"x": 1})).write_results[0].update_time
        w.commit(w.delete("c/a"))
        w.commit(w.write("c/a", {"x": 1}))
        again = w.get("c/a")
        assert w.micros(again.update_time) == w.micros(again.create_time) > w.micros(first)

    def test_writes_of_one_commit_see_each_other(self, firestore_wire):
        """Create, update, transform, delete of one document in one commit; all results carry the one version."""
        w = firestore_wire
        add = w.field_transform("n", "increment", 1)
        response = w.commit(
            w.write("c/a", {"x": 1}, exists=False),
            w.write("c/a", {"y": 2}, mask=["y"], exists=True),
            w.transform("c/a", add),
            w.write("c/b", {"z": 1}),
            w.delete("c/b"),
        )
        times = [w.micros(result.update_time) for result in response.write_results]
        assert times == [w.micros(response.commit_time)] * 3 + [0, 0]
        assert {k: v.integer_value for k, v in w.get("c/a").fields.items()} == {"x": 1, "y": 2, "n": 1}
        assert w.batch_get("c/b")[0].missing

    def test_contradictions_in_one_commit(self, firestore_wire):
        """Writes to one document that can't both hold are INVALID_ARGUMENT whatever is stored."""
        w = firestore_wire
        version = w.commit(w.write("c/a", {"x": 1})).write_results[0].update_time
        for writes in (
            (w.write("c/b", exists=False), w.write("c/b", exists=False)),
            (w.write("c/b"), w.write("c/b", exists=False)),
            (w.delete("c/a"), w.write("c/a", exists=True)),
            (w.delete("c/a"), w.delete("c/a", exists=True)),
            (w.write("c/a", {"x": 2}), w.write("c/a", {"x": 3}, update_time=version)),
        ):
            assert w.outcome(w.commit, *writes) == INVALID
        for writes in (
            (w.write("c/a", {"x": 2}, update_time=version), w.write("c/a", {"y": 1}, mask=["y"])),
            (w.delete("c/a"), w.write("c/a", exists=False)),
        ):
            assert w.outcome(w.commit, *writes) == OK

    def test_empty_commit(self, firestore_wire, firestore_server):
        """An empty commit succeeds."""
        has_time = firestore_server.expected("empty commit has a commit_time")
        assert firestore_wire.commit().HasField("commit_time") is has_time


class TestWrites:
    def test_masks(self, firestore_wire):
        """Masks set, replace and delete nested and quoted fields; what the mask doesn't name is left alone."""
        w = firestore_wire
        w.commit(w.write("c/a", {"x": 1, "m": {"a": 1, "b": 2}}))

        def after(data, mask):
            w.commit(w.write("c/a", data, mask=mask))
            return w.get("c/a").fields

        assert after({"m": {"a": 5}, "x": 9}, ["m.a"])["m"] == w.value({"a": 5, "b": 2})
        assert after({}, ["m.b"])["m"] == w.value({"a": 5})
        assert after({}, ["nope.deep", "x.deep"])["x"] == w.value(1)
        assert after({"x": {"y": 1}}, ["x.y"])["x"] == w.value({"y": 1})
        assert after({"a b": {"c`d": 7}}, ["`a b`.`c\\`d`"])["a b"] == w.value({"c`d": 7})
        assert after({}, ["`a b`.`c\\`d`"])["a b"] == w.value({})
        assert "m" not in after({}, ["m"])

    def test_refused_masks(self, firestore_wire, firestore_server):
        """Ill-formed and reserved paths are refused."""
        w = firestore_wire
        for mask in ("x.", "1x", "`x", "a..b", "__x__", ""):
            assert w.outcome(w.commit, w.write("c/a", {"x": 1}, mask=[mask])) == INVALID
        reserved = w.outcome(w.commit, w.write("c/a", {"x": 1}, mask=["__name__"]))
        assert reserved == firestore_server.expected("__name__ in an update mask")

    @pytest.mark.parametrize("legacy", [False, True])
    def test_transforms(self, firestore_wire, legacy):
        """Every transform, with its result, as part of an update and as a write of its own."""
        w = firestore_wire
        w.commit(w.write("c/a", {"n": 5, "s": "x", "arr": [1, 2, 2], "big": 2**63 - 1}))
        t = w.field_transform
        cases = [
            (t("n", "increment", 3), 8, 8),
            (t("n", "increment", 0.5), 8.5, 8.5),
            (t("s", "increment", 2), 2, 2),
            (t("big", "increment", 1), 2**63 - 1, 2**63 - 1),
            (t("n", "maximum", 3), 8.5, 8.5),
            (t("n", "minimum", 3), 3, 3),
            (t("n", "maximum", 3.0), 3, 3),
            (t("m.new", "minimum", 4), 4, 4),
            (t("arr", "append_missing_elements", [2, 2.0, 3, 3]), None, [1, 2, 2, 3]),
            (t("arr", "remove_all_from_array", [2.0]), None, [1, 3]),
            (t("s", "append_missing_elements", ["a", "a"]), None, ["a"]),
            (t("gone", "remove_all_from_array", ["a"]), None, []),
        ]
        for transform, result, stored in cases:
            write = w.transform("c/a", transform) if legacy else w.write("c/a", mask=[], transforms=[transform])
            assert list(w.commit(write).write_results[0].transform_results) == [w.value(result)]
            document = w.get("c/a").fields
            if transform.field_path == "m.new":
                document = document["m"].map_value.fields
            assert document[transform.field_path.rpartition(".")[2]] == w.value(stored)

    def test_fence_in_one_write(self, firestore_wire):
        """A precondition, a masked update and an increment in one Write; the new number is in the reply."""
        w = firestore_wire
        version = w.commit(w.write("c/a", {"fence": 41, "x": 1})).write_results[0].update_time
        add = w.field_transform("fence", "increment", 1)
        now = w.field_transform("at", "set_to_server_value")
        response = w.commit(w.write("c/a", {"x": 2}, mask=["x"], update_time=version, transforms=[add, now]))
        fence, at = response.write_results[0].transform_results
        assert fence.integer_value == 42
        assert at.timestamp_value.nanos % 1_000_000 == 0
        assert w.get("c/a").fields["at"] == at

    def test_refused_transforms(self, firestore_wire):
        """Transforms that can't be applied are refused."""
        w = firestore_wire
        t = w.field_transform
        for transforms in (
            [t("n", "increment", "x")],
            [t("a..b", "increment", 1)],
            [t("__a__", "increment", 1)],
            [t("n", "increment", 1), t("n.a", "increment", 1)],
            [w.pb("DocumentTransform").FieldTransform(field_path="x")],
        ):
            assert w.outcome(w.commit, w.write("c/a", transforms=transforms)) == INVALID

    @pytest.mark.parametrize("fields", [{}, {"reference_value": "x"}])
    def test_refused_values(self, firestore_wire, fields):
        """A value without a type, and a reference to nothing, can't be stored."""
        w = firestore_wire
        assert w.outcome(w.commit, w.write("c/a", {"x": w.pb("Value")(**fields)})) == INVALID

    @pytest.mark.parametrize("path", ["c", "c/", "c/a/b", ""])
    def test_refused_names(self, firestore_wire, path):
        """What isn't a document's name is refused."""
        assert firestore_wire.outcome(firestore_wire.commit, firestore_wire.write(path)) == INVALID

    def test_ill_formed_database(self, firestore_wire):
        """A commit to something that isn't a database is refused."""
        w = firestore_wire
        for name in ("", "foo", "projects/p", "projects/p/databases/"):
            w.database = name
            assert w.outcome(w.commit) == INVALID

    def test_projects_and_databases_apart(self, firestore_wire, firestore_server):
        """Two databases and two projects don't see each other; no commit reaches into another one."""
        w = firestore_wire
        others = w.other(database="other"), w.other(project=w.project + "-2")
        w.commit(w.write("c/a", {"x": 1}))
        for other in others:
            assert other.batch_get("c/a")[0].missing
            assert other.ids("c") == []
            refused = firestore_server.expected("write into another database")
            assert w.outcome(w.commit, other.write("c/b", {"x": 1})) == refused

    def test_timestamps_in_microseconds(self, firestore_wire):
        """A stored timestamp is cut to microseconds."""
        w = firestore_wire
        w.commit(w.write("c/a", {"at": w.pb("Value")(timestamp_value={"seconds": 5, "nanos": 123_456_789})}))
        assert w.get("c/a").fields["at"].timestamp_value.nanos == 123_456_000
