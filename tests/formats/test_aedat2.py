"""AEDAT 2.0 of jAER, against another decoder and the documented bits."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rtpipe.errors import FormatError, InputError
from rtpipe.formats import aedat2, format_of, open_recording
from rtpipe.types import Imu

REAL = "recordings/aedat2/davis240_translBoxes.aedat"
HEADER = b"#!AER-DAT2.0\r\n# AEChip: eu.seebetter.ini.chips.davis.%s\r\n"


def record(address: int, t: int) -> bytes:
    return address.to_bytes(4, "big") + t.to_bytes(4, "big")


def test_events_are_those_of_another_decoder(shared: Callable[[str], Path]) -> None:
    eventcv = pytest.importorskip("eventcv")
    other = np.asarray(eventcv.load(str(shared(REAL))).numpy())  # x, y, t, p; turns y round, not x
    with open_recording(shared(REAL)) as reader:
        assert format_of(shared(REAL)) == "aedat2"
        assert reader.resolution == (240, 180)
        assert reader.counts()["camera/events"] == len(other) == 162_771
        events = reader.events()
        assert np.array_equal(events.t, other[:, 2])
        assert np.array_equal(events.x, 239 - other[:, 0].astype(int))
        assert np.array_equal(events.y, other[:, 1])
        assert np.array_equal(events.p, other[:, 3])


def test_any_span_is_found(shared: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aedat2, "BLOCK", 10_007)
    with open_recording(shared(REAL)) as reader:
        events, imu = reader.events(), list(reader.imu())
        t = np.concatenate([run.t for run in imu])
        assert len(events) == 162_771
        assert len(t) == 4833
        for t0 in (0, reader.t_start, 296_000_000, int(t[700]), reader.t_end, reader.t_end + 1):
            part, wanted = reader.events(t0, t0 + 3000), events.between(t0, t0 + 3000)
            assert np.array_equal(part.t, wanted.t)
            assert np.array_equal(part.x, wanted.x)
            samples = [run.t for run in reader.imu(t0, t0 + 3000)]
            inside = t[(t >= t0) & (t < t0 + 3000)]
            assert np.array_equal(np.concatenate([*samples, inside[:0]]), inside)


def test_the_imu_of_a_camera_on_a_table_feels_gravity(shared: Callable[[str], Path]) -> None:
    with open_recording(shared(REAL)) as reader:
        parts = list(reader.imu())
        imu = Imu(
            *(
                np.concatenate([getattr(run, n) for run in parts])
                for n in ("t", "acceleration", "rotation", "temperature")
            )
        )
        assert len(imu) == reader.counts()["camera/imu"] == 33_837 // 7
        assert "8 g and 1000 °/s" in " ".join(reader.notes)
    assert np.linalg.norm(imu.acceleration.mean(axis=0)) == pytest.approx(9.81, abs=0.2)
    assert np.abs(imu.rotation).max() < 0.2
    assert 25 < imu.temperature.mean() < 35
    assert np.abs(np.diff(imu.t)).max() < 2000


def test_every_kind_of_record_is_taken_for_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.aedat"
    values = (4096, -4096, 0, 340, 328, -328, 0)
    body = record(0b1 << 22 | 5 << 12 | 1 << 11, 100)  # on, one above the lowest row, the sixth column from the right
    body += record(7 << 22 | 0 << 12, 100)
    body += b"".join(record(0x80000C00 | k << 28 | (v & 0xFFFF) << 12, 150) for k, v in enumerate(values))
    body += record(1 << 10, 170)  # an external signal
    body += record(0x80000000 | 9 << 22 | 3 << 12 | 500, 180) + record(0x80000400 | 9 << 22 | 3 << 12 | 300, 190)
    path.write_bytes(HEADER % b"Davis346B" + body)
    with open_recording(path) as reader:
        assert reader.resolution == (346, 260)
        assert reader.counts() == {"camera/events": 2, "camera/imu": 1, "camera/triggers": 1}
        assert "2 samples of frames are left out" in " ".join(reader.notes)
        events, (imu,), (trigger,) = reader.events(), reader.imu(), reader.triggers()
    assert (events.t.tolist(), events.x.tolist(), events.y.tolist(), events.p.tolist()) == (
        *([100, 100], [340, 345], [258, 252], [1, 0]),
    )
    assert imu.t.tolist() == [150]
    assert imu.acceleration[0] == pytest.approx([9.80665, -9.80665, 0])
    assert imu.rotation[0] == pytest.approx(np.radians([10, -10, 0]))
    assert imu.temperature[0] == pytest.approx(36)
    assert trigger.t.tolist() == [170]


@pytest.mark.parametrize("block", [1 << 17, 2, 3])
def test_time_that_wraps_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(aedat2, "BLOCK", block)
    path = tmp_path / "a.aedat"
    times = [0x7FFFFFFE, 0x80000001, 0xFFFFFFFF, 0, 5, 0xFFFFFFF0, 3]
    path.write_bytes(HEADER % b"DAVIS240C" + b"".join(record(0, t) for t in times))
    wanted = [t + (lap << 32) for t, lap in zip(times, (0, 0, 0, 1, 1, 1, 2), strict=True)]
    with open_recording(path) as reader:
        assert reader.events().t.tolist() == wanted
        assert (reader.t_start, reader.t_end) == (wanted[0], wanted[-1])
        assert reader.events(wanted[3], wanted[5]).t.tolist() == wanted[3:5]


def test_a_dvs128_has_bits_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a.aedat"
    header = b"#!AER-DAT2.0\r\n# AEChip: ch.unizh.ini.jaer.chip.retina.DVS128\r\n"
    path.write_bytes(header + record(3 << 8 | 9 << 1, 10) + record(1, 20) + record(0x8000, 30))
    with open_recording(path) as reader:
        events = reader.events()
        assert reader.counts() == {"camera/events": 2, "camera/triggers": 1}
    assert (events.x.tolist(), events.y.tolist(), events.p.tolist()) == ([118, 127], [124, 127], [1, 0])


def test_what_is_unsound_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.aedat"
    good = HEADER % b"DAVIS240C" + record(0, 10) + record(0, 20)
    for data, said in (
        (good[:-3], "cut off within the record"),
        (good + record(0, 5), "record 2: time falls back by 15"),
        (good + record(240 << 12, 30), "off the 240x180 sensor"),
        (HEADER % b"DAVIS240C", "nothing but a header"),
        (HEADER % b"Cochlea" + record(0, 1), "'Cochlea' is not known; the option chip"),
        (b"#!AER-DAT2.0\r\n" + record(0, 1), "does not name the camera; the option chip"),
    ):
        path.write_bytes(data)
        with pytest.raises(FormatError, match=said):
            open_recording(path)
    with open_recording(path, chip="davis346") as reader:
        assert reader.resolution == (346, 260)
    with pytest.raises(InputError, match="option chip is one of"):
        open_recording(path, chip="other")
