"""
``make mutants``: the library with one mistake at a time. Each must be caught by the default histories, or by the test that it
names; and each check of the histories must be tripped by a mutant.

A mistake is a text of one file replaced by another. The table that this writes is kept in
``docs/explanation/mutants.md``; the seeds in it are played first.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.simulation.chains.mutants import CHAIN_MUTANTS
from tests.simulation.chains.mutants_checks import CHAINS_CHECK_MUTANTS
from tests.simulation.chains.mutants_clocks import CHAIN_CLOCK_MUTANTS
from tests.simulation.chains.mutants_coalescing import COALESCING_MUTANTS
from tests.simulation.chains.mutants_deployments import DEPLOYMENTS_MUTANTS
from tests.simulation.chains.mutants_foreigners import FOREIGNERS_MUTANTS
from tests.simulation.chains.mutants_misroutes import MISROUTE_MUTANTS
from tests.simulation.chains.mutants_neighbours import NEIGHBOURS_MUTANTS
from tests.simulation.chains.mutants_network import NETWORK_MUTANTS
from tests.simulation.chains.mutants_people import CHAIN_PEOPLE_MUTANTS
from tests.simulation.chains.mutants_tripped import TRIPPED_CHAIN_MUTANTS
from tests.simulation.chains.mutants_untripped import UNTRIPPED_CHAIN_MUTANTS
from tests.simulation.chains.mutants_versions import VERSION_MUTANTS
from tests.simulation.chains.mutants_wire import CHAIN_WIRE_MUTANTS
from tests.simulation.durables.mutants import DURABLE_MUTANTS
from tests.simulation.families.mutants import FAMILY_MUTANTS
from tests.simulation.kept import Caught, Kept
from tests.simulation.locks.mutants import LOCK_MUTANTS
from tests.simulation.locks.mutants_checks import LOCKS_CHECK_MUTANTS
from tests.simulation.locks.mutants_clocks import LOCK_CLOCK_MUTANTS
from tests.simulation.locks.mutants_damages import LOCK_DAMAGES_MUTANTS
from tests.simulation.locks.mutants_listeners import WAITER_MUTANTS
from tests.simulation.locks.mutants_people import LOCK_PEOPLE_MUTANTS
from tests.simulation.locks.mutants_reads import READ_MUTANTS
from tests.simulation.locks.mutants_releases import RELEASE_MUTANTS
from tests.simulation.locks.mutants_tripped import TRIPPED_LOCK_MUTANTS
from tests.simulation.locks.mutants_untripped import UNTRIPPED_LOCK_MUTANTS
from tests.simulation.mutant import Mutant
from tests.simulation.named_checks import names
from tests.simulation.runner import KINDS
from tests.simulation.tasks.mutants import TASK_MUTANTS
from tests.simulation.tasks.mutants_checks import TASKS_CHECK_MUTANTS
from tests.simulation.tasks.mutants_damages import TASK_DAMAGES_MUTANTS
from tests.simulation.tasks.mutants_generators import GENERATOR_MUTANTS
from tests.simulation.tasks.mutants_people import TASK_PEOPLE_MUTANTS
from tests.simulation.tasks.mutants_tripped import TRIPPED_TASK_MUTANTS
from tests.simulation.tasks.mutants_ttl import TASK_TTL_MUTANTS
from tests.simulation.tasks.mutants_untripped import UNTRIPPED_TASK_MUTANTS
from tests.simulation.tasks.mutants_wire import TASK_WIRE_MUTANTS
from tests.simulation.tested import TESTED_MUTANTS
from tests.simulation.untripped import UNTRIPPED
from tests.simulation.workers.mutants import WORKER_MUTANTS
from tests.simulation.workers.mutants_checks import WORKERS_CHECK_MUTANTS
from tests.simulation.workers.mutants_listeners import LISTENER_MUTANTS
from tests.simulation.workers.mutants_refusals import WORKER_REFUSALS_MUTANTS
from tests.simulation.workers.mutants_sessions import WORKER_SESSION_MUTANTS
from tests.simulation.workers.mutants_tripped import TRIPPED_WORKER_MUTANTS
from tests.simulation.workers.mutants_untripped import UNTRIPPED_WORKER_MUTANTS
from tests.simulation.workers.mutants_wire import WORKER_WIRE_MUTANTS

ROOT = Path(__file__).parent.parent.parent
TABLE = ROOT / "docs" / "explanation" / "mutants.md"
STATE = ROOT / "build" / "mutants.json"
_PLAIN = "the library as it is"

ALL = CHAIN_MUTANTS + TASK_MUTANTS + LOCK_MUTANTS + WORKER_MUTANTS
ALL += CHAINS_CHECK_MUTANTS + TASKS_CHECK_MUTANTS + LOCKS_CHECK_MUTANTS + WORKERS_CHECK_MUTANTS
ALL += UNTRIPPED_CHAIN_MUTANTS + UNTRIPPED_TASK_MUTANTS + UNTRIPPED_LOCK_MUTANTS + UNTRIPPED_WORKER_MUTANTS
ALL += TRIPPED_CHAIN_MUTANTS + TRIPPED_TASK_MUTANTS + TRIPPED_LOCK_MUTANTS + TRIPPED_WORKER_MUTANTS
ALL += CHAIN_WIRE_MUTANTS + TASK_WIRE_MUTANTS + WORKER_WIRE_MUTANTS
ALL += CHAIN_CLOCK_MUTANTS + LOCK_CLOCK_MUTANTS + NETWORK_MUTANTS + VERSION_MUTANTS
ALL += WAITER_MUTANTS + READ_MUTANTS + RELEASE_MUTANTS + GENERATOR_MUTANTS + LISTENER_MUTANTS
ALL += CHAIN_PEOPLE_MUTANTS + TASK_PEOPLE_MUTANTS + LOCK_PEOPLE_MUTANTS
ALL += FOREIGNERS_MUTANTS + MISROUTE_MUTANTS + NEIGHBOURS_MUTANTS + DEPLOYMENTS_MUTANTS
ALL += TASK_DAMAGES_MUTANTS + TASK_TTL_MUTANTS + LOCK_DAMAGES_MUTANTS
ALL += COALESCING_MUTANTS + WORKER_REFUSALS_MUTANTS + WORKER_SESSION_MUTANTS
ALL += DURABLE_MUTANTS + FAMILY_MUTANTS
ALL += TESTED_MUTANTS


def caught(mutant: Mutant, seeds: int, known: int | None = None) -> Caught | None:
    """
    How *mutant* is caught; None if it survives.

    Args:
        mutant: The mutant.
        seeds: How many histories are played at most.
        known: The seed that caught it last, which is played first.

    Raises:
        RuntimeError: The mutant does not apply, or its histories or tests could not be run.
    """
    with _made(mutant) as copy:
        if mutant.test is not None:
            return Caught(mutant.test) if _fails(copy, [mutant.test]) else None
        again = None if known is None else _played(copy, mutant.kind, known, 1, mutant.check)
        return again or (_played(copy, mutant.kind, 0, seeds, mutant.check) if seeds else None)


@contextmanager
def _made(mutant: Mutant | None) -> Iterator[Path]:
    """
    A copy of the library with *mutant*.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        shutil.copytree(ROOT / "gcp_oncetask", copy / "gcp_oncetask", ignore=shutil.ignore_patterns("__pycache__"))
        for file, old, new in [] if mutant is None else mutant.edits:
            target = copy / "gcp_oncetask" / file
            text = target.read_text()
            if text.count(old) != 1:
                raise RuntimeError(f"{mutant and mutant.mistake}: its text is {text.count(old)} times in {file}")
            target.write_text(text.replace(old, new))
        yield copy


def _played(copy: Path, kind: str, first: int, seeds: int, check: str | None = None) -> Caught | None:
    arguments = ["--quiet", "--jobs", "1", "--kind", kind, "--first", str(first), "--seeds", str(seeds)]
    arguments += [] if check is None else ["--check", check]
    done = _run(copy, ["-m", "tests.simulation", *arguments])
    if done.returncode == 0:
        return None
    said = done.stdout.splitlines()
    if not said or not said[0].isdigit():
        raise RuntimeError(done.stderr[-2000:])
    return Caught(f"seed {said[0]}", tuple(dict.fromkeys(said[1:])))


def _fails(copy: Path, tests: Sequence[str]) -> bool:
    """
    Whether one of *tests*, run with the library in *copy*, fails.
    """
    options = [
        "-q",
        "-x",
        "-n0",
        "-p",
        "no:cacheprovider",
        "-m",
        "",
        "--rootdir",
        str(ROOT),
        "-c",
        str(ROOT / "pyproject.toml"),
    ]
    done = _run(copy, ["-m", "pytest", *options, *(str(ROOT / test) for test in tests)])
    if done.returncode not in (0, 1):
        raise RuntimeError((done.stdout + done.stderr)[-2000:])
    return done.returncode == 1


def _run(copy: Path, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(copy), str(ROOT), str(ROOT / "emulator")])
    environment = {**os.environ, "PYTHONPATH": paths}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)


def main() -> int:
    """
    Play, print, write the table; exit 1 if a mutant survived, or if a check was tripped by none.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants", description=__doc__)
    many = {kind: sort.many for kind, sort in KINDS.items()}
    told = "(default: %(default)s)"
    parser.add_argument("--seeds", type=int, default=many["chains"], help=f"histories of chains for each {told}")
    parser.add_argument("--task-seeds", type=int, default=many["tasks"], help=f"histories of once-tasks {told}")
    parser.add_argument("--lock-seeds", type=int, default=many["locks"], help=f"histories of locks {told}")
    parser.add_argument("--worker-seeds", type=int, default=many["workers"], help=f"histories of workers {told}")
    parser.add_argument(
        "--durable-seeds", type=int, default=many["durables"], help=f"histories of durable handlers {told}"
    )
    parser.add_argument(
        "--family-seeds", type=int, default=many["families"], help=f"histories of durable handlers with families {told}"
    )
    parser.add_argument("--jobs", type=int, default=2, help="mutants at once (default: %(default)s)")
    parser.add_argument("--only", help="mutants whose mistake contains this")
    parser.add_argument("--kind", choices=(*KINDS, "tests"), help="mutants of this kind, or those with a test")
    parser.add_argument(
        "--known", action="store_true", help="only the seeds in the table, and nothing without a mutant"
    )
    parser.add_argument("--state", type=Path, default=STATE, help="what was found before (default: %(default)s)")
    chosen = parser.parse_args()
    kept = Kept(chosen.state)
    chosen_ones = [m for m in ALL if (chosen.only or "") in m.mistake and chosen.kind in (None, _kind(m))]
    seeds = {"chains": chosen.seeds, "tasks": chosen.task_seeds}
    seeds |= {"locks": chosen.lock_seeds, "workers": chosen.worker_seeds}
    seeds |= {"durables": chosen.durable_seeds, "families": chosen.family_seeds}
    known = _known(TABLE.read_text())
    if chosen.known:
        seeds = dict.fromkeys(seeds, 0)
    print(f"{_PLAIN} ...", flush=True)
    failing = _plain(chosen_ones, seeds, chosen.jobs, kept)
    if failing is not None:
        print(failing)
        return 1
    rows: list[tuple[Mutant, Caught | None]] = []
    with ThreadPoolExecutor(chosen.jobs) as pool:
        found = pool.map(lambda m: _found(m, seeds, known, kept), chosen_ones)
        for mutant, how in zip(chosen_ones, found, strict=True):
            rows.append((mutant, how))
            print(f"{'SURVIVED' if how is None else how.by:>28}  {mutant.mistake}", flush=True)
            for check in () if how is None else how.checks:
                print(f"{'':>30}by the check: {check}", flush=True)
    survived = sum(how is None for _, how in rows)
    print(f"{len(rows) - survived} of {len(rows)} mutants were caught")
    if len(chosen_ones) < len(ALL):
        return int(bool(survived))
    trippers = _trippers(rows)
    if not survived:
        TABLE.write_text(_table(rows, trippers, many))
    idle = [check for check, mutants in trippers.items() if not mutants and check not in UNTRIPPED]
    stale = [check for check in UNTRIPPED if trippers.get(check, True)]
    for check in idle:
        print(f"NO MUTANT TRIPS THE CHECK: {check}")
    for check in stale:
        print(f"A mutant trips it, or it is gone; take it out of untripped.py: {check}")
    return int(bool(survived or idle or stale))


def _found(mutant: Mutant, seeds: Mapping[str, int], known: Mapping[str, int], kept: Kept) -> Caught | None:
    """
    How *mutant* is caught, or was before, with the same sources.
    """
    before = kept.get(mutant.mistake)
    how = before or caught(mutant, seeds.get(mutant.kind, 0), known.get(mutant.mistake))
    if how is not None and before is None:
        kept.add(mutant.mistake, how)
    return how


def _plain(chosen: Sequence[Mutant], seeds: Mapping[str, int], jobs: int, kept: Kept) -> str | None:
    """
    What fails without any mutant; None if nothing does.
    """
    tests = list(dict.fromkeys(m.test for m in chosen if m.test is not None))
    wanted = list(dict.fromkeys((m.kind, 0, seeds[m.kind]) for m in chosen if m.test is None and seeds[m.kind]))
    wanted = [one for one in wanted if kept.get(f"{_PLAIN}: {one}") is None]
    tests = [test for test in tests if kept.get(f"{_PLAIN}: {test}") is None]
    with _made(None) as copy, ThreadPoolExecutor(jobs) as pool:
        for (kind, *_), how in zip(wanted, pool.map(lambda one: _played(copy, *one), wanted), strict=True):
            if how is not None:
                story = f"python -m tests.simulation --kind {kind} --story {how.by.split()[-1]}"
                return f"{kind}: {how.by} fails without any mutant: {story}"
        if tests and _fails(copy, tests):
            return f"a test of the mutants fails without any of them: pytest {' '.join(tests)}"
    for one in (*wanted, *tests):
        kept.add(f"{_PLAIN}: {one}", Caught(""))
    return None


def _kind(mutant: Mutant) -> str:
    return mutant.kind if mutant.test is None else "tests"


def _known(table: str) -> dict[str, int]:
    """
    The seeds in the table, by the mutant's mistake.
    """
    return {found[1]: int(found[2]) for found in re.finditer(r"^\| (.+?) \| `.*\| seed (\d+) \|", table, re.MULTILINE)}


def _trippers(rows: Sequence[tuple[Mutant, Caught | None]]) -> dict[str, list[str]]:
    """
    The mistakes that tripped each check.
    """
    trippers: dict[str, list[str]] = {name: [] for name in names()}
    for mutant, how in rows:
        for check in () if how is None else how.checks:
            trippers[check].append(mutant.mistake)
    return trippers


def _table(
    rows: Sequence[tuple[Mutant, Caught | None]], trippers: Mapping[str, Sequence[str]], seeds: Mapping[str, int]
) -> str:
    lines = [
        "# Mistakes that histories and tests catch",
        "",
        "`make mutants` writes this page. It plays the library with one mistake at a time, and stops at the first history that",
        "breaks the promise, or, if the mistake was made for one check, at the first history that trips that check. It plays",
        f"{seeds['chains']} histories of chains of entities, {seeds['tasks']} of once-tasks, {seeds['locks']} of locks and runs,",
        f"{seeds['workers']} of workers, {seeds['durables']} of durable handlers, or {seeds['families']} of those with families.",
        "Without a mistake all pass.",
        "If the table names a test, that test is run instead.",
        "",
        f"There are {len(rows)} mistakes.",
        "",
        "| mistake | in | histories of | caught by |",
        "|---|---|---|---|",
        *(
            f"| {mutant.mistake} | `{mutant.file}` | {'' if mutant.test else mutant.kind} | {_by(how)} |"
            for mutant, how in rows
        ),
        "",
        "## Checks",
        "",
        "Each check of the histories, and the mistakes whose histories trip it. A check is named by the place of its source and",
        "by its sentence; `…` stands for the parts that differ. A check that no mistake trips fails the run, or has a reason.",
        "",
        "| check | mistakes that trip it |",
        "|---|---|",
        *(
            f"| {check} | {'; '.join(mistakes) or 'none: ' + UNTRIPPED.get(check, 'NO REASON IS KNOWN')} |"
            for check, mistakes in trippers.items()
        ),
    ]
    return "\n".join(lines) + "\n"


def _by(how: Caught | None) -> str:
    if how is None:
        return "SURVIVED"
    return how.by if how.by.startswith("seed ") else f"`{how.by.removeprefix('tests/')}`"


if __name__ == "__main__":
    sys.exit(main())
