"""A file is there whole, or as it was."""

import stat

import pytest

from rtpipe import whole_file


def parts_that_break():
    yield b"half"
    raise OSError("no room")


def test_it_is_written_with_its_folder_and_takes_the_old_ones_place(tmp_path):
    path = tmp_path / "new" / "file"
    whole_file.write(path, [b"a", b"b"], mode=0o600)
    whole_file.write(path, [b"c"], mode=0o600)
    assert path.read_bytes() == b"c"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_one_that_cannot_be_finished_leaves_what_was_there_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    whole_file.write(path, [b"old"])
    with pytest.raises(OSError, match="no room"):
        whole_file.write(path, parts_that_break())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
