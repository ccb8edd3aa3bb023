"""
Indexes of the user and of the library in one file: which of them are the same.
"""

from __future__ import annotations

from typing import Any

import pytest

from gcp_oncetask.store.indexes import merged

FIELDS = [{"fieldPath": "a", "order": "ASCENDING"}, {"fieldPath": "b", "arrayConfig": "CONTAINS"}]
INDEX: dict[str, Any] = {"collectionGroup": "orders", "queryScope": "COLLECTION_GROUP", "fields": FIELDS}


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (INDEX, True),
        ({**INDEX, "density": "SPARSE_ALL"}, True),
        ({**INDEX, "fields": [*FIELDS, {"fieldPath": "__name__", "order": "ASCENDING"}]}, True),
        ({**INDEX, "collectionGroup": "others"}, False),
        ({**INDEX, "queryScope": "COLLECTION"}, False),
        ({**INDEX, "fields": FIELDS[:1]}, False),
        ({**INDEX, "fields": [{"fieldPath": "a", "order": "DESCENDING"}, FIELDS[1]]}, False),
        ({**INDEX, "fields": [FIELDS[0], {"fieldPath": "b", "order": "ASCENDING"}]}, False),
        ({**INDEX, "fields": [FIELDS[0], {"fieldPath": "b", "arrayConfig": "OTHER"}]}, False),
    ],
)
def test_index_that_the_user_has_already_is_not_doubled(other: dict[str, Any], same: bool) -> None:
    found = merged({"indexes": [other]}, {"indexes": [INDEX], "fieldOverrides": []})
    assert found["indexes"] == ([INDEX] if same else [other, INDEX])


def test_scope_of_an_index_is_its_collection_unless_it_says_another() -> None:
    plain = {name: value for name, value in INDEX.items() if name != "queryScope"}
    wanted = {"indexes": [{**plain, "queryScope": "COLLECTION"}], "fieldOverrides": []}
    assert merged({"indexes": [plain]}, wanted)["indexes"] == wanted["indexes"]
    assert len(merged({"indexes": [plain]}, {"indexes": [INDEX], "fieldOverrides": []})["indexes"]) == 2
