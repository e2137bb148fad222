"""Line protocol read plainly: the page about it, put into Python with no thought of speed. The parser's judge.

Shares nothing with common/lineprotocol but the types of results. Reads the page's tables in their order: the key first,
then the fields from left to right, then the time.
"""

from __future__ import annotations

import re

from common.lineprotocol.format import Point
from common.lineprotocol.parse import Body
from common.model import FieldType

Read = tuple[list[tuple[int, Point]], list[tuple[int, bytes, str]]]


class Bad(Exception):
    """A line that does not parse; str() is the reason."""


def read(body: Body) -> Read:
    """(line number, point) of the good lines, (line number, text, reason) of the bad ones."""
    good, bad = [], []
    number = 1
    for line in split_lines(body.data):
        text = line.removesuffix(b"\r").lstrip(b" \t\0")
        if text and not text.startswith(b"#"):
            try:
                good.append((number, read_line(text, body)))
            except Bad as reason:
                bad.append((number, text, str(reason)))
        number += 1 + line.count(b"\n")
    return good, bad


def split_lines(data: bytes) -> list[bytes]:
    """Cut at line ends that are not inside a quoted field value."""
    lines = []
    while data:
        stripped = data.lstrip(b" \t\0")
        if stripped.startswith(b"#"):
            end = data.find(b"\n")
        else:
            end = end_of_line(data, len(data) - len(stripped))
        end = len(data) if end < 0 else end
        lines.append(data[:end])
        data = data[end + 1 :]
    return lines


def end_of_line(data: bytes, i: int) -> int:
    # Up to the first bare blank only a line feed counts.
    i = bare_end(data, i)
    while i < len(data) and data[i] != 10:
        if data[i : i + 2] == b'="' and data[i - 1] != 92:
            i += 2
            while i < len(data) and data[i] != 34:
                i += 2 if data[i : i + 2] in (b"\\\\", b'\\"') else 1
            i += 1
        else:
            i += 1
    return min(i, len(data))


def bare_end(data: bytes, i: int) -> int:
    start = i
    while i < len(data) and data[i] != 10:
        if data[i] == 32 and (i == start or data[i - 1] != 92):
            return i
        i += 1
    return i


def bare(text: bytes, wanted: bytes) -> list[int]:
    """Places of bytes of *wanted* that are not behind a backslash."""
    return [i for i, c in enumerate(text) if c in wanted and (i == 0 or text[i - 1] != 92)]


def plain(written: bytes) -> str:
    return re.sub(rb"\\([,= ])", rb"\1", written).decode("utf-8", "surrogateescape")


def read_line(text: bytes, body: Body) -> Point:
    blanks = bare(text, b" ")
    key, rest = (text[: blanks[0]], text[blanks[0] :]) if blanks else (text, None)
    measurement, tags = read_key(key)
    if rest is None:
        raise Bad("missing fields")
    keys = [tag for tag, _ in tags]
    for name in keys:
        if name in (b"time", b"_measurement", b"_field", b"\0", b"\xff"):
            shown = {b"\0": "\\x00", b"\xff": "\\xff"}.get(name) or name.decode()
            raise Bad(f'cannot use reserved tag key "{shown}"')
    names = [plain(name) for name in keys]
    if len(set(names)) < len(names):
        raise Bad("duplicate tags")
    if len(key) > 65535:
        raise Bad(f"max key length exceeded: {len(key)} > 65535")
    fields, rest = read_fields(rest.lstrip(b" "), len(key))
    time_ns = read_time(rest, body)
    as_bytes = sorted(((plain(tag).encode("utf-8", "surrogateescape"), plain(value)) for tag, value in tags))
    ordered = tuple((tag.decode("utf-8", "surrogateescape"), value) for tag, value in as_bytes)
    return Point(plain(measurement), ordered, tuple(fields), time_ns)


def read_key(key: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    if key.startswith(b","):
        raise Bad("missing measurement")
    commas = [i for i in bare(key, b",") if i > 0]
    parts = [key[a + 1 : b] for a, b in zip([-1, *commas], [*commas, len(key)], strict=True)]
    tags = []
    for part in parts[1:]:
        equals = bare(part, b"=")
        if not part or equals[:1] == [0]:
            raise Bad("missing tag key")
        if not equals or equals[0] == len(part) - 1:
            raise Bad("missing tag value")
        # A value's first byte may be "=", later ones not.
        if [i for i in equals[1:] if i > equals[0] + 1]:
            raise Bad("invalid tag format")
        tags.append((part[: equals[0]], part[equals[0] + 1 :]))
    return parts[0], tags


def read_fields(text: bytes, key_size: int) -> tuple[list[tuple[str, FieldType, object]], bytes]:
    if text[:1] in (b"\t", b"\0"):
        raise Bad("invalid field format")
    fields: list[tuple[str, FieldType, object]] = []
    formed = True
    too_long = 0
    while True:
        marks = bare(text, b"=, ")
        end = marks[0] if marks else len(text)
        mark = text[end : end + 1]
        if mark != b"=":
            formed = False
            text = text[end:]
            if mark != b",":
                break
            text = text[1:]
            continue
        if end == 0:
            raise Bad("missing field key")
        too_long = too_long or (key_size + 4 + end if key_size + 4 + end > 65535 else 0)
        name, text = plain(text[:end]), text[end + 1 :]
        type_, value, text = read_value(text)
        fields.append((name, type_, value))
        if not text.startswith(b","):
            break
        text = text[1:]
    if not formed:
        raise Bad("invalid field format")
    if too_long:
        raise Bad(f"max key length exceeded: {too_long} > 65535")
    return fields, text


def read_value(text: bytes) -> tuple[FieldType, object, bytes]:
    if text.startswith(b'"'):
        match = re.match(rb'"((?:\\["\\]|\\(?!["\\])|[^"\\])*)"', text, re.DOTALL)
        if not match:
            raise Bad("unbalanced quotes")
        rest = text[match.end() :]
        if rest[:1] not in (b"", b",", b" "):
            raise Bad("invalid field format")
        return FieldType.STRING, re.sub(rb'\\(["\\])', rb"\1", match[1]), rest
    value = re.match(rb"[^, ]*", text)[0]  # type: ignore[index]
    rest = text[len(value) :]
    if not value:
        raise Bad("missing field value")
    if value[:1] not in b"0123456789.-Nn":
        if value in (b"t", b"T", b"true", b"True", b"TRUE"):
            return FieldType.BOOLEAN, True, rest
        if value in (b"f", b"F", b"false", b"False", b"FALSE"):
            return FieldType.BOOLEAN, False, rest
        raise Bad("invalid boolean")
    if re.fullmatch(rb"-?[0-9]+i", value):
        number = int(value[:-1])
        if not -(2**63) <= number < 2**63:
            shown = value[:-1].decode()
            raise Bad(f'unable to parse integer {shown}: strconv.ParseInt: parsing "{shown}": value out of range')
        return FieldType.INTEGER, number, rest
    if re.fullmatch(rb"[0-9]+u", value):
        number = int(value[:-1])
        if number >= 2**64:
            shown = value[:-1].decode()
            raise Bad(f'unable to parse unsigned {shown}: strconv.ParseUint: parsing "{shown}": value out of range')
        return FieldType.UNSIGNED, number, rest
    if re.fullmatch(rb"-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", value):
        double = float(value)
        if double in (float("inf"), float("-inf")):
            raise Bad("invalid float")
        return FieldType.FLOAT, double, rest
    # Letters of a number in scientific form, in no good order: a float that does not convert.
    shape = value[1:] if value.startswith(b"-") else value
    signs_follow_e = all(shape[i - 1 : i] in (b"e", b"E") for i, c in enumerate(shape) if c in b"+-")
    first_is_no_e = value[:1] not in (b"e", b"E")
    if (
        re.fullmatch(rb"[0-9.eE+-]+", shape)
        and signs_follow_e
        and first_is_no_e
        and shape.count(b".") <= 1
        and re.search(rb"[eE]", shape)
        and shape != b"."
    ):
        raise Bad("invalid float")
    raise Bad("invalid number")


def read_time(rest: bytes, body: Body) -> int:
    text = rest.lstrip(b" ")
    if not text:
        return body.now_ns - body.now_ns % body.unit_ns
    stamp, _, behind = text.partition(b" ")
    if not re.fullmatch(rb"-?[0-9]*", stamp):
        raise Bad("bad timestamp")
    if stamp == b"-":
        raise Bad('strconv.ParseInt: parsing "-": invalid syntax')
    number = int(stamp)
    if not -(2**63) <= number < 2**63:
        raise Bad(f'strconv.ParseInt: parsing "{stamp.decode()}": value out of range')
    if abs(number * body.unit_ns) > 9223372036854775806:
        raise Bad("time outside range -9223372036854775806 - 9223372036854775806")
    if behind.strip(b" "):
        raise Bad("point is invalid")
    return number * body.unit_ns
