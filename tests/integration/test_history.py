"""
The life of a task and the acts of people, from the local cloud.
"""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict

from gcp_emulator.run.logs import RequestRecord
from gcp_oncetask import TaskNotFoundError, UsageError
from gcp_oncetask.cli import main
from gcp_oncetask.effects.act_trail import write_act
from gcp_oncetask.history import acts_of, timeline_of
from gcp_oncetask.rules.evidence import Holder
from gcp_oncetask.rules.record import Act
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.testing.cloud import ACCOUNT, OncetaskCloud
from tests.support.orders import Killed
from tests.support.tasks import Pull, Service

TRACE = "a" * 32


def runtime_in(service: Service) -> Runtime:
    made: Runtime = service.manager.locker._runtime
    return made


@pytest.fixture
def service(oncetask_cloud: OncetaskCloud) -> Service:
    return Service(oncetask_cloud).handle()


@pytest.fixture
def on_ports(cloud_of_commands: OncetaskCloud) -> Service:
    """
    The same for the command line.
    """
    # Commands run on the machine's clock.
    cloud_of_commands.clock.advance((datetime.now(UTC) - cloud_of_commands.clock_now()).total_seconds() - 3600)
    return Service(cloud_of_commands).handle()


def log_requests(service: Service) -> None:
    """
    Let the platform log each delivery so far, as Cloud Run does; a caller it turns away never comes to an instance.
    """
    for number, one in enumerate(service.cloud.deliveries):
        service.cloud._logs.request(
            RequestRecord(
                method="POST",
                url=one.dispatch.url,
                status=one.status or 0,
                started=one.started,
                ended=one.finished,
                request_size=1,
                response_size=1,
                user_agent="Google-Cloud-Tasks",
                remote_ip="127.0.0.1",
                referer="",
                trace=TRACE if number == 0 else f"{number:032x}",
                span_id="0" * 16,
                instance_id="" if one.status == 401 else "in-process",
            )
        )


def act(service: Service, verb: str, seconds: float = 0, **more: Any) -> Act:
    at = service.cloud.clock_now() + timedelta(seconds=seconds)
    return Act(**{"at": at, "verb": verb, "by": ACCOUNT, "proven": True, "claimed": "ann", "status": "failed", **more})


def test_op_26_two_takeovers_of_real_attempts_are_in_order(service: Service) -> None:
    """
    Two processes die one after the other; a third one completes. Each grant has the server's time, though the clocks of the
    processes are 20 s behind, 20 s ahead, and right.
    """
    times: list[datetime] = []
    runtime = runtime_in(service)

    class Clock:
        """
        The clock of the process whose turn it is.
        """

        def now(self) -> datetime:
            return runtime.clock.now() + timedelta(seconds=(-20, 20, 0, 0)[len(times)])

    runtime.events.trail._clock = Clock()  # type: ignore[assignment]

    def die_twice(task: Any, attempt: Any) -> None:
        times.append(service.cloud.clock_now())
        if len(times) < 3:
            raise Killed

    service.act = die_twice
    service.create("a")
    service.cloud.run_until_idle()
    service.settle(60)
    assert service.status("a") == "completed"
    found = timeline_of(runtime, service.path("a"))

    granted = [entry for entry in found.entries if entry.phase == "granted"]
    assert [(each.token, each.attempt) for each in granted] == [(1, 1), (2, 2), (3, 3)]
    assert [each.at for each in granted] == pytest.approx(times, abs=timedelta(milliseconds=1))
    assert "20 s behind" in str(granted[0].note)
    assert "20 s ahead" in str(granted[1].note)
    last = found.entries[-1]
    assert (last.phase, last.said, last.source) == ("settled", "settled: completed", "record, trail")
    assert found.unread == ()


def test_op_27_refused_deliveries_are_in_the_timeline(service: Service) -> None:
    """
    One is refused by the platform with 401, one with 409 while the attempt runs: both are there, in order, without a token.
    """
    plain = service.app.wsgi_app

    def traced(environ: Any, start_response: Any) -> Any:
        return plain({"HTTP_X_CLOUD_TRACE_CONTEXT": f"{TRACE}/1", **environ}, start_response)

    service.app.wsgi_app = traced  # type: ignore[method-assign]
    service.create("a")
    body = service.body("a")
    service.cloud.clock.advance(10)

    def hold(task: Any, attempt: Any) -> None:
        service.cloud.advance(seconds=1)
        assert service.post(body).status_code == 409
        service.cloud.advance(seconds=1)

    service.act = hold
    service.cloud.run_until_idle()
    [delivered] = service.cloud.deliveries
    at, url = delivered.started, delivered.dispatch.url
    put_request(service, at - 2_000_000, 401, url, instance="", text="Not authenticated: Bearer eyJhbGciOi.x.y")
    put_request(service, at + 1_000_000, 409, url)
    log_requests(service)
    found = timeline_of(runtime_in(service), service.path("a"))

    assert [(str(entry.phase), entry.source) for entry in found.entries] == [
        ("scheduled", "record"),
        ("refused", "request log"),
        ("delivered", "request log"),
        ("granted", "record, trail"),
        ("refused", "request log"),
        ("returned", "trail"),
        ("settled", "record, trail"),
    ]
    assert [entry.said.split()[8] for entry in found.entries if "HTTP" in entry.said] == ["401", "200", "409"]
    assert "eyJ" not in repr(found)


def put_request(
    service: Service, at: int, status: int, url: str, *, instance: str = "in-process", text: str = ""
) -> None:
    service.cloud._logs.request(
        RequestRecord(
            "POST",
            url,
            status,
            at,
            at + 1000,
            1,
            1,
            "Google-Cloud-Tasks",
            "::1",
            "",
            "e" * 32,
            "0" * 16,
            instance,
            text,
        )
    )


@pytest.mark.parametrize("how", ["gone", "denied"])
def test_op_28_without_logs_there_are_record_acts_and_a_gap(service: Service, how: str) -> None:
    """
    Lines past their retention, or that may not be read: the record tells the rest, and the gap is named.
    """
    service.die_once()
    service.create("a")
    service.cloud.run_until_idle()
    service.settle(40)
    service.manager.locker.reset_path(service.path("a"))
    service.cloud.run_until_idle()
    if how == "gone":
        service.cloud.forget_logs()
    else:
        denied = grpc.StatusCode.PERMISSION_DENIED
        service.cloud.faults.fail("ListLogEntries", code=denied, message="logging.logEntries.list denied", times=None)
    found = timeline_of(runtime_in(service), service.path("a"))

    assert [str(entry.phase) for entry in found.entries] == ["scheduled", "gap", "scheduled", "granted", "settled"]
    assert bool(found.unread) is (how == "denied")
    assert all("logging.logEntries.list denied" in sentence for sentence in found.unread)
    assert all("roles/logging.viewer" in sentence for sentence in found.unread)


def test_op_29_exported_file_gives_the_same_bytes(
    on_ports: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    Shuffled, with duplicates, with lines of another task, as an array and as one entry per line.
    """
    on_ports.die_once()
    on_ports.create("a", "b")
    on_ports.cloud.run_until_idle()
    on_ports.settle(40)
    log_requests(on_ports)
    assert write_act(runtime_in(on_ports), act(on_ports, "ack", sequence=1), on_ports.path("a")) is None
    capsys.readouterr()
    asked = ["timeline", "--kind", "work", "a", "--json"]
    assert main(asked) == 0
    expected = capsys.readouterr().out
    assert len(json.loads(expected)["entries"]) > 6
    entries = [MessageToDict(entry) for entry in on_ports.cloud.local.logging.entries]
    entries = [*entries, *entries[::2]]

    for seed in range(3):
        random.Random(seed).shuffle(entries)
        file = tmp_path / "entries.json"
        file.write_text(json.dumps(entries) if seed else "\n".join(map(json.dumps, entries)))
        assert main([*asked, "--from", str(file)]) == 0
        assert capsys.readouterr().out == expected


def test_op_30_recovery_keeps_its_share_while_people_look(service: Service) -> None:
    """
    Ten people open fifty timelines while fifty leases are judged: at most ten calls for them; recovery is never refused.
    """
    names = [f"t{number}" for number in range(50)]
    service.act = lambda task, attempt: None
    service.create(*names)
    service.cloud.run_until_idle()
    service.cloud.local.logging.limit_per_minute = 60
    runtime = runtime_in(service)
    later = 0
    for number, name in enumerate(names):
        found = timeline_of(runtime, service.path(name))
        later += any("Ask again later" in sentence for sentence in found.unread)
        holder = Holder(service.path(name), 1, 1, f"n{number}", None, service.cloud.clock_now())
        if number % 2:
            runtime.request_log.lines([holder])

    assert later == 40
    assert service.cloud.local.logging.counts["ListLogEntries"] == 10 + 25


def test_op_21_all_acts_are_in_the_trail_in_order(service: Service) -> None:
    """
    Of twelve, the record has the last ten; a repeated line counts once.
    """
    service.create("a")
    runtime, path = runtime_in(service), service.path("a")
    acts = [act(service, f"ack{number}", number, sequence=1) for number in range(12)]
    for each in [*acts[::-1], acts[3]]:
        assert write_act(runtime, each, path) is None
    service.cloud.advance(minutes=1)

    found = acts_of(runtime, path)
    assert len([entry for entry in service.cloud.local.logging.entries if entry.insert_id.startswith("act-")]) == 12
    assert [told.act for told in found.items] == acts
    assert found.unread == ()
    assert acts_of(runtime, by="ann").items == acts_of(runtime, by=ACCOUNT).items == found.items
    assert acts_of(runtime, by="bob").items == ()
    service.cloud.advance(minutes=1)
    assert acts_of(runtime, since=timedelta(seconds=115.5)).items == found.items[5:]


def test_op_24_act_without_the_right_to_write_is_done_and_warns(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """
    The warning names the role; it is logged, too.
    """
    service.create("a")
    denied = grpc.StatusCode.PERMISSION_DENIED
    service.cloud.faults.fail("WriteLogEntries", code=denied, message="denied", times=None)
    warning = write_act(runtime_in(service), act(service, "ack", sequence=1), service.path("a"))

    assert warning is not None
    assert "roles/logging.logWriter" in warning
    [logged] = caplog.messages
    assert "the act 'ack' is not in the trail" in logged
    assert "denied" in logged


def test_op_25_deletion_stays_readable_from_the_trail(on_ports: Service, capsys: pytest.CaptureFixture[str]) -> None:
    """
    By whom, with kind and id, though the document is gone; one whose commit is not known to be made says so.
    """
    on_ports.create("a\n", "b")
    runtime, path = runtime_in(on_ports), on_ports.path("a\n")
    deleted = act(on_ports, "delete", sequence=1, note="a mistake")
    assert write_act(runtime, deleted, path, intended=True) is None
    runtime.store.delete(path) if hasattr(runtime.store, "delete") else on_ports.manager.locker.client.document(
        path
    ).delete()
    assert write_act(runtime, deleted, path) is None
    assert write_act(runtime, act(on_ports, "delete", 1, sequence=1), on_ports.path("b"), intended=True) is None
    on_ports.cloud.advance(minutes=1)
    capsys.readouterr()

    assert main(["acts", "--since", "1d"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith(f"{ACCOUNT} as ann  delete  work 'a\\n', sequence 1, it was failed: a mistake")
    assert "delete (intended, not known to be done)  work 'b'" in second
    assert main(["acts", "--kind", "work", "a\n", "--json"]) == 0
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert (said["kind"], said["id"], said["verb"], said["by"], said["claimed"]) == (
        "work",
        "a\n",
        "delete",
        ACCOUNT,
        "ann",
    )
    assert (said["stage"], said["source"], said["proven"]) == ("done", "trail", True)
    assert "There is no record" in err
    assert main(["timeline", "--kind", "work", "a\n"]) == 0
    assert "delete by" in capsys.readouterr().out


def test_timeline_for_a_person(on_ports: Service, capsys: pytest.CaptureFixture[str]) -> None:
    """
    One line per event; a bad age, file or document is wrong use; a task that never was is a failure.
    """
    on_ports.create("a")
    on_ports.cloud.run_until_idle()
    capsys.readouterr()
    assert main(["timeline", "--kind", "work", "a"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == f"{on_ports.path('a')}: 4 events"
    assert [line.split()[2] for line in lines] == ["scheduled", "granted", "returned", "settled"]
    assert lines[1].split()[1] == "1/1/1"

    assert main(["timeline", "--kind", "work", "nothing"]) == 1
    assert main(["timeline", "nothing"]) == 2
    assert main(["timeline", "--kind", "work", "a", "--from", "/nowhere"]) == 2
    assert "can't be read" in capsys.readouterr().err
    for age in ("2", "0d", "9999d", "-1d", "x"):
        with pytest.raises(SystemExit) as stopped:
            main(["timeline", "a/b", f"--since={age}"])
        assert stopped.value.code == 2
    assert main(["acts", "--since", "1h"]) == 0
    assert capsys.readouterr().err.endswith("No act of a person was found.\n")


def test_since_leaves_out_older_lines(service: Service) -> None:
    """
    Whether they come from the service or from a file.
    """
    service.create("a")
    service.cloud.run_until_idle()
    service.cloud.advance(hours=2)
    runtime, path = runtime_in(service), service.path("a")
    whole, part = (timeline_of(runtime, path, since=timedelta(hours=hours)) for hours in (3, 1))

    assert [str(entry.phase) for entry in whole.entries] == ["scheduled", "granted", "returned", "settled"]
    assert [(str(entry.phase), entry.source) for entry in part.entries] == [
        ("scheduled", "record"),
        ("granted", "record"),
        ("settled", "record"),
    ]


def test_file_is_read_where_the_record_can_t_be(service: Service) -> None:
    """
    Without Firestore the exported lines tell what they can, and the failure is named; a damaged record is one, too.
    """
    service.create("a")
    service.cloud.run_until_idle()
    runtime, path = runtime_in(service), service.path("a")
    lines = runtime.task_log.lines("x", lambda: "jsonPayload.oncetask.event:*")
    service.cloud.faults.fail("*", times=None)
    found = timeline_of(runtime, path, exported=lines)

    assert [str(entry.phase) for entry in found.entries] == ["granted", "returned", "settled"]
    assert found.lock is None
    assert "The record could not be read" in found.unread[0]
    service.cloud.faults.clear()
    service.manager.locker.client.document(path).update({"lock.status": "odd"})
    assert "can't be decoded" in timeline_of(runtime, path, exported=lines).unread[0]


def test_document_that_never_was_is_told(service: Service) -> None:
    """
    Neither a record nor a line.
    """
    with pytest.raises(TaskNotFoundError, match="no line"):
        timeline_of(runtime_in(service), "orders/1")
    with pytest.raises(UsageError):
        acts_of(runtime_in(service), "orders")


def test_pulled_task_has_its_attempts(oncetask_cloud: OncetaskCloud) -> None:
    """
    Without a request or a trace.
    """
    from gcp_oncetask.worker import Worker

    service = Service(oncetask_cloud).handle(Pull)
    oncetask_cloud.work(Worker(service.manager))
    service.create("a", model=Pull)
    oncetask_cloud.run_until_idle()
    found = timeline_of(runtime_in(service), service.path("a", Pull))

    assert [str(entry.phase) for entry in found.entries] == ["scheduled", "granted", "returned", "settled"]
