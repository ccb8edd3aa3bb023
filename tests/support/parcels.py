"""
A once-task that Cloud Functions serve.
"""

from __future__ import annotations

from gcp_oncetask.tasks import TaskData


class Parcel(TaskData, kind="parcel"):
    number: int

    def task_id(self) -> str:
        return str(self.number)
