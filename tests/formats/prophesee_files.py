"""RAW and DAT files made word by word, as a camera would have written them."""

import numpy as np

from rtpipe.types import Events, Trigger
from tests.encodings import slow


def recording(n=5000, size=(640, 480), seed=0, start=1000, step=20, m=0):
    """Events in order, and ``m`` triggers among them."""
    rng = np.random.default_rng(seed)
    t = start + np.cumsum(rng.integers(0, step, n))
    events = Events(t, rng.integers(0, size[0], n), rng.integers(0, size[1], n), rng.integers(0, 2, n))
    at = np.sort(rng.integers(t[0], t[-1], m))
    return events, Trigger(at, rng.integers(0, 8, m).astype(np.uint8), (np.arange(m) % 2).astype(np.uint8))


def evt2_words(events):
    """Each event a word, and a word of high time wherever it changes."""
    words, high = [], None
    for t, x, y, p in slow.rows(events):
        if t >> 6 != high:
            high = t >> 6
            words.append(8 << 28 | high & 0xFFFFFFF)
        words.append(p << 28 | (t & 63) << 22 | x << 11 | y)
    return np.array(words, "<u4")


def evt21_words(events):
    """As EVT2, each event in a group of 32 columns."""
    words, high = [], None
    for t, x, y, p in slow.rows(events):
        if t >> 6 != high:
            high = t >> 6
            words.append((8 << 28 | high & 0xFFFFFFF) << 32)
        words.append((p << 28 | (t & 63) << 22 | (x & ~31) << 11 | y) << 32 | 1 << (x & 31))
    return np.array(words, "<u8")


def halves_swapped(words):
    """64-bit words with their upper half first."""
    return words.view("<u4").reshape(-1, 2)[:, ::-1].copy()


def raw_file(path, words, *lines):
    """A file of these header lines and words."""
    path.write_bytes("".join(f"% {line}\n" for line in lines).encode() + words.tobytes())
    return path


def dat_file(path, events, *lines, kind=0x0C, size=8, wrap=32):
    """A DAT file; times beyond ``wrap`` bits wrap."""
    words = (events.t.astype("<u8") & np.uint64((1 << wrap) - 1)) | events.x.astype("<u8") << np.uint64(32)
    words |= events.y.astype("<u8") << np.uint64(46) | events.p.astype("<u8") << np.uint64(60)
    head = "".join(f"% {line}\n" for line in ("Data file containing CD events.", "Version 2", *lines)).encode()
    path.write_bytes(head + bytes((kind, size)) + words.tobytes())
    return path
