"""
Instants as texts: RFC 3339, UTC, of fixed width.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_INSTANT: Final = "%Y-%m-%dT%H:%M:%S.%fZ"


def instant(at: datetime) -> str:
    """
    Return *at* as RFC 3339 in UTC with six decimals. The width is fixed, so that texts sort like instants.
    """
    passed = at - _EPOCH
    return f"{_second(passed.days * 86_400 + passed.seconds)}.{passed.microseconds:06d}Z"


def instant_of(wall: float) -> str:
    """
    Return seconds since 1970 in the form of ``instant``.
    """
    seconds, micros = divmod(round(wall * 1_000_000), 1_000_000)
    return f"{_second(seconds)}.{micros:06d}Z"


@lru_cache
def _second(seconds: int) -> str:
    # The instants of one delivery are within few seconds, and this conversion is half of the work.
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()[:19]


def parse_instant(text: str) -> datetime:
    """
    The inverse of ``instant``.

    Raises:
        ValueError: *text* has another form.
    """
    return datetime.strptime(text, _INSTANT).replace(tzinfo=UTC)
