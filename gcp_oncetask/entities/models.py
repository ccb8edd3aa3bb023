"""
Models of user code: pydantic models with a lock embedded in their document.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import repeat
from operator import is_
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias, TypeVar, Unpack

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gcp_oncetask.checks import field_types, values, words
from gcp_oncetask.checks.class_arguments import EntityMeta, hand_on
from gcp_oncetask.checks.paths import trouble_with_id, trouble_with_path, valid_path
from gcp_oncetask.checks.round_trip import is_equal, loss, unreadable
from gcp_oncetask.checks.told import harmless, problems
from gcp_oncetask.errors import UsageError
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.store import registry
from gcp_oncetask.store.codec import Value, as_loaded, decode, encode
from gcp_oncetask.store.fields import encode_fields
from gcp_oncetask.store.json_data import check_fields
from gcp_oncetask.store.snapshot import NO_CHANGES, Changes, Snapshot, Update

if TYPE_CHECKING:
    from gcp_oncetask.execution.running import RunningAttempt

M = TypeVar("M", bound="LockedModel")
MaybeNone: TypeAlias = Any
"""
``Any`` in place of None, as in typeshed: type checkers check the names in ``locker.get(Order, "42").lock.status``, but do
not demand a check for None first. The caller knows that the document exists.
"""

_HOLE: Final = re.compile(r"\{(\w+)\}")


_PLAIN: Final = frozenset({str, int, bool, type(None)})
_MISSING: Final = object()


@dataclass(slots=True)
class Binding:
    """
    The link of an entity to its document.

    Attributes:
        snapshot: The document as of the last load or write.
        saved: Fields as they are stored, by stored name: plain Python values, other values encoded.
        seen: The stored fields with which changes by other writers are detected; None: use *saved*.
        attempt: The attempt to which the entity belongs; None outside a handler.
    """

    snapshot: Snapshot
    saved: dict[str, Any]
    seen: dict[str, Value] | None
    attempt: RunningAttempt | None = None


class LockedModel(BaseModel, metaclass=EntityMeta):
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
    __parts__: ClassVar[set[str]] = {"id"}
    __pattern__: ClassVar[re.Pattern[str]]
    __plain__: ClassVar[bool] = True
    """True if no field has a part that is not stored, so that a field whose stored form is unchanged is unchanged itself."""
    __other_form__: ClassVar[bool] = False
    """
    True if the model is read from another form than the usual one: it has ``Json`` fields, or refuses its own computed
    fields.
    """

    id: str = Field(min_length=1)

    @classmethod
    def __pydantic_init_subclass__(cls, *, collection: str | None = None, **kwargs: Any) -> None:
        """
        Check the fields and the collection.

        Raises:
            UsageError: The path is no collection's, a field is called ``lock``, or no value of a field could be stored and
                loaded again.
        """
        super().__pydantic_init_subclass__(**kwargs)
        if "lock" in cls.model_fields:
            raise UsageError(f"{cls.__name__} has a field named 'lock'; that name is the library's.")
        field_types.check_model(cls, field_types.ENTITY)
        cls.__plain__ = field_types.is_plain(cls)
        cls.__other_form__ = field_types.reads_other_forms(cls)
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
        cls.__parts__ = {"id", *holes}
        cls.__pattern__ = re.compile("/".join(_pattern(part) for part in [*parts, "{id}"]))
        registry.DECLARED[collection] = cls

    @classmethod
    def __init_subclass__(cls, *, collection: str | None = None, **kwargs: Unpack[ConfigDict]) -> None:
        """
        Accept ``collection=`` as a class argument, besides those of pydantic's configuration.

        Raises:
            UsageError: There is another class argument.
        """
        hand_on(cls.__name__, {**kwargs}, ("collection",), super().__init_subclass__)

    @property
    def lock(self) -> Lock | MaybeNone:
        """
        The lock as of the last load, schedule or complete, or None; read-only.
        """
        binding = binding_of(self)
        return None if binding is None else binding.snapshot.lock

    @property
    def document_path(self) -> str:
        """
        Path of the document below its database.
        """
        holes = {hole: getattr(self, hole) for hole in self.__holes__} if self.__holes__ else {}
        return path_of(type(self), self.id, holes)

    def stored(self) -> dict[str, Any]:
        """
        Return the fields that are stored besides the lock: by alias, without the parts of the path.
        """
        usual = self.model_dump(by_alias=True, exclude=self.__parts__, warnings=False)
        if not self.__other_form__:
            return usual
        read = self.model_dump(by_alias=True, exclude=self.__parts__, round_trip=True, warnings=False)
        return read if self.model_config.get("extra") == "forbid" else usual | read


def path_of(model: type[LockedModel], id_: str, holes: Mapping[str, Any]) -> str:
    """
    Return the path of a document of *model*.

    Raises:
        UsageError: The model has no collection, a part of the path is missing or unknown, or the path can't name a
            document.
    """
    if not model.__collection__:
        raise UsageError(
            f'{model.__name__} has no collection; declare it: class {model.__name__}(LockedModel, collection="...").'
        )
    collection = model.__collection__
    if model.__holes__ or holes:
        unknown = [part for part in holes if part not in model.__holes__]
        if unknown:
            raise UsageError(words.unknown(model.__name__, unknown, model.__holes__))
        missing = [hole for hole in model.__holes__ if holes.get(hole) in (None, "")]
        if missing:
            raise UsageError(f"{model.__name__} needs {missing[0]}= to tell which document is meant.")
        collection = _HOLE.sub(lambda m: values.name(str(holes[m[1]]), m[1]), collection)
    path = f"{collection}/{id_}"
    trouble = trouble_with_path(path)
    right = trouble is None and path.count("/") == model.__collection__.count("/") + 1
    if right and isinstance(id_, str) and "\0" not in id_:
        return path
    values.name(id_, "id")
    for name, text in {"id": str(id_), **{hole: str(holes[hole]) for hole in model.__holes__}}.items():
        wrong = trouble_with_id(text)
        # A field may fill only a part of an id, but its text is checked as if it were a whole one.
        if wrong is not None:
            raise UsageError(f"{model.__name__}: the {name} {text!r:.80} can't be (part of) a document's id: {wrong}.")
    raise UsageError(f"{model.__name__}: {path!r:.80} can't name a document: {trouble}.")


def parts_of(model: type[LockedModel], path: str) -> dict[str, str] | None:
    """
    Return the id and the collection's fields in *path*; None if it is no document of *model*.
    """
    if not model.__holes__:
        collection, _, id_ = path.rpartition("/")
        return {"id": id_} if collection == model.__collection__ else None
    match = model.__pattern__.fullmatch(path)
    return None if match is None else match.groupdict()


def misrouted(model: type[LockedModel], path: str) -> str | None:
    """
    Return a sentence if the document at *path* does not belong to *model*, so that a delivery for it has reached the wrong
    handler; else None.
    """
    if parts_of(model, path) is not None:
        return None
    here = sorted(registry.DECLARED.items())
    others = [f"{each.__name__} ({name!r})" for name, each in here if parts_of(each, path) is not None]
    whose = f"is a document of {' or of '.join(others)}" if others else "is a document of no model that is known here"
    return f"{path} {whose}, and this route is that of {model.__name__} ({model.__collection__!r})"


def _pattern(part: str) -> str:
    pieces = _HOLE.split(part)
    return "".join(f"(?P<{piece}>[^/]+)" if i % 2 else re.escape(piece) for i, piece in enumerate(pieces))


def load(
    model: type[M], snapshot: Snapshot, reference: Callable[[str], Any], attempt: RunningAttempt | None = None
) -> M:
    """
    Return the entity stored in *snapshot*.

    Args:
        model: Its model.
        snapshot: Its document.
        reference: Makes a document reference of a full name.
        attempt: The attempt to which the entity belongs, by which schedule() and complete() find it; None: there is none.

    Raises:
        UsageError: The path or the stored fields do not fit the model; the message lists them.
    """
    fields = snapshot.fields
    parts = parts_of(model, snapshot.path)
    if parts is None:
        raise UsageError(f"{snapshot.path} is not a document of {model.__name__} ({model.__collection__!r}).")
    data = {key: decode(value, reference) for key, value in fields.items()}
    try:
        entity = model.model_validate(data | parts)
    except ValidationError as error:
        raise UsageError(f"{snapshot.path} does not fit {model.__name__}: {problems(error)}.") from harmless(error)
    _bind(entity, Binding(snapshot, _all_kept(entity), fields, attempt))
    return entity


def binding_of(entity: LockedModel) -> Binding | None:
    """
    Return the link of *entity* to its document; None if the entity was made in Python.
    """
    # The binding is one of pydantic's private attributes, so that it is copied with the entity. It is not declared, because
    # each entity would then call a function for its default.
    private = entity.__pydantic_private__
    return None if private is None else private.get("_binding")


def _bind(entity: LockedModel, binding: Binding) -> None:
    private = entity.__pydantic_private__
    if private is None:
        object.__setattr__(entity, "__pydantic_private__", {"_binding": binding})
    else:
        private["_binding"] = binding


def remember(entity: LockedModel, snapshot: Snapshot) -> None:
    """
    Record that the changes of *entity* are stored in *snapshot*; later differences are new changes.
    """
    binding = binding_of(entity)
    if binding is None:
        source = snapshot.source
        if isinstance(source, Update) and source.before.source is None:
            # The document is new, so the written fields are all of its fields.
            _bind(entity, Binding(snapshot, dict(source.changes.values), None))
        else:
            _bind(entity, Binding(snapshot, _all_kept(entity), None))
        return
    binding.snapshot = snapshot
    for key, value in entity.stored().items():
        # Other writers may have changed the fields that were not written; those keep the values of the load.
        if not _same(binding.saved, key, value):
            binding.saved[key] = _kept(value)
            if binding.seen is not None:
                binding.seen[key] = encode(value)


def _kept(value: Any) -> Any:
    # The entity may change lists and maps in place; their encoding does not change with them.
    return value if type(value) in _PLAIN else encode(value)


def _all_kept(entity: LockedModel) -> dict[str, Any]:
    stored = entity.stored()
    if _PLAIN.issuperset(map(type, stored.values())):
        return stored
    return {key: value if type(value) in _PLAIN else encode(value) for key, value in stored.items()}


def _encoded(kept: Any) -> Value:
    return encode(kept) if type(kept) in _PLAIN else kept


def _same(saved: Mapping[str, Any], key: str, value: Any) -> bool:
    if key not in saved:
        return False
    was = saved[key]
    if was is value:
        return True
    if type(value) in _PLAIN and type(was) in _PLAIN:
        # True == 1 in Python, not in Firestore.
        return type(value) is type(was) and bool(value == was)
    return bool(encode(value) == _encoded(was))


def changes_of(entity: LockedModel) -> Changes:
    """
    Return the fields that differ from the loaded ones.

    For an entity made in Python these are all fields.
    """
    binding = binding_of(entity)
    if binding is None:
        return new_fields_of(entity, exists=False)
    stored, saved = entity.stored(), binding.saved
    # Most fields are unchanged, the very same objects.
    if entity.__plain__ and all(map(is_, stored.values(), map(saved.get, stored, repeat(_MISSING)))):
        return NO_CHANGES
    try:
        changed = {
            key: value
            for key, value in stored.items()
            if saved.get(key, _MISSING) is not value and not _same(saved, key, value)
        }
    except (UsageError, UnicodeEncodeError, RecursionError):
        # A value that can't be encoded was not loaded, so it is a change.
        changed = stored
    if not changed and entity.__plain__:
        return NO_CHANGES
    encoded = _fields_of(entity, changed, stored)
    if not encoded:
        return NO_CHANGES
    seen = binding.seen
    if seen is None:
        seen = {key: _encoded(saved[key]) for key in encoded if key in saved}
    return Changes(encoded, {key: seen.get(key) for key in encoded})


def new_fields_of(entity: LockedModel, exists: bool) -> Changes:
    """
    Return the fields that an entity made in Python writes: all of them into a new document, only the given ones into an
    existing one.
    """
    stored = entity.stored()
    if not exists:
        return Changes(_fields_of(entity, stored, stored))
    fields = type(entity).model_fields
    names = entity.model_fields_set - entity.__parts__
    keys = {(fields[name].serialization_alias if name in fields else None) or name for name in names}
    given = {key: value for key, value in stored.items() if key in keys}
    return Changes(_fields_of(entity, given, stored), None)


def _fields_of(entity: LockedModel, written: dict[str, Any], stored: dict[str, Any]) -> dict[str, Value]:
    """
    Encode the fields *written*, after a check that loading all *stored* fields gives an equal entity.

    Raises:
        UsageError: The loaded entity would differ, or Firestore can't hold a value; the message names the field.
    """
    model, plain = type(entity), stored
    if not _PLAIN.issuperset(map(type, stored.values())):
        plain = {key: value if type(value) in _PLAIN else _loaded(model, key, value) for key, value in stored.items()}
    try:
        whole = dict(plain)
        for part in model.__parts__:
            whole[part] = str(getattr(entity, part))
        loaded = model.model_validate(whole)
        same = is_equal((entity.__dict__, entity.__pydantic_extra__), (loaded.__dict__, loaded.__pydantic_extra__))
        found = None if same else loss(entity, loaded, entity=True)
    except Exception as error:  # noqa: BLE001 - validators are users' code
        found = unreadable(error)
    if found is not None:
        raise UsageError(f"{model.__name__}: {found}")
    if plain is not stored and any(type(plain[key]) in (dict, list) for key in written):
        check_fields(plain, model.__name__)
    return encode_fields(written, model.__name__)


def _loaded(model: type[LockedModel], key: str, value: Any) -> Any:
    try:
        return as_loaded(value)
    except UsageError as error:
        raise UsageError(f"{key} of {model.__name__} can't be stored: {error}") from error
