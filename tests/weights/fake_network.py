"""A small network as another package would bring one: an engine module with weights, entry points and all."""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtpipe import registry
from rtpipe.errors import InputError
from rtpipe.types import Array, Resolution
from rtpipe.weights import store
from rtpipe.weights.learned import Properties, Published
from rtpipe.weights.strict import matched

SHAPES: dict[str, tuple[int, ...]] = {"head.weight": (4, 2, 3, 3), "head.bias": (4,), "norm.num_batches_tracked": ()}


def tensors(seed: int = 0, **other: tuple[int, ...]) -> dict[str, Array]:
    """Weights that fit; ``other`` shapes make them not fit."""
    chance = np.random.default_rng(seed)
    made = {name: chance.normal(size=shape).astype(np.float32) for name, shape in {**SHAPES, **other}.items()}
    made["norm.num_batches_tracked"] = np.array(7, np.int64)
    return made


class Network:
    """See :class:`rtpipe.weights.learned.Learned`."""

    def __init__(self, name: str, prefix: str = "") -> None:
        self.name = name
        self.prefix = prefix
        self.published = (
            Published(f"{name}-gopro", "Fake-GoPro.pth", "the authors' page", "Apache-2.0"),
            Published(f"{name}-night", "Fake-Night.pth", "the authors' page", "none"),
        )
        self.without = "engine: edi deblurs without weights"

    def recognise(
        self, tensors: Mapping[str, Array], config: Mapping[str, Any], given: Mapping[str, str]
    ) -> tuple[Mapping[str, Array], Properties]:
        shapes = {self.prefix + name: shape for name, shape in SHAPES.items()}
        found = matched(tensors, shapes, self.name.title())
        if given.get("color_order", "bgr") not in ("bgr", "rgb"):
            raise InputError("color_order: bgr or rgb")
        values = {"color_order": given.get("color_order", "bgr"), "mask": "yes", "called": str(config.get("file"))}
        return found, Properties(self.name, given.get("variant", "gopro"), values)

    def parameters(self, variant: str = "") -> int:
        return 76

    def gflop(self, resolution: Resolution, variant: str = "") -> float:
        if variant == "night":
            raise InputError("no such variant")
        return 76 * 2e-9 * resolution[0] * resolution[1]


class Packaged(Network):
    """One that brings its weights in a Python package, and runs with one runtime only."""

    runtimes = ("onnxruntime",)

    def import_packaged(self, overwrite: bool) -> Sequence[store.Listed]:
        properties = Properties(self.name, "lite", {"bins": "5"})
        done = store.save(tensors(), properties, {"file": "package 1.1"}, overwrite=overwrite)
        return [store.Listed(done.path.stem, done.path, properties, done.provenance)]


MODULES = {
    "fake": Network("fake"),
    "fakeother": Network("fakeother", "net."),
    "fakepackaged": Packaged("fakepackaged"),
}


@contextmanager
def installed(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """The networks installed as a package of their own, and a store of their own below ``folder``."""
    site = folder / "site"
    info = site / "rtpipe_fake-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rtpipe-fake\nVersion: 1.0\n")
    points = [f"{name} = fake_engine_{name}" for name in MODULES]
    (info / "entry_points.txt").write_text(
        "\n".join(["[rtpipe.engines]", *points, "fakebroken = fake_engine_gone", ""])
    )
    for name in MODULES:
        source = f"from tests.weights.fake_network import MODULES\nNETWORK = MODULES[{name!r}]\n"
        (site / f"fake_engine_{name}.py").write_text(source)
    patch.syspath_prepend(site)
    patch.setenv("RTPIPE_WEIGHTS", str(folder / "weights"))
    importlib.invalidate_caches()
    registry.names.cache_clear()
    registry.load.cache_clear()
    try:
        yield
    finally:
        patch.undo()
        registry.names.cache_clear()
        registry.load.cache_clear()
