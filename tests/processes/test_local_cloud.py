"""
``gcp-emulator`` gives an application that knows only its environment all that it needs: real servers, real HTTP, real mail.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import urllib.request
from pathlib import Path

from gcp_emulator.ports import free_port
from tests.support.commands import Stream, running

ROOT = Path(__file__).parents[2]
APP = "tests.support.bills_app:app"
PYTHON = shlex.quote(sys.executable)
BARE = {
    **{name: value for name, value in os.environ.items() if not name.startswith(("ONCE", "GOOGLE", "PORT", "FLASK"))},
    "PYTHONUNBUFFERED": "1",
}


def told(output: Stream) -> list[str]:
    """
    What the handlers have printed.
    """
    return sorted(line for line in output.lines if line.startswith(("bill ", "reminder ")))


def take(port: int, number: str, amount: int) -> dict[str, bool]:
    """
    Ask the application to schedule a bill and a reminder of it.
    """
    request = urllib.request.Request(f"http://127.0.0.1:{port}/bills/{number}/{amount}", method="POST")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return dict(json.load(answer))


def test_exec_gives_a_server_all_that_it_needs() -> None:
    """
    Under exec, gunicorn listens where tasks are delivered; entities and once-tasks run once, and an alert reaches the sink.
    """
    port = free_port()
    command = f"{PYTHON} -m gcp_emulator exec --fault duplicate=1 --app-port {port} -- {PYTHON} -m gunicorn {APP}"
    with running(command, ROOT, {**BARE, "GUNICORN_CMD_ARGS": "--access-logfile -"}) as (output, errors):
        errors.wait(lambda lines: any(f"Listening at: http://0.0.0.0:{port}" in line for line in lines))
        assert take(port, "7", 500) == {"bill": True, "reminder": True}
        # Each twice, as the fault says: four deliveries.
        output.wait(lambda lines: sum('"POST /tasks' in line or '"POST /oncetask' in line for line in lines) >= 4)
        errors.wait(lambda lines: any(line.startswith("mail to oncall@example.com: ") for line in lines))

    assert told(output) == ["bill 7 is too high", "reminder of 7"]
    [mail] = [line for line in errors.lines if line.startswith("mail to ")]
    assert "bills/7" in mail


def test_what_start_prints_is_all_that_a_server_needs() -> None:
    """
    With the lines of start as its whole configuration, flask run listens where tasks are delivered, and runs them.
    """
    port = free_port()
    with running(f"{PYTHON} -m gcp_emulator start --app-port {port}", ROOT, BARE) as (exports, ready):
        ready.wait(lambda lines: any(line.startswith("ready") for line in lines))
        exports.wait(lambda lines: any("ONCETASK_ALERT_TO=" in line for line in lines))
        words = [shlex.split(line) for line in exports.lines]
        assert {word for word, _ in words} == {"export"}
        environ = {**BARE, **dict(assignment.split("=", 1) for _, assignment in words)}
        with running(f"{PYTHON} -m flask --app {APP} run", ROOT, environ) as (output, errors):
            errors.wait(lambda lines: any(f"Running on http://127.0.0.1:{port}" in line for line in lines))
            assert take(port, "8", 5) == {"bill": True, "reminder": True}
            output.wait(lambda _: len(told(output)) == 2)

    assert told(output) == ["bill 8 is paid", "reminder of 8"]
