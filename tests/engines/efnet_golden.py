"""EFNet with golden weights: as arrays, as the network, as installed weights, as a published checkpoint would come."""

import importlib.util
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np

from engines.efnet import weights
from rtpipe.types import Array, Events, Frame, Window
from rtpipe.weights import store
from rtpipe.weights.learned import Properties
from rtpipe.window.scer import scer
from rtpipe.window.voxel import voxel_grid

Shared = Callable[[str], Path]
GOLDEN = "networks/golden"
GOPRO = {"color_order": "bgr", "mask": "yes", "representation": "scer", "norm": "maxabs", "bins": "6"}


@cache
def rule(path: Path):
    """The module that makes a golden tensor from its name."""
    spec = importlib.util.spec_from_file_location("golden_weights", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tensors(shared: Shared) -> dict[str, Array]:
    return rule(shared(f"{GOLDEN}/weights.py")).golden_state_dict(weights.shapes())


def case(shared: Shared, name: str) -> Mapping[str, Array]:
    with np.load(shared(f"{GOLDEN}/{name}.npz")) as file:
        return dict(file)


def cases(shared: Shared, pattern: str) -> dict[str, Mapping[str, Array]]:
    return {path.stem: case(shared, path.stem) for path in sorted(shared(GOLDEN).glob(f"{pattern}.npz"))}


def stored(shared: Shared, values: Mapping[str, str] = GOPRO) -> store.Stored:
    """Golden weights as if they had been imported with these properties."""
    found = tensors(shared)
    return store.Stored(
        Path("golden.safetensors"), found, Properties("efnet", "golden", values), store.fingerprint(found)
    )


def install(shared: Shared, name: str, values: Mapping[str, str] = GOPRO) -> None:
    store.save(tensors(shared), Properties("efnet", name.removeprefix("efnet-"), values), {}, name=name)


def events_of(golden: Mapping[str, Array]) -> Events:
    return Events(golden["t"], golden["x"], golden["y"], golden["p"])


def window_of(golden: Mapping[str, Array], image: Array, representation: str = "scer") -> Window:
    """The golden case's events and picture as the window stage would hand them over."""
    events = events_of(golden)
    resolution = image.shape[1], image.shape[0]
    if representation == "scer":
        tensor = scer(events, resolution=resolution)
    else:
        tensor = voxel_grid(events, bins=6, resolution=resolution)
    start, end = int(events.t[0]), int(events.t[-1]) + 1
    return Window(start, end, len(events), tensor, frame=Frame(image, (start + end) // 2, start, end))


def relative(found: Array, expected: Array) -> float:
    """The greatest difference as a part of the greatest value."""
    return float(np.abs(np.asarray(found) - expected).max() / np.abs(expected).max())
