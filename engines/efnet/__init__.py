"""EFNet: a blurred frame made sharp by a network, with the events of its exposure.

Weights are others' and not bundled; :mod:`engines.edi` does the same work without any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec
import numpy as np

from engines import settings
from engines.efnet import graph, weights
from engines.efnet.finish import picture, sharp_frame
from engines.efnet.prepare import BINS, Inputs
from engines.learned import Network
from rtpipe.engine import passed_through
from rtpipe.stage import EngineSpec
from rtpipe.types import Frame, FrameFlag, Resolution, Window
from rtpipe.weights.store import path_of

__all__ = ["NETWORK", "Engine", "Settings"]

NETWORK = weights.NETWORK

USUAL = ("efnet-reblur", "efnet-gopro", "efnet-highrev")
"""Weights that are taken where the settings name none: the first of these that is installed."""


class Settings(settings.Learned, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a user may choose."""

    route: Literal["trained", "davis_demo"] = "trained"
    """How events are scaled and masked and the result rounded: as these weights were ``trained``, or as the authors'
    demonstration for DAVIS346 does it with the same weights (percentiles, which hot pixels cannot rule)."""
    fewest: Annotated[float, msgspec.Meta(ge=0, le=1000)] = 1.0
    """Events per thousand pixels of the sensor; frames with fewer in their exposure pass through as they came."""


class Engine:
    """The network, ready to run; call :meth:`warm` first. Not thread-safe; keeps nothing from window to window."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        usual = next((name for name in USUAL if path_of(name).is_file()), USUAL[0])
        self.network = Network(self.settings, usual, graph.efnet)
        self._inputs: Inputs | None = None

    @property
    def spec(self) -> EngineSpec:
        """The camera's frame, and the events of its exposure in the form that the weights were trained with.

        Reads the weights; raises ``InputError``: how to get them where they are not there, and how to go on without.
        """
        weights.route(self.network.weights.properties)
        values = self.network.weights.properties.values
        return EngineSpec(weights.NAME, values["representation"], needs_frame=True, stateful=False, bins=BINS)

    @property
    def facts(self) -> Mapping[str, str]:
        """The weights, what computes them and why; with the route where it is not theirs."""
        said = {} if self.settings.route == "trained" else {"route": self.settings.route}
        return {**self.network.facts, **said}

    def warm(self, resolution: Resolution) -> None:
        """Read the weights, export or compile what is needed, and run once. Blocks for seconds, the first time at a
        size up to a minute or two.

        Raises ``InputError``: how to get weights that are not there, and how to go on without; ``WorldError``.
        """
        route = weights.route(self.network.weights.properties, self.settings.route == "davis_demo")
        self._inputs = inputs = Inputs(route, resolution)
        width, height = resolution
        tensor = np.ones((BINS, height, width), np.float32)
        for dtype in (np.uint8, np.uint16):
            for shape in ((height, width), (height, width, 3)):
                image = np.zeros(shape, dtype)
                inputs.fill(image, tensor)
                picture(inputs.arrays[0][0], image, route.color_order, route.rounding)
        self.network.open(resolution)

    def reset(self) -> None:
        """Nothing is kept from window to window."""

    def infer(self, window: Window) -> Sequence[Frame]:
        """The window's frame made sharp, in a new array of its picture's own dtype and shape. With few events or none,
        or without a known exposure: the picture as it came, flagged ``PASSED_THROUGH``; without a frame: nothing.

        Raises ``InputError`` for a frame or a tensor that does not fit the size that was warmed for, ``WorldError``
        where the device fails or the network gives no numbers.
        """
        frame, tensor, inputs = window.frame, window.tensor, self._inputs
        if frame is None:
            return ()
        if inputs is None:
            raise RuntimeError("efnet wants warm() before the first window")
        width, height = inputs.resolution
        few = window.n_events < max(1.0, self.settings.fewest * width * height / 1000)
        if few or tensor is None or window.flags & FrameFlag.PASSED_THROUGH:
            return (passed_through(frame, window.flags),)
        if not inputs.fill(frame.image, tensor, window.mask):
            return (passed_through(frame, window.flags),)
        (output,) = self.network.step(*inputs.arrays)
        return (sharp_frame(output, frame, inputs.route.color_order, inputs.route.rounding, window.flags),)
