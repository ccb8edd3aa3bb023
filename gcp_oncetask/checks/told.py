"""
What errors say to people, without the values that they quote: pydantic's show what was given to a model. Pure.

Of a message of pydantic's own the place stays, and what was expected there. What a validator or a serializer says in words of its
own is contents, as what it was given is.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any, Final, get_args

from pydantic import ValidationError
from pydantic_core import PydanticCustomError, PydanticSerializationError, core_schema

from gcp_oncetask.checks.values import printable, storable_text

_MOST: Final = 5
_LONGEST_CHAIN: Final = 100
_PLAIN_TYPES: Final = frozenset(get_args(core_schema.ErrorType)) - {
    "assertion_error",
    "bytes_invalid_encoding",
    "datetime_object_invalid",
    "get_attribute_error",
    "iteration_error",
    "json_invalid",
    "mapping_type",
    "no_such_attribute",
    "timezone_offset",
    "union_tag_invalid",
    "url_parsing",
    "url_syntax_violation",
    "uuid_parsing",
    "value_error",
}
"""Types of errors whose messages say what was expected, and no more. Others, and those of custom validators, may quote."""
_CALLING: Final = re.compile(r"(Error calling function `[^`]*`): (\w+)\b.*", re.DOTALL)


def problems(error: ValidationError, *, words: bool = False) -> str:
    """
    Where and why something does not fit a model: at most five places.

    Args:
        error: What pydantic says.
        words: Whether to show what may be contents: the words of validators, and keys of maps that are no names.
    """
    return "; ".join(f"{place}: {why}" for place, why in places(error, words=words)[:_MOST])


def places(error: ValidationError, *, words: bool = False) -> list[tuple[str, str]]:
    """
    Each place and what is wrong with it, as ``problems``.
    """
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [(_place(each["loc"], words), _message(each, words)) for each in found]


def _place(loc: tuple[int | str, ...], words: bool) -> str:
    return ".".join(_part(each, words) for each in loc) or "(the whole)"


def _part(part: int | str, words: bool) -> str:
    # A key of a map is contents; what looks like a name is held to be that of a field.
    return str(part) if words or isinstance(part, int) or part.isidentifier() else "(...)"


def _message(each: Any, words: bool) -> str:
    if words or each["type"] in _PLAIN_TYPES:
        return str(each["msg"])
    if each["type"] in ("value_error", "assertion_error"):
        return "a validator refuses it"
    return f"it is refused ({each['type']})"


def text_of(error: BaseException, *, words: bool = False) -> str:
    """
    What *error* says, as text that can be stored; what a user's exception says of itself may fail as well.

    Errors of pydantic in its chain, which it may repeat, are told as ``problems`` tells them.
    """
    if isinstance(error, ValidationError):
        return storable_text(f"{error.title}: {problems(error, words=words)}")
    return storable_text(_without_values(_own_text(error), error, words=words))


def _own_text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as unprintable:  # noqa: BLE001 - code of the user's
        return f"(its text could not be made: {type(unprintable).__name__})"


def _without_values(text: str, error: BaseException, *, words: bool = False) -> str:
    """
    *text*, which *error* says, without what errors of pydantic in its chain quote; with their words if asked for.
    """
    for each in _chain(error):
        if isinstance(each, ValidationError):
            text = text.replace(str(each), problems(each, words=words))
            text = text.replace(problems(each), problems(each, words=words))
        elif isinstance(each, PydanticSerializationError) and not words:
            text = text.replace(str(each), _CALLING.sub(r"\1: \2", str(each)))
    return text


def said_by(error: BaseException, *, words: bool = False) -> str:
    """
    Type and text of *error*, as ``text_of``.
    """
    return f"{type(error).__name__}: {text_of(error, words=words)}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """
    The error, and those by which and in whose handling it came about.
    """
    seen: dict[int, BaseException] = {}
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is None or id(each) in seen:
            continue
        seen[id(each)] = each
        yield each
        left += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            left += each.exceptions


# --- tracebacks -------------------------------------------------------------------------------------------------------


def harmless(error: BaseException) -> BaseException:
    """
    *error* for a traceback. One in whose chain pydantic quotes values, or a text has what a terminal obeys, is replaced by a
    likeness of the same name and traceback, which says what ``text_of`` says, in printable lines.
    """
    return _likeness(error, {})


def _likeness(error: BaseException, made: dict[int, BaseException]) -> BaseException:
    if id(error) in made:
        return made[id(error)]
    if not any(isinstance(each, _Quoting) or _is_odd(_own_text(each)) for each in _chain(error)):
        return error
    like = made[id(error)] = _like(error, made)
    like.__traceback__ = error.__traceback__
    for note in getattr(error, "__notes__", ()):
        like.add_note(_printable_lines(_without_values(str(note), error)))
    if isinstance(error, _Quoting) or len(made) > _LONGEST_CHAIN:
        # What a validator or a serializer raised says what it was given; and there is an end to what anybody reads.
        return like
    if error.__cause__ is not None:
        like.__cause__ = _likeness(error.__cause__, made)
    elif error.__context__ is not None and not error.__suppress_context__:
        like.__context__ = _likeness(error.__context__, made)
    like.__suppress_context__ = error.__suppress_context__
    return like


_Quoting: Final = (ValidationError, PydanticSerializationError)


def _is_odd(text: str) -> bool:
    return not (text.isprintable() or text.translate({9: None, 10: None}).isprintable())


def _printable_lines(text: str) -> str:
    return "\n".join(printable(line) for line in text.replace("\t", "    ").split("\n"))


def _like(error: BaseException, made: dict[int, BaseException]) -> BaseException:
    if isinstance(error, ValidationError):
        return _without_input(error)
    if isinstance(error, BaseExceptionGroup):
        return BaseExceptionGroup(
            _printable_lines(_without_values(error.message, error)),
            [_likeness(each, made) for each in error.exceptions],
        )
    kind, text = type(error), _printable_lines(text_of(error))
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__str__": lambda _: text}
    like: BaseException = type(kind.__name__, (Exception,), names)()
    return like


def _without_input(error: ValidationError) -> ValidationError:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    lines: Any = [
        {
            "type": PydanticCustomError(each["type"], "{said}", {"said": _message(each, words=False)}),
            "loc": tuple(_part(part, words=False) for part in each["loc"]),
            "input": None,
        }
        for each in found
    ]
    return ValidationError.from_exception_data(error.title, lines, hide_input=True)


class Harmless(logging.Filter):
    """
    Makes each line of the library's loggers one line, whatever texts are in it, and quotes no values in it, nor in its traceback.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(map(_argument, record.args))
        if record.exc_info and record.exc_info[1] is not None:
            error = harmless(record.exc_info[1])
            record.exc_info = (type(error), error, record.exc_info[2])
        return True


def _argument(value: Any) -> Any:
    if isinstance(value, BaseException):
        return printable(text_of(value))
    return printable(value) if isinstance(value, str) else value
