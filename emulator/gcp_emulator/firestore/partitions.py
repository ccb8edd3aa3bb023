"""
PartitionQuery: places that divide the results of a query into parts of about the same size.
"""

from __future__ import annotations

from gcp_emulator.firestore import messages as m
from gcp_emulator.firestore.database import Database
from gcp_emulator.firestore.paths import database_of, field_path, invalid, parent_segments
from gcp_emulator.firestore.query import Query
from gcp_emulator.firestore.transactions import Transaction

_ONLY = "Partition queries are only supported for collection groups that are ordered by __name__ ascending"
_AFTER = "after:"
_REFUSED = ("where", "start_at", "end_at", "limit", "find_nearest")


def check(request: m.AnyRequest) -> None:
    """
    Refuse a query that can't be divided.

    Raises:
        RpcError: INVALID_ARGUMENT.
    """
    if request.WhichOneof("query_type") != "structured_query":
        raise invalid("A query must be a structured query.")
    query = request.structured_query
    named = [(field_path(order.field.field_path), order.direction) for order in query.order_by]
    if not query.from_ or not query.from_[0].all_descendants or named != [(("__name__",), 1)]:
        raise invalid(f"{_ONLY}.")
    if found := [name for name in _REFUSED if query.HasField(name)] + ["offset"] * bool(query.offset):
        raise invalid(f"{_ONLY}, without {found[0]}.")
    if parent_segments(request.parent, database_of(request.parent, "Document parent")):
        raise invalid("Partition queries are only supported at the root of the database.")
    if request.partition_count <= 0:
        raise invalid("partition_count must be greater than zero.")
    if request.page_size < 0:
        raise invalid("page_size must be greater than or equal to zero.")


def partition(
    database: Database, query: Query, request: m.AnyRequest, transaction: Transaction | None
) -> m.AnyResponse:
    """
    Return at most ``partition_count`` places, fewer for few results; each is that of a result, which belongs to the part
    behind it.
    """
    found = database.run(query, transaction).documents
    parts = min(request.partition_count + 1, max(1, len(found)))
    names = [found[len(found) * number // parts].document.name for number in range(1, parts)]
    if request.page_token:
        # The place that ended the page before, marked so that not any text is taken for one.
        last = request.page_token.removeprefix(_AFTER)
        if not request.page_token.startswith(_AFTER) or last not in names:
            raise invalid("invalid page token")
        names = names[names.index(last) + 1 :]
    page = names[: request.page_size or len(names)]
    response = m.PartitionQueryResponse(next_page_token=_AFTER + page[-1] if len(page) < len(names) else "")
    for name in page:
        response.partitions.add(before=True).values.add(reference_value=name)
    return response
