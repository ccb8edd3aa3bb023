"""
Google's clients for Node and for the Web, on a port that is closed and opened again. Skipped where they are not installed.
"""

from __future__ import annotations

import os
import queue
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gcp_emulator.channel import InProcessChannel, firestore_client
from gcp_emulator.firestore import FirestoreServer
from tests.support.node_clients import FOLDER, missing
from tests.support.patience import patient

pytestmark = pytest.mark.skipif(missing() is not None, reason=missing() or "")

NODE = """
const { Firestore } = require('@google-cloud/firestore');
const db = new Firestore({ projectId: 'p' });
db.collection('things').where('n', '>', 0).onSnapshot(
  (found) => found.docChanges().forEach((each) => console.log(each.type, each.doc.id)),
  (error) => { console.log('error', error.message); process.exit(1); });
"""
WEB = """
const { initializeApp } = require('firebase/app');
const { getFirestore, connectFirestoreEmulator, doc, setDoc, updateDoc, increment, onSnapshot, collection, setLogLevel } =
  require('firebase/firestore');
setLogLevel('silent');
const db = getFirestore(initializeApp({ projectId: 'p', apiKey: 'x' }));
const [host, port] = process.env.FIRESTORE_EMULATOR_HOST.split(':');
connectFirestoreEmulator(db, host, Number(port));
async function run() {
  onSnapshot(collection(db, 'things'), (found) =>
    found.docChanges().forEach((each) => each.doc.metadata.hasPendingWrites || console.log(each.type, each.doc.id)));
  await setDoc(doc(db, 'things/a'), { n: 1 });
  await updateDoc(doc(db, 'things/a'), { n: increment(5) });
  await updateDoc(doc(db, 'things/none'), { n: 1 }).catch((error) => console.log('refused', error.code));
  console.log('written');
  process.stdin.on('data', async () => { await setDoc(doc(db, 'things/b'), { n: 2 }); console.log('written again'); });
}
run();
"""


class Program:
    """
    A program in JavaScript and the lines that it prints.
    """

    def __init__(self, text: str, address: str, folder: Path) -> None:
        script = folder / "program.js"
        script.write_text(text)
        environment = {
            **os.environ,
            "FIRESTORE_EMULATOR_HOST": address,
            "NODE_PATH": str(FOLDER / "node_modules"),
            # It asks for the machine's project where there is none.
            "METADATA_SERVER_DETECTION": "none",
        }
        self._process = subprocess.Popen(
            ["node", str(script)], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.strip())

    def until(self, line: str) -> list[str]:
        """The lines up to this one."""
        found = []
        while not found or found[-1] != line:
            found.append(self._lines.get(timeout=patient(30)))
        return found

    def say(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def server() -> Iterator[FirestoreServer]:
    server = FirestoreServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def started(server, tmp_path) -> Iterator[Callable[[str], Program]]:
    programs = []

    def start(text: str) -> Program:
        programs.append(Program(text, server.address, tmp_path))
        return programs[-1]

    yield start
    for each in programs:
        each.close()


def behind(server: FirestoreServer, change: Callable[[Any], object]) -> None:
    """
    Close the port, change documents, and open it again.
    """
    port = int(server.address.rpartition(":")[2])
    server.stop()
    change(firestore_client(InProcessChannel([server.service]), "p"))
    server.start(port)


def test_node_s_listener_goes_on_after_a_restart(server, started):
    """Of what was written meanwhile it hears once."""
    client = firestore_client(InProcessChannel([server.service]), "p")
    client.document("things/a").set({"n": 1})
    client.document("things/same").set({"n": 1})
    program = started(NODE)
    assert program.until("added same") == ["added a", "added same"]
    behind(server, lambda client: client.document("things/a").set({"n": 2}))
    assert program.until("modified a") == ["modified a"]
    client.document("things/same").delete()
    assert program.until("removed same") == ["removed same"]


def test_web_client_writes_and_listens(server, started):
    """Writes go over the Write stream; a refused one is told, and the next are applied, also after a restart."""
    program = started(WEB)
    assert "refused not-found" in program.until("written")
    client = firestore_client(InProcessChannel([server.service]), "p")
    assert client.document("things/a").get().to_dict() == {"n": 6}
    behind(server, lambda client: client.document("things/x").set({"n": 9}))
    program.until("added x")
    program.say()
    program.until("written again")
    assert client.document("things/b").get().to_dict() == {"n": 2}
    assert server.counts["Write"] >= 2
