"""
Types that pydantic can't read: they are refused before anything is called, stored or waited for.
"""

from __future__ import annotations

import sys
import typing
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from gcp_oncetask import NoRetry, Status
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.durable import Calls
from tests.support.tasks import Service, Work


class Old(typing.TypedDict):
    """
    Before Python 3.12, pydantic needs the one of typing_extensions.
    """

    by: str


class Plain:
    """
    A class of which pydantic knows nothing.
    """


UNREADABLE = [
    pytest.param(Old, marks=pytest.mark.skipif(sys.version_info >= (3, 12), reason="pydantic reads it")),
    Plain,
]
WORDS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "run": lambda attempt, model, call: attempt.options(result=model).run("w", call),
    "once": lambda attempt, model, call: attempt.options(result=model, once=True).run("w", call),
    "map": lambda attempt, model, call: attempt.options(result=model).map("w", call, [1]),
    "wait": lambda attempt, model, call: attempt.wait_event("w", model, timeout=timedelta(hours=1)),
    "list": lambda attempt, model, call: attempt.wait_event("w", list[model], timeout=None),
    "several": lambda attempt, model, call: attempt.wait_event("w", {"a": str, "b": model}, timeout=None),
    "read": lambda attempt, model, call: attempt.result_of("w", model),
}


@pytest.fixture
def service(oncetask_cloud: OncetaskCloud) -> Service:
    """
    A deployment.
    """
    return Service(oncetask_cloud).handle(retry=NoRetry())


@pytest.mark.parametrize("model", UNREADABLE)
@pytest.mark.parametrize("word", WORDS)
def test_a_type_that_pydantic_can_not_read_is_refused_before_the_word(service: Service, word: str, model: Any) -> None:
    call = Calls()
    service.act = lambda task, attempt: WORDS[word](attempt, model, call)
    service.create("a")
    assert service.manager.send(Work, "a", "w", {"by": "ann"})
    service.cloud.run_until_idle()
    lock = service.lock("a")
    assert (lock.status, call.seen, lock.journal, lock.wait, len(lock.mailbox)) == (Status.FAILED, [], (), None, 1)
    said = lock.errors[-1].message
    assert "UsageError" in said
    assert f"pydantic can't read {'list' if word == 'list' else model.__name__}" in said
    assert "Nothing was stored" in said
    if model is Old:
        assert "typing_extensions.TypedDict" in said
