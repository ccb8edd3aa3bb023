"""
Lengths of time, as people type them.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

_LENGTH: Final = re.compile(r"([0-9]{1,6})\s*(s|min|m|h|d)", re.ASCII)
_UNITS: Final = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days"}
_LONGEST: Final = timedelta(days=3650)


def length(text: str) -> timedelta:
    """
    Read a length of time such as ``90s``, ``15min``, ``90m``, ``12h`` or ``2d``.

    Raises:
        ValueError: *text* is none, or is longer than ten years.
    """
    found = _LENGTH.fullmatch(text.strip())
    read = timedelta(0) if found is None else timedelta(**{_UNITS[found[2]]: int(found[1])})
    if not timedelta(0) < read <= _LONGEST:
        raise ValueError(f"{text!r:.40} is no length of time; write a number and a unit, like 90s, 15min, 12h or 2d")
    return read
