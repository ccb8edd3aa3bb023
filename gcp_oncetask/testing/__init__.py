"""
Tools for the tests of applications: the pytest fixture ``oncetask_cloud``, and its type ``OncetaskCloud``.

The local cloud is imported when ``OncetaskCloud`` is used, because every test run loads the pytest plugin, which must cost
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gcp_oncetask.testing.cloud import OncetaskCloud

__all__ = ["OncetaskCloud"]


def __getattr__(name: str) -> Any:
    if name != "OncetaskCloud":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from gcp_oncetask.testing.cloud import OncetaskCloud
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("gcp_emulator"):
            raise ModuleNotFoundError(
                "OncetaskCloud needs the extra: pip install 'gcp-oncetask[emulator]'", name=error.name
            ) from error
        raise
    globals()[name] = OncetaskCloud
    return OncetaskCloud


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
