"""
The lists of mistakes are complete, and the checks of the histories have names.
"""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from tests.simulation import named_checks
from tests.simulation.kept import Caught, Kept
from tests.simulation.mutants import ALL, _known, _table, _trippers
from tests.simulation.runner import KINDS, Summary
from tests.simulation.untripped import UNTRIPPED

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "gcp_oncetask"
_DECLARED = "a protocol declares it, without a body"
TRIVIAL = {
    "retry_policy.py RetryPolicy.max_attempts": _DECLARED,
    "retry_policy.py RetryPolicy.should_retry": _DECLARED,
    "retry_policy.py RetryPolicy.next_delay": _DECLARED,
}
"""Public functions of the rules in which no mistake is made: ``file name`` -> the reason."""


def functions(file: Path) -> dict[str, ast.FunctionDef]:
    """
    The public functions and methods of a file.
    """
    tree = ast.parse(file.read_text())
    found = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    for owner in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        found |= {f"{owner.name}.{node.name}": node for node in owner.body if isinstance(node, ast.FunctionDef)}
    return {name: node for name, node in found.items() if not name.rpartition(".")[2].startswith("_")}


def changed_lines(name: str, text: str) -> set[int]:
    """
    The lines of a file that mistakes change.
    """
    found = set()
    for mutant in ALL:
        for _, old, new in [edit for edit in mutant.edits if edit[0] == name]:
            same = next((at for at, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), len(new))
            first = text.index(old) + min(same, len(old) - 1)
            last = text.index(old) + len(old.rstrip()) - 1
            found |= set(range(text.count("\n", 0, first) + 1, text.count("\n", 0, max(first, last)) + 2))
    return found


@pytest.mark.parametrize("file", sorted((PACKAGE / "rules").glob("*.py")), ids=lambda file: file.name)
def test_each_public_function_of_the_rules_has_a_mistake(file: Path) -> None:
    """
    A mistake in its body, which a history or a test catches; a function without one is trivial, and the list says why.
    """
    name = file.relative_to(PACKAGE).as_posix()
    lines = changed_lines(name, file.read_text())
    without = {
        f"{file.name} {function}"
        for function, node in functions(file).items()
        if not lines & set(range(node.body[0].lineno, (node.end_lineno or 0) + 1))
    }

    assert without == {each for each in TRIVIAL if each.startswith(f"{file.name} ")}


def test_mistakes_have_names_of_their_own() -> None:
    """
    The table keeps the seeds by the names, and there are as many mistakes as were wanted.
    """
    assert len({mutant.mistake for mutant in ALL}) == len(ALL) >= 160


def test_named_test_is_there() -> None:
    """
    Each test that a mutant names is a function of its file.
    """
    for file, test in {tuple(mutant.test.split("::")[:2]) for mutant in ALL if mutant.test is not None}:
        assert f"def {test}(" in (ROOT / file).read_text(), f"{file} {test}"


def test_mutant_that_is_made_for_a_check_names_one_that_is_there() -> None:
    names = named_checks.names()

    assert [mutant.check for mutant in ALL if mutant.check is not None and mutant.check not in names] == []
    assert [mutant.mistake for mutant in ALL if mutant.check is not None and mutant.test is not None] == []


def test_history_that_trips_other_checks_alone_does_not_count() -> None:
    """
    A mutant that is made for one check is played until that check trips.
    """
    part = Summary(failed=[3, 5, 8], tripped={3: ["other"], 5: ["other", "mine"], 8: ["mine"]}, played=9)
    every, mine = Summary(), Summary()
    every.add(part)
    mine.add(part, "mine")

    assert (every.failed, every.played) == ([3, 5, 8], 9)
    assert (mine.failed, mine.tripped[5]) == ([5, 8], ["other", "mine"])


def test_each_check_has_a_name() -> None:
    """
    Taken from its sentence, with the place of its source; what is argued to trip for no mutant is a check.
    """
    names = named_checks.names()

    assert "chains: the token went from … to …" in names
    assert "workers: a late heartbeat has revived it" in names
    assert set(UNTRIPPED) <= set(names)


def test_caller_of_broken_is_named() -> None:
    """
    Also if it passes its sentence on to another function, which is no check itself.
    """

    class Checker:
        name = ""

        def broken(self, path: str, sentence: str) -> None:
            self.name = named_checks.name_of(inspect.currentframe())

    checker = Checker()
    checker.broken("a/1", f"it has {len(ALL)} mistakes")

    assert checker.name == "test_mutants: it has … mistakes"
    with pytest.raises(LookupError):
        named_checks.name_of(inspect.currentframe())


def test_table_names_seeds_tests_and_checks() -> None:
    """
    The seeds are read back from the table, and a check that no mutant trips is in it.
    """
    check = named_checks.names()[0]
    played = next(mutant for mutant in ALL if mutant.test is None)
    tested = next(mutant for mutant in ALL if mutant.test is not None)
    rows = [(played, Caught("seed 12", (check,))), (tested, Caught(tested.test or ""))]

    trippers = _trippers(rows)
    table = _table(rows, trippers, dict.fromkeys(KINDS, 1))

    assert trippers[check] == [played.mistake]
    assert _known(table) == {played.mistake: 12}
    assert f"| `{(tested.test or '').removeprefix('tests/')}` |" in table
    assert f"| {check} | {played.mistake} |" in table


def test_what_was_found_is_kept_for_the_same_sources(tmp_path: Path) -> None:
    """
    A run that was stopped goes on; after a change of the sources everything is tried again.
    """
    file = tmp_path / "build" / "mutants.json"
    Kept(file).add("a mistake", Caught("seed 3", ("a check",)))

    assert Kept(file).get("a mistake") == Caught("seed 3", ("a check",))
    file.write_text(file.read_text().replace('"sources": "', '"sources": "0'))
    assert Kept(file).get("a mistake") is None
