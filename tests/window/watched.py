"""A slicer being watched, and streams to feed it: what the tests of slicing share."""

import numpy as np
from hypothesis import strategies as st

from rtpipe.packing import pack, unpack
from rtpipe.types import Events, Frame
from rtpipe.window.cut import Do
from tests.window import slow

PLENTY = 10**9
IMAGE = np.zeros((5, 7), np.uint8)


def frame(t0, t1) -> Frame:
    return Frame(IMAGE, (t0 + t1) // 2, t0, t1)


class Watched:
    """Runs a slicer and keeps what every window took; complains of steps that make no sense."""

    def __init__(self, slicer):
        self.slicer, self.open, self.closed, self.abandoned = slicer, {}, [], []

    def __call__(self, steps):
        for do, cut, events in steps:
            if do is Do.OPEN:
                assert cut not in self.open
                self.open[cut] = []
            elif do is Do.ADD:
                assert len(events)
                self.open[cut].append(unpack(events))
            else:
                got = Events.concatenate(self.open.pop(cut))
                assert len(got) == cut.n_events
                (self.closed if do is Do.CLOSE else self.abandoned).append((cut, got))
        return self

    def events(self, events):
        return self(self.slicer.events(pack(events)))

    def reach(self, t):
        return self(self.slicer.reach(t))

    def trigger(self, trigger):
        return self(self.slicer.trigger(trigger))

    def frame(self, frame):
        return self(self.slicer.frame(frame))

    def jump(self):
        return self(self.slicer.jump())

    def end(self):
        self(self.slicer.end())
        assert not self.open
        assert all(flow.balanced for flow in self.slicer.flows.values())
        return self

    @property
    def spans(self):
        return [(cut.t_start, cut.t_end, hashed(events)) for cut, events in self.closed]


def hashed(events):
    return tuple(zip(*(getattr(events, column).tolist() for column in "txyp"), strict=True))


def ramp(t0, t1):
    t = np.arange(t0, t1)
    return slow.make(t, t % 7, t % 5, t % 2)


def in_any(events, spans):
    inside = np.zeros(len(events), bool)
    for start, end, _ in spans:
        inside |= (events.t >= start) & (events.t < end)
    return int(inside.sum())


@st.composite
def streams(draw):
    """Events, the packets they come in (watermarks between them), and the end of the stream."""
    events = draw(slow.events(start=st.integers(-1000, 1000)))
    packets = [unpack(packet) for packet in slow.cut(events, draw(st.lists(st.integers(0, 60), max_size=8)))]
    end = (int(events.t[-1]) if len(events) else 0) + draw(st.integers(0, 200))
    steps = []
    for index, packet in enumerate(packets):
        if len(packet):
            steps.append(("events", packet))
            following = packets[index + 1] if index + 1 < len(packets) else None
            latest = int(following.t[0]) if following is not None and len(following) else end
            for _ in range(draw(st.integers(0, 2))):
                steps.append(("reach", draw(st.integers(int(packet.t[-1]), latest))))
    marks = sorted(value for what, value in steps if what == "reach")
    steps = [(what, marks.pop(0) if what == "reach" else value) for what, value in steps]
    return events, [*steps, ("reach", end)], end


def play(watched, steps, asked, places, ask):
    """Feed ``steps``; before those at ``places`` give ``asked``, one after the other, by the method ``ask``."""
    places, asked = sorted(places), list(asked)
    for index, (what, value) in enumerate([*steps, (None, None)]):
        while asked and places[-len(asked)] <= index:
            getattr(watched, ask)(asked.pop(0))
        if what:
            getattr(watched, what)(value)
    return watched.end()


def anywhere(steps, number):
    """Where among ``steps`` so many things may come."""
    return st.lists(st.integers(0, len(steps)), min_size=number, max_size=number)
