"""
Alert a person of tasks that workers pull and that no worker has fetched in time, once for each kind.

Cost:
    One query per 15 shards for each kind that has tasks in its lane; it reads no document while workers keep up.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from typing import Final

from gcp_oncetask.effects import damage, queue_alarm
from gcp_oncetask.errors import OncetaskError
from gcp_oncetask.observe.log_context import LOGGER
from gcp_oncetask.rules.document_paths import pull_lane
from gcp_oncetask.rules.timestamps import instant
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.queries import due_for_workers, due_of

SEEN: Final = 20
"""Most tasks of a kind that are read; if there are as many, the alert says "20 or more"."""


def tell(runtime: Runtime, kinds: Iterable[str]) -> int:
    """
    Alert a person of each of *kinds* whose tasks have waited for a worker for too long, unless a person was alerted already.
    Return the number of alerts sent. A failure is logged: the next sweep looks again.
    """
    told = 0
    for kind in sorted(kinds):
        try:
            told += _tell(runtime, kind)
        except OncetaskError as error:
            LOGGER.error("whether %s tasks wait for a worker is not known: %s", kind, error)
    return told


def _tell(runtime: Runtime, kind: str) -> int:
    store, config = runtime.store, runtime.config
    by = store.estimate() - timedelta(seconds=config.stuck)
    aside = partial(damage.set_aside, runtime)
    found = due_for_workers(store, config.env, kind, range(config.pull_shards), SEEN, aside, by=by)
    documents = [each.document for each in found if each.document is not None]
    if not documents:
        return 0
    since = min(due_of(document) for document in documents)
    many = f"{SEEN} or more" if len(found) >= SEEN else str(len(found))
    sentence = (
        f"{many} task(s) of the kind {kind} wait for a worker, the oldest of those seen since {instant(since)}, {found[0].path} "
        f"among them. Does a worker of the environment {config.env} run, with a handler for {kind} and a version that knows them?"
    )
    return queue_alarm.tell(runtime, queue_alarm.Standstill(pull_lane(kind), len(found), since, sentence))
