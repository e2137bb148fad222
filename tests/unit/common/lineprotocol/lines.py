# ruff: noqa: E501
"""Lines for the parser's tests: pieces of good and bad lines put together at random, from a seed."""

from __future__ import annotations

import random

NAMES = (
    b"m", b"cpu", b"host", b"a=b", b"a\\=b", b"x\\ y", b"x\\,y", b"\\", b"a\\", b"a\\\\", b"\xff\xfe", b"time", b"_field",
    b"t\xc3\xa9", b'"q"', b"", b"usage_user_total", b"_measurement", b"a b", b"\0", b"\xff", b"a0", b"a\\ 0", b"\\,", b"=",
)  # fmt: skip
VALUES = (
    b"1", b"-1", b"1.5", b".5", b"5.", b"1e3", b"-1.5E-2", b"1i", b"-9223372036854775808i", b"9223372036854775807i",
    b"9223372036854775808i", b"18446744073709551615u", b"18446744073709551616u", b"-1u", b"0u", b"007i", b"-0", b"-0.0",
    b"t", b"T", b"true", b"True", b"TRUE", b"f", b"F", b"false", b"False", b"FALSE", b"tRUE", b"tr", b"abc", b"+1", b"NaN",
    b"nan", b"Inf", b"-Inf", b"-", b"1ii", b"1.5i", b"0x10", b"1_000", b"1e400", b"-1e400", b"1e", b"1e+", b".e5", b"1e5.5",
    b"1e5e5", b"--1", b"1-", b"e5", b"-e5", b".", b"-.", b"i", b"u", b"1e5i", b'""', b'"a"', b'"a\\"b"', b'"a\\\\"', b'"a\nb"',
    b'"a,b=c d"', b'"', b'"a', b'"a"x', b"'x'", b"=1", b"", b"1\t1", b"0.1", b"123456789012345678901234567890",
    b"0.30000000000000004", b"1.7976931348623157e308", b"1.7976931348623159e308", b"4.9e-324", b"2.4703282292062328e-324",
    b"9007199254740993", b"0.000001", b"1e22", b"1e23", b"1e-22", b"00000000000000000000000000000001", b'"\r"', b'"x\\y"',
    b"000000000000000000000000000000000000007i", b"1e00000000000000000000000000000000000000000005", b'"\xff\0"',
)  # fmt: skip
TIMES = (
    b"", b" 1", b" -1", b" 0", b" 1700000000000000000", b"  5", b" 5  ", b" 5 x", b" 1 2", b" abc", b" 1.5", b" 1i", b" 5\t",
    b" -", b" --1", b" 9223372036854775806", b" 9223372036854775807", b" -9223372036854775806", b" -9223372036854775807",
    b" -9223372036854775808", b" 9223372036854775808", b" 99999999999999999999", b" \t1", b" ", b" \r", b" 00000000000000000000001",
)  # fmt: skip
ENDS = (b"\n", b"\n", b"\n", b"\n", b"\r\n", b"", b"\n\n", b'\n# x="y\n', b"\n \t\0", b"\\\n", b"\r")
NOISE = b'm,t=v 1i"\\\n\r\t\0#-.eTf5'


def random_body(random_: random.Random, lines: int) -> bytes:
    """Some lines, a good part of them bad."""
    return b"".join(random_line(random_) + random_.choice(ENDS) for _ in range(lines))


def random_line(random_: random.Random) -> bytes:
    kind = random_.random()
    if kind < 0.5:
        return good_line(random_)
    if kind < 0.55:
        return bytes(random_.choices(NOISE, k=random_.randrange(40)))
    weird = kind < 0.8
    names = NAMES if weird else NAMES[:4]
    key = random_.choice(names)
    for _ in range(random_.choice((0, 0, 1, 2, 3, 12))):
        key += b"," + random_.choice(names) + bytes(random_.choices(b"abc", k=random_.randrange(2)))
        key += random_.choice((b"=", b"=", b"=", b"==", b"")) if weird else b"="
        key += random_.choice(NAMES if weird else (b"v", b"w1", b"x\\ y"))
    fields = b",".join(
        random_.choice(names) + (random_.choice((b"=", b"=", b"=", b"")) if weird else b"=") + random_value(random_)
        for _ in range(random_.choice((1, 1, 2, 5)))
    )
    if random_.random() < 0.03:
        fields += random_.choice((b",", b",,", b" ", b", "))
    line = key + random_.choice((b" ", b" ", b" ", b"  ", b" \t", b" \0")) + fields + random_.choice(TIMES)
    if random_.random() < 0.1 and line:
        at = random_.randrange(len(line))
        line = line[:at] + bytes(random_.choices(NOISE, k=random_.randrange(3))) + line[at + random_.randrange(2) :]
    return line


def good_line(random_: random.Random) -> bytes:
    """A line that is mostly good, of few names, so that lines share series and fields."""
    tags = random_.sample(
        (b"host=a", b"host=b", b"a\\ b=c\\,d", b"a0=\xff", b"z==x", b"z=\\=x"), k=random_.randrange(4)
    )
    names = random_.choices((b"v", b"usage_user", b"usage_user_total", b"x\\=y", b"time", b'"', b"s t\\ u"[:1]), k=4)
    fields = b",".join(name + b"=" + random_value(random_) for name in names[: random_.randrange(1, 5)])
    measurement = random_.choice((b"m", b"a=b", b"a\\=b", b"a\\\\=b", b"cpu_with_a_long_name"))
    return b",".join((measurement, *tags)) + b" " + fields + random_.choice((b"", b" 1", b" -77", b" 1700000000"))


def random_value(random_: random.Random) -> bytes:
    kind = random_.random()
    if kind < 0.1:
        return random_.choice(VALUES)
    if kind < 0.5:
        return b"%di" % random_.randrange(-(2**63), 2**63)
    if kind < 0.7:
        return repr(random_.uniform(-1e6, 1e6) * 10 ** random_.randrange(-300, 300)).encode()
    if kind < 0.8:
        # Decimal numbers around halfway between two doubles, and longer than any table of powers.
        digits = bytes(random_.choices(b"0123456789", k=random_.randrange(15, 60)))
        return digits + b"." + digits + b"e%d" % random_.randrange(-340, 290)
    if kind < 0.9:
        return b'"' + bytes(random_.choices(b'ab\\", =\n', k=random_.randrange(12))) + b'"'
    return b"%d" % random_.randrange(100)
