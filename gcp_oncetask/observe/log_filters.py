"""
Queries of Cloud Logging as texts: its filters, and links to its page. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar
from urllib.parse import quote

from gcp_oncetask.rules.delivery import path_digest
from gcp_oncetask.rules.evidence import CRASH_TEXTS, EVENTS, RUN_TYPES, WORKER_LINES, Holder, LineOrigin
from gcp_oncetask.rules.timestamps import instant

MAX_FILTER: Final = 20_000
_LEAD: Final = timedelta(minutes=1)
"""A line may be older than the grant by this much, because clocks differ."""
_REQUEST_LEAD: Final = timedelta(minutes=6)
"""A request's entry is dated at its beginning; a container may take minutes to start before it gets the lease."""
_RUN: Final = "run.googleapis.com%2F"
_OWN: Final = ("oncetask", "stdout", f"{_RUN}stdout")
_PAGE: Final = "https://console.cloud.google.com/logs/query"

_Asked = TypeVar("_Asked")


def own_filter(project: str, holders: Sequence[Holder]) -> str:
    """
    Return the filter that finds the own lines of *holders*. It finds few others, because a nonce belongs to one attempt.
    """
    granted = min(holder.granted_at for holder in holders)
    logs = _either(f"projects/{project}/logs/{name}" for name in _OWN)
    # The user's own lines within an attempt name the holder too; there may be thousands of them.
    return (
        f"logName={logs} AND timestamp>={_instant(granted - _LEAD)} AND jsonPayload.oncetask.event={_either(EVENTS)} AND "
        f"jsonPayload.oncetask.holder={_either(holder.nonce for holder in holders)}"
    )


def platform_filter(project: str, asked: Sequence[tuple[Holder, LineOrigin | None]]) -> str:
    """
    Return the filter that finds the lines of the platform and the web server: about the request in which a holder got its
    lease, if there was one, and about its instance, if that is known.
    """
    granted = min(holder.granted_at for holder, _ in asked)
    logs = f"projects/{project}/logs/{_RUN}"
    wanted = []
    traced = [
        f"(trace={_quoted(f'projects/{project}/traces/{holder.trace}')} AND timestamp<={_instant(holder.granted_at)})"
        for holder, _ in asked
        if holder.trace
    ]
    if traced:
        wanted.append(f"(logName={_quoted(logs + 'requests')} AND ({' OR '.join(traced)}))")
    instances = sorted({place.instance for _, place in asked if place is not None})
    if instances:
        system = f"(logName={_quoted(f'{logs}varlog%2Fsystem')} AND textPayload:{_either(CRASH_TEXTS)})"
        worker = f"(logName={_quoted(f'{logs}stderr')} AND textPayload=~{_quoted(WORKER_LINES)})"
        wanted.append(
            f"(labels.instanceId={_either(instances)} AND timestamp>={_instant(granted - _LEAD)} AND ({system} OR {worker}))"
        )
    return (
        f"timestamp>={_instant(granted - _REQUEST_LEAD)} AND resource.type={_either(RUN_TYPES)} AND "
        f"({' OR '.join(wanted)})"
    )


def batches(filter_of: Callable[[Sequence[_Asked]], str], asked: Sequence[_Asked]) -> list[Sequence[_Asked]]:
    """
    Split *asked* into few parts whose filters are within the service's limit.
    """
    if len(asked) == 1 or len(filter_of(asked)) <= MAX_FILTER:
        return [asked]
    half = len(asked) // 2
    return [*batches(filter_of, asked[:half]), *batches(filter_of, asked[half:])]


def task_filter(project: str, env: str, document: str, trace: str | None, since: datetime) -> str:
    """
    Return the filter that finds all that the logs have about one document: the library's lines, and the request log's
    entries of its deliveries, refused ones included. A delivery's URL names the document. *trace* is that of the last
    holder's request, for a URL that is too long to name it.
    """
    own = (
        f"jsonPayload.oncetask.event:* AND jsonPayload.oncetask.document={_quoted(document)} AND "
        f"jsonPayload.oncetask.env={_quoted(env)}"
    )
    # The ampersand ends the name: orders/4 is not orders/42. The operator finds a part of a text.
    names = [quote(name).replace("/", "%2F") for name in (document, path_digest(document))]
    wanted = [f"httpRequest.requestUrl:{_quoted(f'oncetask_document={name}&')}" for name in names]
    if trace:
        wanted.append(f"trace={_quoted(f'projects/{project}/traces/{trace}')}")
    requests = f"logName={_quoted(f'projects/{project}/logs/{_RUN}requests')} AND ({' OR '.join(wanted)})"
    return f"timestamp>={_instant(since)} AND (({own}) OR ({requests}))"


def acts_filter(env: str, document: str | None, since: datetime) -> str:
    """
    Return the filter that finds the acts of people in an environment, on one *document* or on all.
    """
    one = "" if document is None else f" AND jsonPayload.oncetask.document={_quoted(document)}"
    return (
        f'timestamp>={_instant(since)} AND jsonPayload.oncetask.event="act" AND '
        f"jsonPayload.oncetask.env={_quoted(env)}{one}"
    )


def logs_link(project: str, holder: str, granted_at: datetime, until: datetime) -> str:
    """
    Return the URL of the page of Cloud Logging with the lines of one attempt.

    Args:
        project: Project id.
        holder: Nonce of the attempt.
        granted_at: Time of its grant, by the server's clock. The page begins a minute before, because clocks differ.
        until: End of the time that the page shows.
    """
    query = f"jsonPayload.oncetask.holder={_quoted(holder)}"
    # Whole seconds are enough, and the link is shorter; it may be read from a terminal.
    end = until + timedelta(seconds=1)
    times = [
        f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" for at in (granted_at - _LEAD, end if until.microsecond else until)
    ]
    parts = {"query": query, "startTime": times[0], "endTime": times[1]}
    said = ";".join(f"{name}={quote(value, safe='')}" for name, value in parts.items())
    return f"{_PAGE};{said}?project={quote(project, safe='')}"


def _either(texts: Iterable[str]) -> str:
    return f"({' OR '.join(_quoted(text) for text in texts)})"


def _instant(at: datetime) -> str:
    return _quoted(instant(at))


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
