"""
Export, import, wipe.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gcp_emulator.channel import InProcessChannel, firestore_client
from gcp_emulator.firestore import FirestoreServer


@pytest.fixture
def server() -> FirestoreServer:
    return FirestoreServer()


def client(server: FirestoreServer, project: str = "p", database: str = "(default)") -> Any:
    return firestore_client(InProcessChannel([server.service]), project, database)


def test_everything_comes_back(server, tmp_path: Path):
    """Into another project and database too, with every kind of value."""
    data = {"n": 1, "f": 2.5, "s": "ä", "b": b"x", "m": {"l": [1, None, True]}}
    for number in range(1203):
        client(server).document(f"c/d{number}").set({**data, "number": number})
    client(server).document("c/d1/sub/s").set(data)
    assert server.export(tmp_path / "x", "p") == 1204

    other = FirestoreServer()
    client(other, "q", "named").document("c/d7").set({"old": True})
    assert other.import_(tmp_path / "x", "q", "named") == 1204
    assert client(other, "q", "named").document("c/d7").get().to_dict() == {**data, "number": 7}
    assert client(other, "q", "named").document("c/d1/sub/s").get().to_dict() == data
    assert other.documents("q") == {}


def test_damaged_file_is_refused_and_nothing_written(server, tmp_path: Path):
    """Cut short, changed, or something else altogether."""
    client(server).document("c/a").set({"n": 1})
    server.export(tmp_path / "x", "p")
    whole = (tmp_path / "x").read_bytes()
    for damaged in (whole[:-5], whole[:-40] + b"!" + whole[-39:], b"hello"):
        (tmp_path / "y").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"damaged|no Firestore export"):
            server.import_(tmp_path / "y", "q")
    assert server.documents("q") == {}


def test_one_database_is_wiped(server):
    """The others keep what they have."""
    for project, database in (("p", "(default)"), ("p", "second"), ("q", "(default)")):
        client(server, project, database).document("c/a").set({"n": 1})
    server.wipe("p", "second")
    assert [len(server.documents(*each)) for each in (("p",), ("p", "second"), ("q",))] == [1, 0, 1]
    server.wipe("p")
    assert [len(server.documents(*each)) for each in (("p",), ("q",))] == [0, 1]
