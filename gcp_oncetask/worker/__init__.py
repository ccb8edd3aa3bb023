"""
Pull mode: workers that claim once-tasks themselves, for VMs, GKE and worker pools.

``worker``: the loop, its signals and its threads. ``shares``: who looks at which shard. ``membership``: the session of this
worker. ``fetcher``: asking for what is due. ``listening``: being woken instead.
"""

from __future__ import annotations

from gcp_oncetask.worker.worker import Worker

__all__ = ["Worker"]
