"""The transport benchmark measures what it says: every contender delivers the same events to the same far side."""

import numpy as np
import pytest

from rtpipe.bench import transport
from rtpipe.types import Events, PackedEvents
from rtpipe.window.voxel import voxel_grid


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(transport, "POOL_EVENTS", 40_000)
    monkeypatch.setattr(transport, "ROUNDS", 2)


def test_a_row_for_every_contender_and_question(small):
    rows = transport.measure(seconds=0.01, sizes=[10_000])
    assert [(row.what, row.contender) for row in rows] == [
        (what, name)
        for what in (transport.RECEIVED, transport.GRIDS)
        for name in (transport.OURS, transport.COLUMNS, transport.FLOATS)
    ]
    assert all(row.rate > 0 and row.unit == "Mev/s" for row in rows)
    assert [row.ratio_to_best_peer is not None for row in rows] == [True, False, False] * 2


def test_every_contender_delivers_the_events_that_were_sent(small, tmp_path):
    sent = transport.packets(10_000)[:3]
    for name in (transport.OURS, transport.COLUMNS, transport.FLOATS):
        got = {}

        def far(events, k, got=got):
            packed = isinstance(events, PackedEvents)
            t = events.t0 + events.dt.astype(np.int64) if packed else events.t.copy()
            y = events.yp & 0x7FFF if packed else events.y.copy()
            p = events.yp >> 15 if packed else events.p.copy()
            got[k] = Events(t, events.x.copy(), y, p)

        contender = transport._Contender(name, 10_000, str(tmp_path))
        contender.wait()
        contender.seconds(len(sent), far)
        contender.close()
        for k, events in enumerate(sent):
            for column in ("t", "x", "y", "p"):
                np.testing.assert_array_equal(getattr(got[k], column), getattr(events, column))


def test_the_far_side_makes_the_grids_of_whole_windows(monkeypatch):
    pool = transport.packets(100_000)
    grids = []
    filler = transport.Filler

    class Watched(filler):
        def close(self):
            super().close()
            grids.append(self._planes.reshape(self.shape).copy())

    monkeypatch.setattr(transport, "Filler", Watched)
    far = transport._filling(100_000)
    for k, events in enumerate(pool[:4]):
        far(events, k)
    assert len(grids) == 2
    start = 1 << 40
    window = Events.concatenate(pool[2:4])
    wanted = voxel_grid(window, resolution=transport.RESOLUTION, t0=start + 20_000, t1=start + 40_000)
    np.testing.assert_array_equal(grids[1], wanted)
