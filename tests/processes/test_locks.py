"""
Named locks in real processes that are stopped and killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gcp_emulator.cloud import LocalCloud
from gcp_oncetask import Config, Locker
from tests.processes.test_servers import ROOT, Control
from tests.support.patience import patient


@contextmanager
def holding(*arguments: str) -> Iterator[tuple[Locker, Control, threading.Event, subprocess.Popen[bytes]]]:
    """
    A process that runs a locked function and stays in it until the gate opens; and a locker of the test's own.
    """
    gate = threading.Event()
    control = Control()
    control.hold = lambda fact: gate if fact["event"] == "running" else None
    with LocalCloud(smtp=False) as cloud, pytest.MonkeyPatch.context() as patch:
        settings = cloud.environment()
        patch.setenv("FIRESTORE_EMULATOR_HOST", settings["FIRESTORE_EMULATOR_HOST"])
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.lock_app", *arguments],
            cwd=ROOT,
            env={**os.environ, **settings, "CONTROL_URL": control.url},
        )
        try:
            control.wait("running")
            yield Locker(config=Config.from_env(settings)), control, gate, process
        finally:
            gate.set()
            process.kill()
            process.wait(patient(30))
            control.server.shutdown()
            control.server.server_close()


def record(locker: Locker) -> dict[str, Any] | None:
    """
    The lock's document.
    """
    found: dict[str, Any] | None = locker.client.document(locker.lock("graph").document).get().to_dict()
    return found


@pytest.mark.parametrize("kind", ["ttl", "keep_alive"])
def test_stopped_holder_is_taken_over_called_back_once_and_changes_nothing(kind: str) -> None:
    """
    SIGSTOP past the ttl, taken by another process, SIGCONT: one callback, the result goes on, the new holder's lock is untouched.
    """
    with holding(kind, str(patient(3))) as (locker, control, gate, process):
        mine = locker.lock("graph", ttl=60)
        assert not mine.acquire(blocking=False)
        os.kill(process.pid, signal.SIGSTOP)
        try:
            assert mine.acquire(timeout=patient(30))
            before = record(locker)
        finally:
            gate.set()
            os.kill(process.pid, signal.SIGCONT)
        [returned] = control.wait("returned")
        [over] = control.wait("over")
        assert process.wait(patient(20)) == 0

        [lost] = control.of("lost")
        assert (lost["name"], lost["taken_over"]) == ("first", True)
        assert lost["token"] < mine.token
        assert (returned["value"], over["acquired"]) == ("done", False)
        assert before == record(locker)
        assert mine.held
        mine.release()


@pytest.mark.parametrize("kind", ["ttl", "keep_alive"])
def test_holder_stopped_within_its_ttl_is_not_called_back(kind: str) -> None:
    """
    SIGSTOP and SIGCONT well within the ttl change nothing.
    """
    with holding(kind, "60") as (locker, control, gate, process):
        os.kill(process.pid, signal.SIGSTOP)
        assert not locker.lock("graph").acquire(timeout=1)
        gate.set()
        os.kill(process.pid, signal.SIGCONT)
        control.wait("over")
        assert process.wait(patient(20)) == 0

        assert control.of("lost") == []
        assert [fact["acquired"] for fact in control.of("over")] == [True]


def test_killed_holder_that_was_kept_alive_frees_its_lock() -> None:
    """
    Held across several lengths of its lease while it lives; within one after SIGKILL.
    """
    lease = patient(3)
    with holding("keep_alive", str(lease)) as (locker, _, _gate, process):
        mine = locker.lock("graph", ttl=60)
        assert not mine.acquire(timeout=2 * lease + 1)
        process.kill()
        process.wait(patient(30))
        assert mine.acquire(timeout=lease + patient(1))


def released_by_hand(locker: Locker) -> subprocess.CompletedProcess[str]:
    """
    ``locks release graph``, in a process that has no terminal.
    """
    config = locker.config
    settings = {"FIRESTORE_EMULATOR_HOST": str(config.firestore_emulator), "GOOGLE_CLOUD_PROJECT": str(config.project)}
    return subprocess.run(
        [sys.executable, "-m", "gcp_oncetask", "locks", "release", "graph", "--yes", "--as", "ann"],
        cwd=ROOT,
        env={**os.environ, **settings},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=patient(60),
        check=False,
    )


def test_op_51_lock_of_a_killed_process_is_released_by_name() -> None:
    """
    SIGKILL an hour before the lock's end: nobody gets it until the command, and then at once, with a greater token.
    """
    with holding("ttl", "3600") as (locker, _, _gate, process):
        before = record(locker)
        process.kill()
        process.wait(patient(30))
        mine = locker.lock("graph", ttl=60)
        assert not mine.acquire(timeout=1)
        done = released_by_hand(locker)
        assert (done.returncode, done.stdout[:16]) == (0, "'graph' is free:"), done.stderr
        assert mine.acquire(blocking=False)

        assert before is not None
        assert mine.token > before["lock"]["token"]


def test_op_51_holder_that_was_only_stopped_is_told() -> None:
    """
    SIGSTOP, the command, SIGCONT: one callback about the lost lease, and the lock stays free for the next one.
    """
    with holding("ttl", "3600") as (locker, control, gate, process):
        os.kill(process.pid, signal.SIGSTOP)
        try:
            assert released_by_hand(locker).returncode == 0
            before = record(locker)
        finally:
            gate.set()
            os.kill(process.pid, signal.SIGCONT)
        [returned] = control.wait("returned")
        control.wait("over")
        assert process.wait(patient(20)) == 0

        [lost] = control.of("lost")
        assert (lost["taken_over"], returned["value"]) == (True, "done")
        assert before is not None
        assert lost["token"] == before["lock"]["token"]
