"""
Orders, fulfilled by one durable handler each, on a local Google Cloud in which deliveries are duplicated, answers and enqueues
lost, and worker processes killed: python -m examples.fulfilment
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections import Counter
from typing import Any

from examples.fulfilment.approver import Approver
from examples.orders.demo import QUIET, Shop, local_firestore, say
from gcp_emulator.faults import DeliveryFaults
from gcp_oncetask import Config, Locker
from gcp_oncetask.entities.chains import runtime_of
from gcp_oncetask.tasks import TaskManager

DAY = 2.0
"""Seconds of a day."""


class FulfilmentShop(Shop):
    """
    The local cloud with the application of this folder, and the person who approves.
    """

    application = "examples.fulfilment.app:app"

    def _environment(self) -> dict[str, str]:
        self.approver = Approver()
        found = super()._environment() | {
            "APPROVALS_URL": self.approver.url,
            "DEMO_DAY_SECONDS": str(DAY),
            "ONCETASK_LINK_KEYS": "a-key-for-the-demo-alone-0123456789abcdef",
        }
        os.environ |= {name: found[name] for name in ("PAYMENTS_URL", "APPROVALS_URL", "DEMO_DAY_SECONDS")}
        return found

    def statuses(self) -> Counter[str]:
        """
        Count the orders by status; their children do not count.
        """
        found = {path: document for path, document in self._documents().items() if ":fulfil:" in path}
        return Counter(d.fields["lock"].map_value.fields["status"].string_value for d in found.values())

    def fulfil(self, manager: TaskManager, orders: list[Any]) -> bool:
        """
        Create the orders, cause failures, sweep, wait; then compare. Return whether each order ended as it should.
        """
        faults = self.cloud.faults
        faults.deliveries = DeliveryFaults(duplicate=0.2, lose_answer=0.04)
        faults.fail("CreateTask", when="before", probability=0.05, times=None)
        helpers = [threading.Thread(target=work, daemon=True) for work in (self._kill, self._sweep_all(manager))]
        for helper in helpers:
            helper.start()
        for order in orders:
            manager.create_task(order)
        self._wait(len(orders))
        faults.clear()
        self.stopping.set()
        for helper in helpers:
            helper.join()
        return self.compare(manager, orders)

    def _sweep_all(self, manager: TaskManager) -> Any:
        return lambda: self._sweep(manager.locker)

    def compare(self, manager: TaskManager, orders: list[Any]) -> bool:
        """
        Compare the results with the records of the payment service, and print the numbers.
        """
        wrong: list[str] = []
        refunds = labels = 0
        for order in orders:
            task = manager.get_task(type(order), order.order)
            if task is None or task.lock.status != "completed":
                wrong.append(f"order {order.order} has not completed")
                continue
            result = task.result
            charged = set(self.payments.calls[order.order])
            if len(charged) != 1:
                wrong.append(f"order {order.order} was charged {len(charged)} times")
            wanted = order.amount >= 100_000 and self.approver.asked.get(order.order) is not True
            if ("refund" in result) is not wanted:
                wrong.append(f"order {order.order} should {'' if wanted else 'not '}have been refunded")
            refunds += "refund" in result
            labels += len(result.get("labels", ()))
        calls = sum(map(len, (self.payments.calls[order.order] for order in orders)))
        say(f"orders {len(orders)}, charges {len(orders) - sum('charged' in each for each in wrong)}, calls {calls}")
        say(f"refunds {refunds}, labels {labels}, processes killed {len(self.killed)}")
        for sentence in wrong[:20]:
            say(sentence)
        say("each order was charged once" if not wrong else f"{len(wrong)} orders are wrong")
        return not wrong


def main() -> int:
    """
    Run the demo; the exit code is 0 only if each order was charged once and ended as it should.
    """
    parser = argparse.ArgumentParser(prog="python -m examples.fulfilment", description=__doc__)
    parser.add_argument("--orders", type=int, default=200, help="number of orders (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=4, help="gunicorn worker processes (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=12, help="worker processes to kill (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="repeats the faults (default: %(default)s)")
    parser.add_argument(
        "--deadline", type=float, default=240, help="give up after so many seconds (default: %(default)s)"
    )
    chosen = parser.parse_args()
    with FulfilmentShop(chosen) as shop, local_firestore(shop.settings):
        os.environ |= shop.settings
        # The module reads its settings when it is imported.
        from examples.fulfilment import app as example

        manager = TaskManager(Locker(config=Config.from_env(shop.settings)))
        runtime_of(manager.locker).trail_to(QUIET)
        orders = [
            example.Fulfil(
                order=f"{number}", amount=120_000 if number % 10 in (3, 6, 8) else 4_000, items=["cup", "plate"]
            )
            for number in range(chosen.orders)
        ]
        right = shop.fulfil(manager, orders)
        shop.approver.stop()
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
