"""
Cloud Tasks: queues, pushes with retries and identity tokens, faults on demand.
"""

from gcp_emulator.tasks.records import DispatchRecord
from gcp_emulator.tasks.server import TasksServer
from gcp_emulator.tasks.transport import Answer, Dispatch, HttpTransport, Transport, WsgiTransport

__all__ = [
    "Answer",
    "Dispatch",
    "DispatchRecord",
    "HttpTransport",
    "TasksServer",
    "Transport",
    "WsgiTransport",
]
