"""
Texts of errors without the values that they quote: pydantic's messages show the input of a model. Pure.

Of pydantic's own messages, the place and the expected form are kept. Messages of a user's validators and serializers are
treated as contents, like the input itself.
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
"""
Types of errors whose messages name only the expected form. Messages of other types, and of custom validators, may quote the
input.
"""
_CALLING: Final = re.compile(r"(Error calling function `[^`]*`): (\w+)\b.*", re.DOTALL)


def problems(error: ValidationError, *, words: bool = False) -> str:
    """
    List the first five places at which the input does not fit a model, each with its reason.

    Args:
        error: The error of pydantic.
        words: Whether to show texts that may be contents: messages of validators, and keys of maps that are no identifiers.
    """
    return "; ".join(f"{place}: {why}" for place, why in places(error, words=words)[:_MOST])


def places(error: ValidationError, *, words: bool = False) -> list[tuple[str, str]]:
    """
    Return each place and its reason; *words* as in ``problems``.
    """
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [(_place(each["loc"], words), _message(each, words)) for each in found]


def _place(loc: tuple[int | str, ...], words: bool) -> str:
    return ".".join(_part(each, words) for each in loc) or "(the whole)"


def _part(part: int | str, words: bool) -> str:
    # The key of a map is contents; one that is an identifier is taken for the name of a field.
    return str(part) if words or isinstance(part, int) or part.isidentifier() else "(...)"


def _message(each: Any, words: bool) -> str:
    if words or each["type"] in _PLAIN_TYPES:
        return str(each["msg"])
    if each["type"] in ("value_error", "assertion_error"):
        return "a validator refuses it"
    return f"it is refused ({each['type']})"


def text_of(error: BaseException, *, words: bool = False) -> str:
    """
    Return the text of *error*, in a form that can be stored. The ``__str__`` of a user's exception may fail; the text then
    says so.

    The text may repeat pydantic errors of its chain; each of them is replaced by the text of ``problems``.
    """
    if isinstance(error, ValidationError):
        return storable_text(f"{error.title}: {problems(error, words=words)}")
    return storable_text(_without_values(_own_text(error), error, words=words))


def _own_text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as unprintable:  # noqa: BLE001 - a user's __str__ failed
        return f"(its text could not be made: {type(unprintable).__name__})"


def _without_values(text: str, error: BaseException, *, words: bool = False) -> str:
    """
    Return *text*, the message of *error*, without values quoted by pydantic errors of its chain; *words* as in
    ``problems``.
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
    Return the type and the text of *error*, the text as ``text_of`` gives it.
    """
    return f"{type(error).__name__}: {text_of(error, words=words)}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """
    Yield the error, its causes and contexts, and the members of groups among them.
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
    Return *error* in a form that may be shown in a traceback.

    It is replaced by a likeness if pydantic quotes values in its chain, or a text in it has control characters. The
    likeness has the same name and traceback, and the text of ``text_of`` in printable lines.
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
        # The causes are left out: an exception of a validator may quote its input, and a chain this long is not read.
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
    Log filter: escapes the arguments of a record, so that each record stays one line, and removes quoted values from its
    texts and its traceback.
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
