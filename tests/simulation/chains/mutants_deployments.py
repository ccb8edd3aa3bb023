"""
Mistakes that show only where two deployments run at once.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

DEPLOYMENTS_MUTANTS = (
    Mutant(
        "the end of a lease is that of one of the usual length",
        "rules/writes.py",
        "    lease_end = leased_at + timedelta(0, lock.lease_seconds)\n    run_end = granted_at",
        "    lease_end = leased_at + timedelta(0, Lock.lease_seconds)\n    run_end = granted_at",
    ),
    Mutant(
        "a lease is granted by the limit of the holder before",
        "rules/writes.py",
        "    if lock.attempts - lock.progress_at >= policy.max_attempts or",
        "    if lock.attempts - lock.progress_at >= max(policy.max_attempts, lock.max_attempts) or",
    ),
    Mutant(
        "a Cloud Task goes to the address of the process that makes it",
        "effects/dispatch.py",
        "        url=delivery_url(delivery, lock.url),\n",
        '        url=delivery_url(delivery, f"{runtime.config.base_url}/{lock.url.split(chr(47), 3)[3]}"),\n',
    ),
    Mutant(
        "a step removes the fields that its model does not have",
        "entities/models.py",
        "    return Changes(encoded, {key: seen.get(key) for key in encoded})\n",
        '    gone = dict.fromkeys(binding.snapshot.fields.keys() - stored.keys() - {"lock"})\n'
        "    known = {**binding.snapshot.fields, **seen}\n"
        "    return Changes({**encoded, **gone}, {key: known.get(key) for key in [*encoded, *gone]})\n",
        also=(
            "execution/running.py",
            "pack(value) for name, value in changes.values.items()}",
            "pack(value) for name, value in changes.values.items() if value is not None}",
        ),
    ),
)
"""Need the trouble ``deployments``."""
