"""
Parents and children of durable handlers, and a process that dies at a remote call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gcp_oncetask import Fail, Snooze
from tests.support.durable import SECOND
from tests.support.orders import Killed, Mortal
from tests.support.tasks import Other, Service, Work


class Family:
    """
    A parent ``a`` of a kind, and its children of another.
    """

    def __init__(self, service: Service, act: Callable[[Any, Any], Any], child: Callable[[Any, Any], Any]) -> None:
        self.service = service
        self.acts = {"work": act, "latest": act, "other": child, "pulled": child, "fleeting": child}
        service.act = lambda task, attempt: self.acts[type(task.data).__kind__.name](task, attempt)

    def handle(self, parent: Any = Work, child: Any = Other, **options: Any) -> Family:
        self.service.handle(parent, **{"retry": SECOND, **options})
        if child is not parent:
            self.service.handle(child, retry=SECOND)
        return self

    def start(self, *, settle: int = 0, **options: Any) -> Family:
        self.handle(**options).service.create("a", model=options.get("parent", Work))
        self.service.cloud.run_until_idle()
        if settle:
            self.service.settle(settle)
        return self

    def children(self) -> list[dict[str, Any]]:
        client = self.service.manager.locker.client
        found = [each.to_dict() or {} for each in client.collection("onceTasks").stream()]
        return sorted((each for each in found if "parent" in each), key=lambda each: each["data"]["name"])


class Held:
    """
    A child's handler that comes back later until it is let go.
    """

    def __init__(self) -> None:
        self.free = False

    def __call__(self, task: Any, attempt: Any) -> str:
        if not self.free:
            raise Snooze(60)
        return upper(task, attempt)


class Crash:
    """
    Lets the process die at a remote call: no call goes out any more, until the next request comes.
    """

    def __init__(self, service: Service) -> None:
        runtime = service.manager.locker._runtime
        self.calls: list[str] = []
        self.at: Callable[[str, int], str | None] = lambda name, number: None
        self.dead = self.inside = self.spent = False
        wire: Any = runtime.wire
        wire._unary = self._around(wire._unary, lambda args: str(type(args[2]).__name__).removesuffix("Request"))
        stream = wire._stream

        def streamed(*args: Any) -> Any:
            return iter(self._call(str(type(args[2]).__name__), lambda: list(stream(*args))))

        wire._stream = streamed
        tasks: Any = runtime.tasks
        tasks._call = self._around(tasks._call, lambda args: "CreateTask")
        app = service.app.wsgi_app

        def request(environ: Any, start_response: Any) -> Any:
            self.dead, self.inside = False, True
            try:
                return app(environ, start_response)
            finally:
                self.dead = self.inside = False

        service.app.wsgi_app = Mortal(request)  # type: ignore[method-assign]

    def _around(self, call: Any, name: Callable[[Any], str]) -> Any:
        return lambda *args, **more: self._call(name(args), lambda: call(*args, **more))

    def _call(self, name: str, call: Callable[[], Any]) -> Any:
        if not self.inside:
            return call()
        if self.dead:
            raise Killed
        self.calls.append(name)
        when = None if self.spent else self.at(name, len(self.calls) - 1)
        if when == "before":
            self.dead = self.spent = True
            raise Killed
        found = call()
        if when == "after":
            self.dead = self.spent = True
            raise Killed
        return found

    def arm(self, name: str, skip: int) -> None:
        """
        Die before a call of *name*, after so many others of that name from now on.
        """
        start = len(self.calls)
        self.at = lambda called, number: (
            "before" if called == name and self.calls[start : number + 1].count(name) == skip + 1 else None
        )


def upper(task: Any, attempt: Any) -> str:
    return str(task.data.name).upper()


def three(task: Any, attempt: Any) -> list[str]:
    found = attempt.run_tasks("label", [Other(name=name) for name in "xyz"])
    assert all(isinstance(each, str) for each in found)
    return [*found]


def fails(task: Any, attempt: Any) -> Any:
    if task.data.name == "y":
        raise Fail("no paper")
    return upper(task, attempt)
