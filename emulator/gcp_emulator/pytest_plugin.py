"""
The pytest fixture ``gcp_emulator``. Nothing of the clouds is imported before a test asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from gcp_emulator.testing import InProcessCloud

PYTHON_NOTICE = "default:You are using a (non-supported )?Python version:FutureWarning:google[.]"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, object, object]:
    """
    Keep one warning a warning, even if ``filterwarnings`` makes every warning an error: the notice of Google's packages
    that the end of a Python version is near. It begins on a certain date, in the first module that imports them.

    The filter is inserted behind the one that makes errors, but before the later ones, so that a suite's own filter for
    this notice still holds.
    """
    filters: list[str] = early_config.getini("filterwarnings")
    general = [n for n, line in enumerate(filters) if re.match(r"\s*error(:\s*:|:?$)", line)]
    if general:
        filters.insert(general[-1] + 1, PYTHON_NOTICE)
    return (yield)


@pytest.fixture
def gcp_emulator() -> Iterator[InProcessCloud]:
    """
    A Google Cloud of this test alone, in its own process, on a virtual clock.
    """
    from gcp_emulator.testing import InProcessCloud

    cloud = InProcessCloud()
    try:
        yield cloud
    finally:
        cloud.close()
