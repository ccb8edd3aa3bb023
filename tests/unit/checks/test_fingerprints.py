"""
Fingerprints of models: the recorded ones are those of every process, whatever pydantic, hash seed and order of imports.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Generic, List, Literal, NamedTuple, Optional, TypeVar, Union  # noqa: UP035 - as users write

import pydantic
import pytest
from pydantic import (
    AliasChoices,
    AliasPath,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    Json,
    PositiveInt,
    StringConstraints,
)
from pydantic.alias_generators import to_camel
from typing_extensions import TypeAliasType, TypedDict

from gcp_oncetask import LockedModel
from gcp_oncetask.checks.fingerprints import description, fingerprint
from gcp_oncetask.tasks import TaskData

T = TypeVar("T")
Words = TypeAliasType("Words", "dict[str, Words | int]")


class Colour(Enum):
    RED = "red"
    BLUE = 2


@dataclass
class Size:
    width: int
    height: Optional[int] = None  # noqa: UP045


@pydantic.dataclasses.dataclass
class Weight:
    grams: int = Field(alias="g", gt=2)


class Label(TypedDict, total=False):
    text: str
    of: Pet


class Place(NamedTuple):
    y: int
    x: int = 0


class Box(BaseModel, Generic[T]):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")
    in_it: T


class Pet(BaseModel):
    name: str
    young: list[Pet] = []


class Everything(BaseModel):
    pet: Pet
    colours: List[Union[Colour, None]] = []  # noqa: UP006, UP007
    size: Size | None = None
    weight: Weight | None = None
    label: Label | None = None
    place: Place | None = None
    box: Box[int | list[Optional[str]]] | None = None  # noqa: UP045
    words: Words | None = None
    one_of: List[Literal["b", "a", 1]] = []  # noqa: UP006
    mixed: List[Union[str, int]] = []  # noqa: UP006, UP007
    short: Annotated[str, StringConstraints(min_length=2, pattern="^a")] = "aa"
    named: int = Field(3, gt=2, alias="Named")
    either: int = Field(1, validation_alias=AliasChoices("p", AliasPath("q", 0)), serialization_alias="p")
    many: list[Annotated[int, Field(ge=2, description="no part of it")]] = []
    when: AwareDatetime | None = None
    json_: Json[list[int]] = "[]"
    count: PositiveInt = 1
    price: Decimal = Field(Decimal(1), max_digits=4)
    rest: dict[str, Any] = {}
    hidden: int = Field(1, exclude=True)
    code: Callable[[int], str] | None = Field(None, exclude=True)

    @pydantic.computed_field
    def total(self) -> int:
        return 1


RECORDED = (
    "(model): =total; box? Box[int | list[None | str]] | None; colours? list[Colour | None]; "
    "count? int(gt=0); either? as 'p' or ['q', 0] -> 'p' int; json_? list[int](json=True); "
    "label? Label | None; many? list[int(ge=2)]; mixed? list[int | str]; named? as 'Named' int(gt=2); "
    "one_of? list[Literal['a', 'b', 1]]; pet Pet; place? None | Place; price? Decimal(max_digits=4); "
    "rest? dict[str, Any]; short? str(min_length=2, pattern='^a'); size? None | Size; "
    "weight? None | Weight; when? AwareDatetime | None; words? None | Words\n"
    "Box[int | list[None | str]]: extra=forbid; by_name; in_it as 'inIt' int | list[None | str]\n"
    "Colour: 'red' | 2\n"
    "Label: of? Pet; text? str\n"
    "Pet: name str; young? list[Pet]\n"
    "Place: y int; x? int\n"
    "Size: height? None | int; width int\n"
    "Weight: grams as 'g' int(gt=2)\n"
    "Words: dict[str, Words | int]\n"
)


def test_description_is_the_recorded_one() -> None:
    """
    It never changes: stored payloads bear its digest.
    """
    assert description(Everything).splitlines() == RECORDED.splitlines()
    assert fingerprint(Everything) == "b912f81bf72e43fd"


def test_hash_seed_and_order_of_imports_do_not_show() -> None:
    """
    ``typing`` gives back the union that was made first, in the order that it had.
    """
    code = (
        "from typing import *; List[Union[int, str]]; List[Literal[1, 'a', 'b']]\n"
        "from tests.unit.checks import test_fingerprints as t; print(t.fingerprint(t.Everything))"
    )
    environ = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run([sys.executable, "-c", code], env=environ, check=True, capture_output=True, text=True)
    assert found.stdout.strip() == fingerprint(Everything)


def model(**fields: Any) -> type[BaseModel]:
    """
    A model of these fields.
    """
    return pydantic.create_model("Model", **fields)


class Cat(BaseModel):
    name: str


class Dog(BaseModel):
    name: str
    tricks: int = 0


class Short(Enum):
    A = "a"


class Long(Enum):
    A = "a"
    B = "b"


SAME = [
    (Union[int, str], Union[str, int]),  # noqa: UP007
    (Optional[int], int | None),  # noqa: UP045
    (List[int], list[int]),  # noqa: UP006
    (Literal["a", "b"], Literal["b", "a"]),
    (Annotated[int, Field(gt=1, description="a")], Annotated[int, Field(gt=1, title="b")]),
]
OTHER = [
    (int, str),
    (int, int | None),
    (Literal["a"], Literal["a", "b"]),
    (Literal["1"], Literal[1]),
    (Short, Long),
    (Cat, Dog),
    (list[Cat], list[Dog]),
    (dict[str, Cat | None], dict[str, Dog | None]),
    (Annotated[int, Field(gt=1)], Annotated[int, Field(gt=2)]),
    (list[Annotated[int, Field(gt=1)]], list[int]),
    (Annotated[str, Field(pattern="a")], Annotated[str, Field(pattern="b")]),
    (Json[list[int]], list[int]),
    (Box[int], Box[str]),
    (Size, Weight),
    (Label, Place),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_spelling_of_a_type_does_not_show(one: Any, other: Any) -> None:
    assert fingerprint(model(x=(one, ...))) == fingerprint(model(x=(other, ...)))


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_another_type_is_another_fingerprint(one: Any, other: Any) -> None:
    assert fingerprint(model(x=(one, ...))) != fingerprint(model(x=(other, ...)))


@pytest.mark.parametrize(
    "changed",
    [
        {"x": (int, ...), "y": (int, 1)},
        {"z": (int, ...)},
        {"x": (int, 1)},
        {"x": (int, Field(alias="X"))},
        {"x": (int, Field(validation_alias="X"))},
        {"x": (int, Field(serialization_alias="X"))},
        {"x": (int, ...), "__config__": ConfigDict(extra="forbid")},
        {"x": (int, ...), "__config__": ConfigDict(strict=True)},
        {"x": (int, ...), "__config__": ConfigDict(populate_by_name=True)},
    ],
)
def test_another_field_alias_or_setting_is_another_fingerprint(changed: dict[str, Any]) -> None:
    assert fingerprint(model(**changed)) != fingerprint(model(x=(int, ...)))


def test_name_documentation_default_and_order_of_fields_do_not_show() -> None:
    class One(BaseModel):
        """
        Documented.
        """

        x: int = 1
        y: str

    class Other(BaseModel):
        y: str = Field(description="a text")
        x: int = Field(2, title="number")

        def more(self) -> None: ...

    assert fingerprint(One) == fingerprint(Other)


def test_fingerprints_of_payloads_and_entities_are_made_when_they_are_asked_for_and_once() -> None:
    class Work(TaskData, kind="fingerprinted"):
        name: str

    class Order(LockedModel, collection="fingerprinted"):
        name: str

    before = fingerprint.cache_info()
    for _ in range(3):
        assert fingerprint(Work) != fingerprint(Order)
    after = fingerprint.cache_info()
    assert (after.misses - before.misses, after.hits - before.hits) == (2, 4)
