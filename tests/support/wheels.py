"""
Both distributions, as wheels.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.readme import ROOT


def build(folder: Path) -> Path:
    """
    Build both into *folder*, without a network; return it.
    """
    for project in (ROOT, ROOT / "emulator"):
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
        subprocess.run(command, cwd=project, check=True, stdout=subprocess.DEVNULL)
    return folder
