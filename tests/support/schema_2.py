"""
A made-up schema 2 of the stored record, in two releases after this one: ``url`` and ``queue`` move into the map ``target``.

The package is copied and a few of its texts are replaced, as a release would change them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support.readme import ROOT

FEATURE = "target"
Edit = tuple[str, str, str]
"""File below the package, text that occurs once, text in its place."""

_FORM = '''
_MOVED: Final = ("url", "queue")
FIELD_PATHS["target"] = "lock.target"


def _target(value: Value) -> dict[str, Any]:
    """
    Return the attributes in the map ``target``.
    """
    return {name: _FIELDS[name][1](found) for name, found in zip(_MOVED, _inner(value, *_MOVED), strict=True)}


def encode_lock(target: Value, lock: Lock, before: Lock | None = None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """
    Write the record in the form that its features say; *before* is stored in the form that its features say.
    """
    changed, stamped = _encode_lock(target, lock, before)
    if "target" not in lock.needs:
        return changed, stamped
    inner = target.map_value.fields
    for name in _MOVED:
        inner.pop(name, None)
    left = [name for name in changed if name not in _MOVED]
    if before is None or "target" not in before.needs:
        # They are deleted where they were.
        left += ["target", *_MOVED]
    elif len(left) < len(changed):
        left += ["target"]
    if "target" in left and lock.url is not None:
        put(inner["target"], {name: lock.__dict__[name] for name in _MOVED})
    return tuple(left), stamped
'''

READS: tuple[Edit, ...] = (
    (
        "rules/features.py",
        'KNOWN: Final[frozenset[str]] = frozenset({"journal", ',
        'KNOWN: Final[frozenset[str]] = frozenset({"target", "journal", ',
    ),
    ("store/lock_codec.py", "\ndef encode_lock(", "\ndef _encode_lock("),
    (
        "store/lock_codec.py",
        "    put_all(places)\n    return tuple(changed), tuple(stamped)\n",
        f"    put_all(places)\n    return tuple(changed), tuple(stamped)\n\n{_FORM}",
    ),
    (
        "store/lock_codec.py",
        "import Document, Value, put_all\n",
        "import Document, Value, put, put_all\n",
    ),
    ("store/lock_codec.py", "import reader_of, shown\n", "import _inner, reader_of, shown\n"),
    (
        "store/lock_codec.py",
        "            found = _FIELDS.get(key)\n",
        "            found = _FIELDS.get(key)\n            values |= _target(stored[key]) if key == 'target' else {}\n",
    ),
)
"""The release that reads both forms, and writes a record in the form that it has."""

WRITES: tuple[Edit, ...] = (
    *READS,
    ("rules/features.py", "MappingProxyType({})\n", 'MappingProxyType({"target": ("url", "queue")})\n'),
    ("rules/record.py", "SCHEMA: Final = 1\n", "SCHEMA: Final = 2\n"),
)
"""The release after that one, which writes the new form."""

RELEASES: dict[str, tuple[Edit, ...]] = {"old": (), "reads": READS, "writes": WRITES}


def make(release: str, folder: Path) -> Path:
    """
    Put the package of *release* into a folder of its own below *folder*, and return that.
    """
    made = folder / release
    shutil.copytree(ROOT / "gcp_oncetask", made / "gcp_oncetask", ignore=shutil.ignore_patterns("__pycache__"))
    for name, old, new in RELEASES[release]:
        file = made / "gcp_oncetask" / name
        text = file.read_text()
        assert text.count(old) == 1, f"{name}: {old!r} occurs {text.count(old)} times"
        file.write_text(text.replace(old, new))
    return made
