"""
Handle payment events, which may come late, several times, at the same time, and again after a crash. Each event is booked
once, and each copy gets the same answer. Run it with: WEBHOOK_SECRET=... gcp-emulator exec -- flask --app
examples.webhook.app run
"""

import hashlib
import hmac
import os
from datetime import timedelta
from typing import Any

from flask import Flask, request
from pydantic import BaseModel, ValidationError

from gcp_oncetask import BackendError, ConfigError, LockBusyError, Locker, TaskConflictError, once

SECRET = os.environ.get("WEBHOOK_SECRET", "").encode()
if not SECRET:
    raise ConfigError("WEBHOOK_SECRET is not set: the secret that senders sign their events with.")
locker = Locker.from_env()
app = Flask(__name__)


class Event(BaseModel):
    id: str
    account: str
    amount: int


class Booking(BaseModel):
    account: str
    amount: int
    number: int


@once(locker, key=lambda event: event.id, result=Booking, ttl=30, retention=timedelta(days=90), name="payments.book")
def book(event: Event) -> Booking:
    """
    Book one event. If the process dies here, the function is run again. So it writes by the event's id, and the second run
    finds the booking of the first. Give the id to a remote service as its idempotency key.
    """
    bookings = locker.client.collection("accounts", event.account, "bookings")
    entry = bookings.document(event.id)
    with locker.lock(f"account-{event.account}", keep_alive=30, timeout=20):
        found = entry.get()
        number = found.get("number") if found.exists else len(list(bookings.list_documents())) + 1
        entry.set({"amount": event.amount, "number": number})
    return Booking(account=event.account, amount=event.amount, number=number)


@app.post("/webhooks/payments")
def payments() -> tuple[dict[str, Any], int]:
    """
    Answer 200 with the booking, also for a copy; 409 while another copy is being handled, so that the sender tries again
    later.
    """
    body = request.get_data()
    signature = hmac.new(SECRET, body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(signature, request.headers.get("X-Signature", "")):
        return {"error": "the signature is not that of the body"}, 401
    try:
        event = Event.model_validate_json(body)
    except ValidationError as error:
        return {"error": f"not an event: {error.error_count()} fields are wrong"}, 400
    try:
        return book(event).model_dump(), 200
    except LockBusyError:
        return {"error": "a copy of this event is being handled; send it again later"}, 409
    except TaskConflictError:
        return {"error": f"event {event.id} was sent before with other contents"}, 422
    except BackendError as error:
        app.logger.warning("event %s: %s", event.id, error)
        return {"error": "try again later"}, 500
