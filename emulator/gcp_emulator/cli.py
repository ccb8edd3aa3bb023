"""
``gcp-emulator``: the local cloud from a terminal.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

from gcp_emulator import __version__, names, words
from gcp_emulator.cloud import CloudError, LocalCloud
from gcp_emulator.collecting import Collected
from gcp_emulator.exports import APP_PORT, exports, kept, port_of
from gcp_emulator.failures import FailureLines
from gcp_emulator.firestore import FirestoreServer
from gcp_emulator.mail import Mail, MailSink
from gcp_emulator.page import PATH, PageWatch
from gcp_emulator.tasks.sender import allow_files

FIXED_PORTS = {"firestore": 8080, "tasks": 9499, "logging": 9500, "oidc": 9501, "mail": 8025}
_FIXED_APP_PORT = 8000
DELIVERY_FAULTS = {"duplicate": "duplicate", "delay": "delay", "lose": "lose", "lose-answer": "lose_answer"}
_MOST_SECONDS = 86_400
NOT_EXECUTABLE = 126
NOT_FOUND = 127
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_EPILOG = """\
faults:
  duplicate=RATE         a second copy of a task is delivered while the first may still run
  delay=RATE             a delivery is held back; this also reorders
  lose=RATE              nothing is sent; the queue sees a failed attempt
  lose-answer=RATE       the handler runs, its answer is lost
  METHOD:before=RATE     an RPC such as Commit or CreateTask fails and has no effect
  METHOD:after=RATE      an RPC takes effect, and its answer is lost
  RATE is a number between 0 and 1; the same --seed repeats the same choices.

environment:
  Always set: GOOGLE_CLOUD_PROJECT, ONCETASK_LOCATION, the addresses of the services (FIRESTORE_EMULATOR_HOST,
  CLOUD_TASKS_EMULATOR_HOST, CLOUD_LOGGING_EMULATOR_HOST, ONCETASK_OIDC_CERTS_URL), and ONCETASK_SMTP_URL unless --no-smtp.
  Set unless your environment has them: ONCETASK_BASE_URL (http://127.0.0.1: and the app's port), ONCETASK_AUDIENCE (the
  same), ONCETASK_SERVICE_ACCOUNT (the first of ONCETASK_CALLERS, else app@PROJECT.iam.gserviceaccount.com),
  ONCETASK_QUEUE (the first --queue; a queue of yours is created), ONCETASK_LINK_KEYS (a key for local work), and
  ONCETASK_ALERT_TO (oncall@example.com) unless --no-smtp.
  The app's port is also set as PORT, where gunicorn listens by itself, and FLASK_RUN_PORT; with an ONCETASK_BASE_URL of
  yours and no --app-port these are left alone. Everything else passes as it is.

examples:
  gcp-emulator start --fixed-ports --queue default --queue mail
  gcp-emulator exec -- gunicorn app:app
  gcp-emulator exec --app-port 5000 -- flask --app app run
  gcp-emulator exec --fault duplicate=0.2 --fault Commit:after=0.05 --seed 7 -- pytest
"""


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command line; returns the exit code.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    own, _, command = _split(given)
    parser = _parser()
    options = parser.parse_args(own)
    if options.what == "exec" and not command:
        parser.error("exec needs a command after --, for example: gcp-emulator exec -- python app.py")
    if options.what == "start" and "--" in given:
        parser.error("start takes no command; to run one inside the environment: gcp-emulator exec -- COMMAND")
    if options.what == "exec" and (refusal := _unusable(command[0])):
        return refusal
    if sentence := _taken(options) or _own_queue():
        parser.error(sentence)
    cloud = _cloud(options)
    if sentence := _add_faults(cloud, options.fault):
        parser.error(sentence)
    return _Session(cloud, options).run(command)


def _split(given: list[str]) -> tuple[list[str], str, list[str]]:
    if "--" not in given:
        return given, "", []
    at = given.index("--")
    return given[:at], "--", given[at + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gcp-emulator",
        description="A local Google Cloud on loopback: Firestore, Cloud Tasks, Cloud Logging, OIDC tokens, mail.",
        epilog="gcp-emulator start --help shows the options, which exec shares.",
    )
    parser.add_argument("--version", action="version", version=f"gcp-emulator {__version__}")
    commands = parser.add_subparsers(dest="what", required=True, metavar="start|exec")
    start = commands.add_parser(
        "start",
        help="run until Ctrl-C; print the environment to export",
        description="Start every service and print 'export NAME=value' lines on standard output; progress goes to "
        "standard error. Ctrl-C or SIGTERM stops everything.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    execute = commands.add_parser(
        "exec",
        help="run a command inside the environment, then stop",
        usage="gcp-emulator exec [options] -- COMMAND [ARGUMENT ...]",
        description="Start every service, run COMMAND with the environment set, stop when it ends; the exit code is "
        "the command's.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    execute.add_argument(
        "--page",
        default=PATH,
        type=_path,
        metavar="PATH",
        help="a page of your server, whose address is shown if it is there (default: %(default)s)",
    )
    execute.add_argument(
        "--collect-logs",
        action="store_true",
        help="write the command's output, which is still shown, to the local Cloud Logging, as Cloud Run does",
    )
    for one in (start, execute):
        _add_options(one)
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--project", type=_named("project"), default="demo-local", help="project id (default: %(default)s)")
    add(
        "--location",
        type=_named("location"),
        default="us-central1",
        help="location of the queues (default: %(default)s)",
    )
    add(
        "--firestore",
        choices=("embedded", "google"),
        default="embedded",
        help="the embedded server, or Google's emulator (needs Java) (default: %(default)s)",
    )
    add(
        "--queue",
        action="append",
        type=_named("queue"),
        metavar="NAME",
        help="queue to create; repeatable (default: default)",
    )
    for name, port in FIXED_PORTS.items():
        option = "smtp" if name == "mail" else name
        text = f"port of {name} (default: a free one; {port} with --fixed-ports)"
        add(f"--port-{option}", dest=f"port_{name}", type=_port, metavar="PORT", help=text)
    add("--fixed-ports", action="store_true", help="the same ports each time, instead of free ones")
    add("--seed", type=_seed, default=0, help="seed of the faults (default: %(default)s)")
    add("--fault", action="append", default=[], type=_fault, metavar="NAME=RATE", help="see below; repeatable")
    add("--log-delay", type=_seconds, default=0.0, metavar="SECONDS", help="until log entries can be listed")
    add(
        "--smtp",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="start the mail sink, and show arriving mail (default: yes)",
    )
    add(
        "--app-port",
        type=_port,
        metavar="PORT",
        help=f"where your server listens (default: PORT as it is set, else {APP_PORT}; {_FIXED_APP_PORT} with --fixed-ports)",
    )
    add(
        "--app-engine",
        metavar="URL",
        type=_address,
        help="where tasks for App Engine are delivered (default: your server)",
    )
    add("--project-only", action="store_true", help="refuse queues and tasks of other projects, as the service does")
    add("-q", "--quiet", action="store_true", help="no progress and no failed deliveries on standard error")


def _named(kind: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if sentence := names.problem(kind, text):
            raise argparse.ArgumentTypeError(sentence)
        return text

    return check


def _seed(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{_short(text)} is no seed; a seed is a whole number") from None


def _port(text: str) -> int:
    if not text.isdecimal() or len(text) > 5 or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{_short(text)} is no port; a port is a number from 1 to 65535")
    return int(text)


def _address(text: str) -> str:
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and not parts.query and not parts.fragment
        usable = bool(good) and parts.port != 0 and text.isprintable() and " " not in text
    except ValueError:
        usable = False
    if not usable:
        raise argparse.ArgumentTypeError(f"{_short(text)} is no address such as http://127.0.0.1:8080")
    return text


def _path(text: str) -> str:
    if not text.startswith("/") or not text.isascii() or not text.isprintable() or " " in text:
        raise argparse.ArgumentTypeError(f"{_short(text)} is no path of a page; one begins with '/', such as /status")
    return text


def _short(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= 120 else f"{shown[:117]}..."


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"{_short(text)} is no number of seconds from 0 to {_MOST_SECONDS}")
    return seconds


def _fault(text: str) -> tuple[str, float]:
    name, _, given = text.partition("=")
    try:
        rate = float(given)
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 1:
        raise argparse.ArgumentTypeError(f"{_short(text)} is not NAME=RATE with a rate between 0 and 1")
    method, _, when = name.partition(":")
    if name not in DELIVERY_FAULTS and not (method and when in ("before", "after")):
        known, near = ", ".join(DELIVERY_FAULTS), words.hint(name, DELIVERY_FAULTS)
        raise argparse.ArgumentTypeError(
            f"no fault is called {_short(name)}; there are {known}, METHOD:before and METHOD:after.{near}"
        )
    return name, rate


def _unusable(program: str) -> int:
    """
    The exit code for a program that can't be run; 0 if it can.
    """
    if shutil.which(program) is not None:
        return 0
    if "/" in program and Path(program).exists():
        _say(f"gcp-emulator: {program} is not executable.")
        return NOT_EXECUTABLE
    _say(f"gcp-emulator: there is no command '{program}'; check the spelling and PATH.")
    return NOT_FOUND


def _ports(options: argparse.Namespace) -> dict[str, int]:
    """
    Ports by service; a service without one gets a free port.
    """
    ports = dict(FIXED_PORTS) if options.fixed_ports else {}
    for name in FIXED_PORTS:
        if (port := getattr(options, f"port_{name}")) is not None:
            ports[name] = port
    return ports


def _default_app_port(options: argparse.Namespace) -> int:
    return _FIXED_APP_PORT if options.fixed_ports else APP_PORT


def _twice(options: argparse.Namespace) -> str:
    owners: dict[int, str] = {}
    for name, port in _ports(options).items():
        if port in owners:
            return f"{port} can't be the port of both {owners[port]} and {name}; name another one for one of them"
        owners[port] = name
    return ""


def _taken(options: argparse.Namespace) -> str:
    """
    A sentence if the app's port can't be its own.
    """
    if sentence := _twice(options):
        return sentence
    if options.app_port is None and os.environ.get("ONCETASK_BASE_URL"):
        return ""
    try:
        port = options.app_port or port_of(os.environ, _default_app_port(options))
    except ValueError as error:
        return f"{error}; name the port of your server with --app-port"
    for name, other in _ports(options).items():
        if other == port:
            return f"{port} is the port of {name}; name another one for your server with --app-port"
    return ""


def _cloud(options: argparse.Namespace) -> LocalCloud:
    cloud = LocalCloud(
        options.project,
        options.location,
        firestore=options.firestore,
        seed=options.seed,
        queues=_queues(options),
        mail=MailSink(on_message=_show_mail),
        smtp=options.smtp,
        app_engine=options.app_engine or "",
        project_only=options.project_only,
    )
    if not options.quiet:
        cloud.tasks.on_failure = FailureLines(_say, cloud.clock)
    cloud.logging.delay = options.log_delay
    return cloud


def _own_queue() -> str:
    own = os.environ.get("ONCETASK_QUEUE")
    problem = names.problem("queue", own) if own else ""
    return f"ONCETASK_QUEUE in the environment: {problem}" if problem else ""


def _queues(options: argparse.Namespace) -> list[str]:
    """
    Names of the queues to create: the user's own one must be there too.
    """
    own = os.environ.get("ONCETASK_QUEUE")
    named = options.queue or []
    return [*named, own] if own else named or ["default"]


def _add_faults(cloud: LocalCloud, faults: list[tuple[str, float]]) -> str:
    """
    Set the faults; a sentence if one names an RPC that no service here has.
    """
    services = [cloud.tasks.service, cloud.logging.service]
    if isinstance(cloud.firestore, FirestoreServer):
        services.append(cloud.firestore.service)
    methods = sorted({method for service in services for method in service.methods})
    for name, rate in faults:
        if name in DELIVERY_FAULTS:
            setattr(cloud.faults.deliveries, DELIVERY_FAULTS[name], rate)
            continue
        method, _, when = name.partition(":")
        if method not in ("*", *methods):
            near = words.hint(method, methods)
            return f"no service here has an RPC {_short(method)} to fail; there are *, {', '.join(methods)}.{near}"
        cloud.faults.fail(method, when="after" if when == "after" else "before", times=None, probability=rate)
    return ""


def _show_mail(mail: Mail) -> None:
    _say(f"mail to {', '.join(mail.recipients)}: {mail.message['Subject']}")


def _say(text: str) -> None:
    # One write, since services report from several threads.
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


class _Session:
    """
    One run: signals, start, the wait or the command, stop.
    """

    def __init__(self, cloud: LocalCloud, options: argparse.Namespace) -> None:
        self._cloud = cloud
        self._options = options
        self._signal = 0
        self._told = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._pending = 0

    def run(self, command: list[str]) -> int:
        allow_files()
        before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        try:
            self._cloud.start(ports=_ports(self._options), on_ready=self._on_ready)
        except CloudError as error:
            _say(f"gcp-emulator: {error}")
            return 1
        else:
            try:
                return self._execute(command) if command else self._wait()
            finally:
                self._cloud.stop()
                self._progress("stopped")
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_ready(self, name: str, address: str) -> None:
        self._progress(f"{name:<10} {address}")

    def _exports(self) -> dict[str, str]:
        found = exports(self._cloud, os.environ, self._options.app_port, _default_app_port(self._options))
        self._cloud.tasks.app_url = found["ONCETASK_BASE_URL"]
        self._progress(f"{'app':<10} {found['ONCETASK_BASE_URL']}  (your server, where tasks are delivered)")
        if names := kept(found, os.environ):
            self._progress(f"{'kept':<10} {', '.join(names)}  (set in your environment)")
        return found

    def _progress(self, text: str) -> None:
        if not self._options.quiet:
            _say(text)

    def _wait(self) -> int:
        for name, value in self._exports().items():
            print(f"export {name}={shlex.quote(value)}", flush=True)
        self._progress("ready; Ctrl-C stops everything")
        self._told.wait()
        return 0

    def _execute(self, command: list[str]) -> int:
        if self._told.is_set():
            return 128 + self._signal
        found = self._exports()
        watch = PageWatch(
            found["ONCETASK_BASE_URL"], self._options.page, lambda url: self._progress(f"{'console':<10} {url}")
        )
        pipe = subprocess.PIPE if self._options.collect_logs else None
        try:
            self._child = subprocess.Popen(  # noqa: S603 - the caller's command
                command, env={**os.environ, **found}, stdout=pipe, stderr=pipe
            )
        except OSError as error:
            _say(f"gcp-emulator: {command[0]} can't be run: {error.strerror}.")
            return NOT_EXECUTABLE
        if self._pending:
            self._child.send_signal(self._pending)
        if not self._options.quiet:
            watch.start()
        collected = self._collect(self._child)
        code = self._child.wait()
        watch.stop()
        collected.finish()
        return code if code >= 0 else 128 - code

    def _collect(self, child: subprocess.Popen[bytes]) -> Collected:
        cloud = self._cloud
        collected = Collected(cloud.logging, cloud.clock, cloud.project, cloud.location, os.environ)
        if child.stdout is not None and child.stderr is not None:
            collected.read("stdout", child.stdout, sys.stdout.buffer)
            collected.read("stderr", child.stderr, sys.stderr.buffer)
        return collected

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._signal = number
        self._told.set()
        if self._child is None:
            self._pending = number
        elif not (number == signal.SIGINT and _in_foreground()):
            # Ctrl-C in a terminal reaches the command by itself; a second SIGINT would look like impatience.
            self._child.send_signal(number)


def _in_foreground() -> bool:
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return False
