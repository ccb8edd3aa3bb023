"""
The pytest plugin; it imports the local cloud only when its fixture is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from gcp_oncetask.testing.cloud import OncetaskCloud


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
