"""
Alerts to people: their text, and the channel that logs them if no mail server is configured.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Final, Protocol
from urllib.parse import quote

from gcp_oncetask.checks.urls import without_data
from gcp_oncetask.checks.values import printable, storable_text
from gcp_oncetask.observe.log_context import Ours
from gcp_oncetask.rules.record import Event, Failure

LOGGER: Final = logging.getLogger("gcp_oncetask.alerts")

_MAX_SUBJECT: Final = 200

_SUBJECTS: Final = {
    Event.TAKEOVER: "takeover",
    Event.FAILURE: "permanent failure",
    Event.QUARANTINE: "quarantined",
}
_HAPPENED: Final = {
    Event.TAKEOVER: "A run of this task did not end in time. Its lease was overwritten (a takeover) and the task runs again.",
    Event.FAILURE: "This task has failed for good. It will not run again by itself.",
    Event.QUARANTINE: "It is not known whether this task did its work. It is quarantined until a person decides.",
}
_DAMAGED: Final = (
    "The record of this task can't be read: another program has changed it. It is not run until that is repaired."
)
_RESULT_LOST: Final = "This task is completed and does not run again, but its result could not be stored."
_RESOLVES: Final = {
    "failed": "To look at it, then one of: run it again, say that it has happened, or take it off the list:",
    "quarantined": "To look at it, then one of: run it again, say that its step has happened, call the chain done or failed:",
    "completed": "To look at it, and to take it off the list:",
}
_STOPS: Final = "To look at it, or to stop it if it must not run again:"
_DIGEST: Final = "Alerts of one kind came shortly after another one, and are told together by this mail."
_REMINDS: Final = (
    "To list them; to look at the oldest, with the commands that decide it; to let no reminder name that one for four "
    "hours:"
)
_MAKES_ANEW: Final = (
    "Repair the field by hand, as it was; or, to look at it, and to run it again with what can be read of it:"
)


@dataclass(frozen=True, slots=True)
class Alert:
    """
    A message to a person about a task; it never holds the task's payload.

    Attributes:
        id: Id of the alert, the same at each sending; the mail's Message-ID is ``<id@gcp-oncetask>``.
        event: The event that the alert reports.
        env: Environment of the task.
        project: Google Cloud project.
        database: Firestore database.
        document: Path of the document, such as ``orders/42``.
        sequence: The sequence that it is about; 0: none.
        attempt: The attempt that it is about, 1-based; 0: none.
        max_attempts: Attempts allowed per step; None: unlimited.
        at: Time of the decision.
        reason: The reason, as a sentence.
        evidence: Log lines on which the verdict is based.
        errors: The last failed attempts, oldest first; in a digest, one entry for each of *documents*.
        commands: Complete command lines that show and resolve the task. Those that resolve it act only while its state is
            that of the alert.
        effects: Sentences about the effects of *commands*, in their order; an empty text: the command changes nothing. Empty
            if there are no such sentences.
        status: Status of the task after the event.
        url: Target of the task.
        step: Step of the sequence within its chain, 1-based; 0: it is not known.
        result_lost: Whether the run is completed and only its result could not be stored.
        damaged: Whether the record can't be read.
        count: Number of alerts that it reports.
        documents: In a digest, which reports several alerts of one kind and reason, the documents of the first 20, in
            order; *document* is the first of them, sequence and attempt are 0. Empty in other alerts.
        kind: Kind of the once-task, or the collection, with ``*`` for the ids of parent documents.
        question: The question that a person must answer; empty: there is none.
        key: ``attempt.key`` of the attempt, by which remote systems know its calls; None: the alert is about no attempt, or
            the record has gone on since.
        granted_at: Time at which the attempt got its lease; None as *key*.
        lease_ends: End of that lease; None: its holder has ended it, or as *key*.
        logs: URL of the page with the log lines of the attempt; None as *key*.
        reminder: Whether it reminds of all records that still need a person: *documents* are the first 20 of them, oldest
            first, *errors* say the reason and the time of each, *count* is their number, *document* the oldest.
        totals: In a reminder, the numbers by kind and reason, as texts.
        kin: The task whose child it is, and those of its children that have neither completed nor failed, as texts.
    """

    id: str
    event: Event
    env: str
    project: str
    database: str
    document: str
    sequence: int
    attempt: int
    max_attempts: int | None
    at: datetime
    reason: str
    evidence: tuple[str, ...]
    errors: tuple[Failure, ...]
    commands: tuple[str, ...]
    status: str
    url: str | None
    step: int = 0
    result_lost: bool = False
    damaged: bool = False
    count: int = 1
    documents: tuple[str, ...] = ()
    kind: str = ""
    effects: tuple[str, ...] = ()
    question: str = ""
    key: str | None = None
    granted_at: datetime | None = None
    lease_ends: datetime | None = None
    logs: str | None = None
    reminder: bool = False
    totals: tuple[str, ...] = ()
    kin: tuple[str, ...] = ()

    @property
    def is_digest(self) -> bool:
        """
        True if it reports several alerts.
        """
        return bool(self.documents) and not self.reminder


class AlertChannel(Protocol):
    """
    A way to send alerts to people; safe for many threads.
    """

    def send(self, alert: Alert) -> None:
        """
        Send *alert*; return when the channel has taken responsibility for it.

        Raises:
            AlertError: The alert may have reached no person; it must be sent again later.
        """


def subject_of(alert: Alert, prefix: str) -> str:
    """
    Return the subject in one line of at most 200 characters: event, environment, document, sequence, step. In a digest:
    event, environment, number and kind. In a reminder: environment and number.
    """
    place = f", sequence {alert.sequence}" if alert.sequence else ""
    place += f", step {alert.step}" if alert.step else ""
    what = "result lost" if alert.result_lost else "damaged record" if alert.damaged else _SUBJECTS[alert.event]
    told = f"{what} in {alert.env}: {alert.document}{place}"
    if alert.reminder:
        told = (
            f"reminder: {alert.count} {'record needs' if alert.count == 1 else 'records need'} a person in {alert.env}"
        )
    elif alert.is_digest:
        told = f"{alert.count} x {what} in {alert.env}: {alert.kind}"
    text = printable(f"{prefix} {told}").strip()
    return text if len(text) <= _MAX_SUBJECT else text[: _MAX_SUBJECT - 3] + "..."


def body_of(alert: Alert) -> str:
    """
    Return the text of the mail: the event, its reason, the task, the evidence, the failed attempts, and the commands
    that resolve the task. In a digest: the event, its reason, and the documents. In a reminder: the numbers, the oldest
    records, and the commands.
    """
    if alert.reminder:
        return _reminder_of(alert)
    if alert.is_digest:
        return _digest_of(alert)
    facts = {
        "Document": alert.document,
        "Environment": alert.env,
        "Project": alert.project,
        "Database": alert.database,
        "Status": alert.status,
        "Sequence": str(alert.sequence or ""),
        "Step": str(alert.step or ""),
        "Attempt": _attempt(alert),
        "Key": alert.key or "",
        "Lease from": "" if alert.granted_at is None else _instant(alert.granted_at),
        "Lease until": "" if alert.lease_ends is None else _instant(alert.lease_ends),
        "Target": without_data(alert.url or ""),
        "Decided": _instant(alert.at),
        "Console": _console(alert),
        "Logs": alert.logs or "",
    }
    paragraphs = [
        _RESULT_LOST if alert.result_lost else _DAMAGED if alert.damaged else _HAPPENED[alert.event],
        *([f"Question: {alert.question}"] if alert.question else []),
        f"Why: {printable(alert.reason)}",
        "\n".join(f"{name + ':':13}{printable(value)}" for name, value in facts.items() if value),
    ]
    if alert.kin:
        paragraphs.append("Parent and children:\n" + _indented(alert.kin))
    if alert.evidence:
        paragraphs.append("Evidence:\n" + _indented(alert.evidence))
    if alert.errors:
        tried = [f"{_instant(e.at)}  sequence {e.sequence}, attempt {e.attempt}: {e.message}" for e in alert.errors]
        paragraphs.append("Failed attempts, oldest first:\n" + _indented(tried))
    if alert.commands:
        heading = _MAKES_ANEW if alert.damaged else _RESOLVES.get(alert.status, _STOPS)
        heading = heading if len(alert.commands) > 1 else "To look at it:"
        paragraphs.append(f"{heading}\n{_commands(alert)}")
    return "\n\n".join(paragraphs) + "\n"


def _digest_of(alert: Alert) -> str:
    facts = {
        "Alerts": str(alert.count),
        "Kind": alert.kind,
        "Environment": alert.env,
        "Project": alert.project,
        "Database": alert.database,
        "Decided": f"{_instant(alert.at)} (the first)",
    }
    happened = _RESULT_LOST if alert.result_lost else _DAMAGED if alert.damaged else _HAPPENED[alert.event]
    told = [
        f"{path}{f', sequence {each.sequence}' if each.sequence else ''}: {each.message}"
        for path, each in zip(alert.documents, alert.errors, strict=True)
    ]
    return (
        "\n\n".join(
            (
                f"{_DIGEST} Of each it says: {happened}",
                f"Why: {printable(alert.reason)}",
                "\n".join(f"{name + ':':13}{printable(value)}" for name, value in facts.items()),
                f"The first {len(told)}:\n{_indented(told)}",
                f"To look at them:\n{_indented(alert.commands)}",
            )
        )
        + "\n"
    )


def _reminder_of(alert: Alert) -> str:
    facts = {
        "Environment": alert.env,
        "Project": alert.project,
        "Database": alert.database,
        "Decided": _instant(alert.at),
    }
    named = [
        f"{_instant(each.at)}  {each.message}: {path}" for path, each in zip(alert.documents, alert.errors, strict=True)
    ]
    paragraphs = (
        alert.reason,
        "\n".join(f"{name + ':':13}{printable(value)}" for name, value in facts.items()),
        f"By kind and reason:\n{_indented(alert.totals)}",
        f"The oldest {len(named)}, since:\n{_indented(named)}",
        f"{_REMINDS}\n{_indented(alert.commands)}",
    )
    return "\n\n".join(paragraphs) + "\n"


def _commands(alert: Alert) -> str:
    """
    Return the commands, each on a line, with the sentence about its effect below it.
    """
    effects = alert.effects or ("",) * len(alert.commands)
    lines: list[str] = []
    for command, effect in zip(alert.commands, effects, strict=True):
        lines += [command, f"    {effect}"] if effect else [command]
    return _indented(lines)


def _attempt(alert: Alert) -> str:
    if not alert.attempt:
        return ""
    return f"{alert.attempt} of {alert.max_attempts}" if alert.max_attempts else str(alert.attempt)


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(sep=" ", timespec="seconds")


def _console(alert: Alert) -> str:
    database = "-default-" if alert.database == "(default)" else quote(alert.database, safe="")
    path = quote(storable_text(alert.document), safe="/")
    project = quote(alert.project, safe="")
    return f"https://console.cloud.google.com/firestore/databases/{database}/data/panel/{path}?project={project}"


def _indented(lines: Sequence[str]) -> str:
    return "\n".join("  " + printable(line) for line in lines)


class LogChannel:
    """
    Logs alerts at ERROR with all their fields, for deployments without mail.
    """

    def send(self, alert: Alert) -> None:
        # Counters are texts, because Cloud Logging would turn numbers into floats.
        fields = asdict(alert) | {
            "event": f"alert.{alert.event.value}",
            "sequence": str(alert.sequence),
            "step": str(alert.step or ""),
            "attempt": str(alert.attempt),
            "max_attempts": str(alert.max_attempts or ""),
            "count": str(alert.count),
            "url": without_data(alert.url or ""),
            "at": alert.at.isoformat(),
            "granted_at": alert.granted_at.isoformat() if alert.granted_at is not None else "",
            "lease_ends": alert.lease_ends.isoformat() if alert.lease_ends is not None else "",
            "errors": [f"{_instant(e.at)} {e.sequence}/{e.attempt}: {e.message}" for e in alert.errors],
        }
        tried = f", attempt {alert.attempt}" if alert.attempt else ""
        text = f"{subject_of(alert, '')}{tried}: {printable(alert.reason)} Resolve: {' | '.join(map(printable, alert.commands))}"
        LOGGER.error("%s", text, extra={"oncetask": Ours(fields)})
