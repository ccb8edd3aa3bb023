from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

import psutil
import pytest

from gcp_emulator.cli import _parser, _ports, main
from gcp_emulator.cloud import LocalCloud
from gcp_emulator.exports import LINK_KEY, exports, kept
from gcp_emulator.firestore import find
from tests.support.patience import patient

PROGRAM = [sys.executable, "-m", "gcp_emulator"]
APP = {
    "GOOGLE_CLOUD_PROJECT": "demo-local",
    "ONCETASK_LOCATION": "us-central1",
    "PORT": "8080",
    "FLASK_RUN_PORT": "8080",
    "ONCETASK_BASE_URL": "http://127.0.0.1:8080",
    "ONCETASK_AUDIENCE": "http://127.0.0.1:8080",
    "ONCETASK_SERVICE_ACCOUNT": "app@demo-local.iam.gserviceaccount.com",
    "ONCETASK_QUEUE": "default",
    "ONCETASK_ALERT_TO": "oncall@example.com",
    "ONCETASK_LINK_KEYS": LINK_KEY,
}


def listening_at(port):
    """What differs for a server at another port."""
    url = f"http://127.0.0.1:{port}"
    return {"PORT": port, "FLASK_RUN_PORT": port, "ONCETASK_BASE_URL": url, "ONCETASK_AUDIENCE": url}


def run(*arguments, **options):
    command = [*PROGRAM, *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, **options)


def python(code):
    return [sys.executable, "-c", code]


@contextmanager
def started(*arguments):
    """A running gcp-emulator with its exported environment; killed with all children at the end, whatever happens."""
    process = subprocess.Popen(
        [*PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        family = family_of(process)
        for one in family:
            one.kill()
        process.communicate()


def family_of(process):
    try:
        parent = psutil.Process(process.pid)
        return [*parent.children(recursive=True), parent]
    except psutil.NoSuchProcess:
        return []


def exported(process):
    """The environment printed by start, read until progress says ready."""
    for line in process.stderr:
        if line.startswith("ready"):
            break
    environment = {}
    while "ONCETASK_ALERT_TO" not in environment:
        word, assignment = shlex.split(process.stdout.readline())
        assert word == "export"
        name, _, environment[name] = assignment.partition("=")
    return environment


def ended(family):
    return not psutil.wait_procs(family, timeout=10)[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_start_prints_the_environment_and_stops_clean(number):
    """Start prints export lines for its services, and ends with 0 and no process left on Ctrl-C or SIGTERM."""
    with started("start", "--project", "p1", "--queue", "a", "--app-port", "5001") as process:
        environment = exported(process)
        assert set(environment) == {
            "FIRESTORE_EMULATOR_HOST",
            "CLOUD_TASKS_EMULATOR_HOST",
            "CLOUD_LOGGING_EMULATOR_HOST",
            "ONCETASK_OIDC_CERTS_URL",
            "ONCETASK_SMTP_URL",
            *APP,
        }
        assert {name: environment[name] for name in APP} == {
            **APP,
            "GOOGLE_CLOUD_PROJECT": "p1",
            "ONCETASK_QUEUE": "a",
            "PORT": "5001",
            "FLASK_RUN_PORT": "5001",
            "ONCETASK_BASE_URL": "http://127.0.0.1:5001",
            "ONCETASK_AUDIENCE": "http://127.0.0.1:5001",
            "ONCETASK_SERVICE_ACCOUNT": "app@p1.iam.gserviceaccount.com",
        }
        code = (
            "from google.cloud import firestore; d = firestore.Client().document('a/b'); d.set({'n': 1}); "
            "print(d.get().to_dict())"
        )
        told = subprocess.check_output(python(code), env={**os.environ, **environment}, text=True)
        assert told == "{'n': 1}\n"
        family = family_of(process)
        process.send_signal(number)
        assert process.wait(patient(30)) == 0
        assert ended(family)
        assert process.stderr.read() == "stopped\n"


@pytest.mark.google
@pytest.mark.skipif(find() is None, reason="Google's Firestore emulator or Java is not installed")
def test_start_leaves_no_java_behind():
    """Google's emulator ends with the program, although it is a process of its own."""
    with started("start", "--firestore=google") as process:
        exported(process)
        family = family_of(process)
        assert any("java" in one.name() for one in family)
        process.send_signal(signal.SIGTERM)
        assert process.wait(patient(30)) == 0
        assert ended(family)


def free_ports(count):
    with ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [str(server.getsockname()[1]) for server in servers]


def test_chosen_ports_are_used_and_a_taken_one_is_named():
    """A port given by option is used; a port in use is one sentence and exit code 1."""
    smtp, tasks = free_ports(2)
    with started("start", "--port-smtp", smtp, "--port-tasks", tasks) as process:
        environment = exported(process)
        assert environment["CLOUD_TASKS_EMULATOR_HOST"] == f"127.0.0.1:{tasks}"
        assert environment["ONCETASK_SMTP_URL"] == f"smtp://127.0.0.1:{smtp}"
        second = run("start", "--port-tasks", tasks)
        assert second.returncode == 1
        assert f"gcp-emulator: tasks could not start on port {tasks}" in second.stderr
        assert "Traceback" not in second.stderr


def test_fixed_ports_yield_to_a_chosen_one():
    """With --fixed-ports every service has its port, except where an option names another."""
    options = _parser().parse_args(["start", "--fixed-ports", "--port-oidc", "1234"])
    assert _ports(options) == {"firestore": 8080, "tasks": 9499, "logging": 9500, "oidc": 1234, "mail": 8025}
    assert _ports(_parser().parse_args(["start", "--port-tasks", "77"])) == {"tasks": 77}


def test_exec_runs_the_command_in_the_environment():
    """Exec passes output and exit code of the command through, whose own options it leaves alone."""
    code = "import os, sys; print(os.environ['FIRESTORE_EMULATOR_HOST'], sys.argv[1:]); sys.exit(7)"
    done = run("exec", "--", *python(code), "--project", "--", "x")
    assert done.returncode == 7
    address, _, rest = done.stdout.strip().partition(" ")
    assert address.startswith("127.0.0.1:")
    assert rest == "['--project', '--', 'x']"
    names = [line.split()[0] for line in done.stderr.splitlines()]
    assert sorted(names) == ["app", "firestore", "logging", "mail", "oidc", "stopped", "tasks"]


@pytest.fixture(scope="module")
def cloud():
    with LocalCloud(queues=("default", "mail")) as cloud:
        yield cloud


@pytest.mark.parametrize(
    ("given", "app_port", "differs"),
    [
        ({}, None, {}),
        (dict.fromkeys(APP, ""), None, {}),
        ({"PORT": "5000"}, None, listening_at("5000")),
        ({"FLASK_RUN_PORT": "5000"}, None, listening_at("5000")),
        ({"PORT": "5000", "ONCETASK_BASE_URL": "https://mine.test"}, 3000, listening_at("3000")),
        (
            {"PORT": "no port", "ONCETASK_BASE_URL": "https://mine.test"},
            None,
            {
                **dict.fromkeys(listening_at("")),
                "ONCETASK_BASE_URL": "https://mine.test",
                "ONCETASK_AUDIENCE": "https://mine.test",
            },
        ),
        ({"ONCETASK_CALLERS": "s@b.test, t@b.test"}, None, {"ONCETASK_SERVICE_ACCOUNT": "s@b.test"}),
        *(
            ({name: value}, None, {name: value})
            for name, value in (
                ("ONCETASK_AUDIENCE", "https://a.test"),
                ("ONCETASK_SERVICE_ACCOUNT", "a@b.test"),
                ("ONCETASK_QUEUE", "mail"),
                ("ONCETASK_ALERT_TO", "ann@b.test"),
            )
        ),
        ({"GOOGLE_CLOUD_PROJECT": "prod", "ONCETASK_LOCATION": "mars"}, None, {}),
        (
            {"FIRESTORE_EMULATOR_HOST": "x:1", "ONCETASK_SMTP_URL": "smtp://prod", "CLOUD_TASKS_EMULATOR_HOST": "x"},
            None,
            {},
        ),
    ],
)
def test_exports_keep_what_says_how_the_program_is_reached(cloud, given, app_port, differs):
    """What says where the cloud is, is the cloud's; what says how the program is reached is the user's, if it is set."""
    expected = {**cloud.environment(), **APP, **differs}
    found = exports(cloud, given, app_port, 8080)
    assert found == {name: value for name, value in expected.items() if value is not None}
    assert set(kept(found, given)) == {name for name, value in given.items() if value and value == differs.get(name)}


def test_exports_without_a_mail_sink_mail_nobody():
    """Without the sink neither a mail server nor a recipient is set."""
    with LocalCloud(smtp=False) as cloud:
        found = exports(cloud, {}, None, 8080)
    assert {name for name in found if "ALERT" in name or "SMTP" in name} == set()


def test_exec_keeps_and_says_what_it_keeps():
    """A queue of the user's own is created; what is kept is said, and everything else passes as it is."""
    code = (
        "import os, grpc\n"
        "from google.cloud.tasks_v2 import CloudTasksClient\n"
        "from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport\n"
        "channel = grpc.insecure_channel(os.environ['CLOUD_TASKS_EMULATOR_HOST'])\n"
        "client = CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))\n"
        "queues = client.list_queues(parent='projects/demo-local/locations/us-central1')\n"
        "print(*sorted(queue.name.rpartition('/')[2] for queue in queues), os.environ['ONCETASK_SHARDS'])\n"
    )
    own = {"ONCETASK_QUEUE": "orders", "ONCETASK_SHARDS": "3", "PORT": "5000"}
    done = run("exec", "--no-smtp", "--queue", "mail", "--", *python(code), env={**os.environ, **own})
    assert done.stdout == "mail orders 3\n", done.stderr
    assert "app        http://127.0.0.1:5000" in done.stderr
    assert "kept       PORT, ONCETASK_QUEUE  (set in your environment)" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "port", "says"),
    [
        (["--port-tasks", "8080"], "", "8080 is the port of tasks; name another one for your server with --app-port"),
        (["--fixed-ports", "--app-port", "8080"], "", "8080 is the port of firestore"),
        ([], "tcp://10.0.0.1", "PORT is 'tcp://10.0.0.1' in the environment, which is no port"),
        (["--app-port", "0"], "", "'0' is no port"),
    ],
)
def test_port_of_the_app_must_be_its_own(monkeypatch, capsys, arguments, port, says):
    """A port for the program that a service has, or that is none, is a usage error with a sentence."""
    monkeypatch.setenv("PORT", port)
    assert usage_error("start", *arguments) == 2
    assert says in capsys.readouterr().err


def test_exec_shows_mail():
    """Mail sent by the command is shown with recipient and subject."""
    code = (
        "import os, smtplib; s = smtplib.SMTP(*os.environ['ONCETASK_SMTP_URL'][7:].split(':')); "
        "s.sendmail('a@x.test', ['ops@x.test'], 'Subject: Task failed\\r\\n\\r\\n'); s.quit()"
    )
    done = run("exec", "-q", "--", *python(code))
    assert (done.returncode, done.stderr) == (0, "mail to ops@x.test: Task failed\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_exec_forwards_signals(number):
    """A signal goes on to the command, whose exit code is returned; nothing is left."""
    code = (
        "import signal, sys\n"
        "def stop(number, frame): print('got', number, flush=True); sys.exit(40 + number)\n"
        "signal.signal(signal.SIGINT, stop); signal.signal(signal.SIGTERM, stop)\n"
        "print('here', flush=True)\n"
        "signal.pause()\n"
    )
    with started("exec", "-q", "--", *python(code)) as process:
        assert process.stdout.readline() == "here\n"
        family = family_of(process)
        assert len(family) == 2
        process.send_signal(number)
        assert process.wait(patient(30)) == 40 + number
        assert process.stdout.read() == f"got {int(number)}\n"
        assert ended(family)


def test_exec_returns_128_plus_the_signal_that_killed_the_command():
    """A command killed by a signal is reported as a shell would."""
    assert run("exec", "-q", "--", *python("import os; os.kill(os.getpid(), 9)")).returncode == 137


@pytest.mark.parametrize("arguments", [["exec"], ["exec", "--seed", "3"], ["exec", "--"]])
def test_exec_without_a_command_is_a_usage_error(capsys, arguments):
    """Exec without a command is a usage error that shows the right form."""
    assert usage_error(*arguments) == 2
    assert "exec needs a command after --" in capsys.readouterr().err


def test_start_with_a_command_is_a_usage_error(capsys):
    """Start with a command is a usage error that names exec."""
    assert usage_error("start", "--", "true") == 2
    assert "start takes no command" in capsys.readouterr().err


def usage_error(*arguments):
    with pytest.raises(SystemExit) as ending:
        main(arguments)
    return ending.value.code


def test_exec_of_an_unknown_command_is_127():
    """A command that does not exist is 127, with a sentence; nothing is started."""
    done = run("exec", "--", "no-such-command")
    assert done.returncode == 127
    assert done.stderr == "gcp-emulator: there is no command 'no-such-command'; check the spelling and PATH.\n"


def test_exec_of_a_file_that_is_no_program_is_126(tmp_path, capsys):
    """A file that may not be executed is 126, with a sentence; nothing is started."""
    plain = tmp_path / "plain"
    plain.touch()
    assert main(["exec", "--", str(plain)]) == 126
    assert capsys.readouterr().err == f"gcp-emulator: {plain} is not executable.\n"


def test_faults_are_set_by_name():
    """An RPC fault of rate 1 makes every such call fail; delivery faults are accepted beside it."""
    code = (
        "import os, grpc\n"
        "from google.cloud.tasks_v2 import CloudTasksClient\n"
        "from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport\n"
        "channel = grpc.insecure_channel(os.environ['CLOUD_TASKS_EMULATOR_HOST'])\n"
        "client = CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))\n"
        "client.create_task(parent='projects/demo-local/locations/us-central1/queues/default', task={})\n"
    )
    done = run("exec", "--fault", "CreateTask:before=1", "--fault", "lose-answer=0.5", "--", *python(code))
    assert done.returncode == 1
    assert "ServiceUnavailable: 503 injected fault" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--fault", "lost=0.5"], "no fault is called 'lost'; there are duplicate, delay, lose, lose-answer"),
        (["--fault", "duplicat=0.5"], "Did you mean duplicate?"),
        (["--fault", "duplicate=2"], "rate between 0 and 1"),
        (["--fault", "duplicate"], "rate between 0 and 1"),
        (["--fault", "Comit:after=0.1"], "no service here has an RPC 'Comit'"),
        (["--fault", "Comit:after=0.1"], "Did you mean Commit?"),
        (["--port-tasks", "x"], "'x' is no port"),
        (["--port-tasks", "\u00b2"], "is no port"),
        (["--port-tasks", "9" * 5000], "is no port"),
        (["--port-tasks", "4711", "--port-oidc", "4711"], "4711 can't be the port of both tasks and oidc"),
        (["--fixed-ports", "--port-oidc", "9499"], "9499 can't be the port of both tasks and oidc"),
        (["--log-delay", "soon"], "'soon' is no number of seconds"),
        (["--log-delay", "nan"], "'nan' is no number of seconds from 0 to 86400"),
        (["--log-delay", "1e300"], "'1e300' is no number of seconds"),
        (["--seed", "x"], "'x' is no seed; a seed is a whole number"),
        (["--seed", "9" * 5000], "is no seed"),
        (["--queue", "a_b"], "'a_b' is no queue: a queue has 1 to 100 letters, digits and '-'"),
        (["--queue", "mail", "--queue", ""], "'' is no queue"),
        (["--queue", "mail\x1b[2J"], r"'mail\x1b[2J' is no queue"),
        (["--queue", "q" * 5000], "qqq... is no queue"),
        (["--queue", "100%s"], "'100%s' is no queue"),
        (["--project", "a b"], "'a b' is no project"),
        (["--project", ""], "'' is no project"),
        (["--project", "\udcff"], r"'\udcff' is no project"),
        (["--location", "a b"], "'a b' is no location"),
        (["--app-engine", "http://[::1"], "is no address such as http://127.0.0.1:8080"),
        (["--app-engine", "http://a:99999"], "is no address"),
        (["--app-engine", "http://a b"], "is no address"),
        (["--location", "b\u00e4r"], "is no location"),
        (["--fault", "a\x1b:after=1"], r"has an RPC 'a\x1b'"),
        (["--firestore", "datastore"], "invalid choice"),
    ],
)
def test_bad_options_are_usage_errors(capsys, arguments, says):
    """A bad option is a usage error with a sentence."""
    assert usage_error("start", *arguments) == 2
    assert says in capsys.readouterr().err


def test_bad_options_of_exec_are_usage_errors(monkeypatch, capsys):
    """A page that is no path, and a queue of the environment that can't be, are usage errors with a sentence."""
    assert usage_error("exec", "--page", "a b", "--", "true") == 2
    assert "'a b' is no path of a page; one begins with '/'" in capsys.readouterr().err
    monkeypatch.setenv("ONCETASK_QUEUE", "a_b")
    assert usage_error("exec", "--", "true") == 2
    assert "ONCETASK_QUEUE in the environment: 'a_b' is no queue" in capsys.readouterr().err


COLLECTED = """
import json, os, sys, grpc
from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2Client
from google.cloud.logging_v2.services.logging_service_v2.transports import LoggingServiceV2GrpcTransport
channel = grpc.insecure_channel(os.environ['CLOUD_LOGGING_EMULATOR_HOST'])
client = LoggingServiceV2Client(transport=LoggingServiceV2GrpcTransport(channel=channel))
print(json.dumps({'severity': 'ERROR', 'message': 'late', 'oncetask': {'holder': 'h1'}}), flush=True)
print('plain \\u00e4', flush=True)
print('trouble', file=sys.stderr, flush=True)
found = []
while len(found) < 3:
    found = list(client.list_log_entries(resource_names=['projects/demo-local']))
found.sort(key=lambda one: (one.log_name, int(one.severity)))
for one in found:
    print(one.log_name.rpartition('/')[2], int(one.severity), one.text_payload or one.json_payload['message'], flush=True)
print(len({one.labels['instanceId'] for one in found}), found[0].resource.labels['service_name'])
print('no end', end='')
sys.exit(3)
"""


def test_exec_collects_the_output_of_the_command():
    """With --collect-logs each line is a log entry as on Cloud Run, and is shown all the same; the exit code stays."""
    done = run("exec", "-q", "--collect-logs", "--", *python(COLLECTED), env={**os.environ, "K_SERVICE": "orders"})
    assert done.returncode == 3, done.stderr
    assert done.stderr == "trouble\n"
    lines = done.stdout.splitlines()
    assert lines[1:] == [
        "plain \u00e4",
        "run.googleapis.com%2Fstderr 0 trouble",
        "run.googleapis.com%2Fstdout 0 plain \u00e4",
        "run.googleapis.com%2Fstdout 500 late",
        "1 orders",
        "no end",
    ]


def test_exec_that_collects_ends_though_a_child_holds_the_output():
    """A process that the command left behind does not keep exec from ending."""
    code = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid)"
    begun = time.monotonic()
    done = run("exec", "-q", "--collect-logs", "--", *python(code))
    psutil.Process(int(done.stdout)).kill()
    assert done.returncode == 0
    assert time.monotonic() - begun < patient(25)


def test_help_tells_options_and_faults(capsys):
    """Help lists the commands, every option and the faults."""
    assert usage_error("--help") == usage_error("exec", "--help") == 0
    told = " ".join(capsys.readouterr().out.split())
    for text in (
        "start|exec",
        "--no-smtp",
        "--app-port",
        "8000 with --fixed-ports",
        *(name for name in APP if name != "FLASK_RUN_PORT"),
        "--firestore",
        "--port-smtp",
        "8080 with --fixed-ports",
        "METHOD:after=RATE",
        "-- COMMAND",
    ):
        assert text in told


SERVER = """
import os, http.server, signal
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response({'/oncetask/console/': 200, '/moved': 302}.get(self.path, 404))
        self.send_header('Location', '/oncetask/console/')
        self.send_header('Content-Length', '0')
        self.end_headers()
        print('asked', self.path, flush=True)
    def log_message(self, *_): pass
http.server.HTTPServer(('127.0.0.1', int(os.environ['PORT'])), Handler).serve_forever()
"""


@pytest.mark.parametrize(("page", "shown"), [("/oncetask/console/", True), ("/moved", False), ("/none", False)])
def test_exec_shows_the_page_that_the_server_has(page, shown):
    """Once the server answers, its console's address is shown; where it has none, nothing is."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with started("exec", "--app-port", str(port), "--page", page, "--", *python(SERVER)) as process:
        assert process.stdout.readline() == f"asked {page}\n"
        if shown:
            while not (line := process.stderr.readline()).startswith("console"):
                assert line
            assert line == f"console    http://127.0.0.1:{port}{page}\n"
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=patient(30))[1]
    assert "console " not in rest


def test_exec_ends_without_an_answer():
    """A command that listens nowhere ends as before, with no address."""
    done = run("exec", "--", *python("print('done')"))
    assert done.stdout == "done\n"
    assert "console " not in done.stderr
