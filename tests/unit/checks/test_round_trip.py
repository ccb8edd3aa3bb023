"""
Models that are stored and loaded again: any model of the supported types is equal, whatever its values.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import make_dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple, Optional
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from google.cloud.firestore import GeoPoint
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, Json, NaiveDatetime, SecretStr, create_model, field_serializer

from gcp_oncetask import LockedModel, UsageError
from gcp_oncetask.checks.field_types import ENTITY, PAYLOAD, RESULT, Storing, check_type, is_plain
from gcp_oncetask.checks.ordered import in_order
from gcp_oncetask.store.codec import as_loaded, decode, encode
from gcp_oncetask.store.json_data import check_fields
from gcp_oncetask.tasks import TaskData
from gcp_oncetask.tasks.data import hash_of


class Colour(Enum):
    RED = "red"
    GREEN = 2


class Pet(BaseModel):
    name: str
    kind: Literal["pet"] = "pet"


class Car(BaseModel):
    wheels: int = 4
    kind: Literal["car"] = "car"


class Pair(NamedTuple):
    left: int
    right: date


Spot = make_dataclass("Spot", [("x", int), ("at", date | None, None)])
ZONES = st.sampled_from([UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kathmandu")])
TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
NUMBERS = st.integers(-(2**63), 2**63 - 1)
# Before, zones had offsets of minutes and seconds, and pydantic writes none: such a time is refused.
TIMES = st.datetimes(datetime(1973, 1, 1), datetime(9999, 12, 29), timezones=ZONES)
PETS = st.builds(Pet, name=TEXTS)
SCALARS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (str, TEXTS),
    (int, NUMBERS),
    (float, st.floats(allow_nan=False)),
    (bool, st.booleans()),
    (Literal["a", 7], st.sampled_from(["a", 7])),
    (Annotated[int, Field(ge=0)], st.integers(0, 9)),
    (datetime, TIMES),
    (date, st.dates()),
    (time, st.times()),
    (timedelta, st.timedeltas(timedelta(days=-9_999), timedelta(days=9_999))),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False, places=3)),
    (UUID, st.uuids()),
    (Colour, st.sampled_from(Colour)),
    (bytes, TEXTS.map(str.encode)),
    (Pair, st.builds(Pair, left=NUMBERS, right=st.dates())),
    (Spot, st.builds(Spot, x=NUMBERS, at=st.dates() | st.none())),
    (Pet, PETS),
    (Annotated[Pet | Car, Field(discriminator="kind")], PETS | st.builds(Car, wheels=NUMBERS)),
]
KEYS = TEXTS.filter(lambda key: bool(key) and not key.startswith("__"))


@st.composite
def fields(draw: st.DrawFn) -> tuple[Any, Any]:
    """
    A type of a field, and a value of it.
    """
    inner, values = draw(st.sampled_from(SCALARS))
    flat = not (isinstance(inner, type) and issubclass(inner, tuple))
    shape = draw(st.sampled_from(["one", "optional", "dict", "nested", *(["list", "tuple", "set"] if flat else [])]))
    match shape:
        case "optional":
            return Optional[inner], draw(values | st.none())  # noqa: UP045 - the type is not known here
        case "list":
            return list[inner], draw(st.lists(values, max_size=3))
        case "tuple":
            return tuple[inner, ...], tuple(draw(st.lists(values, max_size=3)))
        case "set" if inner in (str, int, date, UUID, Decimal):
            return frozenset[inner], frozenset(draw(st.sets(values, max_size=3)))
        case "dict":
            return dict[str, inner], draw(st.dictionaries(KEYS, values, max_size=3))
        case "nested":
            return dict[str, dict[str, inner]], draw(
                st.dictionaries(KEYS, st.dictionaries(KEYS, values, max_size=2), max_size=2)
            )
    return inner, draw(values)


FIELDS = st.lists(fields(), min_size=1, max_size=4)
CONFIGS = st.sampled_from(
    [ConfigDict(), ConfigDict(extra="ignore"), ConfigDict(extra="allow"), ConfigDict(strict=True)]
)


@settings(max_examples=60, deadline=None)
@given(FIELDS, CONFIGS)
def test_payload_of_supported_types_is_loaded_equal(made: list[tuple[Any, Any]], config: ConfigDict) -> None:
    """
    From Firestore, and from JSON; in any order of its keys.
    """
    base: Any = type(TaskData)("Base", (TaskData,), {"model_config": config, "__module__": __name__})
    names = {f"f{number}": (annotation, ...) for number, (annotation, _) in enumerate(made)}
    model: Any = create_model("Model", __base__=base, **names)
    data = model.model_construct(**{f"f{number}": value for number, (_, value) in enumerate(made)})

    payload = data.payload()

    check_fields(payload, "it", "data")
    assert instants(model.of(decode(encode(payload)), "x")) == instants(data)
    assert instants(model.of(json.loads(json.dumps(payload, sort_keys=True)), "x")) == instants(data)
    assert payload == in_order(data, data.model_dump(mode="json", by_alias=True))


@settings(max_examples=40, deadline=None)
@given(FIELDS)
def test_entity_of_supported_types_is_loaded_equal(made: list[tuple[Any, Any]]) -> None:
    names: dict[str, Any] = {f"f{number}": (annotation, ...) for number, (annotation, _) in enumerate(made)}
    model: Any = create_model("Model", __base__=LockedModel, **names)
    entity = model(id="1", **{f"f{number}": value for number, (_, value) in enumerate(made)})

    stored = {name: decode(encode(value)) for name, value in entity.stored().items()}

    assert instants(model.model_validate(stored | {"id": "1"})) == instants(entity)
    assert instants(model.model_validate(as_loaded(entity.stored()) | {"id": "1"})) == instants(entity)


def instants(value: Any) -> Any:
    """
    *value* in comparable form, times as instants: in an hour that comes twice, times of two zones are never equal to Python.
    """
    if isinstance(value, BaseModel):
        return type(value), instants(dict(value))
    if isinstance(value, Mapping):
        return {key: instants(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [type(value).__name__, *map(instants, value)]
    return value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo else value


JSON_DATA = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS | st.just("__a__"), inner, max_size=3),
    max_leaves=10,
)
OTHERS = st.one_of(
    TIMES,
    st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29)),
    st.dates(),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.binary(),
    st.sampled_from(Colour),
    st.frozensets(st.integers(0, 9)).map(lambda numbers: numbers if len(numbers) < 2 else {min(numbers)}),
    st.tuples(NUMBERS, TEXTS),
    st.builds(GeoPoint, st.floats(-90, 90), st.floats(-180, 180)),
    PETS.map(lambda pet: [pet]),
)


@settings(max_examples=150, deadline=None)
@given(JSON_DATA | OTHERS | st.dictionaries(KEYS, OTHERS, max_size=2))
def test_value_is_loaded_as_the_codec_says(value: Any) -> None:
    assert as_loaded(value) == decode(encode(value))


# --- types that alone tell ----------------------------------------------------------------------------------------------


class Inner(BaseModel):
    token: SecretStr


class Recursive(BaseModel):
    children: list[Recursive] = []
    inner: Inner | None = None


class Revealed(BaseModel):
    token: SecretStr

    @field_serializer("token")
    def reveal(self, token: SecretStr) -> str:
        return token.get_secret_value()


@pytest.mark.parametrize("storing", [PAYLOAD, ENTITY, RESULT])
@pytest.mark.parametrize(
    ("annotation", "field"),
    [
        (Inner, "token"),
        (list[dict[str, Inner | None]], "token"),
        (Recursive, "inner.token"),
        (make_dataclass("Held", [("inner", Inner)]), "inner.token"),
        (Annotated[Callable[..., int] | None, Field()], None),
        (Revealed, ""),
        (Json[Inner], ""),
        (dict[str, Pet | Car], ""),
        (type("Unknown", (), {}), ""),
        ("NotThereYet", ""),
    ],
)
def test_field_whose_type_alone_tells_is_named(storing: Storing, annotation: Any, field: str | None) -> None:
    """
    At any depth; none is named (the empty text) where a value can survive.
    """
    if field == "":
        check_type(annotation, "it", storing)
        return
    with pytest.raises(UsageError, match="it is code" if field is None else f"'{field}' is a secret"):
        check_type(annotation, "it", storing)


def test_time_without_a_zone_can_not_be_declared_in_an_entity() -> None:
    with pytest.raises(UsageError, match=r"'at' is a time without a time zone.*AwareDatetime"):

        class Dated(LockedModel):
            at: NaiveDatetime | None = None


def test_error_is_raised_where_the_class_is_made() -> None:
    with pytest.raises(UsageError, match=r"Login: the field 'token' is a secret.*Secret Manager"):

        class Login(TaskData, kind="login"):
            token: SecretStr

    with pytest.raises(UsageError, match=r"Late: the field 'x' is stored as 'x', but read from 'y'.*alias="):

        class Late(LockedModel):
            x: int = Field(validation_alias="y")


@pytest.mark.parametrize(
    ("annotation", "plain"),
    [
        (str, True),
        (dict[str, list[datetime | None]], True),
        (Colour, True),
        (Annotated[int, Field(gt=1)], True),
        (Pet, False),
        (list[Pet], False),
        (Any, False),
        (Json[int], False),
        (Annotated[int, Field(exclude=True)], False),
    ],
)
def test_plain_models_are_told_apart(annotation: Any, plain: bool) -> None:
    """
    An unchanged stored form says nothing about the fields of others.
    """
    assert is_plain(create_model("Model", x=(annotation, ...))) is plain


# --- the stored form ----------------------------------------------------------------------------------------------------


class Recorded(TaskData, kind="recorded"):
    name: str
    at: datetime
    price: Decimal
    pets: list[Pet]
    sizes: dict[int, float]
    raw: bytes = Field(b"", alias="rawBytes")


def test_stored_form_and_id_are_those_of_former_releases() -> None:
    """
    Nothing that has run may run again.
    """
    given = Recorded(
        name="ä", at=datetime(2026, 1, 1, tzinfo=UTC), price=Decimal("1.50"), pets=[Pet(name="a")], sizes={1: 2.5}
    )
    assert given.payload() == {
        "name": "ä",
        "at": "2026-01-01T00:00:00Z",
        "price": "1.50",
        "pets": [{"name": "a", "kind": "pet"}],
        "sizes": {"1": 2.5},
        "rawBytes": "",
    }
    assert given.task_id() == hash_of(given.payload())[:40] == "e0d39f311fd1b5839f6c113f67873e6e270e367e"
