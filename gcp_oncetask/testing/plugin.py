"""
The pytest plugin; it imports the local cloud only when its fixture is used.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from gcp_oncetask.testing.cloud import OncetaskCloud


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
        return PathFinder.find_spec(name, path, target) if name.startswith("gcp_oncetask.") else None


sys.meta_path.insert(0, _Unchanged())


@pytest.fixture
def oncetask_cloud() -> Iterator[OncetaskCloud]:
    """
    A local Google Cloud for this test, on a virtual clock.

    Raises:
        ModuleNotFoundError: The extra ``emulator`` is not installed.
    """
    try:
        from gcp_oncetask.testing.cloud import OncetaskCloud
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("gcp_emulator"):
            raise pytest.UsageError("oncetask_cloud needs the extra: pip install 'gcp-oncetask[emulator]'") from None
        raise
    cloud = OncetaskCloud()
    try:
        yield cloud
    finally:
        cloud.stop()
