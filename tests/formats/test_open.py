"""A recording is known by its content; what is none is refused in one line."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rtpipe.errors import FormatError, InputError
from rtpipe.formats import format_of, open_recording
from rtpipe.formats.ecm_h5 import Writer
from rtpipe.types import Events, Frame


def test_the_name_of_the_file_does_not_matter(shared: Callable[[str], Path], tmp_path: Path) -> None:
    for source, kind in (("aedat4/davis346_highway.aedat4", "aedat4"), ("layouts/eventhdr_slider.h5", "ecm_h5")):
        path = tmp_path / "recording.txt"
        path.write_bytes(shared("recordings/" + source).read_bytes())
        assert format_of(path) == kind
        with open_recording(str(path)) as reader:
            assert reader.counts()["camera/events"] > 70_000


def test_what_is_no_recording_is_refused_with_what_is_one(tmp_path: Path) -> None:
    path = tmp_path / "notes.aedat4"
    path.write_text("t x y p\n0 1 2 1\n")
    with pytest.raises(
        FormatError, match=r"notes\.aedat4: not a recording that rtpipe knows; it reads .*aedat4.*ecm_h5"
    ):
        open_recording(path)
    path.write_bytes(b"")
    with pytest.raises(FormatError, match="the file is empty"):
        open_recording(path)
    with pytest.raises(FormatError, match="a folder that is not a recording"):
        open_recording(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        open_recording(tmp_path / "nothing.h5")
    with pytest.raises(InputError, match="no such file"):
        open_recording("/dev/zero")


def test_an_hdf5_file_of_another_layout_is_not_taken_for_ours(tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as file:
        file["CD/events"] = [1, 2, 3]
    with pytest.raises(FormatError, match="not a recording that rtpipe knows"):
        open_recording(path)


def test_the_same_recording_in_another_format_is_cut_into_the_same_packets(
    shared: Callable[[str], Path], tmp_path: Path
) -> None:
    copy = tmp_path / "copy.h5"
    kinds = ("camera/events", "camera/frames")  # HDF5 has no place for IMU samples and triggers
    with open_recording(shared("recordings/aedat4/davis346_ball_throw.aedat4")) as original:
        packets = [p for p in original.packets() if p.stream in kinds]
        with Writer(copy, original.resolution) as writer:
            for packet in packets:
                writer.write(packet)
    with open_recording(copy) as reader:
        for p, q in zip(packets, reader.packets(), strict=True):
            assert (p.stream, p.seq, p.t_first, p.t_last, p.end) == (q.stream, q.seq, q.t_first, q.t_last, q.end)
            if isinstance(p.body, Events):
                assert isinstance(q.body, Events)
                assert (p.body.t == q.body.t).all()
                assert (p.body.x == q.body.x).all()
            elif isinstance(p.body, Frame):
                assert isinstance(q.body, Frame)
                assert p.body.exposure_start == q.body.exposure_start
                assert (p.body.image == q.body.image).all()
