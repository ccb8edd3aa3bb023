"""
Lines in Cloud Logging's form, decoded, and the attempt that they are about.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from gcp_oncetask.observe.log_context import LogContext

TRACE = "0123456789abcdef0123456789abcdef"
CONTEXT = LogContext("onceTasks/ä", 3, 0, 2**60, "cafe01", "PROD", TRACE)
NOW = datetime(2026, 3, 1, 12, 0, 0, 7, tzinfo=UTC)


def strictly(text: str) -> dict[str, Any]:
    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no JSON")

    value: dict[str, Any] = json.loads(text, parse_constant=refuse)
    return value


def one(lines) -> dict[str, Any]:
    [line] = lines()
    found: dict[str, Any] = line
    return found
