"""
A local Google Cloud: real protocols on loopback, for unmodified Google clients.

Each service is a folder or file of its own and works alone; ``cloud.LocalCloud`` starts them together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("gcp-oncetask-emulator")
    except PackageNotFoundError:
        # The package is on a path, but was not installed.
        return "0+unknown"


def __dir__() -> list[str]:
    return sorted({*globals(), "__version__"})
