"""E2VID and FireNet with golden weights: as networks, and as installed weights."""

import importlib.util
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from engines.e2vid import hyper_weights, weights
from rtpipe.types import Array, Events
from rtpipe.weights import store
from rtpipe.window.voxel import voxel_grid

Shared = Callable[[str], Path]
GOLDEN = "networks/golden"

NETWORKS = {
    "e2vid-bn": (weights.E2VID, weights.e2vid_shapes(norm=True, upsample=False)),
    "e2vid-up": (weights.E2VID, weights.e2vid_shapes(norm=False, upsample=True)),
    "firenet": (weights.FIRENET, weights.firenet_shapes()),
    "hyper": (hyper_weights.HYPER, hyper_weights.shapes()),
}
"""What recognises each network of the golden set, and its tensors."""


@cache
def rule(path: Path) -> Any:
    """The module that makes a golden tensor from its name."""
    spec = importlib.util.spec_from_file_location("golden_weights", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tensors(shared: Shared, kind: str) -> dict[str, Array]:
    made = rule(shared(f"{GOLDEN}/weights.py")).golden_state_dict(NETWORKS[kind][1])
    if kind == "hyper":  # the only tensor that keeps its real values
        made["unetrecurrent.decoders.0.dynamic_atom_generation.bases"] = case(shared, "hyper-a")["bases"]
    return made


def case(shared: Shared, name: str) -> Mapping[str, Array]:
    with np.load(shared(f"{GOLDEN}/{name}.npz")) as file:
        return dict(file)


def cases(shared: Shared, pattern: str) -> dict[str, Mapping[str, Array]]:
    found = {path.stem: case(shared, path.stem) for path in sorted(shared(GOLDEN).glob(f"{pattern}.npz"))}
    assert found
    return found


def stored(shared: Shared, kind: str, **given: str) -> store.Stored:
    """Golden weights as if they had been imported."""
    named, properties = NETWORKS[kind][0].recognise(tensors(shared, kind), {}, given)
    return store.Stored(Path("golden.safetensors"), named, properties, store.fingerprint(named))


def install(shared: Shared, kind: str) -> None:
    """Golden weights in the store, under their usual name."""
    one = stored(shared, kind)
    store.save(one.tensors, one.properties, {})


def resolution(golden: Mapping[str, Array]) -> tuple[int, int]:
    return int(golden["W"]), int(golden["H"])


def grid(golden: Mapping[str, Array], step: int | str = "") -> Array:
    """Our raw voxel grid of the case's events."""
    events = Events(*(golden[f"in_{column}{step}"] for column in "txyp"))
    return voxel_grid(events, bins=5, resolution=resolution(golden))
