"""What a checkpoint of HyperE2VID is, told from the names and shapes of its tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engines.e2vid.prepare import BINS, padded
from engines.e2vid.weights import ROOTS, WITHOUT, Shapes, conv, e2vid_shapes, learned, norm_layer, stated
from rtpipe.types import Array, Resolution
from rtpipe.weights.learned import Properties, Published
from rtpipe.weights.strict import matched

NAME = "hypere2vid"
ATOMS, BASES, TAPS = 6, 12, 25
DEEP, WIDE, CONTEXT, HIDDEN = 256, 128, 32, 64

FIRST = f"{ROOTS[0]}decoders.0."
"""What is another than E2VID's."""


def _dynamic() -> dict[str, tuple[int, ...]]:
    atoms = f"{FIRST}dynamic_atom_generation"
    shapes = conv(f"{FIRST}context_fusion.conv", CONTEXT, BINS + 1, 3, 3, bias=CONTEXT)
    shapes[f"{atoms}.bases"] = (BASES, TAPS)
    for place, taken, made in ((0, CONTEXT, HIDDEN), (3, HIDDEN, ATOMS * BASES)):
        shapes |= conv(f"{atoms}.bases_net.{place}", made, taken, 3, 3, bias=made)
        shapes |= norm_layer(f"{atoms}.bases_net.{place + 1}", made)
    shapes[f"{FIRST}dynamic_conv.compositional_coefficients"] = (WIDE, DEEP * ATOMS, 1, 1)
    return shapes | {f"{FIRST}dynamic_conv.bias": (WIDE,)}


def shapes() -> Shapes:
    """The tensors of :class:`engines.e2vid.hyper.HyperE2VID`, in its order."""
    made: dict[str, tuple[int, ...]] = {}
    for name, shape in e2vid_shapes(norm=False, upsample=True).items():
        made |= _dynamic() if name.startswith(FIRST) else {name: shape}
    return made


@dataclass(frozen=True, slots=True)
class HyperE2VIDWeights:
    """Checkpoints of HyperE2VID; there is one variant."""

    name: str = NAME
    published: tuple[Published, ...] = (
        Published(NAME, "CHECKPOINT.pth", "the page of HyperE2VID or of EVREAL", "MIT"),
    )
    without: str = WITHOUT

    def recognise(
        self, tensors: Mapping[str, Array], config: Mapping[str, Any], given: Mapping[str, str]
    ) -> tuple[Mapping[str, Array], Properties]:
        """See :meth:`rtpipe.weights.learned.Learned.recognise`. Nothing may be given, and nothing is asked of
        ``config``: the tensors tell all."""
        del config
        found = matched(tensors, shapes(), "HyperE2VID")
        stated(self.name, given, {})
        values = {"activation": "none", "bins": str(BINS), "normalisation": "none", "padding": "zeros"}
        return found, Properties(self.name, "", values)

    def shapes(self, variant: str = "") -> Shapes:
        """Every tensor's shape."""
        del variant
        return shapes()

    def parameters(self, variant: str = "") -> int:
        """How many numbers are learned."""
        del variant
        return learned(shapes())

    def gflop(self, resolution: Resolution, variant: str = "") -> float:
        """Billions of operations for one picture of this size, its padding included."""
        del variant
        height, width = padded(resolution, "zeros")
        total = 0
        for name, shape in shapes().items():
            if len(shape) == 4:
                total += math.prod(shape) * (height >> _halvings(name)) * (width >> _halvings(name))
        total += (ATOMS * TAPS * (DEEP + BASES)) * (height // 4) * (width // 4)
        return 2e-9 * total


def _halvings(name: str) -> int:
    part, _, rest = name.removeprefix(ROOTS[0]).partition(".")
    level = int(rest[0]) if rest[0].isdigit() else 0
    return {"encoders": level + 1, "resblocks": 3, "decoders": 2 - level}.get(part, 0)


HYPER = HyperE2VIDWeights()
