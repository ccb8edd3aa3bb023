"""
Pull mode: workers that claim once-tasks themselves, on VMs, GKE and worker pools.

``worker``: the loop, its signals and its threads. ``shares``: the shards of each worker. ``membership``: the session of
this worker. ``fetcher``: queries for due tasks. ``listening``: the listener that wakes the loop. ``telling``: its log
lines.
"""

from __future__ import annotations

from gcp_oncetask.worker.worker import Worker

__all__ = ["Worker"]
