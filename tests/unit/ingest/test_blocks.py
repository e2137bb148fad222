"""Blocks against a plain model: a dict of (bucket, measurement, shard, series, time) → fields."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from common.lineprotocol import compiled, gather
from common.lineprotocol.format import points_of
from common.lineprotocol.kernels import PLAIN, current, use
from common.lineprotocol.parse import Body, Parsed, parse
from common.model import Bucket, FieldType, shard_start
from common.segment import Block, Column, StringArray
from services.ingest.blocks import Built, build_blocks
from services.ingest.columns import check_fields, check_types
from services.ingest.groups import Groups, group_rows
from tests.unit.common.lineprotocol.lines import random_body

KEY = bytes(range(16))
DAY_NS = 86400 * 10**9
A = Bucket("a" * 16, "0" * 16, "a", 0, DAY_NS)
B = Bucket("b" * 16, "0" * 16, "b", 0, 7 * DAY_NS)
Cell = tuple[str, str, int, bytes, int]


@pytest.fixture(params=["plain", "compiled"], scope="module", autouse=True)
def _form(request: pytest.FixtureRequest) -> Iterator[None]:
    compiled.prepare()
    machine = current()
    use(PLAIN if request.param == "plain" else machine)
    yield
    use(machine)


def values_of(column: Column) -> list[object]:
    if isinstance(column.values, StringArray):
        offsets, data = column.values.offsets.tolist(), column.values.data.tobytes()
        return [data[a:b] for a, b in pairwise(offsets)]
    return column.values.tolist()


def check_shape(block: Block) -> None:
    """What common/segment.py promises of a block."""
    ids = [tuple(pair) for pair in block.series.tolist()]
    assert ids == sorted(set(ids))
    offsets = block.offsets.tolist()
    assert offsets[0] == 0
    assert offsets[-1] == block.rows > 0
    for a, b in pairwise(offsets):
        assert a < b
        times = block.times[a:b].tolist()
        assert times == sorted(set(times))
    assert block.columns
    dtypes = {0: np.float64, 1: np.int64, 2: np.uint64, 4: np.bool_}
    for column in block.columns:
        assert len(column.values) == block.rows
        if not isinstance(column.values, StringArray):
            assert column.values.dtype == dtypes[column.type]
        if column.valid is not None:
            assert 0 < column.valid.sum() < block.rows
            assert not any(
                value for value, valid in zip(values_of(column), column.valid.tolist(), strict=True) if not valid
            )


def cells_of(parsed: Parsed, built: list[Built]) -> dict[Cell, dict[str, tuple[FieldType, object]]]:
    cells: dict[Cell, dict[str, tuple[FieldType, object]]] = {}
    for made in built:
        block = made.block
        check_shape(block)
        assert (parsed.series_ids[made.series] == block.series).all()
        columns = [
            (c.name, c.type, values_of(c), [True] * block.rows if c.valid is None else c.valid.tolist())
            for c in block.columns
        ]
        tag_keys = parsed.tag_keys(made.series)
        for series, (a, b) in enumerate(pairwise(block.offsets.tolist())):
            for row in range(a, b):
                place = (
                    block.bucket_id, block.measurement, block.shard_start_ns, tag_keys[series], int(block.times[row]),
                )  # fmt: skip
                assert place not in cells
                cells[place] = {name: (type_, values[row]) for name, type_, values, valid in columns if valid[row]}
    return cells


def model(
    parsed: Parsed, buckets: list[Bucket | None], lost: np.ndarray
) -> tuple[dict[Cell, dict[str, tuple[FieldType, object]]], list[int]]:
    """The cells, and the rows lost to types, by the words of the page."""
    types: dict[tuple[str, str, int, str], FieldType] = {}
    cells: dict[Cell, dict[str, tuple[FieldType, object]]] = {}
    losers = []
    tag_keys = parsed.tag_keys(range(len(parsed.series_ids)))
    for row, point in enumerate(points_of(parsed)):
        bucket = buckets[parsed.body[row]]
        if bucket is None or lost[row]:
            continue
        start = max(shard_start(point.time_ns, bucket.shard_ns), -(2**63))
        fields = [field for field in point.fields if field[0] != "time"]
        trial = dict(types)
        if any(trial.setdefault((bucket.id, point.measurement, start, f), t) != t for f, t, _ in fields):
            losers.append(row)
            continue
        types = trial
        place = (bucket.id, point.measurement, start, tag_keys[parsed.series[row]], point.time_ns)
        cells.setdefault(place, {}).update({name: (type_, value) for name, type_, value in fields})
    return cells, losers


VALUES = ("1i", "2i", "3i", "4i", "1.5", "t", "7u")
STRINGS = ('"a\\"b\\\\"', '""', '"\n"', '"\\x"')
TAGS = ("", ",t=1", ",t=2", ",t=1,s=2", ",s=2,t=1")


def random_writes(random_: random.Random) -> list[Body]:
    """Bodies whose lines often meet in series, time and field."""
    bodies = []
    for _ in range(random_.randrange(1, 6)):
        lines = []
        for _ in range(random_.randrange(30)):
            names = random_.choices(("v", "w", "x\\ y", "time", "s"), k=random_.randrange(1, 4))
            fields = ",".join(f"{name}=" + random_.choice(STRINGS if name == "s" else VALUES) for name in names)
            time_ns = random_.randrange(4) * DAY_NS * 3 + random_.randrange(3)
            lines.append(f"{random_.choice('mn')}{random_.choice(TAGS)} {fields} {time_ns}")
        bodies.append(Body("\n".join(lines).encode(), 1, 0))
    return bodies


@pytest.mark.parametrize("seed", range(6))
def test_blocks_hold_what_the_lines_say(seed: int) -> None:
    random_ = random.Random(seed)
    for turn in range(15):
        bodies = random_writes(random_) if turn % 3 else [Body(random_body(random_, 30), 1, 7) for _ in range(3)]
        buckets = [random_.choice((A, B, A, None)) for _ in bodies]
        parsed = parse(bodies, KEY)
        fields = check_fields(parsed)
        groups = group_rows(parsed, buckets, ~fields.lost)
        types = check_types(parsed, groups, [{}] * len(groups))
        cells, losers = model(parsed, buckets, fields.lost)
        assert np.flatnonzero(types.lost).tolist() == losers
        assert cells_of(parsed, build_blocks(parsed, groups, ~types.lost)) == cells


def prepared(data: bytes, bucket: Bucket = A) -> tuple[Parsed, Groups]:
    parsed = parse([Body(data, 1, 0)], KEY)
    assert not parsed.errors
    return parsed, group_rows(parsed, [bucket])


def test_fields_of_one_series_and_time_join_and_the_later_value_stays() -> None:
    parsed, groups = prepared(b"m v=1i,w=2i 5\nm x=3i 5\nm v=4i 5\nm v=9i 4")
    (built,) = build_blocks(parsed, groups)
    columns = {column.name: (values_of(column), column.valid) for column in built.block.columns}
    assert built.block.times.tolist() == [4, 5]
    assert columns["v"] == ([9, 4], None)
    assert columns["w"][0] == [0, 2]
    assert columns["x"][0] == [0, 3]


def test_rows_of_one_series_in_any_order_of_time_are_sorted() -> None:
    times = random.Random(3).sample(range(1000), 500)
    parsed, groups = prepared(b"\n".join(b"m v=%di %d" % (time, time) for time in times))
    (built,) = build_blocks(parsed, groups)
    assert built.block.times.tolist() == sorted(times) == values_of(built.block.columns[0])


def test_known_types_win_and_the_first_row_fixes_the_others() -> None:
    parsed, groups = prepared(b"m v=1,w=1i 1\nm v=1i 2\nm w=1i,n=t 3\nm w=2,n=t 4\nm n=1i 5")
    types = check_types(parsed, groups, [{"v": FieldType.INTEGER}])
    assert types.lost.tolist() == [True, False, False, True, True]
    assert types.new == ({"w": FieldType.INTEGER, "n": FieldType.BOOLEAN},)
    assert types.first[0].row == 0
    assert types.first[0].reason == (
        'field type conflict: input field "v" on measurement "m" is type float, already exists as type integer'
    )


def test_types_are_fixed_by_shard_and_by_bucket() -> None:
    parsed, groups = prepared(b"m v=1 1\nm v=1i %d\nm v=1i 2" % DAY_NS)
    types = check_types(parsed, groups, [{}, {}])
    assert types.lost.tolist() == [False, False, True]
    parsed = parse([Body(b"m v=1 1", 1, 0), Body(b"m v=1i 1", 1, 0)], KEY)
    groups = group_rows(parsed, [A, B])
    assert not check_types(parsed, groups, [{}, {}]).lost.any()


def test_a_field_named_twice_with_two_types_loses_its_point() -> None:
    parsed, groups = prepared(b'm v=1,v="x",w=1i 1\nm w=2 2')
    types = check_types(parsed, groups, [{}])
    assert types.lost.tolist() == [True, False]
    assert types.first[0].reason.endswith("is type string, already exists as type float")


def test_the_first_loser_of_each_body_is_named() -> None:
    parsed = parse([Body(b"m v=1 1", 1, 0), Body(b"m v=1i 1\nm v=t 2", 1, 0), Body(b'm v="" 1', 1, 0)], KEY)
    types = check_types(parsed, group_rows(parsed, [A] * 3), [{}])
    assert {body: trouble.row for body, trouble in types.first.items()} == {1: 1, 2: 3}


def test_fields_named_time_and_long_strings() -> None:
    long = b"x" * 1048577
    fits = b'\\"' * 1048576
    parsed = parse([Body(b'm time=1 1\nm time=1,v=1 2\nm s="%s" 3\nm s="%s" 4' % (long, fits), 1, 0)], KEY)
    fields = check_fields(parsed)
    assert fields.lost.tolist() == [True, False, True, False]
    assert fields.first[0].reason == 'invalid field name: input field "time" on measurement "m" is invalid'
    assert fields.stripped[0].row == 1
    assert fields.stripped[0].reason == (
        'invalid field name: input field "time" on measurement "m" is invalid. '
        'Field "time" has been stripped from point.'
    )
    second = check_fields(parse([Body(b'm s="%s" 3' % long, 1, 0)], KEY))
    assert second.first[0].reason == 'input field "s" on measurement "m" is too long, 1048577 > 1048576'
    (built,) = build_blocks(parsed, group_rows(parsed, [A], ~fields.lost))
    assert [column.name for column in built.block.columns] == ["v", "s"]


def test_the_outermost_times_have_a_shard() -> None:
    parsed, groups = prepared(b"m v=1 9223372036854775806\nm v=1 -9223372036854775806", B)
    assert groups.shards[0][0] == -(2**63)
    assert groups.shards[1][1] == 2**63 - 1
    for built in build_blocks(parsed, groups):
        assert built.block.shard_start_ns <= built.block.times[0] < built.block.shard_stop_ns


def test_many_sparse_columns_are_cut_into_pieces_of_bounded_size() -> None:
    lines = 3000
    parsed, groups = prepared(b"\n".join(b"m f%d=1i %d" % (line, line) for line in range(lines)))
    built = build_blocks(parsed, groups)
    assert len(built) > 1
    cells = sum(made.block.rows * len(made.block.columns) for made in built)
    assert cells <= len(built) * 2 * gather.MAX_SPARSE_CELLS
    assert sum(made.block.rows for made in built) == lines
    for made in built:
        check_shape(made.block)


def test_mixed_types_are_a_mistake_of_the_caller() -> None:
    parsed, groups = prepared(b"m v=1 1\nm v=1i 2")
    with pytest.raises(ValueError, match="two types"):
        build_blocks(parsed, groups)


def test_no_rows_make_no_blocks() -> None:
    parsed, groups = prepared(b"m v=1 1")
    assert build_blocks(parsed, groups, np.zeros(1, np.bool_)) == []
    empty = parse([Body(b"", 1, 0)], KEY)
    nothing = group_rows(empty, [A])
    assert len(nothing) == 0
    assert check_types(empty, nothing, []).new == ()
    assert build_blocks(empty, nothing) == []
    assert len(group_rows(parsed, [None])) == 0
