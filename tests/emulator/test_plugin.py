"""
The pytest fixture for anybody's app, as a user of the installed package meets it.
"""

from __future__ import annotations

import re
import smtplib
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import google.api_core
import grpc
import pytest
from google.api_core.exceptions import DeadlineExceeded, FailedPrecondition, ServiceUnavailable

from gcp_emulator.testing import InProcessCloud

README = Path(__file__).parents[2] / "emulator" / "README.md"


def test_readme_s_example_passes_as_it_stands(tmp_path: Path) -> None:
    """
    The README's test, in an empty folder, with nothing but the installed plugin.
    """
    [code] = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (tmp_path / "test_app.py").write_text(code)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_plugin_costs_nothing_where_it_is_not_used() -> None:
    """
    It is loaded into every pytest run of its users: no grpc before a test asks.
    """
    code = "import sys, gcp_emulator.pytest_plugin; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


SUITE = """
import datetime, warnings
import google.api_core
import pytest

{conftest}


def test_notice_of_no_day_is_an_error(gcp_emulator):
    days = (datetime.date(2026, 1, 1) + datetime.timedelta(days=days) for days in range(0, 9000, 30))
    kinds = {{google.api_core.check_python_version(today=day).name for day in days}}
    assert {{"PYTHON_VERSION_DEPRECATED", "PYTHON_VERSION_UNSUPPORTED"}} <= kinds


def test_other_warnings_are_errors():
    with pytest.raises(FutureWarning):
        warnings.warn("You are using a Python version", FutureWarning)  # not one of Google's packages
    with pytest.raises(FutureWarning):
        warnings.warn_explicit("mind your step", FutureWarning, "x.py", 1, module="google.api_core")
"""
CALLED_EARLY = "google.api_core.check_python_version(today=datetime.date(2150, 1, 1))"


@pytest.mark.skipif(
    not hasattr(google.api_core, "check_python_version"), reason="this google-api-core does not look at the version"
)
@pytest.mark.parametrize(
    ("filters", "warned"),
    [(["error"], True), (["error::FutureWarning", "ignore:You are using a:FutureWarning:google"], False)],
    ids=["error", "ignored-by-the-suite"],
)
def test_notice_about_the_version_of_python_fails_nobodys_suite(
    tmp_path: Path, filters: list[str], warned: bool
) -> None:
    """
    Under ``filterwarnings = error``, the notice that Google's packages give on some day of the calendar, given by their own
    function while the conftest is loaded and in a test, is a warning, or as the suite has it; other warnings stay errors.
    """
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings =\n" + "".join(f"    {line}\n" for line in filters))
    (tmp_path / "conftest.py").write_text(f"import datetime\nimport google.api_core\n{CALLED_EARLY}\n")
    (tmp_path / "test_suite.py").write_text(SUITE.format(conftest=CALLED_EARLY))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    assert ("You are using a non-supported Python version" in done.stdout) == warned


def test_starts_no_thread_and_makes_no_key(gcp_emulator: InProcessCloud) -> None:
    """
    A cloud per test is affordable: nothing is begun that no test asks for.
    """
    before = threading.active_count()
    gcp_emulator.firestore_client().document("c/a").set({"x": 1})
    assert threading.active_count() == before
    assert "_signing" not in vars(gcp_emulator.oidc)


def test_each_test_has_its_own(gcp_emulator: InProcessCloud) -> None:
    """
    What one cloud stores no other one sees.
    """
    gcp_emulator.firestore_client().document("c/a").set({"x": 1})
    assert InProcessCloud().firestore_client().document("c/a").get().exists is False


def test_waiting_moves_the_clock(gcp_emulator: InProcessCloud) -> None:
    """
    A fault that holds an answer back takes virtual time, and no real one.
    """
    gcp_emulator.faults.fail("Commit", when="after", code=None, delay=3600)
    before = gcp_emulator.clock.micros()
    gcp_emulator.firestore_client().document("c/a").set({"x": 1}, timeout=7200)
    assert gcp_emulator.clock.micros() - before == 3_600_000_000


def test_answer_lost_after_the_effect(gcp_emulator: InProcessCloud) -> None:
    """
    The caller sees an error, the document is there.
    """
    gcp_emulator.faults.fail("Commit", when="after", code=grpc.StatusCode.UNAVAILABLE)
    with pytest.raises(ServiceUnavailable):
        gcp_emulator.firestore_client().document("c/a").set({"x": 1}, retry=None)
    assert list(gcp_emulator.firestore.documents(gcp_emulator.project)) == ["c/a"]


def test_call_given_up_takes_effect_late(gcp_emulator: InProcessCloud) -> None:
    """
    The caller has its error at once; the write comes when its time has passed, and meets the document of then.
    """
    client = gcp_emulator.firestore_client()
    gcp_emulator.faults.fail("Commit", when="late", code=grpc.StatusCode.DEADLINE_EXCEEDED, delay=30)
    with pytest.raises(DeadlineExceeded):
        client.document("c/a").create({"x": 1}, retry=None)
    assert not client.document("c/a").get().exists
    gcp_emulator.advance(30)
    assert client.document("c/a").get().to_dict() == {"x": 1}

    gcp_emulator.faults.fail("Commit", when="late", code=grpc.StatusCode.DEADLINE_EXCEEDED, delay=30)
    with pytest.raises(DeadlineExceeded):
        client.document("c/b").create({"x": 1}, retry=None)
    client.document("c/b").set({"x": 2})
    gcp_emulator.advance(30)
    assert client.document("c/b").get().to_dict() == {"x": 2}


def test_index_file_is_kept_to() -> None:
    """
    With an index file, a query without its index is refused.
    """
    cloud = InProcessCloud(indexes="{}")
    things = cloud.firestore_client().collection("c")
    with pytest.raises(FailedPrecondition):
        list(things.order_by("a").order_by("b").stream())


def test_deliveries_carry_identity_tokens(gcp_emulator: InProcessCloud) -> None:
    """
    A task that asks for one gets one, as the service's do.
    """
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        seen.append(environ.get("HTTP_AUTHORIZATION", ""))
        start_response("200 OK", [])
        return [b""]

    gcp_emulator.mount("https://app.test", app)
    request = {"url": "https://app.test/", "oidc_token": {"service_account_email": "a@b.iam.gserviceaccount.com"}}
    gcp_emulator.tasks_client().create_task(parent=gcp_emulator.queue, task={"http_request": request})
    assert gcp_emulator.run_until_idle() == 1
    assert seen[0].startswith("Bearer ey")


def test_mail_is_kept(gcp_emulator: InProcessCloud) -> None:
    """
    The one real socket, opened when a test asks for it.
    """
    url = urlsplit(gcp_emulator.smtp_url())
    with smtplib.SMTP(str(url.hostname), int(url.port or 0), timeout=10) as sender:
        sender.sendmail("a@example.com", ["b@example.com"], "Subject: hello\n\ntext")
    [mail] = gcp_emulator.mail.wait_for(1)
    assert (mail.recipients, mail.message["Subject"]) == (("b@example.com",), "hello")
