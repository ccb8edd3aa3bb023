"""
The agent. Each call of the model and of a tool is a run, so a process that dies repeats none that was answered; a question to a
person ends the request until the person has answered; a turn that the model refuses is tried again without burning an attempt.

Served by any WSGI server as ``examples.agent.app:app``; configured by the environment, and by MODEL_URL.
"""

import json
import os
import urllib.request
from datetime import timedelta
from typing import Any

from flask import Flask
from pydantic import BaseModel

from gcp_oncetask import Attempt, EventTimeoutError, ExponentialBackoff, Locker
from gcp_oncetask.flask import blueprint
from gcp_oncetask.tasks import OnceTask, TaskData, TaskManager

MOST_TURNS = 30
PATIENCE = ExponentialBackoff(max_attempts=8, initial=2, maximum=timedelta(minutes=2))


class Research(TaskData, kind="research"):
    name: str
    question: str
    budget: int = 2_000
    """Most tokens that the model may cost."""

    def task_id(self) -> str:
        return self.name


class Turn(BaseModel):
    tool: str | None
    argument: str
    text: str
    tokens: int


class Answer(BaseModel):
    text: str


manager = TaskManager(Locker.from_env())
app = Flask(__name__)
app.register_blueprint(blueprint(manager))


@manager.handler(Research, retry=ExponentialBackoff(max_attempts=3))
def research(task: OnceTask[Research], attempt: Attempt) -> dict[str, Any]:
    patient = attempt.options(retry=PATIENCE)
    history = [{"role": "user", "content": task.data.question}]
    spent = 0
    for number in range(MOST_TURNS):
        turn = patient.run(f"turn-{number}", think, history)
        spent += turn.tokens
        attempt.progress({"turn": number + 1, "tokens": spent})
        if turn.tool is None:
            return {"answer": turn.text, "tokens": spent}
        if spent >= task.data.budget:
            return {"answer": None, "tokens": spent, "stopped": "the budget is used up"}
        if turn.tool == "ask":
            history.append({"role": "person", "content": ask(attempt, number)})
        else:
            history.append({"role": "tool", "content": patient.run(f"search-{number}", search, turn.argument)})
    return {"answer": None, "tokens": spent, "stopped": "too many turns"}


def ask(attempt: Attempt, number: int) -> str:
    """
    Wait for a person's answer, for a week at most. No process waits.
    """
    try:
        return attempt.wait_event(f"answer-{number}", Answer, event="answer", timeout=timedelta(days=7)).text
    except EventTimeoutError:
        return "nothing"


def think(history: list[dict[str, str]]) -> Turn:
    """
    Ask the model for its next turn.
    """
    return Turn.model_validate(call("model", {"history": history}))


def search(topic: str) -> str:
    """
    Ask the search service.
    """
    return str(call("search", {"topic": topic})["text"])


def call(path: str, data: dict[str, Any]) -> Any:
    """
    Post JSON data to a service, and return its answer.
    """
    request = urllib.request.Request(
        f"{os.environ['MODEL_URL']}/{path}", json.dumps(data).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)
