"""Technical analysis and forecasts over the values of a group · pure.

Source: InfluxQL as observed on 2.9, section 11.4; InfluxDB 1.x ``query/internal/gota``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.model import FieldType
from services.query.engine.answers import starts_of
from services.query.engine.kernels import adapt, forecast, smooth
from services.query.engine.spec import Call, Query
from services.query.engine.transforms import Stream, each_group
from services.query.engine.vectors import Vector

Floats = NDArray[np.float64]
# Series longer than this are not forecast: fitting takes time in proportion to it.
MAX_FORECAST_VALUES = 100_000


def analyse(call: Call, stream: Stream) -> Stream:
    """The function that *call* names; its options are period, hold (-1 = as long as it warms up) and warm-up."""
    period = int(call.options[0])
    hold = int(call.options[1]) if len(call.options) > 1 else -1
    default = "none" if call.name == "chande_momentum_oscillator" else "exponential"
    warmup = str(call.options[2]) if len(call.options) > 2 else default

    def function(values: Floats) -> tuple[Floats, int]:
        with np.errstate(all="ignore"):
            results, warm = _FUNCTIONS[call.name](values, period, warmup)
        return results, warm if hold == -1 else hold

    analysed = each_group(stream, function)
    values = analysed.values.values
    # What is no number (a division by zero) is no value; infinities are told apart later.
    lost = np.isnan(values)
    if not lost.any():
        return analysed
    return Stream(analysed.groups, analysed.times, Vector(FieldType.FLOAT, np.where(lost, 0.0, values), ~lost))


def _average(values: Floats, period: int, warmup: str, skipped: int = 0) -> Floats:
    result: Floats = smooth(values, period, 2.0 / (period + 1), warmup == "simple", skipped)
    return result


def _chain(values: Floats, period: int, warmup: str) -> tuple[Floats, Floats, Floats]:
    """The average, its average and that one's: with a simple warm-up each waits until the one before is warm."""
    wait = period - 1 if warmup == "simple" else 0
    once = _average(values, period, warmup)
    twice = _average(once, period, warmup, wait)
    return once, twice, _average(twice, period, warmup, 2 * wait)


def _ema(values: Floats, period: int, warmup: str) -> tuple[Floats, int]:
    return _average(values, period, warmup), period - 1


def _dema(values: Floats, period: int, warmup: str) -> tuple[Floats, int]:
    once, twice, _ = _chain(values, period, warmup)
    return 2.0 * once - twice, (period - 1) * (2 if warmup == "simple" else 1)


def _tema(values: Floats, period: int, warmup: str) -> tuple[Floats, int]:
    once, twice, thrice = _chain(values, period, warmup)
    return 3.0 * once - 3.0 * twice + thrice, (period - 1) * (3 if warmup == "simple" else 1)


def _trix(values: Floats, period: int, warmup: str) -> tuple[Floats, int]:
    thrice = _chain(values, period, warmup)[2]
    before = np.concatenate((np.zeros(1), thrice[:-1]))
    return (thrice / before - 1.0) * 100.0, 3 * (period - 1) + 1 if warmup == "simple" else period


def _moves(values: Floats) -> tuple[Floats, Floats]:
    """Rises and falls from value to value; the first one counts from 0."""
    steps = np.diff(values, prepend=0.0)
    return np.maximum(steps, 0.0), np.maximum(-steps, 0.0)


def _smoothed_moves(values: Floats, period: int, warmup: str) -> tuple[Floats, Floats]:
    up, down = _moves(values)
    simple = warmup == "simple"
    return smooth(up, period + 1, 1.0 / period, simple, 0), smooth(down, period + 1, 1.0 / period, simple, 0)


def _rsi(values: Floats, period: int, warmup: str) -> tuple[Floats, int]:
    up, down = _smoothed_moves(values, period, warmup)
    return 100.0 - 100.0 / (1.0 + up / down), period


def _last_sums(values: Floats, count: int) -> Floats:
    """Sum of the last *count* values, of all where there are fewer."""
    sums = np.cumsum(values)
    sums[count:] -= sums[:-count].copy()
    return sums


def _efficiency(values: Floats, period: int, warmup: str) -> tuple[Floats, int]:
    before = np.concatenate((np.zeros(min(period, len(values))), values[:-period]))
    signal = np.abs(values - before)
    noise = _last_sums(np.abs(np.diff(values, prepend=0.0)), period)
    return np.where((signal == 0.0) | (noise == 0.0), 0.0, signal / noise), period


def _adaptive(values: Floats, period: int, warmup: str) -> tuple[Floats, int]:
    return adapt(values, _efficiency(values, period, warmup)[0], period), period


def _momentum(values: Floats, period: int, warmup: str) -> tuple[Floats, int]:
    if warmup != "none":
        up, down = _smoothed_moves(values, period, warmup)
        return 100.0 * (up - down) / (up + down), period
    up, down = (_last_sums(moves, period) for moves in _moves(values))
    return np.where(up + down == 0.0, 0.0, 100.0 * (up - down) / (up + down)), period - 1


_FUNCTIONS = {
    "exponential_moving_average": _ema,
    "double_exponential_moving_average": _dema,
    "triple_exponential_moving_average": _tema,
    "triple_exponential_derivative": _trix,
    "relative_strength_index": _rsi,
    "kaufmans_efficiency_ratio": _efficiency,
    "kaufmans_adaptive_moving_average": _adaptive,
    "chande_momentum_oscillator": _momentum,
}


def holt_winters(call: Call, stream: Stream, query: Query) -> Stream:
    """Forecast (and with ``_with_fit`` also fitted) values, one a window; options are their number and the season."""
    horizon, season = int(call.options[0]), int(call.options[1])
    width_ns = query.windows.width_ns if query.windows is not None else 1
    starts = starts_of(stream.groups).tolist()
    groups, times, values = [], [], []
    for start, stop in zip(starts, [*starts[1:], len(stream)], strict=True):
        fitted = _fit(stream, start, stop, horizon, season, width_ns)
        if fitted is None:
            continue
        if call.name == "holt_winters":
            fitted = fitted[len(fitted) - horizon :]
            at = stream.times[stop - 1] + width_ns * np.arange(1, horizon + 1)
        else:
            at = stream.times[start] + width_ns * np.arange(len(fitted))
        kept = ~np.isnan(fitted)
        groups.append(np.full(int(kept.sum()), stream.groups[start], np.int64))
        times.append(at[kept])
        values.append(fitted[kept])
    if not groups:
        empty = np.zeros(0, np.int64)
        return Stream(empty, empty, Vector(FieldType.FLOAT, np.zeros(0)))
    return Stream(np.concatenate(groups), np.concatenate(times), Vector(FieldType.FLOAT, np.concatenate(values)))


def _fit(stream: Stream, start: int, stop: int, horizon: int, season: int, width_ns: int) -> Floats | None:
    count = stop - start
    if count < 2 or (season >= 2 and count < season):
        return None
    buckets = np.floor_divide(stream.times[start:stop] + width_ns // 2, width_ns)
    places = np.abs(buckets - buckets[0])
    length = int(places.max()) + 1
    if length < 2 or length + horizon > MAX_FORECAST_VALUES:
        return None
    series = np.full(length, np.nan)
    # Of values in one window the first counts.
    series[places[::-1]] = stream.values.values[start:stop][::-1].astype(np.float64)
    with np.errstate(all="ignore"):
        result: Floats = forecast(series, horizon, season)
    return result
