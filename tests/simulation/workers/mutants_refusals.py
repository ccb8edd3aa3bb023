"""
Mistakes about final refusals, which workers meet without a delivery.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

_CLAIM = "        attended = keys.attend_refused(runtime, error, holder=holder)\n"
_DIGESTS = "tests/integration/effects/test_refused_digests.py::"
WORKER_REFUSALS_MUTANTS = (
    Mutant(
        "a refused claim is told to nobody where no delivery has brought it",
        "execution/pipeline.py",
        _CLAIM,
        f"        if delivery.version is None:\n            return Ended(Outcome.REFUSED, str(error), about)\n{_CLAIM}",
        test="tests/integration/effects/test_refused_for_good.py::test_caller_that_is_refused_once_ends_the_record",
    ),
    Mutant(
        "a refused write for a digest of alerts is told to nobody",
        "recovery/digests.py",
        "        self.failed = True\n        self._complain(snapshot, error)\n",
        "        self.failed = True\n",
        test=f"{_DIGESTS}test_alerts_of_documents_that_take_no_write_are_sent",
    ),
    Mutant(
        "a worker takes a task for attended to whose alert can't be sent",
        "recovery/sweep.py",
        "    if digests.failed or swept.failed or swept.damaged:\n",
        "    if swept.failed or swept.damaged:\n",
        test=f"{_DIGESTS}test_task_of_workers_that_owes_an_alert_to_a_digest_does_not_stand_still_untold",
    ),
    Mutant(
        "a sent digest that can't be noted is told to nobody",
        "recovery/digests.py",
        "            except OncetaskError as error:\n                self._fails(snapshot, error)\n",
        "            except OncetaskError:\n                self.failed = True\n",
        test=f"{_DIGESTS}test_digest_that_was_sent_and_cannot_be_noted",
    ),
)
