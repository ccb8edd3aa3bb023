"""
Compute the target and the time of a sequence: URLs, queues, accounts and delays from users are checked and made absolute.
"""

from __future__ import annotations

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
    Return the checked target of a sequence. With *present*, the target is that of the present delivery; then only the
    dispatch checks whether a task may go there, so that a step that is done does not fail for that.

    Raises:
        ConfigError: Settings are missing; the message names all of them.
        UsageError: Both *delay* and *at* are given, one of them is invalid, the URL is too long, or no task may go there.
    """
    queue = queue or runtime.config.queue
    needs: tuple[Need, ...] = (Need.ACCOUNT,)
    if url.startswith("/"):
        needs += (Need.BASE_URL,)
    if "/" not in queue:
        needs += (Need.PROJECT, Need.LOCATION)
    runtime.require(needs)
    url = absolute_url(runtime, url)
    if len(url) > urls.SHORT_URL and (trouble := trouble_with_url(url)) is not None:
        raise UsageError(f"No delivery can go to the URL {urls.hidden(url)}: {trouble}. Hand data on in params=.")
    queue = queue_name(runtime, queue)
    if not present:
        check_target(runtime, url, queue, headers)
    return Target(
        url=url,
        queue=queue,
        params=params,
        headers=headers,
        wait_until=wait_until(runtime, delay, at),
        traceparent=runtime.events.traceparent(),
    )


def check_target(runtime: Runtime, url: str, queue: str, headers: dict[str, str] | None) -> None:
    """
    Refuse a target to which no task may go. If the registry can't be read, nothing is refused: it is read again before the
    Cloud Task is made.

    Raises:
        UsageError: No task may go there; the message names the setting that allows it.
    """
    try:
        runtime.targets.check(url, queue, headers)
    except StoreError:
        return


def absolute_url(runtime: Runtime, url: str) -> str:
    """
    Make *url*, a checked or a stored one, absolute.

    Raises:
        ConfigError: *url* is a path and no base URL is configured.
    """
    if not url.startswith("/"):
        return url
    base = runtime.config.base_url
    if base is None:
        runtime.require((Need.BASE_URL,))
        raise AssertionError("unreachable")
    return base.rstrip("/") + url


def queue_name(runtime: Runtime, queue: str | None) -> str:
    """
    Return the full name of *queue* (None: the configured one).

    Raises:
        ConfigError: The project or the region is neither configured nor found.
    """
    queue = queue or runtime.config.queue
    return queue if "/" in queue else runtime.queues() + queue


def account(runtime: Runtime) -> str | None:
    """
    Return the account whose identity token deliveries have; None if callers are not verified.

    Raises:
        ConfigError: The account is not configured.
    """
    runtime.require((Need.ACCOUNT,))
    return None if runtime.config.verify == "off" else runtime.config.service_account


def wait_until(runtime: Runtime, delay: Duration | None, at: datetime | None = None) -> datetime | None:
    """
    Return the instant of a *delay* (seconds or a timedelta) or of *at*, in UTC; None: at once.

    Raises:
        UsageError: Both are given, or one of them is invalid.
    """
    if delay is not None and at is not None:
        raise UsageError("Give delay= or at=, not both.")
    if at is not None:
        return values.time(at, "at")
    if delay is None:
        return None
    length = values.length(delay, "delay")
    return None if length == timedelta(0) else runtime.store.estimate() + length
