"""
The pytest fixture ``gcp_emulator``. Nothing of the clouds is imported before a test asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from gcp_emulator.testing import InProcessCloud


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
