"""Archives of columns and pictures, against NumPy's own reading; bombs and pickles are not touched."""

import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtpipe.errors import FormatError
from rtpipe.formats import format_of, open_recording

CUPS, SHAKE = "recordings/deblur/eslnet_cups_davis346.npz", "recordings/deblur/edi_camerashake_davis240.npz"


def test_stated_exposures_and_microseconds_are_taken_as_they_are(shared: Callable[[str], Path]) -> None:
    arrays = np.load(shared(CUPS))
    with open_recording(shared(CUPS)) as reader:
        events, frames = reader.events(), list(reader.frames())
        assert reader.resolution == (346, 260)
        assert reader.counts() == {"camera/events": 2_522_436, "camera/frames": 30}
        assert reader.notes == ()
        for t0 in (0, 104_000, 110_000, 1_000_000, 3_651_884, 4_000_000):
            part, wanted = reader.events(t0, t0 + 3000), events.between(t0, t0 + 3000)
            assert np.array_equal(part.t, wanted.t)
            assert np.array_equal(part.x, wanted.x)
        assert [f.t for f in reader.frames(frames[3].t, frames[6].t)] == [f.t for f in frames[3:6]]
    for name, column in (("t", "t_us"), ("x", "x"), ("y", "y"), ("p", "p")):
        assert np.array_equal(getattr(events, name), arrays[column])
    assert np.array_equal(np.stack([frame.image for frame in frames]), arrays["blur"])
    assert [f.exposure_start for f in frames] == np.rint(arrays["exp_start_us"]).tolist()
    assert [f.exposure_end for f in frames] == np.rint(arrays["exp_end_us"]).tolist()


@pytest.mark.parametrize("exposure_us", [None, 12_345])
def test_fractions_of_an_exposure_are_laid_end_to_end(shared: Callable[[str], Path], exposure_us: int | None) -> None:
    arrays = np.load(shared(SHAKE))
    length = exposure_us or 50_000
    with open_recording(shared(SHAKE), **({"exposure_us": exposure_us} if exposure_us else {})) as reader:
        assert ("exposure_us says the true length" in "; ".join(reader.notes)) == (exposure_us is None)
        tracemalloc.start()
        last, n, pictures = -1, 0, 0
        tn, idx, x, blur = arrays["tn"], arrays["idx"], arrays["x"], arrays["blur"]
        tracemalloc.reset_peak()
        base = tracemalloc.get_traced_memory()[0]
        for run in reader.event_chunks():
            assert run.t[0] >= last
            last, n = int(run.t[-1]), n + len(run)
        peak = tracemalloc.get_traced_memory()[1] - base
        tracemalloc.stop()
        assert n == len(tn) == 7_213_245
        assert peak < 25_000_000  # 94 MB as events
        for k in (0, 1, 40):  # every event of a picture lies within its exposure, where tn says
            events = reader.events(k * length, (k + 1) * length)
            within = k * length + np.rint(tn[idx[k] : idx[k + 1]].astype(np.float64) * length)
            inside = within < (k + 1) * length
            before = (
                np.count_nonzero(np.rint(tn[idx[k - 1] : idx[k]].astype(np.float64) * length) == length) if k else 0
            )
            assert np.array_equal(events.t[before:], within[inside])
            assert np.array_equal(events.x[before:], x[idx[k] : idx[k + 1]][inside])
        for k, frame in enumerate(reader.frames()):
            assert (frame.exposure_start, frame.exposure_end) == (k * length, (k + 1) * length)
            assert np.array_equal(frame.image, blur[k])
            pictures += 1
        assert pictures == 85


def columns(n: int = 100, **more: Any) -> dict[str, Any]:
    return {"t_us": np.arange(n) * 50, "x": np.arange(n) % 30, "y": np.arange(n) % 20, "p": np.arange(n) % 2, **more}


def test_other_names_units_and_a_missing_geometry(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    t = 1_600_000_000 + np.arange(100) / 1e4
    np.savez(path, timestamps=t, xs=np.arange(100)[:, None], ys=np.arange(100) % 7, polarity=np.arange(100) % 2 * 2 - 1)
    with open_recording(path) as reader:
        assert format_of(path) == "npz"
        assert reader.resolution == (128, 128)
        assert "no geometry in it" in " ".join(reader.notes)
        assert "times are seconds" in " ".join(reader.notes)
        events = reader.events()
    assert events.t.tolist() == [1_600_000_000_000_000 + 100 * k for k in range(100)]
    assert events.x.tolist() == list(range(100))
    assert events.p.tolist()[:3] == [0, 1, 0]
    np.savez(path, **columns(blur=np.zeros((3, 20, 30), np.uint8)))
    with open_recording(path) as reader:
        assert reader.resolution == (30, 20)
        assert "have no times and are left out" in " ".join(reader.notes)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        (columns(x=np.zeros(99)), "different lengths"),
        (columns(p=np.array([{}] * 100, dtype=object)), "numbers wanted"),
        (columns(x=np.full(100, 40_000)), "x from 40000"),
        (columns(t_us=np.arange(100)[::-1] * 100), "backwards"),
        (columns(blur=np.zeros((3, 20), np.uint8)), "pictures wanted"),
        (columns(blur=np.zeros((3, 10, 10), np.uint8)), "off the 10x10 sensor"),
        (columns(blur=np.zeros((2, 20, 30), np.uint8), exp_start_us=[5, 1], exp_end_us=[9, 8]), "run backwards"),
        (columns(blur=np.zeros((2, 20, 30), np.uint8), exp_start_us=[1], exp_end_us=[9, 8]), "different lengths"),
    ],
)
def test_what_is_unsound_is_refused(tmp_path: Path, arrays: dict[str, Any], said: str) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, **arrays)
    with pytest.raises(FormatError, match=said) as caught, open_recording(path) as reader:
        reader.events()
    assert str(path) in str(caught.value)


def test_relative_times_need_a_sound_index(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    arrays = columns()
    del arrays["t_us"]
    for idx in ([0, 50], [0, 60, 50, 100], [1, 100]):
        np.savez(path, **arrays, tn=np.linspace(0, 1, 100), idx=np.array(idx))
        with pytest.raises(FormatError, match="idx does not divide"):
            open_recording(path)
    np.savez(path, **arrays, tn=np.linspace(0, 1, 100))
    with pytest.raises(FormatError, match="no idx"):
        open_recording(path)


def test_a_bomb_is_refused_before_anything_is_made_of_it(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, **columns())
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    struct.pack_into("<I", data, at + 24, 0xFFFFFF00)  # the size of the first member, in the table of contents
    path.write_bytes(data)
    with pytest.raises(FormatError, match=r"claims 4294967040 bytes"):
        open_recording(path)
    for shape in ("1, 70000, 70000", "999,", "1001,"):
        head = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118)
        said = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({shape}), }}".encode().ljust(117) + b"\n"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("t.npy", head + said + bytes(1000))
        with pytest.raises(FormatError, match="cut short or damaged"):
            open_recording(path)
