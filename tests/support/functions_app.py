"""
The project's Cloud Functions with handlers of the tests' own: what a user's ``functions/main.py`` looks like.
"""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
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
_plain_routes = _main.routes


@cache
def routes() -> Any:
    """
    Those of the file, and handlers of entities.
    """
    from gcp_oncetask.entities.handler import entity_handler
    from tests.support.branches import Branch
    from tests.support.orders import Order
    from tests.support.parcels import Parcel

    _main.manager().register_task_handler(Parcel, lambda task, attempt: {"sent": task.data.number})
    order = entity_handler(_main.locker(), Order)(lambda order, attempt: {"done": order.id, "key": attempt.key})
    branch = entity_handler(_main.locker(), Branch)(lambda entity, attempt: {"done": entity.id})
    return {**_plain_routes(), "/tasks/order": order, "/tasks/branch": branch}


_main.routes = routes
