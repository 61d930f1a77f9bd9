"""The filter benchmark measures what it says: both sides keep the same events."""

import numpy as np
import pytest

from rtpipe.bench import filters, window
from rtpipe.packing import pack
from tests.window import slow

RESOLUTION = (40, 30)


def events(n=3000):
    rng = np.random.default_rng(4)
    t = np.sort(rng.integers(0, 200_000, n)) + 10_000_000
    return slow.make(t, rng.integers(0, 40, n), rng.integers(0, 30, n), rng.integers(0, 2, n))


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(window, "ROUNDS", 2)
    monkeypatch.setattr(filters, "PACKET_EVENTS", 700)


def test_a_row_for_every_filter_and_a_ratio_where_there_is_a_peer(quick):
    pytest.importorskip("dv_processing")
    rows = filters.on("synthetic", RESOLUTION, events(), seconds=0.01)
    assert {row.what for row in rows} == set(filters.questions(RESOLUTION))
    assert all(row.rate > 0 for row in rows)
    compared = {row.what for row in rows if row.ratio_to_best_peer is not None}
    assert compared == {row.what for row in rows if row.contender == filters.PEER}
    assert "background activity" in compared


def test_both_sides_keep_the_same(quick):
    pytest.importorskip("dv_processing")
    packets = [events()[first : first + 700] for first in range(0, 3000, 700)]
    peers = filters.dv_passes(packets, RESOLUTION)
    for what in ("background activity", "region of interest", "downsampling by 2"):
        choice = filters.questions(RESOLUTION)[what]
        ours = filters.our_pass(choice, [pack(packet) for packet in packets], RESOLUTION)
        for _ in range(2):  # every pass begins with a filter that has seen nothing
            assert [len(part) for part in ours()] == [store.size() for store in peers[what]()]
