"""Panels: pictures of one instant are put together whatever the order of their arrival; nothing is mixed in silence."""

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtpipe.errors import ConfigError
from rtpipe.sinks.layout import GAP, STRIP, Layout
from rtpipe.sinks.panels import PATIENCE_NS, SILENCE_NS, PanelComposer
from rtpipe.types import Frame, FrameFlag, Packet, StreamInfo

STREAM = {"frame": "camera/frames", "output": "engine/output", "events": "engine/picture"}
INFOS = [StreamInfo(name, (8, 6)) for name in STREAM.values()]
MS = 1_000_000


def picture(value, shape=(6, 8), dtype=np.uint8):
    return np.full(shape, value, dtype)


def packet(panel, t, value=0, epoch=0, image=None, exposure=(None, None), end=False, **of_frame):
    frame = Frame(picture(value) if image is None else image, t, *exposure, **of_frame)
    return Packet(STREAM[panel], 0, t, t, 0, frame, epoch=epoch, end=end)


def watermark(panel, t, epoch=0, end=False):
    return Packet(STREAM[panel], 0, t, t, 0, None, epoch=epoch, end=end)


class Seen(Layout):
    """A layout that remembers what it was asked to draw: per composite, for each panel its first pixel and marks."""

    def __init__(self):
        super().__init__(min_height=1)
        self.drawn = []

    def draw(self, cells):
        self.drawn.append([(None if c.image is None else int(c.image.flat[0]), c.marks) for c in cells])
        return super().draw(cells)


def composer(panels=("frame", "output", "events"), **options):
    made = PanelComposer(panels, Seen(), **options)
    made.open(INFOS)
    return made


def run(made: PanelComposer, packets: Iterable[Packet]):
    """Times of the composites as they come, the end included; fresh ones counted as passed, as a sink does."""
    times = []

    def count(composites):
        for composite in composites:
            made.flow.passed += composite.fresh
            times.append(composite.t)

    for each in packets:
        made.take(each)
        count(made.ready())
    count(made.end())
    return times


def test_three_panels_stand_side_by_side_in_their_own_pixels():
    made = PanelComposer(layout=Layout(min_height=1))
    made.open(INFOS)
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (6, 8), np.uint8)
    colour = rng.integers(0, 256, (6, 8, 3), np.uint8)
    for each in (packet("frame", 5, image=grey), packet("output", 5, image=colour), packet("events", 5, 77)):
        made.take(each)
    (composite,) = made.ready()
    height, width = composite.image.shape[:2]
    assert (width % 2, height % 2) == (0, 0)
    assert height >= STRIP + 6
    assert width >= 3 * 8 + 2 * GAP
    row = composite.image[STRIP : STRIP + 6]
    np.testing.assert_array_equal(row[:, :8], np.repeat(grey[..., None], 3, axis=2))
    np.testing.assert_array_equal(row[:, 8 + GAP : 16 + GAP], colour)
    np.testing.assert_array_equal(row[:, 16 + 2 * GAP : 24 + 2 * GAP], picture(77, (6, 8, 3)))
    assert composite.whole
    assert (composite.t, composite.fresh) == (5, 3)


def test_small_pictures_are_enlarged_by_a_whole_factor_and_others_fitted_into_their_box():
    small = np.arange(48, dtype=np.uint8).reshape(6, 8)
    made = PanelComposer(("frame", "output"), Layout(min_height=20))
    made.open([StreamInfo("camera/frames", (8, 6)), StreamInfo("engine/output", (4, 3))])
    made.take(packet("frame", 1, image=small))
    made.take(packet("output", 1, image=small[:3, :4]))
    (composite,) = made.ready()
    frame, output = made.layout.boxes
    assert (frame.width, frame.height) == (32, 24)  # 20 / 6 rounded up: 4 times
    assert (output.width, output.height) == (32, 24)  # half the size: 8 times

    def inside(box, image):
        return image[box.y : box.y + box.height, box.x : box.x + box.width, 0]

    np.testing.assert_array_equal(inside(frame, composite.image), np.kron(small, np.ones((4, 4), np.uint8)))
    np.testing.assert_array_equal(inside(output, composite.image), np.kron(small[:3, :4], np.ones((8, 8), np.uint8)))
    size = composite.image.shape
    made.take(packet("frame", 2, image=picture(200, (5, 24))))  # another size later: proportions kept, on black
    made.take(packet("output", 2))
    (composite,) = made.ready()
    assert composite.image.shape == size
    later = inside(frame, composite.image)
    assert later[0, 0] == later[-1, 0] == 0
    assert later[12].min() == 200


def test_sixteen_bits_are_shown_by_the_depth_that_holds_them():
    layout = Layout(min_height=1)
    made = PanelComposer(("frame",), layout)
    made.open(INFOS)

    def shown(value):
        made.take(packet("frame", value, image=picture(value, dtype=np.uint16)))
        (composite,) = made.ready()
        return composite.image[STRIP, 0, 0]

    assert shown(1000) == 1000 >> 2  # 10 bits so far
    assert shown(4000) == 4000 >> 4  # 12
    assert shown(65535) == 255  # 16
    assert shown(1000 << 6) == (1000 << 6) >> 8


def test_title_strip_says_source_and_flags():
    made = PanelComposer(("output",), Layout(min_height=100))
    made.open([StreamInfo("engine/output", (300, 100))])
    strips = []
    for t, flags in ((1, FrameFlag.NONE), (2, FrameFlag.STATE_RESET), (3, FrameFlag.NONE)):
        made.take(packet("output", t, image=picture(0, (100, 300)), flags=flags, source="edi"))
        strips += [composite.image[:STRIP].copy() for composite in made.ready()]
    np.testing.assert_array_equal(strips[0], strips[2])
    assert (strips[0] != strips[1]).any()
    grey = (strips[1].max(axis=2) - strips[1].min(axis=2)) < 10
    assert not grey.all()  # the mark is in colour


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_order_of_arrival_between_streams_changes_nothing(data):
    """Against the obvious: with all pictures at hand, each output takes the exact one, else the last before it."""
    some = st.sets(st.integers(0, 30), min_size=1, max_size=10)
    times = {panel: [1000 * ms for ms in sorted(data.draw(some))] for panel in STREAM}
    queues = {panel: [packet(panel, t, value=t // 1000) for t in times[panel]] for panel in STREAM}
    for panel, queue in queues.items():
        queue.append(watermark(panel, times[panel][-1], end=True))
    arrival = []
    while any(queues.values()):
        arrival.append(queues[data.draw(st.sampled_from([panel for panel in queues if queues[panel]]))].pop(0))
    made = composer()
    assert run(made, arrival) == times["output"]
    for t, cells in zip(times["output"], made.layout.drawn, strict=True):
        for panel, (value, marks) in zip(STREAM, cells, strict=True):
            before = [other for other in times[panel] if other <= t]
            assert value == (before[-1] // 1000 if before else None)
            apart = "no frame" if not before else "" if before[-1] == t else f"{(before[-1] - t) / 1000:+.1f} ms"
            assert marks == apart
    assert made.flow.balanced
    assert made.flow.taken == sum(map(len, times.values()))


def test_each_picture_is_given_out_as_soon_as_it_is_certain():
    made = composer()
    made.take(packet("output", 10, 1))
    made.take(packet("events", 10, 2))
    assert not list(made.ready())
    made.take(watermark("frame", 10))  # nothing before 10 is missing, but one at 10 may still come
    assert not list(made.ready())
    made.take(packet("frame", 10, 3))
    assert [composite.whole for composite in made.ready()] == [True]
    made.take(packet("output", 510, 1))
    made.take(packet("events", 510, 1))
    made.take(watermark("frame", 511))
    (composite,) = made.ready()
    assert not composite.whole
    assert made.layout.drawn[-1][0] == (3, "-0.5 ms")


def test_middles_of_an_exposure_that_were_rounded_differently_are_one_instant():
    made = composer(("frame", "output"))
    made.take(packet("frame", 10_001))
    made.take(packet("output", 10_000))
    assert [composite.whole for composite in made.ready()] == [True]
    assert made.layout.drawn[-1] == [(0, ""), (0, "")]
    made.take(packet("frame", 20_000))
    made.take(packet("output", 20_001))
    made.take(packet("output", 20_003))
    assert newest(made, 0) == 20_001


def test_sharp_pictures_within_one_exposure_stand_beside_its_blurred_frame():
    made = composer(("frame", "output"))
    blurred = [packet("frame", mid, mid // 1000, exposure=(mid - 5000, mid + 5000)) for mid in (10_000, 30_000)]
    outputs = [packet("output", t) for t in (5_000, 10_000, 15_000, 25_000)]
    run(made, [*blurred, *outputs])
    assert [cells[0] for cells in made.layout.drawn] == [(10, "+5.0 ms"), (10, ""), (10, "-5.0 ms"), (30, "+5.0 ms")]


def test_time_that_jumps_back_starts_a_new_epoch_and_mixes_nothing():
    made = composer(("frame", "output"))
    first = [packet(panel, t, t) for t in (100, 200) for panel in ("frame", "output")]
    again = [packet("output", t, epoch=1) for t in (100, 250, 300)] + [packet("frame", 300, 22, epoch=1)]
    assert run(made, first + again) == [100, 200, 100, 250, 300]
    nothing = (None, "no frame")
    assert [cells[0] for cells in made.layout.drawn] == [(100, ""), (200, ""), nothing, nothing, (22, "")]
    assert made.flow.balanced


def test_a_kind_of_stream_that_does_not_exist_takes_no_room():
    made = PanelComposer(layout=Seen())
    made.open([StreamInfo("engine/output", (8, 6)), StreamInfo("engine/picture", (8, 6))])
    assert made.panels == ("output", "events")
    assert run(made, [packet("events", 1), packet("frame", 1), packet("output", 1)]) == [1]
    assert made.flow.dropped == {"no panel": 1}
    assert made.flow.passed == 2


def test_memory_is_bounded_and_what_does_not_fit_is_counted():
    made = composer(limit_bytes=10 * 48)
    packets = [packet("frame", t * 10) for t in range(100)]
    for each in packets:
        made.take(each)
        assert not list(made.ready())
        assert len(made._tracks["frame"].held) <= 10
    assert made.flow.dropped == {"overflow": 90}
    made.take(packet("output", 95 * 10))  # events never come: given out when the end is certain, the frame at hand
    assert run(made, []) == [950]
    assert made.layout.drawn[-1] == [(0, ""), (0, ""), (None, "no frame")]
    assert made.flow.dropped == {"overflow": 90, "unmatched": 9}
    assert made.flow.balanced


def test_a_silent_panel_holds_nothing_up_for_ever():
    made = composer(limit_bytes=10 * 48)
    times = []
    for t in range(50):
        made.take(packet("output", t))
        times += [composite.t for composite in made.ready()]
    assert times == list(range(40))


def test_what_cannot_be_drawn_is_refused():
    made = composer(("frame",))
    for bad in (np.zeros((6, 8), np.float32), np.zeros((6, 8, 4), np.uint8), np.zeros((0, 8), np.uint8)):
        made.take(packet("frame", 1, image=bad))
    made.take(packet("frame", 3))
    made.take(packet("frame", 2))
    assert run(made, []) == [3]
    assert made.flow.dropped == {"bad picture": 3, "out of order": 1}
    for panels in ((), ("frame", "frame"), ("nonsense",)):
        with pytest.raises(ConfigError, match="panels"):
            PanelComposer(panels)


def newest(made, now):
    composite = made.newest(now)
    if composite is not None:
        made.flow.passed += composite.fresh
    return composite and composite.t


def test_display_prefers_the_newest_instant_that_is_whole():
    made = composer()
    for t in (1, 2):
        for panel in STREAM:
            made.take(packet(panel, t * 1000, t), now_ns=t * MS)
    made.take(packet("output", 3000), now_ns=3 * MS)
    assert newest(made, 3 * MS) == 2000
    assert made.layout.drawn[-1] == [(2, ""), (2, ""), (2, "")]
    assert newest(made, 4 * MS) is None  # 3 may still become whole
    assert newest(made, 3 * MS + PATIENCE_NS) == 3000
    assert made.layout.drawn[-1] == [(2, "-1.0 ms"), (0, ""), (2, "-1.0 ms")]
    assert newest(made, 4 * MS + PATIENCE_NS) is None
    made.discard("superseded")
    assert made.flow.dropped == {"superseded": 3}
    assert made.flow.balanced


def test_display_does_not_wait_for_what_never_matches():
    made = composer(("frame", "output"))
    now = 0
    for t in range(0, 3000, 20):  # outputs of a fixed cadence beside frames of another
        now = t * MS
        if t % 60 == 0:
            made.take(packet("frame", t * 1000 + 500, 1), now)
        made.take(packet("output", t * 1000), now)
        shown = newest(made, now)
    assert shown == 2980 * 1000  # at once, marked
    assert made.layout.drawn[-1][0] == (1, "-39.5 ms")


def test_display_shows_the_camera_when_the_engine_is_silent():
    made = composer(("frame", "output"))
    made.take(packet("frame", 1, 9), 0)
    assert newest(made, SILENCE_NS - 1) is None
    assert newest(made, SILENCE_NS) == 1
    assert made.layout.drawn[-1] == [(9, ""), (None, "no frame")]


def test_display_keeps_little():
    made = composer()
    for t in range(1000):
        made.take(packet("frame", t), t)
        newest(made, t)
    assert len(made._tracks["frame"].held) < 20
    made.discard("superseded")
    assert made.flow.balanced


def test_other_layouts_show_the_same_pictures():
    made = PanelComposer(layout=Layout(min_height=1))
    made.open(INFOS)
    assert made.again() is None
    for value, panel in enumerate(STREAM, 1):
        made.take(packet(panel, 1, value * 50))
    assert newest(made, 0) == 1
    made.layout = Layout(min_height=1, vertical=True)
    column = made.again()
    assert column is not None
    assert [int(column[box.y, box.x, 0]) for box in made.layout.boxes] == [50, 100, 150]
    assert len({box.x for box in made.layout.boxes}) == 1
    made.layout, made.visible = Layout(min_height=1), ("output",)
    alone = made.again()
    assert alone is not None
    assert alone.shape[:2] == (STRIP + 6, 8)
    assert (alone[STRIP:] == 100).all()
