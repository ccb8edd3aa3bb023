"""
The result that a person gives for a step, checked by the type that its handler says it returns.
"""

from __future__ import annotations

import functools
import operator
import types
import typing
from collections.abc import Callable
from typing import Any, Final

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from gcp_oncetask.errors import UsageError

_UNIONS: Final = (typing.Union, types.UnionType)


def check_returned(function: Callable[..., Any], result: Any, verdicts: type) -> None:
    """
    Check that *result*, which is JSON data, is one that *function* may return.

    Args:
        function: The handler. Without an annotation, or with one that pydantic does not know, any result is right.
        result: The result.
        verdicts: Base of the classes by which a handler says how a task goes on; these members of a union do not count.

    Raises:
        UsageError: It is not; the message names the field, and has no value.
    """
    adapter = _adapter(function, verdicts)
    if adapter is None:
        return
    try:
        adapter.validate_python(result)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        field = ".".join(map(str, first["loc"]))
        where = f"result at {field}" if field else "result"
        raise UsageError(
            f"{where}: {first['msg']}. The handler returns {_name(function)}. Nothing was written."
        ) from None


def _adapter(function: Callable[..., Any], verdicts: type) -> TypeAdapter[Any] | None:
    try:
        returned = typing.get_type_hints(function).get("return", Any)
        members = typing.get_args(returned) if typing.get_origin(returned) in _UNIONS else (returned,)
        known = [each for each in members if not (isinstance(each, type) and issubclass(each, verdicts))]
        # A handler without a result may have been annotated by habit, as -> None.
        return TypeAdapter(functools.reduce(operator.or_, known)) if known not in ([], [type(None)]) else None
    except (PydanticUserError, NameError, TypeError, AttributeError):
        return None


def _name(function: Callable[..., Any]) -> str:
    found = typing.get_type_hints(function)["return"]
    return str(getattr(found, "__name__", found))
