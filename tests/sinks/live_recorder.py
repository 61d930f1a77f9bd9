"""Records a stream as if it were live, in a process that can be killed; says on its output what it has done.

``python -m tests.sinks.live_recorder FOLDER [BYTES [MIN_FREE_MB]]``: files may not grow beyond BYTES.
"""

import itertools
import json
import os
import resource
import sys
import time

import numpy as np

from rtpipe.errors import WorldError
from rtpipe.sinks.record import Settings, Sink
from rtpipe.types import Events, Frame, Packet, StreamInfo

RESOLUTION = (640, 480)
STREAMS = (StreamInfo("camera/events", RESOLUTION, "Test Camera #1"), StreamInfo("camera/frames", RESOLUTION))
PER_PACKET, PACKET_US = 2000, 2000


def events_of(seq):
    """What packet number ``seq`` holds."""
    rng = np.random.default_rng(seq)
    t = seq * PACKET_US + np.sort(rng.integers(0, PACKET_US, PER_PACKET))
    return Events(t, rng.integers(0, 640, PER_PACKET), rng.integers(0, 480, PER_PACKET), rng.integers(0, 2, PER_PACKET))


def frame_of(number):
    """What frame ``number`` shows."""
    image = np.full((480, 640), number % 256, np.uint8)
    image[:40] = np.random.default_rng(number).integers(0, 256, (40, 640))
    return Frame(image, number * 20_000 + 5000, number * 20_000, number * 20_000 + 10_000)


def packets_of(seq):
    """The packets of one step of the stream."""
    body = events_of(seq)
    yield Packet("camera/events", seq, seq * PACKET_US, (seq + 1) * PACKET_US, time.monotonic_ns(), body)
    if seq % 10 == 9:
        frame = frame_of(seq // 10)
        now = time.monotonic_ns()
        yield Packet("camera/frames", seq // 10, frame.exposure_start, frame.exposure_end, now, frame)


def say(**facts):
    os.write(1, json.dumps(facts).encode() + b"\n")


def main():
    folder, *limits = sys.argv[1:]
    if limits:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limits[0]),) * 2)
    sink = Sink(Settings(dir=folder, min_free_mb=int(limits[1]) if len(limits) > 1 else 0))
    sink.open(STREAMS)
    sink.note("pipeline", '{"test": true}')
    say(opened=str(sink.paths[-1]))
    failed = 0
    for seq in itertools.count():
        try:
            for packet in packets_of(seq):
                sink.process(packet)
            sink.idle()
        except WorldError as error:
            failed += 1
            say(error=str(error))
        say(done=seq, at=time.monotonic_ns())
        if failed and seq > 40 and not limits[2:]:
            if seq % 50 == 0:
                break
        else:
            time.sleep(0.001)
    sink.close()
    flows = {name: [flow.taken, flow.passed, flow.dropped] for name, flow in sink.flows.items()}
    say(failed=failed, flows=flows, last=seq)


if __name__ == "__main__":
    main()
