"""
Mistakes in commits that share a call, each with the test that catches it.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

COALESCING = (
    Mutant(
        "two writes of one document go out in one call",
        "store/coalescing.py",
        "one.call is None and one.name not in names and size",
        "one.call is None and size",
        test="tests/unit/store/test_coalescing.py::test_two_writes_of_one_document_go_out_one_after_the_other",
    ),
    Mutant(
        "a call has any number of writes",
        "store/coalescing.py",
        "        if len(batch) == MOST_WRITES:\n",
        "        if False:\n",
        test="tests/unit/store/test_coalescing.py::test_a_call_has_so_many_writes_at_most",
    ),
    Mutant(
        "a call has any size",
        "store/coalescing.py",
        " and size + one.size <= MOST_BYTES:\n",
        ":\n",
        test="tests/unit/store/test_coalescing.py::test_a_call_has_so_many_bytes_at_most",
    ),
    Mutant(
        "a slow call counts as under way",
        "store/coalescing.py",
        "if elapsed(call.since, now) < SLOW]",
        "if elapsed(call.since, now) < 1e9]",
        test="tests/unit/store/test_coalescing.py::test_call_that_is_slow_holds_nobody_up",
    ),
    Mutant(
        "a write from within a transaction shares a call",
        "store/coalescing.py",
        "not self.on or _OPEN.get() or path",
        "not self.on or path",
        test="tests/unit/store/test_coalescing.py::test_writes_of_and_in_transactions_go_out_alone",
    ),
    Mutant(
        "a write of a document that a transaction has read shares a call",
        "store/coalescing.py",
        " or path in self._read:\n",
        ":\n",
        test="tests/unit/store/test_coalescing.py::test_writes_of_and_in_transactions_go_out_alone",
    ),
    Mutant(
        "a write that was sent counts as not applied at its deadline",
        "store/coalescing.py",
        'out_of_time(FailureClass.AMBIGUOUS, "no answer came',
        'out_of_time(FailureClass.CONTENTION, "no answer came',
        test="tests/unit/store/test_coalescing.py::test_deadline_that_ends_while_it_waits",
    ),
    Mutant(
        "a caller that gives up leaves its write to be sent",
        "store/coalescing.py",
        "                self._leave(traffic, mine)\n            return None, []\n",
        "            return None, []\n",
        test="tests/unit/store/test_coalescing.py::test_deadline_that_ends_while_it_waits",
    ),
    Mutant(
        "a caller that is ended while it waits keeps its place",
        "store/coalescing.py",
        "            with traffic.mutex:\n                self._leave(traffic, mine)\n            raise\n",
        "            raise\n",
        test="tests/unit/store/test_coalescing.py::test_caller_that_is_ended_while_it_waits_leaves_its_place",
    ),
    Mutant(
        "a refused call is refused for each of its writes",
        "store/coalescing.py",
        "        one.alone = True\n",
        "        pass\n",
        test="tests/unit/store/test_coalescing.py::test_call_that_is_refused_is_repeated_write_by_write",
    ),
    Mutant(
        "a thread that is ended while it sends leaves the others without an answer",
        "store/coalescing.py",
        (
            '                answers = [_raising(out_of_time(FailureClass.AMBIGUOUS, "its call '
            'has got no answer"))] * len(batch)\n'
        ),
        "                return\n",
        test=(
            "tests/unit/store/test_coalescing.py::test_thread_that_sends_a_call_and_is_ended_leaves_the_others_in_doubt"
        ),
    ),
    Mutant(
        "the child of a fork waits for the calls of its parent",
        "store/coalescing.py",
        "        if self._traffic.forks != forks.generation:\n            self._traffic = _Traffic()\n",
        "",
        test="tests/unit/store/test_coalescing.py::test_child_of_a_fork_begins_without_calls",
    ),
    Mutant(
        "a second try of a commit shares a call",
        "store/flow.py",
        "shares = self._shares and not self._tries and len",
        "shares = self._shares and len",
        test="tests/unit/store/test_flow.py::test_commit_may_share_a_call",
    ),
    Mutant(
        "a commit of two documents shares a call",
        "store/flow.py",
        "not self._tries and len(tried.message.writes) == 1\n",
        "not self._tries\n",
        test="tests/unit/store/test_flow.py::test_commit_may_share_a_call",
    ),
    Mutant(
        "a renewal shares a call",
        "rules/sharing.py",
        "        return before.status is Status.SCHEDULED and after.attempts == 1\n",
        "        return after.attempts == 1\n",
        test="tests/unit/rules/test_sharing.py::test_may_share_as_the_table_says",
    ),
    Mutant(
        "a second claim shares a call",
        "rules/sharing.py",
        "before.status is Status.SCHEDULED and after.attempts == 1\n",
        "before.status is Status.SCHEDULED\n",
        test="tests/unit/rules/test_sharing.py::test_may_share_as_the_table_says",
    ),
    Mutant(
        "a cancellation of a task that waits shares a call",
        "rules/sharing.py",
        "    return before.status is Status.LEASED\n",
        "    return True\n",
        test="tests/unit/rules/test_sharing.py::test_may_share_as_the_table_says",
    ),
    Mutant(
        "the time of a write that changed nothing counts as the server's time",
        "store/wire.py",
        'if result.HasField("update_time") and result.update_time != write.current_document.update_time\n',
        'if result.HasField("update_time")\n',
        test="tests/integration/store/test_server_time.py::test_answer_to_a_batch_of_writes_tells_the_time",
    ),
    Mutant(
        "an answer to a batch of writes tells no time",
        "store/wire.py",
        "        self._saw_changes(writes, response.write_results)\n",
        "",
        test="tests/integration/store/test_server_time.py::test_answer_to_a_batch_of_writes_tells_the_time",
    ),
)
