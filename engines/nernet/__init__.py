"""NER-Net: video from events at night, by a recurrent network over a learned representation, as published (CVPR 2024).

Weights are others' and not bundled: ``rtpipe engines import nernet ner.pth``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from engines import settings
from engines.learned import Network
from engines.nernet.cadence import Cadence
from engines.nernet.finish import finish
from engines.nernet.graph import graph
from engines.nernet.prepare import prepare, table
from engines.nernet.weights import HOP_US, LENGTH_US, NAME, NETWORK, checked, with_representation
from engines.runtime.graph import Graph
from rtpipe.engine import passed_through
from rtpipe.errors import WorldError
from rtpipe.stage import EngineSpec
from rtpipe.types import Array, Frame, FrameFlag, Resolution, Window
from rtpipe.weights.store import Stored, load
from rtpipe.window.letc import BINS, CHANNELS

__all__ = ["NETWORK", "Engine", "Settings"]


class Settings(settings.Learned, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a user may choose."""

    representation: str = ""
    """Weights (a name or a file) whose learned representation takes the place of the network's own, as
    ``nernet-letc``; left out: the network's."""


class Engine:
    """The network, ready to run; call :meth:`warm` first. Not thread-safe; keeps its state from window to window.

    It was trained on windows of 20 ms every 40 ms, about the middle of a frame's exposure where there are frames
    (``by: mid_exposure``); :attr:`facts` say what it is given instead.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.network = Network(self.settings, NAME, self._graph)
        self._table: Array | None = None
        self._other: Stored | None = None
        self._size: Resolution = (0, 0)
        self._cadence = Cadence(LENGTH_US, HOP_US)

    def _graph(self, stored: Stored, resolution: Resolution) -> Graph:
        return graph(self._merged(stored), resolution)

    def _merged(self, stored: Stored) -> Stored:
        stored = checked(stored)
        if not self.settings.representation:
            return stored
        self._other = self._other or load(self.settings.representation)
        return with_representation(stored, self._other)

    @property
    def spec(self) -> EngineSpec:
        """A calibrated voxel, with the table of these weights: reads them the first time. Raises ``InputError`` that
        says how to get weights that are not there, and how to go on without."""
        if self._table is None:
            self._table = table(self._merged(self.network.weights).tensors)
        return EngineSpec(NAME, "calibrated_voxel", needs_frame=False, stateful=True, bins=BINS, table=self._table)

    @property
    def facts(self) -> Mapping[str, str]:
        """The weights, what computes them and why, and the rhythm of the windows."""
        words = self._cadence.words
        other = {"representation": self._other.path.stem} if self._other is not None else {}
        return {**self.network.facts, **other, **({"windows": words} if words else {})}

    def warm(self, resolution: Resolution) -> None:
        """Read the weights, export or compile what is needed, and run once; forgets every window seen. Blocks for
        seconds, the first time at a size up to a minute.

        Raises ``InputError``: how to get weights that are not there, and how to go on without; ``WorldError``.
        """
        width, height = resolution
        self._size = resolution
        self.network.open(resolution)
        self.infer(Window(0, LENGTH_US, 0, np.zeros((CHANNELS, height, width), np.float32)))
        self.reset()

    def reset(self) -> None:
        """Forget every window seen."""
        self.network.reset()
        self._cadence.reset()

    def infer(self, window: Window) -> Sequence[Frame]:
        """The picture of this window, uint8 (H, W), a new array, at its frame's time or, without one, at its end. An
        empty window is a step too; one of a frame whose exposure nobody knows is none: the frame comes out as it is.

        Raises ``InputError`` for a voxel that does not fit the size that was warmed for, ``WorldError`` where the
        network gives no numbers: it then begins anew.
        """
        if window.frame is not None and window.flags & FrameFlag.PASSED_THROUGH:
            return (passed_through(window.frame, window.flags),)
        if window.tensor is None:
            raise RuntimeError("nernet wants a calibrated voxel in each window")
        self._cadence.see(window)
        (image,) = self.network.step(prepare(window.tensor, self._size))
        try:
            picture = finish(image, self._size)
        except WorldError:
            self.reset()
            raise
        t = window.t_end if window.frame is None else window.frame.t
        return (Frame(picture, t, source=NAME, flags=window.flags),)
