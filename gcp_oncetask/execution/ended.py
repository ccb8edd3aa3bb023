"""
How a delivery ended, from the pipeline to the endpoint.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from gcp_oncetask.observe.log_context import About, context_at
from gcp_oncetask.rules.delivery import Delivery
from gcp_oncetask.rules.outcome import Outcome


class Ended(NamedTuple):
    """
    How a delivery ended.

    Attributes:
        outcome: Decides the HTTP status.
        reason: A sentence for the log.
        about: The document, sequence, step and attempt that the log names before it; None: nothing is known.
    """

    outcome: Outcome
    reason: str
    about: About = None


def delivered(delivery: Delivery) -> About:
    """
    The document of a delivery, for a line in the log, before it was read: the step is not known.
    """
    return partial(context_at, delivery.document, delivery.env, None, delivery.sequence)
