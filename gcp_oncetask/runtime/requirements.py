"""
The settings that a process needs for its work. When the process starts, one error names all that are missing or wrong.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum, auto
from pathlib import PurePath
from typing import Final

from gcp_oncetask.config import Config, config_error, problems, read, unchecked
from gcp_oncetask.errors import ConfigError
from gcp_oncetask.services import identity
from gcp_oncetask.services.channels import channel_from

_SERVERS: Final = frozenset(
    {
        "gunicorn",
        "functions-framework",
        "functions_framework",
        "granian",
        "hypercorn",
        "mod_wsgi-express",
        "uvicorn",
        "uwsgi",
    }
    | {"waitress", "waitress-serve"}
)
_HINT: Final = "On your own machine gcp-emulator sets all that is missing: gcp-emulator exec -- COMMAND"


class Need(Enum):
    """
    A value that must be known, from the configuration or from the environment.
    """

    PROJECT = auto()
    LOCATION = auto()
    AUDIENCE = auto()
    BASE_URL = auto()
    ACCOUNT = auto()
    CALLERS = auto()


STORE: Final = (Need.PROJECT,)
"""Needs of reading and writing documents: named locks, workers, most commands."""
DISPATCH: Final = (Need.PROJECT, Need.ACCOUNT)
"""Needs of making Cloud Tasks whose queue and URL are stored: reset, resolve, the outbox."""
SERVE: Final = (Need.PROJECT, Need.LOCATION, Need.AUDIENCE, Need.ACCOUNT)
"""Needs of verifying deliveries, running them, and scheduling the next steps."""
VERIFY: Final = (Need.AUDIENCE, Need.CALLERS)
"""Needs of verifying callers."""


class Place:
    """
    The project and region of a process: the given ones; else they are found out once, when they are needed.
    """

    def __init__(self, project: str | None, location: str | None) -> None:
        self.known_project = project
        self.known_location = location

    def project(self) -> str | None:
        """
        Return the project; None if it can't be found.
        """
        if self.known_project is None:
            self.known_project = identity.default_project()
        return self.known_project

    def location(self) -> str | None:
        """
        Return the region; None if it can't be found.
        """
        if self.known_location is None:
            self.known_location = identity.default_region()
        return self.known_location


def lacks(config: Config, place: Place, need: Need) -> bool:
    """
    Tell whether *need* is not met.
    """
    verifies = config.verify != "off"
    match need:
        case Need.PROJECT:
            return place.project() is None
        case Need.LOCATION:
            return "/" not in config.queue and place.location() is None
        case Need.AUDIENCE:
            return verifies and not config.audience and config.base_url is None
        case Need.BASE_URL:
            return config.base_url is None
        case Need.ACCOUNT:
            return verifies and config.service_account is None
        case Need.CALLERS:
            return verifies and not config.callers and config.service_account is None


def require(
    config: Config, place: Place, needs: Sequence[Need], *, also: Sequence[Need] = (), wrong: Sequence[str] = ()
) -> None:
    """
    Check that *needs* are met.

    Args:
        config: Settings.
        place: Project and region.
        needs: The values that must be known.
        also: Values whose lack is also told, if an error is raised anyway.
        wrong: Sentences about other settings that are wrong.

    Raises:
        ConfigError: One of *needs* is missing, or a setting is *wrong*; the message names all of them.
    """
    if not wrong and not any(lacks(config, place, need) for need in needs):
        return
    missing = _missing(config, place, {*needs, *also})
    raise config_error([*wrong, *missing], _HINT if missing and "K_SERVICE" not in os.environ else "")


def _missing(config: Config, place: Place, needs: set[Need]) -> list[str]:
    service = os.environ.get("K_SERVICE", "SERVICE")
    url = (
        "for example https://orders-abc.a.run.app; it is printed by: "
        f"gcloud run services describe {service} --format='value(status.url)'"
    )
    account = "for example tasks@my-project.iam.gserviceaccount.com; for local work without tokens: ONCETASK_VERIFY=off"
    sentences = {
        Need.PROJECT: "GOOGLE_CLOUD_PROJECT is not set, and no credentials name a project: the project of Firestore, "
        "Cloud Tasks and Cloud Logging, for example my-project",
        Need.LOCATION: "ONCETASK_LOCATION is not set, and there is no metadata server: the region of the queue, for "
        "example europe-west1; or give ONCETASK_QUEUE the queue's full name",
        Need.AUDIENCE: "ONCETASK_BASE_URL is not set (nor ONCETASK_AUDIENCE): the URL of this service, which identity "
        f"tokens must be made for and paths given to schedule() are joined to, {url}",
        Need.BASE_URL: f"ONCETASK_BASE_URL is not set: the URL that paths given to schedule() are joined to, {url}",
        Need.ACCOUNT: f"ONCETASK_SERVICE_ACCOUNT is not set: the account whose identity token deliveries carry, {account}",
        Need.CALLERS: f"ONCETASK_SERVICE_ACCOUNT is not set (nor ONCETASK_CALLERS): the account that may call, {account}",
    }
    lacking = {need for need in needs if lacks(config, place, need)}
    # The setting of the first meets both, so it is told once.
    for first, second in ((Need.AUDIENCE, Need.BASE_URL), (Need.ACCOUNT, Need.CALLERS)):
        if first in lacking:
            lacking.discard(second)
    return [f"{sentences[need]}." for need in Need if need in lacking]


def checked(
    config: Config | None,
    needs: Sequence[Need] = (),
    *,
    also: Sequence[Need] = (),
    environ: Mapping[str, str] | None = None,
    project: str | None = None,
    mails: bool = True,
) -> Config:
    """
    Return *config*, or the settings from the environment, after a check; with the project, if that had to be found out.

    Args:
        config: Settings made in code; None: they are read from *environ*.
        needs: The values that must be known.
        also: Values whose lack is also told, if an error is raised anyway.
        environ: Environment variables; None: those of the process.
        project: Project of the user's Firestore client, if there is one.
        mails: Whether alerts are sent by the settings for mail, so that these must be usable.

    Raises:
        ConfigError: Settings are missing, malformed or contradictory; the message names all of them.
    """
    wrong: list[str] = []
    if config is None:
        values, unread = read(os.environ if environ is None else environ)
        config = unchecked(values)
        wrong = [*unread.values(), *problems(config, unread)]
    if mails:
        wrong += _mail_problems(config)
    place = Place(config.project or project, config.location)
    require(config, place, needs, also=also, wrong=wrong)
    return replace(config, project=place.known_project)


def _mail_problems(config: Config) -> list[str]:
    try:
        channel_from(config)
    except ConfigError as error:
        return list(error.problems)
    return []


def service() -> str | None:
    """
    Return the Cloud Run service, or function, of this process; None if the process does not run there.
    """
    return os.environ.get("K_SERVICE") or None


def serving() -> bool:
    """
    Tell whether this process is a web server that loads its application; then its settings must be complete before the first
    request.

    It is one on Cloud Run, and under gunicorn, uWSGI, mod_wsgi, waitress, hypercorn, uvicorn, granian and ``flask run``. A
    program that imports an application for another purpose, such as a test, needs no settings for that.
    """
    program = PurePath(sys.argv[0] if sys.argv else "")
    name = program.parent.name if program.name == "__main__.py" else program.stem
    return (
        "K_SERVICE" in os.environ
        or "SERVER_SOFTWARE" in os.environ
        or name in _SERVERS
        or (name == "flask" and "run" in sys.argv)
        or not {"uwsgi", "mod_wsgi"}.isdisjoint(sys.modules)
    )
