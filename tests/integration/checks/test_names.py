"""
Names at their limits, on the local cloud: what is accepted is stored, dispatched and found; what is not is refused before
anything is written.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from gcp_oncetask import Config, LockedModel, Locker, Status, UsageError, once
from gcp_oncetask.rules.delivery import path_digest
from gcp_oncetask.tasks import TaskData
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.orders import URL, Killed, Order, Shop
from tests.support.tasks import DAILY, Repeat, Service, Work

SIZES = {"x": (1, 1), "%": (1, 3), "é": (2, 6), "日": (3, 9), "😀": (4, 12)}
"""A character; its bytes; its bytes percent-encoded."""


class Basket(LockedModel, collection="baskets"):
    tags: set[str]
    note: str = ""


def written(cloud: OncetaskCloud) -> int:
    """
    Writes since the last count began.
    """
    return cloud.local.firestore.writes


@pytest.mark.parametrize("character", SIZES)
def test_entity_with_the_longest_id_runs(oncetask_cloud: OncetaskCloud, shop: Shop, character: str) -> None:
    """
    1,500 bytes: scheduled, dispatched under a URL with a digest for the path, and run to its end; a short path stays readable.
    """
    id_ = character * (1500 // SIZES[character][0])
    for order in (Order(id="42"), Order(id=id_)):
        assert shop.locker.schedule(order, "/tasks/order").dispatched
        oncetask_cloud.run_until_idle()
        assert shop.locker.show(order.document_path).status is Status.COMPLETED

    urls = [record.url for record in oncetask_cloud.local.tasks.dispatches]
    named = [parse_qs(urlsplit(url).query)["oncetask_document"][0] for url in urls]
    digested = len(f"{URL}/tasks/order?oncetask_document=orders%2F") + SIZES[character][1] * len(id_) > 2000
    assert named == ["orders/42"] * 2 + [path_digest(f"orders/{id_}") if digested else f"orders/{id_}"] * 2
    assert [order for order, _ in shop.charges] == ["42", id_] == shop.receipts


def test_crash_of_an_entity_with_a_long_id_is_recovered(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    As that of any other: swept, taken over, dispatched again, and run to its end.
    """
    order = Order(id="%" * 1500)

    def die(*_: Any) -> Any:
        shop.on_charge = None
        raise Killed

    shop.on_charge = die
    shop.locker.schedule(order, "/tasks/order")
    for _ in range(20):
        oncetask_cloud.advance(minutes=1)
        oncetask_cloud.sweep()
    lock = shop.locker.show(order.document_path)
    assert (lock.status, len(shop.charges)) == (Status.COMPLETED, 2)


@pytest.mark.parametrize("bad", ["x" * 1501, "a/b", "..", "__x__"])
def test_entity_whose_id_can_not_be_is_refused_unwritten(oncetask_cloud: OncetaskCloud, shop: Shop, bad: str) -> None:
    """
    By each call that takes one.
    """
    oncetask_cloud.local.firestore.reset_counts()
    for call in (
        lambda: shop.locker.schedule(Order(id=bad), "/tasks/order"),
        lambda: shop.locker.get(Order, bad),
        lambda: shop.locker.complete(Order(id=bad)),
    ):
        with pytest.raises(UsageError, match="Order: the id"):
            call()
    assert dict(oncetask_cloud.local.firestore.counts) == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "/" + "p" * 2020}, "url has 2,0.. characters"),
        ({"url": "/" + "é" * 400}, "url has 2,4.. characters"),
        ({"url": "/p", "headers": {"X-Large": "x" * 79_000}}, "headers has 79,007 bytes"),
    ],
)
def test_long_urls_and_headers_are_refused_unwritten(
    oncetask_cloud: OncetaskCloud, shop: Shop, options: Any, message: str
) -> None:
    """
    What Cloud Tasks would refuse after the commit.
    """
    oncetask_cloud.local.firestore.reset_counts()
    with pytest.raises(UsageError, match=message):
        shop.locker.schedule(Order(id="42"), **options)
    assert written(oncetask_cloud) == 0


def test_longest_url_and_headers_are_delivered(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    With the longest id, and to where it is said.
    """
    url = "/tasks/order?" + "p" * (2020 - len(f"{URL}/tasks/order?"))
    headers = {"X-Large": "x" * 77_000}
    assert shop.locker.schedule(Order(id="x" * 1500), url, headers=headers).dispatched
    oncetask_cloud.run_until_idle()
    assert shop.charges
    with pytest.raises(UsageError, match="at most 2,020"):
        shop.locker.schedule(Order(id="43"), f"{url}p")


# --- once-tasks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("character", SIZES)
def test_task_with_the_longest_id_and_key_runs(service: Service, character: str) -> None:
    """
    Waits for its key, gets it, runs, is found by id and key; one character more is refused.
    """
    size = SIZES[character][1]
    id_ = character * ((1500 - len("xx:DEFAULT:work:")) // size)
    key = character * ((1500 - len("DEFAULT///") - 2 * 27) // size)
    service.handle()
    service.create(id_, "b", key=key)
    assert [task.id for task in service.manager.get_tasks_by_resource_key(Work, key)] == [id_, "b"]
    service.post_all(service.bodies())
    service.settle(4)

    assert sorted(service.ran) == sorted([id_, "b"])
    assert [service.lock(name).status for name in (id_, "b")] == [Status.COMPLETED] * 2
    for work, message in (
        (Work(name=id_ + character), "The task id"),
        (Work(name="c", key=key + character), "The resource key"),
    ):
        with pytest.raises(UsageError, match=f"{message} .* takes 1,[45].. bytes .* at most 1,4.. fit"):
            service.manager.create_task(work)


@pytest.mark.parametrize("bad", [{"name": "x" * 1501}, {"name": "a", "key": "😀" * 200}, {"name": "\ud800"}])
def test_bad_name_among_many_is_refused_before_any_is_written(service: Service, bad: dict[str, str]) -> None:
    """
    Also where earlier batches are good.
    """
    service.cloud.local.firestore.reset_counts()
    good = [Work(name=f"a{number}") for number in range(60)]
    with pytest.raises(UsageError, match=r"(task_id|resource_key|task id|resource key)"):
        service.manager.create_tasks([*good, Work.model_construct(**{"key": None, "at": None, "note": "", **bad})])
    assert written(service.cloud) == 0


@pytest.mark.parametrize("returned", [7, b"a", ["a"]])
def test_keys_that_are_no_texts_are_refused(service: Service, returned: Any) -> None:
    """
    As ids are.
    """
    model = type("Odd", (Work,), {"resource_key": lambda self: returned, "__module__": __name__}, kind="odd")
    with pytest.raises(UsageError, match=r"resource_key\(\) is .* must be a text"):
        service.manager.create_task(model(name="a"))


def test_generator_with_the_longest_id_makes_its_occurrences(service: Service) -> None:
    """
    An id is refused where those of its occurrences, or the key that they wait for, would not fit.
    """
    service.handle(Repeat)
    room = 1500 - len("xx:DEFAULT:repeat:") - len("_occ_2026-01-01T00%3A00%3A00Z")
    assert service.manager.create_task(Repeat(name="x" * room, rule=DAILY))
    service.cloud.advance(days=1)
    assert sum(id_.startswith("x") for id_ in service.ran) > 0
    with pytest.raises(UsageError, match="The task id"):
        service.manager.create_task(Repeat(name="x" * (room + 1), rule=DAILY))

    room = 1500 - len("DEFAULT///") - 2 * 27 - len("recurrence%2Frepeat%2F")
    assert service.manager.create_task(Repeat(name="y" * room, rule=DAILY, overlap="queue"))
    service.cloud.advance(days=1)
    assert sum(id_.startswith("y") for id_ in service.ran) > 0
    with pytest.raises(UsageError, match="The resource key"):
        service.manager.create_task(Repeat(name="y" * (room + 1), rule=DAILY, overlap="queue"))


def test_payload_with_sets_is_one_task(service: Service) -> None:
    """
    However they were filled: no conflict with itself, and the handler gets them back.
    """

    class Tagged(TaskData, kind="tagged", on_conflict="raise"):
        tags: set[str]
        rows: dict[str, frozenset[str]] = {}  # noqa: RUF012 - pydantic copies it

    words = [f"w{number}" for number in range(50)]
    backwards = words[::-1]
    one = Tagged(tags=set(words), rows={"a": frozenset(words), "b": frozenset()})
    other = Tagged(tags=set(backwards), rows={"b": frozenset(), "a": frozenset(backwards)})
    service.handle(Tagged)
    assert service.manager.create_task(one)
    again = service.manager.create_task(other)
    service.cloud.run_until_idle()

    assert (again.created, again.differences, again.id) == (False, (), one.task_id())
    assert [task.data for task in service.tasks] == [one]
    assert service.stored(one.task_id(), Tagged)["data"]["tags"] == sorted(words)


def test_equal_set_of_an_entity_is_no_change(oncetask_cloud: OncetaskCloud) -> None:
    """
    However it was filled, and whatever the order in which an older version stored it.
    """
    locker = Locker(config=Config())
    oncetask_cloud.use(locker)
    words = [f"w{number}" for number in range(50)]
    stored = locker.client.document("baskets/1")
    stored.set({"tags": words[::-1], "note": "x"})
    basket = locker.get(Basket, "1")
    assert basket is not None
    oncetask_cloud.local.firestore.reset_counts()
    basket.tags = set(words)
    locker.save(basket)
    assert written(oncetask_cloud) == 0
    basket.tags.add("a")
    locker.save(basket)
    assert (stored.get().to_dict() or {})["tags"] == sorted([*words, "a"])


# --- locks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x" * 700, "x" * 5_000, "😀" * 5_000, "x" * 1_100_000])
def test_names_of_locks_have_no_limit(oncetask_cloud: OncetaskCloud, name: str) -> None:
    """
    Nor have keys and arguments of functions that run once: long ones are told apart by a hash.
    """
    locker = Locker(config=Config())
    oncetask_cloud.use(locker)
    ran: list[str] = []
    with locker.lock(name, ttl=60), locker.lock(f"{name}y", ttl=60):
        assert not locker.lock(name, ttl=60).acquire(blocking=False)
    for options in ({}, {"key": lambda text: text}):
        run = once(locker, name=f"f{len(ran)}", **options)(ran.append)
        for text in (name, f"{name}y", name):
            run(text)
    assert ran == [name, f"{name}y"] * 2


@pytest.mark.parametrize("collection", ["a/b", "a//b", "__x__", "c" * 1501, "/".join(["c" * 1500] * 5)])
def test_collections_of_locks_are_checked(oncetask_cloud: OncetaskCloud, collection: str) -> None:
    """
    The error names the option, and why.
    """
    locker = Locker(config=Config())
    oncetask_cloud.use(locker)
    with pytest.raises(UsageError, match=r"collection is .* is not the path of a collection"):
        locker.lock("a", collection=collection)
    with pytest.raises(UsageError, match=r"collection is .* is not the path of a collection"):
        once(locker, name="f", collection=collection)(print)("a")
