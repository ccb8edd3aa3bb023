"""
The files of "Deploy" fit each other, the settings, and the commands of the page.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from gcp_oncetask.config import Config
from tests.support.pages import Block, commands, parse
from tests.support.readme import ROOT

PAGE = ROOT / "docs" / "how-to" / "deploying.md"
BLOCKS = parse(PAGE.read_text())
FILES = {block.asked["file"]: block.text for block in BLOCKS if block.asked is not None and block.asked["file"]}


def commands_of(blocks: list[Block]) -> list[list[str]]:
    """
    The words of each command that the page shows.
    """
    return [
        shlex.split(command.replace("\\\n", ""))
        for block in blocks
        if block.language == "console"
        for command, _ in commands(block)
    ]


COMMANDS = commands_of(BLOCKS)


def options(*beginning: str) -> dict[str, str]:
    """
    The options of the one command that begins so, by name.
    """
    [found] = [words for words in COMMANDS if tuple(words[: len(beginning)]) == beginning]
    return {
        name: value
        for name, equals, value in (word[2:].partition("=") for word in found if word.startswith("--"))
        if equals
    }


@pytest.fixture
def service() -> dict[str, Any]:
    """
    The template of the service, as a reader of YAML sees it.
    """
    found: dict[str, Any] = yaml.safe_load(FILES["service.yaml"])["spec"]["template"]["spec"]
    return found


@pytest.fixture
def settings(service: dict[str, Any]) -> dict[str, str]:
    [container] = service["containers"]
    return {each["name"]: each["value"] for each in container["env"]}


def test_settings_of_the_service_are_settings(settings: dict[str, str]) -> None:
    """
    Each has its row in the reference, and the library takes its value.
    """
    reference = (ROOT / "docs" / "reference" / "settings.md").read_text()
    rows = set(re.findall(r"^\| `(\w+)` \|", reference, re.MULTILINE))

    assert len(settings) >= 7
    assert set(settings) - rows == set()
    assert Config.from_env(settings).env == settings["ONCE_TASK_ENV"]


def test_dry_run_reads_what_cloud_run_reads(settings: dict[str, str], tmp_path: Path) -> None:
    """
    It finds the settings without a reader of YAML, and finds the same ones.
    """
    for name in ("service.yaml", "dry_run.py"):
        (tmp_path / name).write_text(FILES[name])
    told = [sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))"]
    command = [sys.executable, "dry_run.py", *told]
    done = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True, check=True)

    assert {name: value for name, value in json.loads(done.stdout).items() if name != "LC_CTYPE"} == settings


def test_limits_of_platform_and_server_fit(service: dict[str, Any], settings: dict[str, str]) -> None:
    server: dict[str, int] = {}
    exec(FILES["gunicorn.conf.py"], server)

    assert service["timeoutSeconds"] == float(settings["ONCETASK_REQUEST_TIMEOUT_SECONDS"])
    assert service["containerConcurrency"] == server["threads"]


def test_image_runs_what_the_dry_run_tries() -> None:
    """
    The same command, and files that the page has.
    """
    [told] = re.findall(r"^CMD (.*)$", FILES["Dockerfile"], re.MULTILINE)
    copied = re.findall(r"^COPY (.*) \S+$", FILES["Dockerfile"], re.MULTILINE)
    tried = [words for words in COMMANDS if words[:2] == ["python", "dry_run.py"] and "gcp-emulator" in words]

    assert [words[words.index("--") + 1 :] for words in tried] == [json.loads(told)]
    assert {name for names in copied for name in names.split()} <= set(FILES)


def test_queue_and_sweep_are_those_of_the_settings(settings: dict[str, str]) -> None:
    """
    The queue has the limits of the one that ``functions/main.py`` declares. The sweep is called by an account that may call,
    with the audience that is accepted.
    """
    queue = options("gcloud", "tasks", "queues", "create", settings["ONCETASK_QUEUE"])
    functions = (ROOT / "functions" / "main.py").read_text()
    declared = dict(re.findall(r"(max_attempts|m\w+_seconds|max_doublings)=(-?\d+)", functions))
    sweep = options("gcloud", "scheduler", "jobs", "create")

    assert queue == {
        "location": settings["ONCETASK_LOCATION"],
        "max-attempts": declared["max_attempts"],
        "max-retry-duration": f"{declared['max_retry_seconds']}s",
        "min-backoff": f"{declared['min_backoff_seconds']}s",
        "max-backoff": f"{declared['max_backoff_seconds']}s",
        "max-doublings": declared["max_doublings"],
    }
    assert sweep["uri"] == settings["ONCETASK_BASE_URL"] + "/oncetask/sweep"
    assert sweep["oidc-token-audience"] == settings["ONCETASK_BASE_URL"]
    assert sweep["oidc-service-account-email"] == settings["ONCETASK_SERVICE_ACCOUNT"]


def test_roles_of_the_table_are_given(service: dict[str, Any]) -> None:
    """
    The table and the commands have the same roles.
    """
    page = PAGE.read_text()
    table = set(re.findall(r"^\|[^|]*\| `roles/([\w.]+)` \|", page, re.MULTILINE))
    [loop] = [words for words in COMMANDS if words[:3] == ["for", "role", "in"]]
    given = {word.rstrip(";") for word in loop[3 : loop.index("do")]}
    given |= {word.removeprefix("--role=roles/") for words in COMMANDS for word in words if "--role=roles/" in word}

    assert table == given - {"$role"}
    assert f"--member=serviceAccount:{service['serviceAccountName']};" in " ".join(loop)
