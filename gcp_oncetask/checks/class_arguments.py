"""
Class arguments of models, such as ``collection=`` and ``kind=``: at run time, and as type checkers see them.

pyright looks for them at the metaclass's ``__new__``, if the metaclass has an ``__init__`` too: hence the metaclasses
below, which only pyright sees. mypy does not check them (``gcp_oncetask.mypy`` does), and pydantic's plugin for mypy knows
one metaclass only.
"""

# mypy takes MYPY for true despite its type, and does not check the code of the other branch.
# mypy: disable-error-code="unreachable"

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from gcp_oncetask.checks import words
from gcp_oncetask.checks.values import Duration
from gcp_oncetask.errors import UsageError

OnConflict = Literal["keep", "raise", "replace"]
Unique = Literal["queued", "running", "queued_or_running"]


def hand_on(owner: str, given: Mapping[str, Any], known: Iterable[str], to: Callable[..., None]) -> None:
    """
    Hand on those class arguments of *owner* that are not among its *known* ones: another base class may take them.

    Raises:
        UsageError: No base class takes one of them; the message names the most similar argument or setting of pydantic.
    """
    try:
        to(**given)
    except TypeError as error:
        if not given:
            raise
        raise UsageError(words.unknown(f"The class {owner}", given, known, ConfigDict.__annotations__)) from error


MYPY: Literal[False] = False

if TYPE_CHECKING:
    from typing import Unpack, dataclass_transform

    from pydantic import Field, PrivateAttr
    from pydantic._internal._model_construction import ModelMetaclass

    if MYPY:
        EntityMeta = ModelMetaclass
        TaskMeta = ModelMetaclass
    else:

        @dataclass_transform(kw_only_default=True, field_specifiers=(Field, PrivateAttr))
        class EntityMeta(ModelMetaclass):
            """
            Metaclass of ``LockedModel``, as pyright sees it.
            """

            def __init__(self, *args: Any, **kwargs: Any) -> None: ...
            def __new__(
                mcs,
                name: str,
                bases: tuple[type[Any], ...],
                namespace: dict[str, Any],
                *,
                collection: str | None = None,
                **kwargs: Unpack[ConfigDict],
            ) -> Any: ...

        @dataclass_transform(kw_only_default=True, field_specifiers=(Field, PrivateAttr))
        class TaskMeta(ModelMetaclass):
            """
            Metaclass of ``TaskData``, as pyright sees it.
            """

            def __init__(self, *args: Any, **kwargs: Any) -> None: ...
            def __new__(
                mcs,
                name: str,
                bases: tuple[type[Any], ...],
                namespace: dict[str, Any],
                *,
                kind: str | None = None,
                queue: str | None = None,
                pull: bool = False,
                on_conflict: OnConflict = "keep",
                unique: Unique | None = None,
                on_refused: Callable[[Any], object] | None = None,
                max_running: int | None = None,
                retention: Duration | None = None,
                tombstone: bool = False,
                **kwargs: Unpack[ConfigDict],
            ) -> Any: ...
else:
    EntityMeta = type(BaseModel)
    TaskMeta = type(BaseModel)
