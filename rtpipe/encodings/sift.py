"""Taking out events that no consumer must see, where there are any."""

from __future__ import annotations

from rtpipe.encodings.stream import COORDINATES, ORDER
from rtpipe.kernels import kernel
from rtpipe.types import Array


@kernel()
def sift(reached: int, width: int, height: int, t: Array, x: Array, y: Array, p: Array, tally: Array) -> int:
    """Close the gaps that events out of order or off the sensor leave; how many are left."""
    n = 0
    for i in range(t.size):
        if t[i] < reached:
            tally[ORDER] += 1
            continue
        reached = t[i]
        if x[i] < width and y[i] < height:
            t[n], x[n], y[n], p[n] = t[i], x[i], y[i], p[i]
            n += 1
        else:
            tally[COORDINATES] += 1
    return n
