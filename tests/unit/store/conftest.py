"""
The local Firestore of a test of the store.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.base import Base


@pytest.fixture
def base() -> Iterator[Base]:
    base = Base()
    yield base
    base.cloud.close()
