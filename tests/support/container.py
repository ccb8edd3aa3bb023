"""
A plain Debian in a folder, with a file system and processes of its own, in which a page is followed as a new user follows it.

``debootstrap`` makes it once, in ``.cache/debian``; each container is a copy. It has nothing but Debian's minimal base.
Addresses and certificates of the network are those of this machine, since its packages come from the same registries.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support import apt
from tests.support.patience import patient
from tests.support.readme import ROOT

BASE = ROOT / ".cache" / "debian"
RELEASE = "bookworm"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_KEPT = ("PIP_", "SSL_", "CURL_", "REQUESTS_", "http_proxy", "https_proxy", "no_proxy")


def missing() -> str | None:
    """
    The reason for which no container can be made here; None if one can.
    """
    if os.geteuid() != 0:
        return "only root can make a container"
    tools = [tool for tool in ("debootstrap", "chroot", "unshare", "mount") if shutil.which(tool) is None]
    return f"{tools[0]} is not installed" if tools else None


def base() -> Path:
    """
    The minimal base, made on first use.
    """
    if not BASE.exists():
        part = BASE.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.parent.mkdir(exist_ok=True)
        made = ["debootstrap", "--variant=minbase", "--include=ca-certificates", RELEASE, str(part)]
        subprocess.run(made, check=True, stdout=subprocess.DEVNULL)
        part.rename(BASE)
    return BASE


@contextmanager
def alone() -> Iterator[None]:
    """
    One walk at a time on this machine: all servers have the ports of the pages.
    """
    BASE.parent.mkdir(exist_ok=True)
    with (BASE.parent / "debian.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


@contextmanager
def container(folder: Path, wheels: Path) -> Iterator[Path]:
    """
    A container in *folder*, whose pip finds *wheels* as if they were published.
    """
    root = folder / "root"
    subprocess.run(["cp", "-a", "--reflink=auto", str(base()), str(root)], check=True)
    for name in ("/etc/resolv.conf", "/etc/hosts", str(_CERTIFICATES)):
        if Path(name).exists():
            shutil.copyfile(name, f"{root}{name}")
    shutil.copytree(wheels, root / "wheels")
    (root / "root" / "work").mkdir()
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


class Terminal:
    """
    A shell in a container. Its processes have a PID namespace of their own, and end with it.
    """

    def __init__(self, root: Path) -> None:
        kept = {name: value for name, value in os.environ.items() if name.startswith(_KEPT)}
        environ = {
            **kept,
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "DEBIAN_FRONTEND": "noninteractive",
            "PYTHONUNBUFFERED": "1",
            "PIP_FIND_LINKS": "/wheels",
        }
        inner = "mount -t proc proc /proc && mount -t tmpfs tmpfs /dev/shm 2>/dev/null; cd /root/work; exec bash"
        self._process = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "chroot", str(root), "bash", "-c", inner],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._number = 0

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._more:
                self.lines.append(line.rstrip("\n"))
                self._more.notify_all()

    def type(self, command: str) -> None:
        """
        Type a command, and do not wait for its end.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()

    def run(self, command: str, seconds: float = 600) -> tuple[int, list[str]]:
        """
        Run a command to its end; return its exit code and its output.
        """
        self._number += 1
        begun, mark = len(self.lines), f"__ended {self._number}"
        self.type(f"{command}\n__code=$?; echo; echo {mark} $__code")
        end = self.wait(lambda lines: any(line.startswith(f"{mark} ") for line in lines[begun:]), seconds)
        last = next(place for place in range(begun, len(end)) if end[place].startswith(f"{mark} "))
        shown = end[begun:last]
        return int(end[last].split()[-1]), shown[:-1] if shown and not shown[-1] else shown

    def wait(self, true: object, seconds: float = 120) -> list[str]:
        """
        Wait until *true* of the lines so far; return them.
        """
        assert callable(true)
        deadline = time.monotonic() + patient(seconds)
        with self._more:
            while not true(self.lines):
                left = deadline - time.monotonic()
                assert left > 0, "\n".join(self.lines[-40:])
                assert self._process.poll() is None, "\n".join(self.lines[-40:])
                self._more.wait(min(left, 1))
            return list(self.lines)

    def close(self) -> None:
        """
        End the shell and all that runs in it.
        """
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)
        self._reader.join(10)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()


def install() -> None:
    """
    Install the maker of containers where that is possible; else say how.
    """
    if not apt.install(("debootstrap",), "debootstrap for the walks through the pages", lambda: missing() is None):
        print("The walks through the pages will be skipped. As root on Debian: apt-get install debootstrap")


if __name__ == "__main__":
    install()
