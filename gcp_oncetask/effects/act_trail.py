"""
The acts of people in the trail: written through the API of Cloud Logging, for the standard output of a person's own machine
is collected by no service.
"""

from __future__ import annotations

import logging
from typing import Final

from gcp_oncetask.observe.log_context import context_at
from gcp_oncetask.rules.act_lines import ACT, DONE, INTENDED, act_fields, act_line_id
from gcp_oncetask.rules.record import Act, Lock
from gcp_oncetask.runtime.runtime import Runtime

_ROLE: Final = "accounts with the role roles/logging.logWriter can write acts there"


def write_act(runtime: Runtime, act: Act, path: str, *, lock: Lock | None = None, intended: bool = False) -> str | None:
    """
    Write an act of a person to the trail, after its commit. It may be repeated: a line counts once.

    The deletion of a document leaves no record, so it is written before its commit too, as *intended*, with the same act.

    Args:
        runtime: Shared parts.
        act: The act.
        path: Path of the document.
        lock: The record of the document, of which the line has the key; None: not known.
        intended: Whether the commit of the act comes after this.

    Returns:
        A warning for the person, if the line was not written; it was logged, too. The act is not affected. None: it was
        written.
    """
    stage = INTENDED if intended else DONE
    context = context_at(path, runtime.config.env, lock, act.sequence, 0)
    message = f"{context}: {act.verb} by {act.by}"
    own = {"event": ACT, **context.fields, **act_fields(act, stage)}
    try:
        payload = {"message": message, "oncetask": own}
        runtime.request_log.write(payload, insert_id=act_line_id(path, act, stage), at=act.at)
    except Exception as error:  # noqa: BLE001 - the log may be the user's; the act is done or will be
        context.log(logging.WARNING, "the act %r is not in the trail (%s); %s", act.verb, error, _ROLE)
        return f"{path}: the act {act.verb!r} is not in the trail ({error}); {_ROLE}."
    return None
