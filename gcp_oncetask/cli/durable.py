"""
``effects`` lists the effects of a durable handler outside, ``send`` sends it an event.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any, Final

from gcp_oncetask.checks.values import printable
from gcp_oncetask.cli import tables
from gcp_oncetask.entities import sending
from gcp_oncetask.entities.chains import runtime_of, stored_chain
from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.rules import journal
from gcp_oncetask.rules.ledger import OutsideEffect, effects_of
from gcp_oncetask.rules.timestamps import instant
from gcp_oncetask.runtime import requirements
from gcp_oncetask.store import journals

SCHEMA: Final = "oncetask.effect/1"
_SENT: Final = "oncetask.sent/1"

Adder = Callable[..., argparse.ArgumentParser]


def add_to(commands: Any, on_document: Adder) -> None:
    """
    Add the commands to the parser's *commands*; *on_document* adds one that is about a document.
    """
    one = on_document(
        commands,
        "effects",
        "list the effects outside: runs with once=True, with key and receipt",
        _effects,
        requirements.STORE,
    )
    one.add_argument(
        "--json", action="store_true", help="print one JSON object for each effect; times are RFC 3339 in UTC"
    )
    one = on_document(commands, "send", "send an event to a durable handler", _send, requirements.DISPATCH)
    one.add_argument("event", help="name of the event")
    one.add_argument("payload", nargs="?", type=json.loads, metavar="JSON", help="its payload (default: null)")
    one.add_argument(
        "--id", dest="event_id", metavar="ID", help="an event with this id is stored once (default: a new id)"
    )
    one.add_argument("--json", action="store_true", help="print a JSON object")


def _effects(locker: Locker, chosen: argparse.Namespace) -> int:
    runtime = runtime_of(locker)
    _, lock = stored_chain(runtime, chosen.document)
    found = effects_of(journal.latest(journals.read(runtime.store, chosen.document, lock)))
    if chosen.json:
        tables.out(tables.json_line(SCHEMA, effect.as_data()) for effect in found)
    else:
        tables.out(printable(_line(effect)) for effect in found)
    if not found:
        tables.aside(f"{chosen.document}: its journal has no run with once=True.")
    return 0


def _line(effect: OutsideEffect) -> str:
    ended = "" if effect.ended is None else f", {effect.state} {instant(effect.ended)}"
    by = "" if effect.known_by == "call" else f" by {effect.known_by}"
    receipt = "" if effect.receipt is None else f", receipt {json.dumps(effect.receipt)}"
    state = ", its result is not known" if effect.ended is None else f"{ended}{by}"
    return f"{effect.name}: key {effect.key}, begun {instant(effect.begun)}{state}, token {effect.token}{receipt}"


def _send(locker: Locker, chosen: argparse.Namespace) -> int:
    sent = sending.send(runtime_of(locker), chosen.document, chosen.event, chosen.payload, id_=chosen.event_id)
    said = "stored" if sent.stored else "an event with this id was stored before"
    if sent.woke:
        said = (
            f"{said}; the handler waited for it, and {'is delivered' if sent.dispatched else 'the sweeper delivers it'}"
        )
    elif sent.late:
        said = f"{said}, after its wait had timed out"
    if chosen.json:
        data = {"document": chosen.document, "event": chosen.event, "id": sent.id, "stored": sent.stored}
        tables.out(
            [tables.json_line(_SENT, data | {"woke": sent.woke, "late": sent.late, "dispatched": sent.dispatched})]
        )
    else:
        tables.out([printable(f"{chosen.document}: event {chosen.event!r}, id {sent.id}: {said}")])
    return 0
