"""
Complete command lines for people: each has all settings that it needs, and is quoted for a shell.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from gcp_oncetask.rules import choices
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.rules.verbs import Sort
from gcp_oncetask.runtime.runtime import Runtime

_READS = frozenset({"show", "list", "timeline"})


def command_line(runtime: Runtime, *arguments: str) -> str:
    """
    Return the command line of *arguments* for this deployment.
    """
    config = runtime.config
    settings = {"ONCE_TASK_ENV": config.env, "GOOGLE_CLOUD_PROJECT": runtime.project()}
    if config.database != "(default)":
        settings["ONCETASK_DATABASE"] = config.database
    if arguments[0] not in _READS:
        settings |= _dispatching(runtime)
    where = " ".join(f"{name}={for_shell(value)}" for name, value in settings.items())
    return f"{where} python -m gcp_oncetask {' '.join(map(for_shell, arguments))}"


def _dispatching(runtime: Runtime) -> Mapping[str, str]:
    # A command that makes a delivery needs the identity of deliveries, and must know where they may go.
    config = runtime.config
    found = {
        "ONCETASK_COLLECTIONS": ",".join(config.collections),
        "ONCETASK_BASE_URL": config.base_url,
        "ONCETASK_TARGETS": ",".join(config.targets),
        "ONCETASK_VERIFY": "off" if config.verify == "off" else None,
        "ONCETASK_SERVICE_ACCOUNT": config.service_account,
        "ONCETASK_AUDIENCE": ",".join(config.audience),
    }
    return {name: value for name, value in found.items() if value}


def deciding_lines(runtime: Runtime, path: str, sort: Sort, lock: Lock) -> tuple[tuple[str, str], ...]:
    """
    Return the command lines that decide about the record at *path*, each with the sentence about its effect.
    """
    found = choices.prepared(path, sort, lock)
    return tuple((command_line(runtime, *one.arguments), one.effect) for one in found)


def for_shell(text: str) -> str:
    """
    Return *text* as a printable word for a shell. Characters that are not printable are escaped in the form that bash,
    zsh and POSIX of 2024 read.
    """
    if text.isprintable():
        return shlex.quote(text)
    escaped = (
        char
        if char.isprintable() and char not in "\\'"
        else "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "replace"))
        for char in text
    )
    return f"$'{''.join(escaped)}'"
