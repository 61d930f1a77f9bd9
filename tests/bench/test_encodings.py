"""The decoding benchmark measures what it says: all of a file's events, ours and the peers' compared."""

import numpy as np
import pytest

from rtpipe.bench import encodings, window
from rtpipe.errors import InputError
from rtpipe.formats.ecm_h5 import Writer
from tests.formats.prophesee_files import evt2_words, raw_file, recording


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(window, "ROUNDS", 2)
    monkeypatch.setattr(encodings, "PIECE", 1 << 12)


def test_a_row_for_every_contender_of_a_file(tmp_path):
    events, _ = recording(6000)
    rows = encodings.measure([raw_file(tmp_path / "a.raw", evt2_words(events), "evt 2.0", "geometry 640x480")], 0.01)
    assert [row.contender for row in rows][:3] == ["rtpipe", "rtpipe, scan", "rtpipe, file"]
    assert {row.what for row in rows} == {"EVT2 decoding"}
    assert all(row.rate > 0 and "6k events" in row.input for row in rows)


def test_without_a_file_one_is_made_and_peers_agree_with_it(monkeypatch):
    monkeypatch.setattr(encodings, "SIZES", [None, (64, 48)])
    rows = encodings.measure(seconds=0.01)
    assert {row.what for row in rows} == {"EVT3 decoding"}
    said = {row.contender: row.note for row in rows}
    if "eventcv" in said:
        assert "same events" in said["eventcv"]


def test_all_events_are_decoded_in_each_turn():
    events, _ = recording(6000)
    words, module = evt2_words(events).view(np.uint8), encodings.encodings.load("evt2")
    assert encodings._decode(module, words, module.INITIAL, (640, 480)) == 6000
    assert encodings._scan(module, words, module.INITIAL) == 6000


def test_other_recordings_are_refused(tmp_path):
    events, _ = recording(100)
    with Writer(tmp_path / "a.h5", (640, 480)) as writer:
        writer.add_events(events)
    with pytest.raises(InputError, match="Prophesee RAW wanted"):
        encodings.measure([tmp_path / "a.h5"])
