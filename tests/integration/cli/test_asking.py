"""
Questions before a command writes: on a terminal, with ``--yes``, and where there is no terminal.
"""

from __future__ import annotations

import io
from typing import Any

import pytest

from gcp_oncetask import Config, Locker, UsageError
from gcp_oncetask.cli import asking
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.tasks import Service


class Terminal(io.StringIO):
    """
    A terminal on which a person has typed a text.
    """

    def isatty(self) -> bool:
        return True


@pytest.fixture
def locker(cloud_on_ports: OncetaskCloud) -> Any:
    return Service(cloud_on_ports).manager.locker


def answered(locker: Any, typed: str, monkeypatch: pytest.MonkeyPatch, **more: Any) -> bool:
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    return asking.asked(locker, ["The token goes up."], "Release it?", **more)


@pytest.mark.parametrize(
    ("typed", "sure"), [("y\n", True), (" YES \n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_only_yes_is_yes(
    locker: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str, sure: bool
) -> None:
    """
    The place stands in the first line and in the question; all of it is on standard error; no other answer goes on.
    """
    assert answered(locker, typed, monkeypatch) is sure
    out, err = capsys.readouterr()
    first, second, question = err.split("\n")[:3]

    assert out == ""
    assert first == asking.place(locker)
    assert first.endswith("database (default), environment DEFAULT")
    assert second == "The token goes up."
    assert question.startswith(f"Release it? ({first}) [y/N] ")
    assert ("Nothing was done." in err) is not sure


@pytest.mark.parametrize(("typed", "sure"), [("1200\n", True), ("y\n", False), ("120\n", False), ("", False)])
def test_a_number_is_typed(locker: Any, monkeypatch: pytest.MonkeyPatch, typed: str, sure: bool) -> None:
    """
    Of many items yes is not enough.
    """
    assert answered(locker, typed, monkeypatch, number=1200) is sure


def test_without_a_terminal_nothing_is_asked(
    locker: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    It is wrong use without --yes; with it, the place and the consequences are said all the same.
    """
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(UsageError, match=r"give --yes .* Nothing was done"):
        asking.asked(locker, ["It goes up."], "Release it?")
    capsys.readouterr()

    assert asking.asked(locker, ["It goes\x1b up."], "Release it?", yes=True, number=5)
    assert capsys.readouterr().err.split("\n")[:2] == [asking.place(locker), "It goes\\x1b up."]


def test_an_emulator_is_called_local(cloud_on_ports: OncetaskCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    So that the local cloud is not taken for production, nor production for the local cloud.
    """
    local = cloud_on_ports.local
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", local.firestore.address)
    config = Config.from_env(
        {
            "GOOGLE_CLOUD_PROJECT": local.project,
            "FIRESTORE_EMULATOR_HOST": local.firestore.address,
            "ONCE_TASK_ENV": "E",
        }
    )

    assert asking.place(Locker(config=config)) == f"LOCAL project {local.project}, database (default), environment E"
