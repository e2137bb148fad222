"""One column of values in the engine: a typed array and where it has values · pure.

Strings are object arrays of str (bytes that are not UTF-8 as surrogate escapes); a value that is absent is 0, false or
"" under a False in ``valid``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.model import FieldType
from common.segment import StringArray

Indexes = NDArray[np.int64]
Mask = NDArray[np.bool_]

DTYPES: dict[FieldType, np.dtype[Any]] = {
    FieldType.FLOAT: np.dtype(np.float64),
    FieldType.INTEGER: np.dtype(np.int64),
    FieldType.UNSIGNED: np.dtype(np.uint64),
    FieldType.STRING: np.dtype(object),
    FieldType.BOOLEAN: np.dtype(np.bool_),
}
NUMBERS = frozenset((FieldType.FLOAT, FieldType.INTEGER, FieldType.UNSIGNED))
# What a str object costs besides its text, for the memory budget.
STR_BYTES = 56


@dataclass(frozen=True, slots=True)
class Vector:
    """Values of one type, one a row.

    Attributes:
        values: array of ``DTYPES[type]``.
        valid: True where the row has a value; None = everywhere.
    """

    type: FieldType
    values: NDArray[Any]
    valid: Mask | None = None

    def __len__(self) -> int:
        return len(self.values)

    def take(self, at: Indexes | slice | Mask) -> Vector:
        """The rows at *at*, in that order; a slice makes a view."""
        return Vector(self.type, self.values[at], None if self.valid is None else self.valid[at])

    @property
    def mask(self) -> Mask:
        """Where there are values, as an array in any case."""
        return np.ones(len(self.values), bool) if self.valid is None else self.valid

    @property
    def nbytes(self) -> int:
        """Bytes held, near enough for a budget."""
        return int(self.values.nbytes + (0 if self.valid is None else self.valid.nbytes))


def nulls(type: FieldType, count: int) -> Vector:
    """*count* rows without a value."""
    return Vector(type, zeros(type, count), np.zeros(count, bool))


def zeros(type: FieldType, count: int) -> NDArray[Any]:
    """*count* zero values: 0, false or ""."""
    if type is FieldType.STRING:
        return np.full(count, "", dtype=object)
    return np.zeros(count, DTYPES[type])


def concat(vectors: Sequence[Vector]) -> Vector:
    """Rows of all *vectors*, which are of one type, in order."""
    if len(vectors) == 1:
        return vectors[0]
    values = np.concatenate([vector.values for vector in vectors])
    if all(vector.valid is None for vector in vectors):
        return Vector(vectors[0].type, values)
    return Vector(vectors[0].type, values, np.concatenate([vector.mask for vector in vectors]))


def cast(vector: Vector, type: FieldType) -> Vector:
    """*vector* as *type*: numbers are converted (towards zero, unsigned wraps), anything else has no values.

    Source: InfluxQL as observed on 2.9, "Casts".
    """
    if vector.type is type:
        return vector
    if vector.type not in NUMBERS or type not in NUMBERS:
        return nulls(type, len(vector))
    if vector.type is FieldType.FLOAT:
        return Vector(type, float_to_int(vector.values).astype(DTYPES[type]), vector.valid)
    return Vector(type, vector.values.astype(DTYPES[type]), vector.valid)


def float_to_int(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Cut towards zero; what int64 can't hold becomes its smallest value, as on amd64."""
    fits = (values >= -9223372036854775808.0) & (values < 9223372036854775808.0)
    return np.where(fits, values, -9223372036854775808.0).astype(np.int64)


def decode_strings(strings: StringArray) -> NDArray[Any]:
    """An object array of str; equal values share one object where they are few."""
    count = len(strings)
    out = np.empty(count, dtype=object)
    if not count:
        return out
    data = strings.data.tobytes()
    bounds = strings.offsets.tolist()
    seen: dict[bytes, str] = {}
    words: list[str] = []
    for i in range(count):
        raw = data[bounds[i] : bounds[i + 1]]
        word = seen.get(raw)
        if word is None:
            word = raw.decode("utf-8", "surrogateescape")
            if len(seen) < 4096:
                seen[raw] = word
        words.append(word)
    out[:] = words
    return out


def word_ranks(words: NDArray[Any]) -> tuple[Indexes, NDArray[Any]]:
    """Each string's place among the distinct strings in byte order, and those strings."""
    distinct, ranks = np.unique(words.astype(object), return_inverse=True)
    return ranks.astype(np.int64), distinct


def ranks_of(vector: Vector) -> NDArray[Any]:
    """Numbers that sort and compare as the values do: strings by rank, booleans as 0 and 1, numbers themselves."""
    if vector.type is FieldType.STRING:
        return word_ranks(vector.values)[0]
    if vector.type is FieldType.BOOLEAN:
        return vector.values.astype(np.int8)
    return vector.values
