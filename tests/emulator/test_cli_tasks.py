"""
What the command line does about tasks: failed deliveries, App Engine, projects.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys

import pytest

from gcp_emulator.cli import main
from tests.support.patience import patient

CODE = """
import os, sys, time
import grpc
from google.cloud.tasks_v2 import CloudTasksClient
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

channel = grpc.insecure_channel(os.environ["CLOUD_TASKS_EMULATOR_HOST"])
client = CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))
parent = f"projects/{os.environ['GOOGLE_CLOUD_PROJECT']}/locations/us-central1/queues/default"
task = {"name": f"{parent}/tasks/t", "app_engine_http_request": {"relative_uri": "/x"}}
name = client.create_task(parent=parent, task=task).name
while not client.get_task(name=name).last_attempt.response_time:
    time.sleep(0.01)
try:
    client.get_queue(name=parent.replace("demo-local", "other"))
except Exception as error:
    print(type(error).__name__)
"""


def run(*options):
    command = [sys.executable, "-m", "gcp_emulator", "exec", *options, "--", sys.executable, "-c", CODE]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=patient(60))


@pytest.fixture
def port():
    """
    A port at which no server listens.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_a_failed_delivery_is_a_line_on_the_terminal(port):
    """
    The line names queue, task and reason, and the next attempt. The task for App Engine went to the named address.
    """
    done = run("--app-engine", f"http://127.0.0.1:{port}", "--project-only")
    assert (done.returncode, done.stdout) == (0, "PermissionDenied\n"), done.stderr
    line = f"failed     default/t: 127.0.0.1:{port} refused the connection; no server listens there; attempt 1, again in 0.1 s"
    assert line in done.stderr.splitlines()


def test_quiet_shows_no_failed_delivery(port):
    """
    With ``--quiet`` nothing is shown. Other projects are served unless they are refused: this one has no such queue. App
    Engine is the server's address by default.
    """
    done = run("--quiet", "--app-port", str(port))
    assert (done.returncode, done.stdout, done.stderr) == (0, "NotFound\n", "")


@pytest.mark.parametrize("address", ["127.0.0.1:8080", "ftp://x.test", "http://", "http://x.test/?q=1"])
def test_an_address_of_app_engine_is_checked(capsys, address):
    """
    What is no address of a server is a usage error.
    """
    with pytest.raises(SystemExit) as caught:
        main(["start", "--app-engine", address])
    assert caught.value.code == 2
    assert re.search(rf"'{re.escape(address)}' is no address such as http://", capsys.readouterr().err)
