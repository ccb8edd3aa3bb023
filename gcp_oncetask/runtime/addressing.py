"""
Where a sequence goes, and when: URLs, queues, accounts and delays as users give them, checked and made absolute.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from gcp_oncetask.checks import urls, values
from gcp_oncetask.clock import Duration
from gcp_oncetask.errors import StoreError, UsageError
from gcp_oncetask.rules.decisions import Target
from gcp_oncetask.rules.delivery import trouble_with_url
from gcp_oncetask.runtime.requirements import Need
from gcp_oncetask.runtime.runtime import Runtime


def target(
    runtime: Runtime,
    url: str,
    *,
    queue: str | None,
    params: Any,
    headers: dict[str, str] | None,
    delay: Duration | None,
    at: datetime | None,
    present: bool = False,
) -> Target:
    """
    Where a sequence goes, checked; whether it may go there is left to the dispatch if it is where its delivery has come to
    (*present*): a step that is done does not fail for that.

    Raises:
        ConfigError: Settings are missing; the message names all of them.
        UsageError: Both *delay* and *at* are given, one can't be, the URL is too long, or no task may go there.
    """
    needs = [Need.ACCOUNT]
    if url.startswith("/"):
        needs.append(Need.BASE_URL)
    if "/" not in (queue or runtime.config.queue):
        needs += [Need.PROJECT, Need.LOCATION]
    runtime.require(tuple(needs))
    absolute = absolute_url(runtime, url)
    trouble = trouble_with_url(absolute)
    if trouble is not None:
        raise UsageError(f"No delivery can go to the URL {urls.hidden(absolute)}: {trouble}. Hand data on in params=.")
    name = queue_name(runtime, queue)
    if not present:
        check_target(runtime, absolute, name, headers)
    return Target(
        url=absolute,
        queue=name,
        params=params,
        headers=headers,
        wait_until=wait_until(runtime, delay, at),
        traceparent=runtime.events.traceparent(),
    )


def check_target(runtime: Runtime, url: str, queue: str, headers: dict[str, str] | None) -> None:
    """
    Refuse to schedule where no task may go. If the registry can't be asked nothing is refused: it is asked again before the
    Cloud Task is made.

    Raises:
        UsageError: It says which setting allows it.
    """
    with suppress(StoreError):
        runtime.targets.check(url, queue, headers)


def absolute_url(runtime: Runtime, url: str) -> str:
    """
    *url*, a checked one or one that is stored, made absolute.

    Raises:
        ConfigError: It is a path and no base URL is configured.
        UsageError: It is too long.
    """
    if not url.startswith("/"):
        return url
    runtime.require((Need.BASE_URL,))
    assert runtime.config.base_url is not None
    return runtime.config.base_url.rstrip("/") + url


def queue_name(runtime: Runtime, queue: str | None) -> str:
    """
    Full name of *queue* (None: the configured one).

    Raises:
        ConfigError: The region is neither configured nor to be found.
    """
    queue = queue or runtime.config.queue
    if "/" in queue:
        return queue
    runtime.require((Need.PROJECT, Need.LOCATION))
    return f"projects/{runtime.project()}/locations/{runtime.location()}/queues/{queue}"


def account(runtime: Runtime) -> str | None:
    """
    The account whose identity token deliveries carry; None where callers are not verified.

    Raises:
        ConfigError: It is not configured.
    """
    runtime.require((Need.ACCOUNT,))
    return None if runtime.config.verify == "off" else runtime.config.service_account


def wait_until(runtime: Runtime, delay: Duration | None, at: datetime | None = None) -> datetime | None:
    """
    The instant meant by a delay (seconds or a timedelta) or by *at*, in UTC; None: at once.

    Raises:
        UsageError: Both are given, or one can't be.
    """
    if delay is not None and at is not None:
        raise UsageError("Give delay= or at=, not both.")
    if at is not None:
        return values.time(at, "at")
    if delay is None:
        return None
    length = values.length(delay, "delay")
    return None if length == timedelta(0) else runtime.store.estimate() + length
