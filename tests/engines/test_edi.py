"""Event double integral: what comes out for which window."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from engines.edi import Engine, Settings
from rtpipe.errors import InputError
from rtpipe.packing import pack, unpack
from rtpipe.types import Array, Events, Frame, FrameFlag, PackedEvents, Window
from tests.engines.scene import OFFSET, film, psnr


@pytest.fixture(scope="module")
def exposures():
    return film(frames=6, on=0.22, off=0.27, noise_hz=2)


def swap(window: Window, **changed: object) -> Window:
    assert window.frame is not None
    return replace(window, frame=replace(window.frame, **changed))


def test_the_output_beats_the_input_by_three_decibels(exposures) -> None:
    engine = Engine()
    before, after = [], []
    for exposure in exposures:
        (frame,) = engine.infer(exposure.window)
        before.append(psnr(exposure.blurred, exposure.truth))
        after.append(psnr(frame.image, exposure.truth))
    assert np.mean(after) > np.mean(before) + 4
    assert min(np.subtract(after, before)) > 2


def test_a_sharp_picture_is_the_blurred_one_over_the_mean_of_exp(exposures) -> None:
    """The formula, with NumPy and the paper's steps, where filters are off and events are many."""
    window = exposures[2].window
    (frame,) = Engine(Settings(contrast=0.25, between="hold", clean=0)).infer(window)
    events = unpack(window.events)
    blurred = window.frame.image
    start, end = window.frame.exposure_start, window.frame.exposure_end
    level = np.zeros(blurred.shape)
    total = np.zeros(blurred.shape)
    middle = np.zeros(blurred.shape)
    for t in range(start, end):  # µs by µs
        if t == (start + end) // 2 + 1:
            middle = level.copy()
        i, j = np.searchsorted(events.t, [t, t + 1])
        np.add.at(level, (events.y[i:j], events.x[i:j]), np.where(events.p[i:j] == 1, 0.25, -0.25))
        total += np.exp(level)
    wanted = (blurred + OFFSET) / (total / (end - start) / np.exp(middle)) - OFFSET
    counts = np.zeros(blurred.shape, np.float32)
    np.add.at(counts, (events.y, events.x), 1)
    trusted = (cv2.blur(counts, (3, 3)) > 1) & (counts < 8)
    off = np.abs(np.clip(wanted, 0, 255) - frame.image)[trusted]
    assert trusted.mean() > 0.2
    # the outermost pixel of nine is drawn in by the speck rule; all others are the formula, rounded
    assert np.mean(off < 1.01) > 0.85


def test_a_pixel_without_events_around_keeps_its_value(exposures) -> None:
    window = exposures[0].window
    (frame,) = Engine().infer(window)
    events = unpack(window.events)
    touched = np.zeros(window.frame.image.shape, np.uint8)
    touched[events.y, events.x] = 1
    still = cv2.dilate(touched, np.ones((3, 3), np.uint8)) == 0
    assert still.any()
    assert np.array_equal(frame.image[still], window.frame.image[still])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda w: replace(w, events=None),
        lambda w: replace(w, events=pack(Events.empty())),
        lambda w: replace(w, events=replace(w.events, t0=w.events.t0 + 10_000_000)),
        lambda w: swap(w, exposure_start=None),
        lambda w: swap(w, exposure_end=None),
        lambda w: swap(w, exposure_end=w.frame.exposure_start),
    ],
    ids=["no events", "none at all", "events of another time", "no start", "no end", "no length"],
)
def test_what_cannot_be_deblurred_passes_through_flagged(exposures, spoil) -> None:
    window = spoil(exposures[0].window)
    (frame,) = Engine().infer(window)
    assert frame.flags & FrameFlag.PASSED_THROUGH
    assert np.array_equal(frame.image, window.frame.image)
    assert not np.shares_memory(frame.image, window.frame.image)


def test_a_window_without_a_frame_gives_nothing(exposures) -> None:
    assert Engine().infer(replace(exposures[0].window, frame=None)) == ()


def test_frames_say_what_they_show(exposures) -> None:
    window = replace(exposures[1].window, flags=FrameFlag.INCOMPLETE)
    start, end = window.frame.exposure_start, window.frame.exposure_end
    (frame,) = Engine(Settings(at=0.25)).infer(window)
    assert (frame.t, frame.exposure_start, frame.exposure_end) == (start + (end - start) // 4, start, end)
    assert (frame.source, frame.flags) == ("edi", FrameFlag.INCOMPLETE)


def test_several_instants_are_those_asked_for_one_by_one(exposures) -> None:
    window = exposures[1].window
    many = Engine(Settings(frames=4, contrast=0.2)).infer(window)
    assert [frame.t for frame in many] == sorted(frame.t for frame in many)
    for k, frame in enumerate(many):
        (alone,) = Engine(Settings(at=(k + 0.5) / 4, contrast=0.2)).infer(window)
        assert alone.t == frame.t
        assert np.array_equal(alone.image, frame.image)
    assert not np.array_equal(many[0].image, many[-1].image)


def test_only_the_sequence_of_windows_decides(exposures) -> None:
    """Again after another size and a reset, and at another time of day from read-only buffers."""

    def moved(window: Window, by: int) -> Window:
        events = window.events
        columns = [np.frombuffer(column.tobytes(), column.dtype) for column in (events.dt, events.x, events.yp)]
        frame = window.frame
        frame = replace(frame, exposure_start=frame.exposure_start + by, exposure_end=frame.exposure_end + by)
        return replace(window, events=PackedEvents(events.t0 + by, *columns), frame=frame)

    engine = Engine()
    first = [engine.infer(exposure.window)[0].image for exposure in exposures]
    known = engine.contrast
    engine.warm((50, 31))
    again = [engine.infer(exposure.window)[0].image for exposure in exposures]
    assert engine.contrast == known
    other = Engine()
    later = [other.infer(moved(exposure.window, 1_763_700_000_000_000))[0].image for exposure in exposures]
    for a, b, c in zip(first, again, later, strict=True):
        assert np.array_equal(a, b)
        assert np.array_equal(a, c)


def test_colour_is_deblurred_as_grey_is(exposures) -> None:
    window = exposures[2].window
    grey = window.frame.image
    (alone,) = Engine().infer(window)
    (colour,) = Engine().infer(swap(window, image=np.repeat(grey[:, :, None], 3, axis=2)))
    assert colour.image.shape == (*grey.shape, 3)
    assert np.array_equal(colour.image, np.repeat(alone.image[:, :, None], 3, axis=2))


def test_sixteen_bits_give_what_eight_give_only_finer(exposures) -> None:
    window = exposures[2].window
    (eight,) = Engine().infer(window)
    (sixteen,) = Engine().infer(swap(window, image=window.frame.image.astype(np.uint16) * 257))
    assert sixteen.image.dtype == np.uint16
    assert np.abs(sixteen.image / 257 - eight.image.astype(float)).max() < 0.51


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 3), (17, 5), (49, 101)])
@pytest.mark.parametrize("grey", [0, 255])
def test_any_size_and_the_ends_of_the_scale(width: int, height: int, grey: int) -> None:
    random = np.random.default_rng(width)
    n = 400
    events = Events(
        np.sort(random.integers(0, 1000, n)), random.integers(0, width, n), random.integers(0, height, n),
        random.integers(0, 2, n),
    )  # fmt: skip
    blurred = np.full((height, width), grey, np.uint8)
    (frame,) = Engine().infer(Window(0, 1000, n, events=pack(events), frame=Frame(blurred, 500, 0, 1000)))
    assert frame.image.shape == blurred.shape
    assert frame.image.dtype == np.uint8


def test_a_pixel_that_only_brightens_was_darker_before() -> None:
    blurred = np.full((9, 9), 100, np.uint8)
    y, x = np.mgrid[0:9, 0:9].reshape(2, -1)
    for polarity, darker_first in ((1, True), (0, False)):
        events = Events(np.full(81, 500), x, y, np.full(81, polarity))
        window = Window(0, 1000, 81, events=pack(events), frame=Frame(blurred, 500, 0, 1000))
        first, last = Engine(Settings(frames=2, contrast=0.3)).infer(window)
        assert (int(first.image[4, 4]) < 100 < int(last.image[4, 4])) is darker_first


@pytest.mark.parametrize("n", [1, 7, 300])
def test_a_pixel_that_fires_alone_leaves_no_mark(n: int) -> None:
    blurred = np.full((21, 21), 90, np.uint8)
    events = Events(np.arange(n) * 3, np.full(n, 10), np.full(n, 10), np.ones(n))
    window = Window(0, 1000, n, events=pack(events), frame=Frame(blurred, 500, 0, 1000))
    (frame,) = Engine(Settings(contrast=0.25)).infer(window)
    assert np.array_equal(frame.image, blurred)


@pytest.mark.parametrize(
    ("image", "x"),
    [
        (np.zeros((8, 8), np.float32), 1),
        (np.zeros((8, 8, 4), np.uint8), 1),
        (np.zeros((8, 8), np.uint8), 8),
    ],
    ids=["float", "four channels", "event outside"],
)
def test_what_does_not_fit_is_refused_in_words(image: Array, x: int) -> None:
    events = pack(Events([10], [x], [1], [1]))
    with pytest.raises(InputError, match="edi"):
        Engine().infer(Window(0, 1000, 1, events=events, frame=Frame(image, 500, 0, 1000)))
