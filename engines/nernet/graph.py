"""The network at one sensor size, for any runtime: refinement, padding, U-Net, crop, and seven states."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from engines.nernet.weights import BASE, LEVELS, NAME, checked
from engines.runtime.graph import Graph, Port
from rtpipe.types import Array, Resolution
from rtpipe.weights.store import Stored
from rtpipe.window.letc import CHANNELS

STATES = ("h0", "c0", "h1", "c1", "h2", "c2", "m")

KEEP_FLOAT32 = tuple(f"network.unetrecurrent.encoders.{level}.GCB" for level in range(LEVELS))
"""The attention over all pixels: its weights are below what half precision resolves."""


def graph(stored: Stored, resolution: Resolution) -> Graph:
    """NER-Net for a sensor of this size. Input ``voxel`` (H, W, 10), output ``image`` (1, 1, H, W). Raises
    ``InputError`` for weights that are another network's."""
    stored = checked(stored)
    width, height = resolution
    rows, columns = (-(-side >> LEVELS) << LEVELS for side in (height, width))
    cells = [(BASE << level, rows >> level, columns >> level) for level in range(1, LEVELS + 1)]
    shapes = [cell for cell in cells for _ in range(2)] + [(BASE, rows, columns)]
    return Graph(
        NAME,
        (Port("voxel", (height, width, CHANNELS)),),
        (Port("image", (1, 1, height, width)),),
        tuple(Port(name, (1, *shape)) for name, shape in zip(STATES, shapes, strict=True)),
        stored.sha256,
        partial(_module, stored.tensors),
        keep_float32=KEEP_FLOAT32,
    )


def _module(tensors: Mapping[str, Array]) -> Any:
    import torch

    from engines.nernet.network import NERNet, Step

    network = NERNet()
    network.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in tensors.items()})
    return Step(network.eval())
