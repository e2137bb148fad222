"""``python -m services.export`` against a running stack; the files are read by Polars, PyArrow and DuckDB."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow.parquet as pq

from tests.stack import ROOT, Stack

T = 1_700_000_000_000_000_000
WEEK = 7 * 86_400 * 10**9


def export(stack: Stack, bucket: str, *arguments: str, token: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.export", "--host", stack.url, "--bucket", bucket, *arguments],
        capture_output=True, text=True, timeout=60, check=False, cwd=ROOT,
        env={**os.environ, "INFLUX_TOKEN": stack.token if token is None else token},
    )  # fmt: skip


def exported(stack: Stack, bucket: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = export(stack, bucket, *arguments)
    assert done.returncode == 0, done.stderr
    return done


def readers(path: Path) -> list[list[tuple[Any, ...]]]:
    """The rows of a file as Polars, PyArrow and DuckDB see them, times as ns."""
    frame = pl.read_parquet(path).with_columns(pl.col("time").dt.epoch("ns"), pl.col(pl.Categorical).cast(pl.String))
    table = pq.read_table(path)
    at = table.column_names.index("time")
    columns = [
        (column.cast("int64") if index == at else column).to_pylist() for index, column in enumerate(table.columns)
    ]
    duck = duckdb.sql(f"SELECT * REPLACE (epoch_ns(time) AS time) FROM '{path}'").fetchall()
    return [frame.rows(), list(zip(*columns, strict=True)), duck]


def test_a_bucket_becomes_a_file_a_measurement_with_every_type(stack: Stack, bucket: str, tmp_path: Path) -> None:
    lines = [
        f'all,host=a,zone=x f=1.5,i=9223372036854775807i,u=18446744073709551615u,s="über",b=true {T + 1}',
        f"all,host=b f=-0.25,i=-9223372036854775808i {T + 2}",
        f'all,host=a,zone=x s="",b=false {T + 2 * WEEK}',
        f"other,host=c value=1 {T - 30 * WEEK}",
        f"other,value=tag value=2 {T}",
        f"odd/na\\ me v=3 {T}",
    ]
    assert stack.write("\n".join(lines), bucket).status_code == 204
    done = exported(stack, bucket, "--output", str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.parquet", "odd%2Fna me.parquet", "other.parquet"]
    assert f"{tmp_path}/all.parquet\t3 rows\n" in done.stdout
    assert pl.read_parquet_schema(tmp_path / "all.parquet") == {
        "time": pl.Datetime("ns", "UTC"), "host": pl.Categorical(), "zone": pl.Categorical(), "b": pl.Boolean(),
        "f": pl.Float64(), "i": pl.Int64(), "s": pl.String(), "u": pl.UInt64(),
    }  # fmt: skip
    low, high, most = -(2**63), 2**63 - 1, 2**64 - 1
    for rows in readers(tmp_path / "all.parquet"):
        assert rows == [
            (T + 1, "a", "x", True, 1.5, high, "über", most),
            (T + 2, "b", None, None, -0.25, low, None, None),
            (T + 2 * WEEK, "a", "x", False, None, None, "", None),
        ]
    # A tag and a field of one name: the field keeps it.
    for rows in readers(tmp_path / "other.parquet"):
        assert rows == [(T - 30 * WEEK, "c", None, 1.0), (T, None, "tag", 2.0)]
    assert list(pl.read_parquet_schema(tmp_path / "other.parquet")) == ["time", "host", "value_tag", "value"]


def test_a_range_of_one_measurement(stack: Stack, bucket: str, tmp_path: Path) -> None:
    assert stack.write("\n".join(f"m v={at} {T + at}\nn v=1 {T}" for at in range(10)), bucket).status_code == 204
    stop = datetime.fromtimestamp(T // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S") + ".000000007Z"
    exported(stack, bucket, "--measurement", "m", "--start", str(T + 3), "--stop", stop, "--output", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["m.parquet"]
    assert pl.read_parquet(tmp_path / "m.parquet")["v"].to_list() == [3.0, 4.0, 5.0, 6.0]


def test_the_answer_to_a_query(stack: Stack, bucket: str, tmp_path: Path) -> None:
    lines = [f'm,host=h{at % 3} v={at}i,s="t{at}" {T + at * 10**9}' for at in range(9)]
    assert stack.write("\n".join(lines), bucket).status_code == 204
    path = tmp_path / "answer.parquet"
    q = "SELECT sum(v) AS total, mean(v) FROM m GROUP BY host"
    exported(stack, bucket, "--query", q, "--output", str(path))
    for rows in readers(path):
        assert [row[1:] for row in rows] == [("m", "h0", 9, 3.0), ("m", "h1", 12, 4.0), ("m", "h2", 15, 5.0)]
    exported(stack, bucket, "--query", f"SELECT s, v FROM m WHERE time > {T} LIMIT 2", "--output", str(path))
    assert readers(path)[0] == [(T + 10**9, "m", "t1", 1), (T + 2 * 10**9, "m", "t2", 2)]


def test_bytes_that_are_not_utf8_are_replaced_as_in_answers(stack: Stack, bucket: str, tmp_path: Path) -> None:
    assert stack.write(b'm s="a\xffb" %d\nm s="c" %d' % (T, T + 1), bucket).status_code == 204
    exported(stack, bucket, "--output", str(tmp_path))
    assert pl.read_parquet(tmp_path / "m.parquet")["s"].to_list() == ["a\ufffdb", "c"]


def test_what_cannot_be_exported_is_said_and_leaves_nothing(stack: Stack, bucket: str, tmp_path: Path) -> None:
    assert stack.write(f"m v=1 {T}", bucket).status_code == 204
    for arguments, token, reason in (
        ((), "wrong", "401: "),
        (("--query", "SELECT nothing at all"), None, "400: failed to parse query"),
        (
            ("--query", "SELECT v FROM m; SELECT v FROM m", "--output", str(tmp_path / "q.parquet")),
            None,
            "one statement",
        ),
        (("--start", "yesterday"), None, "yesterday"),
    ):
        failed = export(stack, bucket, "--output", str(tmp_path), *arguments, token=token)
        assert failed.returncode == 1
        assert failed.stderr.startswith("cannot export: ")
        assert reason in failed.stderr
        assert "Traceback" not in failed.stderr
    missing = export(stack, "no-such-bucket", "--output", str(tmp_path))
    assert "no such bucket" in missing.stderr
    nothing = export(stack, bucket, "--measurement", "n", "--output", str(tmp_path))
    assert "not written: no rows" in nothing.stdout
    assert not list(tmp_path.iterdir())
