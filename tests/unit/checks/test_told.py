"""
What errors say: never the values that pydantic quotes, and what a terminal obeys never in a line of the log.
"""

from __future__ import annotations

import io
import logging
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError, field_serializer
from pydantic_core import PydanticSerializationError

from gcp_oncetask.checks.told import harmless, problems, said_by, text_of
from gcp_oncetask.errors import UsageError
from gcp_oncetask.logs import CloudFormatter
from gcp_oncetask.observe.log_context import LogContext, log_decision
from tests.support.quoting import CANARY, WRONG, misfit

LOGGER = logging.getLogger("gcp_oncetask")


def shown(error: BaseException) -> str:
    """
    Its traceback as a log has it.
    """
    return "".join(traceback.format_exception(harmless(error)))


def wrapped(error: Exception, how: str) -> Exception:
    """
    *error* as user code hands it on.
    """
    try:
        try:
            raise error
        except Exception as first:
            match how:
                case "as it is":
                    raise
                case "in a text":
                    raise RuntimeError(f"the API said {first}") from first
                case "in a repr":
                    raise RuntimeError(f"the API said {first!r}")  # noqa: B904 - that is the point
                case "twice":
                    raise UsageError(f"it does not fit: {problems(first)}") from wrapped(first, "in a text")  # type: ignore[arg-type]
                case "in a group":
                    raise ExceptionGroup(f"two: {first}", [first, ValueError("other")]) from None
                case "in a note":
                    made = KeyError("x")
                    made.add_note(f"of {first}")
                    raise made from first
        raise AssertionError(how)
    except Exception as last:
        return last


@pytest.mark.parametrize("how", ["as it is", "in a text", "in a repr", "twice", "in a group", "in a note"])
@pytest.mark.parametrize("name", WRONG)
def test_told_quotes_no_value(name: str, how: str) -> None:
    """
    Whatever the field's type is, and however it is handed on: text and traceback have the place and never the value.
    """
    error = wrapped(misfit(name), how)
    assert CANARY in "".join(traceback.format_exception(error)) + str(error.__context__)
    assert CANARY not in said_by(error) + shown(error)
    assert "field" in said_by(error) + shown(error)
    assert type(error).__name__ in shown(error)
    assert "test_told.py" in shown(error)


def test_told_says_what_was_expected() -> None:
    """
    Of pydantic's own messages nothing is lost; words of validators are there if they are asked for.
    """
    assert said_by(misfit("a number")) == (
        "ValidationError: Model: field: Input should be a valid integer, unable to parse string as an integer"
    )
    assert text_of(misfit("a map's key")).startswith("Model: field.(...).(...): Input should be a valid integer")
    assert said_by(misfit("a validator after")) == "ValidationError: Model: field: a validator refuses it"
    assert CANARY in said_by(misfit("a validator after"), words=True)
    error = wrapped(misfit("a validator after"), "twice")
    assert text_of(error) == "it does not fit: field: a validator refuses it"
    assert text_of(error, words=True) == f"it does not fit: field: Value error, {{value}} '{CANARY}' is no good"


def test_told_leaves_other_errors_alone() -> None:
    """
    An error with nothing of pydantic's in its chain is logged as the object that it is.
    """
    error = wrapped(ValueError(CANARY), "in a text")
    assert harmless(error) is error
    assert said_by(error) == f"RuntimeError: the API said {CANARY}"


def test_told_survives_circles_and_long_chains() -> None:
    """
    Errors that are each other's causes, and a thousand of them: it ends, and quotes nothing.
    """
    one, other = RuntimeError("one"), misfit("a number")
    one.__cause__, other.__cause__ = other, one
    assert CANARY not in shown(one)
    last: Exception = misfit("a number")
    for number in range(1000):
        last.__context__, last = last.__context__, wrapped_in(last, number)
    assert CANARY not in shown(last)


def wrapped_in(error: Exception, number: int) -> Exception:
    """
    An error in whose handling *error* was met.
    """
    made = RuntimeError(str(number))
    made.__cause__ = error
    return made


def test_told_of_a_serializer_names_it_alone() -> None:
    """
    What a serializer says is contents, too.
    """

    class Model(BaseModel):
        field: str

        @field_serializer("field")
        def write(self, value: str) -> str:
            raise ValueError(f"{value} can't be written")

    with pytest.raises(PydanticSerializationError) as caught:
        Model(field=CANARY).model_dump(mode="json")
    assert said_by(caught.value) == "PydanticSerializationError: Error calling function `write`: ValueError"
    assert CANARY not in shown(caught.value)


def written(act: Callable[[], None], formatter: logging.Formatter) -> str:
    """
    What *act* logs.
    """
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    LOGGER.addHandler(handler)
    try:
        act()
    finally:
        LOGGER.removeHandler(handler)
    return stream.getvalue()


@given(text=st.text(st.one_of(st.characters(), st.sampled_from("\n\r\x1b\x85\u2028\u202e\ud800")), max_size=20))
def test_log_line_is_one_line_whatever_is_in_it(text: str) -> None:
    """
    In a formatter of plain text: names of documents and messages of errors can't make a line of their own.
    """
    about = LogContext(f"orders/{text}", 1, 1, 1, "h", "E")

    def act() -> None:
        about.log(logging.ERROR, "it failed with %s", ValueError(text))
        about.log(logging.ERROR, "it failed with %s", text)
        log_decision(LOGGER, logging.ERROR, "e", about, f"{about}: {text}")
        LOGGER.error("%s of %r", UsageError(text), text)

    lines = written(act, logging.Formatter("%(levelname)s %(message)s")).split("\n")
    assert len(lines) == 5
    assert all(line.isprintable() for line in lines)


class Own(logging.Formatter):
    """
    A formatter that makes its own text of an exception, as those of JSON do.
    """

    def format(self, record: logging.LogRecord) -> str:
        assert record.exc_info is not None
        return f"{record.getMessage()} {self.formatException(record.exc_info)} {record.exc_info[1]!r}"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "formatter", [logging.Formatter("%(message)s"), CloudFormatter("p"), Own()], ids=["text", "cloud", "own"]
)
@pytest.mark.parametrize("how", ["as it is", "in a text", "twice", "in a group"])
def test_log_traceback_quotes_no_value(formatter: logging.Formatter, how: str) -> None:
    """
    Whichever formatter makes the text of it.
    """
    about = LogContext("orders/1", 1, 1, 1, "h", "E")
    error: Any = wrapped(misfit("a validator after"), how)

    def act() -> None:
        try:
            raise error
        except Exception:
            about.log(logging.ERROR, "the attempt failed", exc_info=True)
            LOGGER.exception("it failed: %s", error)

    text = written(act, formatter)
    assert CANARY not in text
    assert text.count("the attempt failed") == 1
    assert "a validator refuses it" in text


@pytest.mark.parametrize("formatter", [logging.Formatter("%(message)s"), Own()], ids=["text", "own"])
def test_log_traceback_is_obeyed_by_no_terminal(formatter: logging.Formatter) -> None:
    """
    Escapes and marks of direction in an exception, its notes and its causes are shown; its lines stay lines.
    """
    nasty = "a\x1b[2J\n\tb\x9b\u202e"
    made = RuntimeError("fine")
    made.__cause__ = ExceptionGroup(nasty, [ValueError(nasty)])
    made.add_note(nasty)
    text = written(lambda: LOGGER.error("it failed", exc_info=made), formatter)
    assert all(line.isprintable() for line in text.split("\n"))
    assert "ValueError: a\\x1b[2J\n" in text
    error = ValueError("two\n\tlines")
    assert harmless(error) is error


def test_told_types_of_newer_pydantic_are_not_quoted() -> None:
    """
    A type of error that is not known here says its name alone.
    """
    lines: Any = [{"type": "value_error", "loc": ("field",), "input": CANARY, "ctx": {"error": CANARY}}]
    assert text_of(ValidationError.from_exception_data("Model", lines)) == "Model: field: a validator refuses it"
    assert text_of(misfit("a custom error")) == "Model: field: it is refused (bad_thing)"
