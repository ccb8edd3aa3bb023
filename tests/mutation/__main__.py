"""
``make mutants-generated``: many small changes of a folder of the library, each tried by the tests that run the changed function.
The unit tests come first, then the integration tests. Each result is a line of a state file, so that a run that was interrupted
goes on, and a change of an unchanged function is not tried again.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from pathlib import Path

from tests.mutation.argued import ARGUED
from tests.mutation.engine import INVALID, SURVIVED, TIMEOUT, UNRUN, run
from tests.mutation.operators import Change, changes

ROOT = Path(__file__).parents[2]
STATE = ROOT / "build" / "mutation.jsonl"
FOLDERS = {
    "rules": (
        "unit/rules",
        "integration/rules",
        "integration/execution",
        "integration/effects",
        "integration/recovery",
    ),
    "store": ("unit/store", "integration"),
}
"""Folders of tests for a folder of the library; any other one is tried by the tests that mirror it."""


def main() -> int:
    """
    Try, print, and exit 1 if a change survived for which there is no argument.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--path", type=Path, default=Path("gcp_oncetask/rules"), help="a file or folder of the library")
    parser.add_argument(
        "--part", default="1/1", help="of several processes with states of their own, like 2/3 (default: %(default)s)"
    )
    parser.add_argument("--sample", type=int, help="so many changes, drawn (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: %(default)s)")
    parser.add_argument("--tests", type=Path, action="append", help="folders of tests (default: see FOLDERS)")
    parser.add_argument("--state", type=Path, default=STATE, help="the state file (default: %(default)s)")
    parser.add_argument(
        "--seconds",
        type=float,
        default=30.0,
        help="a change is tried by the fastest tests of a folder that take so long together (default: %(default)s)",
    )
    parser.add_argument("--again", action="store_true", help="try survivors again")
    chosen = parser.parse_args()
    path = chosen.path.resolve()
    every = [change for file in ([path] if path.is_file() else sorted(path.rglob("*.py"))) for change in changes(file)]
    if chosen.sample is not None and chosen.sample < len(every):
        every = random.Random(chosen.seed).sample(every, chosen.sample)
    part, parts = map(int, chosen.part.split("/"))
    every = every[part - 1 :: parts]
    known = _known(chosen.state)
    done = {c: known[c.id] for c in every if c.id in known and not (chosen.again and known[c.id] in (SURVIVED, UNRUN))}
    left = [change for change in every if change not in done]
    print(f"{len(every)} changes, {len(done)} of them tried before", flush=True)
    chosen.state.parent.mkdir(exist_ok=True)
    with chosen.state.open("a") as state:

        def told(change: Change, result: str) -> None:
            done[change] = result
            state.write(json.dumps({"id": change.id, "result": result, "change": _shown(change)}) + "\n")
            state.flush()

        broken = (
            run([each.resolve() for each in chosen.tests or _tests(path)], left, told, chosen.seconds) if left else []
        )
    if broken:
        print(f"{len(broken)} tests fail here without a change, and were left out: {', '.join(broken[:3])} ...")
    return _summary(done)


def _summary(done: dict[Change, str]) -> int:
    found = Counter(result if result in (SURVIVED, UNRUN, TIMEOUT, INVALID) else "caught" for result in done.values())
    alive = [change for change, result in done.items() if result in (SURVIVED, UNRUN)]
    unargued = sorted(_shown(change) for change in alive if _shown(change) not in ARGUED)
    for shown in unargued:
        print(f"SURVIVED: {shown}")
    print(", ".join(f"{count} {result}" for result, count in sorted(found.items())))
    print(f"{len(alive) - len(unargued)} survivors are argued in tests/mutation/argued.py")
    return int(bool(unargued))


def _shown(change: Change) -> str:
    file = change.file.relative_to(ROOT / "gcp_oncetask")
    return f"{file} {change.function}: {change.before} => {change.after}"


def _known(state: Path) -> dict[str, str]:
    lines = state.read_text().splitlines() if state.exists() else []
    return {found["id"]: found["result"] for found in map(json.loads, lines)}


def _tests(path: Path) -> list[Path]:
    below = path.relative_to(ROOT / "gcp_oncetask").with_suffix("").parts[0]
    folders = FOLDERS.get(below, (f"unit/{below}", f"integration/{below}"))
    return [ROOT / "tests" / folder for folder in folders if (ROOT / "tests" / folder).exists()]


if __name__ == "__main__":
    sys.exit(main())
