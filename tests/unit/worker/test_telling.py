"""
When the lines of a worker are shown by themselves.
"""

from __future__ import annotations

import io
import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gcp_oncetask.observe.log_context import LOGGER
from gcp_oncetask.worker.telling import shown


@contextmanager
def unconfigured() -> Iterator[io.StringIO]:
    """
    A process in which nobody has set up logging; its standard error.
    """
    stream = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        # Not in a fixture: pytest gives the root logger its handlers for each phase anew.
        patch.setattr("sys.stderr", stream)
        patch.setattr(logging.getLogger(), "handlers", [])
        yield stream
    assert LOGGER.handlers == []
    assert LOGGER.level == logging.NOTSET


def test_lines_are_shown_while_the_worker_runs() -> None:
    """
    From INFO on, with the time in UTC; before and after it the library is as silent as it was.
    """
    with unconfigured() as errors:
        LOGGER.info("before")
        with shown():
            LOGGER.debug("a detail")
            LOGGER.info("it starts")
            LOGGER.warning("trouble")
        LOGGER.info("after")

        assert [re.sub(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", "", line) for line in errors.getvalue().splitlines()] == [
            "INFO it starts",
            "WARNING trouble",
        ]


def test_what_somebody_has_set_up_stays() -> None:
    """
    A handler of the root logger, or of the library's, even one that drops everything; a level alone is heeded.
    """
    with unconfigured() as errors:
        for logger in (logging.getLogger(), LOGGER):
            handler = logging.NullHandler()
            logger.addHandler(handler)
            with shown():
                LOGGER.info("unseen")
                assert LOGGER.level == logging.NOTSET
            logger.removeHandler(handler)
        LOGGER.setLevel(logging.ERROR)
        with shown():
            LOGGER.info("unseen")
            LOGGER.error("seen")
        LOGGER.setLevel(logging.NOTSET)

        assert errors.getvalue().endswith("ERROR seen\n")
        assert "unseen" not in errors.getvalue()


def test_a_worker_beside_other_work_sets_up_nothing() -> None:
    """
    In another thread than the main one the library is embedded.
    """
    with unconfigured() as errors:

        def embedded() -> None:
            with shown():
                LOGGER.info("unseen")

        thread = threading.Thread(target=embedded)
        thread.start()
        thread.join()

        assert errors.getvalue() == ""


def test_logging_that_is_set_up_later_takes_over() -> None:
    """
    No line is shown twice.
    """
    with unconfigured() as errors:
        later = io.StringIO()
        with shown():
            logging.getLogger().addHandler(logging.StreamHandler(later))
            LOGGER.info("once")

        assert (errors.getvalue(), later.getvalue()) == ("", "once\n")
