"""EFNet's processed files, made here with h5py alone: pictures, masks and tensors as they are stored, and no events."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from rtpipe.cli import app
from rtpipe.errors import FormatError
from rtpipe.formats import format_of, open_recording

BINS, H, W = 6, 24, 32


def stored(k: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(k)
    voxel = rng.normal(0, 2, (BINS, H, W)).astype(np.float32)
    voxel[:, rng.random((H, W)) < 0.5] = 0
    return {
        "images/image": rng.integers(0, 255, (3, H, W), dtype=np.uint8),
        "sharp_images/image": rng.integers(0, 255, (3, H, W), dtype=np.uint8),
        "voxels/voxel": voxel,
        "masks/mask": (voxel != 0).any(axis=0, keepdims=True).astype(np.uint8),
    }


def make(path: Path, n: int = 4, leave: tuple[str, ...] = (), **changes: Any) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["sensor_resolution"] = (H, W)
        for k in range(n):
            for name, array in stored(k).items():
                change = changes.get(name.split("/")[0])
                if name not in leave:
                    data = file.create_dataset(f"{name}{k:09d}", data=change(array) if change else array)
                    data.attrs["size"] = array.shape
    return path


def test_windows_hold_what_is_stored(tmp_path: Path) -> None:
    path = make(tmp_path / "a.h5")
    assert format_of(path) == "efnet_h5"
    with open_recording(path) as reader:
        assert reader.resolution == (W, H)
        assert reader.counts() == {"camera/frames": 4, "truth": 4}
        assert len(reader.events()) == 0
        windows, truth = list(reader.windows()), list(reader.truth())
        assert len(windows) == len(truth) == 4
        for k, (window, sharp) in enumerate(zip(windows, truth, strict=True)):
            wanted = stored(k)
            assert np.array_equal(window.tensor, wanted["voxels/voxel"])
            assert np.array_equal(window.mask, wanted["masks/mask"][0])
            assert window.n_events == np.count_nonzero(wanted["voxels/voxel"])
            assert np.array_equal(window.frame.image, np.moveaxis(wanted["images/image"], 0, 2))
            assert np.array_equal(sharp.image, np.moveaxis(wanted["sharp_images/image"], 0, 2))
            assert (window.t_start, window.t_end, window.frame.t, sharp.source) == (
                k * 40_000,
                (k + 1) * 40_000,
                k * 40_000,
                "truth",
            )
        assert [f.t for f in reader.frames(40_000, 120_000)] == [40_000, 80_000]


def test_what_it_lacks_is_said(tmp_path: Path) -> None:
    with open_recording(make(tmp_path / "a.h5"), period_us=1000) as reader:
        assert "no events in it, but 4 voxel grids of 6 bins and 4 masks" in reader.notes
        assert any("pictures are numbered, 1 ms apart" in note for note in reader.notes)
        assert reader.t_end == 4000
    with open_recording(make(tmp_path / "b.h5", leave=("masks/mask",))) as reader:
        assert all(window.mask is None for window in reader.windows())
        assert "no events in it, but 4 voxel grids of 6 bins, no masks" in reader.notes
    with open_recording(make(tmp_path / "c.h5", leave=("images/image",))) as reader:
        assert all(window.frame is None for window in reader.windows())
        assert reader.streams == ()


def test_a_run_says_that_there_are_no_events(tmp_path: Path) -> None:
    answer = CliRunner().invoke(app, ["info", str(make(tmp_path / "a.h5"))])
    assert "note: no events in it, but 4 voxel grids" in answer.output


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a voxel grid of another size": (
        {"voxels": lambda v: v[:, 1:] if v.max() > stored(0)["voxels/voxel"].max() else v},
        "wanted",
    ),
    "pictures of another size": ({"images": lambda v: v[:, :-1]}, r"\(1 or 3, 24, 32\) wanted"),
    "pictures of two channels": ({"images": lambda v: v[:2]}, r"\(1 or 3, 24, 32\) wanted"),
    "pictures of 64 bit": ({"images": lambda v: v.astype(np.uint64)}, "no picture"),
    "no numbers": ({"voxels": lambda v: np.where(v == 0, np.nan, v)}, "no number"),
    "flat voxels": ({"voxels": lambda v: v[0]}, "3-dimensional numbers wanted"),
    "whole numbers for voxels": ({"voxels": lambda v: v.astype(int)}, "numbers wanted"),
    "none at all": ({"n": 0}, "not a recording|voxels is empty"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_is_refused_in_one_line(tmp_path: Path, what: str) -> None:
    changes, said = REFUSED[what]
    path = make(tmp_path / "bad.h5", **changes)
    with pytest.raises(FormatError, match=said) as caught, open_recording(path) as reader:  # noqa: PT012
        list(reader.windows())
        list(reader.frames())
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
