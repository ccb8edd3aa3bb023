"""
Mistakes in commits that share a call, which histories catch.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

COALESCING_MUTANTS = (
    Mutant(
        "a call whose answer is lost counts as not applied",
        "store/coalescing.py",
        "    return _raising(WireError(FailureClass.AMBIGUOUS, error.code, error.message))\n",
        "    return _raising(WireError(FailureClass.CONTENTION, error.code, error.message))\n",
    ),
    Mutant(
        "the writes of a call have the status of its first one",
        "store/coalescing.py",
        "answers = [_answer(*each) for each in self._wire.batch_write([one.request.writes[0] for one in batch])]",
        (
            "found = self._wire.batch_write([one.request.writes[0] for one in batch])\n"
            "                answers = [_answer(each[0], found[0][1]) for each in found]"
        ),
    ),
    Mutant(
        "the results of a call go to its callers in the wrong order",
        "store/coalescing.py",
        "answers = [_answer(*each) for each in self._wire.batch_write([one.request.writes[0] for one in batch])]",
        (
            "answers = [_answer(*each) for each in self._wire.batch_write([one.request.writes[0] "
            "for one in batch])[::-1]]"
        ),
    ),
    Mutant(
        "a write in doubt that shared a call counts as not applied",
        "store/coalescing.py",
        "    return _raising(status_error(status))\n",
        "    return _raising(WireError(FailureClass.CONTENTION, status_error(status).code, status.message))\n",
    ),
)
