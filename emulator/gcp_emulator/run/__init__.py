"""
A stand-in for Cloud Run: real processes behind a local front end, with the platform's logs and failures.
"""

from gcp_emulator.run.instance import Instance, RunError
from gcp_emulator.run.service import RunService

__all__ = ["Instance", "RunError", "RunService"]
