"""
Count the results, by the records of the payment service, the mail sinks, the queue and the logs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from examples.orders.demo import Order, Shop


@dataclass(frozen=True, kw_only=True)
class Report:
    """
    The numbers of the last table.
    """

    orders: int
    completed: int
    deliveries: int
    duplicated: int
    refused: int
    lost_answers: int
    lost_enqueues: int
    kills: int
    takeovers: dict[str, int]
    alerts: int
    receipts: int
    repeated_receipts: int
    repeated_keys: int
    wrong: list[str]
    seconds: float

    @property
    def convincing(self) -> bool:
        """
        True if every order has exactly one distinct charge, and enough failures happened to prove something.
        """
        broken = (self.kills, sum(self.takeovers.values()), self.duplicated, self.refused, self.lost_enqueues)
        return self.completed == self.orders and not self.wrong and all(broken)

    def __str__(self) -> str:
        verdicts = ", ".join(f"{count} {name}" for name, count in sorted(self.takeovers.items())) or "none"
        rows = [
            ("orders", self.orders),
            ("orders completed", self.completed),
            ("deliveries", self.deliveries),
            ("deliveries duplicated on purpose", self.duplicated),
            ("deliveries refused (duplicate, busy, unknown)", self.refused),
            ("answers lost (connection dropped)", self.lost_answers),
            ("enqueues lost", self.lost_enqueues),
            ("worker processes killed (SIGKILL)", self.kills),
            ("expired leases judged and taken over", verdicts),
            ("alerts mailed", self.alerts),
            ("receipts mailed (again after a crash)", f"{self.receipts} ({self.repeated_receipts})"),
            ("payment calls with a repeated key", self.repeated_keys),
            ("orders without exactly one distinct charge", len(self.wrong)),
        ]
        lines = ["", *(f"  {name:<46}{value}" for name, value in rows), ""]
        if self.convincing:
            lines.append(f"Every order was charged exactly once, in {self.seconds:.0f} s.")
        elif self.wrong or self.completed < self.orders:
            lines.append(
                f"FAILED: {self.orders - self.completed} not completed; wrong: {', '.join(self.wrong[:10]) or 'none'}"
            )
        else:
            lines.append(
                "FAILED to prove anything: kills, takeovers, duplicates and lost enqueues must all have happened."
            )
        return "\n".join(lines)


def collect(shop: Shop, orders: list[Order], completed: int, seconds: float) -> Report:
    """
    Count all numbers.
    """
    payments, dispatches = shop.payments, shop.cloud.tasks.dispatches
    injected = shop.cloud.faults.injected
    outcomes = Counter(outcome_of(record.body) for record in dispatches)
    receipts = Counter(str(mail.message["Message-ID"]) for mail in shop.receipts.messages)
    distinct = {order.id: len({payments.charges[key] for key in payments.calls[order.id]}) for order in orders}
    return Report(
        orders=len(orders),
        completed=completed,
        deliveries=len(dispatches),
        duplicated=injected["duplicate"],
        refused=outcomes["duplicate"] + outcomes["busy"] + outcomes["unknown"],
        lost_answers=injected["lose_answer"],
        lost_enqueues=injected["CreateTask before"],
        kills=len(shop.killed),
        takeovers=dict(takeovers(shop)),
        alerts=len(shop.cloud.mail.messages),
        receipts=len(receipts),
        repeated_receipts=sum(receipts.values()) - len(receipts),
        repeated_keys=payments.repeated(),
        wrong=[id_ for id_, count in distinct.items() if count != 1],
        seconds=seconds,
    )


def outcome_of(body: bytes) -> str:
    """
    Return the outcome in an answer of the app.
    """
    text = body.decode(errors="replace")
    return text.split('"outcome":"')[1].split('"')[0] if '"outcome":"' in text else ""


def takeovers(shop: Shop) -> Counter[str]:
    """
    Count takeovers by verdict: those of deliveries from the app's log, those of the sweeper from its alerts.
    """
    found: Counter[str] = Counter()
    for entry in shop.cloud.logging.entries:
        own: Any = entry.json_payload.fields["oncetask"].struct_value.fields if entry.HasField("json_payload") else {}
        if "event" in own and own["event"].string_value == "lease.taken_over":
            found[own["verdict"].string_value] += 1
    found.update(shop.verdicts)
    return found
