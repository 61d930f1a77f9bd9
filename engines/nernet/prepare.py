"""From a window to the network's input: the table behind its calibrated voxel, and the voxel as runtimes take it.

f, a network of one variable with 7,851 weights, is evaluated in float64 once for every distance from a bin that a row
of the table can have; after that no event ever meets it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rtpipe.errors import InputError
from rtpipe.types import Array, Resolution
from rtpipe.window.letc import BINS, CHANNELS

STEPS = 8192
"""Steps of the table from one bin to the next. With the published weights (f up to 1.5) an event's contribution is off
by 1e-4 at most, half a step's worth; the table of 640 kB is read in order."""

ROWS = (BINS - 1) * STEPS + 1

MLP = "representation.quantization_layer.value_layer.mlp"
"""Where the tensors of f are in a checkpoint."""

LAYERS = 4
SLOPE = 0.1
"""Of the leaky ReLU between layers."""

AT_ONCE = 8192


def value(tensors: Mapping[str, Array], distance: Array) -> Array:
    """f at each ``distance`` (n,) from a bin, in bins: float64 (n,)."""
    layers = [
        (tensors[f"{MLP}.{i}.weight"].astype(np.float64).T, tensors[f"{MLP}.{i}.bias"].astype(np.float64))
        for i in range(LAYERS)
    ]
    parts = []
    for first in range(0, len(distance), AT_ONCE):
        a = np.asarray(distance[first : first + AT_ONCE], np.float64)[:, None]
        for weight, bias in layers[:-1]:
            a = a @ weight + bias
            a = np.maximum(a, SLOPE * a)
        parts.append((a @ layers[-1][0] + layers[-1][1])[:, 0])
    return np.concatenate(parts)


def table(tensors: Mapping[str, Array], steps: int = STEPS) -> Array:
    """What an event adds to each bin: float32 (4 ``steps`` + 1, 5), read-only; row r is tau f(tau - b) for the bins
    b = 0 ... 4 at tau = r / ``steps``."""
    last = (BINS - 1) * steps
    values = value(tensors, np.arange(-last, last + 1) / steps)
    tau = np.arange(last + 1) / steps
    columns = [tau * values[last - b * steps : 2 * last + 1 - b * steps] for b in range(BINS)]
    made: Array = np.ascontiguousarray(np.stack(columns, axis=1), np.float32)
    made.flags.writeable = False
    return made


def prepare(tensor: Array, resolution: Resolution) -> Array:
    """A window's voxel (10, H, W) as the network takes it: float32 (H, W, 10), C-contiguous. A view of a voxel that the
    window stage has made, of others a copy. Raises ``InputError`` where it does not fit ``resolution``."""
    width, height = resolution
    if tensor.shape != (CHANNELS, height, width):
        wanted = f"a calibrated voxel ({CHANNELS}, {height}, {width})"
        raise InputError(f"nernet was warmed for {width}x{height} and takes {wanted}, not {tensor.shape}")
    return np.ascontiguousarray(tensor.transpose(1, 2, 0), np.float32)
