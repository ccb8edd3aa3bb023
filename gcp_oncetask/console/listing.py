"""
The list of records, by the filters of its URL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gcp_oncetask.console.access import Visitor
from gcp_oncetask.console.asked import arguments_of, command_of, filters_of
from gcp_oncetask.console.page import ConsolePage
from gcp_oncetask.entities.chains import runtime_of
from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.errors import OncetaskError, StoreError, UsageError
from gcp_oncetask.rules.attention import ASKING
from gcp_oncetask.rules.record import Status

ROWS: Final = 50
"""Records of a page."""
_SHOWN: Final = 80
"""Characters of an error in a list."""


def page(locker: Locker, kinds: Sequence[str], visitor: Visitor, asked: Mapping[str, str]) -> ConsolePage:
    """
    One page of the list; without a filter, of the records that need a person.
    """
    filters, after = filters_of(asked), asked.get("after") or None
    found, trouble, status = None, "", 200
    try:
        found = locker.find(**arguments_of(filters), limit=ROWS, after=after)
    except (UsageError, StoreError) as error:
        trouble, status = str(error), 400 if isinstance(error, UsageError) else 503
    values = {
        "found": found,
        "rows": [] if found is None else [_row(each, visitor) for each in found.items],
        "trouble": trouble,
        "filters": filters,
        "after": after,
        "statuses": tuple(map(str, Status)),
        "reasons": tuple(map(str, ASKING)),
        "kinds": kinds,
        "collections": _collections(locker),
        "command": command_of("list", filters),
    }
    read = None if found is None else found.read
    return ConsolePage(template="list.html", title="Tasks", values=values, status=status, read=read, live=5, rows=True)


def _row(each: Any, visitor: Visitor) -> tuple[Any, str]:
    """
    Return a record, and the beginning of its last error, which only an operator sees.
    """
    text = each.last_error or ""
    if not visitor.acts:
        return each, "hidden" if text else ""
    return each, text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _collections(locker: Locker) -> list[str]:
    runtime = runtime_of(locker)
    try:
        known = [each.collection for each in runtime.registry.all()[0]]
    except OncetaskError:
        known = []
    return sorted({*known, *runtime.collections})
