"""
The list, and the acts of an operator: questions, forms, roles, stale pages, many records.
"""

from __future__ import annotations

import html
import re
from typing import Any

import pytest

from gcp_oncetask.console.access import Role, Visitor
from gcp_oncetask.console.signing import Forms
from gcp_oncetask.rules.document_paths import TaskName
from gcp_oncetask.rules.record import Status
from gcp_oncetask.tasks import TaskData
from tests.support.console_app import BASE, OPERATOR, ORIGIN, OURS, SECRET, VIEWER, Charge, Nightly, Parcel, get
from tests.support.durable import Calls
from tests.support.orders import Killed


class Durable(TaskData, kind="durable"):
    number: str

    def task_id(self) -> str:
        return self.number


ANN = Visitor(OPERATOR, True, Role.OPERATOR)


def path_of(id_: str, kind: str = "parcel") -> str:
    return TaskName("DEFAULT", kind, id_).path


def fail(desk: Any, *numbers: str) -> None:
    for number in numbers:
        desk.manager.create_task(Parcel(number=number))
    desk.cloud.run_until_idle()


def quarantine(desk: Any, order: str = "7") -> str:
    desk.manager.create_task(Charge(order=order))
    desk.cloud.run_until_idle()
    desk.cloud.advance(minutes=13)
    desk.cloud.sweep()
    path = path_of(order, "charge")
    assert desk.manager.locker.show(path).status is Status.QUARANTINED
    return path


def fields(page: str, action: str = "act") -> dict[str, str]:
    """
    The hidden fields of the form of a page.
    """
    [form] = re.findall(rf'<form method="post" action="{BASE}/{action}".*?</form>', page, re.DOTALL)
    found = {name: html.unescape(value) for name, value in re.findall(r'"hidden" name="(\w+)" value="([^"]*)"', form)}
    found |= {name: html.unescape(text) for name, text in re.findall(r'<textarea name="(\w+)"[^>]*>([^<]*)<', form)}
    return found


def ask(browser: Any, path: str, verb: str) -> dict[str, str]:
    answer = get(browser, "/act", query_string={"path": path, "verb": verb})
    assert answer.status_code == 200, answer.text
    return fields(answer.text)


def send(browser: Any, form: dict[str, str], headers: Any = OURS, what: str = "act", **more: str) -> Any:
    return browser.post(f"{BASE}/{what}", data=form | more, headers=headers)


def status(desk: Any, path: str) -> str:
    return str(desk.manager.locker.show(path).status)


def test_list_shows_what_needs_a_person_oldest_first(desk: Any) -> None:
    """
    Two failed parcels and a quarantined charge; filters and the command line of the same list.
    """
    path = quarantine(desk)
    fail(desk, "bad1", "fine")
    desk.cloud.advance(minutes=1)
    fail(desk, "bad2")
    browser = desk.browser()
    page = get(browser, "/list").text

    assert re.findall(r'<tr data-key="([^"]+)"', page) == [path, path_of("bad1"), path_of("bad2")]
    assert "python -m gcp_oncetask list" in page
    one = get(browser, "/list?status=failed&kind=parcel&older=30s").text
    assert re.findall(r'<tr data-key="([^"]+)"', one) == [path_of("bad1")]
    assert "python -m gcp_oncetask list --status failed --kind parcel --older-than 30s" in one
    assert "<option selected>failed</option>" in one
    assert "Nothing fits." in get(browser, "/list?kind=nightly").text
    assert get(browser, "/list?older=soon").status_code == 400
    assert "no address" in page
    assert "no address" not in get(desk.browser(VIEWER), "/list").text


def test_list_of_nothing_says_so(desk: Any) -> None:
    """
    An empty list without a filter is good news.
    """
    assert "Nothing needs a person." in get(desk.browser(), "/list").text


def test_pages_of_the_list_have_each_record_once(desk: Any) -> None:
    """
    Links lead through all pages with the filter kept.
    """
    fail(desk, *(f"bad{number}" for number in range(120)))
    browser, url, seen = desk.browser(), f"{BASE}/list?kind=parcel", []
    while url:
        page = browser.get(url).text
        seen += re.findall(r'<tr data-key="([^"]+)"', page)
        found = re.search(r'id="next-page" rel="next" href="([^"]+)"', page)
        url = html.unescape(found[1]) if found else ""
        assert not url or "kind=parcel" in url
    assert len(seen) == len(set(seen)) == 120


@pytest.mark.parametrize(
    ("verb", "more", "after"),
    [
        ("run", {}, "scheduled"),
        ("happened", {"end": "1", "result": '{"paid": true}'}, "completed"),
        ("complete", {"result": '"by hand"'}, "completed"),
        ("fail", {"note": "the bank says no"}, "failed"),
    ],
)
def test_button_asks_then_acts_and_the_record_names_the_person(desk: Any, verb: str, more: Any, after: str) -> None:
    """
    The question says the consequence; the act is done by the function of the command line, and kept with its person.
    """
    path, browser = quarantine(desk), desk.browser()
    page = get(browser, "/task", query_string={"path": path}).text
    assert "A person must decide" in page
    assert f'id="act-{verb}"' in page
    answer = send(browser, ask(browser, path, verb), **more)

    assert answer.status_code == 303
    assert status(desk, path) == after
    [act] = desk.manager.locker.show(path).acts
    assert (act.verb, act.by, act.proven, act.status) == (verb, OPERATOR, True, "quarantined")
    shown = browser.get(answer.headers["Location"]).text
    assert 'class="said"' in shown
    assert f"{OPERATOR} {verb}" in re.sub(r"\s+", " ", shown)
    assert "the bank says no" not in shown


def test_each_state_has_its_buttons_and_each_button_works(desk: Any) -> None:
    """
    Failed: reset, happened, dismiss, ack, delete; waiting: cancel; recurring: pause and resume.
    """
    fail(desk, "bad1", "bad2", "bad3")
    desk.manager.create_task(Nightly(name="report"))
    browser = desk.browser()
    for path, verb, after in (
        (path_of("bad1"), "reset", "scheduled"),
        (path_of("bad1"), "cancel", "cancelled"),
        (path_of("bad2"), "ack", "failed"),
        (path_of("bad2"), "dismiss", "failed"),
        (path_of("report", "nightly"), "cancel", "cancelled"),
    ):
        page = get(browser, "/task", query_string={"path": path}).text
        assert f'id="act-{verb}"' in page, verb
        assert send(browser, ask(browser, path, verb)).status_code == 303, verb
        assert status(desk, path) == after
    answer = send(browser, ask(browser, path_of("bad3"), "delete"))
    assert answer.headers["Location"].startswith(f"{BASE}/list")
    assert get(browser, "/task", query_string={"path": path_of("bad3")}).status_code == 404


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"end": "1", "result": "{paid"}, "result is no JSON"),
        ({"result": "1"}, "one of both"),
        ({"end": "1", "next": "/next"}, "one of both"),
    ],
)
def test_input_that_can_not_be_read_is_asked_again(desk: Any, more: dict[str, str], word: str) -> None:
    """
    Nothing is done, and the input is still there.
    """
    path, browser = quarantine(desk), desk.browser()
    answer = send(browser, ask(browser, path, "happened"), note="kept words", **more)

    assert answer.status_code == 400
    assert word in answer.text
    assert "kept words" in answer.text
    assert html.escape(more.get("result", ""), quote=False) in answer.text
    assert status(desk, path) == "quarantined"


def test_op_44_viewer_does_not_act(desk: Any) -> None:
    """
    A viewer sees no button; a POST by hand with a token of the right form is 403, and nothing happens.
    """
    path, viewer = quarantine(desk), desk.browser(VIEWER)
    page = get(viewer, "/task", query_string={"path": path}).text
    assert 'id="act-' not in page
    form = ask(desk.browser(), path, "run")
    own = Forms([SECRET], desk.manager.locker._runtime.clock)
    form["token"] = own.token(Visitor(VIEWER, True, Role.VIEWER), "act", "run", path, form["version"])

    assert send(viewer, form).status_code == 403
    assert status(desk, path) == "quarantined"
    assert desk.manager.locker.show(path).acts == ()


@pytest.mark.parametrize(
    ("headers", "base"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, ORIGIN),
        ({"Sec-Fetch-Site": "same-site"}, ORIGIN),
        ({"Sec-Fetch-Site": "none"}, ORIGIN),
        ({"Origin": "null"}, ORIGIN),
        ({"Origin": "https://evil.test"}, ORIGIN),
        ({"Origin": f"{ORIGIN}.evil.test"}, ORIGIN),
        ({}, ORIGIN),
        (OURS, "https://evil.test"),
        (OURS, "https://console.test:8443"),
    ],
)
def test_op_45_form_from_elsewhere_is_refused(desk: Any, headers: dict[str, str], base: str) -> None:
    """
    Another origin, none, a null one, or another host: refused, and nothing is changed.
    """
    path, browser = quarantine(desk), desk.browser()
    form = ask(browser, path, "run")
    answer = browser.post(f"{BASE}/act", data=form, headers=headers, base_url=base)

    assert answer.status_code == 403
    assert status(desk, path) == "quarantined"
    # The same form from the console's own page is good, by its Origin too.
    assert send(browser, form, {"Origin": ORIGIN}).status_code == 303


@pytest.mark.parametrize("change", ["person", "verb", "path", "version", "none", "made up", "other key"])
def test_op_45_token_is_for_one_person_act_document_and_version(desk: Any, change: str) -> None:
    """
    A token of another person, act, document or version is refused, and so is a forged one.
    """
    path, browser = quarantine(desk), desk.browser()
    form = ask(browser, path, "run")
    clock = desk.manager.locker._runtime.clock
    eve = Visitor("eve@example.com", True, Role.OPERATOR)
    forms = Forms([SECRET], clock)
    what = ("act", form["verb"], form["path"], form["version"])
    form |= {
        "person": {"token": forms.token(eve, *what)},
        "verb": {"verb": "complete"},
        "path": {"path": path_of("8", "charge")},
        "version": {"version": "1.2"},
        "none": {"token": ""},
        "made up": {"token": "W10.aaaa.bbbb"},
        "other key": {"token": Forms(["another"], clock).token(ANN, *what)},
    }[change]

    assert send(browser, form).status_code == 403
    assert status(desk, path) == "quarantined"


def test_op_45_expired_token_asks_again_with_the_input_kept(desk: Any) -> None:
    """
    After an hour the form is shown once more, with a fresh token and all that was typed; then it works.
    """
    path, browser = quarantine(desk), desk.browser()
    form = ask(browser, path, "complete")
    desk.cloud.advance(seconds=3602)
    fresh = desk.browser()
    answer = send(fresh, form, result='{"kept": 1}', note="kept words")

    assert answer.status_code == 409
    assert "too old" in answer.text
    assert "kept words" in answer.text
    assert status(desk, path) == "quarantined"
    again = fields(answer.text)
    assert again["result"] == '{"kept": 1}'
    assert send(fresh, again, note="kept words").status_code == 303


def test_op_47_stale_page_is_refused_with_the_change(desk: Any) -> None:
    """
    The task has moved on since the question: nothing is done, and the fresh page says who did what.
    """
    path, browser, bob = quarantine(desk), desk.browser(), desk.browser("bob@example.com")
    form = ask(browser, path, "run")
    assert send(bob, form).status_code == 403
    other = ask(browser, path, "complete")
    assert send(browser, other, result="1").status_code == 303
    answer = send(browser, form)

    assert answer.status_code == 409
    assert f"{OPERATOR} chose complete" in answer.text
    assert '<span class="state completed">' in answer.text
    assert status(desk, path) == "completed"
    assert len(desk.manager.locker.show(path).acts) == 1


def test_op_47_same_state_by_another_way_is_stale_too(desk: Any) -> None:
    """
    The task was reset and has failed again since the question: it is not reset a second time unseen.
    """
    fail(desk, "bad1")
    path, browser = path_of("bad1"), desk.browser()
    form = ask(browser, path, "reset")
    assert send(browser, ask(browser, path, "reset")).status_code == 303
    desk.cloud.run_until_idle()
    assert status(desk, path) == "failed"
    answer = send(browser, form)

    assert answer.status_code == 409
    assert "has changed since" in answer.text
    assert desk.manager.locker.show(path).sequence == 2


def test_op_48_form_of_one_instance_is_good_at_another(desk: Any) -> None:
    """
    Two instances with one secret_key accept each other's forms; a fallback key still verifies after a rotation.
    """
    from tests.support.console_app import Browser, app_of

    path, browser = quarantine(desk), desk.browser()
    form = ask(browser, path, "run")
    app = app_of(desk.manager, secret="the next secret", deliveries=False)
    other = Browser(app)
    other.environ_base.update(desk.browser().environ_base)
    assert send(other, form).status_code == 403
    app.config["SECRET_KEY_FALLBACKS"] = [SECRET]
    assert send(other, form).status_code == 303


def test_act_on_all_that_fit_leaves_later_ones_alone(desk: Any) -> None:
    """
    Three failed parcels, one more after the question: three are reset, the later one and the charge are not.
    """
    charge = quarantine(desk)
    fail(desk, "bad1", "bad2", "bad3")
    desk.cloud.advance(seconds=5)
    browser = desk.browser()
    page = get(browser, "/many?verb=reset&kind=parcel").text
    assert "<strong>reset</strong> 3 records that fit kind=parcel" in re.sub(r"\s+", " ", page)
    desk.cloud.advance(seconds=5)
    fail(desk, "bad4")
    answer = send(browser, fields(page, "many"), what="many")

    assert "3 done, 0 not" in answer.text
    assert [status(desk, path_of(f"bad{number}")) for number in (1, 2, 3, 4)] == [*["scheduled"] * 3, "failed"]
    assert status(desk, charge) == "quarantined"


def test_selected_rows_alone_are_acted_on(desk: Any) -> None:
    """
    Of three rows the two selected ones are dismissed; no row selected is said.
    """
    fail(desk, "bad1", "bad2", "bad3")
    browser = desk.browser()
    form = fields(get(browser, "/list").text, "choose") | {"verb": "dismiss", "scope": "selected"}
    form.pop("path", None)
    assert "No row is selected" in send(browser, form, what="choose").text
    answer = send(browser, form | {"path": [path_of("bad1"), path_of("bad3")]}, what="choose")  # type: ignore[dict-item]
    done = send(browser, fields(answer.text, "many"), what="many")

    assert "2 done, 0 not" in done.text
    assert re.findall(r'<tr data-key="([^"]+)"', get(browser, "/list").text) == [path_of("bad2")]


def test_delete_over_a_filter_asks_for_the_number(desk: Any) -> None:
    """
    Without the typed number nothing is deleted; a filter changed by hand is refused.
    """
    fail(desk, "bad1", "bad2")
    desk.cloud.advance(seconds=5)
    browser = desk.browser()
    form = fields(get(browser, "/many?verb=delete&kind=parcel").text, "many")
    assert send(browser, form, what="many").status_code == 400
    assert send(browser, form | {"kind": ""}, what="many", typed="2").status_code == 403
    assert send(browser, form | {"count": "1"}, what="many", typed="1").status_code == 403
    assert status(desk, path_of("bad1")) == "failed"
    assert "2 done" in send(browser, form, what="many", typed="2").text


def test_refused_records_are_listed_with_their_reasons(desk: Any) -> None:
    """
    Of a failed and a quarantined record only the first can be dismissed.
    """
    path = quarantine(desk)
    fail(desk, "bad1")
    desk.cloud.advance(seconds=5)
    browser = desk.browser()
    answer = send(browser, fields(get(browser, "/many?verb=dismiss").text, "many"), what="many")

    assert "1 done, 1 not" in answer.text
    assert path in answer.text


@pytest.mark.parametrize("url", ["/act?verb=explode&path=a/b", "/many?verb=explode", "/many?verb=run"])
def test_unknown_acts_are_refused(desk: Any, url: str) -> None:
    """
    A verb that is none is a wrong use, not a server error.
    """
    assert get(desk.browser(), url).status_code == 400


def test_du_33_the_console_asks_about_a_run_and_answers(desk: Any) -> None:
    def charge(task: Any, attempt: Any) -> Any:
        return attempt.options(once=True).run("card", pay)

    pay = Calls(Killed())
    desk.manager.register_task_handler(Durable, charge)
    desk.manager.create_task(Durable(number="1"))
    desk.cloud.run_until_idle()
    desk.cloud.advance(minutes=30)
    desk.cloud.sweep()
    desk.cloud.advance(minutes=1)
    desk.cloud.run_until_idle()
    path, browser = path_of("1", "durable"), desk.browser()
    page = get(browser, "/task", query_string={"path": path}).text
    assert "Did this happen: the run &#39;card&#39;, key otk_" in page
    assert 'id="act-answer"' in page
    assert 'id="act-not-done"' in page
    assert 'id="act-complete"' not in page
    form = ask(browser, path, "answer")
    assert send(browser, form, run="card").status_code == 400
    assert send(browser, form, run="card", result='"paid"').status_code in (302, 303)
    desk.cloud.run_until_idle()
    lock = desk.manager.locker.show(path)
    assert (len(pay.seen), lock.status, lock.result) == (1, Status.COMPLETED, "paid")
    assert [(act.verb, act.by, act.proven) for act in lock.acts] == [("answer", OPERATOR, True)]
