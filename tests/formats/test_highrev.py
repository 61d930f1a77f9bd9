"""HighREV folders, against the recording that they were made from; what they leave open is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtpipe.errors import FormatError, InputError
from rtpipe.formats import format_of, open_recording

LAYOUT = "recordings/layouts/highrev"


@pytest.fixture
def copy(shared: Callable[[str], Path], tmp_path: Path) -> Path:
    path = tmp_path / "copy"
    shutil.copytree(shared(LAYOUT), path, copy_function=shutil.copyfile)
    return path


def test_events_are_each_there_once_and_the_right_way_round(shared: Callable[[str], Path]) -> None:
    arrays = np.load(shared("recordings/deblur/eslnet_cups_davis346.npz"))
    with open_recording(shared(LAYOUT)) as reader:
        events = reader.events()
        n = int(arrays["idx"][3]) + 2000  # three pictures and what follows the last
        assert reader.counts() == {"camera/events": n, "camera/frames": 3}
        assert reader.resolution == (346, 260)
        for name, column in (("t", "t_us"), ("x", "x"), ("y", "y"), ("p", "p")):
            assert np.array_equal(getattr(events, name), arrays[column][:n])
        for t0 in (0, 6, 100_000, 122_347, 200_000, 369_324, 370_000):
            part, wanted = reader.events(t0, t0 + 30_000), events.between(t0, t0 + 30_000)
            assert np.array_equal(part.t, wanted.t)
            assert np.array_equal(part.x, wanted.x)
        said = "; ".join(reader.notes)
        for fact in ("times are microseconds", "x and y are exchanged", "last event file", "read as grey"):
            assert fact in said


def test_exposures_enclose_the_events_of_their_picture(shared: Callable[[str], Path]) -> None:
    arrays = np.load(shared("recordings/deblur/eslnet_cups_davis346.npz"))
    edges = arrays["idx"]
    with open_recording(shared(LAYOUT)) as reader:
        frames = list(reader.frames())
        for k, frame in enumerate(frames):
            assert frame.exposure_start == arrays["t_us"][edges[k]]
            assert frame.exposure_end == arrays["t_us"][edges[k + 1] - 1] + 1
            assert np.array_equal(frame.image, arrays["blur"][k])
        bodies = [p.body for p in reader.packets() if p.stream == "camera/frames" and p.body is not None]
        assert [f.t for f in bodies] == [f.t for f in frames]
        assert list(reader.truth()) == []
        assert list(reader.windows()) == []


def test_sharp_pictures_are_truth(copy: Path) -> None:
    shutil.copytree(copy / "blur", copy / "sharp")
    with open_recording(copy) as reader:
        assert reader.counts()["truth"] == 3
        truth = list(reader.truth())
        assert [t.t for t in truth] == [f.t for f in reader.frames()]
        assert {t.source for t in truth} == {"truth"}


def test_several_sequences_are_chosen_from(copy: Path) -> None:
    for folder in ("blur", "event"):
        for file in list((copy / folder).iterdir()):
            shutil.copyfile(file, file.with_name(file.name.replace("cups", "other_one")))
    with pytest.raises(FormatError, match="several sequences; choose with the option sequence: cups, other_one"):
        open_recording(copy)
    with pytest.raises(InputError, match="no sequence 'mugs'; there is cups, other_one"):
        open_recording(copy, sequence="mugs")
    with open_recording(copy, sequence="other_one") as reader:
        assert reader.counts()["camera/events"] == 224_982


def rescaled(folder: Path, factor: float, dtype: type) -> None:
    for file in (folder / "event").iterdir():
        arrays = dict(np.load(file))
        np.savez_compressed(file, **{**arrays, "timestamp": (arrays["timestamp"] * factor).astype(dtype)})


@pytest.mark.parametrize(("unit", "factor"), [("seconds", 1e-6), ("milliseconds", 1e-3), ("nanoseconds", 1000)])
def test_the_unit_of_time_is_proven_by_the_exposure(copy: Path, unit: str, factor: float) -> None:
    rescaled(copy, factor, np.int64 if factor > 1 else np.float64)
    with open_recording(copy) as reader:
        assert f"times are {unit}" in "; ".join(reader.notes)
        assert (reader.t_start, reader.t_end) == (6, 369_324)


def test_a_unit_that_is_not_proven_must_be_said(copy: Path) -> None:
    rescaled(copy, 1e6, np.int64)
    with pytest.raises(FormatError, match="option time_unit"):
        open_recording(copy)
    with open_recording(copy, time_unit="ns") as reader:
        assert reader.t_end == 369_324_000


def test_files_with_x_and_y_the_usual_way_are_refused(copy: Path) -> None:
    for file in (copy / "event").iterdir():
        arrays = dict(np.load(file))
        np.savez(file, **{**arrays, "x": arrays["y"], "y": arrays["x"]})
    with pytest.raises(FormatError, match="here x is the column"), open_recording(copy) as reader:
        reader.events()


def test_voxel_grids_become_windows_with_their_pictures(copy: Path) -> None:
    shutil.rmtree(copy / "event")
    (copy / "voxel").mkdir()
    rng = np.random.default_rng(0)
    grids = [rng.normal(size=(260, 346, 6)).astype(np.float32) * (rng.random((260, 346, 1)) < 0.1) for _ in range(3)]
    for grid, picture in zip(grids, sorted((copy / "blur").iterdir()), strict=True):
        np.savez_compressed(copy / "voxel" / f"{picture.stem}.npz", voxel=grid)
    assert format_of(copy) == "highrev"
    with open_recording(copy, exposure_us=20_000) as reader:
        assert [stream.name for stream in reader.streams] == ["camera/frames"]
        assert "no times in it" in "; ".join(reader.notes)
        windows = list(reader.windows())
        assert [(w.t_start, w.t_end) for w in windows] == [(0, 20_000), (20_000, 40_000), (40_000, 60_000)]
        for window, grid, picture in zip(windows, grids, sorted((copy / "blur").iterdir()), strict=True):
            assert window.tensor is not None
            assert window.frame is not None
            assert window.tensor.shape == (6, 260, 346)
            assert window.tensor.flags.c_contiguous
            assert np.array_equal(window.tensor[2], grid[:, :, 2])
            assert np.array_equal(window.frame.image, cv2.imread(str(picture))[:, :, 0])
    np.savez(next((copy / "voxel").iterdir()), voxel=np.zeros((346, 260, 6), np.float32))
    with pytest.raises(FormatError, match=r"\[260, 346, bins\] wanted"), open_recording(copy) as reader:
        list(reader.windows())
