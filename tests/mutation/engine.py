"""
Try changes in one pytest session: tests are collected once; each change is made in a forked process, in which the tests that run
the changed function are run until one fails.
"""

from __future__ import annotations

import builtins
import faulthandler
import gc
import os
import pickle
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import _lru_cache_wrapper
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest

from tests.mutation.operators import Change, marked

SURVIVED = "survived"
UNRUN = "run by no test"
TIMEOUT = "timeout"
INVALID = "invalid"
PATIENCE = 15.0
"""Seconds that a test may take, beside ten times as long as without a change; with most changes that hang, one test hangs."""
_SAID = "_oncetask_function_runs"
_Called = dict[str, set[tuple[str, str]]]


class Engine:
    """
    A plugin of pytest that tries *tried* in place of running the tests.

    Attributes:
        folders: The folders of the tests, in their order: only a change that survives one is tried by the next.
        tried: The changes.
        told: Told of each change, and of its result: SURVIVED, UNRUN, TIMEOUT, INVALID or the test that fails.
        seconds: A change is tried by the fastest tests of a folder that take so long together.
        broken: Tests that fail without any change.
    """

    def __init__(
        self, folders: Sequence[Path], tried: Sequence[Change], told: Callable[[Change, str], None], seconds: float
    ) -> None:
        self.folders = folders
        self.seconds = seconds
        self.tried = tried
        self.told = told
        self.broken: list[str] = []
        self._failed: str | None = None
        self._functions: list[FunctionType] = []
        self._caches: list[Any] = []

    def pytest_sessionstart(self) -> None:
        from hypothesis import Phase, settings

        # An example that fails is not made smaller.
        settings.register_profile("mutation", derandomize=True, database=None, phases=[Phase.explicit, Phase.generate])
        settings.load_profile("mutation")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        files = {str(change.file) for change in self.tried}
        self._functions = functions_of(files)
        self._caches = [each for each in gc.get_objects() if isinstance(each, _lru_cache_wrapper)]
        # A collection in a forked process would copy all that it looks at.
        gc.freeze()
        left = dict.fromkeys(self.tried, UNRUN)
        for folder in self.folders:
            items = [item for item in session.items if item.path.is_relative_to(folder)]
            last = folder == self.folders[-1]
            print(f"{len(left)} changes by {len(items)} tests of {folder.name} ...", file=sys.stderr, flush=True)
            left = self._tried(left, items, files, last) if left else left
        return True

    def _tried(
        self, tried: Mapping[Change, str], items: Sequence[pytest.Item], files: set[str], last: bool
    ) -> dict[Change, str]:
        """
        Try changes by *items*. Returns those that survive, with the result until now, unless these tests are the last ones.
        """
        lasted, called, broken = _forked(lambda: self._plain(items, files), 3600)
        self.broken += broken
        runs = defaultdict(list)
        for item in sorted(items, key=lambda item: lasted[item.nodeid]):
            for function in called[item.nodeid] if item.nodeid not in broken else ():
                runs[function].append(item)
        left = {}
        for number, (change, before) in enumerate(tried.items(), 1):
            if number % 50 == 0:
                print(f"{number} of {len(tried)} changes tried", file=sys.stderr, flush=True)
            mine, spent = [], 0.0
            for item in runs[str(change.file), change.function]:
                spent += lasted[item.nodeid]
                mine += [item] if spent <= self.seconds else []
            result = before
            if mine:
                limits = {item.nodeid: PATIENCE + 10 * lasted[item.nodeid] for item in mine}
                result = _forked(lambda c=change, m=mine, s=limits: self._with(c, m, s), 40 + 15 * spent) or TIMEOUT
            if result in (SURVIVED, UNRUN) and not last:
                left[change] = result
            else:
                self.told(change, result)
        return left

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed = report.nodeid

    def _plain(self, items: Sequence[pytest.Item], files: set[str]) -> tuple[dict[str, float], _Called, list[str]]:
        """
        Run *items* without a change: the length of each, the functions of *files* that it calls, and those that fail.
        """
        lasted, called, broken = {}, {}, []
        for file in files:
            put_in_place(marked(Path(file), _SAID), self._functions)
        for item, after in _pairs(items):
            called[item.nodeid] = seen = set[tuple[str, str]]()
            setattr(builtins, _SAID, seen.add)
            began = time.monotonic()
            self._failed = None
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            lasted[item.nodeid] = time.monotonic() - began
            if self._failed is not None:
                broken.append(item.nodeid)
        return lasted, called, broken

    def _with(self, change: Change, items: Sequence[pytest.Item], limits: Mapping[str, float]) -> str:
        """
        Make *change*, and run *items* until one fails; if one takes longer than its limit, this process ends.
        """
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        try:
            if not put_in_place(change.code(), self._functions):
                return INVALID
        except (SyntaxError, ValueError):
            return INVALID
        for cache in self._caches:
            # Its results are those of the code before the change.
            cache.cache_clear()
        self._failed = None
        for item, after in _pairs(items):
            signal.setitimer(signal.ITIMER_REAL, limits[item.nodeid])
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            if self._failed is not None:
                return self._failed
        signal.setitimer(signal.ITIMER_REAL, 0)
        return SURVIVED


def functions_of(files: Collection[str]) -> list[FunctionType]:
    """
    All functions of *files* that are loaded.
    """
    return [each for each in gc.get_objects() if type(each) is FunctionType and each.__code__.co_filename in files]


def put_in_place(code: CodeType, functions: Sequence[FunctionType]) -> bool:
    """
    Give *functions* the code that they have in *code*, the compiled module. Return False if there is no difference.

    Raises:
        ValueError: A function has other free variables there.
    """
    changed = {(one.co_qualname, one.co_firstlineno): one for one in _within(code)}
    done = False
    for function in functions:
        old = function.__code__
        new = changed.get((old.co_qualname, old.co_firstlineno)) if old.co_filename == code.co_filename else None
        if new is not None and new != old:
            function.__code__ = new
            done = True
    return done


def _within(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _within(constant)


def _pairs(items: Sequence[pytest.Item]) -> Iterator[tuple[pytest.Item, pytest.Item | None]]:
    return zip(items, [*items[1:], None][: len(items)], strict=True)


def _forked(work: Callable[[], Any], limit: float) -> Any:
    """
    Return the result of *work*, done in a forked process that may take *limit* seconds; None if it did not end in time, or
    died.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.setpgid(0, 0)
        silent = os.open(os.devnull, os.O_WRONLY)
        for descriptor in (1, 2):
            os.dup2(silent, descriptor)
        faulthandler.disable()
        try:
            with os.fdopen(writer, "wb") as answer:
                answer.write(pickle.dumps(work()))
        finally:
            # Nothing else of the session happens here.
            os._exit(0)
    os.close(writer)
    timer = threading.Timer(limit, _killed, [child])
    timer.start()
    with os.fdopen(reader, "rb") as answer:
        said = answer.read()
    timer.cancel()
    os.waitpid(child, 0)
    return pickle.loads(said) if said else None


def _killed(child: int) -> None:
    # It leads a group of its own: what its tests have started goes with it.
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        return


def run(
    folders: Sequence[Path], tried: Sequence[Change], told: Callable[[Change, str], None], seconds: float
) -> list[str]:
    """
    Try *tried* by the tests in *folders*, one after the other; return the tests that fail without a change.

    Raises:
        RuntimeError: The tests could not be collected.
    """
    engine = Engine(folders, tried, told, seconds)
    # Those of pyproject.toml without the reports.
    options = [
        "-o",
        "addopts=",
        "-o",
        "timeout=0",
        "--import-mode=importlib",
        "-n0",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:terminal",
        "-m",
    ]
    # Google's emulator takes seconds to start, for each change anew.
    status = pytest.main([*options, "not slow and not google", *map(str, folders)], plugins=[engine])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise RuntimeError(f"pytest ended with {status}")
    return engine.broken
