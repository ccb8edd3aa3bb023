"""
Documents in the order of the instants at the end of an indexed text; the beginnings of the texts do not count.

An indexed text is ``{beginning}/{instant}``. Its beginnings are shards, reasons, kinds or states, and each has its documents in
order. This module finds the beginnings, and merges their documents page by page. All queries are for a range of one field.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any, Final, NamedTuple

from gcp_oncetask.rules.document_paths import AFTER
from gcp_oncetask.store.codec import Document, DocumentType
from gcp_oncetask.store.queries import Area, page_of, text_in
from gcp_oncetask.store.store import Store

_NEXT: Final = "\0"


class Position(NamedTuple):
    """
    The place of a document in the order: its instant as it is stored, then the segments of its path, as Firestore sorts names.
    """

    instant: str
    segments: tuple[str, ...]

    @property
    def path(self) -> str:
        """
        Path of the document.
        """
        return "/".join(self.segments)


class Seen(NamedTuple):
    """
    A document that was found.

    Attributes:
        place: Its place in the order.
        document: The document.
        read: Server's time of the read.
    """

    place: Position
    document: Document
    read: datetime | None


@dataclass(frozen=True, slots=True)
class Span:
    """
    Texts that begin with one of several beginnings, in one collection or collection group.

    Attributes:
        area: The collection.
        field: The indexed field.
        floor: Beginning of all of these texts, such as ``prod/failed/``.
    """

    area: Area
    field: str
    floor: str


def in_order(store: Store, spans: Sequence[Span], *, page: int, after: Position | None = None) -> Iterator[Seen]:
    """
    Yield the documents of *spans*, by their instants, then by their paths.

    The first query of a span reads up to *page* documents; if these are all, it is the only one.

    Args:
        store: The store.
        spans: The texts.
        page: Documents of one query.
        after: Position after which to begin; None: at the beginning.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    streams = [stream for span in spans for stream in _streams(store, span, page, after)]
    for seen in heapq.merge(*streams, key=lambda seen: seen.place):
        if after is None or seen.place > after:
            yield seen


def _streams(store: Store, span: Span, page: int, after: Position | None) -> Iterator[Iterator[Seen]]:
    """
    Yield one stream for each beginning that has documents.
    """
    floor, ceiling = span.floor, f"{span.floor.removesuffix('/')}{AFTER}"
    # Behind a place, the first document of a beginning only shows that the beginning exists.
    limit = page if after is None else 1
    while True:
        found, read = page_of(store, span.area.where, span.field, floor, ceiling, limit)
        last = None
        for beginning, group in groupby(found, key=lambda document: _split(document, span.field)[0]):
            first, last = list(group), beginning
            whole = len(found) < limit or first[-1] is not found[-1]
            if after is None:
                yield _documents(store, span, beginning, first, read, page, whole=whole)
            else:
                yield _behind(store, span, beginning, page, after)
        if len(found) < limit or last is None:
            return
        floor = f"{last}{AFTER}" + _NEXT


def _behind(store: Store, span: Span, beginning: str, page: int, after: Position) -> Iterator[Seen]:
    floor = f"{beginning}/{after.instant}"
    # Only the name of a document of this collection is a cursor; documents of others at the same instant are read again.
    last = _cursor(store, span.field, floor, after) if _is_in(span.area, after) else None
    found, read = page_of(store, span.area.where, span.field, floor, f"{beginning}{AFTER}", page, last)
    yield from _documents(store, span, beginning, found, read, page, whole=len(found) < page)


def _documents(
    store: Store,
    span: Span,
    beginning: str,
    found: Sequence[Document],
    read: datetime | None,
    page: int,
    *,
    whole: bool,
) -> Iterator[Seen]:
    """
    Yield the documents of one beginning: those of *found*, then page after page unless these are all.
    """
    while True:
        for document in found:
            path = store.wire.path(document.name)
            if span.area.has(path):
                yield Seen(Position(_split(document, span.field)[1], tuple(path.split("/"))), document, read)
        if whole or not found:
            return
        last = found[-1]
        floor = text_in(last, span.field)
        found, read = page_of(store, span.area.where, span.field, floor, f"{beginning}{AFTER}", page, last)
        whole = len(found) < page


def _split(document: Document, field: str) -> tuple[str, str]:
    beginning, _, instant = text_in(document, field).rpartition("/")
    return beginning, instant


def _is_in(area: Area, place: Position) -> bool:
    if area.templates:
        return area.has(place.path)
    return place.path.rpartition("/")[0] == str(area)


def _cursor(store: Store, field: str, text: str, after: Position) -> Any:
    """
    Return a message with the text and the name behind which a page begins.
    """
    made = DocumentType(name=store.wire.name(after.path))
    outer, _, inner = field.partition(".")
    if inner:
        made.fields[outer].map_value.fields[inner].string_value = text
    else:
        made.fields[outer].string_value = text
    return made
