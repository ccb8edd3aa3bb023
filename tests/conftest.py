"""
What holds for every test: a limit that grows with the load of the machine, and no process that outlives the run.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Generator

import pytest
from hypothesis import settings

from tests.support.patience import patient
from tests.support.reaper import watch

# On a busy machine an example may take longer than the 200 ms that are allowed otherwise.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

_WATCHER = pytest.StashKey[subprocess.Popen[bytes]]()


def pytest_configure(config: pytest.Config) -> None:
    """
    The first process of a run has its processes watched.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell starts what runs in the background so, and everything that tests start would be as deaf.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        config.stash[_WATCHER] = watch()


def pytest_unconfigure(config: pytest.Config) -> None:
    """
    Let the watcher look for what is left.
    """
    if (watcher := config.stash.get(_WATCHER, None)) is not None:
        assert watcher.stdin is not None
        watcher.stdin.close()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """
    The time limit of a test is one of a quiet machine.
    """
    marker = item.get_closest_marker("timeout")
    if marker is not None:
        limit = float(marker.args[0])
    else:
        limit = float(item.config.getoption("timeout") or item.config.getini("timeout"))
    item.add_marker(pytest.mark.timeout(patient(limit)), append=False)
    return (yield)
