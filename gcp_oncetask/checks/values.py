"""
Checks of values from user code and the environment: lengths of time, times, numbers, names. Pure.

Each function takes a value and its name in the caller's code. It returns the value in the form that the rest of the library
uses, or raises a UsageError that names the value, shows it and says what is expected.
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
"""The longest length of time that is accepted anywhere, in seconds: a century."""
EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(9999, 1, 1, tzinfo=UTC)
"""Planned times are before this instant, so that a due time somewhat later still has a year of four digits."""
_MOST: Final = 2**63 - 1
"""The largest whole number that Firestore stores."""
_QUEUE: Final = re.compile(
    r"(?:projects/[A-Za-z0-9.:_-]{1,100}/locations/[A-Za-z0-9-]{1,100}/queues/)?[A-Za-z0-9-]{1,100}"
)


@contextmanager
def as_config_errors() -> Iterator[None]:
    """
    Turn a UsageError of the block into a ConfigError, for values that are checked before anything is served.
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
    Check a length of time and return it in seconds.

    Args:
        length: A timedelta, or a number of seconds.
        name: Its name in the caller's code, for the message.
        least: The shortest length, inclusive.
        above: The length must be longer than this; used instead of *least*.
        most: The longest length, inclusive.
        hint: Text that ends the message, such as ``, and None waits for ever``.

    Raises:
        UsageError: The length is of another type, not finite, or out of range.
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
    Check a length of time, as ``seconds`` does, and return it as a timedelta.

    Raises:
        UsageError: As ``seconds``.
    """
    found = seconds(given, name, **limits)
    return given if isinstance(given, timedelta) else timedelta(seconds=found)


def _century(most: float) -> str:
    return " (100 years)" if most == LONGEST else ""


def whole(value: object, name: str, *, least: int = 1, most: int = _MOST) -> int:
    """
    Check a whole number from *least* to *most*.

    Raises:
        UsageError: *value* is no such number.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        wanted = f"at least {least}" if most == _MOST else f"from {least} to {most}"
        raise UsageError(f"{name} is {shown(value)}; it must be a whole number, {wanted}.")
    return value


def number(value: object, name: str, *, least: float, most: float) -> float:
    """
    Check a finite number from *least* to *most*.

    Raises:
        UsageError: *value* is no such number.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
        raise UsageError(f"{name} is {shown(value)}; it must be a number from {least:g} to {most:g}.")
    return float(value)


# --- times ------------------------------------------------------------------------------------------------------------


def time(at: object, name: str) -> datetime:
    """
    Check a planned time and return it in UTC.

    Raises:
        UsageError: *at* is no datetime, has no time zone, or is not in the years 1970 to 9998.
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
    Return *text* in a form that is safe to show, on one line. Control characters, line breaks, marks of direction,
    invisible spaces and halves of surrogate pairs are escaped, because a terminal, a mail or a log would obey them. Every
    text that is shown to a person passes this function, after all decoders.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def shown(value: object, longest: int = 100, *, quoted: bool = True) -> str:
    """
    Show *value* in a sentence: printable, a long one by its beginning and its length, a URL without its secrets.

    Args:
        value: The value of a caller.
        longest: Characters at most, before they are escaped.
        quoted: Whether to put a text in quotation marks.
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
    Return *url*, which may be a URL, without the parts that may be secrets: user and password, query and fragment.
    """
    plain, *more = re.split(r"[?#]", url, maxsplit=1)
    if "@" in "".join(more):
        # The "@" may belong to a password with "?" or "#" in it, or to the query: hide everything.
        return "***"
    return (f"***{plain[plain.rindex('@') :]}" if "@" in plain else plain) + ("?***" if more else "")


def storable_text(text: str) -> str:
    """
    Replace each half of a surrogate pair in *text* by a question mark, because UTF-8 can't encode it.
    """
    return text.encode("utf-8", "replace").decode()


def name(text: object, of: str) -> str:
    """
    Check a text that names something: an id, a key, the name of a lock.

    Raises:
        UsageError: *text* is no text, is empty, or holds half a surrogate pair or a NUL character.
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
    Check a text that is printable and not empty.

    Raises:
        UsageError: *text* is no such text; the message says that it must be *wanted*.
    """
    if not isinstance(text, str) or not text or not text.isprintable():
        raise UsageError(f"{of} is {shown(text)}; it must be {wanted}.")
    return text


def plain_or_empty(text: object, of: str) -> str:
    """
    Check a text that is printable or empty.

    Raises:
        UsageError: *text* is no such text.
    """
    return "" if text == "" else plain(text, of, "a text without control characters")


def collection(path: object, of: str) -> str:
    """
    Check the path of a collection.

    Raises:
        UsageError: *path* can't name a collection.
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
    Tell whether *text* is the id or the full name of a queue of Cloud Tasks.
    """
    return isinstance(text, str) and _QUEUE.fullmatch(text) is not None


def queue(text: object, of: str) -> str:
    """
    Check the id or the full name of a queue of Cloud Tasks.

    Raises:
        UsageError: *text* is neither.
    """
    if not is_queue(text):
        raise UsageError(
            f"{of} is {shown(text)}; it must be a queue id (letters, digits, hyphens; at most 100) or "
            "projects/PROJECT/locations/LOCATION/queues/QUEUE."
        )
    return text
