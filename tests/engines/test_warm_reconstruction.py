"""Reconstruction engines that were opened compile nothing more: the first window is not late."""

import multiprocessing

import numpy as np
import pytest

from rtpipe import wire
from rtpipe.engine import EngineStage, load_engine
from rtpipe.packing import unpack
from rtpipe.types import Frame, Packet, StreamInfo
from rtpipe.window.settings import WindowSettings
from rtpipe.window.stage import WindowStage
from tests.engines.scene import film
from tests.engines.test_warm import compiled

CASES = {
    "complementary": ({}, {"by": "mixed", "length_us": 10_000, "events": 20_000}),
    "leaky": ({}, {"by": "time", "length_us": 10_000}),
    "complementary with frames": ({"frames": True, "pictures_per_frame": 2}, {"by": "between_frames"}),
}


def reconstruct(case, results):
    """In a fresh process: open, then busy, empty and coloured windows that came over the wire."""
    settings, by = CASES[case]
    exposures = film(frames=6, noise_hz=2)
    size = exposures[0].window.frame.resolution
    packets = []
    for k, exposure in enumerate(exposures):
        events, frame = unpack(exposure.window.events), exposure.window.frame
        image = np.repeat(frame.image[..., None], 3, axis=2) if k % 2 else frame.image
        packets.append(Packet("camera/events", k, int(events.t[0]), frame.exposure_end, 1, events))
        packets.append(Packet("camera/frames", k, frame.t, frame.t, 1, Frame(image, frame.t)))
    packets.append(Packet("camera/events", len(exposures), 200_000, 200_000, 1))  # silence
    arrived = [wire.decode([bytes(part) for part in wire.encode(packet)], size) for packet in packets]
    engine = load_engine(case.split()[0], **settings)
    windows, stage = WindowStage(WindowSettings(**by), engine.spec, picture=True), EngineStage(engine)
    stage.open(windows.open([StreamInfo("camera/events", size), StreamInfo("camera/frames", size)]))
    before, frames = compiled(), 0
    for packet in arrived:
        for window in windows.process(packet):
            frames += sum(isinstance(made.body, Frame) for made in stage.process(window))
    results.put((before, compiled(), frames, stage.last_error))


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_compiled_after_the_stages_are_open(case):
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    process = spawn.Process(target=reconstruct, args=(case, results))
    process.start()
    try:
        before, after, frames, error = results.get(timeout=200)
    finally:
        process.join(20)
        process.kill()
    assert error == ""
    assert frames >= 14  # pictures and drawings
    assert sum(before.values()) > 5
    assert after == before
