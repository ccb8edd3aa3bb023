"""
The application: a task per customer that recurs every night of the customer's own time zone.
"""

from typing import Literal

from flask import Flask

from examples.reports.warehouses import Warehouses
from gcp_oncetask import Attempt, Locker
from gcp_oncetask.flask import blueprint
from gcp_oncetask.tasks import OnceTask, Recurrence, TaskData, TaskManager


class NightlyReport(TaskData, kind="nightly-report"):
    customer: str
    zone: str
    time: str
    warehouse: str
    after_outage: Literal["latest", "skip", "all"] = "latest"
    limit: int = 100  # most nights that are caught up after an outage, with "all"

    def task_id(self) -> str:
        return self.customer

    def resource_key(self) -> str:
        return f"warehouse/{self.warehouse}"

    def recurrence(self) -> Recurrence:
        return Recurrence(
            "FREQ=DAILY",
            f"2026-01-02T{self.time}",
            tz=self.zone,
            misfire=self.after_outage,
            misfire_limit=self.limit,
        )


def serve(locker: Locker, warehouses: Warehouses) -> tuple[TaskManager, Flask]:
    """
    Make the application: it creates tasks by the manager, and takes deliveries at /oncetask/deliver.
    """
    manager = TaskManager(locker)
    app = Flask(__name__)
    app.register_blueprint(blueprint(manager))

    @manager.handler(NightlyReport, renew=False)  # a report is over long before its lease of ten minutes
    def write_report(task: OnceTask[NightlyReport], _: Attempt) -> dict[str, int]:
        assert task.occurrence_at is not None
        return {"rows": warehouses.read(task.data.warehouse, task.data.customer, task.occurrence_at)}

    return manager, app


CUSTOMERS = (
    NightlyReport(customer="ackermann", zone="Europe/Berlin", time="02:30", warehouse="eu"),
    NightlyReport(
        customer="botha", zone="Africa/Johannesburg", time="02:30", warehouse="eu", after_outage="all", limit=3
    ),
    NightlyReport(customer="carter", zone="America/New_York", time="01:30", warehouse="us", after_outage="skip"),
    NightlyReport(customer="ellis", zone="Australia/Sydney", time="02:30", warehouse="ap"),
)
