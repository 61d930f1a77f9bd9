"""EFNet at one picture size, for any runtime: what goes in and out, and the module with its weights."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from engines.efnet import weights
from engines.efnet.prepare import BINS, padded
from engines.runtime.graph import Graph, Port
from rtpipe.errors import InputError
from rtpipe.types import Array, Resolution
from rtpipe.weights.store import Stored
from rtpipe.weights.strict import matched

IMAGE, EVENTS, MASK, SHARP = "image", "events", "mask", "sharp"


def efnet(stored: Stored, resolution: Resolution) -> Graph:
    """The network for pictures of this size (padded to multiples of 4), with a mask where these weights want one.

    Inputs image (1, 3, H, W), events (1, 6, H, W) and mask (1, 1, H, W), output the second stage's picture, not
    clamped. Raises ``InputError`` for weights that are another network's.
    """
    try:
        mask = weights.route(stored.properties).mask != "none"
        matched(stored.tensors, weights.shapes(), "EFNet")
    except InputError as error:
        raise InputError(f"{stored.path}: {error}") from error
    height, width = padded(resolution)
    inputs = [Port(IMAGE, (1, 3, height, width)), Port(EVENTS, (1, BINS, height, width))]
    inputs += [Port(MASK, (1, 1, height, width))] if mask else []
    name = weights.NAME if mask else f"{weights.NAME}-nomask"
    kept = tuple(f"transformers.{level}.mixing" for level in range(len(weights.WIDTHS)))
    return Graph(
        name,
        inputs=tuple(inputs),
        outputs=(Port(SHARP, (1, 3, height, width)),),
        states=(),
        weights=stored.sha256,
        module=partial(_folded, stored.tensors, mask),
        plain=partial(loaded, stored.tensors),
        keep_float32=kept,
    )


def _folded(tensors: Mapping[str, Array], mask: bool) -> Any:
    from engines.efnet.folded import Folded

    return Folded(loaded(tensors), mask).eval()


def loaded(tensors: Mapping[str, Array]) -> Any:
    """The plain network with these weights, in evaluation mode. Needs PyTorch."""
    import torch

    from engines.efnet.network import EFNet

    with torch.device("meta"):
        network = EFNet()
    given = {name: torch.from_numpy(np.array(array, np.float32)) for name, array in tensors.items()}
    network.load_state_dict(given, assign=True)
    return network.eval()
