"""
The pages of a durable handler: its effects outside, the last entries of its journal, and the question that a journal asks
that does not fit.
"""

from __future__ import annotations

import logging
import re
from typing import Any

from gcp_oncetask import NoRetry
from gcp_oncetask.rules.document_paths import TaskName
from gcp_oncetask.tasks import TaskData
from tests.support.console_app import OPERATOR, VIEWER, get


class Durable(TaskData, kind="durable-pages"):
    number: str

    def task_id(self) -> str:
        return self.number


PATH = TaskName("DEFAULT", "durable-pages", "1").path


def play(desk: Any, act: Any) -> None:
    desk.manager.register_task_handler(Durable, act, retry=NoRetry())
    desk.manager.create_task(Durable(number="1"))
    desk.cloud.run_until_idle()


def test_effects_have_key_intent_and_receipt(desk: Any, caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    keys: list[str] = []

    def act(task: Any, attempt: Any) -> None:
        keys.append(attempt.key_of("charge"))
        attempt.run("look", lambda: "plain")
        attempt.options(once=True).run("charge", lambda: {"id": "ch_7"})

    play(desk, act)
    page = get(desk.browser(), "/effects", query_string={"path": PATH}).text
    assert re.findall(r'data-label="Run">(\w+)<', page) == ["charge"]
    assert re.findall(r'data-label="State">(\w+)<', page) == ["done"]
    assert keys[0] in page
    assert "ch_7" in page
    viewed = get(desk.browser(VIEWER), "/effects", query_string={"path": PATH}).text
    assert keys[0] in viewed
    assert "ch_7" not in viewed
    assert [r.message for r in caplog.records if "receipts" in r.message] == [
        f"{OPERATOR} looks at the receipts of {PATH}"
    ]
    assert "/effects?path=" in get(desk.browser(), "/task", query_string={"path": PATH}).text


def test_a_task_without_effects_says_so(desk: Any) -> None:
    play(desk, lambda task, attempt: None)
    assert "There are none" in get(desk.browser(), "/effects", query_string={"path": PATH}).text
    assert "/effects?path=" not in get(desk.browser(), "/task", query_string={"path": PATH}).text
    assert get(desk.browser(), "/effects", query_string={"path": "no/such"}).status_code == 404


def test_the_last_entries_of_sealed_parts_are_shown(desk: Any) -> None:
    play(desk, lambda task, attempt: [attempt.run(f"step-{n}", lambda: "x" * 3_000) for n in range(30)] and None)
    page = get(desk.browser(), "/task", query_string={"path": PATH}).text
    assert "sealed parts" in page
    assert [int(n) for n in re.findall(r"step-(\d+)", page)] == list(range(10, 30))


def test_a_journal_that_does_not_fit_asks_with_its_reason(desk: Any) -> None:
    words = ["run", "sleep"]

    def act(task: Any, attempt: Any) -> None:
        if words.pop(0) == "run":
            attempt.run("first", lambda: 1)
            attempt.sleep("s", 60)
        attempt.sleep("first", 60)

    play(desk, act)
    desk.cloud.advance(minutes=2)
    desk.cloud.run_until_idle()
    page = get(desk.browser(), "/task", query_string={"path": PATH}).text
    question = page.split('<section class="question"')[1].split("</section>")[0]
    assert "The handler could not go on" in question
    assert "first" in question
    assert "Did step" not in question
