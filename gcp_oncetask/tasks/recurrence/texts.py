"""
Texts that people hand over, as error messages show them: bounded, however long they are.
"""

from __future__ import annotations

from typing import Final

from gcp_oncetask.errors import RecurrenceError

MAX_TEXT: Final = 10_000
"""Characters of a rule or a cron line."""

_SHOWN: Final = 80


def short(text: object, *, quoted: bool = True) -> str:
    """
    *text* on one line; of a long one its beginning and its length.
    """
    try:
        text = text if isinstance(text, str) else repr(text)
    except ValueError:
        text = "a number of thousands of digits"
    shown = repr(text[:_SHOWN])
    if not quoted:
        shown = shown[1:-1]
    return shown if len(text) <= _SHOWN else f"{shown}... ({len(text)} characters)"


def within(text: str, field: str) -> str:
    """
    *text*, if it is not too long to be looked at.

    Raises:
        RecurrenceError: It has more than ``MAX_TEXT`` characters.
    """
    if len(text) > MAX_TEXT:
        raise RecurrenceError(f"{field} has {len(text)} characters; it takes at most {MAX_TEXT}.", field=field)
    return text
