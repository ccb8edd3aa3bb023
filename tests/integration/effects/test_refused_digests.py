"""
Documents that owe alerts to a digest, and that Firestore refuses to write any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import pytest

from gcp_emulator.firestore import values
from gcp_oncetask import Fail, FixedDelay, Status
from gcp_oncetask.recovery import digests
from gcp_oncetask.store import registry
from gcp_oncetask.store.sizes import size_of
from gcp_oncetask.testing.cloud import OncetaskCloud
from gcp_oncetask.worker import Worker
from tests.support.orders import Killed
from tests.support.tasks import Service, Work

AGAIN = FixedDelay(delay=1, max_attempts=3)
NAMES = ("a", "b", "c", "d")
REFUSED = "failed with INVALID_ARGUMENT"


class Pulled(Work, kind="refused-digest", pull=True):
    pass


@pytest.fixture(autouse=True)
def own_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Sweeps ask for the library's own collections: other tests of this process have models of their own.
    """
    monkeypatch.setattr(registry, "DECLARED", {})


def refuse(service: Service, paths: Sequence[str], monkeypatch: pytest.MonkeyPatch, *, spare: int) -> None:
    """
    Let Firestore refuse all writes of the documents that take more than *spare* bytes away from their contents.
    """
    local, largest = service.cloud.local, 0
    for path in paths:
        service.manager.locker.client.document(path).update({"blob": b"x" * 100_000})
        largest = max(largest, size_of(path, local.firestore.documents(local.project)[path].fields))
    monkeypatch.setattr(values, "DOCUMENT_BYTES", largest - spare)


def told_of(cloud: OncetaskCloud, reason: str) -> list[str]:
    """
    The documents that mails with this reason name, each as often as they do, once all windows are over.
    """
    cloud.clock.advance(1000)
    cloud.sweep()
    mails = [alert for alert in cloud.alerts.sent if reason in alert.reason]
    return sorted(name for mail in mails for name in (mail.documents or (mail.document,)))


def waiting(cloud: OncetaskCloud) -> Service:
    """
    Four tasks that have failed; all but the first owe an alert that waits.
    """
    service = Service(cloud).handle()
    service.act = lambda task, attempt: (_ for _ in ()).throw(Fail("declined"))
    service.create(*NAMES)
    cloud.run_until_idle()
    assert [len(service.lock(name).owed) for name in NAMES] == [0, 1, 1, 1]
    return service


def test_alerts_of_documents_that_take_no_write_are_sent(
    oncetask_cloud: OncetaskCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Nothing of them can be lent to a digest, so they are sent without a record, once a day; and the refusal is told as well.
    """
    service = waiting(oncetask_cloud)
    paths = [service.path(name) for name in NAMES]
    refuse(service, paths[1:], monkeypatch, spare=50_000)
    oncetask_cloud.clock.advance(1000)
    for _ in range(3):
        oncetask_cloud.sweep()
    assert told_of(oncetask_cloud, "declined") == sorted(paths)
    assert told_of(oncetask_cloud, REFUSED) == sorted(paths[1:])


def test_digest_that_was_sent_and_cannot_be_noted(
    oncetask_cloud: OncetaskCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The documents are filled after they were lent to it: they are written without the alerts, which takes less room.
    """
    service = waiting(oncetask_cloud)
    paths = [service.path(name) for name in NAMES]
    owe = digests.windows.owe

    def fills(*args: object) -> object:
        made = owe(*args)  # type: ignore[arg-type]
        refuse(service, paths[1:], monkeypatch, spare=50_000)
        return made

    monkeypatch.setattr(digests.windows, "owe", fills)
    oncetask_cloud.clock.advance(1000)
    oncetask_cloud.sweep()
    assert set(told_of(oncetask_cloud, "declined")) == set(paths)
    assert told_of(oncetask_cloud, REFUSED) == sorted(paths[1:])


@pytest.mark.parametrize(("spare", "status"), [(100, Status.FAILED), (50_000, Status.SCHEDULED)])
def test_task_of_workers_that_owes_an_alert_to_a_digest_does_not_stand_still_untold(
    oncetask_cloud: OncetaskCloud, monkeypatch: pytest.MonkeyPatch, spare: int, status: Status
) -> None:
    """
    No delivery comes to it: the worker that can't send its alert ends it, or tells a person.
    """
    service = Service(oncetask_cloud).handle(Pulled, retry=AGAIN, lease_duration=60)
    worker = Worker(service.manager, listen=False)
    service.act = lambda task, attempt: (_ for _ in ()).throw(Killed)
    for name in NAMES:
        service.manager.create_task(Pulled(name=name))
    store = service.manager.locker._runtime.store

    def works() -> list[bool | None]:
        ran = []
        for snapshot in worker.ripe(store.estimate()):
            with suppress(Killed):
                ran.append(worker.run_here(snapshot))
        return ran

    works()
    oncetask_cloud.clock.advance(1000)
    # The dead are taken over by those that wait again: their alerts are still owed.
    service.act = lambda task, attempt: (_ for _ in ()).throw(ValueError("not now"))
    works()
    left = [name for name in NAMES if service.lock(name, Pulled).owed]
    assert len(left) == len(NAMES) - 1
    paths = sorted(service.path(name, Pulled) for name in left)
    refuse(service, paths, monkeypatch, spare=spare)
    oncetask_cloud.clock.advance(1000)
    ran = [one for _ in range(5) for one in works()]
    assert set(told_of(oncetask_cloud, "nothing is known of its end")) >= set(paths)
    assert told_of(oncetask_cloud, REFUSED) == paths
    assert [service.lock(name, Pulled).status for name in left] == [status] * len(left)
    assert status is Status.FAILED or ran[-len(left) :] == [None] * len(left)
