"""
Finding and running Google's own emulator.
"""

from __future__ import annotations

import http.client
import os
from pathlib import Path

import grpc
import pytest

from gcp_emulator.firestore import GoogleFirestore, find
from gcp_emulator.firestore.google import ENVIRONMENT

SDK_JAR = "platform/cloud-firestore-emulator/cloud-firestore-emulator.jar"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """
    A machine with Java and nothing else.
    """
    binaries = tmp_path / "bin"
    binaries.mkdir()
    executable(binaries / "java")
    monkeypatch.setenv("PATH", str(binaries))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.setattr("gcp_emulator.firestore.google._SDKS", ())
    return tmp_path


def executable(path: Path, script: str = "exit 0") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def jar(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_find_nothing(machine):
    """Without an installation there is nothing to find, and starting says what to install."""
    assert find() is None
    with pytest.raises(RuntimeError, match="gcloud components install"):
        GoogleFirestore().start()


def test_find_in_order(machine, monkeypatch):
    """The environment wins over gcloud's installation, that over the newest of the Firebase CLI."""
    cache = machine / "home/.cache/firebase/emulators"
    jar(cache / "cloud-firestore-emulator-v1.9.0.jar")
    newest = jar(cache / "cloud-firestore-emulator-v1.19.8.jar")
    assert find() == newest
    executable(machine / "sdk/bin/gcloud")
    (machine / "bin/gcloud").symlink_to(machine / "sdk/bin/gcloud")
    in_sdk = jar(machine / "sdk" / SDK_JAR)
    assert find() == in_sdk
    named = jar(machine / "named.jar")
    monkeypatch.setenv(ENVIRONMENT, str(named))
    assert find() == named
    named.unlink()
    assert find() is None


def test_find_needs_java(machine):
    """Without Java the jar is of no use."""
    jar(machine / "home/.cache/firebase/emulators/cloud-firestore-emulator-v1.9.0.jar")
    assert find() is not None
    (machine / "bin/java").unlink()
    assert find() is None


def test_start_shows_what_was_printed(machine):
    """A process that ends at once is reported with its output, after further tries on other ports."""
    executable(machine / "bin/java", f'echo "$@" >> {machine}/calls; echo "no such class" >&2; exit 3')
    server = GoogleFirestore(jar(machine / "x.jar"))
    with pytest.raises(RuntimeError, match=r"ended with 3[\s\S]*no such class"):
        server.start()
    ports = [line.split()[-1] for line in (machine / "calls").read_text().splitlines()]
    assert len(ports) == 3
    assert server.address == ""


@pytest.mark.google
def test_start_wipe_stop(firestore_google, firestore_wire_to, firestore_project):
    """A second process starts beside the first, forgets what it is told to, and is gone when stopped."""
    server = GoogleFirestore()
    address = server.start()
    try:
        assert address != firestore_google.address
        with grpc.insecure_channel(address) as channel:
            wire = firestore_wire_to(channel, firestore_project)
            wire.commit(wire.write("c/a", {"x": 1}))
            server.wipe(firestore_project)
            assert wire.batch_get("c/a")[0].missing
        pid = server._process.pid
    finally:
        server.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    connection = http.client.HTTPConnection(address, timeout=1)
    with pytest.raises(OSError):
        connection.request("GET", "/")


@pytest.mark.google
def test_start_on_taken_port(firestore_google):
    """A port that was asked for and is taken is an error, not another server's answer."""
    port = int(firestore_google.address.rpartition(":")[2])
    with pytest.raises(RuntimeError, match="Address already in use"):
        GoogleFirestore().start(port)
