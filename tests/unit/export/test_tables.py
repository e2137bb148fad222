"""Slices cover a span without gaps; names of columns never clash; a query's columns take the types of their values."""

from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from services.export.files import file_name
from services.export.slices import Slices
from services.export.tables import TIME_TYPE, Batch, Layout, Series


@given(
    st.integers(-(1 << 62), 1 << 62),
    st.integers(1, 1 << 60),
    st.lists(st.sampled_from([0, 1_000, 300_000, 10_000_000])),
)
def test_slices_follow_each_other_to_the_end(start: int, length: int, rows: list[int]) -> None:
    slices = Slices(start, start + length)
    at, counts = start, iter(rows)
    while (window := slices.window()) is not None:
        assert window[0] == at < window[1] <= start + length
        at = window[1]
        slices.done(next(counts, 0))
    assert at == start + length


def test_fields_keep_their_names_and_tags_give_way() -> None:
    fields = [("a", "string"), ("a", "float"), ("a_tag", "boolean"), ("time_", "integer")]
    layout = Layout.of(["a", "b"], fields)
    assert layout.tags == {"a": "a_tag_", "b": "b"}
    assert layout.fields == {"a": pl.Float64(), "a_tag": pl.Boolean(), "time_": pl.Int64()}
    batch = Batch(layout)
    batch.add(Series("m", {"a": "", "b": "x"}, ["time", "a"], [[1, 1.5]]))
    batch.add(Series("m", {"a": "y", "b": ""}, ["time", "a_tag"], [[2, True]]))
    assert batch.frame().rows()[0][1:] == (None, "x", 1.5, None, None)
    assert batch.frame().rows()[1][1:] == ("y", None, None, True, None)


def test_the_columns_of_a_query_take_the_types_of_their_values() -> None:
    batch = Batch()
    batch.add(Series("m", {}, ["time", "i", "u", "f", "s", "n"], [[1, 1, 1 << 63, 1.5, "x", None]]))
    batch.add(Series("o", {"measurement": "t"}, ["time", "i", "f", "s"], [[2, None, 2, "y"]]))
    frame = batch.frame()
    assert dict(frame.schema) == {
        "time": TIME_TYPE, "measurement": pl.String(), "measurement_": pl.String(),
        "i": pl.Int64(), "u": pl.UInt64(), "f": pl.Float64(),
        "s": pl.String(), "n": pl.Null(),
    }  # fmt: skip
    assert frame["f"].to_list() == [1.5, 2.0]


def test_names_of_files_are_safe() -> None:
    assert file_name("cpu") == "cpu.parquet"
    assert file_name("../x") == "%2E.%2Fx.parquet"
    assert "/" not in file_name("a/b\n\0")
    assert len(file_name("é" * 500)) < 255
