"""Generations of series dictionaries: which numbering of a measurement's series is meant · pure.

A dictionary only grows, until series of it have no rows left: then it is written anew without them
(``sweep/reclaim.py``), and its series have other sequence numbers. The segments know nothing of it: they name series by
their ids.

    generation = epoch(31) measurement(32)    ; how often it has been written anew, id of the measurement
"""

from __future__ import annotations

_ID_BITS = 32


def generation_of(measurement: int, epoch: int) -> int:
    """The generation after *epoch* times."""
    return epoch << _ID_BITS | measurement


def measurement_of(generation: int) -> int:
    """Id of the measurement."""
    return generation & (1 << _ID_BITS) - 1


def epoch_of(generation: int) -> int:
    """How often its dictionary has been written anew."""
    return generation >> _ID_BITS
