"""Weights of random numbers where a network's own are not installed: the time is the same, the pictures say nothing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType

import numpy as np

from rtpipe.errors import InputError
from rtpipe.types import Array
from rtpipe.weights import store


@contextmanager
def weights_for(name: str, module: ModuleType, chosen: str = "", made_up: bool | None = None) -> Iterator[store.Stored]:
    """Weights of an engine's ``module`` (one with ``NETWORK``): ``chosen`` (a name or a file), else the usual ones.

    ``made_up`` True: random ones; None: random ones where the usual are not installed; False: then ``InputError`` says
    how to get them. Random ones lie in a folder of their own for as long as the context lasts.
    """
    if not made_up:
        try:
            stored: store.Stored = module.Engine(module.Settings(weights=chosen)).network.weights
        except InputError:
            if chosen or made_up is False or not hasattr(module.NETWORK, "shapes"):
                raise
        else:
            yield stored
            return
    if not hasattr(module.NETWORK, "shapes"):
        raise InputError(f"{name} does not say its tensors' shapes: it cannot be given random weights")
    with tempfile.TemporaryDirectory(prefix="rtpipe-random-") as folder:
        found, properties = module.NETWORK.recognise(random_weights(module.NETWORK.shapes()), {}, {})
        with _stored_in(folder):
            stored = store.save(found, properties, {"file": "random numbers"}, name=f"{name}-random")
        yield stored


def is_made_up(stored: store.Stored) -> bool:
    """Whether these weights are random numbers."""
    return stored.provenance.get("file") == "random numbers"


def random_weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """Tensors that keep a network's activations near 1: they never overflow, and never reach numbers so small that
    a CPU slows down."""
    random = np.random.default_rng(0)
    made: dict[str, Array] = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            made[name] = np.zeros(shape, np.int64)
        elif len(shape) < 2:
            low = 0.9 if name.endswith(("weight", "running_var")) else 0.01
            made[name] = random.uniform(low, low + 0.1, shape).astype(np.float32)
        else:
            made[name] = (random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
    return made


@contextmanager
def _stored_in(folder: str) -> Iterator[None]:
    before = os.environ.get("RTPIPE_WEIGHTS")
    os.environ["RTPIPE_WEIGHTS"] = folder
    try:
        yield
    finally:
        if before is None:
            del os.environ["RTPIPE_WEIGHTS"]
        else:
            os.environ["RTPIPE_WEIGHTS"] = before
