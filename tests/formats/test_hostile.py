"""Damaged and hostile copies of recordings: read soundly or refused in plain words; no crash, hang or bad event."""

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lz4.frame
import numpy as np
import pytest

from rtpipe.errors import FormatError
from rtpipe.formats import open_recording
from rtpipe.formats.ecm_h5 import Writer
from rtpipe.types import Events, Frame

KINDS = ("aedat4", "aedat4 uncompressed", "hdf5")


@pytest.fixture(scope="module")
def recordings(shared: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small good recording of each kind. Uncompressed, the mutations reach the structure within the packets."""
    folder = tmp_path_factory.mktemp("hostile")
    real = shared("recordings/aedat4/davis346_ball_throw.aedat4").read_bytes()
    (size,) = struct.unpack_from("<I", real, 14)
    found: dict[str, Path] = {}
    for kind, compression in (("aedat4", 1), ("aedat4 uncompressed", 0)):
        at, body = 18 + size, b""
        for _ in range(40):
            stream, n = struct.unpack_from("<iI", real, at)
            data = real[at + 8 : at + 8 + n]
            data = data if compression else lz4.frame.decompress(data)
            body += struct.pack("<iI", stream, len(data)) + data
            at += 8 + n
        head = bytearray(real[: 18 + size])
        (root,) = struct.unpack_from("<I", head, 18)
        vtable = 18 + root - struct.unpack_from("<i", head, 18 + root)[0]
        fields = struct.unpack_from("<2H", head, vtable + 4)
        struct.pack_into("<i", head, 18 + root + fields[0], compression)
        struct.pack_into("<q", head, 18 + root + fields[1], len(head) + len(body))
        found[kind] = folder / f"{compression}.aedat4"
        found[kind].write_bytes(bytes(head) + body)
    found["hdf5"] = folder / "small.h5"
    rng = np.random.default_rng(0)
    with Writer(found["hdf5"], (64, 48), "TestCam") as writer:
        t = np.sort(rng.integers(0, 400_000, 5000))
        writer.add_events(Events(t, rng.integers(0, 64, 5000), rng.integers(0, 48, 5000), rng.integers(0, 2, 5000)))
        for k in range(4):
            start = k * 100_000
            image = rng.integers(0, 255, (48, 64), dtype=np.uint8)
            writer.add_frame(Frame(image, start + 10_000, start, start + 20_000))
            writer.add_truth(Frame(np.zeros((48, 64, 3), np.uint8), start + 10_000))
    return found


def survive(recording: Path, seed: int, n: int) -> dict[str, int]:
    script = Path(__file__).with_name("read_mutated.py")
    command = [sys.executable, str(script), str(recording), str(seed), "0", str(n)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stderr[-3000:]}"
    outcome: dict[str, int] = json.loads(done.stdout)
    return outcome


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_hundred_mutations_are_survived(recordings: dict[str, Path], kind: str) -> None:
    outcome = survive(recordings[kind], 1, 250)
    assert outcome["read"] + outcome["refused"] == 250
    assert outcome["refused"] > 100  # the mutations do reach something


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_thousands_of_mutations_are_survived(recordings: dict[str, Path], kind: str) -> None:
    outcome = survive(recordings[kind], 2, 3000)
    assert outcome["read"] + outcome["refused"] == 3000


@pytest.mark.parametrize("kind", KINDS)
def test_cut_anywhere_it_is_refused_in_one_line(recordings: dict[str, Path], kind: str, tmp_path: Path) -> None:
    data = recordings[kind].read_bytes()
    path = tmp_path / "cut"
    edges = [1, 2, 7, 13, 14, 17, 18, 50, 1000]
    for length in [*edges, *range(2000, len(data), len(data) // 20), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(FormatError) as caught:
            open_recording(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
