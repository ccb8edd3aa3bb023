"""
Words and names that a caller may get wrong: each place that takes one says which are allowed, and which was probably meant.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import gcp_oncetask
from gcp_oncetask import Config, LockedModel, Locker, UsageError, locked
from gcp_oncetask.checks import words
from gcp_oncetask.flask import locked_handler
from gcp_oncetask.tasks import OnceTask, Recurrence, TaskData, TaskManager, cron, every, queue_kind
from gcp_oncetask.worker import Worker

PACKAGE = Path(gcp_oncetask.__file__).parent
START = datetime(2026, 1, 1, tzinfo=UTC)
Make = Callable[..., Any]


class Order(LockedModel, collection="customers/{customer_id}/words"):
    customer_id: str


class Pulled(TaskData, kind="words-pulled", pull=True):
    pass


@pytest.fixture
def locker() -> Locker:
    """
    A locker that is asked for nothing.
    """
    return Locker(config=Config(project="demo", base_url="https://orders.test", service_account="a@b.test"))


@pytest.fixture
def manager(locker: Locker) -> TaskManager:
    """
    A manager with one handler.
    """
    made = TaskManager(locker)
    made.register_task_handler(Pulled, lambda task, attempt: None)
    return made


def of_class(base: type, **arguments: Any) -> Make:
    """
    Makes a subclass of *base* with these class arguments.
    """
    return lambda _: type("Made", (base,), {"__module__": __name__}, **arguments)


def run(task: OnceTask[Pulled], attempt: Any) -> None:
    """
    A handler.
    """


WORDS: dict[str, list[tuple[str, Make]]] = {
    "Verify": [("platform", lambda _: Config(verify="platfrom"))],
    "LogLevel": [
        ("WARNING", lambda _: Config(log_level="WARNIG")),
        ("WARNING", lambda _: Config.from_env({"ONCETASK_LOG_LEVEL": "warnig"})),
    ],
    "OnUnknown": [
        ("quarantine", lambda m: locked_handler(m.locker, Order, on_unknown="quarantin")),
        ("quarantine", lambda m: m.handler(Pulled, on_unknown="quarantin")(run)),
    ],
    "AlertOn": [
        ("failure", lambda m: locked_handler(m.locker, Order, alert_on=["takeover", "failures"])),
        ("failure", lambda m: m.register_task_handler(Pulled, run, alert_on=["failures"])),
    ],
    "How": [
        ("run", lambda m: m.locker.resolve(Order, "42", "rnu", customer_id="7")),
        ("complete", lambda m: m.locker.resolve_path("orders/42", "completed")),
    ],
    "OnBusy": [("skip", lambda m: locked(m.locker, on_busy="skp"))],
    "OnConflict": [("raise", of_class(TaskData, kind="a", on_conflict="rais"))],
    "Unique": [
        ("queued", of_class(TaskData, kind="a", unique="queud")),
        ("running", lambda _: queue_kind("words-queue", unique="runing")),
    ],
    "Misfire": [
        ("latest", lambda _: Recurrence("FREQ=DAILY", START, misfire="lates")),
        ("latest", lambda _: cron("@daily", misfire="lates")),
    ],
    "Overlap": [("queue", lambda _: every(timedelta(hours=1), overlap="queu"))],
}
"""By the name of the ``Literal``: the word that was meant, and a call with it misspelt."""


def literals() -> dict[str, list[str]]:
    """
    Every ``Name = Literal["...", ...]`` of texts in the library.
    """
    found: dict[str, list[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if (
                isinstance(node, ast.Assign)
                and isinstance(node.value, ast.Subscript)
                and ast.unparse(node.value.value) == "Literal"
            ):
                found[ast.unparse(node.targets[0])] = [
                    each.value for each in ast.walk(node.value) if isinstance(each, ast.Constant)
                ]
    return found


def test_every_list_of_words_is_tried() -> None:
    """
    A new list of words gets a row here.
    """
    assert set(literals()) == set(WORDS)


@pytest.mark.parametrize(
    ("name", "meant", "call"), [(name, meant, call) for name, rows in WORDS.items() for meant, call in rows]
)
def test_wrong_word_is_refused_with_the_allowed_ones_and_the_nearest(
    manager: TaskManager, name: str, meant: str, call: Make
) -> None:
    """
    The error lists the allowed words and says which was probably meant.
    """
    with pytest.raises(UsageError) as caught:
        call(manager)

    said = str(caught.value)
    assert f"Did you mean {meant}?" in said
    allowed = {word.upper() for word in literals()[name]} if name == "LogLevel" else literals()[name]
    assert all(repr(word) in said for word in allowed)


NAMES: list[tuple[str, str, Make]] = [
    ("colection", "collection", of_class(LockedModel, colection="orders")),
    ("tombston", "tombstone", of_class(TaskData, kind="a", tombston=True)),
    ("knid", "kind", of_class(TaskData, knid="a")),
    ("froze", "frozen", of_class(TaskData, kind="a", froze=True)),
    ("pul", "pull", lambda _: queue_kind("words-names", pul=True)),
    ("custmer_id", "customer_id", lambda m: m.locker.get(Order, "42", custmer_id="7")),
    ("custmer_id", "customer_id", lambda m: m.locker.result(Order, "42", custmer_id="7")),
    ("custmer_id", "customer_id", lambda m: m.locker.resolve(Order, "42", "run", customer_id="7", custmer_id="7")),
    ("words-puled", "words-pulled", lambda m: Worker(m, kinds=["words-puled"])),
    ("words-puled", "words-pulled", lambda m: Worker(m, concurrency={"words-puled": 3})),
    ("@dialy", "@daily", lambda _: cron("@dialy")),
    ("Europe/Berln", "Europe/Berlin", lambda _: cron("@daily", tz="Europe/Berln")),
    ("ONCETASK_QUEU", "ONCETASK_QUEUE", lambda _: Config.from_env({"ONCETASK_QUEU": "a"})),
]


@pytest.mark.parametrize(("given", "meant", "call"), NAMES)
def test_unknown_name_is_refused_with_the_nearest(manager: TaskManager, given: str, meant: str, call: Make) -> None:
    """
    The error says which name is unknown and which was probably meant.
    """
    with pytest.raises(UsageError) as caught:
        call(manager)

    assert given in str(caught.value)
    assert f"Did you mean {meant}?" in str(caught.value)


def test_class_arguments_of_another_base_pass() -> None:
    """
    Class arguments of pydantic's configuration and of the user's own bases are no mistakes.
    """
    taken: list[str] = []

    class Audited(BaseModel):
        def __init_subclass__(cls, *, audit: str = "", **kwargs: Any) -> None:
            super().__init_subclass__(**kwargs)
            taken.append(audit)

    class Payment(TaskData, Audited, kind="words-payment", audit="books", frozen=True):
        amount: int

    class Invoice(LockedModel, Audited, collection="invoices", audit="sums", str_strip_whitespace=True):
        amount: int

    assert taken == ["books", "sums"]
    assert Payment.model_config["frozen"]
    assert Invoice(id=" 1 ", amount=2).id == "1"
    with pytest.raises(UsageError, match=r"takes no audti=; it takes kind=, .*tombstone=\."):
        type("Made", (TaskData, Audited), {"__module__": __name__}, kind="a", audti="books")


def test_arguments_of_a_kind_without_a_kind_are_refused() -> None:
    """
    They would be lost: the class that names the kind says them.
    """
    with pytest.raises(UsageError, match="retention= is said of a kind; give kind= too"):
        type("Made", (TaskData,), {"__module__": __name__}, retention=timedelta(days=1))


@pytest.mark.parametrize("value", [None, True, 1, ["run"], "", "xyz"])
def test_what_is_no_word_at_all_is_refused(value: object) -> None:
    """
    Other types, and a text that is near to none: no guess.
    """
    with pytest.raises(UsageError, match=r"^how is .*; it must be 'run', 'complete' or 'fail'\.$"):
        words.check("how", value, ("run", "complete", "fail"))
    words.check("how", "run", ("run", "complete", "fail"))
    assert words.hint("COMPLET", ("run", "complete", "fail")) == " Did you mean complete?"
