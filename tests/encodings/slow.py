"""Slow, obvious decoders, and words to try them on: one step per word, straight from the vendor's descriptions."""

from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from rtpipe import encodings


@dataclass
class Slow:
    """What a decoder must give, as lists; ``floor``: an event that is earlier comes out of order."""

    size: tuple[int, int]
    events: list = field(default_factory=list)
    triggers: list = field(default_factory=list)
    in_order: list = field(default_factory=list)  # times of events, on the sensor or not
    refused: dict = field(default_factory=lambda: dict.fromkeys(("coordinates", "order", "no_time", "triggers"), 0))
    time: int | None = None
    floor: int = -1
    trigger_floor: int = -1
    n: int = 0

    def event(self, x, y, p):
        self.n += 1
        if self.time is None:
            self.refused["no_time"] += 1
        elif self.time < self.floor:
            self.refused["order"] += 1
        else:
            self.floor = self.time
            self.in_order.append(self.time)
            if x < self.size[0] and y < self.size[1]:
                self.events.append((self.time, x, y, p))
            else:
                self.refused["coordinates"] += 1

    def trigger(self, channel, edge):
        if self.time is None or self.time < self.trigger_floor:
            self.refused["triggers"] += 1
        else:
            self.trigger_floor = self.time
            self.triggers.append((self.time, channel, edge))

    def high_time(self, high, low_bits, high_bits):
        if self.time is None:
            self.time = high << low_bits
        else:
            wraps, before = divmod(self.time >> low_bits, 1 << high_bits)
            if before - high >= 1 << (high_bits - 1):
                wraps += 1
            if high != before:
                self.time = ((wraps << high_bits) + high) << low_bits
        begin = self.time >> low_bits << low_bits
        self.floor, self.trigger_floor = max(self.floor, begin), max(self.trigger_floor, begin)

    def low_time(self, low, low_bits):
        if self.time is not None:
            self.time = (self.time >> low_bits << low_bits) + low


def evt3(words, size):
    slow, y, x, p = Slow(size), 0, 0, 0
    for word in words.tolist():
        kind, rest = word >> 12, word & 0xFFF
        if kind == 0x0:
            y = rest
        elif kind == 0x1:
            y = 0xFFF
        elif kind == 0x2:
            slow.event(rest & 0x7FF, y, rest >> 11)
        elif kind == 0x3:
            x, p = rest & 0x7FF, rest >> 11
        elif kind in (0x4, 0x5):
            for bit in range(12 if kind == 4 else 8):
                if rest >> bit & 1:
                    slow.event(x + bit, y, p)
            x += 12 if kind == 4 else 8
        elif kind == 0x6:
            slow.low_time(rest, 12)
        elif kind == 0x8:
            if slow.time is None or rest != slow.time >> 12 & 0xFFF:
                slow.high_time(rest, 12, 12)
        elif kind == 0xA:
            slow.trigger(rest >> 8, rest & 1)
    return slow


def evt2(words, size):
    slow = Slow(size)
    for word in words.tolist():
        kind = word >> 28
        if kind in (0, 1):
            slow.low_time(word >> 22 & 63, 6)
            slow.event(word >> 11 & 0x7FF, word & 0x7FF, kind)
        elif kind == 8:
            slow.high_time(word & 0xFFFFFFF, 6, 28)
        elif kind == 0xA:
            slow.low_time(word >> 22 & 63, 6)
            slow.trigger(word >> 8 & 31, word & 1)
    return slow


def evt21(words, size):
    slow = Slow(size)
    for word in words.tolist():
        kind = word >> 60
        if kind in (0, 1):
            slow.low_time(word >> 54 & 63, 6)
            for bit in range(32):
                if word >> bit & 1:
                    slow.event((word >> 43 & 0x7FF) + bit, word >> 32 & 0x7FF, kind)
        elif kind == 8:
            slow.high_time(word >> 32 & 0xFFFFFFF, 6, 28)
        elif kind == 0xA:
            slow.low_time(word >> 54 & 63, 6)
            slow.trigger(word >> 40 & 31, word >> 32 & 1)
    return slow


DECODERS = {"evt2": evt2, "evt21": evt21, "evt3": evt3}
WORDS = {"evt2": "<u4", "evt21": "<u8", "evt3": "<u2"}
USUAL = {
    "evt2": [0, 0, 1, 1, 8, 10, 14],
    "evt21": [0, 1, 0, 1, 8, 10, 14],
    "evt3": [0, 2, 2, 2, 6, 6, 8, 3, 4, 4, 5, 10, 7, 14, 15],
}


def stream(name, seed, n, usual=0.97, forward=True):
    """``n`` words, most of usual kinds; with ``forward`` the times go on by little, with a few steps back and jumps."""
    rng = np.random.default_rng(seed)
    bits = {"evt2": 28, "evt21": 60, "evt3": 12}[name]
    word = np.dtype(WORDS[name])
    words = rng.integers(0, np.iinfo(word).max, n, word, endpoint=True)
    kinds = np.where(rng.random(n) < usual, rng.choice(USUAL[name], n), rng.integers(0, 16, n)).astype(word)
    words = (words & word.type((1 << bits) - 1)) | (kinds << word.type(bits))
    if forward:
        high = {"evt2": (0, 0xFFFFFFF), "evt21": (32, 0xFFFFFFF), "evt3": (0, 0xFFF)}[name]
        step = rng.choice(
            [0, 0, 0, 0, 1, 1, 3, -1, high[1] // 3], n, p=[0.3, 0.2, 0.2, 0.14, 0.1, 0.04, 0.01, 0.005, 0.005]
        )
        values = (rng.integers(0, high[1]) + np.cumsum(step)) & high[1]
        at = kinds == 8
        words[at] = (words[at] & ~word.type(high[1] << high[0])) | (values[at].astype(word) << word.type(high[0]))
        if name == "evt3":
            at = kinds == 6
            words[at] = 0x6000 | (
                np.sort(rng.integers(0, 0x1000, at.sum())) if rng.random() < 0.5 else words[at] & 0xFFF
            )
    return words


@st.composite
def any_stream(draw, name):
    """Short streams of any words, and long ones that look like a camera's."""
    if draw(st.booleans()):
        seed, n = draw(st.integers(0, 1 << 32)), draw(st.integers(0, 6000))
        return stream(name, seed, n, draw(st.sampled_from([0.0, 0.9, 0.999, 1.0])), draw(st.booleans()))
    bits = {"evt2": 28, "evt21": 60, "evt3": 12}[name]
    kinds = st.one_of(st.sampled_from(USUAL[name]), st.integers(0, 15))
    rest = st.one_of(st.integers(0, (1 << bits) - 1), st.sampled_from([0, 1, (1 << bits) - 1, 1 << (bits - 1)]))
    one = st.builds(lambda kind, rest: kind << bits | rest, kinds, rest)
    return np.array(draw(st.lists(one, max_size=60)), WORDS[name])


def rows(events):
    """Events as a list of tuples."""
    return list(zip(events.t.tolist(), events.x.tolist(), events.y.tolist(), events.p.tolist(), strict=True))


def signals(triggers):
    """Triggers as a list of tuples."""
    return list(zip(triggers.t.tolist(), triggers.channel.tolist(), triggers.edge.tolist(), strict=True))


def decoder(name, size=(1280, 720), state=None):
    """A decoder of that encoding."""
    module = encodings.load(name)
    return module.Decoder(size, module.INITIAL if state is None else state)
