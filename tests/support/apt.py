"""
Debian's packages that some tests need, installed where that is possible.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable


def install(packages: tuple[str, ...], purpose: str, is_there: Callable[[], bool]) -> bool:
    """
    Install *packages* for *purpose* unless *is_there*; return whether they are there. Only root can install them.
    """
    apt = shutil.which("apt-get")
    if is_there():
        return True
    if apt is None or os.geteuid() != 0:
        return False
    print(f"Installing {purpose} (once) ...")
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = [apt, "install", "--yes", "--quiet", "--no-install-recommends", *packages]
    done = subprocess.run(command, env=environ, capture_output=True, check=False)
    if done.returncode:
        subprocess.run([apt, "update", "--quiet"], env=environ, capture_output=True, check=False)
        subprocess.run(command, env=environ, capture_output=True, check=False)
    return is_there()
