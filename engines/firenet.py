"""FireNet: video from events alone, by a small recurrent network that runs on a laptop; and FireNet+.

Weights are others' and not bundled. The network itself and all around it is in :mod:`engines.e2vid`.
"""

from __future__ import annotations

from engines.e2vid import graph, weights
from engines.e2vid.engine import Reconstruction, Settings

__all__ = ["NETWORK", "Engine", "Settings"]

NETWORK = weights.FIRENET

USUAL = ("firenet", "firenet-plus")
"""Weights that are taken where the settings name none: the first of these that is installed."""


class Engine(Reconstruction):
    """The network, ready to run; call :meth:`warm` first. Not thread-safe; keeps its state from window to window."""

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__(weights.FIRENET_NAME, USUAL, graph.firenet, settings or Settings())
