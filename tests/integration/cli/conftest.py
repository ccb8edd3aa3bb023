"""
Commands in this process.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gcp_oncetask.cli import main
from gcp_oncetask.testing.cloud import ACCOUNT, OncetaskCloud
from tests.support.tasks import Service

Run = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def service(oncetask_cloud: OncetaskCloud, monkeypatch: pytest.MonkeyPatch) -> Service:
    """
    A deployment; the command line has its locker.
    """
    return Service(oncetask_cloud, service_account=ACCOUNT).have_commands(monkeypatch)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """
    Run a command; its exit code, lines and lines of standard error. All that it says is printable.
    """

    def made(*arguments: str) -> tuple[int, list[str], list[str]]:
        capsys.readouterr()
        code = main(list(arguments))
        out, err = capsys.readouterr()
        assert all(line.isprintable() for line in [*out.split("\n"), *err.split("\n")])
        return code, out.splitlines(), err.splitlines()

    return made
