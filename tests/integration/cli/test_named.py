"""
``locks`` and ``once``: lists, one record, and the acts of a person by name.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from gcp_emulator.testing import InProcessCloud
from gcp_oncetask import LeaseLostError, Locker
from gcp_oncetask.store.indexes import definition, to_text
from gcp_oncetask.testing.cloud import ACCOUNT, OncetaskCloud
from tests.integration.cli.conftest import Run
from tests.integration.cli.test_asking import Terminal
from tests.support.records import Records


@pytest.fixture
def records(cloud_on_ports: OncetaskCloud, monkeypatch: pytest.MonkeyPatch) -> Records:
    """
    A record of every sort, and the environment of the person on call, who has no terminal.
    """
    made = Records(cloud_on_ports)
    for name in [name for name in os.environ if name.startswith(("ONCE", "GOOGLE"))]:
        monkeypatch.delenv(name)
    for name, value in (
        ("FIRESTORE_EMULATOR_HOST", cloud_on_ports.local.firestore.address),
        ("CLOUD_TASKS_EMULATOR_HOST", cloud_on_ports.local.tasks.address),
        ("GOOGLE_CLOUD_PROJECT", cloud_on_ports.local.project),
        ("ONCETASK_SERVICE_ACCOUNT", ACCOUNT),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    return made


pytestmark = pytest.mark.usefixtures("records")


def test_locks_are_listed_for_people(run: Run) -> None:
    """
    By name: who holds them, since when, until when, with which token. Those of other collections are listed there.
    """
    code, out, err = run("locks", "list")

    assert (code, err) == (0, [])
    assert out[0].split() == ["NAME", "HELD", "BY", "SINCE", "ENDS", "TOKEN"]
    rows = {line.split("  ")[0]: line for line in out[1:]}
    assert list(rows) == ["a/b \\n", "endless", "released", "x" * 57 + "..."]
    assert "ago, " in rows["endless"]
    assert "with its release" in rows["endless"]
    assert " in " in rows["a/b \\n"]
    assert " UTC" in rows["a/b \\n"]
    assert "free" in rows["released"]
    assert [line.split("  ")[0] for line in run("locks", "list", "e")[1][1:]] == ["endless"]
    assert len(run("locks", "list", "--held")[1]) == 1 + 3
    assert [line.split("  ")[0] for line in run("locks", "list", "--collection", "customers/7/locks")[1][1:]] == ["x"]


def test_keys_are_listed_for_people(run: Run) -> None:
    code, out, err = run("once", "list")

    assert (code, err) == (0, [])
    assert out[0].split() == ["NAME", "KEY", "STATE", "WHEN"]
    rows = {tuple(line.split()[:3]) for line in out[1:]}
    assert rows == {("book", "done", "completed"), ("book", "raised", "raised"), ("book", "running", "running")}
    assert run("once", "list", "book")[1] == out


def test_op_02_nothing_to_list_is_no_error(run: Run) -> None:
    """
    No output, exit code 0, and a sentence on standard error.
    """
    for arguments in (["locks", "list", "zzz"], ["once", "list", "boo"], ["locks", "list", "--collection", "mine"]):
        for more in ([], ["--json"]):
            code, out, [told] = run(*arguments, *more)
            assert (code, out) == (0, [])
            assert "of environment DEFAULT." in told


def test_lines_for_programs_have_a_schema(run: Run) -> None:
    """
    Exact names, times in UTC, no contents.
    """
    _, out, _ = run("locks", "list", "--json")
    locks = [json.loads(line) for line in out]
    _, out, _ = run("once", "list", "--json")
    keys = [json.loads(line) for line in out]

    assert [each["name"] for each in locks] == ["a/b \n", "endless", "released", "x" * 900]
    assert {each["schema"] for each in locks} == {"oncetask.lock/1"}
    assert [each["state"] for each in locks] == ["held", "held", "free", "held"]
    assert [each["ends_at"] is None for each in locks] == [False, True, True, True]
    assert {each["schema"] for each in keys} == {"oncetask.once/1"}
    assert {each["key"]: each["state"] for each in keys} == {
        "done": "completed",
        "raised": "raised",
        "running": "running",
    }
    assert all(each["read_at"].endswith("Z") for each in [*locks, *keys])
    assert {"result", "lock"} & set().union(*keys) == set()


def test_a_list_ends_at_its_limit_and_says_so(run: Run, records: Records) -> None:
    """
    One more document is read than is shown, by one query.
    """
    for name in ("m1", "m2", "m3", "m4"):
        assert records.locker.lock(name).acquire()
    firestore = records.service.cloud.local.firestore
    firestore.reset_counts()
    assert len(run("locks", "list", "m", "--limit", "2", "--json")[1]) == 2
    assert (firestore.reads, firestore.counts["RunQuery"]) == (3, 1)
    code, out, [told] = run("locks", "list", "--limit", "2", "--json")

    assert (code, len(out)) == (0, 2)
    assert told == "There are more than 2: --limit N or --all."
    assert run("locks", "list", "--limit", "8")[2] == []
    assert run("locks", "list", "--all")[2] == []
    assert run("locks", "list", "--limit", "0")[0] == 2


def test_op_04_missing_index_is_told_with_its_command(
    run: Run, records: Records, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """
    Exit code 1, one sentence, no stack trace.
    """
    data = definition()
    for each in data["fieldOverrides"]:
        if (each["collectionGroup"], each["fieldPath"]) == ("onceLocks", "name"):
            each["indexes"] = []
    firestore = InProcessCloud(indexes=to_text(data)).firestore
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore.start())
    request.addfinalizer(firestore.stop)
    for arguments in (["locks", "list"], ["once", "list", "book"], ["locks", "show", "graph"]):
        code, out, [told] = run(*arguments)
        assert (code, out) == (1, [])
        assert "python -m gcp_oncetask indexes write && firebase deploy --only firestore:indexes" in told


def test_one_is_shown_by_name(run: Run, records: Records) -> None:
    """
    As ``show`` of its path does; a name that is not there ends with exit code 1 and one that is near.
    """
    assert run("locks", "show", "endless") == run("show", records.paths["lock endless"][0])
    assert run("locks", "show", "x" * 900, "--json") == run("show", records.paths["lock long name"][0], "--json")
    assert run("locks", "show", "x", "--collection", "customers/7/locks")[0] == 0
    assert run("once", "show", "book", "done") == run("show", records.paths["@once done"][0])
    assert run("locks", "show", "endles")[0::2] == (
        1,
        [
            "gcp_oncetask: There is no named lock 'endles' in onceLocks of environment DEFAULT. Did you mean endless?",
        ],
    )
    assert run("once", "show", "boo", "done")[2][0].endswith("Did you mean book?")
    assert run("once", "show", "book", "don")[2][0].endswith("Did you mean done?")
    assert "the key None" not in run("once", "show", "book")[2][0]


def test_op_34_without_a_terminal_and_yes_nothing_is_done(run: Run, records: Records) -> None:
    """
    Exit code 2, after the place and the consequences.
    """
    for arguments, path in (
        (["locks", "release", "endless"], records.paths["lock endless"][0]),
        (["once", "forget", "book", "done"], records.paths["@once done"][0]),
    ):
        before = records.version(path)
        code, out, err = run(*arguments)
        assert (code, out) == (2, [])
        assert err[0].startswith("LOCAL project ")
        assert err[0].endswith(", database (default), environment DEFAULT")
        assert "give --yes if you mean it. Nothing was done." in err[-1]
        assert records.version(path) == before


def test_op_51_release_tells_the_rule_of_tokens_and_asks(
    run: Run, records: Records, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """
    A no changes nothing; after a yes the lock is free, its document and its token stay, and the person is in the log.
    """
    path = records.paths["lock endless"][0]
    before, version = records.locker.show(path), records.version(path)
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    assert run("locks", "release", "endless")[0] == 1
    assert records.version(path) == version
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    caplog.set_level("INFO", "gcp_oncetask")
    code, [done], err = run("locks", "release", "endless", "--as", "ann")
    after = records.locker.show(path)

    told = " ".join(err)
    assert f"with token {before.token}, since " in told
    assert "the next acquire has it at once, with a greater token" in told
    assert "refuses the refresh and the release of the old holder" in told
    assert "only if they compare tokens" in told
    assert f"Release it? ({err[0]}) [y/N]" in told
    assert (code, after.token, str(after.status)) == (0, before.token, "scheduled")
    assert done.startswith("'endless' is free")
    assert any("freed by ann" in each.getMessage() for each in caplog.records)
    assert records.locker.lock("endless").acquire(blocking=False)
    assert run("locks", "release", "released", "--yes")[0] == 1
    assert run("locks", "release", "nobody", "--yes")[0] == 1
    assert run("locks", "release", "x", "--yes", "--collection", "customers/7/locks")[0] == 0


class Meanwhile(Terminal):
    """
    A terminal whose person types yes after something else has happened.
    """

    act: Callable[[], Any]

    def readline(self, *_: Any) -> str:
        self.act()
        return "y\n"


def test_lock_that_moved_on_while_the_person_thought_is_left_alone(
    run: Run, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Exit code 3, and the later holder keeps it.
    """
    first, second = records.locker.lock("moving"), records.locker.lock("moving")
    assert first.acquire()
    terminal = Meanwhile()
    terminal.act = lambda: (first.release(), second.acquire())
    monkeypatch.setattr("sys.stdin", terminal)
    code, out, err = run("locks", "release", "moving")

    assert (code, out) == (3, [])
    assert "has taken it meanwhile" in err[-1]
    second.refresh()


def test_key_is_forgotten_when_it_has_run_alone(run: Run, records: Records) -> None:
    """
    Refused while it runs and when it raised, with the reason; done else, with its consequences.
    """
    code, [done], err = run("once", "forget", "book", "done", "--yes")
    assert code == 0
    assert "another attempt.key" in " ".join(err)
    assert "is forgotten" in done
    assert str(records.locker.show(records.paths["@once done"][0]).status) == "scheduled"
    for key, why in (("running", "or its process has died; its lease ends"), ("raised", "with the same attempt.key")):
        before = records.version(records.paths[f"@once {key}"][0])
        code, out, err = run("once", "forget", "book", key, "--yes")
        assert (code, out) == (1, [])
        assert why in err[-1]
        assert "Nothing was written." in err[-1]
        assert records.version(records.paths[f"@once {key}"][0]) == before


def test_late_holder_is_told(run: Run, records: Records) -> None:
    """
    Of a lock without a ttl, whose lease never ends by itself.
    """
    locker: Locker = records.locker
    late = locker.lock("late")
    assert late.acquire()
    assert run("locks", "release", "late", "--yes")[0] == 0
    with pytest.raises(LeaseLostError):
        late.release()
