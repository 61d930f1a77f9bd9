"""A source, the history stage and what follows it, in a plain loop: no sockets, no clock."""

from collections import Counter
from dataclasses import replace

import numpy as np

from rtpipe.engine import EngineStage, load_engine
from rtpipe.history.settings import HistorySettings
from rtpipe.history.stage import HistoryStage
from rtpipe.packing import pack
from rtpipe.stage import EngineSpec
from rtpipe.types import Events, Frame, Packet, StreamInfo, Window
from rtpipe.window.settings import WindowSettings
from rtpipe.window.stage import WindowStage

SIZE = (32, 24)
STREAMS = (StreamInfo("camera/events", SIZE, "test"), StreamInfo("camera/frames", SIZE, "test"))
PERIOD_US = 10_000


def source(n_frames, seed=0, epoch=0, t0=0):
    """Packets of 2 ms with some events, a frame every 10 ms exposed from 3 to 8 ms, and the ends."""
    rng = np.random.default_rng(seed)
    seqs = Counter()

    def packet(stream, t_first, t_last, body=None, end=False):
        seqs[stream] += 1
        return Packet(stream, seqs[stream] - 1, t_first, t_last, 1, body, epoch=epoch, end=end)

    for cell in range(n_frames * 5):
        t = t0 + cell * 2000
        n = int(rng.integers(0, 60))
        x, y = rng.integers(0, SIZE[0], n), rng.integers(0, SIZE[1], n)
        events = Events(
            np.sort(rng.integers(t, t + 2000, n)), x.astype(np.uint16), y.astype(np.uint16), np.arange(n) % 2
        )
        yield packet("camera/events", t, t + 2000, pack(events) if n else None)
        if cell % 5 == 4:
            start = t - 8000 + 3000
            image = rng.integers(60, 190, SIZE[::-1]).astype(np.uint8)
            yield packet("camera/frames", start + 2500, start + 5000, Frame(image, start + 2500, start, start + 5000))
    end = t0 + n_frames * PERIOD_US
    for stream in STREAMS:
        yield packet(stream.name, end, end, end=True)


def own(packet):
    """A packet as it is when the source's memory has been used for something else."""
    body = packet.body
    if body is None:
        return packet
    arrays = {
        n: np.array(getattr(body, n)) for n in body.__dataclass_fields__ if isinstance(getattr(body, n), np.ndarray)
    }
    return replace(packet, body=replace(body, **arrays))


class Scenario:
    """``live`` or not; everything that the history emits goes into ``out``."""

    def __init__(self, live, **settings):
        self.stage = HistoryStage(HistorySettings(**{"speed": 0.0, "megabytes": 8.0} | settings), live=live)
        self.stage.open(STREAMS)
        self.out = []
        self.came = Counter()

    def feed(self, packets):
        """Give packets as a worker would: a replay's only while they are taken. Returns how many were taken."""
        for number, packet in enumerate(packets):
            while not self.stage.taking and self.step_due():
                pass
            if not self.stage.taking:
                return number
            mine = own(packet)
            self.out += map(own, self.stage.process(mine))
            if mine.body is not None:
                for name in mine.body.__dataclass_fields__:
                    if isinstance(array := getattr(mine.body, name), np.ndarray):
                        array[...] = 0  # a message's memory is used again
            self.came["events"] += packet.n_events
            self.came["frames"] += isinstance(packet.body, Frame)
        return None

    def step_due(self):
        """One turn of what is due; whether there was anything."""
        made = self.stage.due()
        self.out += map(own, made)
        return bool(made)

    def play_out(self):
        """All that is due."""
        while self.stage.busy and self.step_due():
            pass

    def check(self):
        """The stage's ledger balances and is what came and went; seq has no gaps; epochs do not go back."""
        sent = Counter()
        for packet in self.out:
            sent["events"] += packet.n_events
            sent["frames"] += isinstance(packet.body, Frame)
        for kind in ("events", "frames"):
            flow = self.stage.flows[kind]
            again = self.stage.flows.get(f"{kind} again")
            assert flow.balanced
            assert flow.taken == self.came[kind]
            assert sent[kind] == flow.passed + (again.passed if again else 0)
            assert again is None or again.balanced
        for stream in STREAMS:
            mine = [packet for packet in self.out if packet.stream == stream.name]
            assert [packet.seq for packet in mine] == list(range(len(mine)))
        epochs = [packet.epoch for packet in self.out]
        assert epochs == sorted(epochs)
        for before, packet in zip(self.out, self.out[1:], strict=False):
            if packet.n_events and before.n_events and packet.epoch == before.epoch:
                assert packet.t_first >= before.t_last


def tensors(packets):
    """(start, end, bytes) of every voxel grid of 20 ms that is cut from these packets of events."""
    spec = EngineSpec("test", "voxel", needs_frame=False, stateful=False, bins=5)
    stage = WindowStage(WindowSettings(by="time", length_us=20_000), spec)
    stage.open(STREAMS[:1])
    made = []
    for packet in packets:  # a window's buffers are the stage's, until the next packet
        windows = [out.body for out in stage.process(packet) if isinstance(out.body, Window)]
        made += [(window.t_start, window.t_end, window.tensor.tobytes()) for window in windows]
    return made


def pictures(packets):
    """(epoch, t, flags, bytes) of everything that the engine makes of these packets."""
    engine = load_engine("edi", contrast=0.2)
    stages = [WindowStage(WindowSettings(by="exposure"), engine.spec), EngineStage(engine)]
    streams = STREAMS
    for stage in stages:
        streams = stage.open(streams)
    made = []
    for packet in packets:
        for window_packet in stages[0].process(packet):
            for output in stages[1].process(window_packet):
                if isinstance(output.body, Frame):
                    made.append((output.epoch, output.body.t, output.body.flags, output.body.image.tobytes()))
    return made
