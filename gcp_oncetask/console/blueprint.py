"""
The blueprint: routes, and the checks before each of them. The only importer of Flask in the console.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from flask import Blueprint, Response, current_app, g, make_response, redirect, request, url_for
from flask.sansio.app import App
from flask.sansio.blueprints import BlueprintSetupState
from werkzeug.exceptions import HTTPException

from gcp_oncetask.clock import Mark, elapsed
from gcp_oncetask.config import config_error
from gcp_oncetask.console import access, rendering
from gcp_oncetask.console.access import Access, Visitor
from gcp_oncetask.console.formats import zone_of
from gcp_oncetask.console.headers import FILE_CACHE, HEADERS, PAGE_CACHE
from gcp_oncetask.console.page import ConsolePage, RefusedError
from gcp_oncetask.console.pages import Pages
from gcp_oncetask.console.signing import Forms, FormTrouble, stranger
from gcp_oncetask.entities.chains import runtime_of
from gcp_oncetask.errors import IdentityError, OncetaskError
from gcp_oncetask.observe.log_context import trace_of
from gcp_oncetask.runtime import requirements
from gcp_oncetask.services.identity import Denied
from gcp_oncetask.tasks.manager import TaskManager

NAME: Final = "oncetask_console"
_ZONE: Final = "oncetask_zone"
_KEPT: Final = 2.0
"""Seconds for which a fragment is given to all who ask for it, so that many open pages do not cause many queries."""
_MOST_KEPT: Final = 200
_MOST_FORM: Final = 262_144
"""Most bytes of a form."""
_LOG: Final = logging.getLogger("gcp_oncetask")


def console(manager: TaskManager, *, url_prefix: str = "/oncetask/console") -> Blueprint:
    """
    Make the blueprint of the console.

    Args:
        manager: The manager, whose tasks and whose locker's chains are shown.
        url_prefix: Path below which the pages are.

    Returns:
        A blueprint. An application needs a ``secret_key`` before the blueprint is registered, the same in all instances; on the
        local cloud it needs none.

    Raises:
        ConfigError: This is a web server, and settings are missing; the message names all of them.
    """
    made = _Console(manager)
    if requirements.serving() and (found := access.problems(manager.locker.config)):
        raise config_error(found)
    blueprint = Blueprint(NAME, __name__, url_prefix=url_prefix)
    blueprint.record_once(made.registered)
    blueprint.before_request(made.enter)
    blueprint.after_request(made.leave)
    blueprint.register_error_handler(OncetaskError, made.failed)
    blueprint.register_error_handler(HTTPException, made.refused)
    for rule, name, view, methods in made.routes():
        blueprint.add_url_rule(rule, name, view, methods=methods)
    return blueprint


class _Console:
    # The views of one blueprint.

    def __init__(self, manager: TaskManager) -> None:
        self._runtime = runtime_of(manager.locker)
        self._pages = Pages(manager)
        self._templates = rendering.environment()
        self._files = rendering.static_files()
        self._access: Access | None = None
        self._names = frozenset(name for _, name, *_ in self.routes())
        self._kept: dict[tuple[str, ...], tuple[Mark, str]] = {}

    def routes(self) -> list[tuple[str, str, Callable[..., Any], list[str]]]:
        page = self._page
        return [
            ("/", "overview", page(self._pages.overview), ["GET"]),
            ("/task", "task", page(self._pages.task), ["GET"]),
            ("/list", "list", page(self._pages.list), ["GET"]),
            ("/timeline", "timeline", page(self._pages.timeline), ["GET"]),
            ("/effects", "effects", page(self._pages.effects), ["GET"]),
            ("/acts", "acts", page(self._pages.acts), ["GET"]),
            ("/choose", "choose", self._choose, ["POST"]),
            ("/act", "ask", page(self._pages.question), ["GET"]),
            ("/act", "act", self._act, ["POST"]),
            ("/many", "ask_many", page(self._pages.question_about_many), ["GET"]),
            ("/many", "act_many", self._act_many, ["POST"]),
            ("/contents", "contents", self._contents, ["POST"]),
            ("/schedules", "schedules", page(self._pages.schedules), ["GET"]),
            ("/workers", "workers", page(self._pages.workers), ["GET"]),
            ("/queues", "queues", page(self._pages.queues), ["GET"]),
            ("/zone", "zone", self._set_zone, ["POST"]),
            ("/static/<digest>/<name>", "file", self._file, ["GET"]),
        ]

    # --- before and after -----------------------------------------------------------------------------------------------

    def registered(self, state: BlueprintSetupState) -> None:
        """
        Check the application in which the blueprint is registered.
        """
        config = self._runtime.config
        found = [] if access.is_local(config) else _problems_of(state.app)
        if access.behind_proxy_on_run(config) and _delivers(state.app):
            found.append(_ONE_SERVICE)
        if found and requirements.serving():
            raise config_error(found)

    def enter(self) -> Response | None:
        """
        Identify the visitor; a response refuses the request.
        """
        config = self._runtime.config
        local = access.is_local(config)
        found = [*access.problems(config), *([] if local else _problems_of(current_app))]
        if access.behind_proxy_on_run(config) and _delivers(current_app):
            found.append(_ONE_SERVICE)
        if found:
            _LOG.error("The console lets no one in: %s", " ".join(found))
            return _text("The console is not configured; the log of this service says why.", 503)
        if self._access is None:
            self._access = Access(config, self._runtime.clock)
        host = request.environ.get("HTTP_HOST", "")
        if not self._access.host_is_ours(host):
            return self._deny(f"The host {host!r:.100} is none of ONCETASK_CONSOLE_ORIGIN.")
        try:
            visitor = self._access.enter(request.headers.get)
        except IdentityError as error:
            _LOG.error("The console lets no person in now: %s", error)
            return _text(
                "Your account can't be told now; the log of this service says why. Try again in a minute.", 503
            )
        if isinstance(visitor, Denied):
            return self._deny(visitor.reason)
        g.oncetask_visitor, g.oncetask_forms = visitor, Forms(self._keys(local), self._runtime.clock)
        if request.method != "POST":
            return None
        request.max_content_length = _MOST_FORM
        reason = stranger(self._access, host, request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin"))
        return self._deny(reason, visitor) if reason is not None else None

    def _keys(self, local: bool) -> list[str]:
        key, config = current_app.secret_key, self._runtime.config
        if not key and local:
            # Each process of the local cloud must have the same one; nothing there is secret.
            return [f"local {config.project} {config.firestore_emulator}"]
        keys = [*(current_app.config.get("SECRET_KEY_FALLBACKS") or ()), key]
        return [one.decode("latin-1") if isinstance(one, bytes) else str(one) for one in keys]

    def _deny(self, reason: str, visitor: Visitor | None = None) -> Response:
        # An act that was refused is told, with the id of the request.
        who = "a visitor" if visitor is None else visitor.name
        trace = trace_of(request.headers.get)
        _LOG.warning("The console has refused %s %s of %s (%s): %s", request.method, request.path, who, trace, reason)
        return _text("Refused. The log of this service says why.", 403)

    def leave(self, response: Response) -> Response:
        """
        Add the headers.
        """
        response.headers.extend({**HEADERS, "Cache-Control": response.headers.pop("Cache-Control", PAGE_CACHE)})
        return response

    def failed(self, error: OncetaskError) -> Response:
        """
        Show an error of the library as a page.
        """
        return self._shown(self._pages.trouble(error))

    def refused(self, error: HTTPException) -> Response:
        """
        Answer an error of HTTP in plain text.
        """
        return _text(f"{error.code} {error.name}", error.code or 500)

    # --- views ----------------------------------------------------------------------------------------------------------

    def _page(self, make: Callable[[Visitor, Mapping[str, str]], ConsolePage]) -> Callable[[], Response]:
        def view() -> Response:
            if "fragment" in request.args:
                return self._fragment(make)
            return self._shown(make(g.oncetask_visitor, request.args))

        return view

    def _fragment(self, make: Callable[[Visitor, Mapping[str, str]], ConsolePage]) -> Response:
        visitor: Visitor = g.oncetask_visitor
        key = (request.path, request.query_string.decode("latin-1"), visitor.name, request.cookies.get(_ZONE, ""))
        mark = self._runtime.clock.mark()
        known = self._kept.get(key)
        if known is None or elapsed(known[0], mark) > _KEPT:
            if len(self._kept) > _MOST_KEPT:
                self._kept.clear()
            known = self._kept[key] = mark, self._html(make(visitor, request.args), fragment=True)
        response = make_response(known[1])
        response.headers["X-Oncetask-Fragment"] = "1"
        return response

    def _shown(self, page: ConsolePage) -> Response:
        return make_response(self._html(page), page.status)

    def _html(self, page: ConsolePage, *, fragment: bool = False) -> str:
        visitor: Visitor = g.oncetask_visitor
        forms: Forms = g.oncetask_forms
        zone = zone_of(request.cookies.get(_ZONE))
        now: datetime = page.read or self._runtime.store.estimate()

        def token(*what: str) -> str:
            return forms.token(visitor, *what)

        template = self._templates.get_template("fragment.html" if fragment else "layout.html")
        return template.render(
            page.values,
            page=page,
            visitor=visitor,
            place=self._pages.place,
            link=lambda name, **options: url_for(f".{name}", **options),
            file=lambda name: url_for(".file", digest=self._files[name].digest, name=name),
            time=rendering.time_in(zone, now),
            zone=str(zone),
            tz=zone,
            pages=self._names,
            every=_every(request.args.get("live", ""), page.live),
            now=now,
            said=forms.said(request.args.get("said", "")),
            token=token,
            here=request.full_path.partition("&fragment")[0].rstrip("?"),
        )

    def _checked(self, *what: str) -> bool:
        """
        Tell whether the form is good; False if it has expired, so that it is asked again.
        """
        visitor: Visitor = g.oncetask_visitor
        if not visitor.acts:
            raise RefusedError(f"{visitor.name} is a viewer")
        trouble = g.oncetask_forms.trouble(request.form.get("token", ""), visitor, *what)
        if trouble is FormTrouble.FORGED:
            raise RefusedError("the form was made for another visitor, act, document or version")
        return trouble is None

    def _contents(self) -> Response:
        path = request.form.get("path", "")
        try:
            good = self._checked("contents", path)
        except RefusedError as error:
            return self._deny(str(error), g.oncetask_visitor)
        if not good:
            return redirect(url_for(".task", path=path), 303)  # type: ignore[return-value]
        _LOG.info("%s looks at the contents of %s", g.oncetask_visitor.name, path)
        return self._shown(self._pages.task(g.oncetask_visitor, {"path": path}, contents_shown=True))

    def _act(self) -> Response:
        given = {name: request.form.get(name, "") for name in ("verb", "path", "version")}
        return self._done(self._pages.act, "act", given)

    def _act_many(self) -> Response:
        form = request.form
        given = {"verb": form.get("verb", ""), "filter": self._pages.filter_of(form)}
        given |= {name: form.get(name, "") for name in ("cut", "count")}
        return self._done(self._pages.act_on_many, "many", given)

    def _choose(self) -> Response:
        """
        Ask about many records. It is a POST, because a URL can't carry the paths of many selected rows.
        """
        try:
            if not self._checked("choose"):
                return redirect(url_for(".list"), 303)  # type: ignore[return-value]
        except RefusedError as error:
            return self._deny(str(error), g.oncetask_visitor)
        form = request.form.to_dict()
        if form.get("scope") == "selected":
            paths = request.form.getlist("path")
            if not paths:
                return self._shown(self._pages.none_selected())
            form["chosen"] = "\n".join(paths)
        return self._shown(self._pages.question_about_many(g.oncetask_visitor, form))

    def _done(
        self, do: Callable[[Visitor, Mapping[str, str]], ConsolePage], what: str, given: dict[str, str]
    ) -> Response:
        visitor = g.oncetask_visitor
        try:
            good = self._checked(what, *given.values())
        except RefusedError as error:
            return self._deny(str(error), visitor)
        if not good:
            return self._shown(self._pages.asked_again(request.form, what))
        try:
            page = do(visitor, request.form)
        except OncetaskError as error:
            _LOG.warning(
                "%s was refused %s (%s): %s", visitor.name, given["verb"], trace_of(request.headers.get), error
            )
            return self._shown(self._pages.not_done(visitor, request.form, error))
        if page.next is None:
            return self._shown(page)
        name, options = page.next
        said = g.oncetask_forms.say(page.sentence)
        values: dict[str, Any] = {**options, "said": said}
        return redirect(url_for(f".{name}", **values), 303)  # type: ignore[return-value]

    def _set_zone(self) -> Response:
        response: Any = redirect(_own(request.form.get("here", "")) or url_for(".overview"), 303)
        response.set_cookie(
            _ZONE, str(zone_of(request.form.get("zone"))), max_age=31_536_000, httponly=True, samesite="Strict"
        )
        return response  # type: ignore[no-any-return]

    def _file(self, digest: str, name: str) -> Response:
        file = self._files.get(name)
        if file is None or file.digest != digest:
            return _text("404 Not Found", 404)
        response = make_response(file.body)
        response.headers["Content-Type"] = file.type
        response.headers["Cache-Control"] = FILE_CACHE
        return response


_UNSIGNED: Final = (
    "The application has no secret_key, with which the console signs its forms: set app.secret_key before the console is "
    "registered, to the same random text in all instances, for example from Secret Manager."
)
_ONE_SERVICE: Final = (
    "The identity-aware proxy acts on this Cloud Run service (ONCETASK_CONSOLE_AUDIENCE), so Cloud Tasks can't deliver to it: "
    "put the console on a service of its own, from the same image, without the blueprint of deliveries."
)


def _problems_of(app: App) -> list[str]:
    if app.secret_key:
        return []
    return [_UNSIGNED]


def _delivers(app: App) -> bool:
    return any(name.startswith("oncetask.") for name in app.view_functions)


def _every(text: str, usual: int) -> int:
    # Seconds between two fetches of a live page, within bounds: a visitor could ask for none.
    return min(60, max(2, int(text))) if usual and text.isdecimal() and len(text) < 4 else usual


def _own(url: str) -> str | None:
    # A path of the console itself; "//" would be another host.
    prefix = url_for(".overview")
    return url if url.startswith(prefix) and "\\" not in url and not url.startswith("//") else None


def _text(sentence: str, status: int) -> Response:
    response = make_response(f"{sentence}\n", status)
    response.headers["Content-Type"] = "text/plain; charset=utf-8"
    return response
