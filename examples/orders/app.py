"""
The application: two steps per order. Served by gunicorn as ``examples.orders.app:app``; configured by the environment.

An order at ``/tasks/order`` runs again if its process dies, because the payment service knows the idempotency key. An order at
``/tasks/bank-order`` is paid at a bank that forgets keys, so a person decides if the logs do not tell whether it was paid.
"""

import json
import logging
import os
import smtplib
import sys
import time
import urllib.request
from email.message import EmailMessage
from urllib.parse import urlsplit

from flask import Flask

from gcp_oncetask import Attempt, ConfigError, LockedModel, Locker
from gcp_oncetask.flask import blueprint, locked_handler
from gcp_oncetask.logs import CloudFormatter

handler = logging.StreamHandler(sys.stdout)
handler.setFormatter(CloudFormatter(os.environ.get("GOOGLE_CLOUD_PROJECT")))
logging.basicConfig(level=logging.INFO, handlers=[handler])

unset = [name for name in ("PAYMENTS_URL", "RECEIPTS_URL") if not os.environ.get(name)]
if unset:
    raise ConfigError(
        f"Not set: {', '.join(unset)}. They name the payment service (http://...) and the mail server (smtp://...)."
    )


class Order(LockedModel, collection="orders"):
    amount: int
    email: str
    charged: str = ""


locker = Locker.from_env()
app = Flask(__name__)
app.register_blueprint(blueprint(locker))


LEASE = float(os.environ.get("DEMO_LEASE_SECONDS", "60"))
TIMEOUT = float(os.environ.get("DEMO_TIMEOUT_SECONDS", "630"))


@app.post("/tasks/order")
@locked_handler(locker, Order, lease_duration=LEASE, lease_timeout=TIMEOUT)
def fulfil(order: Order, attempt: Attempt) -> None:
    match attempt.step:
        case 1:
            order.charged = charge(order, attempt.key)
            locker.schedule(order, "/tasks/order")
        case 2:
            send_receipt(order)
            locker.complete(order)


@app.post("/tasks/bank-order")
@locked_handler(locker, Order, on_unknown="quarantine", lease_duration=LEASE, lease_timeout=TIMEOUT)
def fulfil_at_bank(order: Order, attempt: Attempt) -> None:
    order.charged = charge(order, attempt.key)
    locker.schedule(order, "/tasks/receipt")


@app.post("/tasks/receipt")
@locked_handler(locker, Order, lease_duration=LEASE, lease_timeout=TIMEOUT)
def send(order: Order, _: Attempt) -> None:
    send_receipt(order)
    locker.complete(order)


def charge(order: Order, key: str) -> str:
    """
    Charge the card; the payment service knows the key, so a repeated call charges nothing.
    """
    call = urllib.request.Request(
        os.environ["PAYMENTS_URL"],
        data=json.dumps({"order": order.id, "amount": order.amount, "key": key, "pid": os.getpid()}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(call, timeout=10) as answer:
        charge_id = json.load(answer)["charge"]
    time.sleep(float(os.environ.get("DEMO_WORK_SECONDS", "0")))  # the slow part, in which the demo kills processes
    return str(charge_id)


def send_receipt(order: Order) -> None:
    """
    Mail the receipt; a mail has no idempotency key, so it carries the order in its Message-ID.
    """
    server = urlsplit(os.environ["RECEIPTS_URL"])
    message = EmailMessage()
    message["From"], message["To"] = "shop@example.com", order.email
    message["Subject"] = f"Receipt for order {order.id}"
    message["Message-ID"] = f"<receipt-{order.id}@example.com>"
    message.set_content(f"You paid {order.amount / 100:.2f}. Charge: {order.charged}\n")
    with smtplib.SMTP(server.hostname or "", server.port or 25, timeout=10) as smtp:
        smtp.send_message(message)
