"""
The answers of a stream that listens to queries, as changes of their results.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.cloud.firestore_v1.types import ListenResponse

from gcp_oncetask.rules.statuses import FailureClass
from gcp_oncetask.store.failures import WireError
from gcp_oncetask.store.wire import _changes

_Response = ListenResponse.pb()
_CURRENT, _REMOVED, _RESET = 3, 2, 4


def changed(name: str, shows: tuple[int, ...] = (), no_more: tuple[int, ...] = ()) -> Any:
    answer = _Response()
    answer.document_change.document.name = name
    answer.document_change.target_ids.extend(shows)
    answer.document_change.removed_target_ids.extend(no_more)
    return answer


def gone(what: str, name: str, *targets: int) -> Any:
    answer = _Response()
    part = getattr(answer, what)
    part.document = name
    part.removed_target_ids.extend(targets)
    return answer


def told(kind: int, *targets: int) -> Any:
    answer = _Response()
    answer.target_change.target_change_type = kind
    answer.target_change.target_ids.extend(targets)
    return answer


def seen(*answers: Any, count: int = 2) -> list[tuple[int, str, str | None]]:
    return [
        (place, name, None if document is None else document.name)
        for place, name, document in _changes(iter(answers), count)
    ]


@pytest.mark.parametrize(
    ("answer", "changes"),
    [
        pytest.param(changed("a", (1, 3)), [(0, "a", "a"), (2, "a", "a")], id="two queries show it"),
        pytest.param(changed("a", (1,), (2,)), [(0, "a", "a"), (1, "a", None)], id="one shows it, one no more"),
        pytest.param(gone("document_delete", "a", 1, 2), [(0, "a", None), (1, "a", None)], id="deleted"),
        pytest.param(gone("document_remove", "a", 3), [(2, "a", None)], id="shown no more"),
        pytest.param(told(_CURRENT, 1), [(-1, "", None)], id="one is up to date"),
        pytest.param(told(_CURRENT), [(-1, "", None), (-2, "", None)], id="all are up to date"),
        pytest.param(told(0), [], id="no change"),
        pytest.param(told(_RESET, 1), [], id="begun anew"),
        pytest.param(_Response(), [], id="nothing"),
    ],
)
def test_answer_of_a_stream(answer: Any, changes: list[tuple[int, str, str | None]]) -> None:
    assert seen(answer) == changes
    assert seen(answer, changed("b", (1,))) == [*changes, (0, "b", "b")]


def test_stream_whose_query_was_removed_ends() -> None:
    assert seen(changed("a", (1,)), told(_REMOVED, 1), changed("b", (1,))) == [(0, "a", "a")]


def test_stream_that_breaks_says_so() -> None:
    class Broken(grpc.RpcError):
        def code(self) -> grpc.StatusCode:
            return grpc.StatusCode.UNAVAILABLE

        def details(self) -> str:
            return ""

    def stream() -> Iterator[Any]:
        yield changed("a", (1,))
        raise Broken

    found = _changes(stream(), 1)
    assert next(found)[:2] == (0, "a")
    with pytest.raises(WireError, match="UNAVAILABLE") as raised:
        next(found)
    assert (raised.value.failure, raised.value.message) == (FailureClass.AMBIGUOUS, "UNAVAILABLE")
    assert isinstance(raised.value.__cause__, Broken)
