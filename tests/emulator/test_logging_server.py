from __future__ import annotations

import logging
from datetime import UTC, datetime

import grpc
import pytest
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import logging as cloud_logging
from google.cloud.audit.audit_log_pb2 import AuditLog
from google.cloud.logging_v2._gapic import _LoggingAPI
from google.cloud.logging_v2.handlers import CloudLoggingHandler
from google.cloud.logging_v2.services.config_service_v2 import ConfigServiceV2Client
from google.cloud.logging_v2.services.config_service_v2.transports import ConfigServiceV2GrpcTransport
from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2Client
from google.cloud.logging_v2.services.logging_service_v2.transports import LoggingServiceV2GrpcTransport
from google.cloud.logging_v2.services.metrics_service_v2 import MetricsServiceV2Client
from google.cloud.logging_v2.services.metrics_service_v2.transports import MetricsServiceV2GrpcTransport
from google.cloud.logging_v2.types import LogEntry as LogEntryMessage
from google.protobuf import any_pb2

from gcp_emulator.clock import VirtualClock, datetime_of
from gcp_emulator.faults import Faults
from gcp_emulator.logging import LoggingServer
from gcp_emulator.logging.messages import LogEntry, WriteLogEntriesPartialErrors
from gcp_emulator.rpc import RpcError

PROJECT = "projects/p"
LOG = "projects/p/logs/orders"
GLOBAL = {"type": "global"}


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def server(clock):
    server = LoggingServer(clock, Faults(seed=3))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def client(server):
    with grpc.insecure_channel(server.address) as channel:
        yield LoggingServiceV2Client(transport=LoggingServiceV2GrpcTransport(channel=channel))


@pytest.fixture
def config_client(server):
    with grpc.insecure_channel(server.address) as channel:
        yield ConfigServiceV2Client(transport=ConfigServiceV2GrpcTransport(channel=channel))


@pytest.fixture
def metrics_client(server):
    with grpc.insecure_channel(server.address) as channel:
        yield MetricsServiceV2Client(transport=MetricsServiceV2GrpcTransport(channel=channel))


@pytest.fixture
def high(client):
    """The high-level client, on the same channel."""
    high = cloud_logging.Client(project="p", credentials=AnonymousCredentials())
    high._logging_api = _LoggingAPI(client, high)
    return high


def write(client, *texts, **request):
    request.setdefault("log_name", LOG)
    request.setdefault("resource", GLOBAL)
    client.write_log_entries(request={"entries": [{"text_payload": text} for text in texts], **request})


def texts(client, wanted="", **request):
    request.setdefault("resource_names", [PROJECT])
    found = client.list_log_entries(request={"filter": wanted, **request})
    return [entry.text_payload for entry in found]


def test_write_merges_defaults_of_the_request(client, clock):
    """Log name, resource and labels of the request go to entries without their own; labels are merged by key."""
    client.write_log_entries(
        request={
            "log_name": LOG,
            "resource": {"type": "global", "labels": {"project_id": "p"}},
            "labels": {"a": "request", "b": "request"},
            "entries": [
                {"text_payload": "plain"},
                {
                    "text_payload": "own",
                    "log_name": "projects/p/logs/own",
                    "resource": {"type": "gce_instance"},
                    "labels": {"b": "own"},
                },
            ],
        }
    )
    plain, own = client.list_log_entries(resource_names=[PROJECT])
    assert (plain.log_name, plain.resource.type, dict(plain.labels)) == (
        LOG,
        "global",
        {"a": "request", "b": "request"},
    )
    assert plain.timestamp == plain.receive_timestamp == datetime_of(clock.micros())
    assert plain.insert_id
    assert (own.log_name, own.resource.type, dict(own.labels)) == (
        "projects/p/logs/own",
        "gce_instance",
        {"a": "request", "b": "own"},
    )


def test_write_keeps_order_within_a_microsecond(client):
    """Entries written at one instant without an insert id are listed in the order of their writing."""
    wanted = [str(number) for number in range(40)]
    write(client, *wanted)
    assert texts(client) == wanted
    assert texts(client, order_by="timestamp desc") == wanted[::-1]


def test_write_twice_with_timestamp_and_insert_id_is_one_entry(client, clock):
    """The same log name, timestamp and insert id are one entry; any other of the three makes two."""
    entry = {"text_payload": "x", "insert_id": "fixed", "timestamp": datetime_of(clock.micros())}
    for _ in range(2):
        client.write_log_entries(log_name=LOG, resource=GLOBAL, entries=[entry])
    assert len(texts(client)) == 1
    client.write_log_entries(log_name=LOG + "2", resource=GLOBAL, entries=[entry])
    client.write_log_entries(log_name=LOG, resource=GLOBAL, entries=[entry | {"insert_id": "other"}])
    clock.advance(1)
    client.write_log_entries(
        log_name=LOG, resource=GLOBAL, entries=[entry | {"timestamp": datetime_of(clock.micros())}]
    )
    assert len(texts(client)) == 4


def test_write_refuses_all_or_with_partial_success_some(client):
    """One bad entry refuses the request; with partial_success the good ones are written and the error says which."""
    entries = [{"text_payload": "good"}, {"text_payload": "bad", "log_name": "nowhere"}]
    with pytest.raises(exceptions.InvalidArgument, match="Entry 1: Log name 'nowhere'"):
        client.write_log_entries(log_name=LOG, resource=GLOBAL, entries=entries)
    assert texts(client) == []
    request = {"log_name": LOG, "resource": GLOBAL, "entries": entries, "partial_success": True}
    with pytest.raises(exceptions.InvalidArgument, match="1 were written") as refusal:
        client.write_log_entries(request=request)
    assert texts(client) == ["good"]
    partial = WriteLogEntriesPartialErrors.FromString(refusal.value.details[0].value)
    assert list(partial.log_entry_errors) == [1]


def test_write_dry_run_checks_and_stores_nothing(client):
    """A dry run refuses what a real one would, and writes nothing."""
    write(client, "x", dry_run=True)
    assert texts(client) == []
    with pytest.raises(exceptions.InvalidArgument):
        write(client, "x", dry_run=True, log_name="nowhere")


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"log_name": "projects/p/logs/a b"}, "URL-encoded"),
        ({"resource": {}}, "monitored resource"),
        ({"labels": {str(number): "" for number in range(65)}}, "at most 64 labels"),
        ({"text_payload": "x" * 262_144}, "exceeds maximum size of 262144 bytes"),
        ({"insert_id": "x" * 513}, "512"),
    ],
)
def test_write_refuses_bad_entries(client, entry, says):
    """Names, resources and sizes are checked as the service does."""
    with pytest.raises(exceptions.InvalidArgument, match=says):
        client.write_log_entries(entries=[{"log_name": LOG, "resource": GLOBAL, "text_payload": "x"} | entry])


def test_write_drops_what_is_past_retention_or_far_ahead(client, clock):
    """Entries older than 30 days or more than 24 hours ahead are accepted and never listed."""
    for seconds in (-31 * 86_400, 25 * 3600, -29 * 86_400, 23 * 3600):
        entry = {"text_payload": str(seconds), "timestamp": datetime_of(clock.micros() + seconds * 1_000_000)}
        client.write_log_entries(log_name=LOG, resource=GLOBAL, entries=[entry])
    assert texts(client) == [str(-29 * 86_400), str(23 * 3600)]


def test_list_pages_both_ways(server, client):
    """Pages of 25 show each of 60 entries once, in either order, whatever is written meanwhile."""
    wanted = [str(number) for number in range(60)]
    write(client, *wanted)
    for order, expected in (("timestamp asc", wanted), ("timestamp desc", wanted[::-1])):
        pages = client.list_log_entries(
            request={"resource_names": [PROJECT], "page_size": 25, "order_by": order, "filter": 'textPayload:""'}
        ).pages
        seen = []
        for page in pages:
            assert len(page.entries) <= 25
            seen += [entry.text_payload for entry in page.entries]
            write(client, "written meanwhile", log_name="projects/other/logs/x")
        assert seen == expected
    assert server.counts["ListLogEntries"] == 6


def test_list_page_size_defaults_to_50(client):
    """A page without a size holds 50 entries and names the next page; a full last page names none."""
    write(client, *map(str, range(100)))
    first = next(client.list_log_entries(resource_names=[PROJECT]).pages)
    assert len(first.entries) == 50
    request = {"resource_names": [PROJECT], "page_token": first.next_page_token}
    second = next(client.list_log_entries(request=request).pages)
    assert len(second.entries) == 50
    assert not second.next_page_token


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"page_size": 1001}, "page_size is 1001"),
        ({"page_size": -1}, "page_size"),
        ({"resource_names": []}, "resource_names is empty"),
        ({"resource_names": ["p"]}, "not of the form projects/PROJECT"),
        ({"order_by": "severity"}, "Invalid order_by"),
        ({"filter": "severity=ERROR )"}, "line 1, column 16"),
        ({"page_token": "eA=="}, "page_token is not one"),
    ],
)
def test_list_refuses_bad_requests(client, request_, says):
    """Each bad request is INVALID_ARGUMENT with a sentence."""
    with pytest.raises(exceptions.InvalidArgument, match=says):
        client.list_log_entries(request={"resource_names": [PROJECT]} | request_)


def test_list_refuses_a_page_token_of_another_request(client):
    """A page token belongs to its filter, order and resources."""
    write(client, "a", "b")
    first = next(client.list_log_entries(request={"resource_names": [PROJECT], "page_size": 1}).pages)
    with pytest.raises(exceptions.InvalidArgument, match="does not match the request"):
        texts(client, "severity=ERROR", page_token=first.next_page_token)


def test_list_shows_only_the_projects_asked_for(client):
    """Projects are kept apart; several can be asked for at once and are merged by time."""
    for number in range(4):
        write(client, str(number), log_name=f"projects/{'pq'[number % 2]}/logs/x")
    assert texts(client) == ["0", "2"]
    assert texts(client, resource_names=["projects/q", "projects/p"]) == ["0", "1", "2", "3"]
    assert texts(client, resource_names=["projects/none"]) == []


def test_delay_hides_entries_until_the_clock_says_so(server, client, clock):
    """With a delay an entry is stored at once and becomes listable that much later."""
    server.delay = 30
    write(client, "slow")
    assert len(server.entries) == 1
    clock.advance(29.9)
    assert texts(client) == []
    clock.advance(0.1)
    assert texts(client) == ["slow"]


def test_late_entries_are_drawn_from_the_seed(server, client, clock):
    """A share of the entries is late; the same seed makes the same ones late."""
    server.late(0.3, 60)
    other = LoggingServer(clock, Faults(seed=3))
    other.late(0.3, 60)
    numbers = [str(number) for number in range(100)]
    write(client, *numbers)
    for number in numbers:
        entry = LogEntry(log_name=LOG, text_payload=number)
        entry.resource.type = "global"
        other.write(entry)
    early = [entry.text_payload for entry in server.matching()]
    assert 55 <= len(early) <= 85
    assert early == [entry.text_payload for entry in other.matching()]
    clock.advance(60)
    assert texts(client) == numbers


def test_quota_refuses_the_61st_read_of_a_minute(server, client, clock):
    """With the limit on, reads beyond it are RESOURCE_EXHAUSTED for a minute; the client does not retry."""
    server.limit_per_minute = 60
    for _ in range(60):
        texts(client)
    with pytest.raises(exceptions.ResourceExhausted, match="quota metric 'Read requests'") as refusal:
        texts(client)
    assert refusal.value.reason == "RATE_LIMIT_EXCEEDED"
    assert server.counts["ListLogEntries"] == 61
    texts(client, resource_names=["projects/other"])
    clock.advance(60)
    texts(client)


def test_faults_lose_the_answer_of_a_write(server, client):
    """A write whose answer is lost is applied; the client's retry with fixed ids adds nothing."""
    server.service.faults.fail("WriteLogEntries", when="after")
    stamp = datetime_of(VirtualClock().micros())
    entry = {"text_payload": "x", "insert_id": "fixed", "timestamp": stamp}
    client.write_log_entries(log_name=LOG, resource=GLOBAL, entries=[entry])
    assert server.counts["WriteLogEntries"] == 2
    assert texts(client) == ["x"]


def test_logs_are_listed_and_deleted(client):
    """ListLogs names logs with entries; DeleteLog forgets one; a log without entries is NOT_FOUND."""
    write(client, "a")
    write(client, "b", log_name="projects/p/logs/other")
    assert list(client.list_logs(parent=PROJECT)) == [LOG, "projects/p/logs/other"]
    client.delete_log(log_name=LOG)
    assert list(client.list_logs(parent=PROJECT)) == ["projects/p/logs/other"]
    with pytest.raises(exceptions.NotFound):
        client.delete_log(log_name=LOG)


def test_logs_are_listed_in_pages(client):
    """ListLogs gives pages; a page token of another make is refused."""
    for number in range(5):
        write(client, "x", log_name=f"projects/p/logs/l{number}")
    pages = list(client.list_logs(request={"parent": PROJECT, "page_size": 2}).pages)
    assert [list(page.log_names) for page in pages] == [
        [f"projects/p/logs/l{number}" for number in numbers] for numbers in ((0, 1), (2, 3), (4,))
    ]
    with pytest.raises(exceptions.InvalidArgument, match="page_token is not one"):
        list(client.list_logs(request={"parent": PROJECT, "page_token": "!"}))


def test_logs_of_several_resources_are_listed(client):
    """The resources of a request are listed beside its parent."""
    for project in "pqr":
        write(client, "x", log_name=f"projects/{project}/logs/a")
    request = {"parent": PROJECT, "resource_names": ["projects/q"]}
    assert list(client.list_logs(request=request)) == ["projects/p/logs/a", "projects/q/logs/a"]


def test_monitored_resources_are_listed(client):
    """The kinds of resources are listed with their labels, in pages."""
    found = list(client.list_monitored_resource_descriptors(request={"page_size": 3}))
    by_type = {one.type: [label.key for label in one.labels] for one in found}
    assert by_type["cloud_run_revision"][:2] == ["project_id", "service_name"]
    assert by_type["global"] == ["project_id"]
    assert [one.type for one in found] == [
        one.type for one in client.list_monitored_resource_descriptors(request={"page_size": 1000})
    ]
    with pytest.raises(exceptions.InvalidArgument, match="page_token is not one"):
        list(client.list_monitored_resource_descriptors(request={"page_token": "eA=="}))


def test_buckets_and_views_can_not_be_listed(client):
    """A bucket or view in place of a project is refused with the way to go."""
    with pytest.raises(exceptions.MethodNotImplemented, match="name the project alone"):
        texts(client, resource_names=["projects/p/locations/global/buckets/b/views/v"])


def _bucket(name):
    return f"projects/p/locations/global/buckets/{name}"


CONFIG_CALLS = {
    "list_buckets": {"parent": "projects/p/locations/global"},
    "get_bucket": {"request": {"name": _bucket("b")}},
    "create_bucket": {"request": {"parent": "projects/p/locations/global", "bucket_id": "b"}},
    "create_bucket_async": {"request": {"parent": "projects/p/locations/global", "bucket_id": "b"}},
    "update_bucket": {"request": {"name": _bucket("b")}},
    "update_bucket_async": {"request": {"name": _bucket("b")}},
    "delete_bucket": {"request": {"name": _bucket("b")}},
    "undelete_bucket": {"request": {"name": _bucket("b")}},
    "list_views": {"parent": _bucket("b")},
    "get_view": {"request": {"name": _bucket("b/views/v")}},
    "create_view": {"request": {"parent": _bucket("b"), "view_id": "v"}},
    "update_view": {"request": {"name": _bucket("b/views/v")}},
    "delete_view": {"request": {"name": _bucket("b/views/v")}},
    "list_sinks": {"parent": PROJECT},
    "get_sink": {"sink_name": "projects/p/sinks/s"},
    "create_sink": {
        "parent": PROJECT,
        "sink": {"name": "s", "destination": "pubsub.googleapis.com/projects/p/topics/t"},
    },
    "update_sink": {"sink_name": "projects/p/sinks/s", "sink": {"name": "s"}},
    "delete_sink": {"sink_name": "projects/p/sinks/s"},
    "list_links": {"parent": _bucket("b")},
    "get_link": {"name": _bucket("b/links/l")},
    "create_link": {"parent": _bucket("b"), "link_id": "l"},
    "delete_link": {"name": _bucket("b/links/l")},
    "list_exclusions": {"parent": PROJECT},
    "get_exclusion": {"name": "projects/p/exclusions/e"},
    "create_exclusion": {"parent": PROJECT, "exclusion": {"name": "e", "filter": "severity<ERROR"}},
    "update_exclusion": {"name": "projects/p/exclusions/e", "exclusion": {"name": "e"}},
    "delete_exclusion": {"name": "projects/p/exclusions/e"},
    "get_cmek_settings": {"request": {"name": PROJECT}},
    "update_cmek_settings": {"request": {"name": PROJECT}},
    "get_settings": {"name": PROJECT},
    "update_settings": {"request": {"name": PROJECT}},
    "copy_log_entries": {"request": {"name": _bucket("b"), "destination": "storage.googleapis.com/x"}},
}
METRIC_CALLS = {
    "list_log_metrics": {"parent": PROJECT},
    "get_log_metric": {"metric_name": "projects/p/metrics/m"},
    "create_log_metric": {"parent": PROJECT, "metric": {"name": "m", "filter": "severity=ERROR"}},
    "update_log_metric": {"metric_name": "projects/p/metrics/m", "metric": {"name": "m"}},
    "delete_log_metric": {"metric_name": "projects/p/metrics/m"},
}


@pytest.mark.parametrize("name", CONFIG_CALLS)
def test_configuration_is_refused_with_a_sentence(config_client, name):
    """Buckets, views, sinks, links, exclusions and settings: the refusal says what is there instead."""
    with pytest.raises(
        exceptions.MethodNotImplemented, match=r"is not implemented\. This local server (has no|copies no) "
    ):
        getattr(config_client, name)(**CONFIG_CALLS[name])


@pytest.mark.parametrize("name", METRIC_CALLS)
def test_metrics_are_refused_with_a_sentence(metrics_client, name):
    """Log-based metrics: the refusal says what is there instead."""
    with pytest.raises(exceptions.MethodNotImplemented, match="no log-based metrics: count what ListLogEntries finds"):
        getattr(metrics_client, name)(**METRIC_CALLS[name])


def test_each_method_of_configuration_is_refused_by_its_name(server):
    """The refused methods are those of the clients."""
    names = {service.name.rpartition(".")[2]: set(service.methods) for service in server.services}
    for client, calls in ((ConfigServiceV2Client, CONFIG_CALLS), (MetricsServiceV2Client, METRIC_CALLS)):
        found = {name.replace("_", "").lower() for name in names[client.__name__.removesuffix("Client")]}
        assert found == {name.replace("_", "") for name in calls}


def test_project_of_another_service_is_refused(client):
    """What the server has not at all says so."""
    with pytest.raises(exceptions.MethodNotImplemented, match=r"no service google\.longrunning\.Operations; it serves"):
        client.list_operations(request={"name": PROJECT})


FIELDS = {
    "log_name": (LOG, f'logName="{LOG}"'),
    "resource": (
        {"type": "cloud_run_revision", "labels": {"service_name": "orders"}},
        'resource.type="cloud_run_revision" resource.labels.service_name="orders"',
    ),
    "timestamp": (datetime(2026, 1, 1, 1, tzinfo=UTC), 'timestamp="2026-01-01T01:00:00Z"'),
    "severity": ("ERROR", "severity>=WARNING"),
    "insert_id": ("i-17", 'insertId="i-17"'),
    "http_request": (
        {
            "request_method": "POST",
            "request_url": "https://orders.test/a?b=1",
            "request_size": 10,
            "status": 503,
            "response_size": 20,
            "user_agent": "tests",
            "remote_ip": "10.1.2.3",
            "server_ip": "10.1.2.4",
            "referer": "https://other.test/",
            "latency": {"nanos": 250_000_000},
            "cache_lookup": True,
            "cache_hit": True,
            "cache_validated_with_origin_server": True,
            "cache_fill_bytes": 30,
            "protocol": "HTTP/1.1",
        },
        (
            "httpRequest.requestMethod=POST httpRequest.requestUrl:orders.test httpRequest.requestSize=10 "
            "httpRequest.status>=500 "
            'httpRequest.responseSize=20 httpRequest.userAgent=tests ip_in_net(httpRequest.remoteIp, "10.0.0.0/8") '
            'httpRequest.serverIp="10.1.2.4" httpRequest.referer:other httpRequest.latency>=0.25s httpRequest.cacheLookup=true '
            "httpRequest.cacheHit=true httpRequest.cacheValidatedWithOriginServer=true httpRequest.cacheFillBytes=30 "
            'httpRequest.protocol="HTTP/1.1"'
        ),
    ),
    "labels": ({"team": "blue"}, "labels.team=blue"),
    "operation": (
        {"id": "op-1", "producer": "tests", "first": True, "last": True},
        "operation.id=op-1 operation.producer=tests operation.first=true operation.last=true",
    ),
    "trace": ("projects/p/traces/abc", 'trace="projects/p/traces/abc"'),
    "span_id": ("00f1", 'spanId="00f1"'),
    "trace_sampled": (True, "traceSampled=true"),
    "source_location": (
        {"file": "a.py", "line": 7, "function": "main"},
        "sourceLocation.file=a.py sourceLocation.line=7 sourceLocation.function=main",
    ),
    "split": ({"uid": "u", "index": 1, "total_splits": 3}, "split.uid=u split.index=1 split.totalSplits=3"),
}


def test_every_field_of_an_entry_is_kept_and_found(client):
    """An entry comes back as it was written, and a filter on each of its fields finds it."""
    given = LogEntryMessage({"text_payload": "all", **{name: value for name, (value, _) in FIELDS.items()}})
    client.write_log_entries(entries=[given])
    for name, (_, wanted) in FIELDS.items():
        assert texts(client, wanted) == ["all"], name
        assert texts(client, f"NOT ({wanted})") == [], name
    (found,) = client.list_log_entries(resource_names=[PROJECT])
    assert found.receive_timestamp
    found.receive_timestamp = None
    assert found == given


def test_every_payload_is_kept_and_found(client):
    """Text, JSON and a protobuf message come back as they were written, and filters find them."""
    said = AuditLog(service_name="tasks", method_name="create")
    packed = any_pb2.Any()
    packed.Pack(said)
    payloads = {
        "text_payload": ("hello", "textPayload:hell"),
        "json_payload": ({"message": "hi", "n": 3, "list": [1, {"a": None}]}, "jsonPayload.n=3"),
        "proto_payload": (packed, 'protoPayload.methodName="create"'),
    }
    for name, (value, wanted) in payloads.items():
        given = LogEntryMessage({"log_name": LOG, "resource": GLOBAL, name: value})
        client.write_log_entries(entries=[given])
        (found,) = client.list_log_entries(request={"resource_names": [PROJECT], "filter": wanted})
        assert getattr(found, name) == getattr(given, name)


def test_receive_timestamp_is_the_server_s(client, clock):
    """The time at which an entry came is the server's, also if the caller names another one."""
    entry = {"text_payload": "x", "receive_timestamp": datetime(2020, 1, 1, tzinfo=UTC)}
    client.write_log_entries(log_name=LOG, resource=GLOBAL, entries=[entry])
    (found,) = client.list_log_entries(request={"resource_names": [PROJECT], "filter": 'receiveTimestamp>"2021-01-01"'})
    assert found.receive_timestamp == datetime_of(clock.micros())


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("severity=ERROR", ["late order 17"]),
        ("late", ["late order 17"]),
        ('"order 1"', ["late order 17", "order 18"]),
        ('SEARCH("ORDER late")', ["late order 17"]),
        ('SEARCH(textPayload, "order")', ["late order 17", "order 18"]),
        ('log_id("orders") AND NOT late', ["order 18"]),
        ("sample(insertId, 0)", []),
        (r'textPayload=~"order \d8$"', ["order 18"]),
        ('ip_in_net(textPayload, "0.0.0.0/0")', []),
        ("severity=INFO OR severity=ERROR AND late", ["late order 17"]),
    ],
)
def test_filter_language_works_through_the_client(client, wanted, expected):
    """Comparisons, searches and functions of the language find the same through the service."""
    for text, severity in (("late order 17", "ERROR"), ("order 18", "INFO")):
        client.write_log_entries(log_name=LOG, resource=GLOBAL, entries=[{"text_payload": text, "severity": severity}])
    assert texts(client, wanted) == expected


@pytest.mark.parametrize("wanted", ["cast(severity, STRING)=x", 'regexp_extract(trace, "a")=b', "source(folders/1)"])
def test_functions_that_are_lacking_are_refused_through_the_client(client, wanted):
    """What the language has and this server has not is refused by name."""
    with pytest.raises(exceptions.InvalidArgument, match="is not implemented by this local server; "):
        texts(client, wanted)


def test_any_kind_of_resource_is_taken(client):
    """Neither the type nor the labels of a resource are checked."""
    write(client, "x", resource={"type": "of_nobody", "labels": {"any": "label"}})
    assert texts(client, "resource.type=of_nobody resource.labels.any=label") == ["x"]


def test_deletion_of_a_log_takes_effect_at_once(client):
    """A deleted log is gone with the answer; the service may take a while. A new entry makes it anew."""
    write(client, "old")
    client.delete_log(log_name=LOG)
    assert texts(client) == []
    assert list(client.list_logs(parent=PROJECT)) == []
    write(client, "new")
    assert texts(client) == ["new"]


def test_write_refuses_directly_too():
    """The direct call checks like the RPC."""
    with pytest.raises(RpcError, match="Log name"):
        LoggingServer().write(LogEntry())


def test_high_level_client_writes_and_lists(high, clock):
    """The high-level client's log_struct and list_entries work; its silent 24 h bound is honoured."""
    clock.advance((datetime.now(UTC) - datetime_of(clock.micros())).total_seconds())
    logger = high.logger("orders")
    logger.log_struct({"message": "started", "token": "17"}, severity="INFO", labels={"holder": "h1"})
    logger.log_text("plain", severity="ERROR")
    found = list(high.list_entries(filter_='labels.holder="h1" AND jsonPayload.token="17"'))
    assert [entry.payload["message"] for entry in found] == ["started"]
    newest = next(iter(high.list_entries(order_by="timestamp desc", page_size=1)))
    assert newest.payload == "plain"
    clock.advance(86_401)
    assert [entry.payload for entry in high.list_entries(filter_='timestamp>"2026-01-01" severity=ERROR')] == ["plain"]


def test_logging_handler_with_background_transport(high, server, clock):
    """Python's logging through CloudLoggingHandler arrives with its severity."""
    handler = CloudLoggingHandler(high, name="app")
    clock.advance((datetime.now(UTC) - datetime_of(clock.micros())).total_seconds())
    handler.handle(logging.LogRecord("app", logging.WARNING, __file__, 1, "%s is late", ("order 42",), None))
    handler.transport.flush()
    (entry,) = server.wait_for('textPayload="order 42 is late"')
    assert entry.log_name == "projects/p/logs/app"
    assert server.matching("severity=WARNING") == [entry]
    handler.transport.worker.stop()


def test_wait_for_gives_up_with_the_filter(server):
    """Waiting for an entry that never comes ends in TimeoutError naming the filter."""
    with pytest.raises(TimeoutError, match=r"0 of 1 .* severity=ERROR"):
        server.wait_for("severity=ERROR", timeout=0.01)
