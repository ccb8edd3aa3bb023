"""
The words of a filter, as URLs and forms carry them.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from gcp_oncetask.checks.lengths import length
from gcp_oncetask.errors import UsageError

FILTERS: Final = ("status", "reason", "kind", "collection", "key", "older", "newer", "dismissed")
"""Names of the filters."""
_OPTIONS: Final = {"older": "older-than", "newer": "newer-than"}


def filters_of(asked: Mapping[str, str]) -> dict[str, str]:
    """
    Return the filters that are set in *asked*, in the order of ``FILTERS``.
    """
    found = {name: asked.get(name, "").strip() for name in FILTERS}
    return {name: text for name, text in found.items() if text}


def length_of(text: str, of: str) -> timedelta:
    """
    Read a length of time such as ``90s``, ``15min``, ``2h`` or ``3d``.

    Raises:
        UsageError: *text* is no such length.
    """
    try:
        return length(text)
    except ValueError as error:
        raise UsageError(f"{of}: {error}.") from None


def arguments_of(filters: Mapping[str, str]) -> dict[str, Any]:
    """
    Return the arguments of ``Locker.find`` for *filters*.

    Raises:
        UsageError: A length of time can't be read.
    """
    known: dict[str, Any] = {
        name: filters[name] for name in ("status", "reason", "kind", "collection", "key") if name in filters
    }
    for name, argument in (("older", "older_than"), ("newer", "newer_than")):
        if name in filters:
            known[argument] = length_of(filters[name], name)
    return known | ({"dismissed": True} if "dismissed" in filters else {})


def command_of(verb: str, filters: Mapping[str, str], *, cut: str | None = None) -> str:
    """
    Return the command line that does *verb* with *filters*; *cut*: on the records as they were at that time.
    """
    words = ["python", "-m", "gcp_oncetask", verb]
    for name, text in filters.items():
        words += ["--dismissed"] if name == "dismissed" else [f"--{_OPTIONS.get(name, name)}", text]
    words += [] if cut is None else ["--cut-off", cut]
    return shlex.join(words)
