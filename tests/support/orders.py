"""
The application that the integration tests run: two steps per order, a payment service that remembers its calls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from flask import Flask

from gcp_oncetask import Attempt, Config, LockedModel, Locker
from gcp_oncetask.flask import blueprint, locked_handler

URL = "https://orders.test"


def allow(locker: Locker, *targets: str) -> None:
    """
    Let its tasks go to *targets* as well, as ``ONCETASK_TARGETS`` does.
    """
    locker._runtime.config = replace(locker.config, targets=targets)


class Killed(BaseException):
    """
    The process dies while a handler runs: the caller sees a broken connection.
    """


class Mortal:
    """
    A WSGI app whose handlers may die.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(self, environ: Any, start_response: Any) -> Any:
        try:
            return self.app(environ, start_response)
        except Killed:
            start_response("503 Service Unavailable", [])
            return [b"The request failed because the connection to the instance had an error."]


class Order(LockedModel, collection="orders"):
    amount: int = 0
    email: str = ""
    note: str = ""


@dataclass
class Shop:
    """
    A locker, a Flask app, and what its handlers did.
    """

    locker: Locker
    app: Flask
    charges: list[tuple[str, str]] = field(default_factory=list)
    receipts: list[str] = field(default_factory=list)
    seen: list[Attempt] = field(default_factory=list)
    on_charge: Callable[[Order, Attempt], Any] | None = None
    on_receipt: Callable[[Order, Attempt], Any] | None = None


def make_shop(config: Config | None = None, *, locker: Locker | None = None, **options: Any) -> Shop:
    """
    A fresh shop, with a locker of its own or *locker*; *options* are those of ``locked_handler``.
    """
    locker = locker or Locker(config=config or Config())
    app = Flask(__name__)
    app.wsgi_app = Mortal(app.wsgi_app)  # type: ignore[method-assign]  # Flask's own way to wrap an app
    app.register_blueprint(blueprint(locker))
    shop = Shop(locker, app)

    @app.post("/tasks/order")
    @locked_handler(locker, Order, **options)
    def fulfil(order: Order, attempt: Attempt) -> Any:
        shop.seen.append(attempt)
        match attempt.step:
            case 1:
                shop.charges.append((order.id, attempt.key))
                if shop.on_charge is not None:
                    return shop.on_charge(order, attempt)
                locker.schedule(order, "/tasks/order")
            case 2:
                shop.receipts.append(order.id)
                if shop.on_receipt is not None:
                    return shop.on_receipt(order, attempt)
                locker.complete(order)
        return None

    return shop
