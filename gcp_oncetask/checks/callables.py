"""
Which functions of users can be called for what they do.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from gcp_oncetask.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])


def plain(fn: F, what: str) -> F:
    """
    *fn*, if a call of it runs it: it is neither async nor a generator, nor an object whose ``__call__`` is.

    Args:
        fn: The function.
        what: What is plain, for the error: ``handlers are plain functions for now``.

    Raises:
        UsageError: It is not.
    """
    inner: Any = fn
    while isinstance(inner, functools.partial):
        inner = inner.func
    if not inspect.isroutine(inner) and not isinstance(inner, type):
        inner = getattr(inner, "__call__", inner)  # noqa: B004 - the method itself is looked at
    kind = next((name for name, is_kind in _KINDS.items() if is_kind(inner)), None)
    if kind is not None:
        raise UsageError(f"{getattr(fn, '__qualname__', fn)} is {kind}: a call of it runs nothing; {what}.")
    return fn


_KINDS: dict[str, Callable[[Any], bool]] = {
    "async": inspect.iscoroutinefunction,
    "a generator": inspect.isgeneratorfunction,
    "an async generator": inspect.isasyncgenfunction,
}
