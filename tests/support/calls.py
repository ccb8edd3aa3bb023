"""
Firestore's RPCs through Google's client, field by field.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from google.api_core.exceptions import (
    GoogleAPICallError,
)


class Calls:
    """
    The RPCs of the client, with the names of its project.
    """

    def __init__(self, client: Any) -> None:
        self.api = client._firestore_api
        self.database = client._database_string
        self.root = f"{self.database}/documents"
        self.headers = client._rpc_metadata

    def __call__(self, rpc: str, **request: Any) -> Any:
        answer = getattr(self.api, rpc)(request=request, metadata=self.headers)
        return list(answer) if rpc in ("batch_get_documents", "run_query", "run_aggregation_query") else answer

    def name(self, path: str) -> str:
        return f"{self.root}/{path}"

    def put(self, path: str, **numbers: int) -> datetime:
        """
        Write a document of whole numbers; returns the time.
        """
        document = {"name": self.name(path), "fields": {name: {"integer_value": n} for name, n in numbers.items()}}
        time: datetime = self("commit", database=self.database, writes=[{"update": document}]).commit_time
        return time

    def begin(self, **options: Any) -> bytes:
        return bytes(self("begin_transaction", database=self.database, options=options).transaction)

    def ids(self, *, parent: str = "", request: dict[str, Any] | None = None, **query: Any) -> list[str]:
        found = self("run_query", parent=self.root + parent, structured_query=query, **(request or {}))
        return [each.document.name.rpartition("/")[2] for each in found if each.document.name]


def code(call: Callable[..., Any], *args: Any, **kwargs: Any) -> type[GoogleAPICallError]:
    with pytest.raises(GoogleAPICallError) as error:
        call(*args, **kwargs)
    return error.type


def numbers(document: Any) -> dict[str, int]:
    return {name: value.integer_value for name, value in document.fields.items()}


def field(path: str) -> dict[str, str]:
    return {"field_path": path}
