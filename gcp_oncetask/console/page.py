"""
A page, as a value: its template and its contents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

from gcp_oncetask.config import Config
from gcp_oncetask.console.access import is_local

COLOURS: Final = ("red", "orange", "green", "blue", "purple", "grey")


class RefusedError(Exception):
    """
    The visitor may not do this.
    """


@dataclass(frozen=True, kw_only=True)
class ConsolePage:
    """
    A page.

    Attributes:
        template: Name of its template.
        title: Its title.
        values: Values of the template.
        status: HTTP status.
        read: Server time of the read; None: an estimate is shown.
        live: Seconds after which a script fetches it again; 0: never.
        rows: Whether it is a list, in which new rows are told and not inserted.
        next: Name and arguments of the page to go to instead, after an act; None: this one is shown.
        sentence: Sentence for that page.
    """

    template: str
    title: str
    values: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200
    read: datetime | None = None
    live: int = 0
    rows: bool = False
    next: tuple[str, Mapping[str, str]] | None = None
    sentence: str = ""


class PlaceShown(NamedTuple):
    """
    The deployment, as the bar at the top of each page names it.

    Attributes:
        project: Project.
        database: Database.
        env: Environment.
        banner: Text of the bar; ``LOCAL`` on the local cloud, unless another one is set.
        colour: Its colour, from ``COLOURS``.
    """

    project: str
    database: str
    env: str
    banner: str
    colour: str


def place_of(config: Config, project: str) -> PlaceShown:
    """
    Return the deployment of *config*.
    """
    colour, _, banner = config.console_banner.partition(":")
    if colour not in COLOURS:
        colour, banner = "grey", config.console_banner
    if not banner and is_local(config):
        colour, banner = "green", "LOCAL"
    return PlaceShown(project, config.database, config.env, banner, colour)
