"""
Apply a ``Write`` to one document. Pure: it works on a copy of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import grpc

from gcp_emulator.firestore.messages import (
    AnyDocument,
    AnyFields,
    AnyTransform,
    AnyValue,
    AnyWrite,
    Document,
    Value,
    set_time,
)
from gcp_emulator.firestore.paths import FieldPath, Segments, invalid, path_size, written_path
from gcp_emulator.firestore.values import (
    add_numbers,
    check_name,
    check_size,
    drop,
    find,
    is_nan,
    is_number,
    place,
    settle,
    sort_key,
)
from gcp_emulator.rpc import RpcError

TRANSFORMS = 500
_TIMES = (-62_135_596_800, 253_402_300_799)

Kind = Literal["insert", "update", "upsert", "delete"]


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """
    One version of a document; never changed once stored.

    Attributes:
        path: Name below the database, such as ``orders/42``.
        segments: The parts of the path, by which ``__name__`` sorts.
        document: The message, times included.
        version: ``update_time`` in microseconds.
        created: ``create_time`` in microseconds.
    """

    path: str
    segments: Segments
    document: AnyDocument
    version: int
    created: int


@dataclass(slots=True)
class Change:
    """
    The changes of one document by the writes of one Commit.

    Attributes:
        name: Full resource name.
        segments: Its ids below the database.
        before: As stored, None if it doesn't exist.
        document: As it is now, on the way; None if it doesn't exist.
        kind: Kind of the latest write, None before the first.
        required: The version that the first write asked for.
        failure: The precondition that doesn't hold, to be raised once all writes were found right in themselves.
        deleted: A write of this Commit deleted it; a later write creates it again.
    """

    name: str
    segments: Segments
    before: Stored | None
    document: AnyDocument | None = None
    kind: Kind | None = None
    required: int | None = None
    failure: RpcError | None = None
    deleted: bool = False
    transforms: int = 0

    def apply(self, write: AnyWrite, arrived: int) -> list[AnyValue]:
        """
        Apply one more write.

        Args:
            write: Belongs to this document.
            arrived: Time at which the request arrived, microseconds; REQUEST_TIME is this time, cut to milliseconds.

        Returns:
            The transforms' results.
        """
        operation = write.WhichOneof("operation")
        kind, required = _intent(write, operation)
        if self.kind is None:
            self.failure = self._precondition_failure(write, required)
            self.required = required
        else:
            self._check_later(kind, required)
        if operation == "delete":
            self._delete(write)
            self.kind = kind
            return []
        self._write(write, operation)
        self.kind = kind
        transforms = write.transform.field_transforms if operation == "transform" else write.update_transforms
        return self._transform(transforms, arrived) if transforms else []

    def finish(self, version: int) -> Stored | None:
        """
        The document as this Commit leaves it; the very ``before`` if nothing changed.

        Args:
            version: The Commit's time in microseconds.
        """
        document, before = self.document, self.before
        if document is None:
            return None
        check_size(document)
        created = version
        if before is not None and not self.deleted:
            created = before.created
            document.create_time.CopyFrom(before.document.create_time)
            document.update_time.CopyFrom(before.document.update_time)
            # Compared as bytes, because NaN differs from itself and 0.0 does not from -0.0.
            if document.SerializeToString(deterministic=True) == before.document.SerializeToString(deterministic=True):
                return before
        else:
            set_time(document.create_time, created)
        set_time(document.update_time, version)
        return Stored("/".join(self.segments), self.segments, document, version, created)

    def _precondition_failure(self, write: AnyWrite, required: int | None) -> RpcError | None:
        if required is not None:
            stored = 0 if self.before is None else self.before.version
            if 0 < stored < required:
                return invalid(f"Invalid base version, it is greater than the stored version: {self.name}")
            if stored != required:
                return RpcError(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    f"the stored version ({stored}) does not match the required base version ({required})",
                )
        elif write.current_document.HasField("exists"):
            if write.current_document.exists and self.before is None:
                return RpcError(grpc.StatusCode.NOT_FOUND, f"no entity to update: {self.name}")
            if not write.current_document.exists and self.before is not None:
                return RpcError(grpc.StatusCode.ALREADY_EXISTS, f"entity already exists: {self.name}")
        return None

    def _check_later(self, kind: Kind, required: int | None) -> None:
        """
        Later writes of a Commit see earlier ones; a write that contradicts them is refused, independent of the stored
        document.
        """
        if kind == "insert" and self.kind != "delete":
            raise invalid(f"Cannot {self.kind} then insert an entity in the same request.")
        if kind == "update" and self.kind == "delete":
            raise invalid("Cannot delete then update an entity in the same request.")
        if required is not None and required != self.required:
            raise invalid(
                "Cannot collapse mutations with different version preconditions "
                f"({self.required} and {required}): put the precondition on the first write of {self.name}."
            )

    def _delete(self, write: AnyWrite) -> None:
        if write.HasField("update_mask"):
            raise invalid("a delete must not specify a document mask.")
        if write.update_transforms:
            raise invalid("a delete must not specify a update transform.")
        # After a first write it is known whether the document exists; a delete that says otherwise is wrong.
        condition = write.current_document
        if self.kind is not None and condition.HasField("exists") and condition.exists is (self.kind == "delete"):
            raise invalid(f"Cannot {self.kind} then delete an entity in the same request.")
        self.document = None
        self.deleted = True

    def _write(self, write: AnyWrite, operation: str) -> None:
        if operation == "transform":
            if write.HasField("update_mask"):
                raise invalid("a transform must not specify a document mask.")
            if not write.transform.field_transforms:
                raise invalid("The list of FieldTransform must not be empty.")
            self.document = self._working()
        elif write.HasField("update_mask"):
            # The fields that the mask leaves out must be storable, too.
            fields = self._settled(write).fields
            self.document = self._working()
            _merge(self.document.fields, fields, write.update_mask.field_paths)
        else:
            self.document = self._settled(write)

    def _settled(self, write: AnyWrite) -> AnyDocument:
        document = Document(name=self.name)
        document.fields.MergeFrom(write.update.fields)
        for name, value in document.fields.items():
            check_name(name)
            settle(value, name)
        return document

    def _working(self) -> AnyDocument:
        if self.document is not None:
            return self.document
        document = Document(name=self.name)
        if self.before is not None and not self.deleted:
            document.fields.MergeFrom(self.before.document.fields)
        return document

    def _transform(self, transforms: list[AnyTransform], arrived: int) -> list[AnyValue]:
        self.transforms += len(transforms)
        if self.transforms > TRANSFORMS:
            raise invalid(f"At most {TRANSFORMS} field transforms can be applied to a document in one commit.")
        paths = [written_path(transform.field_path) for transform in transforms]
        _check_nesting(paths)
        assert self.document is not None
        fields = self.document.fields
        return [
            _transformed(fields, path, transform, arrived) for path, transform in zip(paths, transforms, strict=True)
        ]


def _intent(write: AnyWrite, operation: str) -> tuple[Kind, int | None]:
    """
    Return the operation of a write, and the version that it requires, in microseconds.
    """
    required = None
    kind: Kind = "upsert"
    if write.HasField("current_document"):
        condition = write.current_document.WhichOneof("condition_type")
        if condition == "update_time":
            time = write.current_document.update_time
            if not 0 <= time.nanos <= 999_999_999 or not _TIMES[0] <= time.seconds <= _TIMES[1]:
                raise invalid(
                    "The update_time is no valid timestamp: years 1 to 9999, and nanos from 0 to 999,999,999."
                )
            if time.seconds < 0:
                raise invalid("Only timestamps past epoch are supported.")
            if time.nanos % 1000:
                raise invalid("timestamp cannot have more than microseconds precision")
            required = time.seconds * 1_000_000 + time.nanos // 1000
            kind = "update"
        elif condition == "exists":
            kind = "update" if write.current_document.exists else "insert"
    return ("delete" if operation == "delete" else kind), required


def _merge(target: AnyFields, source: AnyFields, mask: list[str]) -> None:
    """
    Make *target* like *source* at the paths of *mask*, and leave the rest.
    """
    for text in mask:
        path = written_path(text)
        value = find(source, path)
        if value is None:
            drop(target, path)
            continue
        place(target, path).CopyFrom(value)


def _check_nesting(paths: list[FieldPath]) -> None:
    if len(paths) == 1:
        return
    known = set(paths)
    for path in paths:
        for length in range(1, len(path)):
            if path[:length] in known:
                outer = ".".join(path[:length])
                raise invalid(f"Cannot transform property {outer} and its nested property at the same time.")


def _transformed(fields: AnyFields, path: FieldPath, transform: AnyTransform, arrived: int) -> AnyValue:
    operation = transform.WhichOneof("transform_type")
    match operation:
        case "set_to_server_value":
            if transform.set_to_server_value != 1:
                raise invalid("The server value must be REQUEST_TIME.")
            value = place(fields, path)
            set_time(value.timestamp_value, arrived - arrived % 1000)
            # A time at the epoch would otherwise leave the value unset.
            value.timestamp_value.SetInParent()
            return _copy(value)
        case "increment" | "maximum" | "minimum":
            return _calculated(fields, path, operation, getattr(transform, operation))
        case "append_missing_elements":
            _append(fields, path, transform.append_missing_elements.values)
        case "remove_all_from_array":
            _remove(fields, path, transform.remove_all_from_array.values)
        case _:
            raise invalid("Operation type must be specified for field transformation.")
    return Value(null_value=0)


def _calculated(fields: AnyFields, path: FieldPath, operation: str, operand: AnyValue) -> AnyValue:
    if not is_number(operand):
        raise invalid("Input must be int64 or double.")
    old = find(fields, path)
    if not is_number(old):
        place(fields, path).CopyFrom(operand)
    elif operation == "increment":
        add_numbers(old, operand)
    elif is_nan(operand):
        old.CopyFrom(operand)  # type: ignore[union-attr]  # is_number has ruled None out
    elif not is_nan(old):
        new, present = sort_key(operand), sort_key(old)
        if new > present if operation == "maximum" else new < present:
            old.CopyFrom(operand)  # type: ignore[union-attr]  # is_number has ruled None out
    return _copy(find(fields, path))


def _append(fields: AnyFields, path: FieldPath, elements: list[AnyValue]) -> None:
    elements = _settled(elements, path)
    array = _array(fields, path)
    present = {sort_key(element) for element in array.values}
    for element in elements:
        key = sort_key(element)
        if key not in present:
            present.add(key)
            array.values.add().CopyFrom(element)


def _remove(fields: AnyFields, path: FieldPath, elements: list[AnyValue]) -> None:
    unwanted = {sort_key(element) for element in _settled(elements, path)}
    array = _array(fields, path)
    for at in range(len(array.values) - 1, -1, -1):
        if sort_key(array.values[at]) in unwanted:
            del array.values[at]


def _settled(elements: list[AnyValue], path: FieldPath) -> list[AnyValue]:
    settled = [_copy(element) for element in elements]
    for element in settled:
        if element.WhichOneof("value_type") == "array_value":
            raise invalid("Cannot convert an array value in an array value.")
        settle(element, path[-1], len(path), path_size(path[:-1]) + 1)
    return settled


def _copy(value: AnyValue) -> AnyValue:
    copy = Value()
    copy.CopyFrom(value)
    return copy


def _array(fields: AnyFields, path: FieldPath) -> AnyValue:
    """
    The array at *path*; anything else there is replaced by an empty one.
    """
    value = place(fields, path)
    value.array_value.SetInParent()
    return value.array_value
