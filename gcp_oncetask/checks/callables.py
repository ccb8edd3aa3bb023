"""
Check that a call of a user's function runs its body, and takes the arguments that the library gives.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from gcp_oncetask.checks.values import shown
from gcp_oncetask.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])


def plain(fn: F, what: str, *, given: tuple[str, ...] = ()) -> F:
    """
    Return *fn* if a call of it runs its body. Async functions, generators, and objects with such a ``__call__`` do not.

    Args:
        fn: The function.
        what: The rule as a clause, for the end of the error message: ``handlers are plain functions for now``.
        given: Names of the arguments that the library gives by position. The function may need others by name.

    Raises:
        UsageError: A call of *fn* would not run its body, or *fn* does not take the arguments.
    """
    if not callable(fn):
        raise UsageError(f"{shown(fn)} can't be called; {what}.")
    inner: Any = fn
    while isinstance(inner, functools.partial):
        inner = inner.func
    if not inspect.isroutine(inner) and not isinstance(inner, type):
        inner = getattr(inner, "__call__", inner)  # noqa: B004 - the method itself is needed
    kind = next((name for name, is_kind in _KINDS.items() if is_kind(inner)), None)
    if kind is not None:
        raise UsageError(f"{getattr(fn, '__qualname__', fn)} is {kind}: a call of it runs nothing; {what}.")
    if given and not _takes(fn, len(given)):
        raise UsageError(f"{getattr(fn, '__qualname__', fn)} is called with ({', '.join(given)}); it must take them.")
    return fn


def _takes(fn: Callable[..., Any], count: int) -> bool:
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        # Some functions that are written in C have none.
        return True
    try:
        signature.bind_partial(*[None] * count)
    except TypeError:
        return False
    return True


_KINDS: dict[str, Callable[[Any], bool]] = {
    "async": inspect.iscoroutinefunction,
    "a generator": inspect.isgeneratorfunction,
    "an async generator": inspect.isasyncgenfunction,
}
