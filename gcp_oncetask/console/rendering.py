"""
Pages from templates. The only importer of jinja2: an environment of its own, which no setting of the application changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime, tzinfo
from importlib import resources
from typing import Any, Final, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from gcp_oncetask.checks.values import printable
from gcp_oncetask.console.formats import absolute, ago

_FOLDER: Final = resources.files("gcp_oncetask.console") / "static"
TYPES: Final = {
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""The static files, with their content types."""


class StaticFile(NamedTuple):
    """
    A static file.

    Attributes:
        body: Its contents.
        digest: A hash of them, which is a part of its URL.
        type: Its content type.
    """

    body: bytes
    digest: str
    type: str


def static_files() -> dict[str, StaticFile]:
    """
    Read the static files.
    """
    found = {}
    for name, kind in TYPES.items():
        body = (_FOLDER / name).read_bytes()
        found[name] = StaticFile(body, hashlib.sha256(body).hexdigest()[:16], kind)
    return found


def environment() -> Environment:
    """
    Return the environment of the templates. It escapes all values.
    """
    made = Environment(
        loader=PackageLoader("gcp_oncetask.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["plain"] = plain
    return made


def plain(text: Any) -> str:
    """
    Return *text* without control characters and marks of direction, which could change the look of the words around it.
    """
    return "\n".join(printable(line) for line in str(text).split("\n"))


def time_in(zone: tzinfo, now: datetime) -> Callable[[datetime | None], str]:
    """
    Return a function that tells an instant in words, relative to *now* and in *zone*; an empty text for None.
    """

    def told(at: datetime | None) -> str:
        return "" if at is None else f"{ago(at, now)}, {absolute(at, now, zone)}"

    return told
