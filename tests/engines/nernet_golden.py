"""NER-Net with golden weights: as arrays, as installed weights, as a published checkpoint would come."""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from engines.nernet import weights
from engines.nernet.prepare import table
from rtpipe.types import Array, Events
from rtpipe.weights import checkpoint, store
from rtpipe.window.letc import calibrated_voxel
from tests.engines.e2vid_golden import rule

Shared = Callable[[str], Path]
GOLDEN = "networks/golden"


def tensors(shared: Shared, shapes: weights.Shapes | None = None) -> dict[str, Array]:
    """Those of ``shapes``, or of the whole network."""
    made: dict[str, Array] = rule(shared(f"{GOLDEN}/weights.py")).golden_state_dict(shapes or weights.shapes())
    return made


@cache
def stored(shared: Shared) -> store.Stored:
    """Golden weights as if they had been imported."""
    named, properties = weights.NETWORK.recognise(tensors(shared), {}, {})
    return store.Stored(Path("golden.safetensors"), named, properties, store.fingerprint(named))


def published(shared: Shared) -> dict[str, Array]:
    """The representation that comes with the published code, under the network's names."""
    read = checkpoint.read(shared("weights/nernet_letc.pth"))
    found, _ = weights.NETWORK.recognise(read.tensors, read.config, {})
    return dict(found)


def case(shared: Shared, name: str) -> Mapping[str, Array]:
    with np.load(shared(f"{GOLDEN}/{name}.npz")) as file:
        return dict(file)


def resolution(golden: Mapping[str, Array]) -> tuple[int, int]:
    return int(golden["W"]), int(golden["H"])


def voxel(golden: Mapping[str, Array], step: int, tensors: Mapping[str, Array]) -> Array:
    """Our calibrated voxel of one of the case's windows."""
    events = Events(*(golden[f"in_{column}{step}"] for column in "txyp"))
    return calibrated_voxel(events, table(tensors), resolution=resolution(golden))


def write_checkpoint(path: Path, tensors: Mapping[str, Array], prefix: str = "", **more: Any) -> Path:
    """A file in the layout of the published checkpoint."""
    import torch

    state = {f"{prefix}{name}": torch.from_numpy(np.array(array)) for name, array in tensors.items()}
    torch.save(
        {"arch": "RepresentationRecurrent", "epoch": 200, "state_dict": state, "monitor_best": 0.1, **more}, path
    )
    return path
