"""The display where there is a history: its keys, and the mark that what is seen is not now."""

import json

import numpy as np
import pytest

from rtpipe.pipeline.messages import check_command
from rtpipe.sinks import overlay
from rtpipe.sinks.display import Settings, Sink

MADE = {"sources": {"camera": {"kind": "synthetic"}}, "sinks": {}, "history": {"of": "camera", "seconds": 12.5}}


@pytest.fixture
def sink():
    sink = Sink(Settings())
    sink.note("pipeline", json.dumps(MADE))
    return sink


def test_left_rewinds_and_right_goes_on_and_k_keeps_what_just_happened(sink):
    pressed = {action: sink._press(action, 0) for action in ("back", "forward", "live", "keep")}
    assert pressed == {"back": ("rewind 1",), "forward": ("seek +1",), "live": ("live",), "keep": ("save 12.5",)}
    for commands in pressed.values():
        assert all(check_command(command) == command for command in commands)


def test_without_a_history_left_seeks_and_nothing_can_be_kept():
    sink = Sink(Settings())
    assert sink._press("back", 0) == ("seek -1",)
    assert sink._press("keep", 0) == ()
    assert "no history" in sink._message


def test_live_and_rewound_each_have_their_own_pause(sink):
    assert sink._press("pause", 0) == ("pause",)  # the camera stands still
    sink.rewound(2.0)
    assert sink._press("pause", 0) == ("pause",)  # a rewind begins playing, so this stops it
    sink.rewound(2.5)
    assert sink._press("pause", 0) == ("resume",)
    sink.rewound(None)
    assert sink._press("pause", 0) == ("resume",)  # the camera stood still all the while


def test_the_mark_is_drawn_while_rewound_and_beside_the_others():
    def drawn(*state):
        image = np.zeros((120, 640, 3), np.uint8)
        overlay.draw_state(image, *state)
        return image

    assert not drawn(False, False, None).any()
    rewound = drawn(False, False, 3.2)
    assert (rewound == overlay.AMBER).all(axis=2).any()
    assert not (rewound == drawn(False, False, 4.7)).all()
    every = drawn(True, True, 3.2)
    columns = [np.flatnonzero(image.any(axis=(0, 2))) for image in (rewound, drawn(True, True, None), every)]
    assert columns[2].min() < columns[1].min() < columns[0].max()
