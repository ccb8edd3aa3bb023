"""
Mistakes about sessions of workers that people delete or damage.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

WORKER_SESSION_MUTANTS = (
    Mutant(
        "a worker does not make its session again that somebody has deleted",
        "store/sessions.py",
        "            return _on(store, request, store.get(store.wire.path(request.writes[0].update.name)).version)\n",
        "            known = store.get(store.wire.path(request.writes[0].update.name)).version\n"
        "            if known is None:\n"
        "                raise\n"
        "            return _on(store, request, known)\n",
        "workers",
    ),
    Mutant(
        "a damaged session stops every worker",
        "store/sessions.py",
        " or not isinstance(beat_at, datetime):\n",
        ":\n",
        "workers",
    ),
    Mutant(
        "a session counts whose last heartbeat lies ahead",
        "store/sessions.py",
        "    late = read is not None and beat_at > read\n",
        "    late = False\n",
        test="tests/integration/worker/test_sessions.py::test_a_damaged_session_hurts_no_other_worker",
    ),
)
