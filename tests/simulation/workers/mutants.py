"""
Mistakes in workers, each to be caught by their histories.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

WORKER_MUTANTS = tuple(
    Mutant(mistake, file, old, new, "workers")
    for mistake, file, old, new in (
        (
            "dead sessions count as alive",
            "worker/shares.py",
            "        return now < self.beat_at + timedelta(seconds=self.ttl)\n",
            "        return True\n",
        ),
        (
            "shards are shared in the order of the last heartbeats",
            "worker/shares.py",
            "    able = sorted(session.id for session in sessions if kind in session.kinds and session.alive(now))\n",
            "    able = [s.id for s in sorted(sessions, key=lambda s: s.beat_at) if kind in s.kinds and s.alive(now)]\n",
        ),
        (
            "some shards belong to no worker",
            "worker/shares.py",
            "for shard in range(shards) if",
            "for shard in range(shards // len(able) * len(able)) if",
        ),
        (
            "a worker that is stopped does not end its session",
            "worker/worker.py",
            "        if self._membership is not None:\n            self._membership.end()\n",
            "        pass\n",
        ),
        (
            "a worker without a session asks again and again",
            "worker/membership.py",
            "        if self._failures:\n",
            "        if self._failures:\n            pause = 0.1\n        if False:\n",
        ),
        (
            "a heartbeat does not share anew",
            "worker/membership.py",
            "        self._share([Session(*one) for one in found], now, mark)\n",
            "        if not self.shards:\n            self._share([Session(*one) for one in found], now, mark)\n",
        ),
        (
            "drain skips a shard",
            "worker/worker.py",
            "        shards = range(self._runtime.config.pull_shards)\n",
            "        shards = range(1, self._runtime.config.pull_shards)\n",
        ),
        (
            "drain stops after one look",
            "worker/worker.py",
            "            if not progressed and len(left) == known:\n                return ran\n            ran += progressed\n",
            "            return ran + progressed\n",
        ),
        (
            "a pulled run that completes swallows the newer payload",
            "rules/writes.py",
            "    if superseded(lock):\n        return following(lock, at)\n",
            "",
        ),
    )
)
