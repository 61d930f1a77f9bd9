"""A real dv-processing server in a process of its own: a recording's streams, each by a ``NetworkWriter``, paced.

    python -m tests.drivers.dv_server FOLDER RECORDING KIND=WHERE...

``WHERE`` is a port, or the path of a UNIX socket. It says "up", waits for ``FOLDER/go``, sends everything once, says
"sent" and stays. With ``FOLDER/server.pem`` (certificate and key) and ``FOLDER/ca.pem`` it wants TLS.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import dv_processing as dv

MOST_QUEUED = 64
"""Its writer stalls without a word once more than 1024 packets are queued."""


def main(folder: Path, recording: str, places: dict[str, str]) -> None:
    reader = dv.io.MonoCameraRecording(recording)
    name, stream = reader.getCameraName(), dv.io.Stream
    kinds = {
        "events": (lambda: stream.EventStream(1, "events", name, reader.getEventResolution()), "writeEvents"),
        "frames": (lambda: stream.FrameStream(2, "frames", name, reader.getFrameResolution()), "writeFrame"),
        "imu": (lambda: stream.IMUStream(3, "imu", name), "writeImu"),
        "triggers": (lambda: stream.TriggerStream(4, "triggers", name), "writeTriggers"),
    }
    following = {
        "events": reader.getNextEventBatch,
        "frames": reader.getNextFrame,
        "imu": reader.getNextImuBatch,
        "triggers": reader.getNextTriggerBatch,
    }
    writers = {kind: _writer(folder, kinds[kind][0](), where) for kind, where in places.items()}
    print("up", flush=True)
    while not (folder / "go").exists():
        time.sleep(0.01)
    waiting: dict[str, Any] = {kind: following[kind]() for kind in writers}
    begun, first = time.monotonic(), min(_time(data) for data in waiting.values() if data is not None)
    while any(data is not None for data in waiting.values()):
        kind = min((kind for kind, data in waiting.items() if data is not None), key=lambda kind: _time(waiting[kind]))
        due = begun + (_time(waiting[kind]) - first) / 1e6
        time.sleep(max(0.0, due - time.monotonic()))
        while writers[kind].getQueuedPacketCount() > MOST_QUEUED:
            time.sleep(0.001)
        getattr(writers[kind], kinds[kind][1])(waiting[kind])
        waiting[kind] = following[kind]()
    print("sent", flush=True)
    time.sleep(600)


def _writer(folder: Path, described: Any, where: str) -> Any:
    if not where.isdigit():
        return dv.io.NetworkWriter(where, described)
    if (folder / "server.pem").exists():
        pem = str(folder / "server.pem")
        return dv.io.NetworkWriter("127.0.0.1", int(where), described, pem, pem, str(folder / "ca.pem"))
    return dv.io.NetworkWriter("127.0.0.1", int(where), described)


def _time(data: Any) -> int:
    """When the last of it happened (µs)."""
    if type(data).__name__ == "EventStore":
        return int(data.getHighestTime())
    if type(data).__name__ == "Frame":
        return int(data.timestamp)
    return int(data[len(data) - 1].timestamp)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], dict(word.split("=", 1) for word in sys.argv[3:]))
