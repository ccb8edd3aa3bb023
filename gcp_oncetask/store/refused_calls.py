"""
Refuse each remote call of this process over gRPC.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any


def refuse_calls(refuse: Callable[[str], None]) -> None:
    """
    Let each call of each channel of this process ask *refuse* first, which raises if it refuses. It is for processes that
    end soon: nothing takes it back.
    """
    for name, found in vars(import_module("grpc._channel")).items():
        if isinstance(found, type) and name.endswith("MultiCallable"):
            for method in ("__call__", "with_call", "future"):
                if method in vars(found):
                    setattr(found, method, _asking(refuse, vars(found)[method]))


def _asking(refuse: Callable[[str], None], call: Callable[..., Any]) -> Callable[..., Any]:
    def asking(self: Any, *args: Any, **options: Any) -> Any:
        method = getattr(self, "_method", b"")
        refuse(f"it calls {method.decode() if isinstance(method, bytes) else method}")
        return call(self, *args, **options)

    return asking
