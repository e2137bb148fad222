"""Bodies that no client should send, through the whole stack: B01–B09 and B11 of the reliability notes.

B10, the generated lines, is tests/unit/common/lineprotocol.
"""

from __future__ import annotations

import csv
import gzip
import io
import time
from collections.abc import Iterator

import psutil
import pytest
import requests

from tests.faults.report import case
from tests.stack import ORG, Stack

MAX_BODY = 25_000_000
MAX_KEY = 65_535
LINES = b"\n".join(b"cut,host=h%d v=%d %d" % (n % 50, n, n + 1) for n in range(2000))


def post(stack: Stack, bucket: str, body: bytes | Iterator[bytes], encoding: str = "gzip") -> requests.Response:
    headers = {"Content-Encoding": encoding} if encoding else {}
    return stack.request("POST", "/write", params={"db": bucket}, data=body, headers=headers)


def post_v2(stack: Stack, bucket: str, body: bytes) -> requests.Response:
    return stack.request("POST", "/api/v2/write", params={"org": ORG, "bucket": bucket}, data=body)


def count(stack: Stack, bucket: str, measurement: str) -> int:
    rows = stack.rows(f'SELECT count(v) FROM "{measurement}"', bucket)
    return int(rows[0][1]) if rows else 0


def test_bombs(stack: Stack, bucket: str) -> None:
    member = gzip.compress(bytes(10 << 20))
    bombs = {
        "1 GB": (member * 100, "gzip"),
        "10 GB": (member * 1000, "gzip"),
        "nested": (gzip.compress(gzip.compress(member * 100)), "gzip"),
        "deflate": (member[10:-8] * 10, "deflate"),
        "br": (bytes(range(256)) * 100, "br"),
        "zstd": (b"\x28\xb5\x2f\xfd" + bytes(range(256)), "zstd"),
    }
    ingest = psutil.Process(stack.pids("ingest")[0])
    before = ingest.memory_info().rss
    statuses, largest, slowest_s, cpu_s = {}, before, 0.0, 0.0
    for name, (body, encoding) in bombs.items():
        began, spent_s = time.monotonic(), sum(ingest.cpu_times()[:2])
        statuses[name] = post(stack, bucket, body, encoding).status_code
        cpu_s = max(cpu_s, sum(ingest.cpu_times()[:2]) - spent_s)
        slowest_s = max(slowest_s, time.monotonic() - began)
        largest = max(largest, ingest.memory_info().rss)
    case(
        "B01",
        f"statuses={statuses} slowest_s={slowest_s:.2f} cpu_s={cpu_s:.2f} growth_mb={(largest - before) >> 20}",
        "413, or 400 where it is no gzip; 1 s of CPU; 30 MB, and as much that the C library keeps",
        cpu_s <= 1 and set(statuses.values()) <= {400, 413} and statuses["1 GB"] == statuses["10 GB"] == 413
        and largest - before <= 60 << 20,
    )  # fmt: skip


def test_cut_gzip(stack: Stack, bucket: str) -> None:
    body = gzip.compress(LINES)
    answers = [post(stack, bucket, body[: len(body) * cut // 100]) for cut in range(1, 100)]
    refused = sum(answer.status_code == 400 for answer in answers)
    stored = count(stack, bucket, "cut")
    case("B02", f"refused={refused}/{len(answers)} stored={stored}", "all 400, nothing stored",
         refused == len(answers) and stored == 0)  # fmt: skip


def test_wrong_gzip(stack: Stack, bucket: str) -> None:
    body = gzip.compress(LINES)
    wrong = {
        "checksum": body[:-8] + bytes(4) + body[-4:],
        "length": body[:-4] + bytes(4),
        "junk": body + b"junk",
    }
    statuses = {name: post(stack, bucket, bad).status_code for name, bad in wrong.items()}
    stored = count(stack, bucket, "cut")
    twice = post(stack, bucket, gzip.compress(b"two v=1 1\n") + gzip.compress(b"two v=2 2")).status_code
    both = count(stack, bucket, "two")
    case("B03", f"statuses={statuses} stored={stored} two_members={twice} with={both}", "400 each; 204, 2 points",
         set(statuses.values()) == {400} and not stored and twice == 204 and both == 2)  # fmt: skip


def test_the_limit_of_a_body(stack: Stack, bucket: str) -> None:
    comment = b"#" + b"x" * 998 + b"\n"
    whole = comment * (MAX_BODY // len(comment) + 1)
    statuses = [post(stack, bucket, whole[: MAX_BODY + more], "").status_code for more in (-1, 0, 1)]
    pieces = (whole[start : start + (1 << 20)] for start in range(0, MAX_BODY + 1, 1 << 20))
    statuses.append(post(stack, bucket, pieces, "").status_code)
    case("B04", f"statuses={statuses}", "204, 204, 413, 413", statuses == [204, 204, 413, 413])


NAMES = {
    "no UTF-8": b"\xff\xfe", "cut UTF-8": b"\xe2\x82", "surrogate": b"\xed\xa0\x80", "overlong": b"\xc0\xaf",
    "NUL": b"a\x00b", "DEL": b"a\x7f", "BiDi": "a\u202eb".encode(), "CR": b"a\rb",
    "line separator": "a\u2028b".encode(), "emoji": "\U0001f600".encode(), "BOM": "\ufeffa".encode(),
}  # fmt: skip


def test_odd_bytes_in_every_place(stack: Stack, bucket: str) -> None:
    statuses: dict[str, set[int]] = {}
    unreadable = []
    for number, (name, odd) in enumerate(NAMES.items()):
        for line in (
            b"M%d" % number + odd + b" v=1 1",
            b"t%d,k" % number + odd + b"=1 v=1 1",
            b"t%d,k=1" % number + odd + b" v=1 1",
            b"f%d v" % number + odd + b"=1 1",
            b's%d v="' % number + odd + b'" 1',
        ):
            statuses.setdefault(name, set()).add(post(stack, bucket, line, "").status_code)
    for q in ("SELECT * FROM /.*/", "SHOW SERIES", "SHOW FIELD KEYS", "SHOW TAG VALUES WITH KEY =~ /.*/"):
        read = {"q": q, "db": bucket}
        as_json = stack.request("GET", "/query", params=read)
        as_csv = stack.request("GET", "/query", params=read, headers={"Accept": "text/csv"})
        if as_json.status_code != 200 or "error" in as_json.text[:60] or not as_json.json()["results"]:
            unreadable.append(f"{q}: {as_json.text[:100]}")
        # Bytes come as they were written.
        rows = list(csv.reader(io.StringIO(as_csv.content.decode("utf-8", "surrogateescape"), newline="")))
        if as_csv.status_code != 200 or not rows:
            unreadable.append(f"{q} as CSV")
    seen = set().union(*statuses.values())
    case("B05", f"names={len(NAMES)} places=5 statuses={sorted(seen)} unreadable={unreadable}",
         "204 or 400; valid JSON and CSV", seen <= {204, 400} and not unreadable)  # fmt: skip
    case("B06", f"statuses={ {name: sorted(found) for name, found in statuses.items()} }", "never 500", 500 not in seen)


NUMBERS = {
    b"9223372036854775807i": 204, b"9223372036854775808i": 400, b"-9223372036854775808i": 204,
    b"-9223372036854775809i": 400, b"18446744073709551615u": 204, b"18446744073709551616u": 400, b"-1u": 400,
    b"1e400": 400, b"-1e400": 400, b"1e-400": 204, b"-0.0": 204, b"NaN": 400, b"Inf": 400, b"-inf": 400, b"+1": 400,
    b"0x10": 400, b"1_000": 400, b"1" * 300: 204, b"1" * 400: 400, b"0." + b"3" * 400: 204, b"9" * 400 + b"i": 400,
}  # fmt: skip


def test_numbers_at_the_ends(stack: Stack, bucket: str) -> None:
    wrong = []
    for number, (text, status) in enumerate(NUMBERS.items()):
        found = post(stack, bucket, b"n%d v=%s 1" % (number, text), "").status_code
        if found != status:
            wrong.append(f"{text[:30]!r}: {found}")
    exact = [
        stack.rows(f"SELECT v FROM n{list(NUMBERS).index(text)}", bucket)[0][1]
        for text in (b"9223372036854775807i", b"-9223372036854775808i", b"18446744073709551615u")
    ]
    case("B07", f"numbers={len(NUMBERS)} wrong={wrong} read={exact}", "as InfluxDB; no wrap",
         not wrong and exact == [2**63 - 1, -(2**63), 2**64 - 1])  # fmt: skip


def test_times_at_the_ends(stack: Stack, bucket: str) -> None:
    times = {-(2**63): 400, -(2**63) + 1: 400, -(2**63) + 2: 204, 2**63 - 2: 204, 2**63 - 1: 400, 2**63: 400}
    found = {at: post(stack, bucket, b"t v=1 %d" % at, "") for at in times}
    wrong = [f"{at}: {answer.status_code}" for at, answer in found.items() if answer.status_code != times[at]]
    coarse = stack.write("t v=1 9223372036855", bucket, precision="ms")
    texts = [found[2**63 - 1].text, coarse.text]
    case("B08", f"wrong={wrong} too_coarse={coarse.status_code}", "400 'time outside range'",
         not wrong and coarse.status_code == 400 and all("time outside range" in text for text in texts))  # fmt: skip


def test_what_is_long(stack: Stack, bucket: str) -> None:
    def key(size: int) -> bytes:
        return b"k,t=" + b"x" * (size - 4)

    # The key of a point with its field: key + 4 + the field's.
    longest, over = (post(stack, bucket, key(size) + b" v=1 1", "") for size in (MAX_KEY - 5, MAX_KEY + 1))
    text = post(stack, bucket, b's v="' + b"x" * 70_000 + b'" 1', "").status_code
    tags = post(stack, bucket, b"m," + b",".join(b"t%d=1" % n for n in range(7000)) + b" v=1 1", "").status_code
    fields = post(stack, bucket, b"w " + b",".join(b"f%d=1" % n for n in range(10_000)) + b" 1", "").status_code
    good = post(stack, bucket, key(MAX_KEY + 1) + b" v=1 1\ngood v=1 1", "")
    kept = count(stack, bucket, "good")
    case(
        "B09",
        f"key={longest.status_code},{over.status_code} text={text} tags={tags} fields={fields} "
        f"beside={good.status_code} kept={kept}",
        "204, 400 'max key length exceeded'; 204 each; a good line beside is kept",
        longest.status_code == 204 and over.status_code == 400 and "max key length exceeded" in over.text
        and text == tags == fields == 204 and good.status_code == 400 and kept == 1,
    )  # fmt: skip


@pytest.mark.parametrize(
    "bad", [b"bad", b"m v=", b'm v="open', b"m v=1 x"], ids=["no field", "no value", "open", "time"]
)
def test_one_bad_line_in_five_thousand(bad: bytes, stack: Stack, bucket: str) -> None:
    wrong = []
    for number, at in enumerate((0, 2500, 4999)):
        lines = [b"h%d,t=%d v=1 %d" % (number, n % 10, n + 1) for n in range(5000)]
        lines[at] = bad
        # A string that is not closed takes all that follows.
        good = at if bad.endswith(b'"open') else 4999
        body = b"\n".join(lines)
        second = post_v2(stack, bucket, body)
        if second.status_code != 400 or count(stack, bucket, f"h{number}"):
            wrong.append(f"v2 at {at}: {second.status_code}")
        first = post(stack, bucket, body, "")
        kept = count(stack, bucket, f"h{number}")
        if first.status_code != 400 or kept != good or ("partial write" in first.text) != bool(good):
            wrong.append(f"v1 at {at}: {first.status_code}, {kept} kept: {first.text[:80]}")
    case("B11", f"bad={bad!r} places=3 wrong={wrong}", "v1: the good ones; v2: nothing", not wrong)
