"""What a file in the events_contrast_maximization layout does not say and its data proves: unit of time, order of the
resolution, encoding of polarity. What they do not prove is refused, with the option that settles it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rtpipe.errors import FormatError
from rtpipe.kernels import kernel
from rtpipe.types import Array, Resolution

UNITS = {"s": 1_000_000.0, "ms": 1_000.0, "us": 1.0, "ns": 0.001}
"""Microseconds per unit of time."""
NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}

WEEK_S = 7 * 24 * 3600
FASTEST_PER_US = 1000.0
"""Events per µs that no sensor reaches (the fastest readouts deliver a few)."""


@dataclass(frozen=True, slots=True)
class Times:
    """What is known of a file's times, in its own unit: ``sample`` of the stamps, ``span`` of the whole file,
    ``n_events`` in it, ``frame_period`` between pictures or None."""

    sample: Array
    span: float
    n_events: int
    frame_period: float | None = None


def time_unit(times: Times) -> tuple[str, str]:
    """The unit, ``"s"`` or ``"us"``, and why. Raises ``FormatError`` (without the file's name) where both are possible
    or neither is.

    Seconds are ruled out by stamps that are all whole numbers, by more than a week, by pictures more than 1000 s
    apart; microseconds by less than a millisecond in all, by more events than any sensor sends, by pictures less than
    10 µs apart.
    """
    integers = times.sample.dtype.kind in "iu"
    whole = integers or bool(np.all(times.sample == np.rint(times.sample)))
    many = len(np.unique(times.sample)) >= 10
    against_seconds, against_us = "", ""
    if whole and (many or integers):
        against_seconds = "the stamps are whole numbers"
    elif times.span > WEEK_S:
        against_seconds = f"they span {times.span:g}"
    elif times.frame_period is not None and times.frame_period > 1000:
        against_seconds = f"pictures are {times.frame_period:g} apart"
    if times.n_events > FASTEST_PER_US * (times.span + 1):
        against_us = f"{times.n_events} events span {times.span:g}"
    elif times.frame_period is not None and times.frame_period < 10:
        against_us = f"pictures are {times.frame_period:g} apart"
    elif not whole and times.span < 1000:
        against_us = f"the stamps have fractions and span {times.span:g}"
    if bool(against_seconds) == bool(against_us):
        problem = "can be seconds as well as microseconds" if not against_us else "fit neither seconds nor microseconds"
        raise FormatError(f"times (span {times.span:g}) {problem}; say which with the option time_unit (s, ms, us, ns)")
    return ("us", against_seconds) if against_seconds else ("s", against_us)


def resolution(
    stated: tuple[int, int] | None, image: Resolution | None, largest: tuple[int, int] | None
) -> tuple[Resolution, str]:
    """The sensor's ``(width, height)`` and how it is known.

    ``stated`` is the file's ``sensor_resolution`` in whatever order, ``image`` the size of its pictures, ``largest``
    the largest x and y among the events, needed only where there are no pictures. Raises ``FormatError`` (without the
    file's name) where that proves nothing.
    """
    option = "say it with the option resolution (width, height)"
    if image is not None:
        if stated is None:
            return image, "resolution: from the pictures"
        if stated == image:
            return image, ""
        if stated == image[::-1]:
            return image, "sensor_resolution is (height, width): the pictures prove it"
        raise FormatError(f"sensor_resolution {stated} is not the size of the pictures, {image}; {option}")
    if stated is None:
        seen = f"; the largest coordinates are {largest}" if largest else ""
        raise FormatError(f"no pictures and no sensor_resolution{seen}: {option}")
    if stated[0] == stated[1]:
        return stated, ""
    fits = [r for r in (stated, stated[::-1]) if largest is None or (largest[0] < r[0] and largest[1] < r[1])]
    if len(fits) == 1:
        order = "(width, height)" if fits[0] == stated else "(height, width)"
        return fits[0], f"sensor_resolution is {order}: the largest coordinates {largest} prove it"
    if not fits:
        raise FormatError(f"events reach {largest}, off a sensor of {stated} whichever way it is turned; {option}")
    raise FormatError(f"sensor_resolution {stated} can be (width, height) as well as (height, width); {option}")


def polarity(values: Array, off: int | None) -> tuple[Array, int | None]:
    """Polarities as uint8 0/1, and which number means off (0 or -1) as far as known, ``off`` being what was known
    before. Raises ``FormatError`` (without the file's name)."""
    if values.dtype == np.bool_:
        return values.view(np.uint8), 0
    on = np.empty(values.size, np.uint8)
    known, zero, minus = _told_apart(np.ascontiguousarray(values, values.dtype.newbyteorder("=")), on)
    if known != values.size:
        odd = values[~((values == 1) | (values == 0) | (values == -1))][0]
        raise FormatError(f"polarity {odd}; 0 and 1 or -1 and 1 wanted")
    if (zero or off == 0) and (minus or off == -1):
        raise FormatError("polarities 0 and -1 in one file: which of them is off?")
    return on, 0 if zero else -1 if minus else off


@kernel()
def _told_apart(values: Array, on: Array) -> tuple[int, int, int]:
    ones = zeros = minuses = 0
    for i in range(values.size):
        one = values[i] == 1
        on[i] = one
        ones += one
        zeros += values[i] == 0
        minuses += values[i] == -1
    return ones + zeros + minuses, zeros, minuses


@kernel()
def _scaled(values: Array, scale: float, t: Array) -> int:
    bad = -1
    for i in range(values.size - 1, -1, -1):
        scaled = values[i] * scale
        if abs(scaled) < 2305843009213693952.0:  # 2**61; false for NaN
            t[i] = np.int64(np.rint(scaled))
        else:
            bad = i
    return bad


def microseconds(values: Array, scale: float) -> tuple[Array, int]:
    """Times as int64 µs, ``scale`` µs per unit, rounded to the nearest; and the index of the first that is no time
    (NaN, infinite, beyond 2**61), -1 where all are. Whole numbers in a whole unit stay exact."""
    if values.dtype.kind in "iu" and scale >= 1:
        factor = int(scale)
        beyond = (values < -(2**61) // factor) | (values > 2**61 // factor)
        return values.astype(np.int64) * factor, int(np.argmax(beyond)) if beyond.any() else -1
    t = np.empty(len(values), np.int64)
    return t, int(_scaled(values.astype(np.float64, copy=False), scale, t))
