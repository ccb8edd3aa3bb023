from __future__ import annotations

import time

import pytest
from google.cloud.audit.audit_log_pb2 import AuditLog
from google.protobuf import struct_pb2

from gcp_emulator.logging.lexer import FilterError
from gcp_emulator.logging.matching import compiled, instant
from gcp_emulator.logging.messages import LogEntry, set_nanos


def entry_of(**fields):
    entry = LogEntry(log_name="projects/p/logs/run.googleapis.com%2Frequests", **fields)
    entry.resource.type = "cloud_run_revision"
    entry.resource.labels["service_name"] = "orders"
    entry.labels["instanceId"] = "00bf"
    entry.labels["my.team/x"] = "blue"
    set_nanos(entry.timestamp, instant("2026-03-01T10:00:00.000001Z"))
    return entry


def request_entry():
    entry = entry_of(severity=500, trace="projects/p/traces/abc", span_id="0000000000000001", insert_id="i1")
    entry.http_request.request_url = "https://orders.test/tasks/order?otk=k-17&dispatch=2"
    entry.http_request.status = 503
    entry.http_request.request_method = "POST"
    set_nanos(entry.http_request.latency, 1_500_000_000)
    entry.http_request.cache_hit = True
    return entry


def json_entry():
    entry = entry_of(severity=200)
    entry.json_payload.update(
        {
            "message": "Started",
            "oncetask": {"token": "17", "attempt": 2, "done": False, "gone": None, "tags": ["red", "green"]},
            "rows": [{"n": 1}, {"n": 7}],
            "odd key": "here",
        }
    )
    return entry


MATCHING_REQUEST = [
    "",
    "  \n ",
    "severity=ERROR",
    "severity>=warning",
    "severity>400 severity<600",
    "severity=500",
    'logName="projects/p/logs/run.googleapis.com%2Frequests"',
    'logName="PROJECTS/P/logs/run.googleapis.com%2Frequests"',
    "resource.type=cloud_run_revision",
    'resource.type = "cloud_run_revision" AND resource.labels.service_name="orders"',
    'labels.instanceId="00bf"',
    'labels."my.team/x"=blue',
    'httpRequest.requestUrl:"OTK=K-17"',
    'httpRequest.requestUrl:("otk=k-16" OR "otk=k-17")',
    'httpRequest.requestUrl:("otk=k-17" AND "dispatch=2")',
    "httpRequest.status=503",
    "httpRequest.status>=500 httpRequest.status<600",
    "httpRequest.status=(500 OR 503)",
    "httpRequest.status=(NOT 200)",
    "httpRequest.status>-1",
    'httpRequest.requestMethod="POST"',
    'httpRequest.latency>"1s" httpRequest.latency<=1500ms',
    "httpRequest.cacheHit=true",
    "httpRequest:*",
    "trace:*",
    'trace="projects/p/traces/abc"',
    "spanId=0000000000000001",
    "insertId!=i2",
    'timestamp>="2026-03-01T10:00:00Z" timestamp<"2026-03-01T11:00:00+00:00"',
    'timestamp="2026-03-01T11:00:00.000001+01:00"',
    'timestamp>"2026-03-01"',
    r'httpRequest.requestUrl=~"otk=k-\d+&"',
    r'httpRequest.requestUrl=~"(?i)ORDERS\.TEST"',
    # Words of the service's engine that Python's has not.
    r'httpRequest.requestUrl=~"\Qorders.test\E\PN[[:alpha:]]"',
    'httpRequest.requestUrl!~"^http:"',
    "NOT severity=INFO",
    "-severity=INFO",
    "NOT NOT severity=ERROR",
    "NOT (severity=INFO OR httpRequest.status=200)",
    'severity=INFO OR severity=ERROR -- either\nhttpRequest.status="503"',
    # OR binds tighter than AND: (INFO or ERROR) and (200 or 503).
    "severity=INFO OR severity=ERROR AND httpRequest.status=200 OR httpRequest.status=503",
    # Fields of the entry itself that are absent count as present with their default.
    "operation.producer!=x",
    "NOT textPayload:*",
]

DIFFERENT_FROM_REQUEST = [
    "severity=INFO",
    "severity>CRITICAL",
    'logName="projects/p/logs/other"',
    "labels.absent=x",
    "labels.absent!=x",
    "labels.absent:*",
    "jsonPayload.absent!=x",
    "textPayload!=x",
    "textPayload:x",
    "httpRequest.status!=503",
    'httpRequest.requestUrl:("otk=k-17" AND "dispatch=3")',
    'httpRequest.requestUrl=~"OTK="',
    'timestamp>"2026-03-01T10:00:00.000001Z"',
    'timestamp<"2026-03-01"',
    "httpRequest.latency>2s",
    "operation:*",
    "jsonPayload:*",
    # Would match if AND bound tighter than OR.
    "severity=ERROR OR severity=INFO AND httpRequest.status=200",
    "-severity=ERROR",
]


@pytest.mark.parametrize("text", MATCHING_REQUEST)
def test_filter_matches_request_entry(text):
    """Each of these filters matches a request log entry of Cloud Run."""
    assert compiled(text).matches(request_entry())


@pytest.mark.parametrize("text", DIFFERENT_FROM_REQUEST)
def test_filter_leaves_request_entry_out(text):
    """None of these filters matches that entry."""
    assert not compiled(text).matches(request_entry())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("jsonPayload.message=started", True),
        ("jsonPayload.message:TART", True),
        ('jsonPayload.message=~"^start"', False),
        ("jsonPayload.oncetask.token=17", True),
        ("jsonPayload.oncetask.token:*", True),
        ("jsonPayload.oncetask.absent:*", False),
        ("NOT jsonPayload.oncetask.absent:*", True),
        ("NOT jsonPayload.oncetask.absent=1", True),
        ("jsonPayload.oncetask.attempt>=2", True),
        ("jsonPayload.oncetask.attempt=2.0", True),
        ("jsonPayload.oncetask.attempt=two", False),
        ("jsonPayload.oncetask.attempt!=two", True),
        ("jsonPayload.oncetask.attempt=(1 OR 2)", True),
        ("jsonPayload.oncetask.done=false", True),
        ("jsonPayload.oncetask.done!=false", False),
        ("jsonPayload.oncetask.gone=NULL_VALUE", True),
        ("jsonPayload.oncetask.gone!=NULL_VALUE", False),
        ("jsonPayload.oncetask.tags=green", True),
        ("jsonPayload.oncetask.tags=blue", False),
        ("jsonPayload.rows.n=7", True),
        ("jsonPayload.rows.n=8", False),
        ('jsonPayload."odd key"=here', True),
        ("jsonPayload.message.deeper=x", False),
        ('jsonPayload.message="St\\x61rted"', True),
        ('jsonPayload.message="*"', False),
    ],
)
def test_filter_compares_json_payload(text, expected):
    """Values in a JSON payload are compared by their own type; a missing key never matches."""
    assert compiled(text).matches(json_entry()) is expected


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("severity=ERROR AND AND", "line 1, column 20", "unexpected 'AND'"),
        ("sample(insertId, 1.5)", "line 1, column 18", "sample takes one from 0 to 1"),
        ("sample(insertId, some)", "line 1, column 18", "'some' is no fraction"),
        ("sample(insertId)", "line 1, column 1", "sample has 1 arguments; write sample(FIELD, FRACTION)"),
        ('sample("insertId", 0.5)', "line 1, column 8", "takes a field first"),
        ("sample(insertld, 0.5)", "line 1, column 8", "Did you mean insertId?"),
        ("log_id(stdout)", "line 1, column 8", 'write log_id("LOG_ID")'),
        ('log_id("a", "b")', "line 1, column 1", "log_id has 2 arguments"),
        ('log_id("a"', "line 1, column 7", "never closed"),
        ('log_id("a" "b")', "line 1, column 12", "where a comma or ')' was expected"),
        ('ip_in_net(httpRequest.remoteIp, "10.0.0.300/8")', "line 1, column 33", "is no subnet"),
        ("ip_in_net(httpRequest.remoteIp, 10.0.0.0)", "line 1, column 33", "double quotation marks"),
        ('ip_in_net(httpRequest.remotelp, "10.0.0.0/8")', "line 1, column 11", "Did you mean remoteIp?"),
        ('SEARCH("!?")', "line 1, column 1", "no word"),
        ("SEARCH(textPayload, started)", "line 1, column 21", "double quotation marks"),
        ("trace:* source(folders/12)", "line 1, column 9", "folders and organizations do not exist here"),
        ("cast(httpRequest.status, STRING) = x", "line 1, column 1", "function cast is not implemented"),
        ('CAST(REGEXP_EXTRACT(trace, "a"), FLOAT64) > 5', "line 1, column 1", "function CAST is not implemented"),
        ('regexp_extract(trace, "a") = b', "line 1, column 1", "'=~'"),
        ("serach(trace)", "line 1, column 1", "no function serach"),
        ('labels."a"', "line 1, column 1", "severity>=ERROR was expected"),
        ("severity=ERROR, trace:*", "line 1, column 15", "found ',' where a field name"),
        ("severity=", "line 1, column 10", "the end of the filter where a value"),
        ("severity=(ERROR OR", "line 1, column 19", "the end of the filter"),
        ("(severity=ERROR", "line 1, column 1", "never closed"),
        ("severity=ERROR)", "line 1, column 15", "unexpected ')'"),
        ('insertId="abc', "line 1, column 10", "no closing quotation mark"),
        ("insertId=abc:def", "line 1, column 13", "double quotation marks"),
        ("insertId='abc'", "line 1, column 10", "unexpected character '''"),
        ("severity=LOUD", "line 1, column 10", "'LOUD' is no severity"),
        ("severity:(ERROR OR LOUD)", "line 1, column 20", "'LOUD' is no severity"),
        ("severity=~ERR", "line 1, column 1", "needs text"),
        ("sevirity=ERROR", "line 1, column 1", "Did you mean severity?"),
        ("httpRequest.stauts=200", "line 1, column 1", "Did you mean status?"),
        ("httpRequest=x", "line 1, column 1", "is a message"),
        ("jsonPayload:x", "line 1, column 1", "is a message"),
        ("insertId.x=1", "line 1, column 1", "has no parts"),
        ("protoPayload=x", "line 1, column 1", "is a message"),
        ('protoPayload.methodName=~"(?=a)"', "line 1, column 26", "invalid perl operator: (?="),
        ("httpRequest.status=ok", "line 1, column 20", "'ok' is no number"),
        ("timestamp>yesterday", "line 1, column 11", "RFC 3339"),
        ('timestamp>"2026-03-01T10:00:00"', "line 1, column 11", "RFC 3339"),
        ("httpRequest.latency>3", "line 1, column 21", "length of time"),
        ('insertId=~"a(b"', "line 1, column 11", "bad regular expression"),
        ('insertId=~"(?=a)"', "line 1, column 11", "bad regular expression: invalid perl operator: (?="),
        ('insertId=~"(?x)a"', "line 1, column 11", "invalid perl operator: (?x"),
        (r'insertId=~"(a)\1"', "line 1, column 11", r"invalid escape sequence: \1"),
        ('insertId=~"a{1001}"', "line 1, column 11", "invalid repetition size: {1001}"),
        (
            'insertId=~"(?:(?:a{0,100}){0,10})(?:(?:a{0,100}){0,10})(?:(?:a{0,100}){0,10})"',
            "line 1, column 11",
            "takes 5000",
        ),
        ('insertId=~"\ud800"', "line 1, column 11", "no Unicode text"),
        (r'insertId=~"a\\b"', "line 1, column 11", "doubled backslash"),
        (r'insertId="a\d"', "line 1, column 12", r"unknown escape '\d'"),
        ("insertId!=(a OR b)", "line 1, column 11", "with a list"),
        ("labels..x=1", "line 1, column 1", "empty part"),
        ('labels"x"=1', "line 1, column 7", "a dot is missing"),
        ("OR severity=ERROR", "line 1, column 1", "unexpected 'OR'"),
        ("severity=ERROR OR OR trace:*", "line 1, column 19", "unexpected 'OR'"),
        ("insertId=" + "(" * 200 + "a" + ")" * 200, "line 1, column 110", "levels of parentheses"),
    ],
)
def test_filter_refused_with_position(text, place, says):
    """What the server can't do rightly is refused, with line, column and what was found there."""
    with pytest.raises(FilterError) as refusal:
        compiled(text)
    assert place in str(refusal.value)
    assert says in str(refusal.value)


def text_entry():
    entry = entry_of(severity=400, text_payload="Worker-7 said: Hello World (twice), id=ABC_17")
    entry.http_request.remote_ip = "10.1.2.3"
    entry.http_request.server_ip = "2001:db8::17"
    entry.http_request.status = 404
    entry.insert_id = "i-17"
    return entry


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Global restrictions: any field has the word, without regard to case.
        ("hello", True),
        ('"hello world"', True),
        ("hello AND world", True),
        ("hello world", True),
        ("WORLD hello", True),
        ("ello", True),
        ("goodbye", False),
        ("NOT goodbye", True),
        ("-hello", False),
        ("hello OR goodbye", True),
        ('("goodbye" OR "twice") severity=WARNING', True),
        ('severity=ERROR OR "hello"', True),
        ("cloud_run_revision", True),  # a part of the resource
        ("blue", True),  # the value of a label
        ("my.team", False),  # the key of a label
        ("WARNING", True),
        ("404", True),
        ("40", False),  # a number is compared as one
        ("*", True),
        ('"*"', False),
        # Small letters make words of the operators.
        ("hello and world", False),
        ("hello not", False),
        # SEARCH: whole words in any order.
        ('SEARCH("hello")', True),
        ('SEARCH("ello")', False),
        ('SEARCH("World hello")', True),
        ('SEARCH("hello goodbye")', False),
        ('search("hello blue")', True),  # in different fields
        ('SEARCH(textPayload, "hello blue")', False),
        ('SEARCH(textPayload, "hello worker")', True),
        ('SEARCH(textPayload, "abc 17 ID=")', True),
        ('SEARCH("`Hello World`")', True),
        ('SEARCH("`World Hello`")', False),
        ('SEARCH("`hello world`")', False),
        ('SEARCH("`ello World`")', False),
        ('SEARCH("`Hello World` twice")', True),
        ('SEARCH(labels, "blue")', True),
        ('SEARCH(labels."my.team/x", "blue")', True),
        ('SEARCH(labels.absent, "blue")', False),
        ('SEARCH(resource, "orders")', True),
        ('SEARCH(jsonPayload.message, "hello")', False),
        ('NOT SEARCH(jsonPayload.message, "hello")', True),
        # log_id: the id as it is before it is encoded.
        ('log_id("run.googleapis.com/requests")', True),
        ('log_id("run.googleapis.com%2Frequests")', True),
        ('LOG_ID("RUN.googleapis.com/requests")', True),
        ('log_id("requests")', False),
        ('log_id("stdout") OR log_id("run.googleapis.com/requests")', True),
        ('ip_in_net(httpRequest.remoteIp, "10.1.0.0/16")', True),
        ('ip_in_net(httpRequest.remoteIp, "10.1.2.3")', True),
        ('ip_in_net(httpRequest.remoteIp, "10.2.0.0/16")', False),
        ('ip_in_net(httpRequest.remoteIp, "2001:db8::/32")', False),
        ('ip_in_net(httpRequest.serverIp, "2001:db8::/32")', True),
        ('ip_in_net(jsonPayload.absent, "0.0.0.0/0")', False),
        ('ip_in_net(textPayload, "0.0.0.0/0")', False),
        ("sample(insertId, 1)", True),
        ("sample(insertId, 0)", False),
        ("sample(jsonPayload.absent, 1)", False),
        # NOT, then OR, then AND.
        ("hello OR NOT hello AND NOT goodbye OR hello", True),
        ("hello OR hello AND goodbye", False),
    ],
)
def test_filter_searches_and_calls_functions(text, expected):
    """Words alone are looked for in all fields; functions take one or two arguments."""
    assert compiled(text).matches(text_entry()) is expected


def test_sample_takes_the_same_share_each_time():
    """A sample of a quarter takes about a quarter, a larger one takes those and more, and it decides by the value alone."""
    names = [f"i{number}" for number in range(2000)]

    def taken(fraction):
        wanted = compiled(f"sample(insertId, {fraction})")
        return {name for name in names if wanted.matches(LogEntry(insert_id=name))}

    quarter = taken(0.25)
    assert 420 <= len(quarter) <= 580
    assert quarter == taken(0.25)
    assert quarter < taken(0.5)


def audit_entry(**status):
    entry = entry_of(severity=500)
    said = AuditLog(service_name="compute.googleapis.com", method_name="v1.compute.instances.insert")
    said.authentication_info.principal_email = "ann@example.com"
    said.authorization_info.add(permission="compute.instances.create", granted=True)
    said.authorization_info.add(permission="compute.disks.create")
    said.request_metadata.caller_ip = "192.0.2.7"
    said.request.update({"name": "web-1", "size": 3})
    said.status.code = 7
    entry.proto_payload.Pack(said)
    return entry


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('protoPayload.methodName="v1.compute.instances.insert"', True),
        ('protoPayload.methodName:"INSTANCES"', True),
        ('protoPayload.methodName=~"^v1[.].*insert$"', True),
        ('protoPayload.methodName!~"insert$"', False),
        ('protoPayload."@type"="type.googleapis.com/google.cloud.audit.AuditLog"', True),
        ('protoPayload.@type:"AuditLog"', True),
        ("protoPayload.authenticationInfo.principalEmail=ann@example.com", True),
        ("protoPayload.authorizationInfo.permission=compute.disks.create", True),
        ("protoPayload.authorizationInfo.granted=true", True),
        ("protoPayload.status.code=7", True),
        ("protoPayload.status.code>7", False),
        ("protoPayload.status.message:*", False),
        ("protoPayload.request.size>=3", True),
        ("protoPayload.resourceName:*", False),
        ("protoPayload.resourceName!=x", False),  # missing
        ("protoPayload:*", True),
        ("jsonPayload:*", False),
        ('ip_in_net(protoPayload.requestMetadata.callerIp, "192.0.2.0/24")', True),
        ('SEARCH(protoPayload, "instances web")', True),
        ("ann@example.com", True),
    ],
)
def test_filter_compares_proto_payload(text, expected):
    """A protoPayload of a known type is compared as the JSON that the service shows."""
    assert compiled(text).matches(audit_entry()) is expected


def test_proto_payload_of_an_unknown_type_has_its_type_only():
    """A type that is not known here can't be unpacked: its fields are missing."""
    entry = entry_of()
    entry.proto_payload.type_url = "type.googleapis.com/of.nobody.Here"
    entry.proto_payload.value = b"\x0a\x03abc"
    assert compiled('protoPayload."@type":"nobody"').matches(entry)
    assert not compiled("protoPayload.name=abc").matches(entry)
    entry.proto_payload.Pack(struct_pb2.Struct())
    assert not compiled("protoPayload.value:*").matches(entry)


@pytest.mark.parametrize("expression", ["(a+)+$", "(a|aa)+$", "(.*a){20}$", "(a|b)*a(a|b){500}c", "(x+x+)+y|a*a*a*a*b"])
@pytest.mark.timeout(20)
def test_regular_expression_takes_no_more_time_than_its_text_is_long(expression):
    """What makes a backtracking engine try for ages is answered for the longest insert id at once."""
    entry = LogEntry(insert_id="a" * 512)
    begun = time.process_time()
    assert not compiled(f'insertId=~"^{expression.replace("$", "c$")}"').matches(entry)
    assert time.process_time() - begun < 5


def test_filter_of_20000_characters_is_the_longest():
    """A filter may have 20,000 characters, not one more."""
    text = 'insertId="' + "x" * (20_000 - 11) + '"'
    compiled(text)
    with pytest.raises(FilterError, match="20000 is the most"):
        compiled(text + " ")


def test_filter_bounds_come_from_the_conjunction_only():
    """Only instants that every match must satisfy narrow the time that is looked at."""
    day = instant("2026-03-01")
    assert compiled('timestamp>="2026-03-01" AND (severity=ERROR timestamp<="2026-03-01")').since == day
    assert compiled('severity=ERROR (trace:* AND timestamp<="2026-03-01")').until == day
    assert compiled('timestamp>="2026-03-01" OR severity=ERROR').since < 0
    assert compiled('NOT timestamp>="2026-03-01"').since < 0
