"""The load of a live camera: the account balances and memory is bounded, however far the rate is above the machine."""

import pytest

from rtpipe.bench import camera

pytest.importorskip("neuromorphic_drivers")


@pytest.mark.parametrize("most", [3.0, 40.0, 123.0, 399.0])
def test_the_highest_rate_is_found_by_halving(most):
    asked = []

    def keeps_up(rate):
        asked.append(rate)
        return rate <= most

    found, step = camera.highest(keeps_up)
    assert found <= most < found + step + 1e-9
    assert len(asked) == 1 + camera.SEARCH_STEPS


def test_a_machine_that_keeps_up_with_everything_is_asked_once():
    assert camera.highest(lambda _: True) == (camera.HIGHEST_MEV_S, 0.0)


def test_events_are_accounted_for_by_place_and_reason():
    result = {
        "stages": {
            "camera": {
                "events": {"taken": 1000, "passed": 900, "dropped": {"after a gap": 60, "host queue": 40}},
                "transfers": {"taken": 12, "passed": 10, "dropped": {"ring overflow": 2}},
            }
        },
        "edges": {
            "camera->engine": {"delivered": {"events": 850}, "dropped": {"queue_full": {"packets": 1, "events": 50}}}
        },
    }
    found = camera._account(50.0, result, {"transfers": 10, "events": 1000}, {"camera": 100.0})
    assert found.dropped == {"camera: after a gap": 60, "camera: host queue": 40, "on the way: queue_full": 50}
    assert found.ring == {"ring overflow": 200}
    assert (found.taken, found.kept, found.unnamed) == (1000, 850, 0)
    row = camera._row(camera.RECORD, found, 5)
    assert row.rate == pytest.approx(50 * 850 / 1200)
    assert "without a name 0" in row.note


@pytest.mark.slow
@pytest.mark.parametrize("what", [camera.RECORD, camera.WINDOW, camera.BURSTS])
def test_far_above_what_the_machine_can_do_every_event_has_a_name_and_memory_a_bound(what):
    load = camera.run(what, 400.0, 3.0)
    assert load.unnamed == 0
    assert load.kept > 0
    assert load.dropped or load.ring
    assert load.memory_mb["camera"] < 600  # what was made in advance, the inbox, the sockets' queues
    assert load.memory_mb.get("record", 0) < 400
    assert load.memory_mb.get("engine", 0) < 2000  # all windows of one late packet, 18 MB each, are made at once
