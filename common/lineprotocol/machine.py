"""Machine forms of ``words.py`` and the types of the kernels, for numba.

Importing this module loads numba and tells it what the words mean; it compiles nothing.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload, register_jitable

from common.lineprotocol import gather, kernel, keys, memory, numbers, scan, siphash, words

BYTES = types.Array(types.uint8, 1, "C")
_FLAGS = types.Array(types.boolean, 1, "C")
_INT32S, _INT64S = types.Array(types.int32, 1, "C"), types.Array(types.int64, 1, "C")
_WORDS = types.Array(types.uint64, 1, "C")
_DOUBLES = types.Array(types.float64, 1, "C")
_INT32S_2, _INT64S_2 = types.Array(types.int32, 2, "C"), types.Array(types.int64, 2, "C")
_WORDS_2 = types.Array(types.uint64, 2, "C")

# Arrays of memory.Memory that are not one-dimensional int32 by the rule of their names below.
_MEMORY: dict[str, Any] = {
    **dict.fromkeys(("state", "ends", "units", "defaults", "error_counts", "row_time", "row_entries"), _INT64S),
    **dict.fromkeys(("column_hash", "measurement_hash", "series_hash", "key_hash"), _WORDS_2),
    **dict.fromkeys(("column_place", "measurement_place", "series_tags", "errors", "tags"), _INT64S_2),
    "entry_type": BYTES,
    "entry_bits": _WORDS,
    "entry_double": _DOUBLES,
}
MEMORY: Any = types.NamedTuple([_MEMORY.get(name, _INT32S) for name in memory.Memory._fields], memory.Memory)  # type: ignore[no-untyped-call]

# Each function that is called from outside: what it takes, with what it gives.
SIGNATURES: dict[str, Any] = {
    "parse_lines": types.int64(BYTES, types.int64, types.uint64, types.uint64, MEMORY),
    "fill_table": types.void(_INT32S, _WORDS_2, types.int64),
    "split_rows": types.int64(
        _INT32S, _INT32S, _INT64S, _FLAGS, _INT32S, _INT64S, _INT32S, _INT32S_2, _INT64S_2, _INT32S
    ),
    "order_by": types.void(_INT32S, _INT64S, _INT64S),
    "check_entries": types.int64(
        _INT64S, _INT32S, BYTES, _INT64S, _INT64S, _FLAGS, _INT64S, _INT32S, BYTES, BYTES, _INT64S, _INT64S_2, _INT64S_2
    ),
    "lay_out": types.int64(_INT64S, _INT64S, _INT32S, _INT64S, _INT64S, _INT64S, _INT64S, _INT64S),
    "plan_pieces": types.int64(_INT64S, _INT32S, _FLAGS, _INT64S, _INT64S, _INT64S, _INT64S, _INT64S_2, _INT64S),
    "fill_cells": types.int64(
        _INT64S, _INT32S, BYTES, _WORDS, _FLAGS, _INT64S, _INT64S, _INT64S_2, _INT64S, _INT64S, _WORDS, _FLAGS,
        _INT64S, BYTES,
    ),
    "measure_strings": types.void(BYTES, _WORDS, _INT64S),
    "copy_strings": types.void(BYTES, _WORDS, BYTES),
}  # fmt: skip

# The kernels make no arrays, and their callers keep those that they pass: without numba's reference counts (atomic, for
# each array at each call) new series are parsed twice as fast.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False}

_I8, _I64, _DOUBLE = ir.IntType(8), ir.IntType(64), ir.DoubleType()


def _place(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Pointer to the byte of a text at an index, unchecked."""
    text = context.make_array(signature.args[0])(context, builder, arguments[0])
    return builder.gep(text.data, [arguments[1]])


@intrinsic
def _byte_at(_typing: Any, text: Any, _i: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.zext(builder.load(_place(context, builder, signature, arguments)), _I64)

    return types.int64(text, types.int64), generate


@intrinsic
def _load64(_typing: Any, text: Any, _i: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.bitcast(_place(context, builder, signature, arguments), _I64.as_pointer())
        return builder.load(place, align=1)

    return types.uint64(text, types.int64), generate


@intrinsic
def _lowest_bit(_typing: Any, _x: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@intrinsic
def _parse_double(_typing: Any, text: Any, _start: Any) -> Any:
    # The C library's strtod rounds exactly; Python keeps LC_NUMERIC at "C", so the point is a point.
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _I8.as_pointer()
        kind = ir.FunctionType(_DOUBLE, [pointer, pointer.as_pointer()])
        strtod = cgutils.get_or_insert_function(builder.module, kind, "strtod")  # type: ignore[no-untyped-call]
        none = ir.Constant(pointer.as_pointer(), None)
        return builder.call(strtod, [_place(context, builder, signature, arguments), none])

    return types.float64(text, types.int64), generate


@overload(words.u64, strict=False)
def _u64_form(x: Any) -> Any:
    return lambda x: np.uint64(x)


@overload(words.i64, strict=False)
def _i64_form(x: Any) -> Any:
    return lambda x: np.int64(x)


@overload(words.byte_at, strict=False)
def _byte_at_form(text: Any, i: Any) -> Any:
    return lambda text, i: _byte_at(text, i)  # type: ignore[call-arg]


@overload(words.load64, strict=False)
def _load64_form(text: Any, i: Any) -> Any:
    return lambda text, i: _load64(text, i)  # type: ignore[call-arg]


@overload(words.lowest_bit, strict=False)
def _lowest_bit_form(x: Any) -> Any:
    return lambda x: _lowest_bit(x)  # type: ignore[call-arg]


@overload(words.parse_double, strict=False)
def _parse_double_form(text: Any, start: Any, stop: Any) -> Any:
    return lambda text, start, stop: _parse_double(text, start)  # type: ignore[call-arg]


def _let_kernels_call(module: ModuleType) -> None:
    """The functions of *module* stay plain and may be called by compiled ones."""
    for value in vars(module).values():
        if callable(value) and getattr(value, "__module__", "") == module.__name__ and not isinstance(value, type):
            register_jitable(_nrt=False)(value)


for _module in (siphash, numbers, keys, scan, memory, kernel, gather):
    _let_kernels_call(_module)
