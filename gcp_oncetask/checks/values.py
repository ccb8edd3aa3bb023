"""
Values that user code or the environment hands over, checked where they are handed over: lengths of time, times, names. Pure.

Each function is given the value and what its owner calls it. It returns the value in the form that the rest of the library
works with, or raises a UsageError that names it, shows it and says what is expected.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias, TypeGuard

from gcp_oncetask.checks.paths import trouble_with_path
from gcp_oncetask.errors import ConfigError, UsageError

Duration: TypeAlias = timedelta | float
"""A length of time: a timedelta, or a number of seconds."""

LONGEST: Final = 100 * 365.25 * 86_400
"""Seconds of the longest length of time that anything takes: a century."""
EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(9999, 1, 1, tzinfo=UTC)
"""Times at which something is to run are before this: what is due some time after it must still have a year of four digits."""
_MOST: Final = 2**63 - 1
"""The largest whole number that Firestore stores."""
_QUEUE: Final = re.compile(
    r"(?:projects/[A-Za-z0-9.:_-]{1,100}/locations/[A-Za-z0-9-]{1,100}/queues/)?[A-Za-z0-9-]{1,100}"
)


@contextmanager
def as_config_errors() -> Iterator[None]:
    """
    What is wrong with a value in the block is a ConfigError: it is checked before anything is served.
    """
    try:
        yield
    except UsageError as error:
        raise ConfigError(str(error)) from None


# --- lengths of time --------------------------------------------------------------------------------------------------


def seconds(
    length: object,
    name: str,
    *,
    least: float = 0.0,
    above: float | None = None,
    most: float = LONGEST,
    hint: str = "",
) -> float:
    """
    A length of time in seconds.

    Args:
        length: A timedelta, or a number of seconds.
        name: What its owner calls it.
        least: The shortest, inclusive.
        above: It must be longer than this; instead of *least*.
        most: The longest, inclusive.
        hint: Ends the sentence, as `` and None waits for ever``.

    Raises:
        UsageError: It is of another type, not finite, or out of range.
    """
    if isinstance(length, timedelta):
        found = length.total_seconds()
    elif isinstance(length, int | float) and not isinstance(length, bool):
        try:
            found = float(length)
        except OverflowError:
            found = math.inf
    else:
        raise UsageError(f"{name} is {shown(length)}; it must be a number of seconds or a timedelta{hint}.")
    if not math.isfinite(found):
        raise UsageError(f"{name} is {found} s; it must be a finite number of seconds{hint}.")
    if above is not None and found <= above:
        raise UsageError(f"{name} is {found:g} s; it must be more than {above:g} s{hint}.")
    if above is None and found < least:
        wanted = "not be negative" if least == 0 else f"be at least {least:g} s"
        raise UsageError(f"{name} is {found:g} s; it must {wanted}{hint}.")
    if found > most:
        raise UsageError(f"{name} is {found:g} s; it must be at most {most:.0f} s{_century(most)}{hint}.")
    return found


def length(given: object, name: str, **limits: Any) -> timedelta:
    """
    As ``seconds``, as a timedelta.

    Raises:
        UsageError: As ``seconds``.
    """
    found = seconds(given, name, **limits)
    return given if isinstance(given, timedelta) else timedelta(seconds=found)


def _century(most: float) -> str:
    return " (100 years)" if most == LONGEST else ""


def whole(value: object, name: str, *, least: int = 1, most: int = _MOST) -> int:
    """
    A whole number from *least* to *most*.

    Raises:
        UsageError: It is none.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        wanted = f"at least {least}" if most == _MOST else f"from {least} to {most}"
        raise UsageError(f"{name} is {shown(value)}; it must be a whole number, {wanted}.")
    return value


def number(value: object, name: str, *, least: float, most: float) -> float:
    """
    A finite number from *least* to *most*.

    Raises:
        UsageError: It is none.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
        raise UsageError(f"{name} is {shown(value)}; it must be a number from {least:g} to {most:g}.")
    return float(value)


# --- times ------------------------------------------------------------------------------------------------------------


def time(at: object, name: str) -> datetime:
    """
    An instant at which something is to run, in UTC.

    Raises:
        UsageError: It is no datetime, has no time zone, or is not in the years 1970 to 9998.
    """
    if not isinstance(at, datetime):
        raise UsageError(f"{name} is {shown(at)}; it must be a datetime with a time zone: datetime(..., tzinfo=UTC).")
    if at.utcoffset() is None:
        raise UsageError(f"{name} is {at.isoformat()}; it needs a time zone: datetime(..., tzinfo=UTC).")
    try:
        found = at.astimezone(UTC)
    except OverflowError:
        found = None
    if found is None or not EARLIEST <= found < LATEST:
        raise UsageError(f"{name} is {at.isoformat()}; it must be in the years 1970 to 9998 in UTC.")
    return found


# --- texts ------------------------------------------------------------------------------------------------------------


def printable(text: str) -> str:
    """
    *text* as people may read it, on one line: what a terminal, a mail or a log would obey is escaped (control characters, line
    breaks, marks of direction, invisible spaces, halves of pairs). Whatever is shown to a person passes it, after every decoder.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def shown(value: object, longest: int = 100, *, quoted: bool = True) -> str:
    """
    *value* for a sentence: printable; of a long one its beginning and its length, of a URL no secrets.

    Args:
        value: What somebody has handed over.
        longest: Characters at most, before they are escaped.
        quoted: Whether a text stands in quotation marks.
    """
    try:
        text = value if isinstance(value, str) else repr(value)
    except ValueError:
        text = "a number of thousands of digits"
    text = without_secrets(text) if "://" in text else text
    head = text[:longest]
    head = repr(head) if isinstance(value, str) and quoted else printable(head)
    return head if len(text) <= longest else f"{head}... ({len(text)} characters)"


def without_secrets(url: str) -> str:
    """
    What may be a URL without what may be a secret: its user and password, and what stands behind the path.
    """
    plain, *more = re.split(r"[?#]", url, maxsplit=1)
    if "@" in "".join(more):
        # Of a password, or of the data behind the path: that can't be told.
        return "***"
    return (f"***{plain[plain.rindex('@') :]}" if "@" in plain else plain) + ("?***" if more else "")


def storable_text(text: str) -> str:
    """
    *text* with each half of a surrogate pair, which UTF-8 does not have, replaced by a question mark.
    """
    return text.encode("utf-8", "replace").decode()


def name(text: object, of: str) -> str:
    """
    A text that names something: an id, a key, the name of a lock.

    Raises:
        UsageError: It is no text, is empty, or holds half a surrogate pair or a NUL character.
    """
    if not isinstance(text, str) or not text:
        raise UsageError(f"{of} is {shown(text)}; it must be a text of at least one character.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{of} is {shown(text)}; it holds half a surrogate pair, which can't be stored.") from None
    if "\0" in text:
        raise UsageError(f"{of} is {shown(text)}; it must not hold a NUL character.")
    return text


def plain(text: object, of: str, wanted: str) -> str:
    """
    A text that is not empty, and printable.

    Raises:
        UsageError: It is not *wanted*.
    """
    if not isinstance(text, str) or not text or not text.isprintable():
        raise UsageError(f"{of} is {shown(text)}; it must be {wanted}.")
    return text


def plain_or_empty(text: object, of: str) -> str:
    """
    A text that is printable.

    Raises:
        UsageError: It is none.
    """
    return "" if text == "" else plain(text, of, "a text without control characters")


def collection(path: object, of: str) -> str:
    """
    The path of a collection.

    Raises:
        UsageError: It can't be one.
    """
    if not isinstance(path, str):
        trouble: str | None = "it is no text"
    elif "\0" in path:
        trouble = "it holds a NUL character"
    else:
        trouble = trouble_with_path(f"{path}/x")
    if trouble is not None:
        raise UsageError(
            f"{of} is {shown(path)}, which is not the path of a collection, as orders or customers/7/orders is: {trouble}."
        )
    return str(path)


def is_queue(text: object) -> TypeGuard[str]:
    """
    Whether *text* is the id or the full name of a queue of Cloud Tasks.
    """
    return isinstance(text, str) and _QUEUE.fullmatch(text) is not None


def queue(text: object, of: str) -> str:
    """
    A queue of Cloud Tasks: its id or its full name.

    Raises:
        UsageError: It is neither.
    """
    if not is_queue(text):
        raise UsageError(
            f"{of} is {shown(text)}; it must be a queue id (letters, digits, hyphens; at most 100) or "
            "projects/PROJECT/locations/LOCATION/queues/QUEUE."
        )
    return text
