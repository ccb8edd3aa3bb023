"""
Plain protobuf classes of the Firestore API, and the names that annotations use for them.

The client's own classes wrap these; the wrapping costs more than the work of this server.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from google.cloud.firestore_v1 import types
from google.protobuf import empty_pb2

# The vendor's package has no type information, so mypy can't check these names; they inform the reader.
AnyDocument: TypeAlias = Any
AnyFields: TypeAlias = Any
AnyValue: TypeAlias = Any
AnyWrite: TypeAlias = Any
AnyTransform: TypeAlias = Any
AnyRequest: TypeAlias = Any
AnyResponse: TypeAlias = Any
AnyQuery: TypeAlias = Any

Document = types.Document.pb()
Value = types.Value.pb()
Write = types.Write.pb()
WriteResult = types.WriteResult.pb()
StructuredQuery = types.StructuredQuery.pb()

GetDocumentRequest = types.GetDocumentRequest.pb()
BatchGetDocumentsRequest = types.BatchGetDocumentsRequest.pb()
BatchGetDocumentsResponse = types.BatchGetDocumentsResponse.pb()
BeginTransactionRequest = types.BeginTransactionRequest.pb()
BeginTransactionResponse = types.BeginTransactionResponse.pb()
CommitRequest = types.CommitRequest.pb()
CommitResponse = types.CommitResponse.pb()
RollbackRequest = types.RollbackRequest.pb()
Empty = empty_pb2.Empty
CreateDocumentRequest = types.CreateDocumentRequest.pb()
UpdateDocumentRequest = types.UpdateDocumentRequest.pb()
DeleteDocumentRequest = types.DeleteDocumentRequest.pb()
BatchWriteRequest = types.BatchWriteRequest.pb()
BatchWriteResponse = types.BatchWriteResponse.pb()
WriteRequest = types.WriteRequest.pb()
WriteResponse = types.WriteResponse.pb()
ListenRequest = types.ListenRequest.pb()
ListenResponse = types.ListenResponse.pb()
ListDocumentsRequest = types.ListDocumentsRequest.pb()
ListDocumentsResponse = types.ListDocumentsResponse.pb()
ListCollectionIdsRequest = types.ListCollectionIdsRequest.pb()
ListCollectionIdsResponse = types.ListCollectionIdsResponse.pb()
PartitionQueryRequest = types.PartitionQueryRequest.pb()
PartitionQueryResponse = types.PartitionQueryResponse.pb()
RunQueryRequest = types.RunQueryRequest.pb()
RunQueryResponse = types.RunQueryResponse.pb()
RunAggregationQueryRequest = types.RunAggregationQueryRequest.pb()
RunAggregationQueryResponse = types.RunAggregationQueryResponse.pb()


def set_time(timestamp: Any, micros: int) -> None:
    """
    Write *micros* since the epoch into a ``google.protobuf.Timestamp``.
    """
    timestamp.seconds, rest = divmod(micros, 1_000_000)
    timestamp.nanos = rest * 1000


def micros(timestamp: Any) -> int:
    """
    Microseconds since the epoch of a ``google.protobuf.Timestamp``.
    """
    return int(timestamp.seconds * 1_000_000 + timestamp.nanos // 1000)
