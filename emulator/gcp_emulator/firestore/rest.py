"""
REST addresses of ``google.firestore.v1.Firestore``, and of the wiping as Google's emulator has it.

Source: the ``google.api.http`` options of ``google/firestore/v1/firestore.proto``.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from gcp_emulator.rest import Route

_DATABASE = "/v1/{database=projects/*/databases/*}/documents"
_ROOT = "/v1/{parent=projects/*/databases/*/documents}"
_BELOW = "/v1/{parent=projects/*/databases/*/documents/<*/*>}"
_NAME = "/v1/{name=projects/*/databases/*/documents/<*/*>}"
_WIPED = re.compile(r"/emulator/v1/projects/([^/]+)/databases/([^/]+)/documents")

ROUTES = (
    Route("POST", f"{_DATABASE}:batchGet", "BatchGetDocuments", "*"),
    Route("POST", f"{_DATABASE}:batchWrite", "BatchWrite", "*"),
    Route("POST", f"{_DATABASE}:beginTransaction", "BeginTransaction", "*"),
    Route("POST", f"{_DATABASE}:commit", "Commit", "*"),
    Route("POST", f"{_DATABASE}:rollback", "Rollback", "*"),
    Route("POST", f"{_DATABASE}:executePipeline", "ExecutePipeline", "*"),
    *(
        Route("POST", f"{parent}:{verb}", rpc, "*")
        for parent in (_ROOT, _BELOW)
        for verb, rpc in (
            ("listCollectionIds", "ListCollectionIds"),
            ("partitionQuery", "PartitionQuery"),
            ("runAggregationQuery", "RunAggregationQuery"),
            ("runQuery", "RunQuery"),
        )
    ),
    Route("PATCH", "/v1/{document.name=projects/*/databases/*/documents/<*/*>}", "UpdateDocument", "document"),
    Route("DELETE", _NAME, "DeleteDocument"),
    Route("GET", _NAME, "GetDocument"),
    Route("GET", f"{_ROOT}/{{collection_id}}", "ListDocuments"),
    Route("GET", f"{_BELOW}/{{collection_id}}", "ListDocuments"),
    Route("POST", "/v1/{parent=projects/*/databases/*/documents/**}/{collection_id}", "CreateDocument", "document"),
)


def wiped(verb: str, path: str) -> tuple[str, str] | None:
    """
    Project and database that a request asks to wipe; None if it asks for something else.
    """
    found = _WIPED.fullmatch(path) if verb == "DELETE" else None
    return None if found is None else (unquote(found[1]), unquote(found[2]))
