"""Reads damaged copies of a recording, in a process of its own because a decoder might take it down.

``python read_mutated.py RECORDING SEED FIRST LAST``: copy number k is always the same. Prints how many were refused
and how many could be read as JSON; ends with a traceback where a reader raised anything but an error in plain words,
gave an event that is off the sensor or out of order, or took longer than ``LIMIT_S``.
"""

import json
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import numpy as np

from rtpipe.errors import RtpipeError
from rtpipe.formats import open_recording

LIMIT_S = 30


def mutated(data: bytes, chance: random.Random) -> bytes:
    """A copy cut off somewhere, or with a few bytes overwritten by what breaks length fields and offsets."""
    if chance.random() < 0.15:
        return data[: chance.randrange(len(data))]
    copy = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 4, 16])):
        reach = min(len(copy), chance.choice([200, 4000, len(copy), len(copy)]))
        at, n = chance.randrange(reach), chance.choice([1, 1, 2, 4, 8])
        anything = bytes(chance.randrange(256) for _ in range(n))
        ugly = chance.choice([b"\xff" * n, bytes(n), anything, b"\xff" * (n - 1) + b"\x7f", b"\1" + bytes(n - 1)])
        copy[at : at + n] = ugly[: len(copy) - at]
    return bytes(copy)


def read_everything(path: Path) -> None:
    """Read every stream; whatever comes out must be sound."""
    with open_recording(path) as reader:
        width, height = reader.resolution
        newest = -(1 << 63)
        for events in reader.event_chunks():
            assert events.x.max() < width
            assert events.y.max() < height
            assert events.p.max() <= 1
            assert events.t[0] >= newest
            assert (np.diff(events.t) >= 0).all()
            newest = int(events.t[-1])
        for frame in reader.frames():
            assert frame.image.ndim in (2, 3)
            assert frame.exposure_start is None or frame.exposure_start <= frame.t <= frame.exposure_end
        for run in (*reader.imu(), *reader.triggers()):
            assert (np.diff(run.t) >= 0).all()
        list(reader.truth())
        for window in reader.windows():
            assert window.tensor is None or window.tensor.shape[1:] == (height, width)
        reader.counts()
        reader.events(reader.t_start + 1000, reader.t_start + 2000)


def main(recording: str, seed: str, first: str, last: str) -> None:
    """Read copies ``first`` to ``last``; of a folder, each time another one of its files is damaged."""
    original = Path(recording)
    outcome = {"read": 0, "refused": 0}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"copy{original.suffix}"
        if original.is_dir():
            shutil.copytree(original, path, copy_function=shutil.copyfile)
            files = {path / file.relative_to(original): file for file in sorted(original.rglob("*")) if file.is_file()}
        else:
            files = {path: original}
        sound = {copy: file.read_bytes() for copy, file in files.items()}
        for k in range(int(first), int(last)):
            print("copy", k, file=sys.stderr, flush=True)
            signal.alarm(LIMIT_S)
            chance = random.Random(f"{seed} {k}")
            victim = chance.choice(list(sound))
            victim.write_bytes(mutated(sound[victim], chance))
            try:
                read_everything(path)
                outcome["read"] += 1
            except RtpipeError as error:
                said = str(error)
                assert str(path) in said, said
                assert "\n" not in said
                assert len(said) < 500
                outcome["refused"] += 1
            victim.write_bytes(sound[victim])
    print(json.dumps(outcome))


if __name__ == "__main__":
    main(*sys.argv[1:])
