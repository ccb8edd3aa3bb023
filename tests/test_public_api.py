"""
The public surface: what is exported, what it costs to import, how it is packaged.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pickle
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path
from types import FunctionType

import pytest
from pydantic import BaseModel
from trove_classifiers import classifiers

import gcp_oncetask
from gcp_oncetask import errors, tasks
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import STORED_NAMES
from gcp_oncetask.tasks.admin import StoredTasks
from gcp_oncetask.worker import Worker

ROOT = Path(__file__).parents[1]


def test_all_is_sorted_and_complete() -> None:
    """
    __all__ names everything that the package imports for its users, in order.
    """
    tree = ast.parse((ROOT / "gcp_oncetask" / "__init__.py").read_text())
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and "gcp" in str(node.module)
        for alias in node.names
    }

    assert sorted(gcp_oncetask.__all__, key=lambda each: (not each.isupper(), each)) == gcp_oncetask.__all__
    assert imported == set(gcp_oncetask.__all__)
    for name in gcp_oncetask.__all__:
        found = getattr(gcp_oncetask, name)
        assert getattr(found, "__name__", repr(found)) == name
    assert set(gcp_oncetask.__all__) <= set(dir(gcp_oncetask))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = gcp_oncetask.Nothing


def test_every_error_is_public_and_in_the_drawn_tree() -> None:
    """
    Each exception ends in Error, is exported, stands in the tree of the module's docstring, and survives pickling.
    """
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 20
    for kind in kinds:
        assert kind.__name__.endswith("Error")
        assert kind.__name__ in gcp_oncetask.__all__
        assert kind.__name__ in (errors.__doc__ or "")
        copy = pickle.loads(pickle.dumps(kind("why", document="orders/1")))
        assert (type(copy), str(copy), copy.document) == (kind, "why", "orders/1")


MODELS = """
from gcp_oncetask import LockedModel
from gcp_oncetask.tasks.data import TaskData

class Order(LockedModel, collection="orders", frozen=True):
    amount: int
class Line(LockedModel, colection="lines"):
    amount: int
class Charge(TaskData, kind="charge", on_conflict="rais"):
    amount: int

Order(id="1", amount="3")
"""


def test_mypy_hears_the_plugin_beside_that_of_pydantic(tmp_path: Path) -> None:
    """
    With both: class arguments are checked, and a model takes what pydantic converts. That they are checked with ours alone is
    seen in tests/typing.
    """
    sample, config = tmp_path / "sample.py", tmp_path / "mypy.ini"
    sample.write_text(MODELS)
    config.write_text("[mypy]\nstrict = true\nplugins = pydantic.mypy, gcp_oncetask.mypy\n")
    command = [sys.executable, "-m", "mypy", "--config-file", str(config), "--cache-dir", str(tmp_path), str(sample)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=110).stdout

    assert (
        "sample.py:7: error: The class Line takes no colection=; it takes collection=. Did you mean collection?" in said
    )
    assert (
        "sample.py:9: error: on_conflict is 'rais'; it must be 'keep', 'raise' or 'replace'. Did you mean raise?"
        in said
    )
    assert said.count("error:") == 2, said


def test_outcomes_and_stored_names_are_stable() -> None:
    """
    Names that logs and documents carry are lower case with hyphens, and camel case.
    """
    assert all(outcome.value == outcome.value.lower().replace("_", "-") for outcome in Outcome)
    assert STORED_NAMES["scheduled_by"] == "scheduledBy"
    assert all(name[0].islower() and "_" not in name for name in STORED_NAMES.values())


def test_names_of_once_tasks_are_sorted_complete_and_explained() -> None:
    """
    gcp_oncetask.tasks exports in order what it imports; each name and each public member of it has a docstring.
    """
    tree = ast.parse((ROOT / "gcp_oncetask" / "tasks" / "__init__.py").read_text())
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and "gcp" in str(node.module)
        for alias in node.names
    }

    assert sorted(tasks.__all__) == tasks.__all__
    assert imported == set(tasks.__all__)
    kinds = {name: getattr(tasks, name) for name in tasks.__all__}
    silent = [name for name, kind in kinds.items() if not kind.__doc__]
    silent += [f"{name}.{member}" for name, kind in kinds.items() for member, doc in documented(kind) if not doc]
    assert silent == []


def test_every_call_of_the_manager_says_what_it_raises() -> None:
    """
    The docstring of each method says what its caller must be ready for; ``serve`` answers
    instead of raising.
    """
    members = dict(documented(tasks.TaskManager) + documented(StoredTasks))
    said = {member for member, doc in members.items() if "Raises:\n" in doc}

    assert len(members) > 20
    assert set(members) - said == {"serve"}


def documented(kind: object) -> list[tuple[str, str]]:
    """
    Public methods and properties of a class, with their docstrings or those of what they override.
    """
    own = vars(kind).items() if isinstance(kind, type) else ()
    return [
        (name, inspect.getdoc(getattr(kind, name)) or "")
        for name, member in own
        if not name.startswith("_") and isinstance(member, (FunctionType, classmethod, property))
    ]


HEAVY = ("flask", "gcp_emulator", "gcp_oncetask.tasks", "google", "grpc", "pydantic")


@pytest.mark.parametrize("module", ["gcp_oncetask", "gcp_oncetask.testing", "gcp_oncetask.testing.plugin"])
def test_importing_the_package_or_its_pytest_plugin_costs_nothing(module: str) -> None:
    """
    The plugin is loaded into every pytest run of its users: nothing heavy comes with it until the fixture is used.
    """
    # Other packages' .pth files may have made namespaces before.
    code = f"import sys; was = set(sys.modules); import {module}; print([n for n in {HEAVY} if n in set(sys.modules) - was])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_the_cloud_of_the_fixture_is_importable_and_says_which_extra_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    ``gcp_oncetask.testing`` has the type of the fixture, and imports the local cloud only when it is asked for it.
    """
    from gcp_oncetask import testing
    from gcp_oncetask.testing.cloud import OncetaskCloud

    assert testing.OncetaskCloud is OncetaskCloud
    assert "OncetaskCloud" in dir(testing)
    with pytest.raises(AttributeError, match="no attribute 'OncetaskClod'"):
        _ = testing.OncetaskClod  # type: ignore[attr-defined]  # that is what is tested
    monkeypatch.delitem(vars(testing), "OncetaskCloud")
    monkeypatch.delitem(sys.modules, "gcp_oncetask.testing.cloud")
    monkeypatch.delattr(testing, "cloud")
    monkeypatch.setitem(sys.modules, "gcp_emulator.clock", None)
    with pytest.raises(ImportError, match=r"pip install 'gcp-oncetask\[emulator\]'"):
        _ = testing.OncetaskCloud


LATE = {
    "gcp_oncetask.flask": (
        *("google.cloud.logging_v2", "google.cloud.tasks_v2", "smtplib"),
        *("gcp_oncetask.tasks", "gcp_oncetask.recovery", "gcp_oncetask.worker"),
    ),
    "gcp_oncetask.tasks": (
        "google.cloud.logging_v2",
        "google.cloud.tasks_v2",
        "smtplib",
        "gcp_oncetask.tasks.recurrence",
    ),
}


@pytest.mark.parametrize("module", LATE)
def test_importing_the_library_opens_nothing_and_imports_nothing_that_may_not_be_used(module: str) -> None:
    """
    The clients of Cloud Logging and Cloud Tasks, mail and recurrences are imported when they are used. A locker is made without
    any call.
    """
    code = (
        f"import sys, gcp_oncetask, {module};"
        "gcp_oncetask.Locker(config=gcp_oncetask.Config());"
        f"print([n for n in {LATE[module]} if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_pytest_rewrites_no_module_of_the_library(tmp_path: Path) -> None:
    """
    Pytest rewrites the assertions of all modules of a distribution with a plugin, each run anew where Python keeps no bytecode.
    """
    (tmp_path / "test_app.py").write_text(
        "import sys\n\n"
        "def test_app(oncetask_cloud):\n"
        "    ours = [m for n, m in sys.modules.items() if n.startswith(('gcp_oncetask.', 'gcp_emulator.'))]\n"
        "    late = {m.__name__ for m in ours if 'assertion' in type(m.__spec__.loader).__module__}\n"
        "    early = {'gcp_oncetask.testing', 'gcp_oncetask.testing.plugin', 'gcp_emulator.pytest_plugin'}\n"
        "    assert len(ours) > 100\n"
        "    assert late <= early\n"
    )
    # As if they were installed from wheels: then their files are those of distributions with plugins.
    (tmp_path / "conftest.py").write_text(
        "import pytest\npytest.register_assert_rewrite('gcp_oncetask', 'gcp_emulator')\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("folder", "package", "command", "called"),
    [
        (".", "gcp_oncetask", [sys.executable, "-m", "gcp_oncetask"], "gcp-oncetask"),
        ("emulator", "gcp_emulator", [str(Path(sys.executable).parent / "gcp-emulator")], "gcp-emulator"),
    ],
)
def test_version_is_that_of_the_distribution(folder: str, package: str, command: list[str], called: str) -> None:
    """
    ``__version__`` and ``--version`` say what pyproject.toml says; the module looks it up when it is asked, once it is needed.
    """
    stated = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]["version"]
    module = importlib.import_module(package)
    assert module.__version__ == stated
    assert "__version__" in dir(module)
    with pytest.raises(AttributeError, match="no attribute 'version'"):
        _ = module.version
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"{called} {stated}\n"), done.stderr


@pytest.mark.parametrize("package", ["gcp_oncetask", "gcp_emulator"])
def test_version_of_what_is_not_installed_is_unknown(tmp_path: Path, package: str) -> None:
    """
    A copy of the source on a path has no metadata: it says so, and nothing fails; nobody who does not ask pays for the search.
    """
    home = Path(str(importlib.import_module(package).__file__)).parent
    (tmp_path / package).mkdir()
    shutil.copy(home / "__init__.py", tmp_path / package)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import {package}; early = 'importlib.metadata' in sys.modules;"
        f"print(early, {package}.__version__)"
    )
    command = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "False 0+unknown\n"), done.stderr


@pytest.mark.parametrize(("folder", "package"), [(".", "gcp_oncetask"), ("emulator", "gcp_emulator")])
def test_wheels_build_and_hold_their_package(tmp_path: Path, folder: str, package: str) -> None:
    """
    Both distributions build; each wheel holds its package with the type marker, and nothing of the other.
    """
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), folder]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    [wheel] = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()

    assert f"{package}/py.typed" in names
    modules = {str(path.relative_to(ROOT / folder)) for path in (ROOT / folder / package).rglob("*.py")}
    assert modules == {name for name in names if name.endswith(".py")}
    assert {package} == {name.split("/")[0] for name in names if ".dist-info" not in name}
    check_metadata(wheel, ROOT / folder)
    code = f"import sys; sys.path.insert(0, {str(wheel)!r}); import {package}; sys.exit({str(wheel)!r} not in {package}.__file__)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


REPOSITORY = "https://github.com/gcp-oncetask/gcp-oncetask"


def check_metadata(wheel: Path, folder: Path) -> None:
    """
    An index shows where the project lives, under which licence, for which Pythons, and a description whose links lead somewhere.
    """
    with zipfile.ZipFile(wheel) as opened:
        [info] = {name.split("/")[0] for name in opened.namelist() if ".dist-info" in name}
        metadata = message_from_bytes(opened.read(f"{info}/METADATA"))
        licence = opened.read(f"{info}/licenses/LICENSE").decode()
    urls = dict(line.split(", ") for line in metadata.get_all("Project-URL", []))
    body = metadata.get_payload(decode=True)
    assert isinstance(body, bytes)
    description = body.decode()

    assert licence == (ROOT / "LICENSE").read_text()
    assert (metadata["License-Expression"], metadata["License-File"], metadata["Requires-Python"]) == (
        "MIT",
        "LICENSE",
        ">=3.11",
    )
    assert set(urls) == {"Source", "Documentation", "Changelog", "Issues"}
    assert all(url.startswith(REPOSITORY) and leads_somewhere(url, description) for url in urls.values())
    assert set(metadata.get_all("Classifier", [])) <= classifiers
    named = {line.rpartition(" :: ")[2] for line in metadata.get_all("Classifier", []) if "Python :: 3." in line}
    assert {"3.11", "3.12", "3.13", "3.14"} == named
    assert description == (folder / "README.md").read_text()
    links = re.findall(r"\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)$", description, re.MULTILINE)
    assert [link for pair in links for link in pair if link and not leads_somewhere(link, description)] == []


def leads_somewhere(link: str, text: str) -> bool:
    """
    A place elsewhere, a file of this repository that exists and has the heading, or a heading of the text itself.
    """
    if link.startswith("#"):
        headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        return link[1:] in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    if link.startswith(f"{REPOSITORY}/blob/main/"):
        path, mark, heading = link.removeprefix(f"{REPOSITORY}/blob/main/").partition("#")
        file = ROOT / path
        return file.is_file() and (not mark or leads_somewhere(f"#{heading}", file.read_text()))
    return link.startswith("https://")


# --- the names that users see -----------------------------------------------------------------------------------------

SHOWN = {
    "Attempt": "cancelled deadline delivery held_for key key_of link lost map now number options pages params poll progress "
    "random remaining renew replaying result_of run run_task run_tasks run_transaction sequence sleep step token "
    "transaction uuid wait_event",
    "Locker": "acknowledge_path answer_path decide_path "
    "cancel cancel_path client complete config dismiss dismiss_path find from_env get lock "
    "pause_path reset reset_path resolve resolve_path result save "
    "schedule send show",
    "LockedModel": "document_path id lock stored",
    "NamedLock": "acquire document end held locked name refresh release remaining take token",
    "OnceTask": "created_at data done_at env errors id is_queued is_running kind lock occurrence_at parent_id path payload "
    "progress recurrence resource_key result status",
    "Scheduled": "cancelled dispatch dispatched sequence task_name",
    "Created": "created differences dispatch dispatched id refused replaced",
    "TaskData": "of payload payload_hash recurrence resource_key scheduled_at task_id",
    "TaskManager": "add_task cancel_task cancel_tasks_by_ids cancel_tasks_by_resource_key clear count create_task create_tasks "
    "delete_task delete_tasks_by_ids dismiss_task find get_pending_count get_task get_tasks_by_ids get_tasks_by_resource_key "
    "handler locker "
    "on_error path pause register_batch_handler register_resource_key_handler register_task_handler reset_task "
    "reset_tasks_by_ids resolve_task result resume send serve",
    "Worker": "done drain hand_back kinds manager next_due ripe run run_here shards stop",
}


def shown(kind: type, made: object | None) -> set[str]:
    """
    The names of a class, and of an object of it, that begin with no underscore; those of pydantic are left out.
    """
    names = {*dir(kind), *(vars(made) if hasattr(made, "__dict__") else ())}
    return {name for name in names if not name.startswith("_") and not hasattr(BaseModel, name)}


def test_objects_of_users_show_no_other_name() -> None:
    """
    Internals are underscored: a name that a user finds by completion is one that is kept.
    """
    locker = gcp_oncetask.Locker(config=gcp_oncetask.Config(project="p"))
    manager = tasks.TaskManager(locker)

    class Shown(tasks.TaskData, kind="shown", pull=True):
        pass

    manager.register_task_handler(Shown, lambda task, attempt: None)
    objects = {
        "Attempt": (gcp_oncetask.Attempt, None),
        "Locker": (gcp_oncetask.Locker, locker),
        "LockedModel": (gcp_oncetask.LockedModel, gcp_oncetask.LockedModel(id="a")),
        "NamedLock": (gcp_oncetask.NamedLock, locker.lock("a")),
        "OnceTask": (tasks.OnceTask, None),
        "Scheduled": (gcp_oncetask.Scheduled, None),
        "Created": (tasks.Created, None),
        "TaskData": (tasks.TaskData, None),
        "TaskManager": (tasks.TaskManager, manager),
        "Worker": (Worker, Worker(manager)),
    }
    assert {name: shown(*each) for name, each in objects.items()} == {
        n: set(names.split()) for n, names in SHOWN.items()
    }


@pytest.mark.parametrize(
    "name", ["", "tasks", "worker", "testing", "flask", "logs", "outbox", "sweeper", "config", "console", "errors"]
)
def test_module_that_users_import_lists_its_names(name: str) -> None:
    """
    ``from ... import *`` and completion show what is kept: every listed name is there, and each has a docstring.
    """
    module = importlib.import_module(f"gcp_oncetask.{name}".rstrip("."))
    policy = (ROOT / "docs" / "how-to" / "upgrading.md").read_text()
    assert f"`{name or 'gcp_oncetask'}`" in policy
    assert module.__all__ == sorted(module.__all__, key=lambda each: (not each.isupper(), each))
    assert all(hasattr(module, each) for each in module.__all__)
