"""
``python -m benchmarks.callgrind``: machine instructions of the client for one task, counted by valgrind's callgrind.

Variants of ``benchmarks.variants``, on one thread, against the Firestore that answers at once, in a process of its own. Each
runs few tasks and many in a fresh process, and the difference is divided by the number of tasks between, so that imports and
warming up do not count. Other load of the machine changes the numbers by less than a hundredth; the kernel's work is not
among them.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from google.cloud import firestore

from benchmarks import kept
from benchmarks.instant import instant_firestore
from benchmarks.kept import Ratio
from benchmarks.variants import Idiom, Library, Stubs, Variant

VARIANTS: dict[str, type[Variant]] = {"idiom": Idiom, "stubs": Stubs, "library": Library}
FEW = 10
_COLLECTED = re.compile(r"Collected : (\d+)")


def main() -> int:
    """
    Count, print the table and the ratios.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.callgrind", description=__doc__)
    parser.add_argument("--tasks", type=int, help="tasks between the two runs (default: 40, --full: 200)")
    parser.add_argument("--child", nargs=2, metavar=("VARIANT", "TASKS"), help=argparse.SUPPRESS)
    kept.add_options(parser)
    chosen = parser.parse_args()
    if chosen.child:
        return _child(chosen.child[0], int(chosen.child[1]))
    tasks = chosen.tasks or (200 if chosen.full else 40)
    if shutil.which("valgrind") is None:
        print("valgrind is not installed (on Debian: apt-get install valgrind); nothing was counted.")
        return 0
    found: dict[str, float] = {}
    print(f"{'variant':<32}{'instructions a task':>20}", flush=True)
    with instant_firestore() as address:
        for name, variant in VARIANTS.items():
            few, many = (_collected(address, name, number) for number in (FEW, FEW + tasks))
            found[name] = (many - few) / tasks
            print(f"{variant.name:<32}{found[name]:>20,.0f}", flush=True)
    ratios = {
        f"instructions to {VARIANTS[other].name}": Ratio(found["library"] / found[other])
        for other in ("idiom", "stubs")
    }
    return kept.finish("benchmarks of instructions by callgrind", ratios, chosen, {"instructions": found})


def _collected(address: str, name: str, tasks: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        subprocess.run(
            [
                *("valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", f"--log-file={log}"),
                *(sys.executable, "-m", "benchmarks.callgrind", "--child", name, str(tasks)),
            ],
            env=os.environ | {"FIRESTORE_EMULATOR_HOST": address},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        collected = _COLLECTED.search(log.read_text(errors="replace"))
        assert collected is not None
        return int(collected[1])


def _child(name: str, tasks: int) -> int:
    variant = VARIANTS[name](firestore.Client(project="bench"))  # type: ignore[call-arg]
    for number in range(tasks):
        variant.run(f"{os.getpid()}-{number}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
