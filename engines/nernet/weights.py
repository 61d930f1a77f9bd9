"""What checkpoints of NER-Net are: the whole network (``ner.pth``), or its representation alone (``letc.pth``)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from types import MappingProxyType
from typing import Any

from rtpipe.errors import InputError
from rtpipe.types import Array, Resolution
from rtpipe.weights.learned import Properties, Published
from rtpipe.weights.store import Stored
from rtpipe.weights.strict import matched
from rtpipe.weights.words import shown
from rtpipe.window.letc import BINS, CHANNELS

NAME = "nernet"
LETC = "letc"
"""The variant that holds the representation alone."""

LENGTH_US, HOP_US = 20_000, 40_000
"""The windows that the network was trained on: so long (µs), one every so many."""

REPRESENTATION, UNET = "representation.", "unetrecurrent."
BASE, LEVELS = 32, 3
MLP_WIDTHS = (1, 50, 50, 50, 1)

Shapes = Mapping[str, tuple[int, ...]]

SETTINGS: Mapping[str, tuple[Any, ...]] = {
    "skip_type": ("sum",),
    "norm": (None, "none", ""),
    "final_activation": (None, "none", ""),
}
"""What no tensor shows, and what a checkpoint's own configuration may say of it."""


def _conv(name: str, *shape: int, bias: bool = True) -> dict[str, tuple[int, ...]]:
    weight: dict[str, tuple[int, ...]] = {f"{name}.weight": shape}
    return weight | ({f"{name}.bias": shape[:1]} if bias else {})


def representation_shapes() -> Shapes:
    """The tensors of the representation, in the network's order."""
    shapes: dict[str, tuple[int, ...]] = {}
    for i in range(len(MLP_WIDTHS) - 1):
        name = f"{REPRESENTATION}quantization_layer.value_layer.mlp.{i}"
        shapes |= _conv(name, MLP_WIDTHS[i + 1], MLP_WIDTHS[i])
    shapes |= _conv(f"{REPRESENTATION}ConvLayer.cnn.0", 64, CHANNELS, 3, 3, bias=False)
    return shapes | _conv(f"{REPRESENTATION}ConvLayer.cnn.2", CHANNELS, 64, 3, 3, bias=False)


def _encoder_shapes(name: str, n: int) -> Shapes:
    """Those of the encoder that takes ``n`` channels."""
    few, out, cell = n // 4, 2 * n, f"{name}.recurrent_block"
    shapes = _conv(f"{name}.conv.conv2d", out, n, 5, 5) | _conv(f"{name}.conv_mem.conv2d", out, n, 5, 5)
    for gate, many in (("conv_x", 7), ("conv_h", 4), ("conv_m", 3)):
        shapes |= _conv(f"{cell}.{gate}.0", many * out, out, 3, 3, bias=False)
    shapes |= _conv(f"{cell}.conv_o.0", out, 2 * out, 3, 3, bias=False)
    shapes |= _conv(f"{cell}.conv_last", out, 2 * out, 1, 1, bias=False)
    shapes |= _conv(f"{cell}.LAG_conv", out, out, 1, 1, bias=False)
    context = f"{name}.GCB.channel_add_conv"
    shapes |= _conv(f"{name}.conv_1x1", n, n, 1, 1) | _conv(f"{name}.GCB.conv_mask", 1, n, 1, 1)
    shapes |= _conv(f"{context}.0", few, n, 1, 1)
    shapes |= dict.fromkeys((f"{context}.1.weight", f"{context}.1.bias"), (few, 1, 1))
    return {**shapes, f"{context}.2.weight": (1,), **_conv(f"{context}.3", n, few, 1, 1)}


def shapes() -> Shapes:
    """The tensors of :class:`engines.nernet.network.NERNet`, in its order."""
    widths = [BASE << level for level in range(LEVELS + 1)]
    made = {**representation_shapes(), **_conv(f"{UNET}head.conv2d", BASE, CHANNELS, 5, 5)}
    for level in range(LEVELS):
        made |= _encoder_shapes(f"{UNET}encoders.{level}", widths[level])
    for block in range(2):
        for conv in ("conv1", "conv2"):
            made |= _conv(f"{UNET}resblocks.{block}.{conv}", widths[-1], widths[-1], 3, 3)
    for part in ("decoders", "m_t_UpsampleLayer"):
        for level in range(LEVELS):
            made |= _conv(f"{UNET}{part}.{level}.conv2d", widths[LEVELS - level - 1], widths[LEVELS - level], 5, 5)
    return made | _conv(f"{UNET}pred.conv2d", 1, BASE, 1, 1)


def _halvings(name: str) -> int | None:
    """How often the sides were halved where a convolution works; None where it sees one value a channel."""
    part, _, rest = name.removeprefix(UNET).partition(".")
    if "channel_add_conv" in name:
        return None
    if part == "encoders":
        return int(rest[0]) + (0 if "conv_1x1" in name or "conv_mask" in name else 1)
    if part in ("decoders", "m_t_UpsampleLayer"):
        return LEVELS - 1 - int(rest[0])
    return LEVELS if part == "resblocks" else 0


def _said(config: Mapping[str, Any], depth: int = 6) -> Iterator[tuple[str, Any]]:
    """What a configuration says, however deep, of :data:`SETTINGS`."""
    for key, found in config.items():
        if key in SETTINGS:
            yield key, found
        if depth and isinstance(found, Mapping):
            yield from _said(found, depth - 1)


@dataclass(frozen=True, slots=True)
class NERNetWeights:
    """Checkpoints of NER-Net; see :class:`rtpipe.weights.learned.Learned`. Variants: ``""``, and ``"letc"``."""

    name: str = NAME
    published: tuple[Published, ...] = (
        Published(
            NAME,
            "ner.pth",
            "the cloud drive that the page of NER-Net (CVPR 2024) links to",
            "none stated: not to be shared",
        ),
    )
    without: str = "engine.network=complementary reconstructs without weights"

    def recognise(
        self, tensors: Mapping[str, Array], config: Mapping[str, Any], given: Mapping[str, str]
    ) -> tuple[Mapping[str, Array], Properties]:
        """See :meth:`rtpipe.weights.learned.Learned.recognise`. Nothing may be given: all of it is in the tensors."""
        for key in given:
            raise InputError(f"nernet has no property {shown(key)} that could be given")
        values = {"representation": "calibrated_voxel", "bins": str(BINS)}
        bare = {name.removeprefix(REPRESENTATION): name for name in representation_shapes()}
        if not any(name.startswith(UNET) for name in tensors) and any(
            name.removeprefix(REPRESENTATION) in bare for name in tensors
        ):
            alone = {bare.get(name, name): array for name, array in tensors.items()}
            return matched(alone, representation_shapes(), "NER-Net's representation"), Properties(NAME, LETC, values)
        found = matched(tensors, shapes(), "NER-Net")
        for key, value in _said(config):
            if value not in SETTINGS[key]:
                raise InputError(f"nernet: trained with {key} {shown(str(value))}; only {SETTINGS[key][-1]!r} is known")
        values |= {"window_us": str(LENGTH_US), "every_us": str(HOP_US)}
        return found, Properties(NAME, "", values)

    def shapes(self, variant: str = "") -> Shapes:
        """Every tensor's shape."""
        del variant
        return shapes()

    def parameters(self, variant: str = "") -> int:
        """How many numbers are learned."""
        return sum(map(math.prod, (representation_shapes() if variant == LETC else shapes()).values()))

    def gflop(self, resolution: Resolution, variant: str = "") -> float:
        """Billions of operations for one picture of this size, its padding included; the table's are none."""
        width, height = (-(-side >> LEVELS) << LEVELS for side in resolution)
        total = 0
        for name, shape in (representation_shapes() if variant == LETC else shapes()).items():
            if len(shape) == 4:
                halvings = _halvings(name)
                places = 1 if halvings is None else (height >> halvings) * (width >> halvings)
                total += math.prod(shape) * (
                    resolution[0] * resolution[1] if name.startswith(REPRESENTATION) else places
                )
        return 2e-9 * total


NETWORK = NERNetWeights()


def checked(stored: Stored) -> Stored:
    """``stored``, if it is the whole network. Raises ``InputError`` for what is not."""
    if stored.properties.network != NAME:
        raise InputError(f"{stored.path}: weights of {stored.properties.network}, not of nernet")
    if stored.properties.variant == LETC:
        raise InputError(
            f"{stored.path}: holds NER-Net's representation alone, no network: name it as engine.representation, "
            "and the network's own weights as engine.weights"
        )
    try:
        return replace(stored, tensors=MappingProxyType(matched(stored.tensors, shapes(), "NER-Net")))
    except InputError as error:
        raise InputError(f"{stored.path}: {error}") from error


def with_representation(stored: Stored, other: Stored) -> Stored:
    """The network of ``stored`` behind the representation of ``other``, which may hold nothing else. Raises
    ``InputError`` where that is none of NER-Net's."""
    wanted = representation_shapes()
    if other.properties.network != NAME:
        raise InputError(f"{other.path}: weights of {other.properties.network}, no representation of nernet")
    try:
        found = matched({name: array for name, array in other.tensors.items() if name in wanted}, wanted, "LETC")
    except InputError as error:
        raise InputError(f"{other.path}: {error}") from error
    both = sha256(f"{stored.sha256} {other.sha256}".encode()).hexdigest()
    return replace(stored, tensors=MappingProxyType({**stored.tensors, **found}), sha256=both)
