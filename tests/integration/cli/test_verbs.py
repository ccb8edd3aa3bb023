"""
Every verb of people on every sort of record, through the library and through the command line.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from gcp_oncetask import OncetaskError, UsageError
from gcp_oncetask.cli import main
from gcp_oncetask.rules.record import Status
from gcp_oncetask.rules.timestamps import instant
from gcp_oncetask.rules.verbs import Sort
from gcp_oncetask.testing.cloud import ACCOUNT, OncetaskCloud
from tests.support.records import Daily, Records
from tests.support.tasks import Latest, Other, Work
from tests.support.verbs import TABLE


@pytest.fixture
def records(cloud_on_ports: OncetaskCloud, monkeypatch: pytest.MonkeyPatch) -> Records:
    """
    All of them, and the environment of the person on call.
    """
    made = Records(cloud_on_ports)
    for name in [name for name in os.environ if name.startswith(("ONCE", "GOOGLE"))]:
        monkeypatch.delenv(name)
    for name, value in (
        ("FIRESTORE_EMULATOR_HOST", cloud_on_ports.local.firestore.address),
        ("CLOUD_TASKS_EMULATOR_HOST", cloud_on_ports.local.tasks.address),
        ("GOOGLE_CLOUD_PROJECT", cloud_on_ports.local.project),
        ("ONCETASK_SERVICE_ACCOUNT", ACCOUNT),
        ("ONCETASK_AUDIENCE", "https://oncetask.test"),
    ):
        monkeypatch.setenv(name, value)
    return made


def test_there_is_a_record_of_every_sort(records: Records) -> None:
    assert {sort for _, sort in records.paths.values()} == set(Sort)


@pytest.mark.parametrize("verb", ["cancel", "reset", "resolve"])
def test_by_path_a_verb_is_done_or_refused(records: Records, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """
    Refused where the table says no: exit code 2 and UsageError with the same words, and nothing is written. Elsewhere it is never
    wrong use: it is done, or the record's state does not allow it (exit code 1).
    """
    locker = records.locker
    calls: dict[str, Callable[[str], Any]] = {
        "cancel": locker.cancel_path,
        "reset": locker.reset_path,
        "resolve": lambda path: locker.resolve_path(path, "run"),
    }
    more = ["run"] if verb == "resolve" else []
    for name, (path, sort) in records.paths.items():
        before = records.version(path)
        code = main([verb, path, *more])
        out, err = capsys.readouterr()
        if TABLE[verb][sort]:
            assert code in (0, 1), (name, err)
            assert bool(out) is (code == 0)
            continue
        with pytest.raises(UsageError, match=f"which has no {verb}. ") as refused:
            calls[verb](path)
        assert (code, out, "\n" in err[:-1]) == (2, "", False), (name, err)
        assert err.startswith(f"gcp_oncetask: {path} is the ")
        assert str(refused.value).split("which")[1] == err.removesuffix("\n").split("which")[1]
        assert records.version(path) == before, name


def test_a_named_lock_is_freed_as_the_refusal_says(records: Records, capsys: pytest.CaptureFixture[str]) -> None:
    """
    The person who asked for a cancellation reads who holds it until when, enters the command, and the next one gets the lock.
    """
    assert records.locker.lock("my graph", ttl=600).acquire()
    path = records.locker.lock("my graph").document
    assert main(["cancel", path]) == 2
    told = capsys.readouterr().err
    until = records.locker.show(path).leased_at
    assert until is not None
    assert "the named lock 'my graph'" in told
    assert (until + timedelta(seconds=600)).strftime("its ttl ends at %Y-%m-%dT%H:%M:%S.%fZ") in told
    assert records.locker.lock("my graph", ttl=60).acquire(blocking=False) is False
    assert main([*commanded(told), "--yes"]) == 0
    assert records.locker.lock("my graph", ttl=60).acquire(blocking=False)


def commanded(told: str) -> list[str]:
    """
    The arguments of the command in a refusal.
    """
    [command] = re.findall(r"\(python -m gcp_oncetask (.*)\)\.", told)
    return shlex.split(command)


def test_a_key_is_forgotten_as_the_refusal_says(records: Records, capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = records.paths["@once done"]
    assert main(["reset", path]) == 2
    assert main([*commanded(capsys.readouterr().err), "--yes"]) == 0
    assert records.locker.show(path).status is Status.SCHEDULED


def test_a_lock_of_another_collection_is_freed_as_the_refusal_says(
    records: Records, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = records.paths["lock elsewhere"]
    assert main(["cancel", path]) == 2
    assert main([*commanded(capsys.readouterr().err), "--yes"]) == 0
    assert records.locker.show(path).status is Status.SCHEDULED


def test_by_id_only_a_recurring_task_is_paused_and_resumed(records: Records) -> None:
    """
    pause and resume of once-tasks of all kinds are refused, the recurring one's are done; what is had is done in the end.
    """
    manager = records.service.manager
    for model, id_ in ((Work, "a"), (Latest, "latest"), (Other, "rider")):
        for call in (manager.pause, manager.resume):
            with pytest.raises(UsageError, match="does not recur"):
                call(model, id_)
    assert manager.pause(Daily, "d")
    assert manager.resume(Daily, "d")
    assert manager.cancel_task(Daily, "d")
    assert manager.reset_task(Daily, "d")
    assert manager.get_task(Daily, "d") is not None
    for model, id_ in ((Work, "a"), (Latest, "latest"), (Daily, "d")):
        assert manager.cancel_task(model, id_)
        assert manager.delete_task(model, id_)


def test_cancelling_and_resetting_a_recurring_task(records: Records) -> None:
    """
    A cancelled one makes no occurrences; one that is reset goes on.
    """
    service = records.service
    locker, path = service.manager.locker, records.paths["generator"][0]
    assert locker.cancel_path(path)
    assert locker.show(path).status is Status.CANCELLED
    assert locker.reset_path(path).dispatched
    before = len(service.ran)
    service.cloud.advance(days=2)
    assert len(service.ran) > before


def test_show_works_on_every_record(records: Records, capsys: pytest.CaptureFixture[str]) -> None:
    """
    What may not be cancelled may be looked at; as JSON with all that is stored in the library's documents, and by name.
    """
    names: dict[str, Any] = {}
    for name, (path, sort) in records.paths.items():
        assert main(["show", path]) == 0, name
        assert path.split(":")[0] in capsys.readouterr().out
        assert main(["show", path, "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        stored = records.locker.client.document(path).get().to_dict()
        assert stored is not None
        assert (said["document"], said["sort"]) == (path, str(sort))
        assert said["fields"].keys() == (set() if sort is Sort.CHAIN else stored.keys() - {"lock"})
        for field, value in stored.items() if sort is not Sort.CHAIN else ():
            if isinstance(value, datetime):
                # Google's client counts nanoseconds.
                assert said["fields"][field] == instant(value), name
        names[name], lock = said["name"], stored["lock"]
        assert said["status"] == lock["status"]
        assert {said[each] for each in ("granted_at", "leased_at")} <= {
            None,
            *(instant(lock[each]) for each in ("grantedAt", "leasedAt") if each in lock),
        }
    assert {name: said for name, said in names.items() if isinstance(said, str)} == {
        "key held": "held",
        "key free": "free",
        "lock ttl": "a/b \n",
        "lock elsewhere": "x",
        "lock long name": "x" * 900,
        **{f"lock {name}": name for name in ("endless", "released")},
        **{f"@once {how}": "book" for how in ("done", "raised", "running")},
    }
    assert (names["chain"], names["once-task"]) == (None, {"kind": "work", "id": "a"})
    with pytest.raises(OncetaskError):
        records.locker.show("onceLocks/00:DEFAULT:lock:nobody")
