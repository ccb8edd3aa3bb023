"""
Times, sizes and JSON data as the console shows them.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, tzinfo
from typing import Any, Final
from zoneinfo import ZoneInfo

SAFE_INTEGER: Final = 2**53
"""Larger integers are shown as texts, because scripts round them."""


def zone_of(name: str | None) -> tzinfo:
    """
    Return the time zone of an IANA name; UTC for another text.
    """
    if not name or name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return UTC


def ago(at: datetime, now: datetime) -> str:
    """
    Return the length of time between *at* and *now* in words: ``7 min ago``, ``in 2 h``.
    """
    seconds = (now - at).total_seconds()
    length = abs(seconds)
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if length >= 2 * size or (unit == "min" and length >= size):
            said = f"{length // size:.0f} {unit}"
            break
    else:
        said = f"{length:.0f} s"
    return f"{said} ago" if seconds >= 0 else f"in {said}"


def absolute(at: datetime, now: datetime, zone: tzinfo) -> str:
    """
    Return an instant in a zone, with the date if that is another one than that of *now*.
    """
    there, today = at.astimezone(zone), now.astimezone(zone).date()
    return f"{there:%H:%M:%S %Z}" if there.date() == today else f"{there:%Y-%m-%d %H:%M:%S %Z}"


def json_text(value: Any) -> str:
    """
    Return JSON data as indented text.
    """
    return json.dumps(_safe(value), indent=2, ensure_ascii=False, default=str)


def _safe(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) >= SAFE_INTEGER:
        return str(value)
    if isinstance(value, dict):
        return {str(key): _safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_safe(item) for item in value]
    return value


def size_of(value: Any) -> int:
    """
    Return the size of JSON data as text, in bytes.
    """
    return len(json.dumps(value, ensure_ascii=False, default=str).encode(errors="replace"))
