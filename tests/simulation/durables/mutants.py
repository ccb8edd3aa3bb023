"""
Mistakes in durable handlers, each to be caught by their histories.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

DURABLE_MUTANTS = (
    Mutant(
        "an intent is not among the open runs",
        "rules/journal.py",
        "        open=still if write.opened is None else (*still, write.opened),\n",
        "        open=still,\n",
        "durables",
    ),
    Mutant(
        "a run whose fate is known stays open",
        "rules/journal.py",
        "    gone = {write.closed, None if",
        "    gone = {None, None if",
        "durables",
    ),
    Mutant(
        "events that were taken stay in the mailbox",
        "rules/journal.py",
        "    after = waits.without(lock, taken).but(\n",
        "    after = lock.but(\n",
        "durables",
    ),
    Mutant(
        "entries that are sealed are lost",
        "rules/journal.py",
        "        rows = ()\n",
        "        rows, chunks = (), lock.chunks\n",
        "durables",
    ),
    Mutant(
        "a wait that a grant has ended leaves no entry",
        "rules/journal.py",
        "    ended = entry_of(lock)\n    entries = (\n",
        "    ended = None\n    entries = (\n",
        "durables",
    ),
    Mutant(
        "a record needs for ever what it needed once",
        "rules/journal.py",
        "    kept = [need for need in lock.needs if need not in _FEATURES]\n",
        "    kept = list(lock.needs)\n",
        "durables",
    ),
    Mutant(
        "a time-out ends nothing",
        "rules/waits.py",
        "        return replace(wait, ended=Woken.TIME)\n",
        "        return None\n",
        "durables",
    ),
    Mutant(
        "a word does not look into the journal",
        "execution/journaling.py",
        "        entry = self.kept.get(name)\n        if entry is None and was",
        "        entry = None\n        if entry is None and was",
        "durables",
    ),
    Mutant(
        "an event that is taken later is not noted as taken",
        "execution/journal_commits.py",
        "                self.taken.append(taken)\n",
        "                pass\n",
        "durables",
    ),
    Mutant(
        "a suspension forgets the entries that wait for a commit",
        "execution/journal_ends.py",
        "            write = self.write_with(entries, progress=progress)\n",
        "            write = self.write_with(entries, progress=progress)._replace(entries=tuple(entries))\n",
        "durables",
    ),
    Mutant(
        "an intent is not committed before the call",
        "execution/durable_runs.py",
        "            journal.commit([entry], opened=opened, progress=False)\n",
        "            journal.later(entry)\n",
        "durables",
    ),
)
