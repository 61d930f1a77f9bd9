"""PIE-Net: video from events alone, by a small recurrent network that runs on a laptop's processor.

Its weights come in the Python package ``event-pienet`` (MIT): ``rtpipe engines import pienet`` takes them from there
once, after which neither the package nor PyTorch is needed. :mod:`engines.pienet.graph` says what it computes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal

import msgspec
import numpy as np

from engines import settings
from engines.learned import Network
from engines.pienet.finish import Finisher
from engines.pienet.graph import pienet
from engines.pienet.prepare import Preparer
from engines.pienet.weights import BINS, NAME, PIENetWeights
from rtpipe.errors import WorldError
from rtpipe.stage import EngineSpec
from rtpipe.types import Array, Frame, Resolution, Window

__all__ = ["NETWORK", "Engine", "Settings"]

NETWORK = PIENetWeights()


class Settings(settings.Learned, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a user may choose."""

    variant: Literal["lite", "full"] = "lite"
    """Which network, where ``weights`` names none: ``lite`` has half the parameters, and pictures nearer to a camera's;
    ``full`` brings out more in dim parts."""
    brightness: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.6
    """Pictures whose brightest parts are darker than this share of white are lifted to it; 0: none is."""
    quiet: Annotated[float, msgspec.Meta(ge=0, le=1000)] = 1.0
    """Events per 1000 pixels below which a window is no step of the network: the picture before is shown again, and the
    events are added to the next window. 0: every window with an event is a step."""


class Engine:
    """The network, ready to run; call :meth:`warm` first. Not thread-safe; keeps its state from window to window."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.network = Network(self.settings, f"{NAME}-{self.settings.variant}", pienet)
        self._preparer: Preparer | None = None
        self._finisher = Finisher(self.settings.brightness)
        self._last: Frame | None = None

    @property
    def spec(self) -> EngineSpec:
        """A voxel grid of five bins."""
        return EngineSpec(NAME, "voxel", needs_frame=False, stateful=True, bins=BINS)

    @property
    def facts(self) -> Mapping[str, str]:
        """The weights, what computes them and why."""
        return self.network.facts

    def warm(self, resolution: Resolution) -> None:
        """Read the weights, load the network at this size and run it once; forgets every window seen. Blocks for a
        second.

        Raises ``InputError``: how to get weights that are not there, and how to go on without; ``WorldError``.
        """
        self._preparer = Preparer(resolution, self.settings.quiet)
        self.network.open(resolution)
        self._finisher.finish(np.zeros((1, 1, *reversed(resolution)), np.float32), 0)
        self.reset()

    def reset(self) -> None:
        """Forget every window seen."""
        self.network.reset()
        self._finisher.reset()
        self._last = None
        if self._preparer is not None:
            self._preparer.reset()

    def image(self, window: Window) -> Array | None:
        """The network's own image of this window, float32 (1, 1, H, W), 0 to 1; the state moves on. None where too
        little happened. Valid until the next call."""
        if self._preparer is None or window.tensor is None:
            raise RuntimeError(f"{NAME} wants warm() before the first window, and a voxel grid in each")
        given = self._preparer.prepare(window.tensor, window.n_events)
        return None if given is None else self.network.step(given)[0]

    def infer(self, window: Window) -> Sequence[Frame]:
        """The picture at the window's end: uint8 (H, W). None before the first events after a reset.

        Raises ``InputError`` for a grid that does not fit the size that was warmed for, ``WorldError`` where the
        network gives no numbers: it then begins anew.
        """
        try:
            image = self.image(window)
            if image is not None:
                elapsed = window.t_end - (window.t_start if self._last is None else self._last.t)
                self._last = Frame(self._finisher.finish(image, elapsed), window.t_end, source=NAME)
        except WorldError:
            self.reset()
            raise
        if self._last is None:
            return ()
        self._last = replace(self._last, t=window.t_end)
        return (replace(self._last, image=self._last.image.copy(), flags=window.flags),)
