"""
The container of the Cloud Run tests: a server whose paths misbehave on purpose.
"""

# ruff: noqa: N815 - http.server's names
import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LATE = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        getattr(self, "at" + self.path.partition("?")[0].replace("/", "_"), self.echo)(body)

    do_POST = do_PUT = do_HEAD = do_GET

    def log_message(self, *args):
        pass

    def argument(self):
        return self.path.partition("?")[2].partition("&")[0]

    def answer(self, status, body, headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def echo(self, body):
        told = {
            "method": self.command,
            "path": self.path,
            "headers": [[name.lower(), value] for name, value in self.headers.items()],
            "body": body.decode(),
            "pid": os.getpid(),
            "client": self.client_address[1],
            "environment": {name: value for name, value in os.environ.items() if name[:2] in ("K_", "PO", "SP")},
        }
        self.answer(
            200, json.dumps(told).encode(), [("X-One", "a"), ("X-One", "b"), ("Content-Type", "application/json")]
        )

    def at_status(self, body):
        self.answer(int(self.argument()), b"as asked")

    def at_print(self, body):
        stream = sys.stderr if self.path.endswith("?err") else sys.stdout
        stream.write(body.decode() + "\n")
        stream.flush()
        self.answer(200, b"")

    def at_exit(self, body):
        os._exit(int(self.argument()))

    def at_break(self, body):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        self.close_connection = True

    def at_chunked(self, body):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")

    def at_slow(self, body):
        print("slow begins", flush=True)
        time.sleep(float(self.argument()))
        print("slow ends", flush=True)
        self.answer(200, b"slow")

    def at_child(self, body):
        self.answer(200, str(os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "300")).encode())


def stop(*_):
    print("stopping", flush=True)
    if os.environ.get("SPOIL") != "stop":
        threading.Thread(target=server.shutdown).start()


if os.environ.get("SPOIL") == "start":
    sys.exit("no configuration: give one")
signal.signal(signal.SIGTERM, stop)
server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
server.daemon_threads = False
server.serve_forever(0.02)
server.server_close()
