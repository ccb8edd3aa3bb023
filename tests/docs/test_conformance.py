"""
The page of the local cloud's conformance is that of the tables, and the tables are complete.
"""

from __future__ import annotations

import pytest

from tests.emulator import conformance
from tests.emulator.conformance import Row, Service, faults, page, services
from tests.support.readme import ROOT

PAGE = ROOT / "docs" / "reference" / "local-cloud.md"


@pytest.mark.parametrize("service", services(), ids=lambda service: service.name)
def test_each_rpc_and_field_has_a_row_with_a_test(service: Service) -> None:
    """
    Each RPC and each field of its request as the client has them; no row is of another, and its test exists and uses the client.
    """
    assert list(faults(service)) == []


def test_page_is_as_generated() -> None:
    """
    `python -m tests.docs.test_conformance` writes it.
    """
    assert page() == PAGE.read_text()


def test_faults_of_a_table_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A missing row, a second one, one of a field that is none, one without its reason, and tests that are missing or use no client.
    """
    monkeypatch.setattr(
        conformance, "tests_of", lambda file: {"test_yes": frozenset({"client"}), "test_wire": frozenset({"wire"})}
    )
    rows = [
        Row("Get", "name", "supported", "", "t.py::test_yes"),
        Row("Get", "name", "supported", "", "t.py::test_no"),
        Row("Get", "", "differs", "", "t.py::test_wire"),
        Row("Put", "", "refused", "It is new.", "t.py::test_yes"),
    ]
    service = Service("T", "t.v1.T", rows, {"Get": ["name", "mask"]}, clients=frozenset({"client"}))

    assert list(faults(service)) == [
        "Get: mask has no row",
        "Get name: has two rows",
        "Get name: has two rows",
        "Get name: there is no test t.py::test_no",
        "Get: lacks the reason why it is differs",
        "Get: t.py::test_wire uses none of the clients ['client']",
        "Put: the client has no such RPC or field",
    ]


if __name__ == "__main__":
    PAGE.write_text(page())
