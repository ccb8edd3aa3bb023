from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import requests

from gcp_emulator.logging import LoggingServer
from gcp_emulator.run import RunError, RunService

COMMAND = [sys.executable, str(Path(__file__).with_name("run_app.py"))]
LOG = "projects/p/logs/run.googleapis.com%2F"


def service_of(**options):
    options.setdefault("logging", LoggingServer())
    return RunService(COMMAND, name="orders", project="p", shutdown_grace=options.pop("grace", 5.0), **options)


@pytest.fixture(scope="module")
def logs():
    return LoggingServer()


@pytest.fixture(scope="module")
def service(logs):
    service = service_of(logging=logs, env={"SPOIL": ""})
    service.start()
    yield service
    service.stop()


def gone(*pids):
    """Whether all end; an orphan that nobody has collected yet has ended too."""
    deadline = time.monotonic() + 20
    while not all(ended(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        threading.Event().wait(0.02)
    return True


def ended(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_request_and_answer_pass_unharmed(service):
    """Method, path with query, headers, body, status and repeated answer headers pass through."""
    answer = requests.post(
        service.url + "/tasks/order?otk=k%2F1&n=2", data="grüße".encode(), headers={"X-CloudTasks-QueueName": "q"}
    )
    told = answer.json()
    assert (answer.status_code, told["method"], told["path"], told["body"]) == (
        200,
        "POST",
        "/tasks/order?otk=k%2F1&n=2",
        "grüße",
    )
    headers = dict(told["headers"])
    assert headers["x-cloudtasks-queuename"] == "q"
    assert headers["host"] == service.url.removeprefix("http://")
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert answer.headers["X-One"] == "a, b"
    assert requests.get(service.url + "/status?404").status_code == 404
    assert requests.get(service.url + "/chunked").text == "abcdef"
    head = requests.head(service.url + "/status?200")
    assert (head.content, head.headers["Content-Length"]) == (b"", "8")


def test_instance_has_the_container_contract(service):
    """The instance sees PORT, K_SERVICE, K_REVISION and K_CONFIGURATION."""
    environment = requests.get(service.url).json()["environment"]
    assert environment.pop("PORT") == str(service.instances[0].port)
    assert environment == {
        "K_SERVICE": "orders",
        "K_REVISION": service.revision,
        "K_CONFIGURATION": "orders",
        "SPOIL": "",
    }


def test_connections_are_kept_alive_on_both_sides(service):
    """One client connection carries many requests, and so does the connection to the instance."""
    with requests.Session() as session:
        clients = {session.get(service.url).json()["client"] for _ in range(20)}
        assert "close" not in session.get(service.url).headers.get("Connection", "")
    assert len(clients) == 1


def test_trace_is_made_or_kept(service, logs):
    """Each request gets a trace in both headers; one that came along is kept, with a span of its own."""
    trace = "0af7651916cd43dd8448eb211c80319c"
    seen = []
    for sent in (
        {},
        {},
        {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"},
        {"X-Cloud-Trace-Context": f"{trace}/77;o=1"},
    ):
        headers = dict(requests.get(service.url + "/traced", headers=sent).json()["headers"])
        _, one, span, _ = headers["traceparent"].split("-")
        assert headers["x-cloud-trace-context"] == f"{one}/{int(span, 16)};o=1"
        seen.append((one, span))
        (entry,) = logs.matching(f'trace="projects/p/traces/{one}" spanId="{span}"')
        assert entry.log_name == LOG + "requests"
    assert [one for one, _ in seen[2:]] == [trace, trace]
    assert len({span for _, span in seen}) == 4


def test_request_log_entry(service, logs):
    """An ended request has an entry with URL and query, status, latency, instance and severity."""
    before = time.time_ns()
    requests.post(service.url + "/status?503&otk=k-17", data=b"12345", headers={"User-Agent": "Google-Cloud-Tasks"})
    (entry,) = logs.matching(f'logName="{LOG}requests" httpRequest.requestUrl:"otk=k-17"')
    http = entry.http_request
    assert http.request_url == service.url + "/status?503&otk=k-17"
    assert (http.request_method, http.status, http.user_agent) == ("POST", 503, "Google-Cloud-Tasks")
    assert (http.request_size, http.response_size, http.remote_ip) == (5, 8, "127.0.0.1")
    assert 0 < http.latency.ToNanoseconds() < 5e9
    assert before // 1000 * 1000 <= entry.timestamp.ToNanoseconds() <= time.time_ns()
    assert (entry.severity, entry.text_payload) == (500, "")
    assert entry.labels["instanceId"] == service.instances[0].id
    assert entry.resource.type == "cloud_run_revision"
    assert dict(entry.resource.labels) == {
        "project_id": "p",
        "service_name": "orders",
        "revision_name": service.revision,
        "configuration_name": "orders",
        "location": "us-central1",
    }


def test_lines_of_output_become_entries(service, logs):
    """Plain lines are text entries, JSON objects structured ones with the special fields in their places."""
    structured = {
        "severity": "warning",
        "message": "took over",
        "time": time.strftime("%Y-%m-%dT%H:%M:%S.123456789Z", time.gmtime()),
        "token": "17",
        "nested": {"list": [1, None]},
        "logging.googleapis.com/trace": "projects/p/traces/abc",
        "logging.googleapis.com/spanId": "0000000000000001",
        "logging.googleapis.com/insertId": "fixed",
        "logging.googleapis.com/labels": {"holder": "h1"},
        "logging.googleapis.com/trace_sampled": True,
        "httpRequest": {"requestUrl": "http://x/y", "status": 200},
    }
    requests.post(service.url + "/print", data=json.dumps(structured))
    requests.post(service.url + "/print?err", data='plain "größer" text\n\n{"broken": '.encode())
    (entry,) = logs.wait_for("labels.holder=h1")
    assert entry.log_name == LOG + "stdout"
    assert (entry.severity, entry.trace, entry.span_id, entry.insert_id, entry.trace_sampled) == (
        400,
        "projects/p/traces/abc",
        "0000000000000001",
        "fixed",
        True,
    )
    assert entry.timestamp.nanos == 123456789
    assert entry.http_request.request_url == "http://x/y"
    assert dict(entry.json_payload) == {"message": "took over", "token": "17", "nested": {"list": [1, None]}}
    assert entry.labels["instanceId"] == service.instances[0].id
    texts = logs.wait_for(f'logName="{LOG}stderr"', 2)
    assert [one.text_payload for one in texts] == ['plain "größer" text', '{"broken": ']


@pytest.mark.parametrize(
    ("line", "payload"),
    [
        ({"severity": "LOUD", "id": 1}, {"severity": "LOUD", "id": 1}),
        ({"time": "yesterday", "id": 2}, {"time": "yesterday", "id": 2}),
        ({"httpRequest": {"status": "bad"}, "id": 3}, {"httpRequest": {"status": "bad"}, "id": 3}),
        ({"logging.googleapis.com/trace": 5, "id": 4}, {"logging.googleapis.com/trace": 5, "id": 4}),
    ],
)
def test_special_fields_of_the_wrong_type_stay_in_the_payload(service, logs, line, payload):
    """A special field that can't be understood is not lost."""
    requests.post(service.url + "/print", data=json.dumps(line))
    (entry,) = logs.wait_for(f"jsonPayload.id={payload['id']}")
    assert dict(entry.json_payload) == payload


def test_oversized_line_is_kept_as_text(service, logs):
    """A JSON line with more labels than an entry may have is kept as text."""
    labels = {f"label{number}": "x" for number in range(70)}
    requests.post(service.url + "/print", data=json.dumps({"logging.googleapis.com/labels": labels}))
    (entry,) = logs.wait_for("textPayload:label69")
    assert entry.log_name == LOG + "stdout"


def test_broken_answer_is_503_with_the_platforms_sentence(service, logs):
    """An answer that breaks off is 503, and its request log entry says why."""
    assert requests.get(service.url + "/break?id=1").status_code == 503
    (entry,) = logs.matching('httpRequest.requestUrl:"/break?id=1"')
    assert entry.http_request.status == 503
    assert entry.text_payload.startswith("The request failed because either the HTTP response was malformed")


def test_crashed_instance_is_replaced(logs):
    """A crash in a request is 503; the system log tells the exit, and a new instance serves the next request."""
    service = service_of(logging=logs)
    service.start()
    try:
        (first,) = service.instances
        child = int(requests.get(service.url + "/child").text)
        assert requests.get(service.url + "/exit?3").status_code == 503
        (entry,) = logs.wait_for(f'labels.instanceId="{first.id}" logName="{LOG}varlog%2Fsystem"')
        assert entry.text_payload == "Container called exit(3)."
        assert gone(child)
        assert requests.get(service.url).status_code == 200
        (second,) = service.instances
        assert (second.id != first.id, second.pid != first.pid) == (True, True)
        assert service.kill_instance() is second
        (entry,) = logs.wait_for(f'labels.instanceId="{second.id}" logName="{LOG}varlog%2Fsystem"')
        assert entry.text_payload == "Container terminated on signal 9."
        assert requests.get(service.url).status_code == 200
        assert service.requests == {503: 1, 200: 3}
    finally:
        service.stop()


def test_timeout_is_504_and_the_code_goes_on(logs):
    """Past the request time-out the client gets 504, logged with the trace; the handler runs to its end unaware."""
    service = service_of(logging=logs, request_timeout=0.2)
    service.start()
    try:
        answer = requests.get(service.url + "/slow?0.5")
        assert (answer.status_code, answer.text) == (504, "upstream request timeout")
        (entry,) = logs.matching('httpRequest.requestUrl:"/slow?0.5"')
        assert (entry.http_request.status, entry.severity) == (504, 500)
        (system,) = logs.matching(f'logName="{LOG}varlog%2Fsystem" trace="{entry.trace}"')
        assert "maximum request timeout" in system.text_payload == entry.text_payload
        instance = service.instances[0].id
        logs.wait_for(f'textPayload="slow ends" labels.instanceId="{instance}"')
        assert service.instances[0].id == instance
    finally:
        service.stop()


def test_client_that_leaves_is_not_told_to_the_handler(service, logs):
    """The handler finishes although its client has gone, and the request log has its status."""
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.get(service.url + "/slow?0.3&left", timeout=0.1)
    (entry,) = logs.wait_for('httpRequest.requestUrl:"0.3&left"')
    assert entry.http_request.status == 200


def test_no_room_is_429(logs):
    """Requests beyond the concurrency wait; after the queue time-out they are 429 and logged as aborted."""
    service = service_of(logging=logs, concurrency=1, queue_timeout=0.1)
    service.start()
    try:
        blocked = threading.Thread(target=requests.get, args=(service.url + "/slow?0.6&first",))
        blocked.start()
        logs.wait_for(f'textPayload="slow begins" labels.instanceId="{service.instances[0].id}"')
        assert requests.get(service.url + "/?second").status_code == 429
        (entry,) = logs.matching('httpRequest.requestUrl:"/?second"')
        assert entry.text_payload == "The request was aborted because there was no available instance."
        blocked.join()
        assert service.requests == {429: 1, 200: 1}
    finally:
        service.stop()


def test_requests_are_spread_over_instances(logs):
    """Several instances take turns; idle connections to them don't keep them from ending in good order."""
    service = service_of(instances=3, logging=logs)
    service.start()
    instances = service.instances
    try:
        pids = [requests.get(service.url).json()["pid"] for _ in range(6)]
        assert sorted(pids[:3]) == sorted(pids[3:]) == sorted(one.pid for one in instances)
        assert len({one.id for one in instances}) == 3
    finally:
        service.stop()
    ids = " OR ".join(one.id for one in instances)
    endings = logs.matching(f'logName="{LOG}varlog%2Fsystem" labels.instanceId=({ids})')
    assert [one.text_payload for one in endings] == ["Container called exit(0)."] * 3


def test_stop_lets_requests_finish_and_leaves_no_process():
    """SIGTERM reaches the command; a request in flight is answered; children die with the instance."""
    logs = LoggingServer()
    service = service_of(logging=logs)
    service.start()
    child = int(requests.get(service.url + "/child").text)
    (instance,) = service.instances
    assert set(instance.processes()) == {instance.pid, child}
    statuses = []
    running = threading.Thread(target=lambda: statuses.append(requests.get(service.url + "/slow?0.4").status_code))
    running.start()
    logs.wait_for('textPayload="slow begins"')
    service.stop()
    running.join()
    assert statuses == [200]
    assert gone(instance.pid, child)
    assert logs.matching('textPayload="stopping"')
    assert logs.matching('textPayload="Container called exit(0)."')
    with pytest.raises(requests.exceptions.ConnectionError):
        requests.get(service.url)


def test_stop_kills_after_the_grace():
    """An instance that ignores SIGTERM is killed when the grace is over."""
    logs = LoggingServer()
    service = service_of(logging=logs, grace=0.2, env={"SPOIL": "stop"})
    service.start()
    (instance,) = service.instances
    service.stop()
    assert gone(instance.pid)
    assert logs.matching('textPayload="stopping"')
    assert logs.matching('textPayload="Container terminated on signal 9."')


def test_command_that_ends_at_once_is_reported_with_its_output():
    """A command that can't start makes start() fail with exit code and last output."""
    service = service_of(env={"SPOIL": "start"})
    with pytest.raises(RunError, match=r"exit code 1 before it listened[^$]*no configuration: give one"):
        service.start()
    with pytest.raises(RunError, match="can't be started: No such file"):
        RunService(["/no/such/program"], name="x", project="p", logging=LoggingServer()).start()


def test_command_that_never_listens_is_reported():
    """A command that does not listen in time is killed and named."""
    service = RunService(
        ["sleep", "60"], name="x", project="p", logging=LoggingServer(), startup_timeout=0.2, shutdown_grace=5
    )
    with pytest.raises(RunError, match="did not listen"):
        service.start()
    assert service._alive == set()


def test_frozen_instance_holds_requests_until_it_goes_on(service):
    """SIGSTOP freezes the whole instance; after SIGCONT the request is answered."""
    instance = service.kill_instance(signal.SIGSTOP)
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.get(service.url, timeout=0.1)
    service.kill_instance(signal.SIGCONT, instance)
    assert requests.get(service.url, timeout=5).status_code == 200


def test_log_delay_of_the_service():
    """With log_delay the service's entries are stored at once and listable later."""
    logs = LoggingServer()
    service = service_of(logging=logs, log_delay=3600)
    service.start()
    requests.get(service.url)
    service.stop()
    assert logs.wait_for(f'logName="{LOG}requests"')
    assert logs.matching() == []


def test_bodies_without_length_are_refused(service):
    """A chunked request body is refused with a sentence."""
    answer = requests.post(service.url, data=iter([b"abc"]))
    assert (answer.status_code, "Content-Length" in answer.text) == (411, True)


def test_killed_worker_of_gunicorn_breaks_only_its_request(logs, tmp_path):
    """Killing one gunicorn worker makes its request 503; the instance stays, and gunicorn's new worker answers."""
    (tmp_path / "app.py").write_text(
        "import os, time\n"
        "def app(environ, start_response):\n"
        "    if environ['PATH_INFO'] == '/wait':\n"
        "        print('waiting', os.getpid(), flush=True)\n"
        "        time.sleep(60)\n"
        "    start_response('200 OK', [])\n"
        "    return [str(os.getpid()).encode()]\n"
    )
    command = [sys.executable, "-m", "gunicorn", "--workers=2", "--worker-class=gthread", "--threads=4"]
    service = RunService(
        [*command, "app:app"],
        name="g",
        project="p",
        logging=logs,
        cwd=tmp_path,
        shutdown_grace=10,
    )
    service.start()
    try:
        (instance,) = service.instances
        statuses = []
        running = threading.Thread(target=lambda: statuses.append(requests.get(service.url + "/wait").status_code))
        running.start()
        (entry,) = logs.wait_for(f'textPayload:waiting labels.instanceId="{instance.id}"')
        worker = int(entry.text_payload.split()[1])
        assert worker in instance.processes()
        os.kill(worker, signal.SIGKILL)
        running.join()
        assert statuses == [503]
        assert [requests.get(service.url).status_code for _ in range(10)] == [200] * 10
        assert service.instances == [instance]
        pids = instance.processes()
    finally:
        service.stop()
    assert gone(*pids)


def test_requests_of_several_clients_at_once():
    """Four clients with keep-alive: each request is answered, and counted once."""
    service = service_of(logging=LoggingServer())
    service.start()

    def client():
        with requests.Session() as session:
            for _ in range(100):
                session.post(service.url + "/status?200", data=b"x")

    try:
        threads = [threading.Thread(target=client) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert service.requests == {200: 400}
    finally:
        service.stop()


def test_port_taken_is_an_error_and_leaves_nothing():
    """A port in use makes start() fail, with no instance left running."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        service = service_of(port=taken.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            service.start()
    assert service._alive == set()
