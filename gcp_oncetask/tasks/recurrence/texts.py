"""
Texts that people hand over: bounded.
"""

from __future__ import annotations

from typing import Final

from gcp_oncetask.errors import RecurrenceError

MAX_TEXT: Final = 10_000
"""Characters of a rule or a cron line."""


def within(text: str, field: str) -> str:
    """
    *text*, if it is not too long to be looked at.

    Raises:
        RecurrenceError: It has more than ``MAX_TEXT`` characters.
    """
    if len(text) > MAX_TEXT:
        raise RecurrenceError(f"{field} has {len(text)} characters; it takes at most {MAX_TEXT}.", field=field)
    return text
