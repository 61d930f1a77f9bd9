"""The networks at one sensor size, for any runtime: what goes in and out, and the module with its weights.

What a runtime computes takes and gives padded images: :mod:`engines.e2vid.prepare` pads, ``finish.py`` crops.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from engines.e2vid import hyper_weights, prepare, weights
from engines.e2vid.prepare import BINS, Normalisation, Padding
from engines.runtime.graph import Graph, Port
from rtpipe.errors import InputError
from rtpipe.types import Array, Resolution
from rtpipe.weights.store import Stored
from rtpipe.weights.strict import matched

INPUT, OUTPUT = "voxel", "image"


def preparation(stored: Stored) -> tuple[Normalisation, Padding]:
    """How these weights want their voxel grids. Raises ``InputError`` where they do not say it in known words."""
    values = stored.properties.values
    normalisation, padding = values.get("normalisation"), values.get("padding")
    if normalisation not in ("legacy", "none") or padding not in ("reflect", "zeros", "none"):
        raise InputError(f"{stored.path}: normalisation {normalisation!r} and padding {padding!r} are not known here")
    return normalisation, padding  # type: ignore[return-value]


def e2vid(stored: Stored, resolution: Resolution) -> Graph:
    """E2VID or E2VID+ for a sensor of this size. Raises ``InputError`` for weights that are another network's."""
    values = stored.properties.values
    norm, upsample = values.get("norm") == "bn", values.get("decoder") == "upsampled"
    plus = values.get("activation") == "none"
    _belongs(stored, weights.E2VID_NAME, weights.e2vid_shapes(norm, upsample, plus))
    height, width = prepare.padded(resolution, preparation(stored)[1])
    module = partial(_e2vid, stored.tensors, norm, upsample, plus)
    return _graph(weights.E2VID_NAME, stored, (height, width), _memories(height, width), module)


def hypere2vid(stored: Stored, resolution: Resolution) -> Graph:
    """HyperE2VID for a sensor of this size. Raises ``InputError`` for weights that are another network's."""
    _belongs(stored, hyper_weights.NAME, hyper_weights.shapes())
    height, width = prepare.padded(resolution, preparation(stored)[1])
    states = [*_memories(height, width), Port("previous", (1, 1, height, width))]
    return _graph(hyper_weights.NAME, stored, (height, width), states, partial(_hypere2vid, stored.tensors))


def _memories(height: int, width: int) -> list[Port]:
    """States of E2VID's encoders."""
    cells = [(weights.BASE << level, height >> level, width >> level) for level in range(1, weights.LEVELS + 1)]
    return [
        Port(f"{kind}{level}", (1, channels, rows, columns))
        for level, (channels, rows, columns) in enumerate(cells)
        for kind in "hc"
    ]


def firenet(stored: Stored, resolution: Resolution) -> Graph:
    """FireNet or FireNet+ for a sensor of this size. Raises ``InputError`` for weights that are another network's."""
    _belongs(stored, weights.FIRENET_NAME, weights.firenet_shapes())
    height, width = prepare.padded(resolution, preparation(stored)[1])
    states = [Port(name, (1, weights.THIN, height, width)) for name in ("g0", "g1")]
    return _graph(weights.FIRENET_NAME, stored, (height, width), states, partial(_firenet, stored.tensors))


def _graph(name: str, stored: Stored, size: tuple[int, int], states: list[Port], module: partial[Any]) -> Graph:
    inputs, outputs = (Port(INPUT, (1, BINS, *size)),), (Port(OUTPUT, (1, 1, *size)),)
    return Graph(name, inputs, outputs, tuple(states), stored.sha256, module)


def _belongs(stored: Stored, name: str, shapes: weights.Shapes) -> None:
    if stored.properties.network != name:
        raise InputError(f"{stored.path}: weights of {stored.properties.network}, not of {name}")
    try:
        matched(stored.tensors, shapes, name)
    except InputError as error:
        raise InputError(f"{stored.path}: {error}") from error


def _e2vid(tensors: Mapping[str, Array], norm: bool, upsample: bool, plus: bool) -> Any:
    from engines.e2vid.network import E2VID, Step

    return Step(_loaded(E2VID("BN" if norm else None, upsample, plus), tensors))


def _hypere2vid(tensors: Mapping[str, Array]) -> Any:
    from engines.e2vid.hyper import HyperE2VID
    from engines.e2vid.network import Step

    return Step(_loaded(HyperE2VID(), tensors))


def _firenet(tensors: Mapping[str, Array]) -> Any:
    from engines.e2vid.network import FireNet, Step

    return Step(_loaded(FireNet(), tensors))


def _loaded(network: Any, tensors: Mapping[str, Array]) -> Any:
    import torch

    network.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in tensors.items()})
    return network.eval()
