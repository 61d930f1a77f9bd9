"""Recordings for the tests of rtpipe's own format."""

import struct
import zlib

import numpy as np

from rtpipe.formats.mcap import Writer
from rtpipe.types import Count, Counters, Events, Frame, FrameFlag, Imu, Packet, StreamInfo, Trigger

RESOLUTION = (346, 260)
STREAMS = (
    StreamInfo("camera/events", RESOLUTION, "DAVIS346 00000499"),
    StreamInfo("camera/frames", RESOLUTION, "DAVIS346 00000499"),
    StreamInfo("camera/imu", None, "DAVIS346 00000499"),
    StreamInfo("camera/triggers"),
    StreamInfo("engine/output", RESOLUTION),
)


def some_events(rng, n, t0=1_610_696_585_220_661, resolution=RESOLUTION):
    t = t0 + np.cumsum(rng.geometric(0.2, n) - 1)
    x, y = rng.integers(0, resolution[0], n), rng.integers(0, resolution[1], n)
    return Events(t, x, y, rng.integers(0, 2, n))


def cut(events, per_packet, stream="camera/events", seq=0, epoch=0):
    """Packets of ``per_packet`` events."""
    for a in range(0, len(events), per_packet):
        body = events[a : a + per_packet]
        t_first, t_last = int(body.t[0]), int(body.t[-1])
        counters = Counters(Count(seq + 1, a + len(body)))
        yield Packet(stream, seq, t_first, t_last, 10**12 + seq, body, epoch=epoch, counters=counters)
        seq += 1


def mixed_packets(seed=1, n_events=30_000):
    """A short recording with everything in it, in the order in which it arrives."""
    rng = np.random.default_rng(seed)
    events = some_events(rng, n_events)
    packets = []
    for packet in cut(events, 1000):
        packets.append(packet)
        t, k = packet.t_last, packet.seq
        samples = Imu(
            np.arange(t - 5, t), *rng.normal(size=(2, 5, 3)).astype(np.float32), np.full(5, np.nan, np.float32)
        )
        packets.append(Packet("camera/imu", k, t - 5, t, 7 + k, samples))
        if k % 5 == 0:
            image = rng.integers(0, 256, (260, 346)).astype(np.uint8)
            image[20:] = np.arange(346) % 256
            frame = Frame(image, t - 30, t - 50, t - 10)
            packets.append(Packet("camera/frames", k // 5, t - 50, t - 10, 8 + k, frame))
            made = Frame(image[:, ::-1], t - 30, None, None, "edi", FrameFlag.STATE_RESET | FrameFlag.INCOMPLETE)
            packets.append(Packet("engine/output", k // 5, t - 30, t - 30, 9 + k, made))
        if k % 7 == 0:
            packets.append(Packet("camera/triggers", k // 7, t, t, 1, Trigger(np.array([t]), *np.uint8([[3], [1]]))))
    last = {stream.name: packet for stream in STREAMS for packet in packets if packet.stream == stream.name}
    packets += [Packet(n, p.seq + 1, p.t_last, p.t_last, 5, end=True) for n, p in last.items()]
    return packets


def record(path, packets, streams=STREAMS, flush_every=0, close=True, **options):
    """Write ``packets``; ``flush_every`` so many packets a chunk is closed."""
    writer = Writer(path, streams, flush_s=1e9, **options)
    for number, packet in enumerate(packets):
        writer.write(packet)
        if flush_every and number % flush_every == flush_every - 1:
            writer.flush()
    if close:
        writer.close()
    else:
        writer.flush()
    return path


def bodies(packets, stream):
    return [packet.body for packet in packets if packet.stream == stream and packet.body is not None]


def same_events(a, b):
    return all(np.array_equal(getattr(a, column), getattr(b, column)) for column in ("t", "x", "y", "p"))


def same_frame(a, b):
    told = [(f.t, f.exposure_start, f.exposure_end, f.source, f.flags) for f in (a, b)]
    return told[0] == told[1] and a.image.dtype == b.image.dtype and np.array_equal(a.image, b.image)


def chunks(data):
    """Offset and length (header included) of every top-level chunk of a recording's bytes."""
    at = 8
    while at + 9 <= len(data):
        opcode, length = struct.unpack_from("<BQ", data, at)
        if opcode == 6:
            yield at, 9 + length
        if opcode == 2:
            return
        at += 9 + length


def with_right_checksums(data):
    """A recording's bytes, the chunks' CRCs made right again: what a hostile hand, not a bad disk, would write."""
    data = bytearray(data)
    for at, length in chunks(bytes(data)):
        if at + length <= len(data):
            struct.pack_into("<I", data, at + 33, zlib.crc32(data[at + 49 : at + length]))
    return bytes(data)
