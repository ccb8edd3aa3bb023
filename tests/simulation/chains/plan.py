"""
What a history is made of: everything that is drawn before it begins, so that a failing one can be made smaller.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, fields, replace

TROUBLES = (
    "refused_calls",
    "lost_answers",
    "late_calls",
    "crashes",
    "freezes",
    "outages",
    "skews",
    "lost_deliveries",
    "duplicates",
    "delays",
    "paused_queue",
    "lost_lines",
    "late_lines",
    "mail_down",
    "cancels",
    "user_writes",
    "long_runs",
    "hangs",
    "failing_handlers",
    "words",
    "resolves",
    "purges",
    "damages",
    "drifts",
    "suspends",
    "starved_renewals",
    "standstills",
    "rare_codes",
    "failed_rollbacks",
    "failed_writes",
    "final_refusals",
    "shuffled_lines",
    "twice_lines",
    "others_lines",
    "versions",
)
"""Kinds of trouble in histories of all kinds with deliveries; each is on or off in one history."""
CHAIN_TROUBLES = (*TROUBLES, "deletes", "resets", "outsiders", "foreigners", "misroutes", "neighbours", "deployments")
"""The same in histories of chains."""
_KNOWN = frozenset(CHAIN_TROUBLES)
RARER = {"damages", "deletes", "resets", "outsiders", "neighbours"}
"""Troubles that make a history longer: they are on in one of four."""
WINDOWS = (0.0, 0.0, 60.0, 600.0)
"""Lengths of an alert's window."""


@dataclass(frozen=True)
class Plan:
    """
    One history.

    Attributes:
        seed: Every further draw.
        chains: Documents.
        steps: Steps of each chain.
        instances: App processes at once.
        minutes: Virtual minutes of trouble.
        quarantine: Whether unknown holders wait for a person.
        log_contents: Whether settlements in the log may hold saved fields.
        max_attempts: Per sequence.
        sweepers: Copies of the sweeper.
        inline: Whether documents travel in their deliveries.
        troubles: Kinds of trouble that are on.
        window: Seconds for which alerts of one kind and reason wait for each other.
        calls: Calls of one process under way from which on its commits share the next one; 0: each is a call of its own.
    """

    seed: int
    chains: int = 3
    steps: int = 2
    instances: int = 3
    minutes: int = 30
    quarantine: bool = False
    log_contents: bool = True
    max_attempts: int = 6
    sweepers: int = 2
    inline: bool = True
    troubles: frozenset[str] = frozenset(CHAIN_TROUBLES)
    window: float = 0.0
    calls: int = 0

    def has(self, trouble: str) -> bool:
        """
        Whether *trouble* is on.
        """
        assert trouble in _KNOWN, trouble
        return trouble in self.troubles

    @property
    def floods(self) -> bool:
        """
        Whether most handlers give up for good, for one reason.
        """
        return self.window == WINDOWS[-1]

    def smaller(self) -> list[Plan]:
        """
        The same history with one thing less, the greatest relief first.
        """
        found = [replace(self, troubles=self.troubles - {trouble}) for trouble in sorted(self.troubles)]
        for name, least in (("chains", 1), ("steps", 1), ("sweepers", 1), ("instances", 1), ("minutes", 5)):
            value = getattr(self, name)
            if value > least:
                found.insert(0, replace(self, **{name: max(least, value // 2)}))
        if self.window:
            found.append(replace(self, window=0.0))
        if self.calls:
            found.append(replace(self, calls=0))
        return found

    def __str__(self) -> str:
        given = [f"{f.name}={getattr(self, f.name)}" for f in fields(self) if f.name != "troubles"]
        return f"{', '.join(given)}, troubles: {', '.join(sorted(self.troubles)) or 'none'}"


def plan_of(seed: int) -> Plan:
    """
    The history of *seed*.
    """
    draw = random.Random(f"plan {seed}")
    plan = Plan(
        seed=seed,
        chains=draw.randint(1, 4),
        steps=draw.randint(1, 3),
        instances=draw.randint(1, 3),
        minutes=draw.choice((5, 10, 20)),
        quarantine=draw.random() < 0.3,
        log_contents=draw.random() < 0.6,
        max_attempts=draw.choice((3, 6, 11)),
        sweepers=draw.randint(1, 2),
        inline=draw.random() < 0.8,
        troubles=frozenset(
            trouble for trouble in CHAIN_TROUBLES if draw.random() < (0.25 if trouble in RARER else 0.5)
        ),
        window=draw.choice(WINDOWS),
    )
    calls = calls_of(seed)
    if not calls:
        return plan
    # A task of a deployment of which no process is left waits for a person.
    instances = plan.instances if plan.has("deployments") else 1
    return replace(plan, calls=calls, instances=instances, chains=plan.chains + 4)


def calls_of(seed: int) -> int:
    """
    Draw ``calls`` apart from all else, so that histories without it stay as they were before it was drawn. With it, one process
    has much to do at once.
    """
    return random.Random(f"calls {seed}").choice((0, 0, 0, 1, 1, 2))
