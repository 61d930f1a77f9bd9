"""What the engines E2VID and FireNet are both made of: a window's voxel grid prepared, stepped through, finished."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import msgspec
import numpy as np

from engines import settings
from engines.e2vid.finish import Finisher, Tones
from engines.e2vid.graph import preparation
from engines.e2vid.prepare import BINS, Preparer, margins
from engines.learned import Network
from engines.runtime.graph import Graph
from rtpipe.errors import WorldError
from rtpipe.stage import EngineSpec
from rtpipe.types import Array, Frame, Resolution, Window
from rtpipe.weights.store import Stored, path_of

BLACK, WHITE = 0.0, 1.0


class Settings(settings.Learned, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a user may choose."""

    tones: Tones = "follow"
    """What is black and white: ``follow``: medians of the darkest and brightest values of the last eleven pictures;
    ``fixed``: ``black`` and ``white``; ``percentiles``: the 1st and 99th of each picture, unsharpened (EVREAL)."""
    sharpen: Annotated[float, msgspec.Meta(ge=0, le=3)] = 0.3
    """Strength of the unsharp mask; 0: none."""
    black: float = BLACK
    """The network's value that becomes 0, where tones are fixed."""
    white: float = WHITE
    """The network's value that becomes 255, where tones are fixed."""

    def __post_init__(self) -> None:
        if self.tones != "fixed" and (self.black, self.white) != (BLACK, WHITE):
            raise ValueError(f"black and white belong to tones: fixed, not to tones: {self.tones}")
        if not self.white - self.black >= 1e-3:
            raise ValueError(f"white ({self.white}) must lie above black ({self.black})")


def installed(names: Sequence[str]) -> str:
    """The first of ``names`` whose weights are in the store; the first of all where none is."""
    return next((name for name in names if path_of(name).is_file()), names[0])


class Reconstruction:
    """A recurrent network ready to run; call :meth:`warm` first. Not thread-safe; keeps its state between windows.

    ``usual``: names of weights, the best known first; ``make`` builds the network's graph.
    """

    def __init__(
        self, name: str, usual: Sequence[str], make: Callable[[Stored, Resolution], Graph], chosen: Settings
    ) -> None:
        self.settings = chosen
        self.network = Network(chosen, installed(usual), make)
        self._name = name
        self._preparer: Preparer | None = None
        self._finisher = Finisher((0, 0))
        self._seen = False

    @property
    def spec(self) -> EngineSpec:
        """A voxel grid of five bins."""
        return EngineSpec(self._name, "voxel", needs_frame=False, stateful=True, bins=BINS)

    @property
    def facts(self) -> Mapping[str, str]:
        """The weights, what computes them and why."""
        return self.network.facts

    def warm(self, resolution: Resolution) -> None:
        """Read the weights, export or compile what is needed, and run once; forgets every window seen. Blocks for
        seconds, the first time at a size up to a minute.

        Raises ``InputError``: how to get weights that are not there, and how to go on without; ``WorldError``.
        """
        width, height = resolution
        normalisation, padding = preparation(self.network.weights)
        self._preparer = Preparer(resolution, normalisation, padding)
        self._finisher = Finisher(
            resolution,
            margins(height, padding)[0],
            margins(width, padding)[0],
            tones=self.settings.tones,
            sharpen=self.settings.sharpen,
            black=self.settings.black,
            white=self.settings.white,
        )
        self.network.open(resolution)
        self.infer(Window(0, 1, 1, np.zeros((BINS, height, width), np.float32)))
        self.reset()

    def reset(self) -> None:
        """Forget every window seen."""
        self.network.reset()
        self._finisher.reset()
        self._seen = False

    def image(self, window: Window) -> Array:
        """The network's own image of this window, float32 (1, 1, padded H, padded W), about 0 to 1; the state moves on.
        Valid until the next call."""
        if self._preparer is None or window.tensor is None:
            raise RuntimeError(f"{self._name} wants warm() before the first window, and a voxel grid in each")
        (image,) = self.network.step(self._preparer.prepare(window.tensor))
        return image

    def infer(self, window: Window) -> Sequence[Frame]:
        """The picture at the window's end: uint8 (H, W), a new array. None before the first event after a reset.

        Raises ``InputError`` for a grid that does not fit the size that was warmed for, ``WorldError`` where the
        network gives no numbers: it then begins anew.
        """
        self._seen = self._seen or window.n_events > 0
        if not self._seen:
            return ()
        try:
            picture = self._finisher.finish(self.image(window))
        except WorldError:
            self.reset()
            raise
        return (Frame(picture, window.t_end, source=self._name, flags=window.flags),)
