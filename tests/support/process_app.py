"""
The application that the process tests serve with gunicorn: its handler asks the test what to do, and tells it what it learnt.
"""

from __future__ import annotations

import json
import os
import urllib.request
from typing import Any

from flask import Flask

from gcp_oncetask import Attempt, LeaseLostError, Locker
from gcp_oncetask.flask import blueprint, locked_handler
from tests.support.jobs import Job

LEASE = float(os.environ["JOB_LEASE"])

locker = Locker.from_env()
app = Flask(__name__)
app.register_blueprint(blueprint(locker))


def tell(event: str, **facts: Any) -> None:
    """
    Tell the test, and go on when it answers.
    """
    body = json.dumps({"event": event, "pid": os.getpid(), **facts}).encode()
    with urllib.request.urlopen(os.environ["CONTROL_URL"], data=body, timeout=600) as answer:
        answer.read()


@app.post("/tasks/job")
@locked_handler(locker, Job, lease_duration=LEASE, lease_timeout=2 * LEASE)
def work(job: Job, attempt: Attempt) -> None:
    tell("running", job=job.id, number=attempt.number, key=attempt.key, token=attempt.token)
    job.note = f"by attempt {attempt.number}"
    try:
        locker.complete(job)
    except LeaseLostError:
        tell("lost", number=attempt.number)
        raise


if os.environ.get("SCHEDULE_AT_IMPORT"):
    # Before gunicorn forks: the channel of this process must not be used by its children.
    locker.schedule(Job(id="preloaded"), "/tasks/job")
