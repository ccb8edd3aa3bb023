"""
Entries that several threads bring and one of them writes.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from gcp_oncetask.runtime.gathering import Gathering


@pytest.mark.parametrize("written", [True, False])
def test_those_that_write_nothing_wait_until_it_is_known_whether_theirs_is_written(*, written: bool) -> None:
    gathering = Gathering[str]()
    mine, other = gathering.bring("a", "mine"), gathering.bring("a", "other's")
    assert (mine.first, other.first) == (True, False)
    taken = gathering.take("a")
    assert [entry.thing for entry in taken] == ["mine", "other's"]
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(other.wait)
        assert not waits.done()
        for entry in taken:
            entry.end(written=written)
        assert waits.result(30) is written


def test_nobody_waits_for_one_that_has_stopped_writing() -> None:
    """
    Entries that were taken, and entries that were not, count as not written; the next one to bring one writes.
    """
    gathering = Gathering[str]()
    mine = gathering.bring("a", "mine")
    [taken] = gathering.take("a")
    late = gathering.bring("a", "late")
    gathering.leave("a", [taken])
    assert (mine.wait(), late.wait()) == (False, False)
    assert gathering.bring("a", "next").first


def test_names_do_not_meet() -> None:
    gathering = Gathering[str]()
    assert gathering.bring("a", "one").first
    assert gathering.bring("b", "one").first
    assert [entry.thing for entry in gathering.take("a")] == ["one"]
    assert gathering.take("a") == []
    assert gathering.bring("a", "next").first
