"""
``make mutants``: the library with one mistake at a time; each must be caught by the default histories.

A mistake is a text of one file replaced by another. The table that this writes is kept in ``docs/mutants.md``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.simulation.locks_mutants import LOCK_MUTANTS
from tests.simulation.mutant import Mutant
from tests.simulation.runner import KINDS
from tests.simulation.tasks_mutants import TASK_MUTANTS
from tests.simulation.workers_mutants import WORKER_MUTANTS

ROOT = Path(__file__).parent.parent.parent
TABLE = ROOT / "docs" / "mutants.md"


MUTANTS = (
    Mutant(
        "settling without the fence",
        "rules/attempts.py",
        "    lost = fenced(lock, fence)\n    if lost is not None:\n        return lost\n    assert lock is not None\n    signed",
        "    assert lock is not None\n    signed",
    ),
    Mutant(
        "the fence asks for a lease, not for whose",
        "rules/attempts.py",
        "and lock.token == fence.token and lock.holder == fence.holder:",
        "and lock.sequence == fence.sequence:",
    ),
    Mutant(
        "a takeover does not look whether the judged holder is still there",
        "rules/expiry.py",
        "    lost = fenced(lock, fence)\n    if lost is not None:\n        return lost\n",
        '    if lock is None or lock.granted_at is None:\n        return Lost("gone", finished=True)\n',
    ),
    Mutant(
        "expiry judged by the local clock",
        "runtime/engine.py",
        "            read=snapshot.read,\n",
        "            read=snapshot.read and self.clock.now(),\n",
    ),
    Mutant(
        "a holder without evidence is taken over at once",
        "rules/expiry.py",
        'if finding == "unknown" and min(asked or at.read, at.read) <= timeout:',
        'if finding == "unknown" and at.read <= expires_at(lock):',
    ),
    Mutant(
        "a look moves the time since when it can be claimed",
        "rules/attention.py",
        "    if known is not None and (known.sequence, known.token) == (lock.sequence, lock.token):\n        return known\n",
        "",
    ),
    Mutant(
        "the time of an older grant counts",
        "rules/attention.py",
        "(known.sequence, known.token) == (lock.sequence, lock.token)",
        "known.sequence == lock.sequence",
    ),
    Mutant(
        "a holder without evidence is taken over at its run limit",
        "rules/writes.py",
        "    return max(timeout, max(lease_end, run_end) + timedelta(0, log_grace))\n",
        "    return max(timeout, max(lease_end, run_end) - timedelta(0, log_grace))\n",
    ),
    Mutant(
        "an end line is not waited for",
        "rules/evidence.py",
        "    if found.over is None or now >= found.over + log_grace:\n",
        "    if found.over is None or now >= found.over:\n",
    ),
    Mutant(
        "the words of a web server may stand anywhere in a line",
        "rules/evidence.py",
        "    said = _WORKER.fullmatch(text)\n",
        "    said = _WORKER.search(text)\n",
    ),
    Mutant(
        "whoever logs in the form of the web server is it",
        "rules/evidence.py",
        "    if by == place.pid or by != (by if place.parent is None else place.parent):\n        return False\n",
        "",
    ),
    Mutant(
        "data that a program logs replaces the fields of the attempt",
        "logs.py",
        "given if isinstance(given, Ours) else",
        "given if isinstance(given, dict) else",
    ),
    Mutant(
        "an ambiguous commit counts as done",
        "store/store.py",
        "                unsure = (decision, snapshot)\n",
        "                return Changed(decision, Snapshot(path, snapshot.version, snapshot.source, decision.lock))\n",
    ),
    Mutant(
        "an ambiguous commit that was applied counts as failed",
        "rules/attempts.py",
        "    if found is None:\n        return False\n    for name",
        "    return False\n    for name",
    ),
    Mutant(
        "the token starts anew with each step",
        "rules/writes.py",
        "        scheduled_by=nonce,\n        attempts=0,\n",
        "        scheduled_by=nonce,\n        attempts=0,\n        token=0,\n",
    ),
    Mutant(
        "the due time is forgotten when a step is scheduled",
        "rules/writes.py",
        "    return Put(made, Outcome.CONTINUED, dispatch=True)\n",
        "    return Put(made.but(due=None), Outcome.CONTINUED, dispatch=True)\n",
    ),
    Mutant(
        "the due time is forgotten at a grant",
        "rules/writes.py",
        "        instance=claimant.instance,\n    )\n    return Put(granted)\n",
        "        instance=claimant.instance,\n    )\n    return Put(granted.but(due=None))\n",
    ),
    Mutant(
        "the due time stays when the chain has ended",
        "rules/writes.py",
        "    return Put(with_due(lock, at, status=status, wait_until=None, parked=None, **changes), outcome)\n",
        "    return Put(lock.but(status=status, wait_until=None, parked=None, **changes), outcome)\n",
    ),
    Mutant("contents travel after a merge", "runtime/engine.py", "if limit and snapshot.whole and", "if limit and"),
    Mutant(
        "a 2xx in the request log counts as success",
        "rules/evidence.py",
        "    found = _found(holder, by_event, lines)\n",
        "    found = _found(holder, by_event, lines)\n"
        "    if any(line.status == 200 and _is_request(holder, None, line) for line in lines):\n"
        '        return Verdict(Finding.RECORDED, "2xx", {"kind": "complete", "nonce": "mutant"}, ())\n',
    ),
    Mutant(
        "a settling is not decided again on what is there now",
        "store/store.py",
        "            decision = ask(snapshot)\n",
        "            decision = ask(snapshot) if tries == 0 else decision\n",
    ),
    Mutant(
        "renewals have no end",
        "rules/writes.py",
        "    return min(lease_end, run_end)\n",
        "    return max(lease_end, run_end) if lock.run_limit_seconds < 0 else lease_end\n",
    ),
    Mutant("attempts are not counted", "rules/writes.py", "        attempts=lock.attempts + 1,\n", ""),
    Mutant(
        "a finished step runs again for a duplicate",
        "rules/attempts.py",
        "    if lock.finished or lock.status is Status.QUARANTINED:\n",
        "    if lock.status is Status.QUARANTINED:\n",
    ),
    Mutant(
        "a step runs before its time",
        "rules/attempts.py",
        "    if lock.wait_until is None or at.now >= lock.wait_until:\n",
        "    if True:\n",
    ),
    Mutant(
        "writes without the precondition",
        "store/snapshot.py",
        "            message.current_document.update_time.CopyFrom(snapshot.version)\n",
        "                pass\n",
    ),
    Mutant(
        "a transaction reads its document outside of itself",
        "store/transaction.py",
        "store.wire.batch_get([path], transaction=transaction.id)[path]",
        "store.wire.batch_get([path])[path]",
    ),
    Mutant(
        "steps count from the last one",
        "rules/attempts.py",
        "    made = writes.scheduled(lock, target, nonce, at, base=lock.base)",
        "    made = writes.scheduled(lock, target, nonce, at, base=lock.sequence)",
    ),
    Mutant(
        "each attempt has a key of its own",
        "execution/attempt.py",
        "self.context.document, lock.keyed, lock.granted)",
        "self.context.document, lock.token, lock.granted)",
    ),
    Mutant(
        "a cancelled chain goes on",
        "rules/attempts.py",
        "    if writes.stopped(lock):\n        return writes.cancelled(lock, at)\n    if superseded(lock):\n",
        "    if superseded(lock):\n",
    ),
    Mutant(
        "a takeover owes no alert",
        "rules/expiry.py",
        'owing = noted if finding == "never-started" else writes.owe(noted, Event.TAKEOVER, reason, evidence, at)',
        "owing = noted",
    ),
    Mutant(
        "an alert that was not sent counts as sent",
        "effects/courier.py",
        "        else:\n            sent.append(owed.id)\n",
        "        sent.append(owed.id)\n",
    ),
    Mutant(
        "what was lent to one digest is lent to another one",
        "rules/owing.py",
        " and o.id in seen and o.digest == seen[o.id])",
        " and o.id in seen)",
    ),
    Mutant(
        "alerts are lent to a digest without its id",
        "recovery/digests.py",
        "courier.take(self._engine, snapshot, seen, id_)",
        "courier.take(self._engine, snapshot, seen)",
    ),
    Mutant(
        "nobody goes on with a digest whose sender has died",
        "recovery/digests.py",
        "        for id_, entries in self._lent.items():\n",
        "        for id_, entries in dict[str, list[Entry]]().items():\n",
    ),
    Mutant(
        "what bears the id of a digest is sent by itself once its sender is overdue",
        "recovery/digests.py",
        "            if owed.digest is not None:\n",
        "            if owed.digest is not None and owed.digest.startswith(WAITS):\n",
    ),
    Mutant(
        "a handler starts however long its claim took",
        "execution/pipeline.py",
        "    if elapsed(run.mark, engine.clock.mark()) > job.policy.lease / 2:",
        "    if False:",
    ),
    Mutant(
        "a holder counts its lease from the answer",
        "execution/pipeline.py",
        "        mark=run.mark,\n        context=context,",
        "        mark=engine.clock.mark(),\n        context=context,",
    ),
    Mutant(
        "a holder measures with the wall clock alone",
        "clock.py",
        "    return max(end.monotonic - start.monotonic, end.boottime - start.boottime, end.wall - start.wall)\n",
        "    return end.wall - start.wall\n",
    ),
)


ALL = MUTANTS + TASK_MUTANTS + LOCK_MUTANTS + WORKER_MUTANTS


def caught(mutant: Mutant | None, seeds: int, kind: str = "chains") -> int | None:
    """
    The first seed of a *kind* that fails with *mutant* (None: without any), or None if none does.

    Raises:
        RuntimeError: The mutant does not apply, or its histories could not be played.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        shutil.copytree(ROOT / "gcp_oncetask", copy / "gcp_oncetask")
        if mutant is not None:
            target = copy / "gcp_oncetask" / mutant.file
            text = target.read_text()
            if text.count(mutant.old) != 1:
                raise RuntimeError(f"{mutant.mistake}: its text is {text.count(mutant.old)} times in {mutant.file}")
            target.write_text(text.replace(mutant.old, mutant.new))
        paths = os.pathsep.join([str(copy), str(ROOT), str(ROOT / "emulator")])
        command = [sys.executable, "-m", "tests.simulation", "--quiet", "--jobs", "1", "--seeds", str(seeds)]
        command += ["--kind", kind if mutant is None else mutant.kind]
        done = subprocess.run(
            command, cwd=copy, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False
        )
    if done.returncode == 0:
        return None
    said = done.stdout.split()
    if not said or not said[-1].isdigit():
        raise RuntimeError(done.stderr[-2000:])
    return int(said[-1])


def main() -> int:
    """
    Play, print, write the table; exit 1 if a mutant survived.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants", description=__doc__)
    many = {kind: sort.many for kind, sort in KINDS.items()}
    told = "(default: %(default)s)"
    parser.add_argument("--seeds", type=int, default=many["chains"], help=f"histories of chains for each {told}")
    parser.add_argument("--task-seeds", type=int, default=many["tasks"], help=f"histories of once-tasks {told}")
    parser.add_argument("--lock-seeds", type=int, default=many["locks"], help=f"histories of locks {told}")
    parser.add_argument("--worker-seeds", type=int, default=many["workers"], help=f"histories of workers {told}")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at once (default: %(default)s)")
    parser.add_argument("--only", help="mutants whose mistake contains this")
    parser.add_argument("--kind", choices=KINDS, help="mutants of this kind")
    chosen = parser.parse_args()
    chosen_ones = [m for m in ALL if (chosen.only or "") in m.mistake and chosen.kind in (None, m.kind)]
    seeds = {"chains": chosen.seeds, "tasks": chosen.task_seeds}
    seeds |= {"locks": chosen.lock_seeds, "workers": chosen.worker_seeds}
    kinds = dict.fromkeys(m.kind for m in chosen_ones)
    print("the library as it is ...", flush=True)
    with ThreadPoolExecutor(chosen.jobs) as pool:
        plain = dict(zip(kinds, pool.map(lambda kind: caught(None, seeds[kind], kind), kinds), strict=True))
    for kind, seed in plain.items():
        if seed is not None:
            print(
                f"{kind}: seed {seed} fails without any mutant: python -m tests.simulation --kind {kind} --story {seed}"
            )
            return 1
    rows = []
    with ThreadPoolExecutor(chosen.jobs) as pool:
        for mutant, seed in zip(chosen_ones, pool.map(lambda m: caught(m, seeds[m.kind]), chosen_ones), strict=True):
            found = "SURVIVED" if seed is None else f"seed {seed}"
            rows.append((mutant, found))
            print(f"{found:>28}  {mutant.mistake}", flush=True)
    survived = sum(found == "SURVIVED" for _, found in rows)
    if len(chosen_ones) == len(ALL):
        TABLE.write_text(_table(rows, seeds))
    print(f"{len(rows) - survived} of {len(rows)} mutants were caught")
    return int(bool(survived))


def _table(rows: list[tuple[Mutant, str]], seeds: dict[str, int]) -> str:
    lines = [
        "# Mistakes that the simulation catches",
        "",
        "Written by `make mutants`: the library with one mistake at a time, stopped at the first history that breaks the",
        f"promise, of {seeds['chains']} of chains of entities, {seeds['tasks']} of once-tasks, {seeds['locks']} of locks and",
        f"runs, or {seeds['workers']} of workers. Without a mistake all pass.",
        "",
        "| mistake | in | histories of | caught by |",
        "|---|---|---|---|",
        *(f"| {mutant.mistake} | `{mutant.file}` | {mutant.kind} | {found} |" for mutant, found in rows),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
