"""Runs the display sink in a process of its own, as a worker does: grey, green and red panels, 50 times a second.

``python show.py SNAPSHOTS`` prints ``opened``, then each command a key gave; ends at ``stop`` with the flows. A
process of its own because its screen is taken away at the end of a test, which ends whoever has a window there.
"""

import sys
import time

import numpy as np

from rtpipe.sinks.display import Settings, Sink
from rtpipe.types import Count, Counters, Frame, FrameFlag, Packet, StreamInfo

PANELS = {
    "camera/frames": np.full((60, 80), 200, np.uint8),
    "engine/output": np.full((60, 80, 3), (0, 160, 0), np.uint8),
    "engine/picture": np.full((60, 80, 3), (0, 0, 160), np.uint8),
}


def main() -> None:
    sink = Sink(Settings(snapshots=sys.argv[1], min_height=240))
    sink.open([StreamInfo(name, (80, 60)) for name in PANELS])
    print("opened", sink.facts.get("window", ""), flush=True)
    commands: list[str] = []
    deadline = time.monotonic() + 60
    seq = 0
    while "stop" not in commands and time.monotonic() < deadline:
        now, t = time.monotonic_ns(), seq * 20_000
        for name, image in PANELS.items():
            frame = Frame(image, t, source="edi", flags=FrameFlag.STATE_RESET if seq % 2 else FrameFlag.NONE)
            dropped = {"latest": Count(7)}
            sink.process(Packet(name, seq, t, t, now - 4_000_000, frame, counters=Counters(Count(seq), dropped)))
        if seq % 25 == 0:
            sink.status("1.2 Mev/s  loss 0  speed 1")
        commands = [*sink.idle()]
        for command in commands:
            print(command, flush=True)
        seq += 1
        if len(sys.argv) > 2 and seq == int(sys.argv[2]):
            break
        time.sleep(0.02)
    sink.close()
    flow = sink.flows["frames"]
    print("flow", flow.balanced, flow.taken, flow.passed, sorted(flow.dropped), flush=True)


if __name__ == "__main__":
    main()
