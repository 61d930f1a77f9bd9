"""What the two published checkpoints of PIE-Net are, and how they come out of the package that brings them.

``event-pienet`` carries both in its wheel. They are read as files, without importing the package: neither it nor
PyTorch needs to work here, and once imported the package may go.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from rtpipe.errors import InputError
from rtpipe.types import Array, Resolution
from rtpipe.weights import checkpoint, store
from rtpipe.weights.learned import Properties, Published
from rtpipe.weights.strict import matched
from rtpipe.weights.words import shown

NAME = "pienet"
BINS = 5
HEAD = 3
"""Maps that the U-Net gives to the head: mean and variance of the change, and the frame before, refined."""
WIDER, FINER = 2, 8
"""The gates' hidden layer is so many times as wide as what enters it; the squeeze takes a share of one in eight."""

PACKAGE = "event-pienet"
INSTALL = f"pip install --no-deps {PACKAGE}"
WITHOUT = "engine: {network: complementary} reconstructs without weights"


@dataclass(frozen=True, slots=True)
class Layout:
    """A variant of the network: channels of the stem and of each level, what each level is pooled by, convolutions
    behind each memory; and the ``file`` in the package."""

    channels: tuple[int, ...]
    pools: tuple[int, ...]
    blocks: int
    file: str

    @property
    def multiple(self) -> int:
        """Sides of the input are padded to multiples of this."""
        return math.prod(self.pools)

    def margins(self, side: int) -> tuple[int, int]:
        """Pixels added before and after a side of this many."""
        missing = -side % self.multiple
        return missing // 2, missing - missing // 2

    def padded(self, resolution: Resolution) -> tuple[int, int]:
        """(height, width) of what the network computes for a sensor of this size."""
        width, height = resolution
        return height + sum(self.margins(height)), width + sum(self.margins(width))


LAYOUTS: Mapping[str, Layout] = {
    "lite": Layout((12, 16, 24), (2, 2), 1, "model_lite.pth"),
    "full": Layout((8, 16, 24, 32), (2, 2, 5), 0, "model.pth"),
}


def layout(variant: str) -> Layout:
    """The variant of this name. Raises ``InputError`` that lists them."""
    if variant not in LAYOUTS:
        raise InputError(f"{NAME} has no variant {shown(variant)}; there is {', '.join(LAYOUTS)}")
    return LAYOUTS[variant]


def _normed(name: str, taken: int, made: int, side: int) -> dict[str, tuple[int, ...]]:
    """A convolution and the normalisation behind it."""
    names = (f"{name}.0.bias", f"{name}.1.weight", f"{name}.1.bias")
    return {f"{name}.0.weight": (made, taken, side, side), **dict.fromkeys(names, (made,))}


def shapes(variant: str) -> dict[str, tuple[int, ...]]:
    """The tensors that the network uses, by their published names."""
    form = layout(variant)
    stem = form.channels[0]
    found = _normed("model.stem.event_branch.mbconv.convna", BINS, stem, 3)
    found |= _normed("model.stem.frame_branch.mbconv.convna", 1, stem, 3)
    levels = list(zip(form.channels, form.channels[1:], strict=False))
    for level, (taken, made) in enumerate(levels):
        name = f"model.downs.{level}"
        gates = f"{name}.mbd.Gates.mbconv"
        inner = WIDER * (taken + made)
        squeezed = max(1, inner // FINER)
        found |= _normed(f"{gates}.0.convna", taken + made, inner, 3)
        found |= {f"{gates}.1.fc1.weight": (squeezed, inner, 1, 1), f"{gates}.1.fc2.weight": (inner, squeezed, 1, 1)}
        found |= _normed(f"{gates}.2.convna", inner, 4 * made, 1)
        found |= {f"{name}.mbd.norm_{state}.{part}": (made,) for state in "hc" for part in ("weight", "bias")}
        for block in range(form.blocks):
            found |= _normed(f"{name}.out.mbconv_{block}.mbconv.convna", made, made, 3)
        found |= {f"{name}.film.film.weight": (2 * made, 2 * stem, 1, 1), f"{name}.film.film.bias": (2 * made,)}
    for level, (made, taken) in enumerate(reversed(levels)):
        name = f"model.ups.{level}"
        found |= _normed(f"{name}.fuse.0.mbconv.convna", 2 * taken, made, 3)
        found |= {f"{name}.ugate.gate_conv.weight": (taken, 1, 1, 1), f"{name}.ugate.gate_conv.bias": (taken,)}
    found |= {"model.outc.weight": (HEAD, stem, 1, 1), "model.outc.bias": (HEAD,)}
    return found | _normed("cal_k.mbconv.convna", HEAD, 1, 3)


def _spare(variant: str) -> dict[str, tuple[int, ...]]:
    """Tensors that a published file holds beside those of its network, which never computes with them."""
    form = layout(variant)
    if form.blocks:
        return {}
    spare: dict[str, tuple[int, ...]] = {}
    for level, made in enumerate(form.channels[1:]):
        spare |= _normed(f"model.downs.{level}.out.mbconv_0.mbconv.convna", made, made, 3)
    return spare


@dataclass(frozen=True, slots=True)
class PIENetWeights:
    """Checkpoints of PIE-Net (variant ``"full"``) and PIE-Net-Lite (``"lite"``)."""

    name: str = NAME
    published: tuple[Published, ...] = tuple(
        Published(f"{NAME}-{variant}", "", f"after: {INSTALL}", "MIT") for variant in LAYOUTS
    )
    without: str = WITHOUT
    runtimes: tuple[str, ...] = ("tensorrt", "onnxruntime")

    def recognise(
        self, tensors: Mapping[str, Array], config: Mapping[str, Any], given: Mapping[str, str]
    ) -> tuple[Mapping[str, Array], Properties]:
        """See :meth:`rtpipe.weights.learned.Learned.recognise`. Nothing may be given: the tensors tell the variant."""
        del config
        if given:
            raise InputError(f"{NAME} has no property {shown(next(iter(given)))}: there is nothing to state")
        variant = "full" if any(name.startswith("model.downs.2.") for name in tensors) else "lite"
        spare = _spare(variant)
        if spare.keys() <= tensors.keys():
            matched({name: tensors[name] for name in spare}, spare, f"PIE-Net ({variant})")
            tensors = {name: array for name, array in tensors.items() if name not in spare}
        found = matched(tensors, shapes(variant), f"PIE-Net ({variant})")
        values = {"representation": "voxel", "bins": str(BINS), "normalisation": "none", "padding": "zeros"}
        return found, Properties(NAME, variant, values)

    def shapes(self, variant: str = "lite") -> Mapping[str, tuple[int, ...]]:
        """The tensors that the network uses, by their published names."""
        return shapes(variant)

    def parameters(self, variant: str = "lite") -> int:
        """How many numbers are learned."""
        return sum(math.prod(shape) for shape in shapes(variant or "lite").values())

    def gflop(self, resolution: Resolution, variant: str = "lite") -> float:
        """Billions of operations of the convolutions for one picture of this size, its padding included."""
        variant = variant or "lite"
        form = layout(variant)
        height, width = form.padded(resolution)
        scales = [math.prod(form.pools[:level]) for level in range(len(form.pools) + 1)]
        total = 0
        for name, shape in shapes(variant).items():
            if len(shape) != 4 or ".fc" in name or ".film." in name:  # those see one pixel
                continue
            part, _, rest = name.removeprefix("model.").partition(".")
            scale = 1
            if part == "downs":
                scale = scales[int(rest[0])]
            elif part == "ups":
                scale = scales[len(form.pools) - 1 - int(rest[0])]
            total += math.prod(shape) * (height // scale) * (width // scale)
        return 2e-9 * total

    def import_packaged(self, overwrite: bool = False) -> Sequence[store.Listed]:
        """Take both out of the installed package into the store, with its licence. Raises ``InputError`` in two lines:
        what to type where the package is not there."""
        package = _package()
        licence = _licence(package)
        return tuple(self._take(variant, package, licence, overwrite) for variant in LAYOUTS)

    def _take(self, variant: str, package: metadata.Distribution, licence: str, overwrite: bool) -> store.Listed:
        path = Path(str(package.locate_file(f"pie_net/pretrained/{LAYOUTS[variant].file}")))
        found = checkpoint.read(path)
        try:
            tensors, properties = self.recognise(found.tensors, found.config, {})
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        if properties.variant != variant:
            raise InputError(f"{path}: holds PIE-Net {properties.variant} where {variant} belongs")
        provenance = {
            "file": found.file,
            "sha256": found.sha256,
            "package": f"{PACKAGE} {package.version}",
            "licence": str(package.metadata["License"]),
            "licence_text": licence,
            "imported": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
            "read_by": found.read_by,
        }
        there = _same(store.name_of(properties), found.sha256, properties)
        stored = there if there and not overwrite else store.save(tensors, properties, provenance, overwrite=overwrite)
        return store.Listed(stored.path.stem, stored.path, stored.properties, stored.provenance)


def _same(name: str, sha256: str, properties: Properties) -> store.Stored | None:
    """The weights of this name, if they came from the same file."""
    try:
        there = store.load(name)
    except InputError:
        return None
    return there if there.provenance.get("sha256") == sha256 and there.properties == properties else None


def _package() -> metadata.Distribution:
    try:
        return metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError as error:
        raise InputError(
            f"PIE-Net comes in the package {PACKAGE} (MIT, 1 MB), which is not installed\n"
            f"type: {INSTALL}; then: rtpipe engines import {NAME}; or go on without: {WITHOUT}"
        ) from error


def _licence(package: metadata.Distribution) -> str:
    """The text that the licence wants kept with the weights; empty where the package has no such file."""
    return next((text for name in ("LICENSE", "licenses/LICENSE") if (text := package.read_text(name))), "").strip()
