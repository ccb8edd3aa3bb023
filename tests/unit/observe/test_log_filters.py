"""
Filters of Cloud Logging and links to its page.
"""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import unquote

from gcp_emulator.logging.matching import compiled
from gcp_emulator.logging.messages import LogEntry
from gcp_oncetask.observe.log_filters import acts_filter, logs_link, task_filter
from gcp_oncetask.rules.delivery import Delivery, delivery_url, path_digest

AT = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
ODD = 'orders/é"4\\ %2F:x'


def entry(log: str = "run.googleapis.com%2Fstdout", *, url: str = "", trace: str = "", **own: str) -> LogEntry:
    made = LogEntry(log_name=f"projects/p/logs/{log}", trace=trace)
    made.resource.type = "cloud_run_revision"
    made.timestamp.FromDatetime(AT)
    if own:
        made.json_payload.update({"oncetask": own})
    if url:
        made.http_request.request_url = url
    return made


def test_task_filter_finds_lines_and_deliveries_of_one_document() -> None:
    """
    Whatever the path is made of; a delivery by the path, or its digest, in the URL, or by the trace.
    """
    for path in ("orders/4", ODD):
        wanted = compiled(task_filter("p", "E", path, "a" * 32, AT))
        requests = "run.googleapis.com%2Frequests"
        url = delivery_url(Delivery("E", path, 1, 1, "n"), "https://x/run?a=b")
        own = {"event": "started", "document": path, "env": "E"}

        assert wanted.matches(entry(**own))
        assert wanted.matches(entry("python", **own))
        assert wanted.matches(entry(requests, url=url))
        assert wanted.matches(entry(requests, url=url.replace("oncetask_dispatch=1", "")))
        digest = delivery_url(Delivery("E", path_digest(path), 1, 1, "n"), "https://x/run")
        assert wanted.matches(entry(requests, url=digest))
        assert wanted.matches(entry(requests, trace=f"projects/p/traces/{'a' * 32}"))
        others = [
            entry(**{**own, "env": "F"}),
            entry(**{**own, "document": f"{path}2"}),
            entry(document=path, env="E"),
            entry(requests, url=delivery_url(Delivery("E", f"{path}2", 1, 1, "n"), "https://x/run")),
            entry(requests, trace=f"projects/p/traces/{'b' * 32}"),
            entry("other", url=url),
        ]
        assert [one for one in others if wanted.matches(one)] == []


def test_acts_filter_finds_acts_of_an_environment_or_of_a_document() -> None:
    """
    And no other events.
    """
    act = {"event": "act", "document": ODD, "env": "E"}
    every, one = (compiled(acts_filter("E", path, AT)) for path in (None, ODD))

    assert every.matches(entry("oncetask", **act))
    assert one.matches(entry("oncetask", **act))
    assert every.matches(entry("oncetask", **{**act, "document": "orders/2"}))
    assert not one.matches(entry("oncetask", **{**act, "document": "orders/2"}))
    assert not every.matches(entry("oncetask", **{**act, "env": "F"}))
    assert not every.matches(entry("oncetask", **{**act, "event": "started"}))


def test_link_opens_the_lines_of_one_attempt() -> None:
    """
    From a minute before the grant, in whole seconds; all parts are percent-encoded, so that no mail program breaks it.
    """
    link = logs_link("my-project", 'cafe"01', AT, datetime(2026, 3, 1, 4, 0, tzinfo=UTC))

    assert link == (
        "https://console.cloud.google.com/logs/query;query=jsonPayload.oncetask.holder%3D%22cafe%5C%2201%22;"
        "startTime=2026-03-01T02%3A59%3A00Z;endTime=2026-03-01T04%3A00%3A00Z?project=my-project"
    )
    query = unquote(link.partition("query=")[2].partition(";")[0])
    assert compiled(query).matches(entry(holder='cafe"01'))
    assert ";endTime=2026-03-01T03%3A00%3A01Z?" in logs_link("p", "n", AT, AT.replace(microsecond=1))
