"""
``indexes write``: put the indexes that the library needs into ``firestore.indexes.json``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from gcp_oncetask.checks.values import printable
from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.errors import UsageError
from gcp_oncetask.store.indexes import definition, merged, to_text

FILE = "firestore.indexes.json"


def add_to(commands: Any) -> None:
    """
    Add the command to the parser's *commands*.
    """
    group: argparse.ArgumentParser = commands.add_parser("indexes", help="the indexes that Firestore needs")
    one = group.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "write", help=f"write {FILE}; other indexes in it stay"
    )
    one.add_argument(
        "--collection",
        action="append",
        default=[],
        metavar="PATH",
        help="of documents with a lock, like orders or customers/{customer}/orders (repeatable; else ONCETASK_COLLECTIONS)",
    )
    one.add_argument("--file", type=Path, default=Path(FILE), help="default: %(default)s")
    one.set_defaults(run=write)


def write(locker: Locker, chosen: argparse.Namespace) -> int:
    """
    Write the file, unless it is up to date.

    Raises:
        UsageError: The file can't be read or written; its contents are left as they are.
    """
    wanted = definition(chosen.collection or locker.config.collections)
    try:
        before = chosen.file.read_text() if chosen.file.exists() else None
        text = to_text(merged({} if before is None else json.loads(before), wanted))
        if text == before:
            print(printable(f"{chosen.file}: up to date"))
            return 0
        chosen.file.write_text(text)
    except (OSError, ValueError, UsageError) as error:
        raise UsageError(f"{chosen.file} can't be brought up to date: {error}") from None
    print(printable(f"{chosen.file}: written; deploy it with: firebase deploy --only firestore:indexes"))
    return 0
