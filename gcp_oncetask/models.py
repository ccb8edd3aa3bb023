"""
What user code holds: pydantic models with a lock embedded in their document.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, TypeVar

from pydantic import BaseModel, Field, PrivateAttr, ValidationError

from gcp_oncetask.delivery import valid_path
from gcp_oncetask.errors import UsageError
from gcp_oncetask.record import Lock
from gcp_oncetask.store.codec import decode, encode
from gcp_oncetask.store.snapshot import Changes, Snapshot

M = TypeVar("M", bound="LockedModel")

_HOLE: Final = re.compile(r"\{(\w+)\}")

MODELS: Final[dict[str, type[LockedModel]]] = {}
"""Models by collection template; filled when a class is made."""


class LockedModel(BaseModel):
    """
    A document of a collection, with a lock in it.

    Declare the collection with the class: ``class Order(LockedModel, collection="orders")``. A collection may hold
    fields of the model: ``collection="customers/{customer_id}/orders"``.

    Attributes:
        id: Id of the document; like the fields of the collection it is part of the path and not stored in the document.
        lock: The lock as of the last load, schedule or complete; None if there is none. Never part of ``model_dump()``.

    Shape:
        {collection}/{id}: one field per model field (by its alias, if any), and the map ``lock``.
    """

    __collection__: ClassVar[str] = ""
    __holes__: ClassVar[tuple[str, ...]] = ()

    id: str = Field(min_length=1)

    _snapshot: Any = PrivateAttr(default=None)
    _loaded: dict[str, Any] | None = PrivateAttr(default=None)
    _seen: dict[str, Any] = PrivateAttr(default_factory=dict)
    _attempt: Any = PrivateAttr(default=None)

    @classmethod
    def __pydantic_init_subclass__(cls, *, collection: str | None = None, **kwargs: Any) -> None:
        """
        Check the collection.

        Raises:
            UsageError: The collection can't be one, or a field is called ``lock``.
        """
        super().__pydantic_init_subclass__(**kwargs)
        if "lock" in cls.model_fields:
            raise UsageError(f"{cls.__name__} has a field named 'lock'; that name is the library's.")
        if collection is None:
            return
        parts = collection.split("/")
        holes = tuple(_HOLE.findall(collection))
        plain = _HOLE.sub("x", collection)
        if len(parts) % 2 == 0 or not valid_path(f"{plain}/x") or "{" in parts[-1]:
            raise UsageError(f"{collection!r} is not a collection: 'orders' or 'customers/{{customer_id}}/orders' are.")
        missing = [hole for hole in holes if hole not in cls.model_fields]
        if missing:
            raise UsageError(f"{cls.__name__} has no field {missing[0]!r}, which its collection {collection!r} names.")
        cls.__collection__ = collection
        cls.__holes__ = holes
        MODELS[collection] = cls

    @classmethod
    def __init_subclass__(cls, *, collection: str | None = None, **kwargs: Any) -> None:
        """
        Accept ``collection=`` as a class argument.
        """
        super().__init_subclass__(**kwargs)

    @property
    def lock(self) -> Lock | None:
        """
        The lock as of the last load, schedule or complete; read-only.
        """
        snapshot = self._snapshot
        return None if snapshot is None else snapshot.lock

    @property
    def document_path(self) -> str:
        """
        Path of the document below its database.
        """
        return path_of(type(self), self.id, {hole: getattr(self, hole) for hole in self.__holes__})

    def stored(self) -> dict[str, Any]:
        """
        What is stored besides the lock: by alias, without the parts of the path.
        """
        return self.model_dump(by_alias=True, exclude={"id", *self.__holes__})


def path_of(model: type[LockedModel], id_: str, holes: Mapping[str, Any]) -> str:
    """
    Path of one document of *model*.

    Raises:
        UsageError: The model has no collection, a part of the path is missing, or it can't name a document.
    """
    if not model.__collection__:
        raise UsageError(
            f'{model.__name__} has no collection; declare it: class {model.__name__}(LockedModel, collection="...").'
        )
    missing = [hole for hole in model.__holes__ if holes.get(hole) in (None, "")]
    if missing:
        raise UsageError(f"{model.__name__} needs {missing[0]}= to tell which document is meant.")
    path = f"{_HOLE.sub(lambda m: str(holes[m[1]]), model.__collection__)}/{id_}"
    if path.count("/") != model.__collection__.count("/") + 1 or not valid_path(path):
        raise UsageError(f"{path!r} can't name a document: ids are texts without '/', not '.', '..' or '__x__'.")
    return path


def parts_of(model: type[LockedModel], path: str) -> dict[str, str] | None:
    """
    The id and the collection's fields in *path*; None if it is no document of *model*.
    """
    pattern = "/".join(_pattern(part) for part in f"{model.__collection__}/{{id}}".split("/"))
    match = re.fullmatch(pattern, path)
    return None if match is None else match.groupdict()


def _pattern(part: str) -> str:
    pieces = _HOLE.split(part)
    return "".join(f"(?P<{piece}>[^/]+)" if i % 2 else re.escape(piece) for i, piece in enumerate(pieces))


def load(model: type[M], snapshot: Snapshot, reference: Callable[[str], Any]) -> M:
    """
    The entity stored in *snapshot*.

    Raises:
        UsageError: The path or the stored fields do not fit the model; the message lists them.
    """
    assert snapshot.document is not None
    parts = parts_of(model, snapshot.path)
    if parts is None:
        raise UsageError(f"{snapshot.path} is not a document of {model.__name__} ({model.__collection__!r}).")
    data = {key: decode(value, reference) for key, value in snapshot.document.fields.items() if key != "lock"}
    try:
        entity = model.model_validate({**data, **parts})
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
        raise UsageError(f"{snapshot.path} does not fit {model.__name__}: {problems}.") from error
    remember(entity, snapshot)
    entity._seen = dict(snapshot.document.fields)  # noqa: SLF001 - this module's own
    return entity


def remember(entity: LockedModel, snapshot: Snapshot) -> None:
    """
    Note that the changes of *entity* are stored, in *snapshot*: what differs later is a change.
    """
    now = {key: encode(value) for key, value in entity.stored().items()}
    before = entity._loaded or {}  # noqa: SLF001 - this module's own
    # What was not written may have been changed by others: it is still seen as it was loaded.
    entity._seen.update({key: value for key, value in now.items() if before.get(key) != value})  # noqa: SLF001
    entity._snapshot = snapshot  # noqa: SLF001
    entity._loaded = now  # noqa: SLF001


def changes_of(entity: LockedModel) -> Changes:
    """
    The fields that differ from what was loaded.

    For an entity made in Python: all of them.
    """
    loaded = entity._loaded  # noqa: SLF001
    if loaded is None:
        return new_fields_of(entity, exists=False)
    now = {key: encode(value) for key, value in entity.stored().items()}
    seen = entity._seen  # noqa: SLF001
    values = {key: value for key, value in now.items() if loaded.get(key) != value}
    return Changes(values, {key: seen.get(key) for key in values})


def new_fields_of(entity: LockedModel, exists: bool) -> Changes:
    """
    What an entity made in Python writes: everything into a new document, what was given into one that exists.
    """
    if not exists:
        return Changes({key: encode(value) for key, value in entity.stored().items()})
    given = entity.model_dump(by_alias=True, include=entity.model_fields_set - {"id", *entity.__holes__})
    return Changes({key: encode(value) for key, value in given.items()}, None)
