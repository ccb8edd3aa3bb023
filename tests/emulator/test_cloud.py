from __future__ import annotations

import os
import re
import smtplib
import socket
import threading
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import pytest
import requests
from google.api_core import exceptions
from google.cloud import firestore
from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2Client
from google.cloud.logging_v2.services.logging_service_v2.transports import LoggingServiceV2GrpcTransport
from google.cloud.tasks_v2 import CloudTasksClient
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

from gcp_emulator.clock import VirtualClock
from gcp_emulator.cloud import CloudError, LocalCloud
from gcp_emulator.firestore import find
from gcp_emulator.logging.messages import ListLogsRequest, ListLogsResponse
from gcp_emulator.rpc import Method
from gcp_emulator.tasks import WsgiTransport
from gcp_emulator.testing import InProcessCloud
from tests.support.patience import patient


@pytest.fixture(scope="module")
def cloud():
    with LocalCloud(project="demo", queues=("default", "mail")) as cloud:
        yield cloud


@pytest.fixture
def environment(cloud, monkeypatch):
    for name, value in cloud.environment().items():
        monkeypatch.setenv(name, value)
    return cloud.environment()


@pytest.fixture
def tasks(cloud):
    with grpc.insecure_channel(cloud.tasks.address) as channel:
        yield CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))


def test_environment_names_every_service(cloud):
    """The environment has exactly the names that clients and applications look for, each with an address."""
    environment = cloud.environment()
    assert environment == {
        "GOOGLE_CLOUD_PROJECT": "demo",
        "ONCETASK_LOCATION": "us-central1",
        "FIRESTORE_EMULATOR_HOST": cloud.firestore.address,
        "CLOUD_TASKS_EMULATOR_HOST": cloud.tasks.address,
        "CLOUD_LOGGING_EMULATOR_HOST": cloud.logging.address,
        "ONCETASK_OIDC_CERTS_URL": cloud.oidc.certs_url,
        "ONCETASK_SMTP_URL": cloud.mail.url,
    }
    assert all(environment.values())


def test_real_clients_reach_every_service(cloud, environment, tasks):
    """An unmodified Firestore client, and clients on plain channels, work through the environment's addresses."""
    client = firestore.Client()
    client.document("orders/1").set({"amount": 3})
    assert client.document("orders/1").get().to_dict() == {"amount": 3}
    assert sorted(queue.name for queue in tasks.list_queues(parent="projects/demo/locations/us-central1")) == [
        cloud.queue(),
        cloud.queue("mail"),
    ]
    with grpc.insecure_channel(environment["CLOUD_LOGGING_EMULATOR_HOST"]) as channel:
        logging = LoggingServiceV2Client(transport=LoggingServiceV2GrpcTransport(channel=channel))
        logging.write_log_entries(
            log_name="projects/demo/logs/x", resource={"type": "global"}, entries=[{"text_payload": "hello"}]
        )
    assert [entry.text_payload for entry in cloud.logging.matching("textPayload=hello")] == ["hello"]
    assert requests.get(environment["ONCETASK_OIDC_CERTS_URL"]).json()
    message = EmailMessage()
    message["From"], message["To"] = "a@example.com", "b@example.com"
    with smtplib.SMTP(*environment["ONCETASK_SMTP_URL"].removeprefix("smtp://").split(":")) as smtp:
        smtp.send_message(message)
    assert cloud.mail.wait_for(1)


def test_tasks_are_delivered_with_tokens_of_the_issuer(cloud, tasks):
    """A task reaches a real HTTP server, with an identity token that the cloud's issuer signed."""
    from google.auth.transport.requests import Request
    from google.oauth2 import id_token

    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            seen.append(self.headers["Authorization"].removeprefix("Bearer "))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        token = {"service_account_email": "tasks@demo.test", "audience": "https://orders.test"}
        url = f"http://127.0.0.1:{server.server_port}/"
        task = {"http_request": {"url": url, "http_method": "POST", "oidc_token": token}}
        tasks.create_task(parent=cloud.queue(), task=task)
        assert cloud.tasks.idle(patient(30))
        server.shutdown()
        thread.join()
    claims = id_token.verify_token(seen[0], Request(), "https://orders.test", certs_url=cloud.oidc.certs_url)
    assert claims["email"] == "tasks@demo.test"


def test_one_clock_and_one_set_of_faults_for_all():
    """With a virtual clock and manual dispatching, everything runs in process on that clock, with shared faults."""
    clock = VirtualClock()
    seen = []

    def app(environ, start_response):
        seen.append(environ["PATH_INFO"])
        start_response("200 OK", [])
        return [b""]

    transport = WsgiTransport({"https://orders.test": app})
    cloud = LocalCloud(clock=clock, auto=False, transport=transport, seed=7, queues=("q",))
    assert cloud.firestore.service.faults is cloud.tasks.service.faults is cloud.logging.service.faults is cloud.faults
    with cloud, grpc.insecure_channel(cloud.tasks.address) as channel:
        client = CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))
        later = {
            "http_request": {"url": "https://orders.test/a"},
            "schedule_time": {"seconds": clock.micros() // 10**6 + 60},
        }
        client.create_task(parent=cloud.queue("q"), task=later)
        assert cloud.tasks.run_due() == 0
        clock.advance(61)
        assert cloud.tasks.run_due() == 1
    assert seen == ["/a"]


def test_readiness_is_reported_for_each_service():
    """The callback hears of each service once, with its address."""
    ready = {}
    cloud = LocalCloud()
    cloud.start(on_ready=ready.__setitem__)
    try:
        assert set(ready) == {"firestore", "tasks", "logging", "oidc", "mail"}
        assert ready["firestore"] == cloud.firestore.address
        assert ready["oidc"] == cloud.oidc.certs_url
        with pytest.raises(CloudError, match="already started"):
            cloud.start()
    finally:
        cloud.stop()


def test_given_port_is_used_and_the_cloud_starts_again(monkeypatch):
    """Given ports are used; a stopped cloud starts again, on the same port and with its documents."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    cloud = LocalCloud(smtp=False)
    for number in range(2):
        cloud.start(ports={"logging": port})
        assert cloud.environment()["CLOUD_LOGGING_EMULATOR_HOST"] == f"127.0.0.1:{port}"
        assert "ONCETASK_SMTP_URL" not in cloud.environment()
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", cloud.firestore.address)
        client = firestore.Client(project=cloud.project)
        assert client.document("orders/1").get().exists is bool(number)
        client.document("orders/1").set({"amount": 3})
        client.close()
        cloud.stop()
    with pytest.raises(CloudError, match="only while it is started"):
        cloud.environment()


@pytest.mark.parametrize("name", ["firestore", "tasks", "logging", "oidc", "mail"])
def test_port_taken_names_the_service_and_leaves_nothing(name):
    """A port in use fails the start by the service's name; every other service is stopped again."""
    cloud = LocalCloud()
    ready = {}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CloudError, match=f"{name} could not start on port {port}"):
            cloud.start(ports={name: port}, on_ready=ready.__setitem__)
    assert name not in ready
    assert len(ready) == 4
    for address in ready.values():
        host, _, rest = address.removeprefix("smtp://").removeprefix("http://").partition(":")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(rest.partition("/")[0])))


def test_queue_that_can_not_be_leaves_nothing():
    """A queue with an impossible name fails the start in a sentence, and every service is stopped again."""
    ready = {}
    cloud = LocalCloud(smtp=False)
    cloud.queues = ("a", "a b")
    with pytest.raises(CloudError, match=r"the queue 'a b' could not be made: Queue name must be formatted"):
        cloud.start(on_ready=ready.__setitem__)
    host, _, port = ready["tasks"].partition(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"project": "a b"}, "'a b' is no project: a project id has"),
        ({"project": ""}, "'' is no project"),
        ({"project": None}, "None is no project"),
        ({"project": "-a"}, "is no project"),
        ({"project": "a/b"}, "is no project"),
        ({"project": "b\u00e4r"}, "is no project"),
        ({"project": "a\n"}, r"'a\n' is no project"),
        ({"project": "a" * 101}, "is no project"),
        ({"location": "a b"}, "'a b' is no location: a location has"),
        ({"location": ""}, "'' is no location"),
        ({"location": "us_central1"}, "is no location"),
        ({"location": "a" * 64}, "is no location"),
        ({"queues": ["a_b"]}, "'a_b' is no queue: a queue has"),
        ({"queues": [""]}, "'' is no queue"),
        ({"queues": [7]}, "7 is no queue"),
        ({"queues": ["q" * 101]}, "is no queue"),
        ({"queues": ["projects/p/queues/q"]}, "is no queue"),
        ({"queues": "default"}, "queues is the text 'default'; it must be a list"),
        ({"firestore": "datastore"}, "it must be one of embedded, google"),
    ],
)
def test_names_that_can_not_be_are_refused_at_once(arguments, says):
    """A name that Google would not take is a ValueError with a sentence, before anything starts."""
    with pytest.raises(ValueError, match=re.escape(says)):
        LocalCloud(**arguments)


def test_names_that_can_be_are_taken():
    """Projects of a domain, longest names and full names of queues are fine."""
    for arguments in (
        {"project": "example.com:my-project"},
        {"project": "p", "location": "l" * 63, "queues": ("q" * 100, "projects/o/locations/x/queues/A-1")},
    ):
        LocalCloud(**arguments)
    with pytest.raises(ValueError, match="is no project"):
        InProcessCloud("a b")
    with pytest.raises(ValueError, match="is no location"):
        InProcessCloud("p", "a b")


@pytest.mark.parametrize(
    ("ports", "says"),
    [
        ({"tasks": 70_000}, "70000 can't be the port of tasks; a port is a number from 1 to 65535"),
        ({"tasks": -1}, "-1 can't be the port"),
        ({"tasks": "8080"}, "'8080' can't be the port"),
        ({"tasks": True}, "True can't be the port"),
        ({"tasks": 4711, "logging": 4711}, "4711 can't be the port of both tasks and logging"),
    ],
)
def test_ports_that_can_not_be_are_refused(ports, says):
    """A number that is no port, or that two services share, is refused before anything starts."""
    with pytest.raises(CloudError, match=says):
        LocalCloud().start(ports=ports)


def test_internal_error_is_printed_and_answered(capfd):
    """A bug of a service is answered INTERNAL with a sentence; its traceback is in the emulator's terminal."""
    with LocalCloud(smtp=False) as cloud:
        logging = cloud.logging
        bug = Method(lambda _: logging.no_such_attribute, ListLogsRequest, ListLogsResponse)
        logging.service.methods["ListLogs"] = bug
        with grpc.insecure_channel(logging.address) as channel:
            client = LoggingServiceV2Client(transport=LoggingServiceV2GrpcTransport(channel=channel))
            with pytest.raises(
                exceptions.InternalServerError, match=r"An internal error of this local server, in .*ListLogs"
            ):
                client.list_logs(parent="projects/p", retry=None)
            with pytest.raises(exceptions.MethodNotImplemented, match=r"no service google\.longrunning\.Operations"):
                client.list_operations(request={"name": "projects/p"})
            assert not list(client.list_log_entries(resource_names=["projects/p"]))
    told = capfd.readouterr().err
    assert "Traceback (most recent call last)" in told
    assert "AttributeError: 'LoggingServer' object has no attribute 'no_such_attribute'" in told


def test_unknown_service_name_is_refused():
    """A port for a service that does not exist is refused before anything starts."""
    with pytest.raises(CloudError, match="no service is called pubsub"):
        LocalCloud().start(ports={"pubsub": 1})


@pytest.mark.google
@pytest.mark.skipif(find() is None, reason="Google's Firestore emulator or Java is not installed")
def test_googles_firestore_in_place_of_the_embedded(monkeypatch):
    """With firestore="google", the same client talks to Google's own emulator."""
    with LocalCloud(firestore="google") as cloud:
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", cloud.environment()["FIRESTORE_EMULATOR_HOST"])
        client = firestore.Client(project=cloud.project)
        client.document("orders/1").set({"amount": 3})
        assert client.document("orders/1").get().to_dict() == {"amount": 3}
    assert os.environ["FIRESTORE_EMULATOR_HOST"]
    assert cloud.firestore.address == ""
