"""
A payload with a canary, through every way that fails: what is logged, mailed, answered or kept of it is without it.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BaseModel, ValidationError, create_model, field_serializer, field_validator

from gcp_oncetask import Attempt, Config, ConfigError, Continue, Fail, LockedModel, NoRetry, UsageError, once
from gcp_oncetask.cli.show import described
from gcp_oncetask.config import FIELDS
from gcp_oncetask.entities.chains import stored_chain
from gcp_oncetask.errors import TaskError
from gcp_oncetask.flask import locked_handler
from gcp_oncetask.logs import CloudFormatter
from gcp_oncetask.observe.alerts import body_of, subject_of
from gcp_oncetask.store.records import record_of
from gcp_oncetask.tasks import TaskData
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.quoting import CANARY, WRONG, refuse
from tests.support.tasks import Service


class Parcel(TaskData, kind="untold-parcel"):
    name: str
    weight: int = 1
    note: Annotated[str, AfterValidator(lambda value: refuse(value) if value == CANARY else value)] = ""

    def task_id(self) -> str:
        return self.name


class Firm(Parcel, kind="untold-firm", on_conflict="raise"):
    pass


class Crate(LockedModel, collection="untold"):
    weight: int = 1
    note: str = ""

    @field_validator("note")
    @classmethod
    def check(cls, value: str) -> str:
        return refuse(value) if value == CANARY else value  # type: ignore[no-any-return]


class Silent(BaseModel):
    """
    What can't be written, and says why.
    """

    field: str = CANARY

    @field_serializer("field")
    def write(self, value: str) -> str:
        raise ValueError(f"{value} can't be written")


class Odd(BaseModel):
    """
    What is written with a warning that quotes it.
    """

    number: int


class Ear(logging.Handler):
    """
    Everything that is told of a deployment: its log in two forms, answers, alerts, and the records as ``show`` prints them.
    """

    def __init__(self, cloud: OncetaskCloud, **config: Any) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self.cloud = cloud
        self.service = Service(cloud, log_level="DEBUG", **config)
        self.locker = self.service.manager.locker
        for model in (Parcel, Firm):
            self.service.handle(model, retry=NoRetry())
        self.act: Callable[[Crate], Any] = lambda crate: None

        @self.service.app.post("/crate")
        @locked_handler(self.locker, Crate, retry=NoRetry())
        def crate(entity: Crate, attempt: Attempt) -> Any:
            return self.act(entity)

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("google."):
            # At DEBUG the client of the tests tells what it sends.
            return
        self.lines += [logging.Formatter("%(message)s").format(record), CloudFormatter("p").format(record)]

    def all(self) -> str:
        """
        All of it.
        """
        told = [*self.lines, *(record.body for record in self.cloud.deliveries)]
        for alert in self.cloud.alerts.sent:
            told += [subject_of(alert, ""), body_of(alert), str(asdict(alert))]
        paths = [self.service.path("a", Parcel), self.service.path("a", Firm), "untold/1"]
        for path in paths:
            snapshot, lock = stored_chain(self.locker._runtime, path) if self.exists(path) else (None, None)
            if snapshot is not None and lock is not None:
                told += [*described(record_of(snapshot), lock), str(lock.errors), str(lock.owed), str(lock.result_lost)]
        return "\n".join(map(str, told))

    def exists(self, path: str) -> bool:
        """
        Whether there is such a document.
        """
        return bool(self.locker.client.document(path).get().exists)

    def create(self, **fields: Any) -> None:
        """
        Create a parcel and deliver it.
        """
        self.service.manager.create_task(Parcel(name="a", **fields))
        self.cloud.run_until_idle()


def parse(name: str) -> Any:
    """
    What a handler does with an answer that does not fit.
    """
    kind, value = WRONG[name]
    return create_model("Answer", field=(kind, ...)).model_validate({"field": value})


def raising(how: str, name: str) -> Callable[[Ear], None]:
    """
    A handler that parses somebody's answer, and hands its error on.
    """

    def act(task: Any, attempt: Attempt) -> Any:
        try:
            return parse(name)
        except ValidationError as error:
            match how:
                case "raw":
                    raise
                case "wrapped":
                    raise RuntimeError(f"the API said {error!r}") from error
                case "final":
                    raise Fail(f"the API said {error}") from error
                case "met while handling":
                    raise KeyError("field")  # noqa: B904 - that is the point

    def way(ear: Ear) -> None:
        ear.service.act = act
        ear.create()

    return way


def doing(act: Callable[[Any, Attempt], Any]) -> Callable[[Ear], None]:
    """
    A handler that does *act*.
    """

    def way(ear: Ear) -> None:
        ear.service.act = act
        ear.create()

    return way


def stored_otherwise(name: str, value: Any) -> Callable[[Ear], None]:
    """
    A payload that somebody has changed in the database.
    """

    def way(ear: Ear) -> None:
        ear.service.manager.create_task(Parcel(name="a"))
        ear.locker.client.document(ear.service.path("a", Parcel)).update({f"data.{name}": value})
        ear.cloud.run_until_idle()

    return way


def entity(name: str, value: Any) -> Callable[[Ear], None]:
    """
    Likewise an entity.
    """

    def way(ear: Ear) -> None:
        ear.locker.schedule(Crate(id="1"), "/crate")
        ear.locker.client.document("untold/1").update({name: value})
        ear.cloud.run_until_idle()

    return way


def of_another_version(ear: Ear) -> None:
    """
    Such a one of which it is known that another version has written it.
    """
    ear.service.manager.create_task(Parcel(name="a"))
    document = ear.locker.client.document(ear.service.path("a", Parcel))
    document.update({"data.note": CANARY, "lock.fingerprint.model": "another"})
    ear.cloud.advance(minutes=20)


def raised_after(ear: Ear) -> None:
    """
    An error that comes when the step is settled.
    """

    def act(crate: Crate) -> Any:
        ear.locker.complete(crate)
        return parse("a number")

    ear.act = act
    ear.locker.schedule(Crate(id="1"), "/crate")
    ear.cloud.run_until_idle()


def in_a_function(ear: Ear) -> None:
    """
    A function that runs once: what it returns does not fit, and another one raises.
    """

    @once(ear.locker, result=int)
    def misfit(key: str) -> Any:
        return CANARY

    @once(ear.locker)
    def fails(key: str) -> Any:
        return parse("a validator after")

    for function in (misfit, fails):
        with pytest.raises(Exception, match=r".") as caught:
            function("x")
        if function is misfit:
            ear.lines.append("".join(traceback.format_exception(caught.value)))


def in_another_task(ear: Ear) -> None:
    """
    A handler that creates a task which exists with another payload.
    """
    ear.service.manager.create_task(Firm(name="a", note="x"))

    def act(task: Any, attempt: Attempt) -> Any:
        if task.kind == "untold-parcel":
            ear.service.manager.create_task(Firm.model_construct(name="a", note=CANARY))

    ear.service.act = act
    ear.create()


WAYS: dict[str, Callable[[Ear], None]] = {
    **{f"a payload changed: {name}": stored_otherwise(name, CANARY) for name in ("weight", "note", CANARY)},
    **{f"an entity changed: {name}": entity(name, CANARY) for name in ("weight", "note")},
    **{
        f"{how}: {name}": raising(how, name)
        for how in ("raw", "wrapped", "final")
        for name in ("a number", "a validator after")
    },
    **{
        f"raw: {name}": raising("raw", name)
        for name in ("a union by a tag", "a custom error", "a map's key", "an import")
    },
    "met while handling": raising("met while handling", "an assertion"),
    "written by another version": of_another_version,
    "raised after the settling": raised_after,
    "a function that runs once": in_a_function,
    "another task": in_another_task,
    "a result that can't be written": doing(lambda task, attempt: Silent()),
    "a result that warns": doing(lambda task, attempt: Odd.model_construct(number=CANARY)),
    "parameters that can't be written": doing(lambda task, attempt: Continue(params=Silent())),
    "data that does not fit": doing(lambda task, attempt: Continue(data={"name": "a", "weight": CANARY})),
    "data that a validator refuses": doing(lambda task, attempt: Continue(data={"name": "a", "note": CANARY})),
}


@pytest.fixture
def ear(oncetask_cloud: OncetaskCloud) -> Iterator[Ear]:
    """
    One that hears a deployment without ``ONCETASK_LOG_CONTENTS``.
    """
    yield from listening(Ear(oncetask_cloud))


def listening(ear: Ear) -> Iterator[Ear]:
    """
    While it is attached to the root logger.
    """
    root = logging.getLogger()
    level = root.level
    root.addHandler(ear)
    root.setLevel(logging.DEBUG)
    yield ear
    root.removeHandler(ear)
    root.setLevel(level)


@pytest.mark.parametrize("name", WAYS)
def test_what_is_told_of_a_failure_is_without_the_payload(ear: Ear, name: str) -> None:
    """
    Log at DEBUG with its tracebacks, answers, mails, records: none has it, whichever way it comes.
    """
    WAYS[name](ear)
    told = ear.all()
    assert CANARY not in told
    assert len(told) > 500


def test_words_of_validators_are_told_with_leave(oncetask_cloud: OncetaskCloud) -> None:
    """
    With ``ONCETASK_LOG_CONTENTS`` the record and the mail have what a validator says; the input stays untold.
    """
    for ear in listening(Ear(oncetask_cloud, log_contents=True)):
        raising("raw", "a validator after")(ear)
        [alert] = oncetask_cloud.alerts.sent
        assert f"field: Value error, {{value}} '{CANARY}' is no good" in alert.reason
        assert "input_value" not in ear.all()


def test_error_of_a_call_is_without_the_payload(ear: Ear) -> None:
    """
    What the caller of ``create_task``, ``get`` and the like logs with its traceback quotes nothing either.
    """
    locker, manager = ear.locker, ear.service.manager
    manager.create_task(Firm(name="a", note="x"))
    locker.schedule(Crate(id="1"), "/crate")
    locker.client.document("untold/1").update({"weight": CANARY})
    locker.client.document(ear.service.path("a", Firm)).update({"data.weight": CANARY})
    calls: list[Callable[[], Any]] = [
        lambda: locker.get(Crate, "1"),
        lambda: manager.get_task(Firm, "a").data,  # type: ignore[union-attr]
        lambda: manager.create_task(Firm.model_construct(name="a", note=CANARY)),
        lambda: manager.create_task(Parcel.model_construct(name="b", weight=CANARY)),
        lambda: locker.schedule(Crate(id="2"), "/crate", params=Silent()),
        lambda: locker.schedule(Crate(id="2"), "/crate", headers={"X-Key": f"{CANARY}\n"}),
        lambda: locker.schedule(Crate(id="2"), "/crate", headers=[("X-Key", CANARY)]),  # type: ignore[arg-type]
        lambda: locker.schedule(Crate(id="2"), f"https://u:{CANARY}@example.com/x"),
        lambda: locker.schedule(Crate(id="2"), f"https://example.com/x?key={CANARY}#x"),
    ]
    for call in calls:
        with pytest.raises((UsageError, TaskError)) as caught:
            call()
        assert CANARY not in "".join(traceback.format_exception(caught.value)), str(caught.value)


def test_secrets_of_settings_are_not_shown() -> None:
    """
    Neither by ``repr()`` nor by an error, also where a URL with a password was set in the wrong place.
    """
    url = f"smtp://ann%40example.com:{CANARY}@mail.example.com"
    assert CANARY not in repr(Config(smtp_url=url)) + str(Config(smtp_url=url))
    names = [name for name, _, default, _ in FIELDS if not isinstance(default, bool | float | int)]
    for name in names:
        for wrong in (
            f"{url}:x",
            f"{url}/x",
            f"https://x.example/?key={CANARY}",
            f"https://u:{CANARY}?x@x.example",
            f"{url}\n",
        ):
            try:
                config = Config.from_env({name: wrong})
            except ConfigError as error:
                assert CANARY not in "".join(traceback.format_exception(error)), name  # noqa: PT017 - some are fine
            else:
                assert name in ("ONCETASK_SMTP_URL", "ONCETASK_LINK_KEYS") or CANARY in repr(config)
