"""
Mistakes in the rules and in the flow of a change, each of which the model must find.

A mistake is a text of the source replaced by another. The functions of the running library get the code of the changed
source, so every module that has imported one of them runs the mistake, too.
"""

from __future__ import annotations

import importlib
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import gcp_oncetask
from tests.model.memory import forget

_PACKAGE: Final = Path(gcp_oncetask.__file__).parent


class Mistake(NamedTuple):
    """
    One mistake.

    Attributes:
        what: What is wrong, in a sentence.
        file: File below the package.
        old: Text that occurs once.
        new: Text in its place.
        world: Name of the world that shows it.
        slow: Whether only ``make test-all`` looks for it.
    """

    what: str
    file: str
    old: str
    new: str
    world: str = "one step"
    slow: bool = False


@contextmanager
def made(mistake: Mistake) -> Iterator[None]:
    """
    Let the library run with *mistake*.
    """
    source = (_PACKAGE / mistake.file).read_text()
    assert source.count(mistake.old) == 1, (
        f"{mistake.what}: its text is {source.count(mistake.old)} times in {mistake.file}"
    )
    name = "gcp_oncetask." + mistake.file.removesuffix(".py").replace("/", ".")
    module = importlib.import_module(name)
    changed = types.ModuleType(name)
    exec(compile(source.replace(mistake.old, mistake.new), mistake.file, "exec"), changed.__dict__)  # our own source
    before = []
    for function, other in _pairs(module, changed):
        before.append((function, function.__code__))
        function.__code__ = other.__code__
    forget()
    try:
        yield
    finally:
        for function, code in before:
            function.__code__ = code
        forget()


def _pairs(module: Any, changed: Any) -> Iterator[tuple[Any, Any]]:
    """
    The functions of *module* with those of the same names in *changed*, methods included.
    """
    for name, found in list(vars(module).items()):
        other = getattr(changed, name, None)
        if isinstance(found, types.FunctionType) and found.__module__ == module.__name__:
            yield found, other
        elif isinstance(found, type) and found.__module__ == module.__name__:
            for inner, method in vars(found).items():
                if isinstance(method, types.FunctionType) and inner in vars(other):
                    yield method, vars(other)[inner]


_FENCE: Final = (
    "    lost = fenced(lock, fence)\n    if lost is not None:\n        return lost\n    assert lock is not None\n"
)
_GONE: Final = '    if lock is None:\n        return Lost("gone", finished=True)\n'
_HELD: Final = """    if lock.status is Status.LEASED:
        if at.read is None:
            return NeedTime()
        if at.read < expires_at(lock):
            return Refused(Outcome.BUSY, f"attempt"""
_APPLIED: Final = "        if rules.was_applied(put.lock, before.lock, snapshot.lock, alive=self._alive()):\n"

MISTAKES: Final = (
    Mistake(
        "a settling does not check the fence",
        "rules/attempts.py",
        _FENCE + "    mine = ",
        _GONE + "    mine = ",
        slow=True,
    ),
    Mistake(
        "a renewal does not check the fence",
        "rules/attempts.py",
        _FENCE + "    if lock.status is Status.QUARANTINED:",
        _GONE + "    if lock.status is Status.QUARANTINED:",
    ),
    Mistake(
        "the fence does not compare tokens and holders",
        "rules/attempts.py",
        " and lock.token == fence.token and lock.holder == fence.holder:",
        ":",
    ),
    Mistake(
        "a lease that is held is granted to the next delivery",
        "rules/attempts.py",
        _HELD,
        _HELD.replace("lock.status is Status.LEASED", "False"),
    ),
    Mistake(
        "an expired lease is taken over without evidence before its timeout",
        "rules/expiry.py",
        "    if finding is Finding.UNKNOWN and min(asked or at.read, at.read) <= timeout:\n",
        "    if False:\n",
    ),
    Mistake(
        "a lease ends for others before it ends for its holder",
        "rules/writes.py",
        "    lease_end = leased_at + timedelta(0, lock.lease_seconds)\n",
        "    lease_end = leased_at + timedelta(0, lock.lease_seconds / 2)\n",
    ),
    Mistake(
        "a grant does not raise the token",
        "rules/writes.py",
        "        token=lock.token + 1,\n",
        "        token=lock.token,\n",
    ),
    Mistake(
        "a delivery of an ended sequence is granted",
        "rules/attempts.py",
        "    if lock.finished or lock.status is Status.QUARANTINED:\n        return Refused(",
        "    if lock.status is Status.QUARANTINED:\n        return Refused(",
    ),
    Mistake(
        "a delivery of an earlier sequence is granted",
        "rules/attempts.py",
        "    if delivery.sequence < lock.sequence:\n",
        "    if False:\n",
        "two steps",
    ),
    Mistake("a lost answer always means that the commit was applied", "store/flow.py", _APPLIED, "        if True:\n"),
    Mistake(
        "a lost answer always means that the commit was not applied", "store/flow.py", _APPLIED, "        if False:\n"
    ),
    Mistake(
        "a commit that was applied is not recognised by its own nonce",
        "rules/attempts.py",
        '    for name in ("holder", "settled_by", "scheduled_by", "wanted_by", "journaled_by"):\n',
        '    for name in ("scheduled_by", "wanted_by"):\n',
    ),
    Mistake(
        "a takeover owes no alert",
        "rules/expiry.py",
        "    owing = noted if finding is Finding.NEVER_STARTED else writes.owe(noted, Event.TAKEOVER, reason, evidence, at)\n",
        "    owing = noted\n",
    ),
    Mistake(
        "what was recovered from the log owes no alert",
        "rules/expiry.py",
        "_recovered(writes.owe(lock, Event.TAKEOVER, reason, evidence, at), fence",
        "_recovered(lock, fence",
    ),
    Mistake(
        "an attempt that failed is due for nobody",
        "rules/writes.py",
        '    lock.__dict__["due"] = f"{at.place}/{instant(min(times))}" if times else None\n',
        '    lock.__dict__["due"] = f"{at.place}/{instant(min(times))}" if times and lock.attempts == 0 else None\n',
    ),
    Mistake(
        "a key that another task has counts as free",
        "rules/keys.py",
        "        return KeyStanding.BUSY if read < expires_at(holder) else KeyStanding.EXPIRED\n",
        "        return KeyStanding.FREE\n",
        "shared key",
    ),
    Mistake(
        "a task that waits for its key leaves no note with the key",
        "effects/keys.py",
        "        self._write = self._written(waited, waiting=True)\n",
        "",
        "shared key",
    ),
)
