"""``set KEY VALUE``, settings out of files, and who does what is asked."""

import json

import msgspec
import pytest

from drivers.camera import host
from drivers.camera.change import changed
from drivers.camera.contract import Capability
from drivers.camera.saved import loaded
from drivers.camera.settings import Roi
from drivers.davis import Settings
from rtpipe.errors import InputError
from rtpipe.pipeline.messages import check_command


@pytest.mark.parametrize(
    ("key", "text", "name", "value"),
    [
        ("roi", "10,20,100,80", "roi", Roi(x=10, y=20, width=100, height=80)),
        ("roi", "off", "roi", None),
        ("roi.width", "50", "roi", Roi(x=1, y=2, width=50, height=4)),
        ("mask", "3,4 5,6", "mask", [(3, 4), (5, 6)]),
        ("mask", "off", "mask", []),
        ("rate_limit_mev_s", "12.5", "rate_limit_mev_s", 12.5),
        ("refractory_us", "none", "refractory_us", None),
        ("antiflicker_hz", "90,110", "antiflicker_hz", (90.0, 110.0)),
        ("flip", "both", "flip", "both"),
        ("flip", "off", "flip", ""),
        ("imu", "off", "imu", False),
        ("imu", "on", "imu", True),
        ("biases.diff_on", "20", "biases", {"diff_off": 3, "diff_on": 20}),
        ("biases.diff_off", "off", "biases", {}),
        ("biases", "off", "biases", {}),
    ],
)
def test_one_setting_changes(key, text, name, value):
    before = Settings(
        roi=Roi(x=1, y=2, width=3, height=4), mask=[(1, 1)], refractory_us=9, flip="horizontal", biases={"diff_off": 3}
    )
    after = changed(before, key, text)
    assert getattr(after, name) == value
    assert msgspec.structs.replace(after, **{name: getattr(before, name)}) == before


def test_a_part_of_the_frames_changes():
    settings = changed(Settings(), "frames.exposure_us", "8000")
    assert settings.frames.exposure_us == 8000
    assert changed(settings, "frames.exposure_us", "auto") == Settings()
    assert changed(settings, "frames.enabled", "off").frames.enabled is False


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("nothing", "1"), ("serial", "5"), ("packet_us", "500"), ("roi", "1,2,3"), ("roi", "a,b,c,d"), ("roi", "7"),
        ("frames", "5"), ("frames.nothing", "5"), ("frames.exposure_us", "-5"), ("frames.exposure_us", "fast"),
        ("biases", "5"), ("biases.diff_on", "high"), ("mask", "1,2,3"), ("imu", "7"), ("flip", "sideways"),
        ("roi", "{a: [}"), ("refractory_us", "9" * 20_000), ("roi.depth", "4"), ("imu.x", "1"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_in_words(key, text):
    with pytest.raises(InputError) as error:
        changed(Settings(roi=Roi(width=1, height=1)), key, text)
    assert len(str(error.value)) < 500


def test_the_command_has_one_spelling():
    assert check_command(" SET  roi   10,20,100,80 ") == "set roi 10,20,100,80"
    for wrong in ("set", "set roi", "set 7 8", "set a;b 7"):
        with pytest.raises(InputError):
            check_command(wrong)


def test_what_hardware_cannot_do_is_done_here_or_refused():
    able = [Capability("biases.diff_on", "hardware"), Capability("roi", "hardware")]
    settings = Settings(biases={"diff_on": 5}, roi=Roi(width=9, height=9), refractory_us=100, imu=False, trail_us=7)
    done = host.where(settings, able)
    assert done == {
        "biases.diff_on": "hardware", "roi": "hardware", "refractory_us": "host", "trail_us": "host", "imu": "host"
    }  # fmt: skip
    assert [each["filter"] for each in host.filters(settings, done)] == ["refractory", "trail"]
    with pytest.raises(InputError, match=r"biases\.bogus.*it has biases\.diff_on"):
        host.where(Settings(biases={"bogus": 1}), able)
    for beyond in ({"antiflicker_hz": (50.0, 60.0)}, {"trigger_out_us": 5}, {"sync": "master"}):
        with pytest.raises(InputError, match="no computer can"):
            host.where(Settings(**beyond), able)
    with pytest.raises(InputError, match="evt3 bytes"):
        host.where(settings, able, "evt3")


def test_settings_come_from_a_file_and_what_is_written_goes_before(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text(
        "biases: {diff_on: 5, diff_off: 6}\nframes: {exposure_us: 900}\nserial: other\nroi: {width: 4, height: 5}\n"
    )
    settings = loaded(Settings(load=str(file), biases={"diff_on": 7}, serial="mine"))
    assert settings.biases == {"diff_on": 7, "diff_off": 6}
    assert (settings.frames.exposure_us, settings.serial, settings.roi) == (900, "mine", Roi(width=4, height=5))
    for text in ("[1, 2]", "roi: {width: wide}", "\x00\x01", "{", json.dumps({"biases": {"a": "b"}})):
        file.write_text(text)
        with pytest.raises(InputError):
            loaded(Settings(load=str(file)))
    with pytest.raises(InputError, match="No such file"):
        loaded(Settings(load=str(tmp_path / "none.mcap")))
