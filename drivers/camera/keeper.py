"""The thread in which a camera is looked for, opened, read and let go: whatever an SDK does, the pipeline goes on.

An SDK's call may block, raise what it likes, or never return. It is made here alone; the driver sees batches, states
and words. A call that is overdue is given up with its thread (nothing can end it): another thread looks for the camera,
and what the lost one brings later is thrown away, its device closed as soon as it comes back.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

from drivers.camera.choose import Chosen, NoneAttachedError, again
from drivers.camera.contract import Attached, Capability, Device, GoneError
from drivers.camera.inbox import Inbox
from drivers.camera.settings import Camera
from rtpipe.errors import InputError, RtpipeError, WorldError

READ_S = 0.01
"""How long one read waits at most: so soon a change of settings reaches the device."""
LOOK_S = 0.25
"""How often a camera that is gone is looked for."""
OVERDUE_S = {"read": 1.5, "apply": 2.0, "open": 15.0, "close": 3.0, "look": 5.0}
"""After so long a call will not return: its thread is given up. Opening a camera may load its firmware."""

ASKED_S = 0.1
"""Whoever asks whether a call is overdue asks at least so often, or does not run."""

State = Literal["looking", "streaming", "gone", "failed", "ended"]


@dataclass(frozen=True)
class Known:
    """An open device, as it says it is."""

    chosen: Chosen
    attached: Attached
    kinds: tuple[str, ...]
    encoding: str
    capabilities: tuple[Capability, ...]


@dataclass
class _Change:
    """Settings that the device is to be brought to, and what became of it."""

    settings: Camera
    done: threading.Event
    error: RtpipeError | None = None


class Keeper:
    """Keeps one camera open. On the device's thread, ``find(settings)`` says which (as
    :func:`drivers.camera.choose.choose` does), and ``check(known, settings)`` is asked when it was opened, and raises
    ``RtpipeError`` where it is not to be used. ``wanted``: the camera that was open before, which alone is taken up;
    then no error is final. Without it the first is (``failure``), but for a camera that is not there with ``wait``."""

    def __init__(
        self,
        find: Callable[[Camera], Chosen],
        settings: Camera,
        inbox: Inbox,
        check: Callable[[Known, Camera], None],
        wanted: Known | None = None,
    ) -> None:
        self._find, self._settings, self._inbox, self._check = find, settings, inbox, check
        self._wanted = wanted
        self._state: State = "looking"
        self._lock = threading.Lock()
        self._ended = False
        self._flowing = wanted is not None
        self._changes: list[_Change] = []
        self._doing, self._since = "", 0.0
        self._asked, self._seen, self._counted = 0.0, 0.0, 0.0
        self.known: Known | None = None
        """Of the device that is open, or was last."""
        self.sessions = 0
        """How often it was opened."""
        self.failure: RtpipeError | None = None
        """Why it ended before it ever streamed."""
        self.why = ""
        """Why it is not there just now, in words."""
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._thread.start()

    @property
    def state(self) -> State:
        """What it is about."""
        return self._state

    def overdue(self) -> str:
        """The call that should have returned long ago (``"read"``), ``""`` if none is. To be asked again and again:
        only time that passes while it is counts, so that a process that was stopped itself blames no SDK."""
        now, since = time.monotonic(), self._since
        step, self._asked = min(now - self._asked, ASKED_S), now
        if not self._doing or since != self._seen:
            self._seen, self._counted = since, 0.0
            return ""
        self._counted += step
        doing = self._doing
        return doing if doing and self._counted > OVERDUE_S[doing] else ""

    def flow(self) -> None:
        """From now on what comes is put into the inbox; before, it is thrown away: nobody was ready for it."""
        self._flowing = True

    def apply(self, settings: Camera, timeout_s: float) -> bool:
        """Bring the device to ``settings``, which also hold when it comes back. True when it is done, False where the
        camera is not there just now. Blocks; raises ``InputError`` for a value that the device refuses, ``WorldError``
        where it does not answer in time."""
        change = _Change(settings, threading.Event())
        with self._lock:
            if self._state != "streaming":
                self._settings = settings
                return False
            self._changes.append(change)
        if not change.done.wait(timeout_s):
            raise WorldError("the camera does not answer")
        if change.error is not None:
            raise change.error
        return self._state == "streaming"

    def end(self, timeout_s: float) -> bool:
        """Let the camera go and end the thread; False where it does not within ``timeout_s``: it is given up then."""
        self._ended = True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        """Whether its thread is still there."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._look_after()
            self._state = "ended"
        except BaseException as error:  # a bug: said, and the driver fails by it
            traceback.print_exc(file=sys.stderr)
            self.failure, self._state = WorldError(f"{type(error).__name__}: {error}"), "failed"

    def _look_after(self) -> None:
        pause_s, tried = 0.0, False
        while not self._ended:
            began = time.monotonic()
            try:
                device = self._open(tried)
            except RtpipeError as error:
                if self._final(error):
                    self.failure, self._state = error, "failed"
                    return
                self.why, device, tried = str(error), None, True
            if device is not None:
                self._keep(device)
                tried = False
                pause_s = 0.0 if time.monotonic() - began > 1.0 else LOOK_S  # one that is gone at once is not pressed
            else:
                pause_s = LOOK_S
            until = time.monotonic() + pause_s
            while not self._ended and time.monotonic() < until:
                time.sleep(0.02)

    def _final(self, error: RtpipeError) -> bool:
        """Whether this ends it: before it ever streamed, everything but a camera that is waited for."""
        if self.sessions or self._wanted is not None or isinstance(error, GoneError):
            return False
        return not (self._settings.wait and isinstance(error, NoneAttachedError))

    def _open(self, tried: bool) -> Device | None:
        wanted = self.known or self._wanted
        with self._calling("look"):
            if wanted is None:
                chosen = self._find(self._settings)
            else:
                camera = again(wanted.chosen, wanted.attached)
                if camera is None:
                    if not tried:
                        self.why = self.why or "it is not attached any more"
                    return None
                chosen = Chosen(wanted.chosen.backend, camera)
        with self._calling("open"):
            device: Device = chosen.backend.open(chosen.camera, self._settings)
        try:
            with self._calling("open"):
                known = Known(chosen, device.attached, tuple(device.kinds), device.encoding, tuple(device.capabilities))
            if wanted is not None and known.attached.resolution != wanted.attached.resolution:
                raise WorldError(f"another camera is there now ({known.attached.model} {known.attached.serial})")
            self._check(known, self._settings)
        except BaseException:
            self._close(device)
            raise
        self.known = known
        return device

    def _keep(self, device: Device) -> None:
        """Read until it is gone or let go."""
        with self._lock:
            self._state, self.why = "streaming", ""
            self.sessions += 1
        if self._flowing:
            self._inbox.opened()
        try:
            while not self._ended:
                self._change(device)
                self._read(device)
        except RtpipeError as error:
            self.why = str(error)
        finally:
            with self._lock:
                self._state = "gone"
                changes, self._changes = self._changes, []
                for change in changes:
                    self._settings = change.settings
                    change.done.set()
            self._close(device)

    def _read(self, device: Device) -> None:
        since_ns = time.monotonic_ns()
        with self._calling("read"):
            batch = device.read(READ_S)
        if self._given_up or not self._flowing:
            return
        if batch.readings or batch.lost or batch.refused:
            self._inbox.put(batch)
        if not batch.backlog and all(reading.kind != "events" for reading in batch.readings):
            self._inbox.quiet(since_ns)

    _given_up = False

    def give_up(self) -> None:
        """Its call does not return: nothing it brings is wanted any more."""
        self._given_up = self._ended = True

    def _change(self, device: Device) -> None:
        while self._changes:
            change = self._changes[0]
            try:
                with self._calling("apply"):
                    device.apply(change.settings)
                self._settings = change.settings
            except GoneError:
                raise
            except RtpipeError as error:
                change.error = error
            self._changes.pop(0)
            change.done.set()

    def _close(self, device: Device) -> None:
        with suppress(RtpipeError), self._calling("close"):
            device.close()

    @contextmanager
    def _calling(self, what: str) -> Iterator[None]:
        """A call into the SDK: timed, and whatever it raises becomes words."""
        self._since, self._doing = time.monotonic(), what
        try:
            yield
        except RtpipeError:
            raise
        except Exception as error:
            if what != "close":
                traceback.print_exc(file=sys.stderr)  # to the run's log
            text = f"{type(error).__name__}: {error}"[:300]
            if what == "read":
                raise GoneError(f"the camera could not be read: {text}") from error
            if what == "apply":
                raise InputError(f"the camera refused: {text}") from error
            raise WorldError(f"the camera could not be opened: {text}") from error
        finally:
            self._doing = ""
