"""
What is stored is equal when it is loaded, or refused with the field's name: the table of ``docs/reference/payloads.md``, row by
row, through the local cloud.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask
from pydantic import BaseModel, ConfigDict, SecretStr

from gcp_oncetask import (
    Attempt,
    Config,
    Continue,
    LockedModel,
    Locker,
    NoRetry,
    OncetaskError,
    ResultNotStoredError,
    Status,
    UsageError,
    once,
)
from gcp_oncetask.flask import blueprint, locked_handler
from gcp_oncetask.tasks import OnceTask, Recurrence, TaskData, TaskManager, cron
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.round_trips import BERLIN, ROWS, TWICE, Case, Dog, Money, Pet, table, total

URL = "https://rows.test"
EQUAL, CLASS, VALUE, LOST = "equal", "class refused", "value refused", "lost"
TABLE = table()


def test_table_has_the_rows_that_are_tested() -> None:
    assert list(TABLE) == list(ROWS)


class Deployment:
    """
    Makes models of a case, stores their instances and loads them.
    """

    def __init__(self, cloud: OncetaskCloud) -> None:
        self.cloud = cloud
        self.manager = TaskManager(Locker(config=Config(base_url=URL)))
        self.locker = self.manager.locker
        self.app = Flask("rows")
        self.app.register_blueprint(blueprint(self.manager))
        cloud.use(self.locker)
        cloud.mount(URL, self.app)
        self.views: dict[str, Any] = {}
        self.app.add_url_rule("/<row>", "row", lambda row: self.views[row](), methods=["POST"])
        self.loaded: list[Any] = []
        self.made = 0

    def payload(self, case: Case) -> Any:
        """
        Returns a function from a value to what was given and what a handler got.
        """
        self.made += 1
        model: Any = type(TaskData)("Payload", (TaskData,), case.namespace(), kind=f"row-{self.made}")
        self.manager.register_task_handler(model, lambda task, attempt: self.loaded.append(task.data))

        def through(value: Any) -> tuple[Any, Any]:
            given = case.fill(model, value)
            self.manager.create_task(given)
            return self.run(given)

        return through

    def entity(self, case: Case) -> Any:
        """
        Likewise, for an entity's field.
        """
        self.made += 1
        row = f"rows{self.made}"
        model: Any = type(LockedModel)("Entity", (LockedModel,), case.namespace(), collection=row)

        @locked_handler(self.locker, model)
        def view(entity: Any, attempt: Any) -> None:
            self.loaded.append(entity)

        self.views[row] = view

        def through(value: Any) -> tuple[Any, Any]:
            self.made += 1
            given = case.fill(model, value, id=str(self.made))
            self.locker.schedule(given, f"/{row}")
            return self.run(given)

        return through

    def run(self, given: Any) -> tuple[Any, Any]:
        """
        Deliver what is due.
        """
        self.loaded.clear()
        self.cloud.run_until_idle()
        [loaded] = self.loaded
        return given, loaded

    def result(self, case: Case) -> Any:
        """
        Likewise, for the result of a function, which the first call and a later one give back.
        """
        model: Any = type(BaseModel)("Result", (BaseModel,), case.namespace())
        self.made += 1
        row = self.made

        @once(self.locker, key=str, result=model, name=f"row{row}")
        def make(key: int) -> Any:
            return case.fill(model, case.values[key])

        def through(value: Any) -> tuple[Any, Any]:
            key = case.values.index(value)
            try:
                first = make(key)
            except ResultNotStoredError:
                with pytest.raises(ResultNotStoredError):
                    make(key)
                raise
            assert same(first.x, make(key).x)
            return case.fill(model, value), first

        return through


@pytest.fixture
def deployment(oncetask_cloud: OncetaskCloud) -> Deployment:
    """
    On the test's cloud.
    """
    return Deployment(oncetask_cloud)


def same(one: Any, other: Any) -> bool:
    """
    Equality, which some values do not have of their own.
    """
    if type(one) is not type(other):
        return False
    if isinstance(one, float) and math.isnan(one):
        return math.isnan(other)
    if isinstance(one, datetime) and one.tzinfo and other.tzinfo:
        return one.astimezone(UTC) == other.astimezone(UTC)
    if isinstance(one, Money):
        return vars(one) == vars(other)
    return bool(one == other)


def named(field: str, error: OncetaskError) -> bool:
    """
    Whether *error* names the field, or a part of it.
    """
    return re.search(rf"'{field}\b|\b{field}(: |[.\[]| has| is| of|$)|in {field} ", str(error)) is not None


def outcome(case: Case, make: Any) -> set[str]:
    """
    What becomes of the values of *case*.
    """
    try:
        through = make(case)
    except UsageError as error:
        return {CLASS if named("x", error) else str(error)}
    found = set()
    for value in case.values:
        try:
            given, loaded = through(value)
        except (UsageError, ResultNotStoredError) as error:
            word = VALUE if isinstance(error, UsageError) else LOST
            found.add(word if named(case.attribute, error) else str(error))
            continue
        one, other = getattr(given, case.attribute), getattr(loaded, case.attribute)
        if same(one, other):
            found.add(EQUAL)
        else:
            found.add(otherwise(one, other, case.attribute))
    return found


def otherwise(given: Any, loaded: Any, field: str) -> str:
    """
    The table's word for a field of an entity that is loaded in another form.
    """
    if isinstance(given, datetime) and given.replace(tzinfo=UTC) == loaded:
        return "in UTC"
    if field.startswith("_"):
        return "not stored"
    if isinstance(given, str) and str(loaded) == given:
        return "as its type reads it"
    assert json.dumps(given) == json.dumps(loaded)
    return "a list"


# --- where else values are handed over ----------------------------------------------------------------------------------


class Walk(TaskData, kind="walk"):
    """
    A payload whose pets may be cut to their base class.
    """

    pets: tuple[Pet, ...] = ()
    at: datetime | None = None
    again: bool = False

    def recurrence(self) -> Recurrence | None:
        return cron("0 0 * * *", tz="UTC") if self.again else None


class Latest(Walk, kind="latest-walk", on_conflict="replace"):
    def task_id(self) -> str:
        return "1"


CUT = Walk(pets=(Pet(name="a"), Dog(name="b", tricks=3)))
CUT_TEXT = (
    r"Walk: the field 'pets\[1\]' does not arrive as it was given: a Dog is loaded as a Pet.* declare the field as Dog"
)


def test_every_way_to_create_looks_at_the_payload(deployment: Deployment) -> None:
    """
    One by one, many at once, in a transaction, recurring: nothing is written.
    """
    manager = deployment.manager
    with pytest.raises(UsageError, match=CUT_TEXT):
        manager.create_task(CUT)
    with pytest.raises(UsageError, match=CUT_TEXT):
        manager.create_tasks([Walk(), CUT])
    with pytest.raises(UsageError, match=CUT_TEXT):
        manager.create_task(CUT, transaction=deployment.locker.client.transaction())
    with pytest.raises(UsageError, match=CUT_TEXT):
        manager.create_task(CUT.model_copy(update={"again": True}))
    with pytest.raises(UsageError, match=r"'data\.tags'"):
        manager.add_task("crm-of-rows", "42", {"tags": {1, 2}})
    assert deployment.cloud.local.firestore.writes == 0


def test_newer_payload_is_looked_at_before_it_replaces_the_stored_one(deployment: Deployment) -> None:
    deployment.manager.register_task_handler(Latest, lambda task, attempt: deployment.loaded.append(task.data))
    first = Latest(pets=(Pet(name="a"),))
    deployment.manager.create_task(first)
    with pytest.raises(UsageError, match=r"'pets\[0\]'"):
        deployment.manager.create_task(Latest(pets=(Dog(name="b"),)))
    assert deployment.run(first) == (first, first)


def test_occurrences_of_a_generator_get_an_equal_payload(deployment: Deployment) -> None:
    given = Walk(pets=(Pet(name="a"),), at=TWICE, again=True)
    deployment.manager.register_task_handler(Walk, lambda task, attempt: deployment.loaded.append(task.data))
    deployment.manager.create_task(given)
    deployment.cloud.advance(days=1)
    loaded = deployment.loaded[0]
    assert (loaded.pets, loaded.at, loaded.again) == (given.pets, TWICE.astimezone(UTC), True)


@pytest.mark.parametrize("data", [CUT, Walk.model_construct(pets=None), {"pets": [{"name": "a"}]}, Latest()])
def test_data_of_a_next_step_is_looked_at(deployment: Deployment, data: Any) -> None:
    """
    It is stored if it is equal; else the attempt has failed, with a text that names the field.
    """
    manager = deployment.manager

    def walk(task: OnceTask[Walk], attempt: Attempt) -> Any:
        return Continue(data=data) if attempt.step == 1 else None

    manager.register_task_handler(Walk, walk, retry=NoRetry())
    start = Walk()
    manager.create_task(start)
    deployment.cloud.run_until_idle()
    task = manager.get_task(Walk, start.task_id())
    assert task is not None
    if isinstance(data, dict):
        assert (task.lock.status, task.payload["pets"]) == (Status.COMPLETED, data["pets"])
    else:
        assert task.lock.status is Status.FAILED
        assert re.search(r"'pets|kind 'latest-walk'", task.errors[-1].message)


def test_subclass_of_a_kind_must_not_lose_what_it_adds(deployment: Deployment) -> None:
    """
    Without a kind of its own it is loaded as the class that declares the kind.
    """

    class Long(Walk):
        miles: int = 0

    class Named(Walk):
        def task_id(self) -> str:
            return "named"

    with pytest.raises(UsageError, match=r"'miles' .*loaded as Walk, .*class Long\(Walk, kind="):
        deployment.manager.create_task(Long())
    assert deployment.manager.create_task(Named()).created


class Kept(LockedModel, collection="kept"):
    """
    An entity whose fields may hold values that are not loaded as they are.
    """

    pet: Pet | None = None
    notes: dict[str, Any] | None = None
    rows: tuple[list[int], ...] = ()
    at: datetime | None = None
    tags: frozenset[str] = frozenset()
    raw: bytes = b""


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"pet": Dog(name="a")}, "Kept: the field 'pet' does not arrive"),
        ({"notes": {"a": {"b": {1, 2}}}}, "Kept: the field 'notes.a.b' does not arrive"),
        ({"notes": {"": 1}}, "Kept can't be stored: a map in notes has an empty key"),
        ({"rows": ([1],)}, "Kept can't be stored: rows.0. is a list in a list"),
        ({"notes": {"n": 2**63}}, "Kept can't be stored: notes.n has more than 64 bits"),
        ({"pet": Pet.model_construct()}, "Kept: the field 'pet.name' does not arrive"),
    ],
)
def test_field_of_an_entity_is_looked_at_whenever_it_is_saved(
    deployment: Deployment, changed: dict[str, Any], text: str
) -> None:
    """
    When the document is made, saved, completed and changed by a handler: nothing of it is written.
    """
    locker = deployment.locker
    at = datetime(2026, 7, 1, 12, tzinfo=BERLIN)
    good = Kept(id="1", pet=Pet(name="a"), at=at, tags=frozenset("xy"), raw=b"\xff", notes={"t": at.astimezone(UTC)})

    @locked_handler(locker, Kept, retry=NoRetry())
    def view(entity: Kept, attempt: Attempt) -> None:
        for name, value in changed.items():
            setattr(entity, name, value)

    deployment.views["kept"] = view
    with pytest.raises(UsageError, match=text):
        locker.schedule(good.model_copy(update=changed), "/kept")
    assert deployment.cloud.local.firestore.writes == 0
    locker.schedule(good.model_copy(), "/kept")
    loaded = locker.get(Kept, "1")
    assert loaded.model_dump() == good.model_dump()
    for name, value in changed.items():
        setattr(loaded, name, value)
    with pytest.raises(UsageError, match=text):
        locker.save(loaded)
    with pytest.raises(UsageError, match=text):
        locker.complete(loaded)
    deployment.cloud.run_until_idle()
    failed = locker.get(Kept, "1")
    assert failed.lock.status is Status.FAILED
    assert re.search(text, failed.lock.errors[-1].message)
    assert failed.model_dump() == good.model_dump()


def test_computed_fields_of_entities_stay_stored_and_json_fields_are_loaded(deployment: Deployment) -> None:
    """
    Queries may ask for them; only a model that refuses them itself is stored without.
    """
    for extra, stored in (("ignore", {"x": 1, "total": 2}), ("forbid", {"x": 1})):
        case = Case(int, [1], body={"total": total}, config=ConfigDict(extra=extra))
        given, _ = deployment.entity(case)(1)
        found = deployment.locker.client.document(given.document_path).get().to_dict()
        assert found is not None
        assert {name: value for name, value in found.items() if name != "lock"} == stored


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (SecretStr, "result=: it is a secret"),
        (list[SecretStr], "result=: it is a secret"),
        (dict[str, tuple[Callable[[], int], int]], "result=: it is code"),
        (Iterable[int], "result=: it can be read only once"),
    ],
)
def test_type_of_a_result_is_looked_at_when_the_function_is_decorated(
    deployment: Deployment, result: Any, text: str
) -> None:
    with pytest.raises(UsageError, match=text):
        once(deployment.locker, result=result)


def test_results_that_are_no_models_are_given_back_equal(deployment: Deployment) -> None:
    """
    By the first call and by later ones: as the declared type says.
    """
    for number, (result, returned, given) in enumerate(
        [
            (tuple[date, ...], [date(2026, 1, 1)], (date(2026, 1, 1),)),
            (set[int], [2, 1, 2], {1, 2}),
            (Decimal, Decimal("1.50"), Decimal("1.50")),
            (Pet, {"name": "a"}, Pet(name="a")),
            (list[Pet], [Pet(name="a")], [Pet(name="a")]),
            (dict[int, Pet], {1: Pet(name="a")}, {1: Pet(name="a")}),
        ]
    ):

        def make(value: Any = returned) -> Any:
            return value

        call: Any = once(deployment.locker, key=str(number), payload=lambda *_: None, result=result, name="f")(make)
        assert [call(), call()] == [given, given]


# --- the table ----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("row", ROWS)
def test_row_of_the_table(deployment: Deployment, row: str) -> None:
    """
    Each value arrives equal, or the class or the value is refused with the name of the field.
    """
    for case in ROWS[row]:
        found = {column: outcome(case, getattr(deployment, column)) for column in TABLE[row]}
        assert found == {column: {word} for column, word in TABLE[row].items()}, case
