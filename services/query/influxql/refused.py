"""InfluxDB 2.9's refusals of statements that administer or change something, for those that nothing runs.

One table: whoever makes a statement work puts its function into ``execute.EXECUTORS`` and takes its words from here.
Source: spec/influxql.md, 4; http-query-v1.md, 7.
"""

from __future__ import annotations

from common.errors import NotImplementedHere
from services.query.influxql import tree

# What 2.9 says after ``not implemented: ``.
WORDS: dict[type, str] = {
    tree.Explain: "EXPLAIN",
    tree.DropSeries: "DROP SERIES",
    tree.CreateDatabase: "CREATE DATABASE",
    tree.DropDatabase: "DROP DATABASE",
    tree.CreateRetentionPolicy: "CREATE RETENTION POLICY",
    tree.AlterRetentionPolicy: "ALTER RETENTION POLICY",
    tree.DropRetentionPolicy: "DROP RETENTION POLICY",
    tree.CreateUser: "CREATE USER",
    tree.DropUser: "DROP USER",
    tree.SetPassword: "SET PASSWORD",
    tree.Grant: "GRANT",
    tree.GrantAdmin: "GRANT ALL",
    tree.Revoke: "REVOKE",
    tree.RevokeAdmin: "REVOKE ALL",
    tree.ShowUsers: "SHOW USERS",
    tree.ShowGrants: "SHOW GRANTS",
    tree.ShowQueries: "SHOW QUERIES",
    tree.KillQuery: "SHOW QUERIES",
    tree.CreateContinuousQuery: "CREATE CONTINUOUS QUERY",
    tree.DropContinuousQuery: "DROP CONTINUOUS QUERY",
    tree.ShowContinuousQueries: "SHOW CONTINUOUS QUERIES",
    tree.CreateSubscription: "CREATE SUBSCRIPTION",
    tree.DropSubscription: "DROP SUBSCRIPTION",
    tree.ShowSubscriptions: "SHOW SUBSCRIPTIONS",
    tree.ShowShards: "SHOW SHARDS",
    tree.ShowShardGroups: "SHOW SHARD GROUPS",
    tree.DropShard: "DROP SHARD",
    tree.ShowStats: "SHOW STATS",
    tree.ShowDiagnostics: "SHOW DIAGNOSTICS",
}


def refusal(words: str) -> NotImplementedHere:
    return NotImplementedHere(f"not implemented: {words}")
