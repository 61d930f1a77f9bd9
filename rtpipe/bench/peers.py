"""What other packages offer for the same tensors: each at its best, made ready outside the clock.

A peer is given the windows once and returns one call per window; what it converts beforehand (an index type, a stream
object of its own) is not measured. Packages that are not installed are left out.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from rtpipe.types import Array, Events, Resolution

Work: TypeAlias = Sequence[Callable[[], Any]]
"""One call for each window; what it returns is the tensor, or something that holds it."""

Peer: TypeAlias = Callable[[Sequence[Events], Resolution], Work]


def malloc_note() -> str:
    """The allocator's settings, which make NumPy look several times slower or faster."""
    found = {name: value for name, value in os.environ.items() if name.startswith(("MALLOC_", "LD_PRELOAD"))}
    return "malloc: " + (", ".join(f"{name}={value}" for name, value in sorted(found.items())) or "defaults")


def numpy_voxel(windows: Sequence[Events], resolution: Resolution, bins: int = 5) -> Work:
    """``np.add.at`` on one grid that is used again; temporary columns too are allocated once."""
    return _numpy_grid(windows, resolution, bins, apart=False)


def numpy_two_polarity(windows: Sequence[Events], resolution: Resolution, bins: int = 5) -> Work:
    """The same with a grid for each polarity."""
    return _numpy_grid(windows, resolution, bins, apart=True)


def _numpy_grid(windows: Sequence[Events], resolution: Resolution, bins: int, apart: bool) -> Work:
    width, height = resolution
    planes = 2 * bins if apart else bins
    grid = np.zeros(planes * height * width, np.float32)
    room = max(len(window) for window in windows)
    tau, weight = np.empty((2, room), np.float32)
    index, step = np.empty((2, room), np.int64)

    def fill(events: Events) -> Array:
        n = len(events)
        a, w, i, k = tau[:n], weight[:n], index[:n], step[:n]
        grid.fill(0)
        np.subtract(events.t, events.t[0], out=i)
        np.multiply(i, np.float32((bins - 1) / max(int(i[-1]), 1)), out=a, casting="unsafe")
        np.minimum(a, bins - 1 - 1e-6, out=a)
        np.floor(a, out=w)
        np.copyto(k, w, casting="unsafe")
        a -= w
        np.multiply(events.y, np.int64(width), out=i)
        i += events.x
        k *= width * height
        i += k
        if apart:
            np.multiply(events.p, np.int64(-bins * width * height), out=k)
            k += bins * width * height
            i += k
            w.fill(1)
        else:
            np.multiply(events.p, np.float32(2), out=w)
            w -= 1
        a *= w
        w -= a
        np.add.at(grid, i, w)
        i += width * height
        np.add.at(grid, i, a)
        return grid.reshape(planes, height, width)

    return [partial(fill, window) for window in windows]


def numpy_count(windows: Sequence[Events], resolution: Resolution) -> Work:
    """``np.bincount`` over one index column that is allocated once."""
    width, height = resolution
    index = np.empty(max(len(window) for window in windows), np.int64)

    def fill(events: Events) -> Array:
        i = index[: len(events)]
        np.multiply(events.p, np.int64(height), out=i)
        i += events.y
        i *= width
        i += events.x
        return np.bincount(i, minlength=2 * height * width).reshape(2, height, width)

    return [partial(fill, window) for window in windows]


def torch_voxel(windows: Sequence[Events], resolution: Resolution, bins: int = 5) -> Work:
    """``scatter_add_`` on one thread and one grid that is used again."""
    return _torch_grid(windows, resolution, bins, apart=False)


def torch_two_polarity(windows: Sequence[Events], resolution: Resolution, bins: int = 5) -> Work:
    """The same with a grid for each polarity."""
    return _torch_grid(windows, resolution, bins, apart=True)


def _torch_grid(windows: Sequence[Events], resolution: Resolution, bins: int, apart: bool) -> Work:
    import torch

    torch.set_num_threads(1)
    width, height = resolution
    planes = 2 * bins if apart else bins
    grid = torch.zeros(planes * height * width)

    def fill(t: Any, x: Any, y: Any, p: Any) -> Any:
        grid.zero_()
        tau = (t - t[0]).to(torch.float32) * ((bins - 1) / max(int(t[-1] - t[0]), 1))
        k = tau.to(torch.int64).clamp_(max=bins - 2)
        later = tau - k
        sign = torch.ones_like(later) if apart else p.to(torch.float32) * 2 - 1
        later *= sign
        if apart:
            k += bins * (1 - p.to(torch.int64))
        index = (k * height + y.to(torch.int64)) * width + x.to(torch.int64)
        grid.scatter_add_(0, index, sign - later)
        grid.scatter_add_(0, index + height * width, later)
        return grid.view(planes, height, width)

    return [partial(fill, *_torch_columns(window)) for window in windows]


def numpy_stack(windows: Sequence[Events], resolution: Resolution, chunks: int = 5) -> Work:
    """``np.bincount`` with weights over one index column that is allocated once, no times."""
    width, height = resolution
    room = max(len(window) for window in windows)
    index, weight = np.empty(room, np.int64), np.empty(room, np.float64)

    def fill(events: Events) -> Array:
        n = len(events)
        i, w = index[:n], weight[:n]
        np.multiply(events.y, np.int64(width), out=i)
        i += events.x
        np.multiply(events.p, 2.0, out=w)
        w -= 1
        edges = [n // chunks * c + min(c, n % chunks) for c in range(chunks + 1)]
        for c in range(1, chunks):
            i[edges[c] : edges[c + 1]] += c * width * height
        return np.bincount(i, w, minlength=chunks * height * width).reshape(chunks, height, width)

    return [partial(fill, window) for window in windows]


def torch_count(windows: Sequence[Events], resolution: Resolution) -> Work:
    """``scatter_add_`` of ones, likewise."""
    import torch

    torch.set_num_threads(1)
    width, height = resolution
    counts = torch.zeros(2 * height * width)
    ones = torch.ones(max(len(window) for window in windows))

    def fill(t: Any, x: Any, y: Any, p: Any) -> Any:
        counts.zero_()
        index = (p.to(torch.int64) * height + y.to(torch.int64)) * width + x.to(torch.int64)
        counts.scatter_add_(0, index, ones[: len(t)])
        return counts.view(2, height, width)

    return [partial(fill, *_torch_columns(window)) for window in windows]


def _torch_columns(events: Events) -> tuple[Any, ...]:
    import torch

    return tuple(torch.from_numpy(np.ascontiguousarray(column)) for column in (events.t, events.x, events.y, events.p))


def eventcv_voxel(windows: Sequence[Events], resolution: Resolution, bins: int = 5) -> Work:
    """Its own voxel grid, from stream objects of its own; told the span, or it takes the last 33 ms alone."""
    return [
        partial(_eventcv_stream(window, resolution).voxel, bins=bins, window_us=int(window.t[-1] - window.t[0]) + 1)
        for window in windows
    ]


def eventcv_count(windows: Sequence[Events], resolution: Resolution) -> Work:
    """Its own count, of both polarities together: half the work."""
    streams = [_eventcv_stream(window, resolution) for window in windows]
    return [stream.count for stream in streams]


def _eventcv_stream(events: Events, resolution: Resolution) -> Any:
    import eventcv

    rows = np.stack([events.x, events.y, events.t, events.p], axis=1, dtype=np.int64, casting="unsafe")
    return eventcv.from_numpy(rows, sensor_size=resolution, time_unit="us")


_PEERS: Mapping[str, Mapping[str, tuple[str, Peer, str]]] = {
    "voxel": {
        "numpy": ("numpy", numpy_voxel, "np.add.at"),
        "torch": ("torch", torch_voxel, "scatter_add_, one thread"),
        "eventcv": ("eventcv", eventcv_voxel, "its own stream"),
    },
    "two_polarity": {
        "numpy": ("numpy", numpy_two_polarity, "np.add.at"),
        "torch": ("torch", torch_two_polarity, "scatter_add_, one thread"),
    },
    "stack": {"numpy": ("numpy", numpy_stack, "np.bincount")},
    "count": {
        "numpy": ("numpy", numpy_count, "np.bincount"),
        "torch": ("torch", torch_count, "scatter_add_, one thread"),
        "eventcv": ("eventcv", eventcv_count, "its own stream, one channel"),
    },
}


def installed(question: str) -> Mapping[str, tuple[Peer, str]]:
    """The peers of a question that can be imported, with notes; none where nobody offers such a tensor."""
    return {
        name: (peer, f"{note}; {malloc_note()}" if name == "numpy" else note)
        for name, (module, peer, note) in _PEERS.get(question, {}).items()
        if importlib.util.find_spec(module) is not None
    }
