"""
The agent of ``examples/agent``: each call of its model and tools is answered once, whatever dies.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from examples.agent.model import TOPICS, World
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.orders import Killed, Mortal

URL = "https://agent.test"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """
    A model that is busy for every third call.
    """
    made = World()
    monkeypatch.setenv("MODEL_URL", made.url)
    yield made
    made.stop()


@pytest.fixture
def agent(oncetask_cloud: OncetaskCloud, world: World) -> Any:
    """
    The application, on the local cloud.
    """
    from examples.agent import app as example

    oncetask_cloud.use(example.manager.locker)
    oncetask_cloud.mount(URL, Mortal(example.app))
    return example


def settle(cloud: OncetaskCloud, minutes: int = 30) -> None:
    for _ in range(minutes):
        cloud.advance(minutes=1)
        cloud.sweep()
        cloud.run_until_idle()


def test_the_agent_searches_asks_and_answers(oncetask_cloud: OncetaskCloud, agent: Any, world: World) -> None:
    agent.manager.create_task(agent.Research(name="r", question="Shall we order?"))
    settle(oncetask_cloud)
    task = agent.manager.get_task(agent.Research, "r")
    assert (task.lock.status, task.lock.wait.events) == ("scheduled", ("answer",))
    oncetask_cloud.advance(days=2)
    agent.manager.send(agent.Research, "r", "answer", agent.Answer(text="yes"), id="mail-1")
    settle(oncetask_cloud)
    result = agent.manager.result(agent.Research, "r")
    assert result == {"answer": "price: fine; stock: fine; delivery: fine. The person says yes.", "tokens": 640}
    assert all(count == 1 for count in world.calls.values())
    assert agent.manager.get_task(agent.Research, "r").lock.errors == ()


def test_a_process_that_dies_repeats_no_answered_call(
    oncetask_cloud: OncetaskCloud, agent: Any, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    After each answer of a service, before it is kept, its process dies once: that call alone is repeated.
    """
    whole, died = agent.call, set[str]()

    def dies(path: str, data: dict[str, Any]) -> Any:
        found = whole(path, data)
        if str(data) not in died:
            died.add(str(data))
            raise Killed
        return found

    monkeypatch.setattr(agent, "call", dies)
    agent.manager.create_task(agent.Research(name="r", question="Shall we order?"))
    agent.manager.send(agent.Research, "r", "answer", agent.Answer(text="no"))
    settle(oncetask_cloud, 240)
    assert "The person says no" in agent.manager.result(agent.Research, "r")["answer"]
    assert set(world.calls.values()) == {2}
    assert len(world.calls) == len(TOPICS) + 5


def test_the_agent_stops_at_its_budget(oncetask_cloud: OncetaskCloud, agent: Any) -> None:
    agent.manager.create_task(agent.Research(name="r", question="Shall we order?", budget=200))
    settle(oncetask_cloud, 10)
    assert agent.manager.result(agent.Research, "r")["stopped"] == "the budget is used up"


def test_a_question_without_an_answer_times_out(oncetask_cloud: OncetaskCloud, agent: Any) -> None:
    agent.manager.create_task(agent.Research(name="r", question="Shall we order?"))
    settle(oncetask_cloud)
    oncetask_cloud.advance(days=8)
    settle(oncetask_cloud, 10)
    assert "The person says nothing" in agent.manager.result(agent.Research, "r")["answer"]
