"""The event sensor: every pixel compares the logarithm of its light with the level it remembers.

The pixel model is that of a DVS (Lichtsteiner et al., JSSC 2008) with the imperfections that v2e (Hu et al., CVPR
Workshops 2021) lists: thresholds that differ from pixel to pixel and between on and off, a photoreceptor whose
bandwidth falls with the light, dead time after an event, leak, noise, and hot pixels, which leak most.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from rtpipe.kernels import kernel
from rtpipe.types import Array, Events, Resolution


class SensorSettings(msgspec.Struct, frozen=True):
    """What kind of event sensor. The defaults are those of a DAVIS346 by daylight; zeros switch a fault off."""

    contrast_on: float = 0.27
    """Mean threshold for on events, in natural log of light."""
    contrast_off: float = 0.31
    """Mean threshold for off events."""
    contrast_spread: float = 0.12
    """Standard deviation of each pixel's thresholds, as a share of the mean."""
    dark: float = 0.03
    """Light that the photoreceptor sees in the dark, as a share of white: the log's argument is light + dark."""
    bandwidth_hz: float = 1500.0
    """Cut-off of the photoreceptor at white; a tenth of it in the dark. 0: unlimited."""
    refractory_us: float = 50.0
    """How long a pixel is held in reset after an event."""
    leak_hz: float = 0.1
    """On events per second that a pixel at rest sends because its memory leaks."""
    noise_hz: float = 0.5
    """Random events per second and pixel in the dark; a quarter of it at white."""
    hot_share: float = 1e-4
    """Share of pixels that are hot: they leak a few hundred events per second."""


class Sensor:
    """Light in, events out. Deterministic: the same settings, seed and light give the same events.

    ``contrast_on``, ``contrast_off``: float32 (H, W), the true thresholds of each pixel. One thread at a time.
    """

    def __init__(self, resolution: Resolution, settings: SensorSettings | None = None, seed: int = 0) -> None:
        self.settings = settings or SensorSettings()
        width, height = self.resolution = resolution
        shape = (height, width)
        random = np.random.default_rng(np.random.SeedSequence([seed, 2]))
        chosen = self.settings
        self.contrast_on = _spread(chosen.contrast_on, chosen.contrast_spread, random.standard_normal(shape))
        self.contrast_off = _spread(chosen.contrast_off, chosen.contrast_spread, random.standard_normal(shape))
        leak = chosen.leak_hz * np.exp(0.5 * random.standard_normal(shape))
        hot = random.random(shape) < chosen.hot_share
        leak[hot] = random.uniform(100, 800, int(hot.sum()))
        self._leak = (leak * 1e-6 * self.contrast_on).astype(np.float32)  # log units per µs
        # at power-on a pixel remembers any level that its present light does not contradict
        start = random.random(shape)
        self._difference = start * (self.contrast_on + self.contrast_off) - self.contrast_off
        self._dead_until = np.full(shape, -math.inf)
        self._random = random.integers(1, 2**63, shape, dtype=np.uint64)
        self._noise_at = np.full(shape, math.inf)
        if chosen.noise_hz > 0:
            self._noise_at = random.exponential(1e6 / chosen.noise_hz, shape)
        self._receptor = _Photoreceptor(chosen)
        self._t: int | None = None
        self._columns = _columns(1 << 16)

    def forget(self) -> None:
        """Every pixel remembers the light it saw last, exactly."""
        self._difference[:] = 0

    def observe(self, light: Array, t: int) -> Events:
        """The events between the last call's instant and ``t`` µs, in order of time.

        ``light`` float32 (H, W), 1 is white; its logarithm is taken as linear in time between two calls. The first call
        gives the scene at the start and returns no events. ``t`` may grow by at most 65 ms a call.
        """
        if light.shape != self._difference.shape or light.dtype != np.float32:
            raise ValueError(f"light: float32 {self._difference.shape} wanted, got {light.dtype} {light.shape}")
        if self._t is None:
            self._receptor.start(light)
            self._noise_at += t
            self._t = t
            return Events.empty()
        if not 0 < t - self._t < 1 << 16:
            raise ValueError(f"t: must grow by 1 to 65535 µs, got {t - self._t}")
        change = self._receptor.follow(light, t - self._t)
        count, pixel = 0, 0
        while pixel < light.size:
            count, pixel = self._run(light, change, self._t, t, count, pixel)
            if pixel < light.size:
                delay, index, polarity = (np.concatenate([c, np.empty_like(c)]) for c in self._columns)
                self._columns = delay, index, polarity
        delay, index, polarity = (column[:count] for column in self._columns)
        order = np.argsort(delay, kind="stable")
        y, x = np.divmod(index[order], np.uint32(light.shape[1]))
        events = Events(
            self._t + delay[order].astype(np.int64), x.astype(np.uint16), y.astype(np.uint16), polarity[order]
        )
        self._t = t
        return events

    def _run(self, light: Array, change: Array, t0: int, t1: int, count: int, pixel: int) -> tuple[int, int]:
        delay, index, polarity = self._columns
        result: tuple[int, int] = _observe(
            light.ravel(),
            change.ravel(),
            self._difference.ravel(),
            self._dead_until.ravel(),
            self.contrast_on.ravel(),
            self.contrast_off.ravel(),
            self._leak.ravel(),
            self._noise_at.ravel(),
            self._random.ravel(),
            t0,
            t1,
            self.settings.refractory_us,
            self.settings.noise_hz,
            delay,
            index,
            polarity,
            count,
            pixel,
        )
        return result


class _Photoreceptor:
    """The front of a pixel: the logarithm of its light, followed with limited bandwidth."""

    def __init__(self, settings: SensorSettings) -> None:
        self._dark = np.float32(settings.dark)
        self._rate = 2 * math.pi * settings.bandwidth_hz * 1e-6  # at white, 1 / µs

    def start(self, light: Array) -> None:
        self._input: Array = np.log(light + self._dark)
        self._output = self._input

    def follow(self, light: Array, span: int) -> Array:
        """How far the output moves in the next ``span`` µs, float32 (H, W), while the input goes straight to
        ``light``'s logarithm."""
        now: Array = np.log(light + self._dark)
        after = now
        if self._rate > 0:  # first-order low-pass, exact for an input that is linear over the step
            constants = np.minimum(light, 1)
            constants *= np.float32(0.9 * self._rate * span)
            constants += np.float32(0.1 * self._rate * span)
            lag = (now - self._input) / constants
            after = self._output - self._input
            after += lag
            after *= np.exp(-constants)
            after += now
            after -= lag
        change: Array = after - self._output
        self._input, self._output = now, after
        return change


_MOST = 4096
"""Events that one pixel may send in one step; the bus would not carry more."""


def _columns(room: int) -> tuple[Array, Array, Array]:
    return np.empty(room, np.uint16), np.empty(room, np.uint32), np.empty(room, np.uint8)


def _spread(mean: float, share: float, normal: Array) -> Array:
    """Thresholds about ``mean``; none below a quarter of it, where a pixel would never be still."""
    return np.maximum(mean * (1 + share * normal), mean / 4).astype(np.float32)


@kernel(inline="always")
def _uniform(state: Array, i: int) -> float:
    """The next number in (0, 1] of pixel ``i``'s own generator (xorshift64)."""
    s = state[i]
    s ^= s << np.uint64(13)
    s ^= s >> np.uint64(7)
    s ^= s << np.uint64(17)
    state[i] = s
    return (np.float64(s >> np.uint64(11)) + 1.0) / 9007199254740992.0


@kernel()
def _observe(
    light: Array,
    change: Array,
    difference: Array,
    dead_until: Array,
    contrast_on: Array,
    contrast_off: Array,
    leak: Array,
    noise_at: Array,
    state: Array,
    t0: int,
    t1: int,
    refractory: float,
    noise_hz: float,
    delay: Array,
    index: Array,
    polarity: Array,
    count: int,
    pixel: int,
) -> tuple[int, int]:
    """One step for the pixels from ``pixel`` on; stops early where the columns might not hold one more pixel's events.
    Returns the events written and the first pixel not done."""
    span = np.float64(t1 - t0)
    for i in range(pixel, light.size):
        if count + _MOST > delay.size:
            return count, i
        slope = change[i] / span + leak[i]
        d = difference[i]
        end = d + slope * span
        if (  # most pixels, most of the time
            end < contrast_on[i] and end > -contrast_off[i] and dead_until[i] <= t0 and noise_at[i] > t1
        ):
            difference[i] = end
            continue
        at = 0.0
        sent = 0
        while True:
            held = dead_until[i] - t0
            if held > at:  # held in reset: the pixel remembers the light at the end of the hold
                d = 0.0
                if held >= span:
                    break
                at = held
            crossing = np.inf
            if slope > 0:
                crossing = at + max(contrast_on[i] - d, 0.0) / slope
            elif slope < 0:
                crossing = at + min(-contrast_off[i] - d, 0.0) / slope
            noise = max(noise_at[i] - t0, at)
            first = min(crossing, noise)
            if first > span:
                d += slope * (span - at)
                break
            on = slope > 0
            if noise < crossing:
                on = _uniform(state, i) < 0.5
                noise_at[i] = t0 + noise - np.log(_uniform(state, i)) * 1e6 / noise_hz
                if _uniform(state, i) < 0.75 * min(np.float32(1), light[i]):  # less noise where there is light
                    d += slope * (first - at)
                    at = first
                    continue
            at = first
            d = 0.0
            if sent == _MOST:
                break
            delay[count] = np.uint16(at)
            index[count] = i
            polarity[count] = on
            count += 1
            sent += 1
            dead_until[i] = t0 + at + refractory
        difference[i] = d
    return count, light.size
