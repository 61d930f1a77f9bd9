"""PIE-Net at one sensor size, written as an ONNX file from its weights: no PyTorch, no package, nothing to export.

A recurrent U-Net sees the voxel grid and its own last image, and tells for every pixel by how much the light changed,
how sure that is, and what the last image should have been; the head turns that into the next image and its variance,
which gates the skip connections of the step after. See docs/pienet.md.

What is stateful are the memories (``h0``, ``c0``, ...), the last ``frame`` and ``variance``, and whether there was one
(``seen``): in the first step the gates are open, which a variance of zero would not say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import numpy as np

from engines.pienet.weights import BINS, NAME, Layout, layout, shapes
from engines.pienet.writer import DType, Writer
from engines.runtime.graph import Graph, Port
from rtpipe.errors import InputError
from rtpipe.types import Array, Resolution
from rtpipe.weights.store import Stored
from rtpipe.weights.strict import matched

INPUT, OUTPUT = "voxel", "image"
EPSILON = 1e-5
"""Of every normalisation."""

MEMORY_GROUPS = 4
"""A memory's channels are normalised in so many groups; everything else in one."""

OPEN = 100.0
"""What is added to a gate's argument to open it fully."""

KEEP_FLOAT32 = ("cal_k",)
"""The head's convolution, of three channels."""

FLOAT: DType = np.dtype(np.float32)
DTYPES: Mapping[str, DType] = {"fp32": FLOAT, "fp16": np.dtype(np.float16)}


def pienet(stored: Stored, resolution: Resolution) -> Graph:
    """The network for a sensor of this size: a raw voxel grid (1, 5, H, W) in, an image (1, 1, H, W) out, about 0 to 1;
    padding and cropping are inside. Raises ``InputError`` for weights that are another network's."""
    properties = stored.properties
    if properties.network != NAME:
        raise InputError(f"{stored.path}: weights of {properties.network}, not of {NAME}")
    try:
        matched(stored.tensors, shapes(properties.variant), f"PIE-Net ({properties.variant})")
    except InputError as error:
        raise InputError(f"{stored.path}: {error}") from error
    width, height = resolution
    return Graph(
        f"{NAME}-{properties.variant}",
        (Port(INPUT, (1, BINS, height, width)),),
        (Port(OUTPUT, (1, 1, height, width)),),
        states(layout(properties.variant), resolution),
        stored.sha256,
        onnx=partial(written, stored.tensors, properties.variant, resolution),
        keep_float32=KEEP_FLOAT32,
    )


def states(form: Layout, resolution: Resolution) -> tuple[Port, ...]:
    """What is carried from step to step; all zero is the beginning."""
    height, width = form.padded(resolution)
    ports = []
    for level, channels in enumerate(form.channels[1:]):
        scale = math.prod(form.pools[:level])
        ports += [Port(f"{kind}{level}", (1, channels, height // scale, width // scale)) for kind in "hc"]
    one = (1, 1, height, width)
    return (*ports, Port("frame", one), Port("variance", one), Port("seen", (1, 1, 1, 1)))


def written(tensors: Mapping[str, Array], variant: str, resolution: Resolution, precision: str) -> bytes:
    """The ONNX file: inputs and outputs float32, states in ``precision`` (outputs ``NAME_next``). In half precision
    normalisations and the head compute in single."""
    return _Drawing(tensors, layout(variant), resolution, precision).data(variant)


class _Drawing:
    """Draws the network, part by part. Methods take and give names of values."""

    def __init__(self, tensors: Mapping[str, Array], form: Layout, resolution: Resolution, precision: str) -> None:
        self._tensors, self._form, self._resolution = tensors, form, resolution
        self._dtype = DTYPES[precision]
        self._to = Writer(NAME)
        self._add = self._to.add
        self._height, self._width = form.padded(resolution)

    def data(self, variant: str) -> bytes:
        """Draw all of it."""
        width, height = self._resolution
        ports = states(self._form, self._resolution)
        grid = self._narrow(self._to.input(INPUT, (1, BINS, height, width), FLOAT))
        old = {port.name: self._to.input(port.name, port.shape, self._dtype) for port in ports}
        top, bottom = self._form.margins(height)
        left, right = self._form.margins(width)
        if (self._height, self._width) != (height, width):
            grid = self._add("Pad", grid, self._integers("margins", 0, 0, top, left, 0, 0, bottom, right))
        new = self._steps(grid, old)
        image = new["frame"]
        if (self._height, self._width) != (height, width):
            first, last = self._integers("first", top, left), self._integers("last", top + height, left + width)
            image = self._add("Slice", image, first, last, self._integers("sides", 2, 3))
        self._to.output(OUTPUT, image, (1, 1, height, width), FLOAT)
        for port in ports:
            made = new[port.name] if port.name == "seen" else self._narrow(new[port.name])
            self._to.output(f"{port.name}_next", made, port.shape, self._dtype)
        return self._to.data({"network": NAME, "variant": variant})

    def _steps(self, grid: str, old: Mapping[str, str]) -> dict[str, str]:
        """One step: every state's next value, those in float32 that the head made."""
        events = self._normed("model.stem.event_branch.mbconv.convna", grid)
        frame = self._normed("model.stem.frame_branch.mbconv.convna", old["frame"])
        told = self._add("Concat", *(self._mean(each, 3, 2) for each in (events, frame)), axis=1)
        x = self._add("Add", events, frame)
        new: dict[str, str] = {}
        skips = []
        for level, pool in enumerate(self._form.pools):
            h, c = self._remember(level, x, old[f"h{level}"], old[f"c{level}"])
            new |= {f"h{level}": h, f"c{level}": c}
            y = self._modulated(level, self._deeper(level, h), told)
            skips.append(y)
            x = self._add("MaxPool", y, kernel_shape=[pool, pool], strides=[pool, pool])
        for step, level in enumerate(reversed(range(len(skips)))):
            x = self._risen(step, level, x, skips[level], old["variance"], old["seen"])
        new["frame"], new["variance"] = self._head(self._conv("model.outc", x))
        new["seen"] = self._add("Max", old["seen"], self._number("one", 1.0, self._dtype))
        return new

    def _remember(self, level: int, x: str, h: str, c: str) -> tuple[str, str]:
        """The memory: its next output and cell."""
        name, channels = f"model.downs.{level}.mbd", self._form.channels[level + 1]
        inner = self._normed(f"{name}.Gates.mbconv.0.convna", self._add("Concat", x, h, axis=1), level)
        weight = self._squeezed(f"{name}.Gates.mbconv.1", inner, f"{name}.Gates.mbconv.2.convna.0.weight")
        gates = self._add("Conv", inner, weight, self._weight(f"{name}.Gates.mbconv.2.convna.0.bias"))
        gates = self._scaled(f"{name}.Gates.mbconv.2.convna.1", gates, 4 * channels, level)
        sizes = self._integers(f"gates{level}", 3 * channels, channels)
        three, proposed = self._to.several(2, "Split", gates, sizes, axis=1)
        sizes = self._integers(f"three{level}", channels, channels, channels)
        taken, kept, shown = self._to.several(3, "Split", self._add("Sigmoid", three), sizes, axis=1)
        mixed = self._add("Mul", taken, self._add("Tanh", proposed))
        mixed = self._add("Add", self._add("Mul", kept, c), mixed)
        cell = self._scaled(f"{name}.norm_c", mixed, channels, level, MEMORY_GROUPS)
        out = self._add("Mul", shown, self._add("Tanh", cell))
        return self._scaled(f"{name}.norm_h", out, channels, level, MEMORY_GROUPS), cell

    def _squeezed(self, name: str, x: str, kernel: str) -> str:
        """How much each channel of ``x`` counts, told by all of them, as part of the kernel that reads them."""
        mean = self._mean(x, 3, 2)
        hidden = self._add("Relu", self._add("Conv", mean, self._weight(f"{name}.fc1.weight")))
        share = self._add("Sigmoid", self._add("Conv", hidden, self._weight(f"{name}.fc2.weight")))
        return self._add("Mul", self._weight(kernel), share)

    def _deeper(self, level: int, h: str) -> str:
        for block in range(self._form.blocks):
            h = self._add("Add", h, self._normed(f"model.downs.{level}.out.mbconv_{block}.mbconv.convna", h, level))
        return h

    def _modulated(self, level: int, y: str, told: str) -> str:
        """Scaled and shifted as the means of events and frame say."""
        channels = self._form.channels[level + 1]
        both = self._conv(f"model.downs.{level}.film.film", told)
        sizes = self._integers(f"film{level}", channels, channels)
        factor, offset = self._to.several(2, "Split", both, sizes, axis=1)
        factor = self._add("Add", factor, self._number("one", 1.0, self._dtype))
        return self._add("Add", self._add("Mul", y, factor), offset)

    def _risen(self, step: int, level: int, x: str, skip: str, variance: str, seen: str) -> str:
        """One level up: ``x`` enlarged beside the skip connection, which the variance gates."""
        name, channels = f"model.ups.{step}", self._form.channels[level + 1]
        bias = self._add("Sub", self._number("one", 1.0, self._dtype), seen)
        bias = self._add("Mul", bias, self._number("open", OPEN, self._dtype))
        bias = self._add("Reshape", bias, self._integers("scalar", 1))
        bias = self._add("Add", self._weight(f"{name}.ugate.gate_conv.bias"), bias)
        if level:
            variance = self._resized(variance, 1, level)
        gate = self._add("Conv", variance, self._weight(f"{name}.ugate.gate_conv.weight"), bias)
        skip = self._add("Mul", skip, self._add("Sigmoid", gate))
        x = self._add("Concat", skip, self._resized(x, channels, level), axis=1)
        return self._normed(f"{name}.fuse.0.mbconv.convna", x, level)

    def _head(self, maps: str) -> tuple[str, str]:
        """Image and variance from the three maps, in float32."""
        maps = self._wide(maps)
        bend = self._add("Relu", self._normed("cal_k.mbconv.convna", maps, dtype=FLOAT))
        positive = self._add("Relu", maps)
        mean, spread, before = self._to.several(3, "Split", positive, self._integers("maps", 1, 1, 1), axis=1)
        lifted = self._add("Add", before, bend)
        image = self._add("Sub", self._add("Mul", lifted, mean), bend)
        image = self._add("Clip", image, self._number("black", 0.0), self._number("white", 1.0))
        return image, self._add("Mul", self._add("Mul", lifted, lifted), spread)

    def _normed(self, name: str, x: str, level: int = 0, dtype: DType | None = None) -> str:
        """A convolution, normalised, and bent by ``x * sigmoid(x)``."""
        dtype = dtype or self._dtype
        made, _, side, _ = self._tensors[f"{name}.0.weight"].shape
        x = self._scaled(f"{name}.1", self._conv(f"{name}.0", x, side // 2, dtype), made, level, dtype=dtype)
        return self._add("Mul", x, self._add("Sigmoid", x))

    def _conv(self, name: str, x: str, pad: int = 0, dtype: DType | None = None) -> str:
        weight, bias = self._weight(f"{name}.weight", dtype), self._weight(f"{name}.bias", dtype)
        return self._add("Conv", x, weight, bias, pads=[pad] * 4)

    def _scaled(self, name: str, x: str, channels: int, level: int, groups: int = 1, dtype: DType | None = None) -> str:
        """Mean 0 and variance 1 over each group of channels, then each channel's own scale and offset.

        Sums are taken row by row first: runtimes add up millions of numbers in float32, which costs three digits.
        """
        half = (dtype or self._dtype) != FLOAT
        x = self._wide(x) if half else x
        scale = math.prod(self._form.pools[:level])
        height, width = self._height // scale, self._width // scale
        grouped = x
        if groups > 1:
            size = self._integers(
                f"{groups} groups of {channels} at {level}", groups, channels // groups, height, width
            )
            grouped = self._add("Reshape", x, size)
        mean = self._mean(grouped, 3, 2, 1)
        centred = self._add("Sub", grouped, mean)
        variance = self._mean(self._add("Mul", centred, centred), 3, 2, 1)
        deviation = self._add("Sqrt", self._add("Add", variance, self._number("least", EPSILON)))
        mean, deviation = self._each(mean, channels, groups), self._each(deviation, channels, groups)
        factor = self._add("Div", self._column(f"{name}.weight"), deviation)
        offset = self._add("Sub", self._column(f"{name}.bias"), self._add("Mul", mean, factor))
        x = self._add("Add", self._add("Mul", x, factor), offset)
        return self._narrow(x) if half else x

    def _each(self, x: str, channels: int, groups: int) -> str:
        """A group's number (groups, 1, 1, 1) for each of its channels."""
        if groups == 1:
            return x
        x = self._add("Expand", x, self._integers(f"{groups} of {channels}", groups, channels // groups, 1, 1))
        return self._add("Reshape", x, self._integers(f"{channels} channels", 1, channels, 1, 1))

    def _mean(self, x: str, *axes: int) -> str:
        for axis in axes:
            x = self._add("ReduceMean", x, axes=[axis])
        return x

    def _column(self, name: str) -> str:
        """A number for each channel, float32 (1, C, 1, 1)."""
        return self._to.constant(name, self._tensors[name].reshape(1, -1, 1, 1))

    def _resized(self, x: str, channels: int, level: int) -> str:
        """To the size of a level, linear between pixels, corner on corner."""
        scale = math.prod(self._form.pools[:level])
        shape = self._integers(f"{channels} at {level}", 1, channels, self._height // scale, self._width // scale)
        how = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
        return self._add("Resize", x, "", "", shape, **how)

    def _weight(self, name: str, dtype: DType | None = None) -> str:
        return self._to.constant(name, self._tensors[name].astype(dtype or self._dtype, copy=False))

    def _integers(self, name: str, *values: int) -> str:
        return self._to.constant(f"int {name}", np.array(values, np.int64))

    def _number(self, name: str, value: float, dtype: DType = FLOAT) -> str:
        return self._to.constant(f"{dtype.name} {name}", np.array(value, dtype))

    def _wide(self, x: str) -> str:
        return x if self._dtype == FLOAT else self._add("Cast", x, to=1)

    def _narrow(self, x: str) -> str:
        return x if self._dtype == FLOAT else self._add("Cast", x, to=10)
