"""
Fixtures for tests of log lines.
"""

from __future__ import annotations

import io
import logging

import pytest

from gcp_oncetask.logs import CloudFormatter
from gcp_oncetask.observe.log_context import current
from tests.support.log_lines import CONTEXT, strictly


@pytest.fixture
def logger(request):
    """
    A logger of the test's own.
    """
    made = logging.getLogger(f"tests.{request.node.name}")
    made.propagate = False
    made.setLevel(1)
    yield made
    for handler in list(made.handlers):
        made.removeHandler(handler)


@pytest.fixture
def lines(logger):
    """
    Answers the lines that the logger has written through a CloudFormatter, decoded strictly.
    """
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(CloudFormatter("p"))
    logger.addHandler(handler)
    return lambda: [strictly(text) for text in stream.getvalue().splitlines()]


@pytest.fixture
def attempt():
    """
    Makes CONTEXT the current attempt.
    """
    token = current.set(CONTEXT)
    yield CONTEXT
    current.reset(token)
