"""What checkpoints of E2VID, E2VID+, FireNet and FireNet+ are, told from the names and shapes of their tensors.

Two of E2VID are known, with and without batch normalisation, the one with transposed convolutions in its decoders, the
other with interpolation and convolutions; which one a file holds is read from it. FireNet+ has FireNet's tensors under
other names. What no tensor shows, the normalisation of the voxel grid and the padding, is as published unless given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engines.e2vid.prepare import BINS, padded
from rtpipe.errors import InputError
from rtpipe.types import Array, Resolution
from rtpipe.weights.learned import Properties, Published
from rtpipe.weights.strict import matched
from rtpipe.weights.words import shown

Shapes = Mapping[str, tuple[int, ...]]

E2VID_NAME, FIRENET_NAME = "e2vid", "firenet"
BASE, LEVELS, THIN = 32, 3, 16
WIDTHS = [BASE << level for level in range(LEVELS + 1)]
BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "bases")
NORMALISATIONS, PADDINGS = ("legacy", "none"), ("reflect", "zeros")
DEEPEST = 8
"""Levels of a checkpoint's configuration in which a setting is looked for."""

WITHOUT = "engine: {network: complementary} reconstructs without weights, pienet with weights from a Python package"

ROOTS = ("unetrecurrent.", "unetflow.")
"""What the names of E2VID and of E2VID+ begin with."""

GATES = ("reset_gate", "update_gate", "out_gate")
PLUS: Mapping[str, str] = {
    "head": "net.head.conv",
    "G1": "net.head.recurrent_block",
    "R1": "net.resblocks.0.conv",
    "G2": "net.resblocks.0.recurrent_block",
    "R2": "net.resblocks.1",
    "pred": "net.pred",
}
"""FireNet's modules by the names that they have in FireNet+."""


def conv(name: str, *shape: int, bias: int = 0) -> dict[str, tuple[int, ...]]:
    """A convolution's tensors; ``bias``: the channels it is added to, 0 without."""
    return {f"{name}.weight": shape} | ({f"{name}.bias": (bias,)} if bias else {})


def norm_layer(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    """A batch normalisation's tensors."""
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys((f"{name}.weight", f"{name}.bias"), (channels,))
    return shapes | {f"{name}.{buffer}": (channels,) for buffer in BUFFERS[:2]} | {f"{name}.{BUFFERS[2]}": ()}


def e2vid_shapes(norm: bool, upsample: bool, plus: bool = False) -> Shapes:
    """The tensors of :class:`engines.e2vid.network.E2VID`, in its order."""

    def normed(name: str, channels: int) -> dict[str, tuple[int, ...]]:
        return norm_layer(name, channels) if norm else {}

    def bias(channels: int) -> int:
        return 0 if norm else channels

    root = ROOTS[0]
    shapes = conv(f"{root}head.conv2d", BASE, BINS, 5, 5, bias=BASE)
    for level in range(LEVELS):
        name, taken, made = f"{root}encoders.{level}", WIDTHS[level], WIDTHS[level + 1]
        shapes |= conv(f"{name}.conv.conv2d", made, taken, 5, 5, bias=bias(made))
        shapes |= normed(f"{name}.conv.norm_layer", made)
        shapes |= conv(f"{name}.recurrent_block.Gates", 4 * made, 2 * made, 3, 3, bias=4 * made)
    most = WIDTHS[-1]
    for block in range(2):
        name = f"{root}resblocks.{block}"
        shapes |= conv(f"{name}.conv1", most, most, 3, 3, bias=bias(most))
        shapes |= normed(f"{name}.bn1", most) | normed(f"{name}.bn2", most)
        shapes |= conv(f"{name}.conv2", most, most, 3, 3, bias=bias(most))
    for level in range(LEVELS):
        name, taken, made = f"{root}decoders.{level}", WIDTHS[LEVELS - level], WIDTHS[LEVELS - level - 1]
        if upsample:
            shapes |= conv(f"{name}.conv2d", made, taken, 5, 5, bias=bias(made))
        else:
            shapes |= conv(f"{name}.transposed_conv2d", taken, made, 5, 5, bias=bias(made))
        shapes |= normed(f"{name}.norm_layer", made)
    outputs = 3 if plus else 1
    shapes |= conv(f"{root}pred.conv2d", outputs, BASE, 1, 1, bias=bias(outputs))
    return shapes | normed(f"{root}pred.norm_layer", outputs)


def firenet_shapes() -> Shapes:
    """The tensors of :class:`engines.e2vid.network.FireNet`, in its order."""

    def gru(name: str) -> dict[str, tuple[int, ...]]:
        return {k: v for gate in GATES for k, v in conv(f"{name}.{gate}", THIN, 2 * THIN, 3, 3, bias=THIN).items()}

    def block(name: str) -> dict[str, tuple[int, ...]]:
        return {k: v for i in (1, 2) for k, v in conv(f"{name}.conv{i}", THIN, THIN, 3, 3, bias=THIN).items()}

    shapes = conv("net.head.conv.conv2d", THIN, BINS, 3, 3, bias=THIN) | gru("net.head.recurrent_block")
    shapes |= block("net.resblocks.0.conv") | gru("net.resblocks.0.recurrent_block") | block("net.resblocks.1")
    return shapes | conv("net.pred.conv2d", 1, THIN, 1, 1, bias=1)


def stated(network: str, given: Mapping[str, str], usual: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The properties that may be given, each with its allowed values, the published one first."""
    for key, value in given.items():
        if key not in usual:
            raise InputError(f"{network} has no property {shown(key)} to state; there is {', '.join(usual) or 'none'}")
        if value not in usual[key]:
            raise InputError(f"{key}: one of {', '.join(usual[key])} wanted, got {shown(value)}")
    return {key: given.get(key, allowed[0]) for key, allowed in usual.items()}


def _refuse_other(network: str, config: Mapping[str, Any], wanted: Mapping[str, str]) -> None:
    """Raise ``InputError`` where the configuration beside the weights says what no tensor shows, and says otherwise."""
    level: list[Mapping[str, Any]] = [config]
    for _ in range(DEEPEST):
        for found in level:
            for key, value in wanted.items():
                if isinstance(found.get(key), str) and found[key] != value:
                    raise InputError(f"{network}: trained with {key} {shown(found[key])}; only {value!r} is known here")
        level = [inner for found in level for inner in found.values() if isinstance(inner, Mapping)]


@dataclass(frozen=True, slots=True)
class E2VIDWeights:
    """Checkpoints of E2VID and E2VID+; see :class:`rtpipe.weights.learned.Learned`.

    Variants: ``""`` (batch normalisation, transposed convolutions), ``"up"`` (neither, but interpolation), ``"plus"``;
    the other two combinations are ``"bn-up"`` and ``"tconv"``.
    """

    name: str = E2VID_NAME
    published: tuple[Published, ...] = (
        Published(
            "e2vid",
            "E2VID_lightweight.pth.tar",
            "the page of rpg_e2vid (Robotics and Perception Group, University of Zurich)",
            "GPL-3.0",
        ),
        Published("e2vid-plus", "CHECKPOINT.pth", "the page of event_cnn_minimal or of EVREAL", "none stated"),
    )
    without: str = WITHOUT

    def recognise(
        self, tensors: Mapping[str, Array], config: Mapping[str, Any], given: Mapping[str, str]
    ) -> tuple[Mapping[str, Array], Properties]:
        """See :meth:`rtpipe.weights.learned.Learned.recognise`. May be given: ``normalisation`` of the voxel grid
        (``legacy``, ``none``) and ``padding`` (``reflect``, ``zeros``)."""
        found = dict(tensors)
        plus = any(name.startswith(ROOTS[1]) for name in found)
        if plus:
            found = {ROOTS[0] + name.removeprefix(ROOTS[1]): array for name, array in found.items()}
        norm = any(".norm_layer." in name for name in found)
        upsample = not any(".transposed_conv2d." in name for name in found)
        found = matched(found, e2vid_shapes(norm, upsample, plus), "E2VID+" if plus else "E2VID")
        _refuse_other("E2VID", config, {"skip_type": "sum", "recurrent_block_type": "convlstm"})
        first = -1 if plus else 1
        chosen = stated(self.name, given, {"normalisation": NORMALISATIONS[::first], "padding": PADDINGS[::first]})
        values = {
            "norm": "bn" if norm else "none",
            "decoder": "upsampled" if upsample else "transposed",
            "activation": "none" if plus else "sigmoid",
            "bins": str(BINS),
            **chosen,
        }
        usual = {(True, False): "", (False, True): "up", (True, True): "bn-up", (False, False): "tconv"}
        return found, Properties(self.name, "plus" if plus else usual[norm, upsample], values)

    def shapes(self, variant: str = "") -> Shapes:
        """Every tensor's shape."""
        return e2vid_shapes(*_kind(variant))

    def parameters(self, variant: str = "") -> int:
        """How many numbers are learned."""
        return learned(e2vid_shapes(*_kind(variant)))

    def gflop(self, resolution: Resolution, variant: str = "") -> float:
        """Billions of operations for one picture of this size, its padding included."""
        norm, upsample, plus = _kind(variant)
        height, width = padded(resolution, "reflect")
        total = 0
        for name, shape in e2vid_shapes(norm, upsample, plus).items():
            if len(shape) == 4:
                part, _, rest = name.removeprefix(ROOTS[0]).partition(".")
                level = int(rest[0]) if rest[0].isdigit() else 0
                halvings = {"encoders": level + 1, "resblocks": LEVELS, "decoders": LEVELS - level - upsample}.get(
                    part, 0
                )
                total += math.prod(shape) * (height >> halvings) * (width >> halvings)
        return 2e-9 * total


@dataclass(frozen=True, slots=True)
class FireNetWeights:
    """Checkpoints of FireNet (variant ``""``) and FireNet+ (``"plus"``)."""

    name: str = FIRENET_NAME
    published: tuple[Published, ...] = (
        Published("firenet", "FireNet.pth", "the page of FireNet's fork of rpg_e2vid or of EVREAL", "GPL-3.0"),
        Published("firenet-plus", "FireNetplus.pth", "the page of event_cnn_minimal or of EVREAL", "none stated"),
    )
    without: str = WITHOUT

    def recognise(
        self, tensors: Mapping[str, Array], config: Mapping[str, Any], given: Mapping[str, str]
    ) -> tuple[Mapping[str, Array], Properties]:
        """See :meth:`rtpipe.weights.learned.Learned.recognise`. May be given: ``normalisation`` of the voxel grid
        (``legacy``, ``none``)."""
        found = dict(tensors)
        plus = "head.conv2d.weight" in found
        if plus:
            parts = {name: name.partition(".") for name in found}
            found = {f"{PLUS.get(part, part)}.{rest}": found[name] for name, (part, _, rest) in parts.items()}
        found = matched(found, firenet_shapes(), "FireNet+" if plus else "FireNet")
        _refuse_other("FireNet", config, {"skip_type": "no_skip", "final_activation": "none"})
        chosen = stated(self.name, given, {"normalisation": NORMALISATIONS[:: -1 if plus else 1]})
        values = {"activation": "none", "bins": str(BINS), "padding": "none", **chosen}
        return found, Properties(self.name, "plus" if plus else "", values)

    def shapes(self, variant: str = "") -> Shapes:
        """Every tensor's shape, the same of each variant."""
        del variant
        return firenet_shapes()

    def parameters(self, variant: str = "") -> int:
        """How many numbers are learned, the same of each variant."""
        del variant
        return learned(firenet_shapes())

    def gflop(self, resolution: Resolution, variant: str = "") -> float:
        """Billions of operations for one picture of this size."""
        del variant
        weights = sum(math.prod(shape) for shape in firenet_shapes().values() if len(shape) == 4)
        return 2e-9 * weights * resolution[0] * resolution[1]


def _kind(variant: str) -> tuple[bool, bool, bool]:
    """Of a variant of E2VID: batch normalisation, interpolation, flow beside the image."""
    return variant in ("", "bn-up"), variant in ("up", "bn-up", "plus"), variant == "plus"


def learned(shapes: Shapes) -> int:
    """How many numbers of these tensors are learned."""
    return sum(math.prod(shape) for name, shape in shapes.items() if not name.endswith(BUFFERS))


E2VID = E2VIDWeights()
FIRENET = FireNetWeights()
