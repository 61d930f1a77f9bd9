"""Real camera bytes cut into runs anywhere, each with its decoder's state: what a driver would pass through."""

import hashlib
from itertools import pairwise

import numpy as np

from rtpipe import encodings
from rtpipe.types import Packet, RawEvents

DRIVING = "recordings/prophesee/evt3_driving_hd_9ms.raw"
SIZE = (1280, 720)
HASH = "22f2aebe16606074"
"""Of all its events, as the recordings' README has it."""


def camera_bytes(path):
    """A Prophesee file without its header: lines that begin with a per cent sign."""
    data, at = path.read_bytes(), 0
    while data[at : at + 1] == b"%":
        at = data.index(b"\n", at) + 1
    return np.frombuffer(data[at : at + (len(data) - at) // 2 * 2], np.uint8).copy()


def digest(events):
    """The first 16 hex digits over the columns, one after the other."""
    sha = hashlib.sha256()
    for column in (events.t, events.x, events.y, events.p):
        sha.update(np.ascontiguousarray(column).tobytes())
    return sha.hexdigest()[:16]


def runs(data, places, encoding="evt3", t0=0):
    """``data`` cut at the given words, and what a scan says of each run."""
    module = encodings.load(encoding)
    state = module.INITIAL
    edges = sorted({0, *(place * module.WORD for place in places), len(data)})
    for a, b in pairwise(edges):
        found = module.scan(data[a:b], state)
        yield RawEvents(encoding, state, data[a:b], found.n, t0), found
        state = found.state


def packets(data, places, t0=0, end=True):
    """The runs as packets of ``camera/events``; ``t_last`` is what a scan promises."""
    newest, seq = 0, 0
    for seq, (run, found) in enumerate(runs(data, places, t0=t0)):
        first = found.t_first + t0 if found.t_first is not None else newest
        newest = max(newest, first, (found.t_last or 0) + t0)
        yield Packet("camera/events", seq, first, newest, 1000 + seq, run)
    if end:
        yield Packet("camera/events", seq + 1, newest, newest, 9, end=True)
