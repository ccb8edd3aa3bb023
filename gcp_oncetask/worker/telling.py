"""
The lines of a process that does nothing but work: shown, unless somebody has set up logging.
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

    Only in the main thread, which is then the worker's own, and only where neither the root logger nor the library's has a
    handler: a process that has set up logging, with a NullHandler for instance, or that runs the worker beside other
    work, is left as it is. Lines stop here as soon as the root logger is given a handler.
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
