"""
A function that the library calls runs its body, and takes what it is given; else it is refused where it is registered.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gcp_oncetask import UsageError
from gcp_oncetask.checks.callables import plain

GIVEN = ("task", "attempt")


class Called:
    def __call__(self, task: object, attempt: object) -> None: ...

    def method(self, task: object, attempt: object) -> None: ...


def both(task: object, attempt: object) -> None: ...
def more(task: object, attempt: object, *, number: str) -> None: ...
def route(task: object, attempt: object, number: str) -> None: ...
def spare(task: object, attempt: object = None, other: int = 1) -> None: ...
def few(task: object) -> None: ...
def none() -> None: ...
def named(*, task: object, attempt: object) -> None: ...
async def asynchronous(task: object, attempt: object) -> None: ...
def generator(task: object, attempt: object) -> Iterator[None]:
    yield


@pytest.mark.parametrize(
    "fn",
    [both, more, route, spare, Called(), Called().method, lambda *_: None, functools.partial(route, number="7"), print],
)
def test_function_that_takes_both_is_returned(fn: Callable[..., Any]) -> None:
    """
    Arguments beyond those come by name: the variables of a route.
    """
    assert plain(fn, "rule", given=GIVEN) is fn


@pytest.mark.parametrize("fn", [few, none, named, lambda task: None, functools.partial(both, 1)])
def test_function_that_can_not_take_them_is_refused(fn: Callable[..., Any]) -> None:
    """
    The message names the function and the arguments.
    """
    with pytest.raises(UsageError, match=r"is called with \(task, attempt\); it must take them\.$"):
        plain(fn, "rule", given=GIVEN)


@pytest.mark.parametrize(("fn", "kind"), [(asynchronous, "async"), (generator, "a generator")])
def test_function_whose_call_runs_nothing_is_refused(fn: Callable[..., Any], kind: str) -> None:
    """
    Its arguments do not matter.
    """
    with pytest.raises(UsageError, match=rf"{fn.__name__} is {kind}: a call of it runs nothing; rule\.$"):
        plain(fn, "rule", given=GIVEN)
