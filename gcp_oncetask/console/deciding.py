"""
The decisions of an operator about one document: which there are, the question before each, and the act.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, NamedTuple

from gcp_oncetask.console.access import Visitor
from gcp_oncetask.console.asked import length_of
from gcp_oncetask.console.page import ConsolePage
from gcp_oncetask.entities.chains import runtime_of, stored_chain
from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.errors import UsageError
from gcp_oncetask.operate.acts import Decision, consequence, perform
from gcp_oncetask.rules.choices import fitting
from gcp_oncetask.rules.record import Lock, Person
from gcp_oncetask.store.records import record_of
from gcp_oncetask.store.snapshot import Snapshot, version_of

_ACK: Final = "4h"
_LONGEST_ACK: Final = timedelta(days=30)


class Choice(NamedTuple):
    """
    An act that an operator can choose.

    Attributes:
        verb: The verb, as on the command line.
        says: The sentence under its button.
        inputs: Inputs of its question.
        grave: Whether it is marked, because it can't be taken back.
    """

    verb: str
    says: str
    inputs: tuple[str, ...] = ()
    grave: bool = False


CHOICES: Final = {
    choice.verb: choice
    for choice in (
        Choice("answer", "The run that was begun once has happened: it has this result.", ("run", "result", "note")),
        Choice("not-done", "The run that was begun once did not happen: call it again.", ("run", "note"), grave=True),
        Choice("run", "Run the step again, with the same idempotency key.", ("note",)),
        Choice(
            "happened",
            "The step has happened: its chain goes on at a next step, or ends.",
            ("result", "next", "params", "end", "note"),
            grave=True,
        ),
        Choice("complete", "End the whole chain as completed.", ("result", "note"), grave=True),
        Choice("fail", "End the whole chain as failed.", ("note",), grave=True),
        Choice("reset", "Run the ended step again, as a new sequence.", ("keep_errors", "note")),
        Choice("cancel", "Stop it: at once while it waits, at its next settling while it runs.", ("note",)),
        Choice("dismiss", "Take it off the list of those that need a person; it stays as it is.", ("note",)),
        Choice("ack", "Silence its reminders for a time; its status does not change.", ("until", "note")),
        Choice("pause", "It makes no occurrences until it is resumed.", ("note",)),
        Choice("resume", "It makes occurrences again.", ("note",)),
        Choice("delete", "Delete the document, with its history. Its id can be used again.", ("note",), grave=True),
    )
}


def choices(snapshot: Snapshot, lock: Lock) -> list[Choice]:
    """
    Return the acts that fit the present state of a document. The rules decide once more at the act.
    """
    return [CHOICES[act] for act in fitting(record_of(snapshot).sort, lock)]


def question(locker: Locker, asked: Mapping[str, str], notice: str = "", status: int = 200) -> ConsolePage:
    """
    The question before an act. It says the consequence for this document, and has the inputs, filled with those of *asked*.

    Raises:
        UsageError: There is no such act.
        TaskNotFoundError: There is no such document.
    """
    path, choice = asked.get("path", ""), _choice(asked)
    snapshot, lock = stored_chain(runtime_of(locker), path)
    version = "" if snapshot.version is None else version_of(snapshot.version)
    given = {name: asked.get(name, "") for name in choice.inputs} | ({} if "until" in asked else {"until": _ACK})
    if "run" in choice.inputs and not given["run"] and lock.open:
        given["run"] = lock.open[0].name
    said = consequence(locker, path, Decision(choice.verb, end=choice.verb == "happened", run=given.get("run") or None))
    values = {
        "path": path,
        "choice": choice,
        "version": version,
        "status": lock.status,
        "consequence": said,
        "given": given,
        "notice": notice,
    }
    return ConsolePage(
        template="question.html", title=f"{choice.verb}?", values=values, status=status, read=snapshot.read
    )


def act(locker: Locker, visitor: Visitor, form: Mapping[str, str]) -> ConsolePage:
    """
    Do the act of a question's form.

    Returns:
        A page that sends the visitor to the document, or the question once more with the reason.

    Raises:
        OncetaskError: The act was refused.
    """
    path, choice = form.get("path", ""), _choice(form)
    try:
        decision = _decision(choice, form)
    except UsageError as error:
        return question(locker, form, str(error), 400)
    sentence = perform(locker, path, decision, Person(visitor.name, visitor.proven), form.get("version") or None).text
    to: tuple[str, Mapping[str, str]] = ("list", {}) if choice.verb == "delete" else ("task", {"path": path})
    return ConsolePage(template="trouble.html", title="", next=to, sentence=sentence)


def _choice(asked: Mapping[str, str]) -> Choice:
    choice = CHOICES.get(asked.get("verb", ""))
    if choice is None:
        raise UsageError(f"There is no act {asked.get('verb', '')!r:.40}; the acts are {', '.join(CHOICES)}.")
    return choice


def _decision(choice: Choice, form: Mapping[str, str]) -> Decision:
    given: dict[str, Any] = {}
    for name in choice.inputs:
        text = form.get(name, "").strip()
        match name:
            case "result" | "params":
                given[name] = _json(text, name)
            case "run":
                given[name] = text
            case "end" | "keep_errors":
                given[name] = bool(text)
            case "until":
                given[name] = min(length_of(text or _ACK, "the time"), _LONGEST_ACK)
            case _:
                given[name] = text or None
    if choice.verb == "answer" and not form.get("result", "").strip():
        raise UsageError("Give the result of the run as JSON; null, if it has none.")
    if choice.verb == "happened" and given["end"] is (given["next"] is not None):
        raise UsageError("Give the URL of the next step, or say that the chain ends: one of both.")
    return Decision(choice.verb, **given)


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        raise UsageError(f'The {name} is no JSON. A text needs quotes, like "sent". Nothing was done.') from None
