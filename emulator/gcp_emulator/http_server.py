"""
An HTTP server on loopback whose thread sleeps until a client connects or the server is stopped.
"""

from __future__ import annotations

import selectors
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOST = "127.0.0.1"


class HttpServer(ThreadingHTTPServer):
    """
    Serves *handler* on *port* (0: a free one), one thread per connection.

    ``serve_forever`` of the standard library looks twenty times a second whether it is to stop; this one is woken.
    """

    daemon_threads = True
    request_queue_size = 512

    def __init__(self, handler: type[BaseHTTPRequestHandler], port: int, name: str) -> None:
        super().__init__((HOST, port), handler)
        self.port = int(self.server_address[1])
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)

    def start(self) -> None:
        """
        Accept connections from now on.
        """
        self._thread.start()

    def stop(self) -> None:
        """
        Close the port; open connections go on.
        """
        self._stop.close()
        self._thread.join()
        self.server_close()
        self._stopped.close()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self, selectors.EVENT_READ)
            selector.register(self._stopped, selectors.EVENT_READ)
            while all(key.fileobj is self for key, _ in selector.select()):
                self.handle_request()
