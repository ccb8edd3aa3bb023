"""
Resource names and field paths: taken apart, checked, put together.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NoReturn, Self

import grpc

from gcp_emulator.rpc import RpcError

Segments = tuple[str, ...]
FieldPath = tuple[str, ...]

NAME: FieldPath = ("__name__",)
ID_BYTES = 1500
PATH_BYTES = 1500
NAME_BYTES = 6 * 1024
COLLECTIONS_DEEP = 100

_NUMBERED = re.compile(r"__id(-?[1-9][0-9]*)__")
_NUMBERS = range(-(2**63), 2**63)
_DIGITS = 20
_KINDS = ("collection", "resource")
_RESERVED = re.compile(r"__.*__", re.DOTALL)
_DATABASE = re.compile(r"projects/[^/]+/databases/(\(default\)|[a-z][a-z0-9-]{2,61}[a-z0-9])")
_SEGMENT = re.compile(r"([a-zA-Z_][a-zA-Z_0-9]*)|`((?:[^`\\]|\\.)+)`", re.DOTALL)


class NumericId(str):
    """
    A document id such as ``__id5__``, as the numeric ids of entities imported from Datastore are shown.

    Such ids sort by their numbers, before all others.
    """

    __slots__ = ("number",)

    def __new__(cls, text: str, number: int) -> Self:
        made = super().__new__(cls, text)
        made.number = number
        return made

    number: int

    def __lt__(self, other: object) -> bool:
        if isinstance(other, NumericId):
            return self.number < other.number
        return True if isinstance(other, str) else NotImplemented

    def __gt__(self, other: object) -> bool:
        if isinstance(other, NumericId):
            return self.number > other.number
        return False if isinstance(other, str) else NotImplemented

    def __le__(self, other: object) -> bool:
        return self == other or self < other

    def __ge__(self, other: object) -> bool:
        return self == other or self > other

    __eq__ = str.__eq__
    __hash__ = str.__hash__


def ids_of(path: str) -> Segments:
    """
    Return the ids in *path*, those with a number as ``NumericId``.
    """
    parts = path.split("/")
    return tuple(map(_numbered, parts)) if "__id" in path else tuple(parts)


def _numbered(text: str) -> str:
    match = _NUMBERED.fullmatch(text)
    if match is None or len(match[1]) > _DIGITS or int(match[1]) not in _NUMBERS:
        return text
    return NumericId(text, int(match[1]))


def invalid(message: str) -> RpcError:
    """
    The refusal of a request that is wrong in itself.
    """
    return RpcError(grpc.StatusCode.INVALID_ARGUMENT, message)


def is_reserved(name: str) -> bool:
    """
    Tell whether an id or field name has the form that Firestore keeps for itself.
    """
    return name.startswith("__") and _RESERVED.fullmatch(name) is not None


def check_database(name: str) -> None:
    """
    Refuse a name that isn't ``projects/P/databases/D``.
    """
    if _DATABASE.fullmatch(name) is None:
        _explain("Database", name, ("projects", "", "databases", ""))
        raise invalid(
            f'Database name "{name}" is invalid: an id is (default) or 4 to 63 of lower-case letters, digits and "-".'
        )


@lru_cache(maxsize=4096)
def database_of(name: str, what: str) -> str:
    """
    The database that the resource *name* lies in.
    """
    database = "/".join(name.split("/", 4)[:4])
    if _DATABASE.fullmatch(database) is None or not name.startswith(f"{database}/documents"):
        _explain(what, name, ("projects", "", "databases", "", "documents"))
        raise invalid(f'{what} name "{name}" is invalid.')
    return database


@lru_cache(maxsize=4096)
def document_segments(name: str, database: str, what: str = "Document") -> Segments:
    """
    Ids of the document *name* below *database*, collection first.

    Raises:
        RpcError: Not a document's name, or one of another database.
    """
    prefix = f"{database}/documents/"
    if not name.startswith(prefix):
        found = database_of(name, what)
        if found != database:
            raise invalid(f'{what} name "{name}" is not in database "{database}".')
        raise invalid(f'{what} name "{name}" lacks a document path.')
    segments = ids_of(name[len(prefix) :])
    if len(segments) % 2 or not _plain(segments):
        _check_segments(segments, name, len(prefix), what)
    if len(name) > NAME_BYTES // 4 and name_size(segments) > NAME_BYTES:
        raise invalid(f"The document name is longer than {NAME_BYTES} bytes.")
    if len(segments) > 2 * COLLECTIONS_DEEP:
        raise invalid(f"A document can't lie more than {COLLECTIONS_DEEP} collections deep.")
    return segments


def name_size(segments: Segments) -> int:
    """
    Bytes that a document's name counts for.

    Source:
        Firestore, Understand storage size calculations.
    """
    return 16 + sum(len(segment.encode()) + 1 for segment in segments)


def parent_segments(name: str, database: str) -> Segments:
    """
    Ids of a query's parent: none for the database's root, else a document's.
    """
    if name == f"{database}/documents":
        return ()
    if name == f"{database}/documents/":
        raise invalid(f'Document parent name "{name}" is invalid: Omit trailing "/".')
    return document_segments(name, database, "Document parent")


def check_collection(collection: str) -> None:
    """
    Refuse a text that can't be a collection's id.
    """
    if "/" in collection:
        raise invalid(f'Collection id "{collection}" is invalid because it contains "/".')
    if is_reserved(collection) or collection in (".", ".."):
        raise invalid(f'Collection id "{collection}" is invalid because it is reserved.')


def check_document_id(id_: str) -> None:
    """
    Refuse a text that can't be a document's id.
    """
    if "/" in id_:
        raise invalid(f'Resource id "{id_}" is invalid because it contains "/".')
    if id_ in (".", ".."):
        raise invalid(f'Resource id "{id_}" is invalid because it is reserved.')
    _check_reserved(id_, collection=False)


def _plain(segments: Segments) -> bool:
    return all(s and len(s) <= ID_BYTES // 4 and s[0] not in "._" for s in segments)


def _check_segments(segments: Segments, name: str, index: int, what: str) -> None:
    for position, segment in enumerate(segments):
        if not segment:
            if position == len(segments) - 1:
                problem = 'is invalid: Omit trailing "/"' if position == 0 else 'has invalid trailing "/"'
                raise invalid(f'{what} name "{name}" {problem}.')
            raise invalid(f'{what} name "{name}" lacks a {_KINDS[position % 2]} id at index {index}.')
        if segment in (".", ".."):
            raise invalid(f'{what} name "{name}" contains a {_KINDS[position % 2]} id "{segment}" at index {index}.')
        _check_reserved(segment, collection=position % 2 == 0)
        if len(segment.encode()) > ID_BYTES:
            raise invalid(f"The key path element {'name' if position % 2 else 'kind'} is longer than {ID_BYTES} bytes.")
        index += len(segment) + 1
    if len(segments) % 2:
        raise invalid(f'{what} name "{name}" lacks "/" at index {len(name)}.')


def _check_reserved(id_: str, *, collection: bool) -> None:
    if not is_reserved(id_) or (not collection and isinstance(_numbered(id_), NumericId)):
        return
    if collection or not _NUMBERED.fullmatch(id_):
        raise invalid(f'{"Collection" if collection else "Resource"} id "{id_}" is invalid because it is reserved.')
    raise invalid(f'Resource id "{id_}" is invalid because it is not a 64 bit integer.')


def _explain(what: str, name: str, form: tuple[str, ...]) -> None:
    """
    Raise the sentence that says where *name* leaves the *form* (an empty string stands for any id), if it does.
    """
    parts = name.split("/")
    index = 0
    for position, expected in enumerate(form):
        if position >= len(parts):
            _refuse(f'{what} name "{name}" lacks "/" at index {len(name)}.')
        part = parts[position]
        if expected and part != expected:
            _refuse(f'{what} name "{name}" lacks "{expected}" at index {index}.')
        if not part:
            _refuse(f'{what} name "{name}" has invalid trailing "/".')
        index += len(part) + 1


def _refuse(message: str) -> NoReturn:
    raise invalid(message)


@lru_cache(maxsize=4096)
def field_path(text: str) -> FieldPath:
    """
    Names of the field path *text*, such as ``lock.due`` or ``a.`b c```.

    Raises:
        RpcError: Not a field path, one that is too long, or one with a reserved name other than ``__name__`` alone.
    """
    path = _parsed(text)
    if path_size(path) > PATH_BYTES:
        raise invalid(f"property path is longer than {PATH_BYTES} bytes.")
    if path != NAME:
        for number, name in enumerate(path):
            if name == NAME[0]:
                raise invalid("the name __key__ is reserved")
            if is_reserved(name):
                raise invalid(f"Invalid reserved name in field path {'.'.join(path[number:])}")
    return path


def path_size(path: FieldPath) -> int:
    """
    Bytes of the names in *path*, and of the dots between them.
    """
    return sum(len(name.encode()) for name in path) + len(path) - 1


def _parsed(text: str) -> FieldPath:
    if not text:
        raise invalid("Invalid empty property path string.")
    names = []
    at = 0
    while True:
        match = _SEGMENT.match(text, at)
        if match is None:
            break
        plain, quoted = match.groups()
        names.append(plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL))
        at = match.end()
        if at == len(text):
            return tuple(names)
        if text[at] != ".":
            break
        at += 1
    raise invalid(
        f'Invalid property path "{text}". Unquoted property paths must match regex ([a-zA-Z_][a-zA-Z_0-9]*), '
        r"and quoted property paths must match regex (`(?:[^`\\]|(?:\\.))+`)"
    )


@lru_cache(maxsize=4096)
def written_path(text: str) -> FieldPath:
    """
    A field path that may be written: ``__name__`` may not.
    """
    path = field_path(text)
    if path == NAME:
        raise invalid(f"Invalid reserved name in field path {NAME[0]}")
    return path
