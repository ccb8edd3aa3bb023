"""
The acts of people as lines of the trail. Pure.

A line is written through the API of Cloud Logging, so that acts from any machine are kept, also those on documents that are
deleted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from gcp_oncetask.rules.evidence import OWN_LOGS, Line
from gcp_oncetask.rules.record import Act
from gcp_oncetask.rules.timestamps import instant, parse_instant

ACT: Final = "act"
"""Event of these lines."""
DONE: Final = "done"
INTENDED: Final = "intended"


@dataclass(frozen=True, slots=True)
class ToldAct:
    """
    An act on one document.

    Attributes:
        document: Path of the document, which may be gone.
        kind: Kind of the once-task; None: the document is none.
        task: Id of the once-task; None: the document is none.
        act: The act.
        stage: ``done``; or ``intended``: its commit was about to be made, and no line says that it was made.
        source: ``record``, ``trail`` or both, with a comma.
    """

    document: str
    kind: str | None
    task: str | None
    act: Act
    stage: str
    source: str


def act_fields(act: Act, stage: str) -> dict[str, str]:
    """
    Return the fields of an act in its line, beside those of its document.
    """
    fields = {
        "at": instant(act.at),
        "verb": act.verb,
        "by": act.by,
        "proven": "true" if act.proven else "false",
        "claimed": act.claimed,
        "status": act.status,
        "note": act.note,
        "stage": stage,
    }
    return {name: value for name, value in fields.items() if value is not None}


def act_line_id(document: str, act: Act, stage: str) -> str:
    """
    Return the insert id of the line of an act: a line that is written twice counts once.
    """
    said = json.dumps([document, act.sequence, *sorted(act_fields(act, stage).items())])
    return f"act-{hashlib.sha256(said.encode()).hexdigest()[:40]}"


def told_acts(lines: Iterable[Line]) -> tuple[ToldAct, ...]:
    """
    Return the acts in *lines*, oldest first, each once; other lines are left out. An intended act that was done counts once.
    """
    found: dict[Any, ToldAct] = {}
    for line in lines:
        own = line.payload.get("oncetask")
        told = _told(own) if line.log in OWN_LOGS and isinstance(own, dict) and own.get("event") == ACT else None
        if told is not None:
            known = found.get(_identity(told))
            if known is None or known.stage == INTENDED:
                found[_identity(told)] = told
    return tuple(sorted(found.values(), key=_place))


def merged_acts(told: Iterable[ToldAct], recorded: Iterable[ToldAct]) -> tuple[ToldAct, ...]:
    """
    Return the acts of the trail and of the records, oldest first, each once.
    """
    found = {_identity(each): each for each in told}
    for each in recorded:
        known = found.get(_identity(each))
        source = each.source if known is None else f"{each.source}, {known.source}"
        found[_identity(each)] = replace(each, source=source)
    return tuple(sorted(found.values(), key=_place))


def _identity(told: ToldAct) -> tuple[Any, ...]:
    return told.document, told.act.at, told.act.verb, told.act.by


def _place(told: ToldAct) -> tuple[Any, ...]:
    return told.act.at, told.document, told.act.sequence, told.act.verb, told.act.by


def _told(own: dict[str, Any]) -> ToldAct | None:
    try:
        act = Act(
            at=parse_instant(str(own["at"])),
            verb=str(own["verb"]),
            by=str(own["by"]),
            proven=own.get("proven") == "true",
            claimed=_text(own.get("claimed")),
            status=str(own.get("status", "")),
            sequence=int(own.get("sequence", 0)),
            note=_text(own.get("note")),
        )
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
    kind, task = _text(own.get("kind")), _text(own.get("task"))
    stage = INTENDED if own.get("stage") == INTENDED else DONE
    return ToldAct(str(own.get("document", "")), kind, task, act, stage, "trail")


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
