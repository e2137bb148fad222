"""Which function runs which statement.

A statement that is not here is refused with the words of ``manage.WORDS``.
"""

from __future__ import annotations

from services.query.evaluation import select
from services.query.execute import Executor
from services.query.influxql import tree
from services.query.removal import deletes
from services.query.schema import cardinality, show

EXECUTORS: dict[type, Executor] = {
    tree.Select: select.select_together,
    tree.Explain: select.explain,
    tree.ShowDatabases: show.databases,
    tree.ShowRetentionPolicies: show.retention_policies,
    tree.ShowMeasurements: show.measurements,
    tree.ShowTagKeys: show.tag_keys,
    tree.ShowTagValues: show.tag_values,
    tree.ShowFieldKeys: show.field_keys,
    tree.ShowSeries: show.series,
    tree.ShowCardinality: cardinality.cardinality,
    tree.Delete: deletes.delete,
    tree.DropMeasurement: deletes.drop_measurement,
}
# What 2.9 refuses and 1.x has, and administers nothing; off with TIDEGATE_V1_ADMIN=off.
EXECUTORS_OF_1X: dict[type, Executor] = {tree.DropSeries: deletes.drop_series}
