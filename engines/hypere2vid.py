"""HyperE2VID: video from events alone, by a recurrent network whose filters follow the scene; heavy, wants a GPU.

Weights are others' and not bundled. The network itself and all around it is in :mod:`engines.e2vid`.
"""

from __future__ import annotations

from engines.e2vid import graph, hyper_weights
from engines.e2vid.engine import Reconstruction, Settings

__all__ = ["NETWORK", "Engine", "Settings"]

NETWORK = hyper_weights.HYPER


class Engine(Reconstruction):
    """The network, ready to run; call :meth:`warm` first. Not thread-safe; keeps its state from window to window."""

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__(hyper_weights.NAME, (hyper_weights.NAME,), graph.hypere2vid, settings or Settings())
