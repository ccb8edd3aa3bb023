"""
The project's Cloud Functions with handlers of the tests' own: what a user's ``functions/main.py`` looks like.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

_spec = importlib.util.spec_from_file_location("functions_main", ROOT / "functions" / "main.py")
assert _spec is not None
assert _spec.loader is not None
_main: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_main)

deliver, dispatch, sweep = _main.deliver, _main.dispatch, _main.sweep
_plain_app = _main.app


def app() -> Any:
    """
    The blueprint's app, with handlers.
    """
    from gcp_oncetask.flask import locked_handler
    from tests.support.branches import Branch
    from tests.support.orders import Order
    from tests.support.parcels import Parcel

    made = _plain_app()
    if "order" not in made.view_functions:
        handler = locked_handler(_main.locker(), Order)(lambda order, attempt: {"done": order.id, "key": attempt.key})
        made.add_url_rule("/tasks/order", "order", handler, methods=["POST"])
        branch = locked_handler(_main.locker(), Branch)(lambda entity, attempt: {"done": entity.id})
        made.add_url_rule("/tasks/branch", "branch", branch, methods=["POST"])
        _main.manager().register_task_handler(Parcel, lambda task, attempt: {"sent": task.data.number})
    return made


_main.app = app
