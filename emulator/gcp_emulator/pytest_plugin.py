"""
The pytest fixture ``gcp_emulator``. Nothing of the clouds is imported before a test asks for it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Generator, Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from gcp_emulator.testing import InProcessCloud


class _Unchanged:
    """
    A finder of this package's modules that comes before pytest's own. Pytest would rewrite the assertions of each module of a
    distribution with a plugin, in each run anew where Python keeps no bytecode.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """
        Find the module as Python does.
        """
        return PathFinder.find_spec(name, path, target) if name.startswith("gcp_emulator.") else None


sys.meta_path.insert(0, _Unchanged())

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
