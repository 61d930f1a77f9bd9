"""Damaged copies of folders, text, NumPy files and old camera files: read soundly or refused in plain words."""

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtpipe.formats.evinr_npy import Writer as NpyWriter
from rtpipe.formats.ijrr import Writer as FolderWriter
from rtpipe.types import Events, Frame, Imu, Packet

KINDS = ("ijrr", "evinr_npy", "highrev", "highrev voxels", "npz edi", "event_stream", "aedat2")
MORE_KINDS = ("ijrr npz", "npz", "npz stored", "event_stream atis")
W, H = 64, 48


def events(n: int, start: int = 1_000_000) -> Events:
    rng = np.random.default_rng(n)
    t = start + np.sort(rng.integers(0, 100_000, n))
    return Events(t, rng.integers(0, W, n), rng.integers(0, H, n), rng.integers(0, 2, n))


def pictures(n: int) -> np.ndarray:
    rng = np.random.default_rng(n)
    return np.cumsum(rng.integers(0, 3, (n, H, W), dtype=np.uint8), axis=2, dtype=np.uint8)


def make_ijrr(path: Path) -> None:
    with FolderWriter(path, (W, H)) as writer:
        writer.write(Packet("camera/events", 0, 0, 0, 0, events(300)))
        for k, image in enumerate(pictures(3)):
            t = 1_000_000 + 30_000 * k
            writer.write(Packet("camera/frames", k, 0, 0, 0, Frame(image, t, t - 5000, t + 5000)))
        t = 1_000_000 + np.arange(20) * 1000
        values = np.ones((20, 3), np.float32)
        writer.write(Packet("camera/imu", 0, 0, 0, 0, Imu(t, values, values, values[:, 0])))


def make(kind: str, path: Path) -> Path:
    name, _, variant = kind.partition(" ")
    e = events(400)
    columns = {"t_us": e.t, "x": e.x, "y": e.y, "p": e.p}
    path = path / kind.replace(" ", "_")
    if name == "ijrr":
        make_ijrr(path)
        if variant:
            (path / "events.txt").unlink()
            np.savez_compressed(path / "events.npz", **columns)
    elif name == "evinr_npy":
        with NpyWriter(path, (W, H)) as writer:
            writer.write(Packet("camera/events", 0, 0, 0, 0, e))
    elif name == "npz":
        blur = pictures(4)
        if variant == "edi":
            columns = {"tn": np.tile(np.linspace(0, 1, 100, dtype=np.float32), 4), **columns, "blur": blur}
            del columns["t_us"]
            np.savez_compressed(path, **columns, idx=np.arange(5) * 100)
        else:
            edges = {"exp_start_us": e.t[0] + np.arange(4) * 20_000.0, "exp_end_us": e.t[0] + 9e3 + np.arange(4) * 2e4}
            (np.savez if variant else np.savez_compressed)(path, **columns, blur=blur, **edges)
        return path.with_name(path.name + ".npz")
    elif name == "highrev":
        (path / "blur").mkdir(parents=True)
        (path / "event").mkdir()
        for k, image in enumerate(pictures(2)):
            cv2.imwrite(str(path / f"blur/a_{k:05d}.png"), image)
            if variant:
                np.savez_compressed(path / f"event/a_{k:05d}.npz", voxel=np.ones((H, W, 6), np.float32))
                continue
            for part in range(3):
                run = events(100, 1_000_000 + (k * 3 + part) * 100_000)
                stored = {"x": run.y, "y": run.x, "timestamp": run.t, "polarity": run.p}
                stored = {key: column[:, None] for key, column in stored.items()}
                np.savez_compressed(path / f"event/a_{k:05d}_{part:02d}.npz", **stored)
    elif name == "event_stream":
        chance = np.random.default_rng(0)
        body = b"".join(
            bytes([int(chance.integers(0, 250))]) + struct.pack("<HH", *chance.integers(0, 40, 2).tolist())
            for _ in range(500)
        )
        body = (b"\xff\xfe\xfd\xfc" if variant else b"\xff\xfe") * 3 + body
        path.write_bytes(b"Event Stream\2\0\0" + bytes([2 if variant else 1]) + struct.pack("<HH", W, H) + body)
    else:
        header = b"#!AER-DAT2.0\r\n# AEChip: eu.seebetter.ini.chips.davis.DAVIS240C\r\n"
        address = (e.y.astype(">u4") << 22 | e.x.astype(">u4") << 12 | e.p.astype(">u4") << 11).astype(">u4")
        records = np.stack([address, e.t.astype(">u4")], axis=1).astype(">u4")
        records[100:170, 0] = [0x80000C00 | code << 28 | 55 << 12 for _ in range(10) for code in range(7)]
        path.write_bytes(header + records.tobytes())
    return path


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("columns")
    made: dict[str, Path] = {}

    def find(kind: str) -> Path:
        if kind not in made:
            made[kind] = make(kind, folder)
        return made[kind]

    return find


def survive(recording: Path, seed: int, n: int) -> dict[str, int]:
    script = Path(__file__).with_name("read_mutated.py")
    command = [sys.executable, str(script), str(recording), str(seed), "0", str(n)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stderr[-3000:]}"
    outcome: dict[str, int] = json.loads(done.stdout)
    return outcome


@pytest.mark.parametrize("kind", KINDS)
def test_mutations_are_survived(recordings: Callable[[str], Path], kind: str) -> None:
    outcome = survive(recordings(kind), 1, 150)
    assert outcome["read"] + outcome["refused"] == 150
    assert outcome["refused"] > 20  # the mutations do reach something
    assert outcome["read"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS + MORE_KINDS)
def test_a_thousand_mutations_are_survived(recordings: Callable[[str], Path], kind: str) -> None:
    outcome = survive(recordings(kind), 2, 1000)
    assert outcome["read"] + outcome["refused"] == 1000
