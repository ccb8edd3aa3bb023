"""
Mistakes in once-tasks and workers, each with the test that catches it.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

TASKS = (
    Mutant(
        "all missed runs are made",
        "tasks/recurrence/advancing.py",
        '    limit = recurrence.misfire_limit if recurrence.misfire == "all" else 1\n',
        "    limit = recurrence.misfire_limit\n",
        test="tests/unit/tasks/recurrence/test_advance.py::test_outage_of_a_per_second_rule_costs_what_a_short_one_does",
    ),
    Mutant(
        "a run is made however late",
        "tasks/recurrence/advancing.py",
        '    if recurrence.misfire == "skip" and spawn and now - spawn[0] > MISFIRE_GRACE:\n',
        "    if False:\n",
        test="tests/unit/tasks/recurrence/test_advance.py::test_missed_runs_are_handled_as_the_policy_says",
    ),
    Mutant(
        "missed runs are made the newest first",
        "tasks/recurrence/advancing.py",
        "    return Advance(tuple(reversed(spawn)), ",
        "    return Advance(tuple(spawn), ",
        test="tests/unit/tasks/recurrence/test_advance.py::test_missed_runs_are_handled_as_the_policy_says",
    ),
    Mutant(
        "dropped runs are not told",
        "tasks/recurrence/advancing.py",
        "    dropped = bool(spawn) and (oldest",
        "    dropped = False and (oldest",
        test="tests/unit/tasks/recurrence/test_advance.py::test_outage_of_a_per_second_rule_costs_what_a_short_one_does",
    ),
    Mutant(
        "a rider of a batch relies on its own lease alone",
        "execution/running.py",
        "        if leader is None:\n            return self.left()\n",
        "        if True:\n            return self.left()\n",
        test="tests/integration/tasks/test_batches.py::test_rider_relies_on_its_lease_no_longer_than_its_leader",
    ),
    Mutant(
        "a batch leases tasks after the lease of its leader",
        "tasks/batch.py",
        "            if leader.held_for() <= 0:\n                return _NOT_NOW\n",
        "",
        test="tests/integration/tasks/test_batches.py::test_no_rider_is_leased_once_the_lease_of_the_leader_is_over",
    ),
    Mutant(
        "a rider of a batch relies on its own lease once its leader has ended",
        "execution/running.py",
        "        if leader is None:\n            return self.left()\n",
        "        if leader is None or leader.settled is not None:\n            return self.left()\n",
        test="tests/integration/tasks/test_batches.py::"
        "test_rider_relies_on_nothing_once_its_leader_has_given_the_key_back",
    ),
    Mutant(
        "a worker forgets a skipped task between two queries of a round",
        "worker/fetcher.py",
        "            later = {path for path, one",
        "            self._later = {path: one for path, one in self._later.items() if elapsed(one.since, now) < one.kept}\n"
        "            later = {path for path, one",
        test="tests/integration/worker/test_fetcher.py::"
        "test_skipped_task_is_queried_again_though_its_time_ends_between_two_queries",
    ),
    Mutant(
        "a claim that is tried again for a task that was made again leaves its key as it was",
        "effects/keys.py",
        "put.lock.token, self._runtime.clock.nonce())",
        'put.lock.token, put.lock.holder or "")',
        test="tests/integration/effects/test_resource_key_races.py::"
        "test_claim_of_a_task_that_was_made_again_changes_its_key",
    ),
)
