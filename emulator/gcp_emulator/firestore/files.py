"""
Files of exported documents: a line with the format, then each document with its length before it, then a checksum.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from google.protobuf.message import DecodeError

from gcp_emulator.firestore.messages import AnyDocument, Document

MAGIC = b"gcp-emulator firestore export 1\n"
_LENGTH = 4
_DIGEST = hashlib.sha256().digest_size


def write(path: Path, documents: list[AnyDocument]) -> None:
    """
    Write *documents* to *path*; an existing file stays until all is written.
    """
    parts = [MAGIC]
    for document in documents:
        data = document.SerializeToString()
        parts += [len(data).to_bytes(_LENGTH, "big"), data]
    whole = b"".join(parts)
    aside = path.with_name(f"{path.name}.part")
    with aside.open("wb") as file:
        file.write(whole + hashlib.sha256(whole).digest())
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def read(path: Path) -> list[AnyDocument]:
    """
    The documents at *path*.

    Raises:
        ValueError: It is no exported file, or it is damaged.
    """
    data = path.read_bytes()
    if not data.startswith(MAGIC):
        raise ValueError(f"{path} is no Firestore export of this server.")
    whole, digest = data[:-_DIGEST], data[-_DIGEST:]
    if hashlib.sha256(whole).digest() != digest:
        raise ValueError(f"{path} is damaged: its checksum is wrong. Export again.")
    found = []
    at = len(MAGIC)
    while at < len(whole):
        length = int.from_bytes(whole[at : at + _LENGTH], "big")
        at += _LENGTH
        try:
            found.append(Document.FromString(whole[at : at + length]))
        except DecodeError as error:
            raise ValueError(f"{path} is damaged: {error}.") from None
        at += length
    return found
