"""
A test that starts a process in a session of its own, as Java is started, and never comes to its end.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path


def test_never_ends() -> None:
    """
    Writes the process's id into a pipe that another test reads.
    """
    left = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)
    Path(os.environ["LEFT_BEHIND"]).write_text(f"{left.pid}\n")
    threading.Event().wait()
