"""A camera that is none, at any rate: for measuring what a machine keeps up with (``rtpipe bench camera``).

What it sends was made in advance and is handed over when its time has come, through the neuromorphic-drivers back end's
own device: an EVK4's EVT3 bytes in transfers of 128 KiB, or a DVXplorer's packets, calm and in bursts. Who reads too
slowly loses transfers, as in the SDK's ring. It is told what to be by the environment, and is otherwise not there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np

from drivers.backends import neuromorphic
from drivers.backends import neuromorphic_settings as typed
from drivers.camera.contract import Attached, Device
from drivers.camera.raw_stream import RawStream
from drivers.camera.settings import Camera
from rtpipe.encodings.evt3 import Encoder
from rtpipe.errors import WorldError
from rtpipe.types import Array, Events, Resolution

NAME = "load"
TITLE = "A camera that is none, for load tests"
MODELS = ("EVK4", "DVXplorer")
INSTALL = neuromorphic.INSTALL
VARIABLE = "RTPIPE_BENCH_CAMERA"

TRANSFER = 1 << 17
STEP_US = 4096
MOST_EVENTS = 2_000_000
"""Made in advance, played again and again."""
PACKET_US, PERIOD_US = 1000, 1_000_000
BURST_US, CALM_MEV_S = 100_000, 5.0
"""A DVXplorer's bursts: so long in each second; its rate between them."""
POLARITY = np.dtype([("t", "<u8"), ("x", "<u2"), ("y", "<u2"), ("on", "?")])


class Told(msgspec.Struct, frozen=True):
    """What to be: ``model``, ``mev_s`` (of an EVK4 all the time, of a DVXplorer in its bursts); ``log``: a file that
    says what was made, once the camera is closed."""

    model: str
    mev_s: float
    log: str


class Made(msgspec.Struct, frozen=True):
    """What was handed over, and what was not because nobody read."""

    transfers: int
    events: int
    lost_transfers: int
    lost_events: int


def why_not() -> str:
    """It needs the SDK's data classes."""
    return neuromorphic.why_not() or ("" if VARIABLE in os.environ else "only for rtpipe bench camera")


def attached() -> Sequence[Attached]:
    """The one that the environment tells of."""
    if VARIABLE not in os.environ:
        return []
    kind = typed.kind_of(_told().model)
    return [Attached(NAME, kind.model, "0", kind.resolution, "memory", streams=kind.streams)]


def open(camera: Attached, settings: Camera) -> Device:
    """Makes what it will send, then begins."""
    import neuromorphic_drivers as sdk

    told, kind = _told(), typed.kind_of(camera.model)
    stream = RawStream(kind.encoding, kind.resolution, raw=settings.raw) if kind.encoding else None
    if stream is not None:
        stream.warm()
    source = _Bytes(told.mev_s, kind.resolution) if stream is not None else _Bursts(told.mev_s, kind.resolution)
    played = _Played(source, kind, sdk, told.log)
    return neuromorphic.Device(played, sdk, kind, settings, typed.configuration(kind, sdk, settings), stream)


def _told() -> Told:
    try:
        return msgspec.json.decode(os.environ[VARIABLE], type=Told)
    except (KeyError, msgspec.MsgspecError) as error:
        raise WorldError(f"{VARIABLE} does not say what camera to be") from error


def synthetic(n: int, span_us: int, resolution: Resolution, seed: int = 0) -> Events:
    """``n`` events in ``span_us``: edges that cross the sensor, two or three neighbours of a row at a time (some 2.7
    bytes each as EVT3, as in a real street)."""
    random = np.random.default_rng(seed)
    width, height = resolution
    t = np.arange(n, dtype=np.int64) * span_us // n
    run = np.arange(n) // 3
    x = (random.integers(0, width - 8, run[-1] + 1)[run] + np.arange(n) % 3 * 2).astype(np.uint16)
    y = random.integers(0, height, run[-1] + 1)[run].astype(np.uint16)
    return Events(t, x, y, (random.integers(0, 2, run[-1] + 1)[run]).astype(np.uint8))


class _Bytes:
    """An EVK4's: whole steps of the high time, whose words are rewritten in every lap."""

    def __init__(self, mev_s: float, resolution: Resolution) -> None:
        steps = max(1, min(16, int(MOST_EVENTS / (mev_s * STEP_US))))
        self.span_us, n = steps * STEP_US, max(1, round(mev_s * steps * STEP_US))
        self._data = Encoder().encode(synthetic(n, self.span_us, resolution)).copy()
        words = self._data.view("<u2")
        self._highs = np.flatnonzero(words >> 12 == 8)
        self._steps = (words[self._highs] & 0xFFF).astype(np.int64)
        self.pieces = -(-len(self._data) // TRANSFER)
        self._events = n / self.pieces
        self._lap, self._now = -1, self._data

    def events(self, transfers: int) -> int:
        """In so many transfers, on average."""
        return round(transfers * self._events)

    def due_us(self, number: int) -> float:
        """When transfer ``number`` is complete."""
        return (number + 1) * self.span_us / self.pieces

    def take(self, number: int) -> Array:
        """Its bytes."""
        lap, piece = divmod(number, self.pieces)
        if lap != self._lap:
            self._lap, self._now = lap, self._data.copy()
            self._now.view("<u2")[self._highs] = 0x8000 | (self._steps + lap * self.span_us // STEP_US & 0xFFF)
        return self._now[piece * TRANSFER : (piece + 1) * TRANSFER]


class _Bursts:
    """A DVXplorer's packets of a millisecond."""

    def __init__(self, mev_s: float, resolution: Resolution) -> None:
        self._kinds = [self._packet(rate, resolution) for rate in (CALM_MEV_S, mev_s)]

    def _packet(self, mev_s: float, resolution: Resolution) -> Array:
        events = synthetic(max(1, round(mev_s * PACKET_US)), PACKET_US, resolution)
        made = np.empty(len(events), POLARITY)
        made["t"], made["x"], made["y"], made["on"] = events.t.astype(np.uint64), events.x, events.y, events.p
        return made

    def _of(self, number: int) -> Array:
        return self._kinds[number * PACKET_US % PERIOD_US >= PERIOD_US - BURST_US]

    def events(self, transfers: int) -> int:
        """In the first so many transfers."""
        period = PERIOD_US // PACKET_US
        laps, rest = divmod(transfers, period)
        whole = sum(len(self._of(i)) for i in range(period))
        return laps * whole + sum(len(self._of(i)) for i in range(rest))

    def due_us(self, number: int) -> float:
        """When transfer ``number`` is complete."""
        return float((number + 1) * PACKET_US)

    def take(self, number: int) -> Any:
        """The SDK's packet."""
        events = self._of(number).copy()
        events["t"] += np.uint64(number * PACKET_US)
        nothing: dict[str, None] = dict.fromkeys(("imu_events", "trigger_events"))
        overflow = {f"{name}_overflow_indices": None for name in ("polarity_events", *nothing)}
        return SimpleNamespace(polarity_events=events, **nothing, **overflow)


class _Played:
    """Stands where the SDK's device would. Its ring holds what the back end asks the SDK's to hold."""

    def __init__(self, source: _Bytes | _Bursts, kind: typed.Kind, sdk: Any, log: str) -> None:
        self._source, self._module, self._log = source, getattr(sdk, kind.module), log
        self._next = self._lost = self._read = 0
        self._lost_events = 0
        self._began = time.monotonic()

    def __next__(self) -> tuple[Any, Any]:
        due = self._began + self._source.due_us(self._next) / 1e6
        wait = due - time.monotonic()
        if wait > 0:
            time.sleep(min(wait, neuromorphic.NEXT_S))
            if wait > neuromorphic.NEXT_S:
                return SimpleNamespace(system_time=time.time(), ring=None), None
        per_transfer = self._source.due_us(self._next + 1) - self._source.due_us(self._next)
        backlog = int((time.monotonic() - self._began - (due - self._began)) * 1e6 / per_transfer)
        gap = backlog > neuromorphic.RING_LENGTH
        if gap:
            missed = backlog - neuromorphic.RING_LENGTH
            self._lost_events += self._source.events(self._next + missed) - self._source.events(self._next)
            self._lost += missed
            self._next += missed
            backlog = neuromorphic.RING_LENGTH
        packet = self._source.take(self._next)
        self._next += 1
        self._read += 1
        now = time.time()
        arrived = now - max(0.0, time.monotonic() - self._began - self._source.due_us(self._next - 1) / 1e6)
        ring = SimpleNamespace(
            system_time=arrived, backlog=backlog, dropped_packets=self._lost, overflow_indices=[0] if gap else [],
            current_t=int(self._source.due_us(self._next - 1)),
        )  # fmt: skip
        return SimpleNamespace(system_time=now, ring=ring), packet

    def close(self) -> None:
        """Says what was made."""
        events = self._source.events(self._next) - self._lost_events
        Path(self._log).write_bytes(msgspec.json.encode(Made(self._read, events, self._lost, self._lost_events)))

    def biases_bounds(self) -> Any:
        """None that matter."""
        return self._module.BiasesBounds()

    def properties(self) -> Any:
        """The sensor's."""
        return self._module.Properties()

    def connection(self) -> Any:
        """No cable."""
        return SimpleNamespace(value="memory")

    def serial(self) -> str:
        """There is one."""
        return "0"

    def update_configuration(self, configuration: Any) -> None:
        """Nothing to be set."""
