"""A stage that was opened compiles nothing more: the first window is not late."""

import multiprocessing
import sys

from numba.core.dispatcher import Dispatcher

from rtpipe import wire
from rtpipe.engine import EngineStage, load_engine
from rtpipe.packing import unpack
from rtpipe.types import Events, Frame, Packet, StreamInfo
from rtpipe.window.stage import WindowSettings, WindowStage
from tests.engines.scene import film


def compiled():
    """How many variants there are of each kernel of the house."""
    return {
        f"{name}.{kernel}": len(found.signatures)
        for name, module in list(sys.modules.items())
        if name.split(".")[0] in ("rtpipe", "engines")
        for kernel, found in vars(module).items()
        if isinstance(found, Dispatcher)
    }


def deblur(results):
    """In a fresh process: open, then eight busy windows that came over the wire; what was compiled before and after."""
    exposures = film(frames=8, on=0.22, off=0.27, noise_hz=2, size=(640, 400))  # so large that blocks lie apart
    size = exposures[0].window.frame.resolution
    packets = []
    for k, exposure in enumerate(exposures):
        events, frame = unpack(exposure.window.events), exposure.window.frame
        body = Events(events.t, events.x, events.y, events.p)
        packets.append(Packet("camera/events", k, int(events.t[0]), frame.exposure_end, 1, body))
        packets.append(Packet("camera/frames", k, frame.t, frame.exposure_end, 1, frame))
    arrived = [wire.decode([bytes(part) for part in wire.encode(packet)], size) for packet in packets]
    engine = load_engine("edi")
    windows, stage = WindowStage(WindowSettings(by="exposure"), engine.spec, picture=True), EngineStage(engine)
    stage.open(windows.open([StreamInfo("camera/events", size), StreamInfo("camera/frames", size)]))
    before, frames = compiled(), 0
    for packet in arrived:
        for window in windows.process(packet):
            frames += sum(isinstance(made.body, Frame) for made in stage.process(window))
    results.put((before, compiled(), frames))


def test_nothing_is_compiled_after_the_stages_are_open():
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    process = spawn.Process(target=deblur, args=(results,))
    process.start()
    try:
        before, after, frames = results.get(timeout=200)
    finally:
        process.join(20)
        process.kill()
    assert frames >= 14  # pictures and drawings
    assert sum(before.values()) > 5
    assert after == before
