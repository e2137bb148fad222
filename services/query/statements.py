"""Which function runs which statement.

A statement that is not here is refused with the words of ``manage.WORDS``.
"""

from __future__ import annotations

from services.query import select, show
from services.query.execute import Executor
from services.query.influxql import tree

EXECUTORS: dict[type, Executor] = {
    tree.Select: select.select,
    tree.ShowDatabases: show.databases,
    tree.ShowRetentionPolicies: show.retention_policies,
    tree.ShowMeasurements: show.measurements,
    tree.ShowTagKeys: show.tag_keys,
    tree.ShowTagValues: show.tag_values,
    tree.ShowFieldKeys: show.field_keys,
    tree.ShowSeries: show.series,
    tree.ShowCardinality: show.cardinality,
}
