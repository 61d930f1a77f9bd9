"""The benchmark of raw packets measures what it says: both ways bring the same events."""

from rtpipe.bench import raw
from rtpipe.types import RawEvents
from tests.raw_runs import DRIVING, HASH, SIZE, digest


def test_both_ways_are_measured(shared, monkeypatch):
    monkeypatch.setattr(raw, "ROUNDS", 2)
    rows = raw.measure(shared(DRIVING), seconds=0.01)
    assert [row.contender for row in rows] == [raw.RAW, raw.COLUMNS]
    assert all(row.rate > 0 and row.unit == "Mev/s" for row in rows)
    assert "2.81 B/event" in rows[0].note


def test_the_pool_is_the_whole_file(shared):
    from rtpipe.packing import unpack
    from rtpipe.types import Events

    resolution, pool = raw.packets(shared(DRIVING))
    assert resolution == SIZE
    assert all(isinstance(packet.body, RawEvents) for packet in pool)
    columns = [raw._columns(packet, resolution).body for packet in pool]
    assert digest(Events.concatenate([unpack(body) for body in columns])) == HASH
