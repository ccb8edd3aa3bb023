"""
``make demo CONSOLE=1``: one more order, at a bank that forgets idempotency keys. Its process is killed while the log
lines are an hour late, so a person decides in the console, or by a command of the alert mail.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gcp_emulator.page import PATH, PageWatch
from gcp_oncetask import Locker, Status, sweep

if TYPE_CHECKING:
    from examples.orders.demo import Order, Shop

ROOT = Path(__file__).parents[2]


def leave_open(shop: Shop, locker: Locker, order: Order) -> None:
    """
    Let *order* be quarantined; then serve the console and sweep, until Ctrl-C or SIGTERM.
    """
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    say("\none order more, at a bank that forgets idempotency keys; its process is killed, and the logs are late ...")
    shop.serve(log_delay=3600)
    shop.payments.struck[str(order.id)] = signal.SIGKILL
    locker.schedule(order, "/tasks/bank-order")
    while not (lock_is(locker, order, Status.QUARANTINED) and shop.mails_about(order)):
        if stopping.wait(1.0):
            return
        sweep(locker)
    tell(shop, order)
    with console_of(shop) as server:
        decided = False
        while not stopping.wait(1.0) and server.poll() is None:
            sweep(locker)
            if not decided and lock_is(locker, order, Status.COMPLETED):
                decided = True
                paid = len(shop.payments.calls[str(order.id)])
                say(f"Order {order.id} is completed; charges asked of the bank: {paid}")


def tell(shop: Shop, order: Order) -> None:
    """
    Print the mail about *order*, and ways to an answer.
    """
    say(f"\nThe mail to the person on call:\n{indented(shop.mails_about(order)[0])}\n")
    local = " ".join(f"{name}={value}" for name, value in sorted(shop.cloud.environment().items()))
    say(f"Commands of the mail find this local Google Cloud by: export {local}")
    [key] = shop.payments.calls[str(order.id)]
    say(f"Ask the bank whether it was paid: curl '{shop.payments.url}?key={key}'")


@contextmanager
def console_of(shop: Shop) -> Iterator[subprocess.Popen[bytes]]:
    """
    Serve the console, and print its address once it answers.
    """
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    # Not on the Cloud Run stand-in: on Cloud Run, a console lets in only people whom Google's proxy has identified.
    gunicorn = f"gunicorn examples.orders.console:app --threads 8 --log-level warning --bind fd://{listener.fileno()}"
    server = subprocess.Popen(
        [sys.executable, "-m", *gunicorn.split()],
        env=shop.environment,
        cwd=ROOT,
        pass_fds=(listener.fileno(),),
        stdout=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()
    watch = PageWatch(url, PATH, lambda page: say(f"Decide in the console: {page}   (Ctrl-C ends it)"))
    watch.start()
    try:
        yield server
    finally:
        watch.stop()
        server.terminate()
        server.wait()


def lock_is(locker: Locker, order: Order, status: Status) -> bool:
    """
    True if the order has *status* now.
    """
    found = locker.get(type(order), str(order.id))
    return found is not None and found.lock is not None and found.lock.status is status


def indented(text: str) -> str:
    """
    Return *text* with a margin.
    """
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())


def say(text: str) -> None:
    """
    Print a text at once.
    """
    print(text, flush=True)
