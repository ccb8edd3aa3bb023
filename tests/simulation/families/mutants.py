"""
Mistakes in children, maps, pages, polls and named transactions, each to be caught by their histories.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

FAMILY_MUTANTS = (
    Mutant(
        "an item of a map whose result is kept is called again",
        "execution/mapping.py",
        "                continue\n            elif until is not None and",
        "                self._todo.append(index)\n            elif until is not None and",
        "families",
        check="families: … is called, and its entry has its result",
    ),
    Mutant(
        "a map tolerates one failure more",
        "execution/mapping.py",
        "        return len(self._failed) <= self._tolerate\n",
        "        return len(self._failed) <= self._tolerate + 1\n",
        "families",
        check="families: … has returned with … failures, and … may be",
    ),
    Mutant(
        "the ids of children are drawn anew by each attempt",
        "execution/child_tasks.py",
        '    nonce = str(more["nonce"])\n    wait = journal.lock.wait\n',
        '    nonce = str(more["nonce"]) + str(journal.attempt.granted.token)\n    wait = journal.lock.wait\n',
        "families",
        also=(
            "execution/child_tasks.py",
            '    nonce = str((entry.more or {})["nonce"])\n    group',
            '    nonce = str((entry.more or {})["nonce"]) + str(attempt.granted.token)\n    group',
        ),
        check="families: it is made for the same word as …",
    ),
    Mutant(
        "a child that has failed is told to its parent as ended",
        "rules/family.py",
        "    return ENDED if lock.status is Status.COMPLETED else FAILED\n",
        "    return ENDED\n",
        "families",
        check="families: it is …, and its parent is told that it is …",
    ),
    Mutant(
        "the first child that ends wakes its parent",
        "effects/kin.py",
        "    if not _count(runtime, group, family.OPEN, 1):\n        _wake",
        "    if _count(runtime, group, family.OPEN, 1) <= 1:\n        _wake",
        "families",
        check="families: it is woken by its children, and … of them have not ended",
    ),
    Mutant(
        "the last child that ends leaves its parent to the sweep",
        "effects/kin.py",
        "    if not _count(runtime, group, family.OPEN, 1):\n        _wake",
        "    if False:\n        _wake",
        "families",
        check="families: its children have ended, and it was not woken",
    ),
    Mutant(
        "the cancellation of children is noted and not asked for",
        "effects/kin.py",
        "            cancelled += _cancel_group(runtime, group, begun=not mark.endswith(family.NOT_BEGUN))\n",
        "            cancelled += 0 if group else 1\n",
        "families",
        check="families: the cancellation of its child … is not owed any more, and was not asked for",
    ),
    Mutant(
        "children that have ended are kept for the longer time for ever",
        "effects/kin.py",
        "            expiring.bring_forward(runtime.store, family.group_of(snapshot.path, nonce))\n",
        "            family.group_of(snapshot.path, nonce)\n",
        "families",
        check="families: its parent has ended, and it is kept until …",
    ),
    Mutant(
        "the cursor is moved before the items of its page",
        "execution/paging.py",
        "                yield from items\n",
        "                self._turn(cursor, names)\n                yield from items\n",
        "families",
        check="families: page … of … is fetched, and … were not handled",
    ),
    Mutant(
        "a page drops the words that were said outside of its loop",
        "execution/paging.py",
        "        self._keep_others(journal.last_ordinal, set(names))\n",
        "",
        "families",
        check="durables: the journal has lost …",
    ),
    Mutant(
        "a named transaction does not look into the journal",
        "execution/durable_transaction.py",
        "    if entry is not None and entry.state is EntryState.DONE:\n",
        "    if entry is not None and entry.state is EntryState.DONE and not name:\n",
        "families",
        check="families: a named transaction has taken effect … times",
    ),
    Mutant(
        "a round of a poll forgets the state of the one before",
        "execution/polling.py",
        '        before = journal.answer(entry, self._as) if more["rounds"] else None\n',
        "        before = None\n",
        "families",
        check="families: a round of … begins with …, and … is kept",
    ),
)
