"""
``attempt.pages``: loops over more rows than one request can handle.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from gcp_oncetask import NoRetry, Status
from gcp_oncetask.worker import Worker
from tests.support.durable import SECOND, play
from tests.support.orders import Killed
from tests.support.tasks import Pull, Service, Work


class Table:
    """
    Rows with numbers, in pages.
    """

    def __init__(self, rows: int, every: int) -> None:
        self.rows, self.every = rows, every
        self.fetched: list[int | None] = []

    def fetch(self, after: int | None) -> tuple[range, int | None]:
        """
        The page after a number.
        """
        self.fetched.append(after)
        begin = after or 0
        end = min(begin + self.every, self.rows)
        return range(begin, end), end if end < self.rows else None


def chunks(service: Service) -> int:
    """
    The sealed parts of all journals.
    """
    return len(list(service.manager.locker.client.collection("onceJournals").stream()))


def test_du_105_rows_beyond_a_request_with_a_kill(service: Service) -> None:
    """
    10,500 rows in pages of 500; the process is killed at row 5,300, and requests end by their limit. The page of the kill
    alone is repeated; no row is repeated at a hand-over.
    """
    table, done, kill = Table(10_500, 500), Counter[int](), [True]

    def act(task: Any, attempt: Any) -> None:
        for row in attempt.pages("rows", table.fetch):
            if row == 5_300 and kill:
                kill.clear()
                raise Killed
            done[row] += 1
            if row % 100 == 0:
                service.cloud.clock.advance(10)

    service.handle(retry=SECOND).create("a")
    service.act = act
    service.settle(200)
    lock = service.lock("a")
    assert (lock.status, len(done), sum(done.values())) == (Status.COMPLETED, 10_500, 10_500 + 300)
    assert {row for row, times in done.items() if times == 2} == set(range(5_000, 5_300))
    assert len(service.ran) > 3
    assert [error.message[:13] for error in lock.errors] == ["lease expired"]
    assert table.fetched.count(5_000) == 2
    assert len(table.fetched) == 21 + 1


def test_du_105_a_hand_over_burns_no_attempt(service: Service) -> None:
    table = Table(60, 10)

    def act(task: Any, attempt: Any) -> None:
        for _ in attempt.pages("rows", table.fetch):
            service.cloud.clock.advance(25)

    service.handle(retry=NoRetry()).create("a")
    service.act = act
    service.settle(60)
    assert (service.lock("a").status, service.lock("a").errors) == (Status.COMPLETED, ())
    assert table.fetched == [None, 10, 20, 30, 40, 50]
    assert len(service.ran) >= 3
    assert len({attempt.key for attempt in service.attempts}) == 1


def test_du_105_in_pull_mode(service: Service) -> None:
    table, done = Table(60, 10), Counter[int]()

    def act(task: Any, attempt: Any) -> None:
        for row in attempt.pages("rows", table.fetch):
            service.cloud.clock.advance(25)
            done[row] += 1

    service.handle(Pull, retry=NoRetry()).create("a", model=Pull)
    service.act = act
    for _ in range(8):
        Worker(service.manager, kinds=["pulled"]).drain()
        service.cloud.advance(minutes=2)
    assert (service.lock("a", Pull).status, done) == (Status.COMPLETED, Counter(range(60)))
    assert len(service.ran) >= 3


def test_du_105_a_duplicate_delivery_changes_nothing(service: Service) -> None:
    table, done = Table(30, 10), Counter[int]()

    def act(task: Any, attempt: Any) -> None:
        done.update(attempt.pages("rows", table.fetch))

    service.handle().create("a")
    service.act = act
    body = service.body("a")
    service.post_all([body, body], 2)
    service.settle()
    assert done == Counter(range(30))


def test_runs_of_a_page_are_kept_until_it_is_over(service: Service) -> None:
    """
    The process dies in the third page: its runs are not repeated, and those of the pages before are forgotten.
    """
    table, done, sizes, kill = Table(300, 100), Counter[int](), [], [True]

    def act(task: Any, attempt: Any) -> list[int]:
        attempt.run("before", lambda: 0)
        for row in attempt.pages("rows", table.fetch):
            if row == 250 and kill:
                kill.clear()
                raise Killed
            attempt.run(f"row-{row}", lambda row=row: done.update([row]) or "x" * 1000)
            if row % 100 == 99:
                sizes.append(chunks(service))
        return [attempt.run("after", lambda: 1)]

    play(service, act)
    lock = service.lock("a")
    assert (lock.status, done, lock.result) == (Status.COMPLETED, Counter(range(300)), [1])
    # A page fills six or seven sealed parts; the first one of all has the run before the loop, too.
    assert max(sizes) <= 8
    assert (len(lock.chunks), chunks(service)) == (1, 1)


def test_a_replay_after_the_loop_knows_the_words_around_it(service: Service) -> None:
    table, calls = Table(40, 10), Counter[str]()

    def note(name: str) -> str:
        calls[name] += 1
        return name + "x" * 2000

    def act(task: Any, attempt: Any) -> list[str]:
        first = attempt.run("before", note, "before")
        for row in attempt.pages("rows", table.fetch):
            attempt.run(f"row-{row}", note, f"row-{row}")
        if len(service.ran) == 1:
            raise ValueError("before the words after the loop")
        last = [attempt.run(f"after-{n}", note, f"after-{n}") for n in range(20)]
        if len(service.ran) < 4:
            raise ValueError("again")
        return [first[:6], last[-1][:8]]

    play(service, act)
    assert service.lock("a").result == ["before", "after-19"]
    assert set(calls.values()) == {1}
    assert len(table.fetched) == 4


def test_words_said_outside_of_a_loop_under_way_outlive_its_pages(service: Service) -> None:
    """
    After an exception in the second page, and where a later version of the code has another order.
    """
    table, calls = Table(40, 10), Counter[str]()

    def note(name: str) -> str:
        calls[name] += 1
        return name + "x" * 2000

    def others(attempt: Any) -> list[str]:
        apart = [attempt.run(f"apart-{n}", note, f"apart-{n}") for n in range(12)]
        attempt.run_transaction(lambda txn: note("sum"), name="sum")
        return [*attempt.map("each", note, ["a", "b"]), *apart]

    def act(task: Any, attempt: Any) -> list[str]:
        second = len(service.ran) == 2
        found = others(attempt) if second else []
        for row in attempt.pages("rows", table.fetch):
            attempt.run(f"row-{row}", note, f"row-{row}")
            if row == 15 and len(service.ran) == 1:
                attempt.run("alert", note, "alert")
                raise ValueError("a bug")
            if row == 25 and second:
                raise ValueError("a later version is deployed")
        attempt.run("alert", note, "alert")
        return [each[:8] for each in found or others(attempt)]

    play(service, act)
    assert (service.lock("a").status, service.lock("a").result[:3]) == (
        Status.COMPLETED,
        ["axxxxxxx", "bxxxxxxx", "apart-0x"],
    )
    assert set(calls.values()) == {1}
    assert len(calls) == 40 + 12 + 4


def test_a_million_rows_would_fit(service: Service) -> None:
    """
    12,000 entries, more than a journal holds: neither the journal nor the memory grows with the rows.
    """
    table, most = Table(30, 1), [0, 0]

    def act(task: Any, attempt: Any) -> int:
        rows = 0
        for batch in attempt.pages("batches", table.fetch):
            rows += len(attempt.map(f"batch-{batch}", int, range(400)))
            running = service.attempts[-1]._running
            lock, journal = running.snapshot.lock, running.journaled
            most[0] = max(most[0], len(lock.chunks))
            most[1] = max(most[1], len(journal.kept) + len(journal._met))
        return rows

    play(service, act)
    lock = service.lock("a")
    assert (lock.status, lock.result, len(service.ran)) == (Status.COMPLETED, 12_000, 1)
    assert most[0] <= 4
    assert most[1] <= 3 * 402


def test_a_map_and_a_sleep_in_a_page(service: Service) -> None:
    table, done = Table(6, 2), Counter[int]()

    def act(task: Any, attempt: Any) -> None:
        for row in attempt.pages("rows", table.fetch):
            attempt.sleep(f"sleep-{row}", 600)
            attempt.map(f"map-{row}", lambda item: done.update([item]), [row * 10, row * 10 + 1])

    service.handle(retry=NoRetry()).create("a")
    service.act = act
    service.settle(120)
    assert service.lock("a").status is Status.COMPLETED
    assert done == Counter([row * 10 + n for row in range(6) for n in range(2)])


def test_an_entry_of_a_page_that_is_over_answers_no_more(service: Service) -> None:
    """
    Rows of the third page have names of the first one, whose entries lie in a sealed part beside one from before the loop.
    """
    table, done, kill = Table(30, 10), Counter[int](), [True]

    def act(task: Any, attempt: Any) -> None:
        attempt.run("before", lambda: "x" * 3000)
        for row in attempt.pages("rows", table.fetch):
            if row == 20 and kill:
                kill.clear()
                raise Killed
            attempt.run(f"row-{row % 20}", lambda row=row: done.update([row]) or "x" * 3000)

    play(service, act)
    assert (service.lock("a").status, done) == (Status.COMPLETED, Counter(range(30)))


def test_large_cursors_do_not_fill_the_journal(service: Service) -> None:
    def fetch(cursor: Any) -> Any:
        number = 0 if cursor is None else cursor[0] + 1
        return [number], None if number == 100 else (number, "x" * 50_000)

    play(service, lambda task, attempt: len(list(attempt.pages("rows", fetch))))
    assert (service.lock("a").result, chunks(service)) == (101, 0)


def test_a_name_that_two_pages_share_is_a_mistake(service: Service) -> None:
    table = Table(6, 1)

    def act(task: Any, attempt: Any) -> None:
        for _ in attempt.pages("rows", table.fetch):
            attempt.run("insert", int)

    play(service, act)
    lock = service.lock("a")
    assert (lock.status, lock.attempts) == (Status.FAILED, 1)
    assert "'insert' is used twice" in lock.errors[-1].message


def test_a_loop_that_is_cancelled_ends_at_its_page(service: Service) -> None:
    table, done = Table(60, 10), Counter[int]()

    def act(task: Any, attempt: Any) -> None:
        for row in attempt.pages("rows", table.fetch):
            if row == 25:
                service.manager.cancel_task(Work, "a")
                attempt.renew()
            done[row] += 1

    play(service, act)
    assert (service.lock("a").status, done) == (Status.CANCELLED, Counter(range(30)))


@pytest.mark.parametrize("fetch", [lambda after: [], lambda after: ([], {1})], ids=["no pair", "cursor"])
def test_a_fetch_that_does_not_fit_is_a_mistake(service: Service, fetch: Any) -> None:
    play(service, lambda task, attempt: list(attempt.pages("rows", fetch)))
    assert (service.lock("a").status, service.lock("a").attempts) == (Status.FAILED, 1)
    assert "the pages 'rows'" in service.lock("a").errors[-1].message


def test_no_rows_at_all(service: Service) -> None:
    play(service, lambda task, attempt: list(attempt.pages("rows", lambda after: ([], None))))
    assert service.lock("a").result == []
