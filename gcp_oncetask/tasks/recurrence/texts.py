"""
The limit of texts of rules and cron lines.
"""

from __future__ import annotations

from typing import Final

from gcp_oncetask.errors import RecurrenceError

MAX_TEXT: Final = 10_000
"""Most characters of a rule or a cron line."""


def within(text: str, field: str) -> str:
    """
    Return *text* if it is not too long.

    Raises:
        RecurrenceError: *text* has more than ``MAX_TEXT`` characters.
    """
    if len(text) > MAX_TEXT:
        raise RecurrenceError(f"{field} has {len(text)} characters; it takes at most {MAX_TEXT}.", field=field)
    return text
