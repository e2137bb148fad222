"""Compiled kernels do what the plain functions do, and the merge is a heap's."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.query.compile import prepare
from services.query.engine import kernels
from services.query.engine.cells import gather_cells
from services.query.engine.frame import Piece, choose_rows
from services.query.engine.kernels import Kernel
from services.query.engine.window import Windows


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    prepare()


def both(kernel: Kernel, *args: Any) -> tuple[Any, Any]:
    assert kernel.compiled
    return kernel(*args), kernel.plain(*args)


streams = st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=6).map(sorted), min_size=1, max_size=7)


@settings(max_examples=150, deadline=None)
@given(st.lists(streams, min_size=1, max_size=3), st.booleans(), st.integers(1, 9) | st.just(2**63 - 1), st.data())
def test_streams_merge_alike_and_in_order(groups: Any, descending: bool, limit: int, data: Any) -> None:
    every = [stream for group in groups for stream in group]
    sizes = [len(stream) for stream in every]
    ends = np.cumsum(sizes, dtype=np.int64)
    starts = ends - np.array(sizes)
    bounds = np.cumsum([0] + [len(group) for group in groups], dtype=np.int64)
    times = np.array([time for stream in every for time in stream], np.int64)
    ties = np.array([data.draw(st.lists(st.integers(-1, 2), min_size=len(times), max_size=len(times)))], np.int64)
    compiled, plain = both(kernels.merge_streams, times, starts, ends, bounds, ties, descending, limit)
    assert compiled.tolist() == plain.tolist()
    at = 0
    for group in groups:
        whole = sorted((time for stream in group for time in stream), reverse=descending)[:limit]
        assert times[compiled[at : at + len(whole)]].tolist() == whole
        at += len(whole)
    assert at == len(compiled)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(st.integers(-200, 200), max_size=12).map(sorted), min_size=1, max_size=4),
    st.integers(1, 60),
    st.integers(0, 59),
)
def test_windows_are_cut_where_their_start_changes(runs: list[list[int]], width: int, offset: int) -> None:
    offset %= width
    runs = [run for run in runs if run]
    times = np.array([time for run in runs for time in run], np.int64)
    offsets = np.cumsum([0] + [len(run) for run in runs], dtype=np.int64)
    compiled, plain = both(kernels.cut_windows, times, offsets, width, offset)
    assert compiled.tolist() == plain.tolist()
    starts = Windows(width, offset).starts(times)
    wanted = [i for i in range(len(times)) if i in offsets or starts[i] != starts[i - 1]]
    assert compiled[0].tolist() == wanted
    assert compiled[2].tolist() == starts[wanted].tolist()


def test_windows_at_the_ends_of_time_are_cut_alike() -> None:
    times = np.array([-(2**63) + 2, 0, 2**63 - 2], np.int64)
    compiled, plain = both(kernels.cut_windows, times, np.array([0, 3], np.int64), 10**18, 7)
    assert compiled.tolist() == plain.tolist()
    assert compiled[2].tolist() == Windows(10**18, 7).starts(times).tolist()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 7), st.lists(st.integers(0, 9), max_size=5).map(sorted)), max_size=6),
    st.lists(st.booleans(), max_size=7) | st.none(),
    st.integers(-1, 10),
    st.integers(-1, 10),
)
def test_rows_are_chosen_alike_with_and_without_the_compiler(
    runs: list[tuple[int, list[int]]], marks: list[bool] | None, start: int, stop: int
) -> None:
    """Series that came after the choice was made are not of it: the mask is too short for them."""
    series = np.array([code for code, _ in runs], np.int64)
    times = np.array([time for _, run in runs for time in run], np.int64)
    offsets = np.cumsum([0] + [len(run) for _, run in runs], dtype=np.int64)
    piece = Piece(series, offsets, times, {})
    wanted = None if marks is None else np.array(marks, bool)
    longer = None if marks is None else np.array(marks + [False] * (8 - len(marks)), bool)
    quick = choose_rows(piece, wanted, start, stop)
    with mock.patch.object(kernels.choose_runs, "_run", kernels.choose_runs.plain):
        assert not kernels.choose_runs.compiled
        plain = choose_rows(piece, longer, start, stop)
    chosen = [
        (code, [time for time in run if start <= time < stop])
        for code, run in runs
        if marks is None or (code < len(marks) and marks[code])
    ]
    for rows in (quick, plain):
        assert rows.series.tolist() == [code for code, run in chosen if run]
        assert rows.times.tolist() == [time for _, run in chosen for time in run]
        assert rows.offsets.tolist() == np.cumsum([0] + [len(run) for _, run in chosen if run]).tolist()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=8), st.booleans())
def test_cells_are_gathered_alike_with_and_without_the_compiler(pairs: list[tuple[int, int]], ordered: bool) -> None:
    pairs = sorted(pairs) if ordered else pairs
    groups, times = (np.array([pair[i] for pair in pairs], np.int64) for i in range(2))
    quick = gather_cells(groups, times)
    with mock.patch.object(kernels.cell_starts, "_run", kernels.cell_starts.plain):
        plain = gather_cells(groups, times)
    compiled, alike = both(kernels.cell_starts, groups, times)
    assert compiled.tolist() == alike.tolist()
    for cells in (quick, plain):
        assert list(zip(cells.groups.tolist(), cells.times.tolist(), strict=True)) == sorted(set(pairs))
        assert cells.starts.tolist() == plain.starts.tolist()
        assert (cells.order is None) == (pairs == sorted(pairs))


def test_numeric_kernels_compile_to_the_same() -> None:
    values = np.random.default_rng(3).normal(50, 10, 40)
    offsets = np.array([0, 1, 12, 40], np.int64)
    cases = [
        (kernels.deviations, (values, offsets)),
        (kernels.smooth, (values, 5, 2 / 6, True, 3)),
        (kernels.smooth, (values, 5, 2 / 6, False, 0)),
        (kernels.adapt, (values, np.abs(np.sin(values)), 4)),
        (kernels.forecast, (values[:12], 3, 4)),
        (kernels.forecast, (values[:12], 3, 0)),
    ]
    for kernel, args in cases:
        compiled, plain = both(kernel, *args)
        np.testing.assert_allclose(compiled, plain, rtol=1e-6)
