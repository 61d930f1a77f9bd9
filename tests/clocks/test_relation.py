"""Two cameras' clocks by way of this computer's."""

import json

import pytest

from rtpipe.clocks.host import CameraClock
from rtpipe.clocks.relation import Clock, as_json, reading, relations

LEFT = Clock(1_000_000, 50_000_000_000, 10e-6, 20.0)


def test_offset_and_drift_say_what_one_clock_shows_when_the_other_shows_its_own():
    right = Clock(400_000, 50_000_000_000 - 2_000_000_000, -5e-6, 30.0)  # two seconds earlier it was 0.4 s there
    (relation,) = relations({"left": LEFT, "right": right})
    now_right = 400_000 + 2_000_000 / (1 - 5e-6)
    assert relation.offset_us == pytest.approx(1_000_000 - now_right, abs=2)
    assert relation.drift_ppm == pytest.approx(-15.0)
    assert (relation.by, relation.uncertainty_us) == ("host", 50.0)
    assert "left = right" in relation.words


def test_sources_on_one_cable_are_called_so():
    found = relations({"left": LEFT, "right": LEFT, "third": LEFT}, frozenset({"left", "right"}))
    assert [each.by for each in found] == ["hardware", "host"]
    assert json.loads(as_json({"left": LEFT, "right": LEFT}))["relations"][0]["offset_us"] == 0


def test_a_reading_is_there_once_the_clock_is_steady_and_places_instants_as_the_clock_does():
    clock = CameraClock()
    assert reading(clock) is None
    for t in range(0, 20_000_000, 4_000):
        clock.add(t, 9_000_000_000 + round(t * 1000 * (1 + 40e-6)) + t % 7_000)
    now = reading(clock)
    assert abs(now.at(19_000_000) - clock.host_ns(19_000_000)) < 100
