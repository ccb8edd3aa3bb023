"""
The process of the lock tests: it holds a lock for as long as the test says, and tells what becomes of it.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from typing import Any

from gcp_oncetask import LeaseLostError, Locker, locked


def tell(event: str, **facts: Any) -> None:
    """
    Tell the test, and go on when it answers.
    """
    body = json.dumps({"event": event, "pid": os.getpid(), **facts}).encode()
    with urllib.request.urlopen(os.environ["CONTROL_URL"], data=body, timeout=600) as answer:
        answer.read()


def lost(error: LeaseLostError, name: str) -> None:
    """
    The promised callback.
    """
    tell("lost", name=name, token=error.token, taken_over=error.taken_over)


def main() -> None:
    """
    Arguments: ``ttl`` or ``keep_alive``, and its seconds.
    """
    locker = Locker.from_env()
    options: dict[str, Any] = {sys.argv[1]: float(sys.argv[2])}

    @locked(locker, key="graph", on_lost=lost, **options)
    def work(name: str) -> str:
        tell("running", name=name)
        return "done"

    tell("returned", value=work("first"))
    lock = locker.lock("graph", timeout=0)
    tell("over", acquired=lock.acquire())


main()
