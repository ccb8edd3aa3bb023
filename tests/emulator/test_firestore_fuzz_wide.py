"""
The embedded Firestore against Google's, on random requests of every kind, with at most one fault in each: the same answers, and
refusals with the same codes and sentences.
"""

from __future__ import annotations

import random
import uuid
from typing import Any

import grpc
import pytest
from google.protobuf import empty_pb2

pytestmark = [pytest.mark.google, pytest.mark.timeout(3600)]

STEPS = 60
SCALARS = [None, True, 0, 1, 1.0, -3, 2.5, 2**60, float("nan"), float("inf"), "", "a", "ab", b"x", {}]
LISTS = [[], [1, 2], [None, "a"]]
PATHS = ["n", "s", "m.a", "m.b.c", "arr", "`od d`", "`é`", "`a.b`", "`a\\`b`", "`a\\\\b`", "a.`b c`.d", "_x"]
WRONG_PATHS = [
    *("", "a..b", ".a", "a.", "`a", "a`", "1a", "é", "``", "a b", "a-b", "a/b", "*", "a[0]", "a" * 1501),
    *("__x__", "a.__x__", "__x__.a", "`__x__`", "a.`b.c`.__y__"),
]
NAMES = [
    "c/a",
    "c/b",
    "c/d",
    "c/é",
    "c/a b",
    "c/a/sub/x",
    "c/ghost/sub/y",
    "other/a",
    "c/__id3__",
    "c/__id20__",
    "c/__id-1__",
]
WRONG_NAMES = [
    *("", "c", "c/", "c//a", "c/a/", "/c/a", "c/.", "c/..", "./a", "c/__x__", "__x__/a", "c/a/sub", "c/a//x"),
    *("c/__id0__", "c/__id007__", f"c/__id{2**63}__", "__id3__/a", "c/a/__x__/y"),
]
FIELDS = ["n", "s", "m", "arr", "od d", "é", "a.b", "a`b", "a\\b", "_x"]
OPERATORS = [
    *("EQUAL", "LESS_THAN", "LESS_THAN_OR_EQUAL", "GREATER_THAN", "GREATER_THAN_OR_EQUAL", "NOT_EQUAL"),
    *("IN", "NOT_IN", "ARRAY_CONTAINS", "ARRAY_CONTAINS_ANY"),
]
# The sentences name the document or its versions in each server's own way.
OWN_WORDS = (
    *("entity already exists:", "no entity to update:", "greater than the stored version:", "the stored version ("),
    "different version preconditions (",
)


def refusal(error: grpc.RpcError) -> tuple[str, str]:
    sentence = error.details() or ""
    for words in OWN_WORDS:
        if words in sentence:
            sentence = sentence.partition(words)[0] + words
    return error.code().name, sentence


class Wide:
    """
    Two servers, and requests made for both.
    """

    def __init__(self, rng: random.Random, *wires: Any) -> None:
        self.rng = rng
        self.wires = wires
        self.moments: list[list[Any]] = []
        self.faults = 0
        self.compared = 0

    def pick(self, good: list[Any], wrong: list[Any]) -> Any:
        """
        One of *good*, or one of *wrong* if this request may have a fault yet.
        """
        if self.faults and self.rng.random() < 0.3:
            self.faults -= 1
            return self.rng.choice(wrong)
        return self.rng.choice(good)

    def path(self) -> str:
        return str(self.pick(PATHS, WRONG_PATHS))

    def name(self) -> str:
        return str(self.pick(NAMES, WRONG_NAMES))

    def mask(self) -> dict[str, Any]:
        if self.rng.random() < 0.5:
            return {}
        return {"mask": {"field_paths": [self.path() for _ in range(self.rng.randrange(3))]}}

    def value(self, depth: int = 0) -> Any:
        if depth < 2 and self.rng.random() < 0.3:
            return {self.rng.choice("abc"): self.value(depth + 1) for _ in range(self.rng.randrange(3))}
        return self.rng.choice([*SCALARS, *LISTS])

    def data(self, *, masked: bool = True) -> dict[str, Any]:
        found = {name: self.value() for name in self.rng.sample(FIELDS, self.rng.randrange(5))}
        if self.pick([False], [True]):
            # Google's emulator overlooks empty names that a mask leaves out.
            empty = [] if masked else [{"": 1}, {"m": {"": 1}}]
            found |= self.rng.choice([{"__x__": 1}, {"m": {"__x__": 1}}, {"arr": [[1]]}, *empty])
        return found

    def reading(self) -> list[dict[str, Any]]:
        """
        A read_time for each server, or nothing.
        """
        if not self.moments or self.rng.random() < 0.6:
            return [{}, {}]
        return [{"read_time": time} for time in self.rng.choice(self.moments)]

    def same(self, ask: Any, *asked: Any) -> None:
        """
        The answers of *ask*, which takes a wire and its number, are the same.
        """
        self.compared += 1
        seen = []
        for number, wire in enumerate(self.wires):
            try:
                seen.append(ask(wire, number))
            except grpc.RpcError as error:
                seen.append(refusal(error))
        assert seen[0] == seen[1], asked

    def moment(self) -> None:
        self.moments.append([w.commit(w.write("mark/x", {"n": len(self.moments)})).commit_time for w in self.wires])

    def step(self) -> None:
        self.faults = self.rng.random() < 0.4
        kinds = [
            self.transforms,
            self.masked_write,
            self.batch_write,
            self.documents,
            self.reads,
            self.query,
            self.query,
        ]
        self.rng.choice([*kinds, self.query, self.listing])()

    def transforms(self) -> None:
        rng = self.rng
        made = []
        for _ in range(rng.randrange(1, 4)):
            operation = rng.choice(
                ["increment", "maximum", "minimum", "append_missing_elements", "remove_all_from_array"]
            )
            operand = rng.choice([1, -2, 0.5, float("nan"), -0.0, 2**62])
            if operation in ("append_missing_elements", "remove_all_from_array"):
                operand = [rng.choice(SCALARS) for _ in range(rng.randrange(3))]
            elif self.pick([False], [True]):
                operand = rng.choice(["", None, True, {}])
            made.append((self.path_within_limit(), operation, operand))
        path, data, old = self.name(), self.data(masked=False), rng.random() < 0.4

        def ask(w: Any, _: int) -> Any:
            transforms = [w.field_transform(*each) for each in made]
            write = w.transform(path, *transforms) if old else w.write(path, data, transforms=transforms)
            return [self.plain(w, each) for each in w.commit(write).write_results[0].transform_results]

        self.same(ask, path, data, old, made)

    def path_within_limit(self) -> str:
        # Google's emulator takes longer ones here.
        path = self.path()
        return path if len(path) <= 1500 else "n"

    def masked_write(self) -> None:
        path, data, mask = self.name(), self.data(), [self.path() for _ in range(self.rng.randrange(4))]
        exists = self.rng.choice([None, None, True, False])
        self.same(
            lambda w, _: len(w.commit(w.write(path, data, mask=mask, exists=exists)).write_results), path, data, mask
        )

    def batch_write(self) -> None:
        names = self.rng.sample(NAMES, self.rng.randrange(4))
        asked = [(name, self.data(masked=False), self.rng.choice([None, True, False])) for name in names]
        if self.pick([False], [True]):
            asked.append((self.rng.choice([*WRONG_NAMES, *names]), {}, None))

        def ask(w: Any, _: int) -> Any:
            writes = [w.write(name, data, exists=exists) for name, data, exists in asked]
            request = w.pb("BatchWriteRequest")(database=w.database, writes=writes)
            answer = w.call("BatchWrite", request, w.pb("BatchWriteResponse"))
            return [each.code for each in answer.status], [
                each.HasField("update_time") for each in answer.write_results
            ]

        self.same(ask, asked)

    def documents(self) -> None:
        rng, path, data, mask = self.rng, self.name(), self.data(), self.mask()
        changed = {"update_mask": {"field_paths": [self.path() for _ in range(2)]}} if rng.random() < 0.5 else {}
        condition = rng.choice(
            [{}, {}, {"current_document": {"exists": True}}, {"current_document": {"exists": False}}]
        )

        def update(w: Any, _: int) -> Any:
            document = w.write(path, data).update
            request = w.pb("UpdateDocumentRequest")(document=document, **mask, **changed, **condition)
            return self.shown(w, w.call("UpdateDocument", request, w.pb("Document")))

        def delete(w: Any, _: int) -> Any:
            request = w.pb("DeleteDocumentRequest")(name=w.name(path), **condition)
            return str(w.call("DeleteDocument", request, empty_pb2.Empty))

        self.same(update, "update", path, data, mask, changed, condition)
        if rng.random() < 0.3:
            self.same(delete, "delete", path, condition)
        self.faults = rng.random() < 0.4
        collection = self.pick(["c", "sub", "c d"], ["", "a/b", "__x__", ".", ".."])
        id_ = self.pick(["a", "b", "é", "__id3__"], ["__x__", "a/b", ".", "..", "__id0__"])
        parent = self.pick(["", "", "/c/a", "/c/ghost", "/c/__id3__"], ["/c", "/c/__x__"])
        fields, mask = self.data(masked=False), self.mask()

        def create(w: Any, _: int) -> Any:
            request = w.pb("CreateDocumentRequest")(
                parent=w.root + parent, collection_id=collection, document_id=id_, document={}, **mask
            )
            request.document.fields.MergeFrom(w.write("c/a", fields).update.fields)
            return self.shown(w, w.call("CreateDocument", request, w.pb("Document")))

        self.same(create, "create", parent, collection, id_, fields, mask)

    def reads(self) -> None:
        paths = [self.name() for _ in range(self.rng.randrange(1, 4))]
        mask, at = self.mask(), self.reading()

        def batch(w: Any, number: int) -> Any:
            found = [
                each.found if each.HasField("found") else each.missing
                for each in w.batch_get(*paths, **mask, **at[number])
            ]
            return sorted(
                each if isinstance(each, str) else self.shown(w, each) for each in map(self.or_name(w), found)
            )

        self.same(batch, "batch_get", paths, mask)
        self.same(lambda w, number: self.shown(w, w.get(paths[0], **mask, **at[number])), "get", paths[0], mask)

    @classmethod
    def or_name(cls, w: Any) -> Any:
        return lambda found: found if isinstance(found, str) else str(cls.shown(w, found))

    def query(self) -> None:
        rng = self.rng
        orders = [rng.choice(["", "-"]) + self.path() for _ in range(rng.randrange(3))]
        orders = list({each.removeprefix("-"): each for each in orders}.values())
        where = self.filter()
        if where is None and rng.random() < 0.3:
            orders.append(rng.choice(["__name__", "-__name__"] if orders else ["__name__"]))
        chosen: dict[str, Any] = {"where": where, "cursors": {}, "plain": {}}
        for end in ("start_at", "end_at"):
            if orders and rng.random() < 0.3:
                values = [NAMES[0] if "__name__" in each else rng.choice([*SCALARS, *LISTS]) for each in orders]
                chosen["cursors"][end] = (rng.random() < 0.5, values[: rng.randrange(1, len(orders) + 1)])
        if rng.random() < 0.3:
            chosen["plain"]["select"] = {"fields": [{"field_path": self.path()} for _ in range(rng.randrange(3))]}
        if rng.random() < 0.4:
            chosen["plain"]["limit"] = {"value": self.pick([0, 1, 2, 3], [-1])}
        if rng.random() < 0.3:
            chosen["plain"]["offset"] = self.pick([0, 1, 2], [-1])
        collection = self.pick(["c", "c", "sub", "other"], ["c/a", "__x__", ".", ".."])
        group, parent = (
            (True, "") if rng.random() < 0.3 else (False, self.pick(["", "", "c/a", "c/ghost"], ["c", "c/__x__"]))
        )
        at = self.reading()
        asked = (collection, group, parent, orders, str(chosen["where"]), chosen)

        def message(w: Any) -> Any:
            made = w.query_message(collection, group=group, order_by=w.order(*orders), **chosen["plain"])
            if chosen["where"] is not None:
                made.where.CopyFrom(self.filled(w, chosen["where"]))
            for end, (before, values) in chosen["cursors"].items():
                getattr(made, end).before = before
                for order, each in zip(orders, values, strict=False):
                    getattr(made, end).values.append(self.name_value(w, each) if "__name__" in order else w.value(each))
            return made

        def run(w: Any, number: int) -> Any:
            where = f"{w.root}/{parent}" if parent else w.root
            request = w.pb("RunQueryRequest")(parent=where, structured_query=message(w), **at[number])
            found = w.call("RunQuery", request, w.pb("RunQueryResponse"), stream=True)
            # Google's emulator does not tell the number of skipped results.
            return [self.shown(w, each.document) for each in found if each.HasField("document")]

        self.same(run, "query", *asked)
        if self.faults:
            # The sums of a faulty query may be refused for another fault; with a sound one there is room for one here.
            self.faults = "select" not in chosen["plain"]
            aggregations = self.aggregations()

            def aggregate(w: Any, number: int) -> Any:
                where = f"{w.root}/{parent}" if parent else w.root
                asked = {"structured_query": message(w), "aggregations": aggregations}
                request = w.pb("RunAggregationQueryRequest")(
                    parent=where, structured_aggregation_query=asked, **at[number]
                )
                [found] = w.call("RunAggregationQuery", request, w.pb("RunAggregationQueryResponse"), stream=True)
                return sorted((name, self.plain(w, each)) for name, each in found.result.aggregate_fields.items())

            self.same(aggregate, "aggregate", aggregations, *asked)

    def aggregations(self) -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = []
        for number in range(self.pick([1, 1, 2, 3], [0])):
            kind = self.rng.choice(["count", "count", "sum", "avg"])
            operand: dict[str, Any] = {} if kind == "count" else {"field": {"field_path": self.path_within_limit()}}
            if kind == "count" and self.rng.random() < 0.3:
                operand = {"up_to": {"value": self.rng.choice([1, 2, 100])}}
            alias = self.pick(["", f"a{number}", f"é {number}"], ["__x__", "a0", "field_1", "field_2"])
            made.append({kind: operand, "alias": alias})
        return made

    def filter(self, depth: int = 0) -> Any:
        """
        A filter in plain data: parts that hold together, a field's filter, or one of the document's name.
        """
        rng = self.rng
        if rng.random() < 0.3 and not depth:
            return None
        if depth < 2 and rng.random() < 0.3:
            return (rng.choice([1, 1, 2]), [self.filter(depth + 1) for _ in range(rng.randrange(1, 3))])
        if rng.random() < 0.2:
            return (
                "unary",
                self.path(),
                rng.choice(["IS_NULL", "IS_NAN", "IS_NOT_NULL", "IS_NOT_NAN"][: 2 if depth else 4]),
            )
        # Two of the others in one filter are a fault.
        operator = rng.choice(OPERATORS if not depth else OPERATORS[:5])
        many = operator in ("IN", "NOT_IN", "ARRAY_CONTAINS_ANY")
        operand = [rng.choice(SCALARS) for _ in range(rng.randrange(1, 4))] if many else rng.choice(SCALARS)
        if many and self.pick([False], [True]):
            operand = rng.choice([[], 1, None])
        return ("field", self.path(), operator, operand)

    @classmethod
    def filled(cls, w: Any, plain: Any) -> Any:
        match plain:
            case "unary", path, operator:
                return w.unary(path, operator)
            case "field", path, operator, operand:
                return w.filter(path, operator, operand)
            case operator, parts:
                made = w.both(*[cls.filled(w, each) for each in parts])
                made.composite_filter.op = operator
                return made

    def listing(self) -> None:
        rng = self.rng
        asked: dict[str, Any] = {
            "collection_id": self.pick(["c", "c", "sub", "other"], ["c/a", "__x__"]),
            "page_size": self.pick([0, 1, 2, 3], [-1]),
            **self.mask(),
        }
        if rng.random() < 0.4:
            # Google's emulator forgets the mask then, and takes negative sizes.
            asked = {
                "show_missing": True,
                "collection_id": asked["collection_id"],
                "page_size": max(0, asked["page_size"]),
            }
        else:
            good = ["", "n", "n desc", "n DESC,s", "n , s", "`od d`", "`a.b` desc", "__name__", "__name__ desc", "m.a"]
            # Google's emulator does not go on after a page by a field.
            asked["order_by"] = self.pick(
                good, [" n", "n,", ",", "a..b", "n asc desc", "n foo", "é", "1a", "-n", "n;s", "n,,s"]
            )
            asked["page_size"] = 0 if asked["order_by"] else asked["page_size"]
        parent = rng.choice(["", "", "/c/a", "/c/ghost", "/c/__id3__"])
        at = self.reading()

        def pages(w: Any, number: int) -> Any:
            found, token = [], ""
            for _ in range(5):
                request = w.pb("ListDocumentsRequest")(parent=w.root + parent, page_token=token, **asked, **at[number])
                page = w.call("ListDocuments", request, w.pb("ListDocumentsResponse"))
                # Google's emulator may end with an empty page.
                found += [[self.shown(w, each) for each in page.documents]] if page.documents else []
                token = page.next_page_token
                if not token:
                    break
            return found

        def collections(w: Any, number: int) -> Any:
            request = w.pb("ListCollectionIdsRequest")(parent=w.root + parent, **at[number])
            return list(w.call("ListCollectionIds", request, w.pb("ListCollectionIdsResponse")).collection_ids)

        self.same(pages, "list", asked, parent)
        self.same(collections, "collections", parent)

    @staticmethod
    def name_value(w: Any, path: str) -> Any:
        return w.pb("Value")(reference_value=w.name(path))

    @staticmethod
    def plain(w: Any, message: Any) -> bytes:
        return bytes(message.SerializeToString(deterministic=True))

    @classmethod
    def shown(cls, w: Any, document: Any) -> Any:
        return document.name, document.HasField("create_time"), cls.plain(w, w.pb("Document")(fields=document.fields))


@pytest.mark.parametrize("examples", [8, pytest.param(300, marks=pytest.mark.slow)])
def test_wide_requests_agree(examples, firestore_embedded, firestore_google, firestore_wire_to):
    """
    Writes, transforms, documents, lists, reads of the past, queries and sums; odd names, paths and values: one by one the same.
    """
    compared = 0
    with (
        grpc.insecure_channel(firestore_embedded.address) as ours,
        grpc.insecure_channel(firestore_google.address) as theirs,
    ):
        for seed in range(examples):
            project = f"wide-{uuid.uuid4().hex[:10]}"
            pair = Wide(random.Random(seed), firestore_wire_to(ours, project), firestore_wire_to(theirs, project))
            for number in range(STEPS):
                if number % 12 == 0:
                    pair.moment()
                try:
                    pair.step()
                except AssertionError as different:
                    raise AssertionError(f"seed {seed}, step {number}") from different
            compared += pair.compared
    assert compared >= examples * STEPS
