"""DSEC's files, made here with h5py alone: absolute times, found by the millisecond, whatever the index says."""

from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest

from rtpipe.errors import FormatError
from rtpipe.formats import format_of, open_recording
from rtpipe.formats.dsec_h5 import Reader
from rtpipe.types import Events

OFFSET = 51_648_500_652
N = 40_000


def columns(n: int = N) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    return {
        "t": np.sort(rng.integers(0, 200_000, n)).astype(np.uint32),
        "x": rng.integers(0, 640, n).astype(np.uint16),
        "y": rng.integers(0, 480, n).astype(np.uint16),
        "p": rng.integers(0, 2, n).astype(np.uint8),
    }


def make(path: Path, **changes: Any) -> Path:
    """A file in DSEC's layout, with changed columns, ``offset`` or ``index`` (None: left out)."""
    offset, index = changes.pop("offset", np.int64(OFFSET)), changes.pop("index", "right")
    data = columns()
    data.update({k: v(data[k]) if callable(v) else v for k, v in changes.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in data.items():
            if values is not None:
                blosc = hdf5plugin.Blosc(cname="zstd", clevel=1, shuffle=hdf5plugin.Blosc.SHUFFLE)
                file.create_dataset(f"events/{name}", data=values, chunks=(3000,), maxshape=(None,), **blosc)
        if index is not None:
            right = np.searchsorted(data["t"], np.arange(0, 201_000, 1000)).astype(np.uint64)
            file["ms_to_idx"] = right if isinstance(index, str) else index(right)
        if offset is not None:
            file["t_offset"] = offset
    return path


def test_events_are_what_h5py_reads(tmp_path: Path) -> None:
    path = make(tmp_path / "events.h5")
    assert format_of(path) == "dsec_h5"
    with open_recording(path) as reader:
        events, wanted = reader.events(), columns()
        assert np.array_equal(events.t, wanted["t"].astype(np.int64) + OFFSET)
        for name in ("x", "y", "p"):
            assert np.array_equal(getattr(events, name), wanted[name])
        assert (reader.resolution, reader.counts()) == ((640, 480), {"camera/events": N})
        assert (reader.t_start, reader.t_end) == (events.t[0], events.t[-1])
        cut = Events.concatenate(p.body for p in reader.packets() if isinstance(p.body, Events))
        assert np.array_equal(cut.t, events.t)


INDICES: dict[str, Any] = {
    "right": "right",
    "none": None,
    "zeros": lambda index: index * 0,
    "shifted": lambda index: index + np.uint64(77),
    "beyond": lambda index: index + np.uint64(1 << 40),
    "huge": lambda index: index + np.uint64(1 << 63),
    "backwards": lambda index: index[::-1].copy(),
    "short": lambda index: index[:20],
}


@pytest.mark.parametrize("index", INDICES)
def test_any_span_is_found_whatever_the_index_says(tmp_path: Path, index: str) -> None:
    path = make(tmp_path / "events.h5", index=INDICES[index], offset=np.int64(OFFSET))
    if index == "none":
        with pytest.raises(FormatError):
            Reader(tmp_path / "nothing.h5") if format_of(path) == "dsec_h5" else open_recording(path)
        return
    t = columns()["t"].astype(np.int64) + OFFSET
    with open_recording(path) as reader:
        for start in (-5, 0, 1, 999, 1000, 57_123, 100_000, 199_999, 200_000, 300_000):
            for length in (0, 1, 1000, 33_333):
                t0 = OFFSET + start
                wanted = t[(t >= t0) & (t < t0 + length)]
                assert np.array_equal(reader.events(t0, t0 + length).t, wanted)


def test_a_right_index_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Reader(make(tmp_path / "events.h5")) as reader:
        monkeypatch.setattr(reader._columns, "first_at", lambda *_: pytest.fail("searched"))
        assert reader.first_at(OFFSET + 57_123) == np.searchsorted(columns()["t"], 57_123)


def test_a_sequences_folder_opens(tmp_path: Path) -> None:
    root = tmp_path / "interlaken_00_c"
    make(root / "events/left/events.h5")
    make(root / "events/right/events.h5", t=lambda t: t + np.uint32(5))
    (root / "events/left/rectify_map.h5").touch()
    (root / "images").mkdir()
    assert format_of(root) == "dsec_h5"
    with open_recording(root) as left, open_recording(root, side="right") as right:
        assert right.t_start == left.t_start + 5
        assert any("rectify_map" in note for note in left.notes)
        assert any("pictures are of other cameras" in note for note in left.notes)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "off the sensor": ({"x": lambda x: x + np.uint16(300)}, "off the 640x480 sensor"),
    "backwards": ({"t": lambda t: np.r_[t[:20_000], t[:20_000]]}, "time runs backwards"),
    "polarity": ({"p": lambda p: p * np.uint8(2)}, "polarity 0 to 2; 0 and 1 wanted"),
    "no y": ({"y": None}, "no events/y"),
    "lengths": ({"y": lambda y: y[:-1]}, "different lengths"),
    "offset": ({"offset": np.uint64(1 << 63)}, "t_offset: one number of microseconds"),
    "offsets": ({"offset": np.arange(3)}, "t_offset"),
    "no events": ({k: v[:0] for k, v in columns().items()}, "no events in it"),
    "negative times": ({"t": lambda t: t.astype(np.int64) - 10}, "damaged|is no time"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_is_refused_in_one_line(tmp_path: Path, what: str) -> None:
    changes, said = REFUSED[what]
    path = make(tmp_path / "bad.h5", **changes)
    with pytest.raises(FormatError, match=said) as caught, Reader(path) as reader:
        reader.events()
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
