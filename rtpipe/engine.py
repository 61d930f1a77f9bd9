"""The engine stage: windows in, pictures out, whatever the engine; and how an engine is found by name."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from rtpipe import registry
from rtpipe.errors import InputError
from rtpipe.ledger import Flow
from rtpipe.stage import Engine
from rtpipe.types import Frame, FrameFlag, Packet, StreamInfo, Window

LOG = logging.getLogger(__name__)

OUTPUT = "engine/output"
"""The stream of an engine's pictures."""

WINDOW = "window"
"""The last part of the name of a stream of windows (``"engine/window"``)."""

FAILED = "engine error"
"""The reason under which a window is counted that the engine could not take."""


def load_engine(name: str, **settings: Any) -> Engine:
    """The engine ``name`` (an entry point of ``rtpipe.engines``), made with ``settings``.

    Raises ``InputError`` that lists what is allowed, for a name or a setting that does not exist, and for a value of
    the wrong type or out of bounds. Compiles nothing: call the engine's ``warm``.
    """
    module = registry.load("engines", name)
    allowed = [field.name for field in msgspec.structs.fields(module.Settings)]
    unknown = sorted(set(settings) - set(allowed))
    if unknown:
        raise InputError(f"engine {name!r} has no setting {', '.join(unknown)}; allowed: {', '.join(allowed)}")
    try:
        made = msgspec.convert(settings, module.Settings)
    except msgspec.ValidationError as error:
        raise InputError(f"engine {name!r}: {error}") from error
    engine: Engine = module.Engine(made)
    return engine


def _is_window(stream: str) -> bool:
    return stream.rsplit("/", 1)[-1] == WINDOW


def passed_through(frame: Frame, flags: FrameFlag = FrameFlag.NONE) -> Frame:
    """The camera's picture as it came, copied out of the window's buffers and flagged."""
    return replace(frame, image=np.array(frame.image), flags=frame.flags | flags | FrameFlag.PASSED_THROUGH)


class EngineStage:
    """An :class:`~rtpipe.stage.Engine` as a stage.

    Takes packets of windows (stream ``".../window"``) and emits frames on ``"engine/output"``; packets of every other
    stream pass unchanged. When a packet's epoch differs from the last one's the engine is reset, and the next frame is
    flagged ``STATE_RESET``, as is the very first. A window on which the engine fails is counted under
    ``"engine error"`` and its camera frame, if any, goes out flagged ``PASSED_THROUGH``; the stage lives on.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.last_error = ""
        """What the engine last failed of, in words; empty if it never did."""
        self._windows = Flow()
        self._untouched = 0
        self._seq = 0
        self._epoch: int | None = None
        self._t_last: int | None = None
        self._fresh = True

    @property
    def flows(self) -> Mapping[str, Flow]:
        """``"windows"``: taken = passed (inferred, whether or not a frame was ready) + dropped."""
        return {"windows": self._windows}

    @property
    def facts(self) -> Mapping[str, str]:
        """What the run's status says of the engine: its own ``facts``, if it has any, how many pictures it could do
        nothing for, and what it last failed of."""
        said: dict[str, str] = dict(getattr(self.engine, "facts", {}))
        if self._untouched:
            said["passed through"] = f"{self._untouched} of {self._windows.taken} (no events, or no known exposure)"
        if self.last_error:
            said["engine error"] = self.last_error
        return said

    def open(self, streams: Sequence[StreamInfo]) -> Sequence[StreamInfo]:
        """Compile and warm the engine at the windows' resolution. Blocks for seconds the first time.

        Raises ``InputError`` where there is no stream of windows or its resolution is unknown.
        """
        emitted: list[StreamInfo] = []
        found = False
        for stream in streams:
            if not _is_window(stream.name):
                emitted.append(stream)
                continue
            if found or stream.resolution is None:
                what = "two streams of windows" if found else f"{stream.name} without a resolution"
                raise InputError(f"engine {self.engine.spec.name!r} was given {what}; it takes one, of a known size")
            found = True
            self.engine.warm(stream.resolution)
            emitted.append(StreamInfo(OUTPUT, stream.resolution, stream.camera))
        if not found:
            names = ", ".join(stream.name for stream in streams) or "nothing"
            raise InputError(f"engine {self.engine.spec.name!r} needs a stream of windows; it was given {names}")
        self.engine.reset()
        return emitted

    def process(self, packet: Packet) -> Sequence[Packet]:
        """The frames that are ready because of this packet, or the packet itself where it is not for the engine."""
        if not _is_window(packet.stream):
            return (packet,)
        if packet.epoch != self._epoch:
            if self._epoch is not None:
                self.engine.reset()
            self._epoch, self._fresh, self._t_last = packet.epoch, True, None
        window = packet.body
        if not isinstance(window, Window):
            return (self._emit(packet, packet.t_last, None, packet.end),)
        frames = self._infer(window)
        emitted = [self._emit(packet, frame.t, frame, False) for frame in frames]
        if packet.end:
            emitted.append(self._emit(packet, packet.t_last, None, True))
        return emitted

    def close(self) -> Sequence[Packet]:
        """Nothing is kept inside."""
        return ()

    def _infer(self, window: Window) -> Sequence[Frame]:
        self._windows.taken += 1
        try:
            frames = self.engine.infer(window)
            self._windows.passed += 1
        except Exception as error:  # one bad window must not end a run: it is counted, said once, and shown as it came
            self._windows.drop(FAILED)
            said = f"{type(error).__name__}: {error}"
            if said != self.last_error:
                LOG.warning("engine %s failed on a window: %s", self.engine.spec.name, said)
            self.last_error = said
            frames = () if window.frame is None else (passed_through(window.frame, window.flags),)
        self._untouched += any(frame.flags & FrameFlag.PASSED_THROUGH for frame in frames)
        return frames

    def _emit(self, packet: Packet, t: int, frame: Frame | None, end: bool) -> Packet:
        if frame is not None and self._fresh:
            frame = replace(frame, flags=frame.flags | FrameFlag.STATE_RESET)
            self._fresh = False
        t = t if self._t_last is None else max(t, self._t_last)
        self._t_last = t
        made = Packet(OUTPUT, self._seq, t, t, packet.received_ns, frame, packet.epoch, end)
        self._seq += 1
        return made
