"""
Show the library's log lines in a process that only runs a worker, unless logging is set up.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from gcp_oncetask.observe.log_context import LOGGER

_FORM: Final = "%(asctime)s %(levelname)s %(message)s"
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


@contextmanager
def shown() -> Iterator[None]:
    """
    Show the library's lines from INFO on, on standard error, while the block runs.

    It does so only in the main thread, which is then the worker's own, and only if neither the root logger nor the
    library's logger has a handler. So it changes nothing in a process that has set up logging, for instance with a
    NullHandler, or that runs the worker beside other work. The lines end as soon as the root logger is given a handler.
    """
    if threading.current_thread() is not threading.main_thread() or LOGGER.hasHandlers():
        yield
        return
    handler, level = logging.StreamHandler(), LOGGER.level
    formatter = logging.Formatter(_FORM, _TIME)
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    handler.addFilter(lambda _: not logging.getLogger().handlers)
    LOGGER.addHandler(handler)
    if level == logging.NOTSET:
        LOGGER.setLevel(logging.INFO)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(level)
