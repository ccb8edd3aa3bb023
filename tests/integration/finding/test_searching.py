"""
Searches for records: those that need a person, and those of a status, with what they read.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from gcp_emulator.testing import InProcessCloud
from gcp_oncetask import AlreadyScheduledError, Attempt, Config, Fail, Locker, StoreError, TaskError, UsageError
from gcp_oncetask.entities.acted import Acting
from gcp_oncetask.finding.searching import Page
from gcp_oncetask.rules.record import Person, Status
from gcp_oncetask.store.indexes import definition, to_text
from gcp_oncetask.tasks import TaskManager
from gcp_oncetask.testing.cloud import OncetaskCloud, TestClock
from tests.support.orders import Order, Shop, make_shop
from tests.support.tasks import Other, Pull, Service, Work

ANN = Acting(Person("ann@example.com", proven=True))


@pytest.fixture
def service(oncetask_cloud: OncetaskCloud) -> Service:
    """
    A service whose handlers fail for tasks whose note is ``fail``.
    """
    made = Service(oncetask_cloud)

    def act(task: object, attempt: Attempt) -> object:
        return Fail("declined") if getattr(task, "data").note == "fail" else None  # noqa: B009 - any task

    made.act = act
    return made.handle().handle(Other)


@pytest.fixture
def shop(oncetask_cloud: OncetaskCloud) -> Shop:
    """
    A shop whose charges quarantine.
    """
    made = make_shop(on_unknown="quarantine")
    oncetask_cloud.use(made.locker)
    oncetask_cloud.mount("https://orders.test", made.app)
    return made


def ids(page: Page) -> list[str]:
    """
    The ids that were found.
    """
    return [row.id for row in page.items]


def failed(cloud: OncetaskCloud, service: Service, *names: str, model: type[Work] = Work) -> None:
    """
    Let tasks fail, a minute after each other.
    """
    for name in names:
        service.create(name, model=model, note="fail")
        cloud.run_until_idle()
        cloud.advance(minutes=1)


def test_op_01_records_that_need_a_person_the_oldest_first(oncetask_cloud: OncetaskCloud, service: Service) -> None:
    """
    However many tasks have ended: a search reads them and nothing else, with one query.
    """
    service.create(*(f"done{n}" for n in range(30)))
    failed(oncetask_cloud, service, "b", "a")
    failed(oncetask_cloud, service, "c", model=Other)
    oncetask_cloud.reset_cost()
    page = service.manager.locker.find(collection="onceTasks")

    assert [(row.kind, row.id, row.reason, row.status) for row in page.items] == [
        ("work", "b", "failed", "failed"),
        ("work", "a", "failed", "failed"),
        ("other", "c", "failed", "failed"),
    ]
    assert (page.index, page.next, page.reads, page.left_out) == ("lock.attention", None, 3, "")
    # Each reason is one query, and one without results is billed as one read.
    oncetask_cloud.assert_cost(reads=3 + 8, writes=0)
    assert all(row.since is not None and row.last_error == "declined" and row.version for row in page.items)
    assert ids(service.manager.locker.find(kind="other")) == ["c"]
    assert ids(service.manager.locker.find(older_than=timedelta(minutes=2.5))) == ["b"]
    assert ids(service.manager.locker.find(newer_than=90)) == ["c"]
    assert ids(service.manager.find(Other)) == ["c"]


def test_op_03_each_of_many_of_one_instant_comes_once(oncetask_cloud: OncetaskCloud, service: Service) -> None:
    """
    Pages are cut by time and path, so that none is lost or repeated while new ones come.
    """
    service.create(*(f"{n:03d}" for n in range(120)), note="fail")
    oncetask_cloud.run_until_idle()
    found: list[str] = []
    page = service.manager.locker.find(limit=50)
    while True:
        found += ids(page)
        if page.next is None:
            break
        failed(oncetask_cloud, service, f"new{len(found)}")
        page = service.manager.locker.find(limit=50, after=page.next)

    assert len(found) == len(set(found))
    assert {f"{n:03d}" for n in range(120)} <= set(found)


def test_shards_and_collections_are_merged(oncetask_cloud: OncetaskCloud) -> None:
    """
    The order is that of time, not of reason, shard or collection.
    """
    service = Service(oncetask_cloud, shards=4).handle()
    service.act = lambda task, attempt: Fail("declined")
    names = [f"n{n}" for n in range(12)]
    failed(oncetask_cloud, service, *names)
    locker, found = service.manager.locker, list[str]()
    page = locker.find(limit=5)
    found += ids(page)
    while page.next is not None:
        page = locker.find(limit=5, after=page.next)
        found += ids(page)
    assert found == names


def test_op_04_missing_index_is_named() -> None:
    """
    The line that makes it, and the command that deploys it.
    """
    data = definition(["orders"])
    for each in data["fieldOverrides"]:
        if each["fieldPath"] == "lock.attention":
            each["indexes"] = []
    cloud = InProcessCloud(indexes=to_text(data))
    config = Config(project=cloud.project, location="us-central1", verify="off", collections=("orders",))
    locker = Locker(cloud.firestore_client(), config=config, tasks=cloud.tasks_client(), clock=TestClock(cloud.clock))
    with pytest.raises(StoreError, match=r'"lock\.attention"') as told:
        locker.find(collection="orders")
    assert "firebase deploy --only firestore:indexes" in str(told.value)


def test_status_is_served_by_the_index_of_the_collection(oncetask_cloud: OncetaskCloud, service: Service) -> None:
    """
    Once-tasks by their state, entities by their due time; others are refused with the line of an index, unless scanned.
    """
    oncetask_cloud.advance(minutes=1)
    locker, manager = service.manager.locker, service.manager
    service.create("done", "also")
    oncetask_cloud.run_until_idle()
    failed(oncetask_cloud, service, "bad")
    service.create("pulled", model=Pull)
    locker.schedule(Order(id="1"), "https://tasks.test/x")
    locker.schedule(Order(id="2"), "https://tasks.test/x")
    locker.cancel(Order, "2")

    assert sorted(ids(manager.find(Work, status="completed"))) == ["also", "done"]
    assert ids(locker.find(status="failed")) == ["bad"]
    waiting = locker.find(status="scheduled")
    assert (sorted(ids(waiting)), waiting.index) == (["1", "pulled"], "lock.due, state")
    assert ids(locker.find(status="scheduled", collection="orders")) == ["1"]
    everywhere = locker.find(status="completed")
    assert sorted(ids(everywhere)) == ["also", "done"]
    assert "orders" in everywhere.left_out
    with pytest.raises(UsageError, match=r'"fieldPath": "lock\.status"'):
        locker.find(status="cancelled", collection="orders")
    scanned = locker.find(status="cancelled", collection="orders", scan=True)
    assert (ids(scanned), scanned.reads) == (["2"], 2)


@pytest.mark.parametrize(
    "given",
    [
        {"status": "odd"},
        {"reason": "odd"},
        {"key": "k"},
        {"kind": "work", "collection": "orders"},
        {"dismissed": True, "status": "failed"},
        {"limit": 0},
        {"after": "odd"},
        {"older_than": -1},
        {"collection": "orders/1"},
    ],
)
def test_search_that_makes_no_sense_is_refused(service: Service, given: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        service.manager.locker.find(**given)  # type: ignore[arg-type]


def test_text_that_contradicts_the_status_is_dropped_and_mended(
    oncetask_cloud: OncetaskCloud, service: Service
) -> None:
    """
    A process of an older release ends a task and leaves ``attention`` as it was.
    """
    failed(oncetask_cloud, service, "a")
    document = service.manager.locker.client.document(service.path("a"))
    document.update({"lock.status": "completed"})

    assert ids(service.manager.locker.find()) == []
    assert "attention" not in service.stored("a")["lock"]


def test_record_that_can_t_be_decoded_is_found(oncetask_cloud: OncetaskCloud, service: Service) -> None:
    service.create("a")
    document = service.manager.locker.client.document(service.path("a"))
    document.update({"lock.token": "x"})
    oncetask_cloud.run_until_idle()
    [row] = service.manager.locker.find().items

    assert (row.id, row.kind, row.reason, row.status, row.lock) == ("a", "work", "damaged", "damaged", None)
    assert ids(service.manager.locker.find(reason="damaged")) == ["a"]
    assert ids(service.manager.locker.find(reason="failed")) == []


def test_damaged_task_is_found_by_its_resource_key(oncetask_cloud: OncetaskCloud, service: Service) -> None:
    """
    Of a task without a time to run, too: its entry of that index ends with no instant.
    """
    service.create("a", key="k")
    service.create("b", key="k", at=oncetask_cloud.clock_now())
    for name in "ab":
        service.manager.locker.client.document(service.path(name)).update({"lock.url": 7})
    found = service.manager.locker.find(kind="work", key="k").items
    assert [(row.id, row.status) for row in found] == [("a", "damaged"), ("b", "damaged")]
    assert found[0].since is None


# --- decisions --------------------------------------------------------------------------------------------------------


def quarantined(cloud: OncetaskCloud, shop: Shop) -> str:
    """
    An order whose charge may have happened.
    """
    from tests.support.orders import Killed

    def die(order: Order, attempt: Attempt) -> None:
        raise Killed

    shop.on_charge = die
    shop.locker.schedule(Order(id="7"), "/tasks/order")
    cloud.run_until_idle()
    cloud.advance(hours=1)
    cloud.sweep()
    cloud.run_until_idle()
    shop.on_charge = None
    assert shop.locker.show("orders/7").status is Status.QUARANTINED
    return "orders/7"


def test_op_12_step_that_happened_goes_on(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    The next step runs with the result; nothing is charged again; the record says who decided.
    """
    path = quarantined(oncetask_cloud, shop)
    [row] = shop.locker.find().items
    assert (row.path, row.reason) == (path, "quarantined")
    acting = ANN._replace(if_version=row.version, note="seen at the provider")
    made = shop.locker.resolve_path(path, "happened", result={"id": "ch_1"}, next="/tasks/order", acting=acting)
    assert made is not None
    assert made.sequence == 2
    oncetask_cloud.run_until_idle()

    lock = shop.locker.show(path)
    assert (lock.status, len(shop.charges), shop.receipts) == (Status.COMPLETED, 1, ["7"])
    assert shop.seen[-1].params == {"id": "ch_1"}
    [act] = lock.acts
    assert (act.verb, act.by, act.proven, act.status, act.sequence, act.note) == (
        "happened",
        "ann@example.com",
        True,
        "quarantined",
        1,
        "seen at the provider",
    )
    assert ids(shop.locker.find()) == []


def test_op_14_result_that_can_t_be_stored_changes_nothing(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    path = quarantined(oncetask_cloud, shop)
    with pytest.raises(UsageError, match="result"):
        shop.locker.resolve_path(path, "happened", result=object(), end=True)
    for given in ({}, {"next": "/x", "end": True}, {"end": True, "params": {"a": 1}}):
        with pytest.raises(UsageError, match=r"give one|there is none"):
            shop.locker.resolve_path(path, "happened", **given)  # type: ignore[arg-type]
    assert shop.locker.show(path).status is Status.QUARANTINED


def test_op_15_second_decision_on_the_same_version_is_refused(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    path = quarantined(oncetask_cloud, shop)
    [row] = shop.locker.find().items
    shop.locker.resolve_path(path, "complete", acting=ANN._replace(if_version=row.version))
    with pytest.raises(AlreadyScheduledError, match=r"completed now.*ann@example\.com chose complete") as told:
        shop.locker.resolve_path(path, "run", acting=Acting(Person("bob", proven=False), None, row.version))
    assert told.value.facts["refusal"] == "moved"
    assert [act.by for act in shop.locker.show(path).acts] == ["ann@example.com"]


def test_op_17_decision_whose_answer_is_lost_is_recorded_once(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    path = quarantined(oncetask_cloud, shop)
    oncetask_cloud.local.faults.fail("Commit", when="after")
    made = shop.locker.resolve_path(path, "happened", next=".", acting=ANN)
    oncetask_cloud.local.faults.fail("Commit", when="after")
    shop.locker.cancel_path(path, acting=ANN)

    assert made is not None
    lock = shop.locker.show(path)
    assert ([act.verb for act in lock.acts], lock.sequence) == (["happened", "cancel"], 2)


def test_op_40_quarantined_record_can_t_be_dismissed(
    oncetask_cloud: OncetaskCloud, shop: Shop, service: Service
) -> None:
    """
    It can be acknowledged; a failed one can be dismissed, and is found among the dismissed ones.
    """
    path = quarantined(oncetask_cloud, shop)
    with pytest.raises(TaskError, match="decide it by resolve"):
        shop.locker.dismiss_path(path, acting=ANN)
    until = shop.locker.acknowledge_path(path, timedelta(hours=4), acting=ANN)
    [row] = shop.locker.find(collection="orders").items
    assert (row.acknowledged_by, row.acknowledged_until) == ("ann@example.com", until)

    failed(oncetask_cloud, service, "a")
    manager: TaskManager = service.manager
    manager.locker.dismiss_path(service.path("a"), acting=ANN)
    assert ids(manager.find(Work)) == []
    assert ids(manager.find(Work, dismissed=True)) == ["a"]
    assert [act.verb for act in service.lock("a").acts] == ["dismiss"]


def test_decisions_on_a_once_task(oncetask_cloud: OncetaskCloud, service: Service) -> None:
    """
    The manager has them; a failed task that happened ends with its result.
    """
    failed(oncetask_cloud, service, "a", "b")
    assert service.manager.resolve_task(Work, "a", "happened", result={"n": 1}, end=True) is None
    assert service.manager.result(Work, "a") == {"n": 1}
    service.act = lambda task, attempt: attempt.params
    assert service.manager.resolve_task(Work, "b", "happened", result=5, next=".")
    oncetask_cloud.run_until_idle()
    assert service.manager.result(Work, "b") == 5
