"""
Threads whose commits share a call, against the local cloud: what is written, what each is told, and what it costs.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from gcp_oncetask import Status
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.crowd import Crowd


@pytest.fixture
def crowd(oncetask_cloud: OncetaskCloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Crowd]:
    with ThreadPoolExecutor(8) as pool:
        yield Crowd(oncetask_cloud, pool, monkeypatch)


NAMES = ("a", "b", "c", "d")


def test_creates_share_a_call(crowd: Crowd) -> None:
    """
    Four writes in one call, each billed as a write; each task is there, with a delivery.
    """
    made = crowd.create(*NAMES)

    assert [one.created for one in made] == [True] * 4
    assert crowd.calls == {"Commit": 2, "BatchWrite": 1, "CreateTask": 6}
    assert crowd.cloud.cost.writes == 6
    crowd.cloud.run_until_idle()
    assert sorted(crowd.service.ran) == ["a", "b", "c", "d", *crowd.held, "known"]
    assert all(crowd.service.lock(name).status is Status.COMPLETED for name in NAMES)


def test_each_recognises_its_write_after_a_lost_answer(crowd: Crowd) -> None:
    crowd.cloud.local.faults.fail("BatchWrite", when="after")
    made = crowd.create(*NAMES)

    assert [one.created for one in made] == [True] * 4
    assert crowd.calls["CreateTask"] == 6
    crowd.cloud.run_until_idle()
    assert sorted(crowd.service.ran) == ["a", "b", "c", "d", *crowd.held, "known"]


def test_one_that_exists_among_others_that_do_not(crowd: Crowd) -> None:
    made = crowd.create("a", "known", "c")

    assert [one.created for one in made] == [True, False, True]
    assert crowd.calls["BatchWrite"] == 1
    crowd.cloud.run_until_idle()
    assert sorted(crowd.service.ran) == ["a", "c", *crowd.held, "known"]


@pytest.mark.parametrize("code", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED])
def test_call_that_is_refused_as_a_whole(crowd: Crowd, code: grpc.StatusCode) -> None:
    """
    Each write is committed by itself.
    """
    crowd.cloud.local.faults.fail("BatchWrite", code=code)
    made = crowd.create(*NAMES)

    assert [one.created for one in made] == [True] * 4
    assert crowd.calls == {"Commit": 6, "BatchWrite": 1, "CreateTask": 6}


def test_two_creates_of_one_task_make_it_once(crowd: Crowd) -> None:
    made = crowd.create("a", "a", "b", "a")

    assert sorted(one.created for one in made) == [False, False, True, True]
    crowd.cloud.run_until_idle()
    assert sorted(crowd.service.ran) == ["a", "b", *crowd.held, "known"]
