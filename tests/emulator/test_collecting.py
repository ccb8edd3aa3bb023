from __future__ import annotations

import io
import os

from gcp_emulator.clock import VirtualClock
from gcp_emulator.collecting import Collected
from gcp_emulator.logging import LoggingServer


class Gone(io.RawIOBase):
    """A terminal that is not there any more."""

    def writable(self):
        return True

    def write(self, _):
        raise BrokenPipeError


def collected(*pieces, shown=None, **environ):
    """The entries of an output that comes in pieces, and what was shown of it."""
    clock = VirtualClock()
    logging = LoggingServer(clock)
    shown = io.BytesIO() if shown is None else shown
    out = Collected(logging, clock, "p", "here", environ)
    read, write = os.pipe()
    out.read("stdout", os.fdopen(read, "rb", 0), shown)
    for piece in pieces:
        os.write(write, piece)
    os.close(write)
    out.finish()
    return logging.entries, shown


def test_lines_are_entries_whatever_the_pieces():
    """Lines are put together from pieces; the last one needs no end, and an empty one is no entry."""
    entries, shown = collected(b'{"severity": "ERR', b'OR", "message": "a"}\nb\r', b"\n\n\xff", b"c")
    assert [entry.text_payload or entry.json_payload["message"] for entry in entries] == ["a", "b", "\ufffdc"]
    assert [entry.severity for entry in entries] == [500, 0, 0]
    assert shown.getvalue() == b'{"severity": "ERROR", "message": "a"}\nb\r\n\n\xffc'


def test_entries_are_those_of_a_service_of_cloud_run():
    """Log and resource are as on Cloud Run; the service has the name that the environment gives."""
    (entry,), _ = collected(b"x\n")
    assert entry.log_name == "projects/p/logs/run.googleapis.com%2Fstdout"
    assert entry.resource.type == "cloud_run_revision"
    assert (entry.resource.labels["service_name"], entry.resource.labels["location"]) == ("local", "here")
    (entry,), _ = collected(b"x\n", K_SERVICE="orders", K_REVISION="orders-00007")
    labels = entry.resource.labels
    assert (labels["service_name"], labels["revision_name"]) == ("orders", "orders-00007")


def test_output_without_an_end_of_line_is_cut():
    """A line longer than an entry may be is cut, and the rest is the next one."""
    entries, _ = collected(*[b"x" * 50_000] * 12, b"\nend\n")
    assert len(entries) >= 3
    assert entries[-1].text_payload == "end"


def test_entries_are_written_though_the_terminal_has_gone():
    """Output that can be shown no more is collected all the same."""
    entries, _ = collected(b"a\n", b"b\n", shown=Gone())
    assert [entry.text_payload for entry in entries] == ["a", "b"]
