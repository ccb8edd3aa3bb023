"""
The life of the sealed parts of a journal: they end with the record that lists them. No call is made here.

A commit that drops parts, because a sequence begins anew or a record is erased, deletes them itself. A commit that sets or
clears ``expireAt`` of a once-task does the same for its parts. So no part is left over, and a part that is missing holds up
no commit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gcp_oncetask.rules import journal
from gcp_oncetask.rules.document_paths import JOURNALS
from gcp_oncetask.rules.record import Chunk, Lock
from gcp_oncetask.store.codec import Value
from gcp_oncetask.store.retiring import EXPIRE_AT
from gcp_oncetask.store.snapshot import WriteType


def chunk_writes(
    name: Callable[[str], str], before: Lock | None, after: Lock, fields: Mapping[str, Value | None]
) -> list[Any]:
    """
    Return the writes to sealed parts that belong to the step from *before* to *after*.

    Args:
        name: Returns the full name of the document at a path.
        before: The record before; None: there is none.
        after: The record after.
        fields: Fields of the record's document that the step writes; None deletes one.
    """
    made = [] if before is None else [deletion(name, chunk) for chunk in journal.left_out(before, after)]
    if EXPIRE_AT in fields:
        made += [_expiring(name, chunk, fields[EXPIRE_AT]) for chunk in after.chunks]
    return made


def path_of(chunk: Chunk) -> str:
    """
    Return the path of the document of *chunk*.
    """
    return f"{JOURNALS}/{chunk.id}"


def deletion(name: Callable[[str], str], chunk: Chunk) -> Any:
    """
    Return the write that deletes *chunk*, whether it exists or not.
    """
    return WriteType(delete=name(path_of(chunk)))


def _expiring(name: Callable[[str], str], chunk: Chunk, at: Value | None) -> Any:
    write = WriteType()
    write.update.name = name(path_of(chunk))
    write.update_mask.field_paths.append(EXPIRE_AT)
    if at is not None:
        write.update.fields[EXPIRE_AT].CopyFrom(at)
    return write
