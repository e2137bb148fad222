"""The parameter ``params``: JSON → values of ``$name`` · pure.

Source: spec/influxql.md, 2.6; http-query-v1.md, 4.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from common.errors import Invalid
from common.times import format_duration
from services.query.influxql.format import format_number
from services.query.influxql.tokens import Bound

_MAX_INT64 = (1 << 63) - 1


class _Number(str):
    """A number of the JSON text, as it is written there."""

    __slots__ = ()


def parse_params(text: str) -> dict[str, Bound]:
    """Read a JSON object of bind values; "" = none.

    Raises:
        Invalid: with the texts of InfluxDB.
    """
    if not text.strip():
        return {}
    try:
        values = json.loads(text, parse_int=_Number, parse_float=_Number, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"error parsing query parameters: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        fault = f"json: cannot unmarshal {_json_kind(values)} into Go value of type map[string]interface {{}}"
        raise Invalid(f"error parsing query parameters: {fault}")
    return {name: _bind(value) for name, value in values.items()}


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"invalid character {name[:1]!r} looking for beginning of value")


def _json_kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, _Number):
        return "number"
    return "string" if isinstance(value, str) else "array"


def _failed(reason: str) -> Bound:
    """Says *reason* where, and only if, the parameter is used."""
    return Bound("BOUND", reason)


def _bind(value: Any) -> Bound:
    if isinstance(value, dict):
        if len(value) != 1:
            return _failed("bound object parameter value must have exactly one entry")
        kind, inner = next(iter(value.items()))
        make = _KINDS.get(kind)
        return make(inner) if make else _failed(f"unknown bind object type: {kind}")
    if isinstance(value, bool):
        return Bound("TRUE" if value else "FALSE", "")
    if isinstance(value, _Number):
        return _bind_number(value)
    if isinstance(value, str):
        return Bound("STRING", value)
    return _failed(f"unable to bind parameter with type {_go_type(value)}")


def _go_type(value: Any) -> str:
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, _Number):
        return "json.Number" if "." not in value else "float64"
    return (
        "string"
        if isinstance(value, str)
        else "[]interface {}"
        if isinstance(value, list)
        else "map[string]interface {}"
    )


def _bind_number(text: _Number) -> Bound:
    """A number with a point is a float, any other an integer: ``1e3`` is neither."""
    if "." in text:
        number = float(text)
        if math.isinf(number):
            raise Invalid(f'error parsing json value: strconv.ParseFloat: parsing "{text}": value out of range')
        return Bound("NUMBER", format_number(number))
    if not text.lstrip("-").isdecimal():
        raise Invalid(f'error parsing json value: strconv.ParseInt: parsing "{text}": invalid syntax')
    if len(text) > 20 or not -_MAX_INT64 - 1 <= int(text) <= _MAX_INT64:
        raise Invalid(f'error parsing json value: strconv.ParseInt: parsing "{text}": value out of range')
    return Bound("INTEGER", str(text))


def _text_of(kind: str) -> Callable[[Any], Bound]:
    def make(value: Any) -> Bound:
        if not isinstance(value, str) or isinstance(value, _Number):
            return _failed(f"bound {kind.lower()} value must be a string: found {_go_type(value)}")
        return Bound(kind, value)

    return make


def _float(value: Any) -> Bound:
    if not isinstance(value, _Number):
        return _failed(f"bound float value must be a float: found {_go_type(value)}")
    bound = _bind_number(value)
    return Bound("NUMBER", bound.text if bound.kind == "NUMBER" else format_number(float(bound.text)))


def _integer(value: Any) -> Bound:
    bound = _bind_number(value) if isinstance(value, _Number) else None
    if bound is None or bound.kind != "INTEGER":
        return _failed(f"bound integer value must be an integer: found {_go_type(value)}")
    return bound


def _boolean(value: Any) -> Bound:
    if not isinstance(value, bool):
        return _failed(f"bound boolean value must be a boolean: found {_go_type(value)}")
    return Bound("TRUE" if value else "FALSE", "")


def _duration(value: Any) -> Bound:
    if isinstance(value, _Number):
        bound = _bind_number(value)
        if bound.kind == "INTEGER":
            return Bound("DURATIONVAL", format_duration(int(bound.text)))
    elif isinstance(value, str):
        return Bound("DURATIONVAL", value)
    return _failed(f"bound duration value must be a string or integer: found {_go_type(value)}")


_KINDS: dict[str, Callable[[Any], Bound]] = {
    "string": _text_of("STRING"),
    "identifier": _text_of("IDENT"),
    "ident": _text_of("IDENT"),
    "regex": _text_of("REGEX"),
    "float": _float,
    "number": _float,
    "integer": _integer,
    "int": _integer,
    "boolean": _boolean,
    "bool": _boolean,
    "duration": _duration,
}
