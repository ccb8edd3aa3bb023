"""
The end of a delivery, which the pipeline hands to the endpoint.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from gcp_oncetask.observe.log_context import About, context_at
from gcp_oncetask.rules.delivery import Delivery
from gcp_oncetask.rules.outcome import Outcome


class Ended(NamedTuple):
    """
    The end of a delivery.

    Attributes:
        outcome: Outcome of the delivery; it decides the HTTP status.
        reason: A sentence for the log.
        about: The document, sequence, step and attempt that the log names before the reason; None: nothing is known.
    """

    outcome: Outcome
    reason: str
    about: About = None


def delivered(delivery: Delivery) -> About:
    """
    Return the document of a delivery, for log lines, before the document was read; the step is not known.
    """
    return partial(context_at, delivery.document, delivery.env, None, delivery.sequence)
