"""Expressions, sources and other parts that statements share: the lower half of the parser · pure.

Recursive descent; each production stands above its function. Order of tests, texts and positions are InfluxDB's, so
that its error texts come out. Source: spec/influxql.md, 3 and 15.1.
"""

from __future__ import annotations

import math

from common.errors import Invalid
from common.times import parse_duration
from services.query.influxql import tree
from services.query.influxql.regex import check_pattern
from services.query.influxql.tokens import ParseError, Token, Tokens

# Parentheses, calls and subqueries within one another; each level costs three frames of Python's stack.
MAX_NESTING = 100
# Of the finished tree, so that whoever walks it by recursion stays within Python's stack too.
MAX_DEPTH = 250
# AND and OR chains are built balanced, so that they may be long: WHERE host = 'a' OR host = 'b' OR …
_CHAINED = ("AND", "OR")
_MAX_INT64 = (1 << 63) - 1
_MAX_UINT64 = (1 << 64) - 1


class Nesting:
    """A with block for each level of nesting; raises ParseError at the bound."""

    def __init__(self) -> None:
        self._level = 0

    def __enter__(self) -> None:
        self._level += 1
        if self._level > MAX_NESTING:
            raise ParseError(f"the statement is nested more than {MAX_NESTING} levels deep")

    def __exit__(self, *_: object) -> None:
        self._level -= 1


class ExpressionParser:
    """Reads parts of statements from *tokens*."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self.nesting = Nesting()

    # ------------------------------------------------------------ small parts

    def ident(self) -> str:
        return self.tokens.expect("IDENT", "identifier").text

    def string(self) -> str:
        return self.tokens.expect("STRING", "string").text

    def words(self, *kinds: str) -> None:
        """These keywords or marks, one after the other."""
        for kind in kinds:
            self.tokens.expect(kind)

    def integer(self, low: int, high: int) -> int:
        token = self.tokens.expect("INTEGER", "integer")
        value = _clamped(token.text)
        if not low <= value <= high:
            raise self.tokens.error_at(token, f"invalid value {value}: must be {low} <= n <= {high}")
        return value

    def duration(self) -> int:
        """duration | "INF", which is 0."""
        token = self.tokens.take()
        if token.kind == "INF":
            return 0
        if token.kind != "DURATIONVAL":
            raise self.tokens.unexpected(token, "duration")
        try:
            return parse_duration(token.text)
        except Invalid as error:
            raise self.tokens.error_at(token, str(error)) from None

    def segments(self) -> tuple[list[str], bool]:
        """ident { "." [ident] }: up to three, and whether it stopped after a dot before a regular expression.

        Before ``:MEASUREMENT`` it stops after a dot too.
        """
        tokens = self.tokens
        segments = [self.ident()]
        while tokens.follows("."):
            tokens.take()
            if tokens.follows_char("/"):
                return segments, True
            if tokens.follows_char(":"):
                break
            segments.append("" if tokens.follows_char(".") else self.ident())
        if len(segments) > 3:
            # InfluxDB gives this one no place of its own.
            raise ParseError(f"too many segments in {'.'.join(quote(part) for part in segments)} at line 1, char 1")
        return segments, False

    def regex(self) -> tree.RegexLiteral | None:
        token = self.tokens.take_regex()
        return None if token is None else self._compiled(token)

    def _compiled(self, token: Token) -> tree.RegexLiteral:
        try:
            check_pattern(token.text)
        except Invalid as error:
            raise self.tokens.error_at(token, str(error)) from None
        return tree.RegexLiteral(token.text)

    def required_regex(self) -> tree.RegexLiteral:
        regex = self.regex()
        if regex is None:
            raise self.tokens.unexpected(self.tokens.take(), "regex")
        return regex

    # ------------------------------------------------------------ sources and clauses

    # measurement = [ [ident "."] [ident] "." ] ( ident | regex )
    def measurement(self) -> tree.Measurement:
        regex = self.regex()
        if regex is not None:
            return tree.Measurement(regex=regex)
        segments, before_regex = self.segments()
        if before_regex and len(segments) < 3:
            regex = self.required_regex()
            return tree.Measurement("", segments[-1], segments[0] if len(segments) == 2 else "", regex)
        name, policy, database = (*reversed(segments), "", "")[:3]
        return tree.Measurement(name, policy, database)

    def measurements(self) -> tuple[tree.Measurement, ...]:
        found = [self.measurement()]
        while self.tokens.accept(","):
            found.append(self.measurement())
        return tuple(found)

    def optional_from(self) -> tuple[tree.Measurement, ...]:
        return self.measurements() if self.tokens.accept("FROM") else ()

    def optional_on(self) -> str:
        return self.ident() if self.tokens.accept("ON") else ""

    def condition(self) -> tree.Expr | None:
        return self.expr() if self.tokens.accept("WHERE") else None

    # group = "GROUP" "BY" dim { "," dim }
    def dimensions(self) -> tuple[tree.Expr, ...]:
        if not self.tokens.accept("GROUP"):
            return ()
        self.words("BY")
        found = [self.regex() or self.expr()]
        while self.tokens.accept(","):
            found.append(self.regex() or self.expr())
        return tuple(found)

    # order = "ORDER" "BY" ( "time" [ "ASC" | "DESC" ] | "ASC" | "DESC" )
    def descending(self) -> bool:
        return self.direction() == "DESC"

    def direction(self) -> str:
        """``ASC`` or ``DESC``; "" without ORDER BY."""
        tokens = self.tokens
        if not tokens.accept("ORDER"):
            return ""
        self.words("BY")
        token = tokens.take()
        if token.kind not in ("IDENT", "ASC", "DESC"):
            raise tokens.unexpected(token, "identifier", "ASC", "DESC")
        direction = token.kind
        if token.kind == "IDENT":
            after = tokens.accept("ASC", "DESC")
            direction = after.kind if after else "ASC"
        if (token.kind == "IDENT" and token.text != "time") or tokens.accept(","):
            raise ParseError("only ORDER BY time supported at this time")
        return direction

    # limits = [ "LIMIT" int ] [ "OFFSET" int ] [ "SLIMIT" int ] [ "SOFFSET" int ]
    def limits(self, *, series: bool) -> tree.Limits:
        words = ("LIMIT", "OFFSET", "SLIMIT", "SOFFSET") if series else ("LIMIT", "OFFSET")
        return tree.Limits(*(self._limit(word) for word in words))

    def _limit(self, word: str) -> int:
        if not self.tokens.accept(word):
            return 0
        token = self.tokens.expect("INTEGER", "integer")
        if token.text.startswith("-"):
            raise self.tokens.error_at(token, f"{word} must be >= 0")
        # Past 64 bits it is the largest integer, not an error (spec/influxql.md, 2.3).
        return min(_clamped(token.text), _MAX_INT64)

    # keysel = ( "=" | "!=" ) ident | ( "=~" | "!~" ) regex | "IN" "(" ident { "," ident } ")"
    def key_selector(self) -> tree.KeySelector:
        self.words("WITH", "KEY")
        token = self.tokens.take()
        if token.kind in ("=", "!="):
            return tree.KeySelector(token.kind, (self.ident(),))
        if token.kind in tree.REGEX_OPERATORS:
            return tree.KeySelector(token.kind, (), self.required_regex())
        if token.kind != "IN":
            raise self.tokens.unexpected(token, "IN", "=", "=~")
        self.words("(")
        names = [self.ident()]
        while self.tokens.accept(","):
            names.append(self.ident())
        self.words(")")
        return tree.KeySelector("IN", tuple(names))

    # ------------------------------------------------------------ expressions

    # expr = unary { binop unary }, by precedence, all to the left
    def expr(self, level: int = 1) -> tree.Expr:
        left = self._unary()
        return self._binary(left, level)

    def _binary(self, left: tree.Expr, level: int) -> tree.Expr:
        chain: list[tree.Expr] = [left]
        chained = ""
        while True:
            op = self.tokens.peek().kind
            own = tree.PRECEDENCE.get(op, 0)
            if own < level:
                return balanced(chained, chain)
            self.tokens.take()
            right: tree.Expr
            if op in tree.REGEX_OPERATORS:
                right = self.required_regex()
            else:
                right = self._unary()
            # What binds tighter than *op* belongs to its right side.
            if tree.PRECEDENCE.get(self.tokens.peek().kind, 0) > own:
                right = self._binary(right, own + 1)
            if op in _CHAINED and op == chained:
                chain.append(right)
            elif op in _CHAINED:
                chain, chained = [balanced(chained, chain), right], op
            else:
                chain, chained = [tree.BinaryExpr(op, balanced(chained, chain), right)], ""

    # unary = "(" expr ")" | call | ident [cast] | literal | regex | "*" ["::" kind] | "DISTINCT" ident | sign unary
    def _unary(self) -> tree.Expr:
        tokens = self.tokens
        token = tokens.take()
        kind = token.kind
        if kind == "IDENT":
            return self._call(token.text) if tokens.follows("(") else self._var_ref(token)
        if kind in _LITERALS:
            return self._literal(token)
        if kind == "(":
            with self.nesting:
                inner = self.expr()
            self.words(")")
            return tree.ParenExpr(inner)
        if kind in ("+", "-"):
            return self._signed(kind)
        if kind == "*":
            return self._wildcard()
        if kind == "DISTINCT":
            return self._distinct()
        if kind == "REGEX":
            return self._compiled(token)
        if kind == "BOUND":
            name = token.text.removeprefix("$")
            raise ParseError(f"missing parameter: {name}" if name else "empty bound parameter")
        raise tokens.unexpected(token, "identifier", "string", "number", "bool")

    def _literal(self, token: Token) -> tree.Expr:
        kind, text = token.kind, token.text
        if kind == "STRING":
            return tree.StringLiteral(text)
        if kind == "DURATIONVAL":
            return tree.DurationLiteral(_parse_duration(text))
        if kind == "NUMBER":
            number = float(text)
            if number in (math.inf, -math.inf):
                raise self.tokens.error_at(token, "unable to parse number")
            return tree.NumberLiteral(number)
        if kind in ("TRUE", "FALSE"):
            return tree.BooleanLiteral(kind == "TRUE")
        value = _clamped(text)
        if not -_MAX_INT64 - 1 <= value <= _MAX_UINT64:
            raise self.tokens.error_at(token, "unable to parse integer")
        return tree.IntegerLiteral(value) if value <= _MAX_INT64 else tree.UnsignedLiteral(value)

    def _signed(self, sign: str) -> tree.Expr:
        token = self.tokens.peek()
        if token.kind not in ("NUMBER", "INTEGER", "DURATIONVAL", "(", "IDENT"):
            raise self.tokens.unexpected(token, "identifier", "number", "duration", "(")
        operand = self._unary()
        factor = -1 if sign == "-" else 1
        if isinstance(operand, tree.IntegerLiteral):
            # The negative of the smallest int64, which only a bound one may be, is itself in 64 bits.
            value = operand.value * factor
            return tree.IntegerLiteral(value if value <= _MAX_INT64 else operand.value)
        if isinstance(operand, tree.NumberLiteral):
            return tree.NumberLiteral(operand.value * factor)
        if isinstance(operand, tree.DurationLiteral):
            return tree.DurationLiteral(operand.ns * factor)
        if isinstance(operand, tree.UnsignedLiteral):
            if factor == 1:
                return operand
            # The smallest int64 is one past the largest when read without its sign.
            if operand.value == _MAX_INT64 + 1:
                return tree.IntegerLiteral(-operand.value)
            raise ParseError(f"constant -{operand.value} underflows int64")
        return tree.BinaryExpr("*", tree.IntegerLiteral(factor), operand)

    def _wildcard(self) -> tree.Expr:
        tokens = self.tokens
        if not tokens.follows("::"):
            return tree.Wildcard()
        tokens.take()
        if tokens.peek().spaced:
            raise tokens.unexpected_blanks("field", "tag")
        token = tokens.take()
        if token.kind not in ("FIELD", "TAG"):
            raise tokens.unexpected(token, "field", "tag")
        return tree.Wildcard(token.kind.lower())

    def _distinct(self) -> tree.Expr:
        tokens = self.tokens
        if tokens.follows("("):
            return self._call("distinct")
        token = tokens.take()
        if not token.spaced:
            raise tokens.unexpected(token, "(", "identifier")
        if token.kind != "IDENT":
            raise tokens.unexpected(token, "identifier")
        return tree.Distinct(token.text)

    # call = ident "(" [ expr { "," expr } ] ")"
    def _call(self, name: str) -> tree.Call:
        tokens = self.tokens
        tokens.take()
        args: list[tree.Expr] = []
        with self.nesting:
            regex = self.regex()
            if regex is None and tokens.accept(")"):
                return tree.Call(name.lower())
            args.append(regex or self.expr())
            while tokens.accept(","):
                args.append(self.regex() or self.expr())
        self.words(")")
        return tree.Call(name.lower(), tuple(args))

    # ident { "." ident } [ "::" type ]
    def _var_ref(self, first: Token) -> tree.VarRef:
        tokens = self.tokens
        segments = [first.text]
        while tokens.follows("."):
            tokens.take()
            segments.append("" if tokens.follows_char(".") else self.ident())
        if len(segments) > 3:
            raise ParseError(f"too many segments in {'.'.join(quote(part) for part in segments)} at line 1, char 1")
        name = ".".join(segments)
        if not tokens.follows("::"):
            return tree.VarRef(name)
        tokens.take()
        if tokens.peek().spaced:
            raise tokens.unexpected_blanks(*tree.CASTS)
        token = tokens.take()
        cast = token.text.lower() if token.kind == "IDENT" else token.kind.lower()
        if cast not in tree.CASTS:
            raise tokens.unexpected(token, *tree.CASTS)
        return tree.VarRef(name, cast)


_LITERALS = frozenset(("STRING", "NUMBER", "INTEGER", "DURATIONVAL", "TRUE", "FALSE"))


def _clamped(text: str) -> int:
    """The integer, or one past 64 bits when it has so many digits that reading it would cost."""
    digits = text.lstrip("-0")
    return int(text) if len(digits) <= 20 else _MAX_UINT64 + 1


def _parse_duration(text: str) -> int:
    try:
        return parse_duration(text)
    except Invalid as error:
        raise ParseError(str(error)) from None


def quote(name: str) -> str:
    """*name* as an identifier always in quotes."""
    escaped = name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def balanced(op: str, operands: list[tree.Expr]) -> tree.Expr:
    """*operands* joined by *op* as a tree of least depth; AND and OR mean the same however they are grouped."""
    while len(operands) > 1:
        pairs = [tree.BinaryExpr(op, *operands[i : i + 2]) for i in range(0, len(operands) - 1, 2)]
        operands = [*pairs, operands[-1]] if len(operands) % 2 else list(pairs)
    return operands[0]


def check_depth(expr: tree.Expr) -> None:
    """Raises ParseError when *expr* is deeper than ``MAX_DEPTH``."""
    level: list[tree.Expr] = [expr]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in tree.children(node)]
        if not level:
            return
    raise ParseError(f"an expression is more than {MAX_DEPTH} levels deep")
