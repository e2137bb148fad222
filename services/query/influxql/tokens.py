"""InfluxQL text → tokens, over one compiled pattern · pure.

Positions are InfluxDB's own, odd ones included, because they stand in its error texts: the end of text lies one
character further when a name, blanks or a comment ran into it; a string or regular expression is said to stand at the
character before it. A regular expression is a token only where the parser asks for one. Source: spec/influxql.md, 2
and 15.1.

    token   = ident | keyword | string | number | duration | operator | "$" ident
    ident   = bare | '"' chars '"'
    blanks  = (" " | TAB | LF)+ | "--" … LF | "/*" … "*/"
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice

from common.errors import Invalid

KEYWORDS = frozenset(
    """ALL ALTER ANALYZE AND ANY AS ASC BEGIN BY CARDINALITY CREATE CONTINUOUS DATABASE DATABASES DEFAULT DELETE DESC
    DESTINATIONS DIAGNOSTICS DISTINCT DROP DURATION END EVERY EXACT EXPLAIN FALSE FIELD FOR FROM FUTURE GRANT GRANTS
    GROUP GROUPS IN INF INSERT INTO KEY KEYS KILL LIMIT MEASUREMENT MEASUREMENTS NAME OFFSET ON OR ORDER PASSWORD PAST
    POLICY POLICIES PRIVILEGES QUERIES QUERY READ REPLICATION RESAMPLE RETENTION REVOKE SELECT SERIES SET SHOW SHARD
    SHARDS SLIMIT SOFFSET STATS SUBSCRIPTION SUBSCRIPTIONS TAG TO TRUE USER USERS VALUES VERBOSE WHERE WITH
    WRITE""".split()  # noqa: SIM905
)

_TOKEN = re.compile(
    r"""
      (?P<blank>[ \t\n]+)
    | (?P<comment>--[^\n]*\n?|/\*.*?\*/)
    | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
    | "(?P<quoted>[^"\\\n]*(?:\\[n"'\\][^"\\\n]*)*)"
    | '(?P<string>[^'\\\n]*(?:\\[n"'\\][^'\\\n]*)*)'
    | (?P<duration>[0-9]+[A-Za-zµ][A-Za-zµ0-9]*)
    | (?P<number>[0-9]*\.[0-9]+|[0-9]+\.)
    | (?P<integer>[0-9]+)
    | \$(?P<bound>[A-Za-z0-9_]*)(?:"(?P<bound_quoted>(?:[^"\\\n]|\\[n"'\\])*)")?
    | (?P<open_comment>/\*)
    | (?P<operator>=~|!=|!~|>=|<=|<>|::|[-+*/%&|^=<>(),;:.])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_BLANKS = re.compile(r"[ \t\n]*")
# Operators for the count alone. What is quoted is skipped, to the end of the text where the other quote is missing:
# each character is looked at once.
_OPERATOR = re.compile(
    r"""'[^'\\]*(?:\\.[^'\\]*)*'?|"[^"\\]*(?:\\.[^"\\]*)*"?|(?P<operator>[-+*/%&|^<>=!~,]+|\b(?:AND|OR)\b)""",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Token:
    """One token.

    Attributes:
        kind: the keyword or operator itself, or EOF IDENT STRING INTEGER NUMBER DURATIONVAL REGEX BOUND ILLEGAL
            BADSTRING BADESCAPE.
        text: what was read, without quotes and escapes; "" for keywords, operators and EOF.
        at: offset of the position that InfluxDB gives it.
        end: offset just after it.
        spaced: blanks or a comment stand before it.
    """

    kind: str
    text: str
    at: int
    end: int
    spaced: bool = False

    @property
    def found(self) -> str:
        """As error texts name it."""
        return self.text or self.kind


@dataclass(frozen=True, slots=True)
class Bound:
    """What a bound parameter stands for: a token's kind and text."""

    kind: str
    text: str


class ParseError(Invalid):
    """The text is not InfluxQL; the message lacks the ``failed to parse query: `` before it."""


class Tokens:
    """The tokens of one text, with one token of looking ahead.

    Args:
        text: the statements.
        bound: values of ``$name``, found where they stand.
    """

    def __init__(self, text: str, bound: Mapping[str, Bound] | None = None) -> None:
        # As there, so that positions agree: CR LF is one character, a lone CR is a line end.
        self._text = text.replace("\r\n", "\n").replace("\r", "\n")
        self._bound = bound or {}
        self._at = 0
        self._next: Token | None = None
        # Whether the reader has run into the end of the text: its position is then one further.
        self._touched_end = False

    def peek(self) -> Token:
        """The next token, left in place."""
        if self._next is None:
            self._next = self._scan()
        return self._next

    def take(self) -> Token:
        """The next token, consumed."""
        token = self.peek()
        self._at = token.end
        self._next = None
        return token

    def accept(self, *kinds: str) -> Token | None:
        """The next token if it is of one of *kinds*, consumed; else None."""
        return self.take() if self.peek().kind in kinds else None

    def expect(self, kind: str, expected: str = "") -> Token:
        """The next token, which must be of *kind*; *expected* is what the error says instead of the kind."""
        token = self.take()
        if token.kind != kind:
            raise self.unexpected(token, expected or kind)
        return token

    def follows(self, kind: str) -> bool:
        """Whether a token of *kind* follows without a blank before it."""
        token = self.peek()
        return token.kind == kind and not token.spaced

    def unexpected_blanks(self, *expected: str) -> ParseError:
        """That blanks or a comment stand where *expected* must follow at once."""
        blanks = _BLANKS.match(self._text, self._at)
        return ParseError(f"found {blanks[0] if blanks else ''}, expected {', '.join(expected)}{self._where(self._at)}")

    def unexpected(self, token: Token, *expected: str) -> ParseError:
        return ParseError(f"found {token.found}, expected {', '.join(expected)}{self._where(token.at)}")

    def error_at(self, token: Token, message: str) -> ParseError:
        """*message* with the position of *token*."""
        return ParseError(message + self._where(token.at))

    def take_regex(self) -> Token | None:
        """A regular expression if one stands next (``/…/``, or a bound one), consumed; else None.

        Raises:
            ParseError: it has no end.
        """
        blanks = _BLANKS.match(self._text, self._at)
        start = blanks.end() if blanks else self._at
        if start == len(self._text):
            self._touched_end = True  # looking for the slash has run into the end
            self._next = None
            return None
        if self._text[start] == "$":
            return self.accept("REGEX")
        if self._text[start] != "/":
            return None
        at = max(0, start - 1)
        pattern: list[str] = []
        end = start + 1
        while True:
            char = self._text[end : end + 1]
            if char in ("", "\n"):
                raise ParseError(f"bad regex: {self._where(at)}")
            if char == "/":
                break
            if char == "\\" and self._text[end + 1 : end + 2] == "/":
                char, end = "/", end + 1
            pattern.append(char)
            end += 1
        self._at, self._next = end + 1, None
        return Token("REGEX", "".join(pattern), at, end + 1, start > 0)

    def follows_char(self, char: str) -> bool:
        """Whether the text goes on with *char*, right after what was consumed."""
        return self._text.startswith(char, self._at)

    def _where(self, at: int) -> str:
        before = self._text[:at]
        line = before.count("\n")
        return f" at line {line + 1}, char {at - (before.rfind(chr(10)) + 1) + 1}"

    def _scan(self) -> Token:
        text, at, spaced = self._text, self._at, False
        while True:
            if at >= len(text):
                return Token("EOF", "", len(text) + self._touched_end, len(text), spaced)
            match = _TOKEN.match(text, at)
            if match is None:
                return self._scan_bad(at, spaced)
            group = match.lastgroup
            end = match.end()
            if group in ("blank", "comment"):
                spaced, at = True, end
                # A comment in /* */ ends before the end of the text is met.
                self._touched_end = end == len(text) and text[match.start()] != "/"
                continue
            if group == "open_comment":
                return Token("ILLEGAL", "", at, len(text), spaced)
            if group == "bound" and text.startswith('"', end):
                # A quoted name that has no end: it stands where its "$" does.
                bad = self._scan_bad(end, spaced)
                return replace(bad, text="$" + bad.text, at=at)
            self._touched_end = end == len(text) and text[end - 1] != '"' and group in ("word", "bound")
            return self._make(group or "", match, at, end, spaced)

    def _make(self, group: str, match: re.Match[str], at: int, end: int, spaced: bool) -> Token:
        content = match[group]
        if group == "word":
            word = content.upper()
            return Token(word, "", at, end, spaced) if word in KEYWORDS else Token("IDENT", content, at, end, spaced)
        if group == "quoted":
            return Token("IDENT", _unescape(content), at, end, spaced)
        if group == "string":
            return Token("STRING", _unescape(content), max(0, at - 1), end, spaced)
        if group in ("bound", "bound_quoted"):
            name = content if group == "bound" else _unescape(content)
            bound = self._bound.get(name) if name else None
            if bound is None:
                return Token("BOUND", f"${name}", at, end, spaced)
            return Token(bound.kind, bound.text, at, end, spaced)
        if group == "operator":
            return Token("!=" if content == "<>" else content, "", at, end, spaced)
        kind = {"duration": "DURATIONVAL", "number": "NUMBER", "integer": "INTEGER"}[group]
        return Token(kind, content.removesuffix("."), at, end, spaced)

    def _scan_bad(self, at: int, spaced: bool) -> Token:
        """What the pattern does not match: a string without end or with a bad escape, or a stray character."""
        text = self._text
        quote = text[at]
        if quote not in "\"'":
            return Token("ILLEGAL", quote, at, at + 1, spaced)
        end = at + 1
        while end < len(text) and text[end] != "\n":
            if text[end] == "\\":
                if text[end + 1 : end + 2] not in ("n", "\\", '"', "'"):
                    return Token("BADESCAPE", text[end : end + 2], end + 1, min(end + 2, len(text)), spaced)
                end += 1
            end += 1
        self._touched_end = end >= len(text)
        return Token("BADSTRING", _unescape(text[at + 1 : end]), max(0, at - 1), min(end, len(text)), spaced)


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: "\n" if match[1] == "n" else match[1], text) if "\\" in text else text


def count_operators(text: str, enough: int) -> int:
    """Operators and commas in *text* outside of quotes, about; of more than *enough* only that they are more.

    Trees have about as many nodes; the count takes a fiftieth of the time of parsing.
    """
    if len(text) <= enough:
        return 0
    found = (match for match in _OPERATOR.finditer(text) if match["operator"])
    return sum(1 for _ in islice(found, enough + 1))
