"""What EFNet's checkpoints are: their tensors, and the settings they were trained with, which no tensor shows.

One thing can be told: the gated connection of a network that was trained without masks is as it was initialised. Such
weights are taken for ones of the HighREV recipe, and never given a mask; all others for GoPro's and REBlur's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from engines.efnet.prepare import BINS, Route, padded
from rtpipe.errors import InputError
from rtpipe.types import Array, Resolution
from rtpipe.weights.learned import Properties, Published
from rtpipe.weights.strict import matched
from rtpipe.weights.words import shown

NAME = "efnet"
WIDTHS, HEADS = (64, 128, 256), (1, 2, 4)
GATES = ("emgc_enc", "emgc_dec", "emgc_enc_mask", "emgc_dec_mask")
TRANSFORMER = "image_event_transformer"
PLACE = "the links in the README of AHupuJR/EFNet on GitHub"

ALLOWED: Mapping[str, Sequence[str]] = {
    "color_order": ("bgr", "rgb"),
    "mask": ("yes", "no"),
    "representation": ("scer", "voxel"),
    "norm": ("maxabs", "robust", "meanstd"),
    "bins": (str(BINS),),
}
"""Properties with the values they may have, the published ones first."""

HIGHREV = {"color_order": "rgb", "mask": "no", "representation": "voxel", "norm": "meanstd", "bins": str(BINS)}
"""What the recipe for HighREV trains, without masks."""


def shapes() -> dict[str, tuple[int, ...]]:
    """The tensors of :class:`engines.efnet.network.EFNet` by name."""
    found: dict[str, tuple[int, ...]] = {}

    def conv(name: str, *shape: int, bias: int | None = None) -> None:
        found[f"{name}.weight"] = shape
        if bias is not None:
            found[f"{name}.bias"] = (bias,)

    def block(name: str, taken: int, made: int) -> None:
        conv(f"{name}.identity", made, taken, 1, 1, bias=made)
        conv(f"{name}.conv_1", made, taken, 3, 3, bias=made)
        conv(f"{name}.conv_2", made, made, 3, 3, bias=made)

    for path in ("1", "2", "ev"):
        for level, width in enumerate(WIDTHS):
            name = f"down_path_{path}.{level}"
            block(name, WIDTHS[max(level - 1, 0)], width)
            upper = level < len(WIDTHS) - 1
            if upper:
                conv(f"{name}.downsample", width, width, 4, 4)
            if path == "1":
                _transformer(found, f"{name}.{TRANSFORMER}", width, HEADS[level])
            elif path == "ev":
                conv(f"{name}.conv_before_merge", width, width, 1, 1, bias=width)
            elif upper:
                for gate in GATES:
                    conv(f"{name}.{gate}", width, width, 3, 3, bias=width)
    for stage in (1, 2):
        for step, width in enumerate(WIDTHS[-2::-1]):
            conv(f"up_path_{stage}.{step}.up", 2 * width, width, 2, 2, bias=width)
            block(f"up_path_{stage}.{step}.conv_block", 2 * width, width)
            conv(f"skip_conv_{stage}.{step}", width, width, 3, 3, bias=width)
    base = WIDTHS[0]
    conv("conv_01", base, 3, 3, 3, bias=base)
    conv("conv_02", base, 3, 3, 3, bias=base)
    conv("conv_ev1", base, BINS, 3, 3, bias=base)
    conv("sam12.conv1", base, base, 3, 3, bias=base)
    conv("sam12.conv2", 3, base, 3, 3, bias=3)
    conv("sam12.conv3", base, 3, 3, 3, bias=base)
    conv("cat12", base, 2 * base, 1, 1, bias=base)
    conv("last", 3, base, 3, 3, bias=3)
    return found


def _transformer(found: dict[str, tuple[int, ...]], name: str, width: int, heads: int) -> None:
    for norm in ("norm1_image.body", "norm1_event.body", "norm2"):
        found |= {f"{name}.{norm}.weight": (width,), f"{name}.{norm}.bias": (width,)}
    found[f"{name}.attn.temperature"] = (heads, 1, 1)
    found |= {f"{name}.attn.{part}.weight": (width, width, 1, 1) for part in ("q", "k", "v", "project_out")}
    for part, made, taken in (("fc1", 4 * width, width), ("fc2", width, 4 * width)):
        found |= {f"{name}.ffn.{part}.weight": (made, taken), f"{name}.ffn.{part}.bias": (made,)}


def untrained(tensors: Mapping[str, Array]) -> bool:
    """Whether the gated connection is as networks are initialised, which no training leaves alone: its biases exactly
    zero, or everything uniform up to one over the root of its inputs."""
    gates = {name: array for name, array in tensors.items() if any(f".{gate}." in name for gate in GATES)}
    if all(not array.any() for name, array in gates.items() if name.endswith(".bias")):
        return True
    for name, array in gates.items():
        part = float(np.abs(array).max()) * math.sqrt(9 * len(array))
        if part > 1 + 1e-5 or (part < 0.95 and name.endswith(".weight")):
            return False
    return True


def route(properties: Properties, demonstration: bool = False) -> Route:
    """What lies between a frame and a network with these properties; ``demonstration``: events, mask and rounding as
    the authors' demonstration for DAVIS346 has them. Raises ``InputError`` for properties that are not known here."""
    values = properties.values
    wrong = [key for key, allowed in ALLOWED.items() if values.get(key) not in allowed]
    if properties.network != NAME or wrong:
        raise InputError(f"weights of {properties.network}, {', '.join(wrong) or 'which'} not as efnet knows them")
    masking = "closed" if values["mask"] == "yes" else "none"
    trained = Route(values["color_order"], values["norm"], masking)  # type: ignore[arg-type]
    if not demonstration:
        return trained
    return replace(trained, norm="robust", mask="davis" if trained.mask != "none" else "none", rounding="truncate")


@dataclass(frozen=True, slots=True)
class EFNetWeights:
    """See :class:`rtpipe.weights.learned.Learned`."""

    name: str = NAME
    published: tuple[Published, ...] = (
        Published("efnet-reblur", "EFNet-REBlur.pth", PLACE, "none stated (the code: Apache-2.0)"),
        Published("efnet-gopro", "EFNet-GoPro.pth", PLACE, "none stated (the code: Apache-2.0)"),
    )
    without: str = "engine.network=edi (events and frame by calculation alone)"

    def recognise(
        self, tensors: Mapping[str, Array], config: Mapping[str, Any], given: Mapping[str, str]
    ) -> tuple[Mapping[str, Array], Properties]:
        """See :meth:`rtpipe.weights.learned.Learned.recognise`. May be given: what :data:`ALLOWED` lists, and
        ``variant`` (else ``"highrev"`` without masks, ``"reblur"`` where the file is called so, ``"gopro"``). The
        property ``assumed`` names those that neither the user nor the tensors told."""
        found = matched(_plain_names(tensors), shapes(), "EFNet")
        for key, value in given.items():
            if key != "variant" and key not in ALLOWED:
                raise InputError(f"efnet has no property {shown(key)}; it has: {', '.join(ALLOWED)}, variant")
            if key in ALLOWED and value not in ALLOWED[key]:
                raise InputError(f"{key}={shown(value)}: one of {', '.join(ALLOWED[key])} wanted")
        bare = untrained(found)
        if bare and given.get("mask") == "yes":
            raise InputError("mask=yes: the part that a mask acts on was never trained in this checkpoint")
        usual = HIGHREV if bare or given.get("mask") == "no" else {key: words[0] for key, words in ALLOWED.items()}
        values = {**usual, **{key: value for key, value in given.items() if key in ALLOWED}}
        told = {"bins", *given, *(("mask",) if bare else ())}
        values["assumed"] = ", ".join(key for key in ALLOWED if key not in told) or "nothing"
        called = "reblur" if "reblur" in str(config.get("file", "")).lower() else "gopro"
        variant = given.get("variant", "highrev" if usual is HIGHREV else called)
        return found, Properties(NAME, variant, values)

    def shapes(self, variant: str = "") -> Mapping[str, tuple[int, ...]]:
        """Every tensor's shape, the same of each variant."""
        del variant
        return shapes()

    def parameters(self, variant: str = "") -> int:
        """How many numbers are learned, the same of each variant."""
        del variant
        return sum(math.prod(shape) for shape in shapes().values())

    def gflop(self, resolution: Resolution, variant: str = "") -> float:
        """Billions of operations for one picture of this size, its padding included; ``"highrev"`` has no mask."""
        height, width = padded(resolution)
        return 2e-9 * macs_per_pixel(mask=not variant.startswith("highrev")) * height * width


def macs_per_pixel(mask: bool) -> float:
    """Multiply-adds for each pixel of the picture."""
    total = 0.0
    for name, shape in shapes().items():
        parts = name.split(".")
        if len(shape) == 1 or (not mask and parts[2:3] and parts[2] in GATES):
            continue
        level = int(parts[1]) if parts[0].startswith("down") else 0
        if parts[0].startswith(("up", "skip")):
            level = len(WIDTHS) - 2 - int(parts[1])
        if parts[-1] == "temperature":  # q k^T, and what it weighs
            total += 2 * WIDTHS[level] * WIDTHS[level] / HEADS[level] / 4**level
            continue
        total += math.prod(shape) / 4 ** (level + (parts[2] in ("downsample", "up") if len(parts) > 2 else 0))
    return total


def _plain_names(tensors: Mapping[str, Array]) -> Mapping[str, Array]:
    """Names without what a nested dictionary or parallel training puts in front of all of them."""
    for prefix in ("params.", "module."):
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): array for name, array in tensors.items()}
    return tensors


NETWORK = EFNetWeights()
