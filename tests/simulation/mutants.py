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

from tests.simulation.chains.mutants import CHAIN_MUTANTS
from tests.simulation.locks.mutants import LOCK_MUTANTS
from tests.simulation.mutant import Mutant
from tests.simulation.runner import KINDS
from tests.simulation.tasks.mutants import TASK_MUTANTS
from tests.simulation.workers.mutants import WORKER_MUTANTS

ROOT = Path(__file__).parent.parent.parent
TABLE = ROOT / "docs" / "mutants.md"

ALL = CHAIN_MUTANTS + TASK_MUTANTS + LOCK_MUTANTS + WORKER_MUTANTS


def caught(mutant: Mutant | None, seeds: int, kind: str = "chains") -> int | None:
    """
    The first seed of a *kind* that fails with *mutant* (None: without any), or None if none does.

    Raises:
        RuntimeError: The mutant does not apply, or its histories could not be played.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        shutil.copytree(ROOT / "gcp_oncetask", copy / "gcp_oncetask")
        for file, old, new in [] if mutant is None else mutant.edits:
            target = copy / "gcp_oncetask" / file
            text = target.read_text()
            if text.count(old) != 1:
                raise RuntimeError(f"{mutant and mutant.mistake}: its text is {text.count(old)} times in {file}")
            target.write_text(text.replace(old, new))
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
        "`make mutants` writes this page. It plays the library with one mistake at a time, and stops at the first history that",
        f"breaks the promise. It plays {seeds['chains']} histories of chains of entities, {seeds['tasks']} of once-tasks,",
        f"{seeds['locks']} of locks and runs, or {seeds['workers']} of workers. Without a mistake all pass.",
        "",
        "| mistake | in | histories of | caught by |",
        "|---|---|---|---|",
        *(f"| {mutant.mistake} | `{mutant.file}` | {mutant.kind} | {found} |" for mutant, found in rows),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
