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
from rtpipe.load import Patience
from rtpipe.stage import Engine
from rtpipe.types import Frame, FrameFlag, Packet, StreamInfo, Window

LOG = logging.getLogger(__name__)

OUTPUT = "engine/output"
"""The stream of an engine's pictures."""

WINDOW = "window"
"""The last part of the name of a stream of windows (``"engine/window"``)."""

FAILED = "engine error"
"""The reason under which a window is counted that the engine could not take."""

SKIPPED = "skipped"
"""The reason under which a window is counted that had waited too long."""


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

    Without ``patience`` every window is inferred, however late. With it, a window that waited too long is skipped:
    counted, a watermark in place of its picture, and the engine's next picture flagged ``SKIPPED_BEFORE``; the engine
    is told (``skipped(window)``, where it has that) and may reset itself. With a ``fallback`` nothing is skipped: that
    engine makes the picture. One that carries state sees every window, so that it is ready.
    """

    def __init__(self, engine: Engine, patience: Patience | None = None, fallback: Engine | None = None) -> None:
        self.engine, self.fallback = engine, fallback
        self._patience = patience or Patience(False)
        self._follows = fallback is not None and fallback.spec.stateful
        self._stood_in = 0
        self._gap = False
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
        """What the run's status says of the engine: its own ``facts``, if it has any, how many windows were too late
        for it, how many pictures it could do nothing for, and what it last failed of."""
        said: dict[str, str] = dict(getattr(self.engine, "facts", {}))
        taken, skipped = self._windows.taken, self._windows.dropped.get(SKIPPED, 0)
        if skipped:
            said["skipped"] = f"{skipped} of {taken} (waited over {self._patience.budget_ms:.0f} ms)"
        if self._stood_in and self.fallback is not None:
            said["late"] = f"{self._stood_in} of {taken}, made by {self.fallback.spec.name}"
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
            for engine in self._engines:
                engine.warm(stream.resolution)
            emitted.append(StreamInfo(OUTPUT, stream.resolution, stream.camera))
        if not found:
            names = ", ".join(stream.name for stream in streams) or "nothing"
            raise InputError(f"engine {self.engine.spec.name!r} needs a stream of windows; it was given {names}")
        self._reset()
        return emitted

    def process(self, packet: Packet) -> Sequence[Packet]:
        """The frames that are ready because of this packet, or the packet itself where it is not for the engine."""
        if not _is_window(packet.stream):
            return (packet,)
        if packet.epoch != self._epoch:
            if self._epoch is not None:
                self._reset()
            self._epoch, self._fresh, self._t_last = packet.epoch, True, None
        window = packet.body
        if not isinstance(window, Window):
            return (self._emit(packet, packet.t_last, None, packet.end),)
        late = self._patience.late(packet, window)
        frames = self._late(window) if late else self._in_time(window)
        emitted = [self._emit(packet, frame.t, frame, False) for frame in frames]
        if late and not frames:  # said at once: who shows pictures side by side does not wait for this one
            emitted.append(self._emit(packet, window.t_start if window.frame is None else window.frame.t, None, False))
        if packet.end:
            emitted.append(self._emit(packet, packet.t_last, None, True))
        return emitted

    def close(self) -> Sequence[Packet]:
        """Nothing is kept inside."""
        return ()

    @property
    def _engines(self) -> Sequence[Engine]:
        return (self.engine,) if self.fallback is None else (self.engine, self.fallback)

    def _reset(self) -> None:
        self._gap = False
        for engine in self._engines:
            engine.reset()

    def _in_time(self, window: Window) -> Sequence[Frame]:
        if self._follows and self.fallback is not None:
            self._infer(self.fallback, window, Flow())
        frames = self._infer(self.engine, window, self._windows)
        if self._gap and frames:
            frames = [replace(frames[0], flags=frames[0].flags | FrameFlag.SKIPPED_BEFORE), *frames[1:]]
            self._gap = False
        return frames

    def _late(self, window: Window) -> Sequence[Frame]:
        told = getattr(self.engine, "skipped", None)
        if told is not None:
            told(window)
        if self.fallback is not None:
            self._stood_in += 1
            return self._infer(self.fallback, window, self._windows)
        self._windows.taken += 1
        self._windows.drop(SKIPPED)
        self._gap = True
        return ()

    def _infer(self, engine: Engine, window: Window, windows: Flow) -> Sequence[Frame]:
        windows.taken += 1
        try:
            frames = engine.infer(window)
            windows.passed += 1
        except Exception as error:  # one bad window must not end a run: it is counted, said once, and shown as it came
            windows.drop(FAILED)
            said = f"{type(error).__name__}: {error}"
            if said != self.last_error:
                LOG.warning("engine %s failed on a window: %s", engine.spec.name, said)
            self.last_error = said
            frames = () if window.frame is None else (passed_through(window.frame, window.flags),)
        self._untouched += windows is self._windows and any(f.flags & FrameFlag.PASSED_THROUGH for f in frames)
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
