"""Live and offline give the same bits.

A recording paced in real time through real processes and sockets, its packets cut anew at random and its frames held
back at random, with stalls on both sides, against a plain loop over the same file.
"""

import hashlib
import itertools
import multiprocessing
import time
from collections import deque
from dataclasses import replace

import numpy as np
import pytest
import zmq

from rtpipe.engine import EngineStage, load_engine
from rtpipe.formats import open_recording
from rtpipe.pipeline.driver_worker import DriverWorker
from rtpipe.pipeline.link import Link
from rtpipe.pipeline.messages import InputPlan, WorkerPlan
from rtpipe.pipeline.stage_worker import StageWorker
from rtpipe.stage import EngineSpec
from rtpipe.types import Events, Frame, Window
from rtpipe.window.settings import WindowSettings
from rtpipe.window.stage import WindowStage
from tests.pipeline.recording import make

CASES = {
    "deblurring by exposure": ({"by": "exposure"}, None),
    "voxel grids by time": ({"by": "time", "length_us": 20_000, "hop_us": 40_000}, ("voxel", 5)),
    "SCER by count": ({"by": "count", "events": 3_000}, ("scer", 6)),
    "stacks, mixed": ({"by": "mixed", "events": 3_000, "length_us": 15_000}, ("stack", 8)),
    "two-polarity grids about mid-exposure": ({"by": "mid_exposure", "mode": "edges"}, ("two_polarity_voxel", 5)),
    "voxel grids between frames": ({"by": "between_frames"}, ("voxel", 5)),
}


class RecutDriver:
    """Plays a recording in real time, packets of events cut at random, frames late by a random time, with pauses."""

    live = False

    def __init__(self, path, seed):
        self.recording, self.random = open_recording(path), np.random.default_rng(seed)
        self.late, self.seq = deque(), {}

    def open(self):
        self.packets = self.cut()
        self.waiting, self.begun = deque(), None
        return self.recording.streams

    def cut(self):
        for packet in self.recording.packets(packet_us=int(self.random.integers(700, 9000))):
            if isinstance(packet.body, Frame) or (packet.end and packet.stream.endswith("frames")):
                self.late.append((packet, int(self.random.integers(0, 12))))
            elif isinstance(packet.body, Events):
                cuts = np.sort(self.random.integers(0, len(packet.body) + 1, self.random.integers(0, 4)))
                edges = [0, *map(int, cuts), len(packet.body)]
                for i, j in itertools.pairwise(edges):
                    part = packet.body[i:j]
                    t_last = packet.t_last if j == len(packet.body) else int(packet.body.t[max(j - 1, 0)])
                    yield replace(packet, body=part if len(part) else None, t_last=t_last)
            else:
                yield packet
            while self.late and self.late[0][1] <= 0:
                yield self.late.popleft()[0]
            self.late = deque((frame, wait - 1) for frame, wait in self.late)
        yield from (frame for frame, _ in self.late)

    def read(self, timeout_s):
        self.begun = self.begun or time.monotonic()
        packet = self.waiting.popleft() if self.waiting else next(self.packets, None)
        if packet is None:
            return None
        if time.monotonic() - self.begun < (packet.t_last - self.recording.t_start) / 1e6:
            time.sleep(timeout_s)
            self.waiting.append(packet)
            return []
        if self.random.random() < 0.01:
            time.sleep(0.05)
        seq = self.seq[packet.stream] = self.seq.get(packet.stream, -1) + 1
        return [replace(packet, seq=seq, received_ns=time.monotonic_ns())]

    def control(self, command):
        return command

    def close(self):
        self.recording.close()


class Hashing:
    """A stage that keeps a digest of every window and frame that passes, and stalls now and then."""

    def __init__(self, stall_seed=None):
        self.flows, self.digests = {}, []
        self.random = None if stall_seed is None else np.random.default_rng(stall_seed)

    def open(self, streams):
        return streams

    def process(self, packet):
        body = packet.body
        if isinstance(body, Window):
            parts = [body.tensor, body.mask, body.times, body.events and body.events.dt, body.events and body.events.yp]
            about = (body.t_start, body.t_end, body.n_events, int(body.flags), body.events and body.events.t0)
        elif isinstance(body, Frame):
            parts, about = [body.image], (body.t, body.exposure_start, body.exposure_end, int(body.flags), body.source)
        else:
            return [packet]
        digest = hashlib.sha256(repr(about).encode())
        for part in parts:
            digest.update(b"-" if part is None else np.ascontiguousarray(part).tobytes())
        self.digests.append(digest.hexdigest())
        if self.random is not None and self.random.random() < 0.05:
            time.sleep(0.08)
        return [packet]

    def close(self):
        return []


def chain(settings, representation, stall_seed=None):
    """Window stage, digest of windows, and the engine with a digest of its frames where there is one."""
    engine = load_engine("edi") if representation is None else None
    name, bins = representation or ("events", 0)
    spec = engine.spec if engine else EngineSpec("none", name, needs_frame=False, stateful=False, bins=bins)
    windows = Hashing(stall_seed)
    stages = [WindowStage(WindowSettings(**settings), spec, picture=True), windows]
    if engine:
        frames = Hashing(stall_seed)
        return [*stages, EngineStage(engine), frames], [windows, frames]
    return stages, [windows]


def offline(path, settings, representation):
    stages, taps = chain(settings, representation)
    with open_recording(path) as recording:
        streams = [s for s in recording.streams if s.kind in ("events", "frames")]
        for stage in stages:
            streams = stage.open(streams)
        for packet in recording.packets():
            if packet.stream in ("camera/events", "camera/frames"):
                made = [packet]
                for stage in stages:
                    made = [out for item in made for out in stage.process(item)]
        for index, stage in enumerate(stages):
            made = stage.close()
            for later in stages[index + 1 :]:
                made = [out for item in made for out in later.process(item)]
    return [tap.digests for tap in taps]


def drive(plan, path, seed):
    context = zmq.Context()
    link = Link(plan.control, plan.name, context)
    DriverWorker(plan, RecutDriver(path, seed), link, context).run()


def consume(plan, settings, representation, seed, results):
    context = zmq.Context()
    stages, taps = chain(settings, representation, stall_seed=seed)

    class Swallow(Hashing):
        def process(self, packet):
            return []

    link = Link(plan.control, plan.name, context)
    StageWorker(plan, [*stages, Swallow()], link, context).run()
    results.put([tap.digests for tap in taps])


def live(path, directory, settings, representation, seed):
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    control, endpoint = f"ipc://{directory}/control.sock", f"ipc://{directory}/camera.sock"
    kinds = ["events", "frames"]
    driver = WorkerPlan("camera", "driver", "", {}, control, False, endpoint, [], ["engine"])
    engine = WorkerPlan(
        "engine", "sink", "", {}, control, False, None, [InputPlan("camera", endpoint, kinds, "every")], []
    )
    context = zmq.Context()
    supervisor = context.socket(zmq.ROUTER)
    supervisor.bind(control)
    processes = [
        spawn.Process(target=drive, args=(driver, path, seed)),
        spawn.Process(target=consume, args=(engine, settings, representation, seed, results)),
    ]
    try:
        for process in processes:
            process.start()
        return results.get(timeout=120)
    finally:
        for process in processes:
            process.join(10)
            process.kill()
        context.destroy(linger=0)


@pytest.mark.parametrize("case", CASES)
def test_the_same_windows_and_pictures_come_out_live_and_offline(case, tmp_path):
    settings, representation = CASES[case]
    path = make(tmp_path / "source.h5", frames=40)
    wanted = offline(path, settings, representation)
    assert all(len(digests) >= 8 for digests in wanted)
    assert live(path, tmp_path, settings, representation, seed=5) == wanted


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("case", CASES)
def test_a_real_recording_gives_the_same_however_it_is_cut(case, seed, tmp_path, shared):
    settings, representation = CASES[case]
    path = shared("recordings/aedat4/davis346_ball_throw.aedat4")
    assert live(path, tmp_path, settings, representation, seed) == offline(path, settings, representation)


def test_the_comparison_can_fail(tmp_path):
    settings, representation = CASES["voxel grids by time"]
    one, other = make(tmp_path / "a.h5", frames=12), make(tmp_path / "b.h5", frames=12, seed=1)
    assert offline(one, settings, representation) != offline(other, settings, representation)
