"""
What Google's own tests of its clients ask for, and more of the kind: through the client and through the asyncio client.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from google.api_core.exceptions import AlreadyExists, FailedPrecondition, InvalidArgument, MethodNotImplemented
from google.cloud import firestore
from google.cloud.firestore_v1.aggregation import AggregationQuery
from google.cloud.firestore_v1.async_aggregation import AsyncAggregationQuery
from google.cloud.firestore_v1.base_query import FieldFilter

IDS = ["__id-9223372036854775808__", "__id-5__", "__id5__", "__id12__", "__id9223372036854775807__", "0", "A", "a"]


def seeded(either, **documents):
    """
    A collection with *documents* by id.
    """
    things = either.client.collection("things")
    for name, data in documents.items():
        either(things.document(name).set(data))
    return things


def numbers(either, query):
    """
    The results of an aggregation by alias.
    """
    return {each.alias: each.value for each in either(query.get())[0]}


def test_collections_below_an_existing_document_of_the_past(firestore_either):
    """The document itself is no collection; a collection that came later is not there yet."""
    either = firestore_either
    parent = either.client.document("houses/1")
    either(parent.set({"rooms": 2}))
    for name in ("cellar", "attic"):
        time = either(parent.collection(name).document("x").set({})).update_time
    either(parent.collection("garden").document("x").set({}))
    assert [each.id for each in either(parent.collections(read_time=time))] == ["attic", "cellar"]
    assert [each.id for each in either(parent.collections())] == ["attic", "cellar", "garden"]
    assert [each.id for each in either(either.client.collections(read_time=time))] == ["houses"]


@pytest.mark.parametrize("how", ["delete", "update"])
def test_versions_of_the_future_are_invalid(firestore_either, how):
    """A version later than the stored one can't be; an earlier one, or any of a missing document, does not hold any more."""
    either = firestore_either
    document, missing = either.client.document("c/a"), either.client.document("c/none")
    stored = either(document.set({"n": 1})).update_time

    def change(target, seconds):
        option = either.client.write_option(last_update_time=stored + timedelta(seconds=seconds))
        either(target.delete(option) if how == "delete" else target.update({"n": 2}, option))

    for seconds in (1, 3600):
        with pytest.raises(InvalidArgument, match="it is greater than the stored version"):
            change(document, seconds)
        with pytest.raises(FailedPrecondition, match=r"the stored version \(0\) does not match"):
            change(missing, seconds)
    with pytest.raises(FailedPrecondition, match="does not match the required base version"):
        change(document, -3600)
    assert either(document.get()).to_dict() == {"n": 1}
    change(document, 0)


def test_aggregations_are_named_apart(firestore_either):
    """None, or two of one name, are refused; those without a name are numbered among themselves."""
    either = firestore_either
    things = seeded(either, a={"n": 1}, b={"n": 2})
    kind = AggregationQuery if isinstance(either.client, firestore.Client) else AsyncAggregationQuery
    with pytest.raises(InvalidArgument, match=r"Aggregations can not be empty\."):
        either(kind(things.limit(9)).get())
    for names in (("total", "total"), ("field_1", None), (None, "field_1")):
        twice = next(name for name in names if name)
        with pytest.raises(InvalidArgument, match=f"Aggregation aliases contain duplicate alias: {twice}"):
            either(things.count(alias=names[0]).count(alias=names[1]).get())
    assert set(numbers(either, things.count().count(alias="x").count())) == {"field_1", "field_2", "x"}
    with pytest.raises(InvalidArgument, match=r'The property\.name "__x__" is reserved'):
        either(things.count(alias="__x__").get())


def test_sums_under_a_limit_go_by_their_field(firestore_either):
    """The field that is summed orders the results, after the query's own orders; several fields do by their names."""
    either = firestore_either
    rows = {"a": (5, 1), "b": (1, 1), "c": (3, 1), "d": (2, 9)}
    things = seeded(either, **{name: {"n": n, "m": m} for name, (n, m) in rows.items()}, none={"m": 0})

    def total(query, field="n"):
        return numbers(either, query.sum(field, alias="x"))["x"]

    assert [total(things.limit(most)) for most in (1, 2, 3, 9)] == [1, 3, 6, 11]
    assert total(things.limit(2).offset(1)) == 5
    assert numbers(either, things.limit(2).avg("n", alias="x")) == {"x": 1.5}
    assert [total(things.order_by("m").limit(most)) for most in (1, 2)] == [1, 4]
    down = things.order_by("m", direction="DESCENDING")
    assert [total(down.limit(most)) for most in (1, 2)] == [2, 7]
    assert numbers(either, things.limit(3).sum("n", alias="n").sum("m", alias="m")) == {"n": 9, "m": 3}
    assert total(things.where(filter=FieldFilter("m", "<", 5)).limit(1)) == 1
    assert numbers(either, things.limit(2).count(alias="x")) == {"x": 2}


def test_sums_of_an_order_by_name_are_refused(firestore_either):
    """An index of a field behind the name does not exist, and a sum can't be made of chosen fields."""
    either = firestore_either
    things = seeded(either, a={"n": 1, "m": 1}, b={"n": 2, "m": 1})
    named = FieldFilter("__name__", ">", things.document("a"))
    for query in (things.order_by("__name__"), things.order_by("m").order_by("__name__"), things.where(filter=named)):
        with pytest.raises(InvalidArgument, match=r"index that has fields \[n\] after __name__"):
            either(query.sum("n").get())
        assert numbers(either, query.count(alias="x"))["x"] in (1, 2)
    for fields, sentence in (
        (["__name__"], "base query that only returns keys"),
        (["m"], "property n is not present in the base query's property mask"),
        (["n"], "Cannot apply property masks when aggregation fields are present"),
    ):
        with pytest.raises(InvalidArgument, match=sentence):
            either(things.select(fields).sum("n").get())
    with pytest.raises(InvalidArgument, match="not supported for the property: __key__"):
        either(things.sum("__name__").get())


def test_numeric_ids_sort_by_number_before_all_others(firestore_either):
    """As imports of Datastore's entities have them: in queries, cursors, lists, references and below such a document."""
    either = firestore_either
    things = seeded(either, **{name: {"n": 1} for name in sorted(IDS)})

    def ids(query):
        return [each.id for each in either(query.get())]

    assert ids(things) == ids(things.order_by("__name__")) == IDS
    assert ids(things.order_by("n").order_by("__name__", direction="DESCENDING")) == IDS[::-1]
    assert ids(things.order_by("n").limit_to_last(2)) == IDS[-2:]
    assert ids(things.where(filter=FieldFilter("__name__", ">", things.document("__id6__")))) == IDS[3:]
    assert ids(things.where(filter=FieldFilter("__name__", "==", things.document("__id5__")))) == ["__id5__"]
    assert ids(things.order_by("__name__").start_at({"__name__": things.document("__id5__")}).limit(2)) == IDS[2:4]
    assert [each.id for each in either(things.list_documents(page_size=3))] == IDS
    references = either.client.collection("references")
    for name in sorted(IDS):
        either(references.document(f"to {name}").set({"to": things.document(name)}))
    assert ids(references.order_by("to")) == [f"to {name}" for name in IDS]
    for name in ("__id20__", "x", "__id3__"):
        either(things.document("__id12__").collection("parts").document(name).set({}))
    assert ids(either.client.collection_group("parts")) == ["__id3__", "__id20__", "x"]
    assert [each.id for each in either(things.document("__id12__").collections())] == ["parts"]


@pytest.mark.parametrize("number", ["0", "-0", "007", "+7", "", "1.5"])
def test_other_spellings_are_reserved(firestore_either, number):
    """Zero is no number of an id, and each number has one spelling."""
    with pytest.raises(InvalidArgument, match="is invalid because it is reserved"):
        firestore_either(firestore_either.client.document(f"c/__id{number}__").set({}))


def test_numeric_ids_have_64_bits(firestore_either):
    """Larger numbers, and collections with a number, are refused."""
    for number in (2**63, -(2**63) - 1):
        with pytest.raises(InvalidArgument, match="it is not a 64 bit integer"):
            firestore_either(firestore_either.client.document(f"c/__id{number}__").set({}))
    with pytest.raises(InvalidArgument, match='Collection id "__id5__" is invalid because it is reserved'):
        firestore_either(firestore_either.client.document("__id5__/a").set({}))


def test_numeric_ids_exist_once(firestore_either):
    """A document with a number is one as others are."""
    document = firestore_either.client.document("c/__id7__")
    firestore_either(document.create({"n": 1}))
    with pytest.raises(AlreadyExists):
        firestore_either(document.create({"n": 2}))
    firestore_either(document.delete())
    assert not firestore_either(document.get()).exists


def test_nothing_equals_null_or_nan(firestore_either):
    """Except by the filters for them: an array contains neither, and a list of unwanted values with NaN does not exclude NaN."""
    either = firestore_either
    nan = float("nan")
    things = seeded(either, a={"v": [None, nan, 1]}, b={"v": nan}, c={"v": None}, d={"v": 2})

    def ids(operator, operand):
        return [each.id for each in either(things.where(filter=FieldFilter("v", operator, operand)).get())]

    assert ids("==", None) == ["c"]
    assert ids("==", nan) == ["b"]
    assert ids("array_contains_any", [None, 1]) == ["a"]
    assert ids("in", [None, nan, 2]) == ["d"]
    assert ids("not-in", [nan, 2]) == ["b", "a"]
    assert ids("not-in", [None]) == []


def test_partitions_divide_a_group(firestore_either, firestore_server):
    """Each document of the group is in one part, also in the past; Google's emulator has no partitions."""
    either = firestore_either
    batch = either.client.batch()
    for number in range(23):
        batch.set(either.client.document(f"houses/{number % 3}/rooms/{number:02}"), {"n": number})
    time = either(batch.commit())[-1].update_time
    group = either.client.collection_group("rooms")
    if firestore_server.name == "google":
        with pytest.raises(MethodNotImplemented):
            either(group.get_partitions(4))
        return

    def parts(count, **past):
        return [
            [each.id for each in either(part.query().get())] for part in either(group.get_partitions(count, **past))
        ]

    everything = [each.id for each in either(group.get())]
    for count in (1, 2, 4, 22, 100):
        found = parts(count)
        assert [each for part in found for each in part] == everything
        assert len(found) == min(count + 1, 23)
        assert max(map(len, found)) - min(map(len, found)) <= 1
    either(either.client.document("houses/9/rooms/new").set({}))
    assert len(parts(100)) == 24
    assert len(parts(100, read_time=datetime.fromtimestamp(time.timestamp(), time.tzinfo))) == 23
