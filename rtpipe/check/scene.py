"""What every runtime is shown: a textured scene seen by a shaking camera, the same to the bit wherever it is made.

Events and blurred frames come from the simulated camera (:mod:`rtpipe.simulate`) with a fixed seed: real edges, uneven
pixels, noise, and one window in which nothing happens.
"""

from __future__ import annotations

import cv2
import numpy as np

from rtpipe.packing import pack
from rtpipe.simulate.camera import Camera
from rtpipe.simulate.path import handheld
from rtpipe.simulate.recording import play
from rtpipe.simulate.scene import StillScene
from rtpipe.simulate.sensor import Sensor
from rtpipe.stage import EngineSpec
from rtpipe.types import Array, Events, Frame, Resolution, Window
from rtpipe.window.cut import Cut
from rtpipe.window.making import FILLERS, Maker, as_they_come

LENGTH_US = 20_000
STEPS = 6
SILENT = 3
"""The step (from 0) in which nothing happens: states go on without events."""
BLUR_PX = 6.0
TINT = (0.8, 1.0, 0.9)
"""Of blue, green and red: a network that is given colours in the wrong order shows it."""


class Scene:
    """The windows that an engine of this ``spec`` is given at ``size``, one by one. Deterministic."""

    def __init__(self, spec: EngineSpec, size: Resolution, seed: int = 7) -> None:
        self._spec, self._size = spec, size
        intervals = [(step * LENGTH_US, (step + 1) * LENGTH_US) for step in range(STEPS)]
        path = handheld(size, intervals, BLUR_PX, seed)
        scene = StillScene(texture(size, seed), path, STEPS * LENGTH_US)
        runs: list[Events] = []
        self._frames: list[Frame] = []
        for made in play(scene, Sensor(size, seed=seed), Camera(size, seed=seed), intervals, STEPS * LENGTH_US):
            if isinstance(made, Events):
                runs.append(made)
            elif made.source == "camera":
                self._frames.append(made)
        self._events = Events.concatenate(runs)
        bins = spec.bins or (FILLERS[spec.representation].bins if spec.representation in FILLERS else 0)
        filling = as_they_come(spec.representation, edges=False)
        self._maker = Maker(size, spec.representation, bins, filling, table=spec.table)

    def __len__(self) -> int:
        return len(self._frames)

    def window(self, step: int) -> Window:
        """The window of one step (0 to :data:`STEPS` - 1). Its buffers are valid until the next is asked for."""
        frame = self._frames[step]
        start, end = step * LENGTH_US, (step + 1) * LENGTH_US
        events = Events.empty() if step == SILENT else self._events.between(start, end)
        tinted = np.round(frame.image[..., None] * np.array(TINT)).astype(np.uint8)
        shown = Frame(tinted, frame.t, frame.exposure_start, frame.exposure_end)
        cut = Cut(start, end, shown, n_events=len(events))
        self._maker.open(cut)
        if len(events):
            self._maker.add(cut, pack(events))
        return self._maker.close(cut)[0]


def texture(size: Resolution, seed: int) -> Array:
    """A picture larger than the sensor, float32, 0 to 1: discs and bars of every grey on soft shading."""
    width, height = size[0] + 64, size[1] + 64
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    image: Array = (0.45 + 0.25 * np.sin(columns / 37 + rows / 53)).astype(np.float32)
    for _ in range(max(12, width * height // 400)):
        x, y = int(random.integers(0, width)), int(random.integers(0, height))
        grey, side = float(random.uniform(0.03, 0.97)), int(random.integers(3, 16))
        if random.random() < 0.5:
            cv2.circle(image, (x, y), side, grey, -1)
        else:
            cv2.rectangle(image, (x, y), (x + side, y + 2 * side), grey, -1)
    return image
