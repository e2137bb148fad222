"""What tables cannot say: batches, limits, series ids, growth, both forms alike, real input."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import numpy as np
import pytest

from common.lineprotocol import compiled, memory
from common.lineprotocol import parse as parser
from common.lineprotocol.format import format_point, points_of
from common.lineprotocol.kernels import PLAIN, current, use
from common.lineprotocol.parse import Body, Parsed, parse
from common.lineprotocol.siphash import siphash128
from tests.unit.common.lineprotocol.lines import random_body

KEY = bytes(range(16))
DATA = Path(__file__).parents[4] / "tests" / "data"


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    compiled.prepare()


def one(data: bytes) -> Parsed:
    return parse([Body(data, 1, 0)], KEY)


def reasons(parsed: Parsed) -> list[str]:
    return [error.reason for error in parsed.errors]


# Of the reference implementation's vectors_sip128: key 00..0f, message 00 01 02 … of this length.
@pytest.mark.parametrize(
    ("length", "output"),
    [
        (0, "a3817f04ba25a8e66df67214c7550293"),
        (1, "da87c1d86b99af44347659119b22fc45"),
        (8, "3b62a9ba6258f5610f83e264f31497b4"),
        (15, "5493e99933b0a8117e08ec0f97cfc3d9"),
        (63, "5150d1772f50834a503e069a973fbd7c"),
    ],
)
def test_the_hash_is_siphash(length: int, output: str) -> None:
    k0, k1 = (int.from_bytes(KEY[at : at + 8], "little") for at in (0, 8))
    high, low = siphash128(memoryview(bytes(range(length)) + bytes(8)), 0, length, k0, k1)
    assert (low.to_bytes(8, "little") + high.to_bytes(8, "little")).hex() == output


def test_the_order_of_tags_and_the_form_of_escapes_do_not_change_a_series() -> None:
    parsed = one(b"a\\=b,y=1,x=2 v=1\na=b,x=2,y=1 v=1\na=b,y=1,x=2 v=1\na=b,x==2 v=1\na=b,x=\\=2 v=1\n")
    assert parsed.series.tolist() == [0, 0, 0, 1, 1]
    assert parsed.tag_keys([0, 1]) == [b"x=2,y=1", b"x=\\=2"]


def test_an_id_is_the_hash_of_the_canonical_key_under_the_given_key() -> None:
    key = b"m\\,x,a=1,b=2"
    k0, k1 = (int.from_bytes(KEY[at : at + 8], "little") for at in (0, 8))
    parsed = one(b"m\\,x,b=2,a=1 v=1")
    assert tuple(parsed.series_ids[0].tolist()) == siphash128(memoryview(key + bytes(8)), 0, len(key), k0, k1)
    assert (parse([Body(b"m\\,x,b=2,a=1 v=1", 1, 0)], bytes(16)).series_ids != parsed.series_ids).all()


def test_bodies_of_a_batch_keep_their_own_lines_units_and_times() -> None:
    bodies = [Body(b"m v=1\nbad\n", 10**9, 5 * 10**9 + 7), Body(b"", 1, 0), Body(b"bad\n\nm v=2 3\r", 10**6, 9)]
    parsed = parse(bodies, KEY)
    assert parsed.body.tolist() == [0, 2]
    assert parsed.line.tolist() == [1, 3]
    assert parsed.times.tolist() == [5 * 10**9, 3 * 10**6]
    assert [(error.body, error.line) for error in parsed.errors] == [(0, 2), (2, 1)]
    assert parsed.error_counts.tolist() == [1, 0, 1]


def test_a_string_that_is_not_closed_ends_with_its_body() -> None:
    parsed = parse([Body(b'm v="a', 1, 0), Body(b'm v=1,w="b"', 1, 0)], KEY)
    assert reasons(parsed) == ["unbalanced quotes"]
    assert parsed.body.tolist() == [1]


def test_no_bodies_and_empty_bodies_have_no_rows() -> None:
    assert parse([], KEY).rows == 0
    assert parse([Body(b"", 1, 0)] * 3, KEY).rows == 0


def test_a_key_may_have_65535_bytes_and_no_more() -> None:
    for size in (65535, 65536):
        key = b"m,t=" + b"x" * (size - 4)
        assert reasons(one(key + b" v=1 1")) == [
            # With a field's name it is too long in any case.
            f"max key length exceeded: {size + 5} > 65535"
            if size == 65535
            else f"max key length exceeded: {size} > 65535"
        ]
    assert one(b"m,t=" + b"x" * (65530 - 4) + b" v=1 1").rows == 1
    assert reasons(one(b"m " + b"v" * 65531 + b"=1 1")) == ["max key length exceeded: 65536 > 65535"]
    assert one(b"m " + b"v" * 65530 + b"=1 1").rows == 1


def test_thousands_of_tags_in_any_order_are_sorted() -> None:
    keys = [b"k%d" % number for number in range(8000)]
    random.Random(1).shuffle(keys)
    parsed = one(b"m," + b",".join(key + b"=1" for key in keys)[:65000].rsplit(b",", 1)[0] + b" v=1 1")
    tags = [tag.split(b"=")[0] for tag in parsed.tag_keys([0])[0].split(b",")]
    assert len(tags) > 5000
    assert tags == sorted(tags)


def test_thousands_of_fields_measurements_and_series_grow_the_memory() -> None:
    fields = one(b"m " + b",".join(b"f%d=%di" % (number, number) for number in range(10000)) + b" 1")
    assert len(fields.columns) == 10000
    assert fields.entry_bits.tolist() == list(range(10000))
    many = one(b"".join(b"m%d,z=1,b=%d v=1 1\n" % (number % 3000, number) for number in range(9000)))
    assert (len(many.measurements), len(many.series_ids), many.rows) == (3000, 9000, 9000)
    assert many.tag_keys([8999]) == [b"b=8999,z=1"]


def test_errors_are_listed_up_to_a_bound_and_all_counted() -> None:
    parsed = parse([Body(b"x\n" * 30000, 1, 0), Body(b"y\n", 1, 0)], KEY)
    assert parsed.error_counts.tolist() == [30000, 1]
    assert len(parsed.errors) == memory.MAX_ERRORS + 1
    long = one(b"x" * (1 << 23) + b"\n" + b"y" * (1 << 23) + b"\nz\n")
    assert [len(error.text) for error in long.errors] == [parser.MAX_LINE_TEXT_BYTES] * 2 + [1]


def test_the_errors_of_one_body_take_no_room_from_another() -> None:
    parsed = parse([Body((b"x" * 100000 + b"\n") * 60, 1, 0), Body(b"y\n", 1, 0)], KEY)
    assert parsed.error_counts.tolist() == [60, 1]
    assert 30 < len(parsed.errors) < 50
    assert parsed.errors[-1].body == 1


def test_both_forms_fill_the_same_arrays() -> None:
    random_ = random.Random(5)
    machine = current()
    for _ in range(20):
        bodies = [Body(random_body(random_, 20), 1, 3) for _ in range(5)]
        fast = parse(bodies, KEY)
        use(PLAIN)
        try:
            slow = parse(bodies, KEY)
        finally:
            use(machine)
        for name in Parsed.__slots__:
            a, b = getattr(fast, name), getattr(slow, name)
            if name == "text":
                continue
            assert np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b, name


@pytest.mark.parametrize("name", ["telegraf.lp.gz", "telegraf-unsigned.lp.gz"])
def test_what_telegraf_wrote_reads_whole_and_formats_back(name: str) -> None:
    data = gzip.decompress((DATA / name).read_bytes())
    parsed = one(data)
    assert not parsed.errors
    assert parsed.rows == data.count(b"\n")
    points = points_of(parsed)
    again = parse([Body(b"\n".join(format_point(point) for point in points), 1, 0)], KEY)
    assert repr(points_of(again)) == repr(points)


def test_a_body_cut_anywhere_gives_only_whole_lines_and_an_error_for_the_rest() -> None:
    data = b'a,x=1,b=2 v=1.5e3,w="x\\"y\nz",u=7u 12\nm\\ n,t=\\= i=-5i,b=true\r\n# c\n\tm v=1 -1\n'
    whole = [format_point(point) for point in points_of(one(data))]
    assert len(whole) == 3
    for cut in range(len(data)):
        parsed = one(data[:cut])
        assert len(parsed.errors) <= 1
        points = [format_point(point) for point in points_of(parsed)]
        assert points[:-1] == whole[: max(len(points) - 1, 0)]


def test_bodies_over_the_bound_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parser, "MAX_TEXT_BYTES", 10)
    with pytest.raises(ValueError, match="too large"):
        one(b"m v=1 1111111")
