"""E2VID: video from events alone, by a recurrent U-Net, as its authors published it; and E2VID+.

Weights are others' and not bundled. :mod:`engines.firenet` is the lighter sibling.
"""

from __future__ import annotations

from engines.e2vid import graph, weights
from engines.e2vid.engine import Reconstruction, Settings

__all__ = ["NETWORK", "Engine", "Settings"]

NETWORK = weights.E2VID

USUAL = ("e2vid", "e2vid-up", "e2vid-bn-up", "e2vid-tconv", "e2vid-plus")
"""Weights that are taken where the settings name none: the first of these that is installed."""


class Engine(Reconstruction):
    """The network, ready to run; call :meth:`warm` first. Not thread-safe; keeps its state from window to window."""

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__(weights.E2VID_NAME, USUAL, graph.e2vid, settings or Settings())
