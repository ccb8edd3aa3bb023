"""
Documents that expire, on a virtual clock.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from google.api_core.exceptions import Aborted
from google.cloud import firestore

from gcp_emulator.channel import InProcessChannel, firestore_client
from gcp_emulator.clock import VirtualClock, datetime_of
from gcp_emulator.firestore import FirestoreServer, IndexCheck


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def server(clock: VirtualClock) -> FirestoreServer:
    """
    Sessions expire at their ``expireAt``; they are deleted an hour later.
    """
    made = FirestoreServer(clock, ttl_lag=3600)
    made.set_ttl("sessions", "expireAt")
    return made


@pytest.fixture
def client(server: FirestoreServer) -> Any:
    return firestore_client(InProcessChannel([server.service]), "p")


def later(clock: VirtualClock, seconds: float) -> Any:
    return datetime_of(clock.micros()) + timedelta(seconds=seconds)


def test_document_goes_when_its_time_and_the_lag_have_passed(server, client, clock):
    """Not before; wherever in the group it lies; and nothing without that field, or with no time in it."""
    client.document("sessions/a").set({"expireAt": later(clock, 60)})
    client.document("users/u/sessions/b").set({"expireAt": later(clock, 60)})
    client.document("sessions/never").set({"x": 1})
    client.document("sessions/text").set({"expireAt": "soon"})
    client.document("other/a").set({"expireAt": later(clock, 60)})
    clock.advance(3659)
    assert len(server.documents("p")) == 5
    clock.advance(1)
    assert list(server.documents("p")) == ["other/a", "sessions/never", "sessions/text"]


def test_expired_document_is_still_there_before_the_lag(client, clock):
    """Readers must look at the time themselves, as with the service."""
    client.document("sessions/a").set({"expireAt": later(clock, 60)})
    clock.advance(120)
    assert client.document("sessions/a").get().exists


def test_later_time_keeps_it(client, clock):
    """What counts is the time that is stored at last."""
    reference = client.document("sessions/a")
    reference.set({"expireAt": later(clock, 60)})
    reference.update({"expireAt": later(clock, 100_000)})
    clock.advance(4000)
    assert reference.get().exists


def test_deletion_is_an_ordinary_one(client, clock):
    """A transaction that has read the document is aborted."""
    reference = client.document("sessions/a")
    reference.set({"expireAt": later(clock, 10 - 3600)})
    transaction = client.transaction(max_attempts=1)
    transaction._begin()
    assert reference.get(transaction=transaction).exists
    transaction.set(client.document("c/a"), {"x": 1})
    clock.advance(11)
    assert not reference.get().exists
    with pytest.raises(Aborted):
        transaction._commit()


def test_index_file_says_which_field(clock):
    """``ttl: true`` in an override is what firebase deploys."""
    file = {"fieldOverrides": [{"collectionGroup": "s", "fieldPath": "at", "ttl": True, "indexes": []}]}
    server = FirestoreServer(clock, indexes=IndexCheck.from_json(json.dumps(file)), ttl_lag=0)
    client: firestore.Client = firestore_client(InProcessChannel([server.service]), "p")
    client.document("s/a").set({"at": later(clock, 5)})
    clock.advance(6)
    assert not client.document("s/a").get().exists
