"""
``show``: every attribute of a record as JSON, and text that no terminal obeys.
"""

from __future__ import annotations

import json
import re
from dataclasses import fields
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from gcp_oncetask.cli.show import as_json, described, printable
from gcp_oncetask.rules.document_paths import TaskName
from gcp_oncetask.rules.journal import EntrySort, JournalEntry
from gcp_oncetask.rules.record import (
    DEFAULTS,
    Acknowledgement,
    Act,
    Chunk,
    Event,
    Failure,
    Fingerprint,
    HandlerWait,
    Intent,
    Lock,
    Note,
    PendingAlert,
    Since,
    Status,
    WaitFor,
    Woken,
)
from gcp_oncetask.rules.verbs import Record, Sort
from gcp_oncetask.rules.waits import SentEvent

AT = datetime(2026, 3, 1, 13, 0, 0, 7, tzinfo=timezone(timedelta(hours=1)))
SAID = "2026-03-01T12:00:00.000007Z"
ODD: dict[str, Any] = {
    "params": {"float": float("nan"), "text": "\x1b[2J\u202e"},
    "result": [float("inf"), None, True, {"deep": [1]}],
    "errors": (Failure(AT, 2, 3, "boom\x1b[31m\nstatus:      completed"),),
    "owed": (PendingAlert("i", Event.TAKEOVER, AT, AT, 1, 2, "why", 3, ("line\r",)),),
    "retry": {"kind": "fixed"},
    "result_json": Note(1, 2, "[[1]]"),
    "result_lost": Note(1, 2, "why"),
    "needs": ("journal\x07",),
    "ready_at": Since(1, 2, AT),
    "fingerprint": Fingerprint("d", "m"),
    "acts": (Act(AT, "reset", "ann\x07", True, None, "failed", 3, "seen"),),
    "journal": (JournalEntry("charge\x07", EntrySort.RUN, 1, 1, AT, value=1).to_bytes(),),
    "chunks": (Chunk("i", 1, 2, 3),),
    "open": (Intent("charge", 1, AT, AT),),
    "wait": HandlerWait("approval", WaitFor.EVENT, 2, AT, AT, ("approval",), None, Woken.EVENT, "e"),
    "mailbox": (SentEvent("e", "approval\x07", AT).to_bytes(),),
    "received": b"\x00",
    "children": ("n1",),
    "orphans": ("n2",),
    "acknowledged": Acknowledgement(1, 2, "ann", AT),
    "headers": {"X-A": "1"},
    "alert_on": (Event.FAILURE,),
}
SIMPLE = {
    "str": "text\x07",
    "int": 7,
    "float": 2.5,
    "bool": True,
    "datetime": AT,
    "Status": Status.LEASED,
}


def full() -> Lock:
    """
    A record none of whose attributes has its default; a new attribute gets a value by its type.
    """
    values: dict[str, Any] = {}
    for each in fields(Lock):
        kind = str(each.type).split(" | ")[0]
        values[each.name] = ODD[each.name] if each.name in ODD else SIMPLE[kind]
    assert [name for name, value in values.items() if value == DEFAULTS[name]] == []
    return Lock(**values)


def written(lock: Lock, record: Record, more: dict[str, Any]) -> dict[str, Any]:
    """
    The JSON as a program reads it.
    """

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    found: dict[str, Any] = json.loads(json.dumps(as_json(record, lock, more), allow_nan=False), parse_constant=refuse)
    return found


def test_json_has_every_attribute_of_the_record() -> None:
    """
    Each attribute is there under its own name with its value: times in ISO 8601 and UTC, what JSON has no word for as text.
    """
    lock = full()
    said = written(lock, Record("orders/1", Sort.CHAIN), {})
    assert list(said) == ["document", "sort", "name", *(each.name for each in fields(Lock)), "step", "fields"]
    for each in fields(Lock):
        value = getattr(lock, each.name)
        if isinstance(value, datetime):
            assert said[each.name] == SAID
        elif each.name not in ODD:
            assert said[each.name] == value
    assert said["step"] == lock.step
    assert said["params"] == {"float": "nan", "text": "\x1b[2J\u202e"}
    assert said["result"] == ["inf", None, True, {"deep": [1]}]
    assert said["errors"] == [{"at": SAID, "attempt": 2, "sequence": 3, "message": ODD["errors"][0].message}]
    assert said["owed"][0] == {
        "id": "i", "event": "takeover", "at": SAID, "until": SAID, "sequence": 1, "attempt": 2,
        "reason": "why", "tries": 3, "evidence": ["line\r"], "digest": None,
    }  # fmt: skip
    assert (said["retry"], said["headers"], said["alert_on"]) == ({"kind": "fixed"}, {"X-A": "1"}, ["failure"])


def test_json_order_and_defaults_are_stable() -> None:
    """
    The same keys in the same order whatever is stored, fields by name, attributes that are not stored by their defaults.
    """
    lock = Lock.of({"env": "E", "sequence": 4, "status": Status.SCHEDULED, "base": 1})
    one = written(lock, Record("p", Sort.CHAIN), {"b": 1, "a": b"\x00"})
    assert list(one) == list(written(full(), Record("p", Sort.CHAIN), {}))
    assert list(one["fields"]) == ["a", "b"]
    assert (one["fields"]["a"], one["step"], one["max_attempts"], one["due"]) == ("AA==", 3, 11, None)


@pytest.mark.parametrize(
    ("record", "name"),
    [
        (Record("p", Sort.CHAIN), None),
        (Record("p", Sort.ONCE_TASK, TaskName("E", "mail", "7")), {"kind": "mail", "id": "7"}),
        (Record("p", Sort.NAMED_LOCK, name="graph"), "graph"),
        (Record("p", Sort.ONCE_KEY, name="book", key="k"), "book"),
        (Record("p", Sort.RESOURCE_KEY, name="account/1"), "account/1"),
    ],
)
def test_json_says_the_name(record: Record, name: Any) -> None:
    """
    Beside the path, whatever the sort of record.
    """
    said = written(full(), record, {})
    assert (said["document"], said["sort"], said["name"]) == ("p", str(record.sort), name)


def test_text_has_no_control_characters_and_one_fact_per_line() -> None:
    """
    Whatever is stored, nothing of it moves the cursor, turns the direction of reading or forges a line.
    """
    lock = full().but(status=Status.LEASED)
    for sort in Sort:
        record = Record(
            "o/\x1b]0;x\x07", sort, TaskName("E", "k", "a\nb") if "task" in sort else None, name="n\u2028", key="\x9b"
        )
        lines = [printable(line) for line in described(record, lock)]
        assert all(line.isprintable() for line in lines)
        assert len([line for line in lines if line.startswith("status:")]) == 1
        assert "o/\\x1b]0;x\\x07" in lines[0]
    assert any("boom\\x1b[31m\\nstatus:      completed" in line for line in lines)


def test_text_says_times_in_utc() -> None:
    """
    In the form of the JSON.
    """
    text = "\n".join(described(Record("p", Sort.CHAIN), full()))
    assert re.search(rf"^granted at: +{SAID}$", text, re.MULTILINE)
    assert re.search(r"^lease ends: +2026-03-01T12:00:02.500007Z$", text, re.MULTILINE)


@pytest.mark.parametrize(
    "char", [chr(code) for code in (*range(0x20), 0x7F, 0x85, 0x9B, 0x202E, 0x2028, 0xD800, 0xE000)]
)
def test_printable_escapes(char: str) -> None:
    """
    Control characters, line separators, marks of direction and halves of pairs; words of any language stay.
    """
    assert printable(f"ä{char}本") == f"ä{char.encode('unicode_escape').decode()}本"
