"""The predicate of ``/api/v2/delete``: text → comparisons of tags, all of which must hold · pure.

    predicate  = [ term *( [ "AND" ] term ) ]
    term       = "(" predicate ")" / key ( "=" / "!=" ) value
    key, value = bare word / double-quoted text

Source: InfluxDB 2.x, "POST /api/v2/delete" as observed. A position is the byte offset in the predicate.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from common.errors import Invalid, NotImplementedHere

MAX_DEPTH = 100
MEASUREMENT, FIELD = "_measurement", "_field"
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<quoted>"(?:[^"\\\n]|\\.)*")
    | (?P<single>'(?:[^'\\\n]|\\.)*')
    | (?P<op>=~|!~|!=|<>|<=|>=|[=<>])
    | (?P<paren>[()])
    | (?P<word>[\w.:\-/]+)
    | (?P<bad>\S)
    )""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Comparison:
    """``key = value``, or ``key != value``."""

    key: str
    value: str
    equal: bool


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


def parse_predicate(text: str) -> tuple[Comparison, ...]:
    """The comparisons of a predicate; none = everything.

    Raises:
        Invalid: with the words and positions of InfluxDB.
        NotImplementedHere: it compares ``_field``.
    """
    found = _Parser(text).parse()
    if any(comparison.key == FIELD for comparison in found):
        raise NotImplementedHere("delete by field is not supported")
    return found


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._next = 0

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token

    def parse(self) -> tuple[Comparison, ...]:
        found: list[Comparison] = []
        depth = 0
        while True:
            token = self._tokens[self._next]
            if token.kind == "end":
                if depth:
                    raise Invalid("extra ( seen")
                return tuple(found)
            if token.kind == "paren":
                depth += 1 if token.text == "(" else -1
                if depth < 0:
                    raise Invalid("extra ) seen")
                if depth > MAX_DEPTH:
                    raise Invalid(f"bad logical expression, at position {token.at}")
                self._take()
            elif token.kind == "word" and token.text.upper() == "AND":
                self._take()
            elif token.kind == "word" and token.text.upper() == "OR":
                raise Invalid(f"the logical operator OR is not supported yet at position {token.at}")
            elif token.kind in ("word", "quoted"):
                found.append(self._comparison())
            else:
                raise Invalid(f"bad logical expression, at position {token.at}")

    def _comparison(self) -> Comparison:
        key, op, value = self._take(), self._take(), self._take()
        if op.text in ("=~", "!~"):
            raise Invalid(f'operator: "{op.text}" at position: {op.at} is not supported yet')
        if op.text not in ("=", "!=") or op.kind != "op":
            raise Invalid(f'invalid operator "{op.text}" at position: {op.at}')
        if value.kind not in ("word", "quoted"):
            # There a position of what is in single quotes is the one before it.
            at = value.at - (value.kind == "single")
            raise Invalid(f'bad tag value: "{value.text}", at position {at}')
        return Comparison(key.text, value.text, op.text == "=")


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at = 0
    # Offsets count bytes; a text of ASCII is the rule.
    wide = None if text.isascii() else text
    while (match := _TOKEN.match(text, at)) is not None:
        kind = match.lastgroup or "bad"
        start = match.start(kind)
        offset = start if wide is None else len(wide[:start].encode("utf-8", "surrogateescape"))
        value = match[kind]
        if kind in ("quoted", "single"):
            value = _ESCAPE.sub(lambda escape: "\n" if escape[1] == "n" else escape[1], value[1:-1])
        found.append(_Token(kind, value, offset))
        at = match.end()
    end = len(text.encode("utf-8", "surrogateescape"))
    return [*found, _Token("end", "EOF", end)]
