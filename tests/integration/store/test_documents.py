"""
docs/reference/documents.md says what is stored.
"""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from gcp_oncetask import Config, Locker
from gcp_oncetask.effects import owed_alerts
from gcp_oncetask.flask import blueprint
from gcp_oncetask.store.snapshot import Snapshot
from gcp_oncetask.tasks import Recurrence, TaskData, TaskManager, every
from gcp_oncetask.testing.cloud import OncetaskCloud

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "documents.md").read_text()
TYPES = {
    "string": "string_value",
    "map": "map_value",
    "boolean": "boolean_value",
    "integer": "integer_value",
    "double": "double_value",
    "timestamp": "timestamp_value",
    "array": "array_value",
}


class Note(TaskData, kind="doc-note", retention=timedelta(days=2)):
    text: str

    def resource_key(self) -> str:
        return "desk"


class Rubbing(TaskData, kind="doc-rubbing", retention=timedelta(days=2), tombstone=True):
    text: str


class Leaf(TaskData, kind="doc-leaf"):
    text: str


class Parent(TaskData, kind="doc-parent"):
    text: str


class Daily(TaskData, kind="doc-daily"):
    text: str

    def recurrence(self) -> Recurrence:
        return every(timedelta(days=1))


def documented(collection: str) -> dict[str, str]:
    """
    Field -> type, by the tables of a collection.
    """
    sections = [section.split("\n## ")[0] for section in PAGE.split(f"## `{collection}/")[1:]]
    return dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", "\n".join(sections), re.MULTILINE))


@pytest.fixture
def stored(oncetask_cloud: OncetaskCloud) -> dict[str, Any]:
    """
    Documents after tasks of every sort: with a key and waiting for it, recurring, kept, erased; and of the registry.
    """
    manager = TaskManager(Locker(config=Config(base_url="https://docs.test")))
    app = Flask("documents")
    app.register_blueprint(blueprint(manager))
    oncetask_cloud.use(manager.locker)
    oncetask_cloud.mount("https://docs.test", app)
    for model in (Note, Rubbing, Daily, Leaf):
        manager.register_task_handler(model, lambda task, attempt: "done")
    manager.create_tasks([Note(text="a"), Note(text="b"), Rubbing(text="c"), Daily(text="d")])
    oncetask_cloud.advance(days=3)
    oncetask_cloud.sweep()
    manager.register_task_handler(Parent, lambda task, attempt: attempt.run_task("child", Leaf(text="child")))
    manager.create_task(Parent(text="p"))
    oncetask_cloud.run_until_idle()
    manager.create_task(Note(text="e"))
    damaged = manager._name_of(Note, Note(text="e").task_id()).path
    manager.locker.client.document(damaged).update({"lock.status": "nonsense"})
    for number in range(3):
        unknown = Snapshot(f"deliveries/{number}", None, None, None)
        owed_alerts.send_directly(manager.locker._runtime, unknown, f"rejected-{number}", "it is malformed")
    oncetask_cloud.local.tasks_client().pause_queue(name=oncetask_cloud.local.queue)
    manager.create_task(Note(text="f"))
    oncetask_cloud.clock.advance(3600)
    oncetask_cloud.sweep()
    # The damaged one still needs a person, so a reminder is due.
    oncetask_cloud.clock.advance(3600)
    assert oncetask_cloud.sweep().reminded == 1
    for collection in ("orders", "shops/{shop}/branches"):
        manager.locker._runtime.registry.register(collection)
    manager.locker._runtime.registry.forget("orders")
    return dict(oncetask_cloud.local.firestore.documents(oncetask_cloud.local.project))  # type: ignore[union-attr]  # it is the embedded one


@pytest.mark.parametrize("collection", ["onceTasks", "onceLocks"])
def test_tables_list_exactly_what_is_stored(stored: dict[str, Any], collection: str) -> None:
    """
    Every stored field stands in the table with its type, and every field of the table is stored by somebody.
    """
    found = {
        name: value.WhichOneof("value_type")
        for path, document in stored.items()
        # A named lock's document is described in ``docs/how-to/locks.md``.
        if path.startswith(f"{collection}/") and ":lock:" not in path
        for name, value in document.fields.items()
    }

    assert found == {name: TYPES[kind] for name, kind in documented(collection).items()}


def test_fields_that_are_always_there_are(stored: dict[str, Any]) -> None:
    """
    What the table calls "always" every document has; a tombstone has no payload and no ``expireAt``.
    """
    always = set(re.findall(r"^\| `(\w+)` \| \w+ \| always", PAGE.split("## `onceLocks")[0], re.MULTILINE))
    tasks = {path: set(document.fields) for path, document in stored.items() if path.startswith("onceTasks/")}

    assert all(always <= fields for fields in tasks.values())
    [tombstone] = [fields for path, fields in tasks.items() if "doc-rubbing" in path]
    assert not {"data", "expireAt"} & tombstone
    [erased] = [document for path, document in stored.items() if "doc-rubbing" in path]
    assert "result" not in erased.fields["lock"].map_value.fields
    assert [path for path, fields in tasks.items() if "expireAt" in fields and "doc-note" not in path] == []
