"""``rtpipe info`` says what is in a recording, for people and as JSON."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from typer.testing import CliRunner

from rtpipe.cli import app


def test_the_facts_as_json(shared: Callable[[str], Path]) -> None:
    path = shared("recordings/aedat4/davis346_ball_throw.aedat4")
    result = CliRunner().invoke(app, ["info", str(path), "--json"])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.output)
    assert facts["format"] == "aedat4"
    assert facts["path"] == str(path)
    assert facts["resolution"] == [346, 260]
    assert (facts["events"], facts["frames"], facts["imu"], facts["triggers"]) == (237_073, 19, 740, 75)
    assert (facts["t_start"], facts["t_end"]) == (1610696585220661, 1610696585970659)
    assert facts["duration_s"] == 0.749998
    assert 6000 < facts["exposure_us"][0] <= facts["exposure_us"][1] < 7000
    assert facts["notes"] == []


def test_the_facts_for_people(shared: Callable[[str], Path]) -> None:
    path = shared("recordings/layouts/rled_slider_0000_25fps.h5")
    text = CliRunner().invoke(app, ["info", str(path), "-o", "exposure_us=10000"]).output
    for fact in ("240x180", "3.409 s", "1,078,541", "camera/frames: 87", "exposure 10.000 ms", "note: times are micro"):
        assert fact in text


def test_errors_are_one_line_and_exit_code_2(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(40))
    for arguments in ([str(path)], [str(tmp_path / "none")], [str(path), "-o", "nonsense"]):
        command = [sys.executable, "-c", "from rtpipe.cli import main; main()", "info", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2
        assert done.stdout == ""
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
