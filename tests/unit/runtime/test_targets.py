"""
Where tasks may go: which URLs are of one origin, and which queues, headers and audiences are ours.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gcp_oncetask import Config, UsageError
from gcp_oncetask.checks.urls import allowed, origin_of
from gcp_oncetask.rules.document_paths import is_key, is_task, parse_task_path
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.rules.verbs import Sort, record_of
from gcp_oncetask.runtime.requirements import Place
from gcp_oncetask.runtime.targets import Targets, configured

BASE = "https://Good.example.com"
QUEUE = "projects/mine/locations/here/queues/default"

SAME = (
    "https://good.example.com",
    "https://good.example.com/",
    "https://good.example.com/tasks/order?x=1",
    "https://good.example.com?x=1",
    "https://GOOD.example.COM/x",
    "https://good.example.com:443/x",
    "https://good.example.com:0443/x",
    "https://good.example.com/@evil.test",
    "https://good.example.com/%2e%2e//evil.test",
    "https://good.example.com/?next=https://evil.test",
)
OTHER = (
    "http://good.example.com/x",
    "http://good.example.com:443/x",
    "https://good.example.com:444/x",
    "https://good.example.com:80/x",
    "https://good.example.com./x",
    "https://good.example.com.evil.test/x",
    "https://good.example.comevil.test/x",
    "https://evil.test/good.example.com",
    "https://evil.test?https://good.example.com",
    "https://sub.good.example.com/x",
    "https://example.com/x",
    "https://g\u03bfod.example.com/x",
    "https://good.example\u3002com/x",
    "https://good.example\uff0ecom/x",
    "https://\uff47ood.example.com/x",
    "https://good.example.\u212aom/x",
    "https://xn--good.example.com/x",
    "https://93.184.216.34/x",
    "https://[2001:db8::1]/x",
)
NONE = (
    "",
    "/tasks/order",
    "//good.example.com/x",
    "good.example.com/x",
    "https:good.example.com/x",
    "https:/good.example.com/x",
    "https:///good.example.com/x",
    "HTTPS://good.example.com/x",
    "Https://good.example.com/x",
    "ftp://good.example.com/x",
    "javascript://good.example.com/x",
    "https://good.example.com@evil.test/x",
    "https://good.example.com:443@evil.test/x",
    "https://user:secret@good.example.com/x",
    "https://@good.example.com/x",
    "https://evil.test\\@good.example.com/x",
    "https://evil.test#@good.example.com/x",
    "https://good.example.com\\.evil.test/x",
    "https://good.example.com%2eevil.test/x",
    "https://good.example.com%00.evil.test/x",
    "https://good.example.com;evil.test/x",
    "https://good.example.com,evil.test/x",
    "https://good.example.com evil.test/x",
    "https://good.example.com\t.evil.test/x",
    "https://good.example.com\n/x",
    " https://good.example.com/x",
    "https://.good.example.com/x",
    "https://good.example.com:/x",
    "https://good.example.com:x/x",
    "https://good.example.com:443:444/x",
    "https://good.example.com:99999/x",
    "https://good.example.com:\uff14\uff14\uff13/x",
    "https://[good.example.com]/x",
    "https://[::1/x",
    "https://good.example.com\ud800/x",
    "https://good.example.com\uff0f.evil.test/x",
)


def targets(config: Config, registered: dict[str, str] | None = None) -> Targets:
    """
    The allow-list of a process of the project ``mine``.
    """

    class Known:
        def audience(self, origin: str) -> str | None:
            return (registered or {}).get(origin)

    process: Any = SimpleNamespace(config=config, registry=Known())
    return Targets(process, Place("mine", None))


@pytest.mark.parametrize("url", SAME)
def test_urls_of_the_origin_are_allowed(url: str) -> None:
    """
    With the audience that is configured.
    """
    made = targets(Config(base_url=BASE, audience=("first", "second")))

    assert origin_of(url) == "https://good.example.com"
    assert made.check(url, QUEUE, None) == "first"
    assert made.own(url) == ("https://good.example.com", "first")


@pytest.mark.parametrize("url", [*OTHER, *NONE])
def test_no_other_url_is(url: str) -> None:
    """
    Nor is it registered as if it were configured.
    """
    made = targets(Config(base_url=BASE, targets=("https://good.example.com:8443",)))
    with pytest.raises(UsageError):
        made.check(url, QUEUE, None)

    assert (origin_of(url) is None) is (url in NONE)
    assert made.own(url) is None


def test_names_beyond_ascii_are_compared_as_they_are_written() -> None:
    """
    What one version of IDNA makes of a name may be somebody else's for another: ``ß`` is ``ss`` to one of them.
    """
    made = targets(Config(base_url="https://stra\u00dfe.test", targets=("https://strasse.test=ss",)))

    assert made.check("https://stra\u00dfe.test/x", QUEUE, None) == "https://stra\u00dfe.test"
    assert made.check("https://strasse.test/x", QUEUE, None) == "ss"
    for other in ("https://xn--strae-oqa.test/x", "https://STRA\u00dfE.test/x", "https://stra\u1e9ee.test/x"):
        with pytest.raises(UsageError):
            made.check(other, QUEUE, None)


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({}, {}),
        ({"audience": ("a",)}, {}),
        ({"base_url": "https://a.test/shop"}, {"https://a.test": "https://a.test"}),
        ({"base_url": "https://a.test:443", "audience": ("a", "b")}, {"https://a.test": "a"}),
        ({"base_url": "http://app:8080"}, {"http://app:8080": "http://app:8080"}),
        ({"targets": ("https://B.test/",), "audience": ("a",)}, {"https://b.test": "https://B.test"}),
        (
            {"targets": ("https://b.test=b=c", "https://b.test:444=d")},
            {"https://b.test": "b=c", "https://b.test:444": "d"},
        ),
        ({"base_url": "https://a.test", "audience": ("a",), "targets": ("https://a.test",)}, {"https://a.test": "a"}),
        ({"base_url": "https://a.test", "audience": ("a",), "targets": ("https://A.test=z",)}, {"https://a.test": "z"}),
        (
            {"targets": ("http://127.0.0.1:8080", "http://[::1]:1")},
            {"http://127.0.0.1:8080": "http://127.0.0.1:8080", "http://[::1]:1": "http://[::1]:1"},
        ),
    ],
)
def test_audience_is_that_of_the_origin(settings: dict[str, Any], found: dict[str, str]) -> None:
    """
    Our own goes to our own origin alone: who serves another one could use it here.
    """
    assert configured(Config(**settings)) == found


def test_own_settings_come_before_the_registry() -> None:
    """
    The registry tells of what is not configured here; what it tells is registered by nobody else.
    """
    known = {"https://good.example.com": "theirs", "https://other.test": "other"}
    made = targets(Config(base_url=BASE, audience=("ours",)), known)

    assert made.check("https://good.example.com/x", QUEUE, None) == "ours"
    assert made.check("https://OTHER.test:443/x", QUEUE, None) == "other"
    assert made.own("https://other.test/x") is None
    with pytest.raises(
        UsageError, match=r"set ONCETASK_TARGETS=https://third\.test \(or https://third\.test=AUDIENCE\)"
    ):
        made.check("https://third.test/x", QUEUE, None)


@pytest.mark.parametrize(
    ("queue", "setting", "allowed_"),
    [
        (QUEUE, "default", True),
        ("projects/mine/locations/there/queues/other", "default", True),
        ("projects/yours/locations/here/queues/default", "default", False),
        ("projects/mine-2/locations/here/queues/default", "default", False),
        ("projects/MINE/locations/here/queues/default", "default", False),
        ("projects/yours/locations/here/queues/mine", "projects/yours/locations/there/queues/q", True),
        (QUEUE, "projects/yours/locations/there/queues/q", True),
        ("projects/third/locations/here/queues/q", "projects/yours/locations/there/queues/q", False),
        ("mine", "default", False),
        ("", "default", False),
        ("projects//locations/here/queues/q", "default", False),
        ("projects/mine/locations/here/queues/q/../../../../../yours", "default", False),
    ],
)
def test_queues_are_of_a_known_project(queue: str, setting: str, allowed_: bool) -> None:
    """
    A task in another project's queue would show that project the document, and lend it the token.
    """
    made = targets(Config(base_url=BASE, queue=setting))
    if allowed_:
        made.check(BASE, queue, None)
        return
    with pytest.raises(UsageError, match="ONCETASK_QUEUE"):
        made.check(BASE, queue, None)


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "X-Serverless-Authorization",
        "x-goog-iap-jwt-assertion",
        "Host",
        "Content-Type",
        "X-CloudTasks-QueueName",
    ],
)
def test_headers_say_nothing_of_who_calls(name: str) -> None:
    """
    Also those that a document has.
    """
    made = targets(Config(base_url=BASE))
    with pytest.raises(UsageError, match="which Cloud Tasks or the library sets"):
        made.check(BASE, QUEUE, {"x-shard": "7", name: "x"})

    made.check(BASE, QUEUE, {"x-shard": "7"})


@pytest.mark.parametrize(
    "path",
    [
        "comments/x/onceTasks/00:E:kind:id",
        "onceTasks/00:E:kind:id/comments/y",
        "onceTasks/00:E:kind:x/onceTasks/id",
        "comments/x/onceLocks/00:E:key:k",
        "onceLocks/00:E:key:k/comments/y",
    ],
)
def test_what_is_nested_is_no_once_task_and_no_key(path: str) -> None:
    """
    Nothing but the documents of the top-level collections is; what else has a lock is a chain of whoever has written it.
    """
    assert (is_task(path), parse_task_path(path), is_key(path)) == (False, None, False)
    assert record_of(path, Lock(env="E", sequence=1, status=Status.SCHEDULED), {}).sort is Sort.CHAIN
    assert (is_task("onceTasks/00:E:kind:id"), is_key("onceLocks/00:E:key:k")) == (True, True)


@pytest.mark.parametrize(
    "text", [*NONE, "https://a.test/x", "https://a.test?x", "http://a.test", "http://127.0.0.1.a.test"]
)
def test_what_is_no_origin_can_not_be_configured(text: str) -> None:
    with pytest.raises(UsageError, match=r"^ONCETASK_TARGETS "):
        allowed(text, "ONCETASK_TARGETS")
