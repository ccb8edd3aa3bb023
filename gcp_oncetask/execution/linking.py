"""
Links by which people answer a durable handler.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from gcp_oncetask.checks import tagged, urls, values
from gcp_oncetask.checks.tagged import Tagged
from gcp_oncetask.clock import Duration
from gcp_oncetask.config import config_error
from gcp_oncetask.config.settings import MAKE_KEY
from gcp_oncetask.errors import UsageError
from gcp_oncetask.execution.journaling import Journal, checked_name
from gcp_oncetask.rules import link_tokens
from gcp_oncetask.rules.journal import EntrySort
from gcp_oncetask.rules.link_tokens import LinkClaims
from gcp_oncetask.runtime import addressing
from gcp_oncetask.store.json_data import parameters

PAGE: Final = "/oncetask/link"
"""Path of the page of the blueprint."""
LONGEST_LINK: Final = 2000
"""Most characters of a link: mail programs and browsers cut longer ones."""
LONGEST_LIFE: Final = timedelta(days=366)


def link(
    journal: Journal,
    name: str,
    answer: Any,
    *,
    expires: Duration,
    text: str | None,
    label: str | None,
    for_: str | None,
    event: str | None,
    url: str,
) -> str:
    """
    See ``Attempt.link``.
    """
    wait = checked_name(name)
    sent = wait if event is None else checked_name(event)
    life = values.length(expires, "expires", most=LONGEST_LIFE.total_seconds())
    words = {"text": text, "label": label, "for_": for_}
    for of, said in words.items():
        if said is not None and (not isinstance(said, str) or not said.strip()):
            raise UsageError(f"{of} is {values.shown(said)}; it must be a text that is not empty.")
    data = parameters(answer, "the answer")
    urls.target(url, "url")
    runtime = journal.attempt.runtime
    keys = runtime.config.link_keys
    if not keys:
        raise config_error([f"ONCETASK_LINK_KEYS is not set: the secret key by which links are signed. {MAKE_KEY}"])
    page = addressing.absolute_url(runtime, url)
    issued = _issued(journal, wait)
    claims = LinkClaims(
        path=journal.attempt.context.document,
        env=journal.attempt.granted.env,
        key=link_tokens.digest_of(journal.attempt.key),
        wait=wait,
        event=sent,
        data=data,
        issued=issued,
        expires=issued + life,
        text=_words(text) or f"An answer is wanted: {wait}",
        label=_words(label),
        for_=_words(for_),
    )
    made = f"{page}{'&' if '?' in page else '?'}t={link_tokens.sign(claims, keys[0])}"
    if len(made) > LONGEST_LINK:
        raise UsageError(
            f"The link has {len(made):,} characters, and may have {LONGEST_LINK:,}. Shorten text= or label=, or store the "
            "answer elsewhere and send its name."
        )
    return made


def _words(said: str | None) -> str | None:
    return None if said is None else values.storable_text(said.strip())


def _issued(journal: Journal, wait: str) -> datetime:
    """
    Return the time at which the first link of *wait* was made, the same in every attempt.
    """
    name = f"{wait}[link]"
    entry = journal.enter_again(name)
    if entry is None:
        entry = journal.entry(name, EntrySort.VALUE, value=tagged.keep(journal.now()).data)
        journal.later(entry)
    found: datetime = tagged.read(Tagged(entry.value))
    return found
