"""Names of the internal methods and who may call them · pure.

One row a method, ``audience.name``; a method that is not here does not exist. The shapes of heads and parts are
docs/rpc.md. ``tests/test_architecture.py`` checks that every row is documented there.
"""

from __future__ import annotations

AUTH, INGEST, QUERY, STORAGE, GATEWAY = "auth", "ingest", "query", "storage", "gateway"

CALLERS: dict[str, frozenset[str]] = {
    method: frozenset(callers)
    for method, callers in {
        "auth.verify": (GATEWAY,),
        "auth.rest": (GATEWAY,),
        "auth.used": (GATEWAY,),
        "auth.feed": (GATEWAY,),
        "auth.bucket": (INGEST, QUERY),
        "auth.mappings": (INGEST, QUERY),
        "auth.administer": (QUERY,),
        "ingest.write": (GATEWAY,),
        "query.influxql": (GATEWAY,),
        "query.queries": (QUERY,),
        "query.kill": (QUERY,),
        "query.delete": (GATEWAY,),
        "storage.hello": (AUTH, INGEST, QUERY),
        "storage.register": (AUTH, INGEST, QUERY),
        "storage.feed": (AUTH, INGEST, QUERY),
        "storage.read_records": (AUTH,),
        "storage.change_records": (AUTH,),
        "storage.append": (INGEST,),
        "storage.results": (INGEST,),
        "storage.schema": (INGEST,),
        "storage.measurements": (QUERY,),
        "storage.plan": (QUERY,),
        "storage.series": (QUERY,),
        "storage.fetch": (QUERY,),
        "storage.delete": (QUERY,),
    }.items()
}
