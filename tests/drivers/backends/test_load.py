"""The camera for load tests sends what it says, however often it is played again, and counts what nobody read."""

import json
import time

import numpy as np
import pytest

from drivers.backends import load, neuromorphic
from drivers.camera.settings import Camera
from rtpipe.types import Events

pytest.importorskip("neuromorphic_drivers")


@pytest.fixture
def camera(monkeypatch, tmp_path):
    def tell(model, mev_s):
        told = {"model": model, "mev_s": mev_s, "log": str(tmp_path / "made.json")}
        monkeypatch.setenv(load.VARIABLE, json.dumps(told))
        [found] = load.attached()
        return load.open(found, Camera()), lambda: json.loads((tmp_path / "made.json").read_bytes())

    return tell


def read(device, seconds):
    batches, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        batches.append(device.read(0.01))
    return batches


def events_of(batches):
    return Events.concatenate(r.body for b in batches for r in b.readings if isinstance(r.body, Events))


def test_it_is_not_there_unless_it_is_asked_for(monkeypatch):
    monkeypatch.delenv(load.VARIABLE, raising=False)
    assert list(load.attached()) == []
    assert load.why_not()


def test_an_evk4s_bytes_are_the_same_events_in_every_lap_at_later_times(camera):
    device, made = camera("EVK4", 1.0)
    batches = read(device, 0.6)
    device.close()
    got = events_of(batches)
    lap = load.synthetic(65_536, 65_536, (1280, 720))
    for i in range(len(got) // len(lap)):
        part = got[i * len(lap) : (i + 1) * len(lap)]
        assert np.array_equal(part.t, lap.t + i * 65_536)
        assert np.array_equal(part.x, lap.x)
    assert len(got) > 2 * len(lap)
    assert made()["lost_transfers"] == 0
    assert abs(made()["events"] - len(got)) < 100


def test_what_nobody_read_is_counted_in_transfers_and_its_events_are_left_out(camera, monkeypatch):
    monkeypatch.setattr(neuromorphic, "RING_LENGTH", 40)
    device, made = camera("EVK4", 100.0)
    batches = read(device, 0.1)
    time.sleep(0.5)
    batches += read(device, 0.1)
    device.close()
    lost = sum(sum(batch.lost.values()) for batch in batches)
    refused = sum(sum(batch.refused.values()) for batch in batches)
    told = made()
    assert told["lost_transfers"] > 50
    thrown = sum(batch.lost.get(neuromorphic.CLEARED, 0) for batch in batches)
    assert lost - thrown <= told["lost_transfers"]
    per_transfer = told["events"] / told["transfers"]
    assert len(events_of(batches)) + refused + thrown * per_transfer == pytest.approx(told["events"], rel=0.05)


def test_a_rate_beyond_all_reading_does_not_hold_a_read(camera, monkeypatch):
    monkeypatch.setattr(neuromorphic, "RING_LENGTH", 40)
    device, _ = camera("EVK4", 2000.0)
    monkeypatch.setattr(device._device._source, "due_us", lambda number: number * 0.01)  # 100,000 transfers in a ms
    time.sleep(0.01)
    batches = [device.read(0.01) for _ in range(5)]
    device.close()
    thrown = [batch.lost.get(neuromorphic.CLEARED, 0) for batch in batches]
    assert max(thrown) == 40
    assert sum(batch.lost.get(neuromorphic.OVERFLOW, 0) for batch in batches) > 1000


def test_a_dvxplorer_is_calm_and_bursts_at_the_end_of_each_second(camera):
    device, made = camera("DVXplorer", 20.0)
    t = events_of(read(device, 1.15)).t
    device.close()
    counts = np.bincount(t // 100_000)[:11]
    assert set(counts[:9].tolist()) | {int(counts[10])} == {500_000}
    assert counts[9] == 2_000_000
    assert made()["lost_transfers"] == 0
