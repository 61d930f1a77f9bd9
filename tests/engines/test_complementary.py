"""The complementary filter: what comes out for which window, from events alone and with frames."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from engines.complementary import Engine, Settings
from engines.leaky import Engine as Leaky
from rtpipe.engine import EngineStage
from rtpipe.errors import InputError
from rtpipe.evaluate.metrics import ssim
from rtpipe.packing import pack, unpack
from rtpipe.types import Events, Frame, FrameFlag, Packet, StreamInfo, Window
from rtpipe.window.settings import WindowSettings
from rtpipe.window.stage import WindowStage
from tests.engines.scene import film, psnr

SIZE = (160, 128)
ALONE = (Engine, Leaky)


def ready(settings=None, kind=Engine, size=SIZE):
    engine = kind(settings)
    engine.warm(size)
    return engine


@pytest.fixture(scope="module")
def exposures():
    """Half a second: a scene that moves to and fro, 25 sharp pictures of it with the events between."""
    return film(frames=25, on=0.22, off=0.27, noise_hz=2, size=SIZE)


@pytest.fixture(scope="module")
def between(exposures):
    """Windows from one sharp picture to the next, which they carry."""
    events = Events.concatenate([unpack(each.window.events) for each in exposures])
    sharp = [Frame(np.round(each.truth).astype(np.uint8), each.window.frame.t) for each in exposures]
    made = []
    for before, after in itertools.pairwise(sharp):
        inside = events.between(before.t, after.t)
        made.append(Window(before.t, after.t, len(inside), events=pack(inside), frame=after))
    return [Window(0, sharp[0].t, 0, events=pack(Events.empty()), frame=sharp[0]), *made]


def empty(t_start, t_end, frame=None):
    return Window(t_start, t_end, 0, events=pack(Events.empty()), frame=frame)


@pytest.mark.parametrize("kind", ALONE)
def test_a_picture_from_events_alone_is_like_the_scene(between, kind):
    engine = ready(kind=kind)
    likeness = []
    for window in between:
        (picture,) = engine.infer(window)
        assert picture.image.dtype == np.uint8
        assert picture.t == window.t_end
        seen, true = picture.image.astype(float), window.frame.image.astype(float)
        likeness.append(np.corrcoef(seen.ravel(), true.ravel())[0, 1] if window.n_events else 0)
    assert min(likeness[12:]) > 0.5
    assert seen.std() > 25


def test_with_frames_the_next_one_is_predicted_better_than_by_holding_the_last(between):
    engine = ready(Settings(frames=True))
    engine.infer(between[0])
    gains, likeness = [], []
    for before, window in itertools.pairwise(between):
        (picture,) = engine.infer(window)
        assert picture.t == window.frame.t
        gains.append(psnr(picture.image, window.frame.image) - psnr(before.frame.image, window.frame.image))
        likeness.append(ssim(picture.image, window.frame.image) - ssim(before.frame.image, window.frame.image))
    assert np.mean(gains[3:]) > 4
    assert min(gains) > 0
    assert np.mean(likeness[3:]) > 0.1


def test_a_prediction_does_not_look_at_the_frame_it_predicts(between):
    one, other = ready(Settings(frames=True)), ready(Settings(frames=True))
    for window in between[:5]:
        one.infer(window)
        other.infer(window)
    window = between[5]
    spoiled = replace(window, frame=replace(window.frame, image=255 - window.frame.image))
    (seen,), (blind,) = one.infer(window), other.infer(spoiled)
    assert np.array_equal(seen.image, blind.image)


def test_the_thresholds_are_found_from_the_frames(between):
    engine = ready(Settings(frames=True))
    for window in between:
        engine.infer(window)
    on, off = engine.contrast
    assert on == pytest.approx(0.22, rel=0.15)
    assert off == pytest.approx(0.27, rel=0.15)
    assert engine.facts == {"contrast": f"{on:.2f}/{off:.2f}"}


def test_on_and_off_are_balanced_where_there_are_no_frames(exposures):
    engine = ready()
    for each in exposures:
        engine.infer(each.window)
    on, off = engine.contrast
    assert off / on == pytest.approx(0.27 / 0.22, rel=0.07)


def test_thresholds_that_are_given_are_used(exposures):
    engine = ready(Settings(contrast_on=0.3, contrast_off=0.1))
    engine.infer(exposures[0].window)
    assert engine.contrast == (0.3, 0.1)


def test_a_constant_scene_becomes_the_frame_whatever_was_there_before(between):
    engine = ready(Settings(frames=True, cutoff_hz=5, correction=0))
    for window in between[:8]:
        engine.infer(window)
    still = np.random.default_rng(0).integers(20, 230, SIZE[::-1]).astype(np.uint8)
    t = between[8].t_start
    errors = []
    for _ in range(40):
        (picture,) = engine.infer(empty(t, t + 20_000, Frame(still, t + 20_000)))
        t += 20_000
        errors.append(np.abs(picture.image.astype(int) - still).mean())
    assert errors[1] > 0.5  # what events said before is not forgotten at once
    assert errors[10] < errors[1] / 3
    assert np.abs(picture.image.astype(int) - still).max() <= 1


def test_an_error_falls_towards_the_frame_with_the_cutoff():
    """dL/dt = -a (L - log frame): an event that was noise is forgotten as exp(-a t)."""
    grey, hz = 100, 2.0
    engine = ready(Settings(frames=True, cutoff_hz=hz, contrast_on=0.5, contrast_off=0.5, clean=0), size=(32, 24))
    image = np.full((24, 32), grey, np.uint8)
    engine.infer(empty(0, 1000, Frame(image, 1000)))
    engine.infer(Window(1000, 2000, 1, events=pack(Events([1999], [7], [5], [1])), frame=None))
    offset = 0.012 * 255
    for k in range(1, 6):
        (picture,) = engine.infer(empty(2000 + 50_000 * (k - 1), 2000 + 50_000 * k))
        level = 0.5 * math.exp(-2 * math.pi * hz * 0.05 * k)
        assert picture.image[5, 7] == pytest.approx((grey + offset) * math.exp(level) - offset, abs=0.6)
        assert (np.delete(picture.image, 5 * 32 + 7) == grey).all()


def test_where_a_frame_is_black_or_white_events_last_longer():
    engine = ready(Settings(frames=True, cutoff_hz=5, contrast_on=0.3, contrast_off=0.3), size=(32, 24))
    image = np.full((24, 32), 128, np.uint8)
    image[:, 16:] = 255
    engine.infer(empty(0, 1000, Frame(image, 1000)))
    y, x = np.mgrid[:24, :32]
    darker = Events(np.full(x.size, 1500), x.ravel(), y.ravel(), np.zeros(x.size))
    engine.infer(Window(1000, 2000, x.size, events=pack(darker)))
    (picture,) = engine.infer(empty(2000, 102_000))
    assert np.abs(picture.image[:, :14].astype(int) - 128).max() <= 2
    assert picture.image[:, 18:].max() < 210


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("colour", [False, True])
def test_frames_of_every_kind_come_out_as_their_own_kind(dtype, colour):
    engine = ready(Settings(frames=True, pictures_per_frame=3), size=(32, 24))
    shape = (24, 32, 3) if colour else (24, 32)
    image = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    (first,) = engine.infer(empty(0, 1000, Frame(image, 1000)))
    assert first.flags & FrameFlag.PASSED_THROUGH
    pictures = engine.infer(empty(1000, 31_000, Frame(image, 31_000)))
    assert [picture.t for picture in pictures] == [11_000, 21_000, 31_000]
    for picture in pictures:
        assert picture.source == "complementary"
        assert picture.image.dtype == dtype
        assert np.array_equal(picture.image, image)


def test_pictures_between_frames_move_on_with_the_events(between):
    engine = ready(Settings(frames=True, pictures_per_frame=4))
    for window in between[:6]:
        engine.infer(window)
    pictures = engine.infer(between[6])
    apart = [psnr(picture.image, between[6].frame.image) for picture in pictures]
    assert apart == sorted(apart)
    assert apart[-1] > apart[0] + 2


@pytest.mark.parametrize("kind", ALONE)
def test_without_events_the_picture_fades_to_one_grey(exposures, kind):
    engine = ready(kind=kind)
    for each in exposures[:10]:
        (picture,) = engine.infer(each.window)
    assert picture.image.std() > 20
    t = exposures[9].window.t_end
    for k in range(100):
        (picture,) = engine.infer(empty(t + 40_000 * k, t + 40_000 * (k + 1)))
    assert picture.image.std() < 1


@pytest.mark.parametrize("settings", [Settings(), Settings(frames=True)])
def test_after_a_reset_nothing_of_before_is_left(between, settings):
    fresh, used = ready(settings), ready(settings)
    for window in between[:6]:
        used.infer(window)
    used.reset()
    for window in between[6:12]:
        for a, b in zip(fresh.infer(window), used.infer(window), strict=True):
            assert np.array_equal(a.image, b.image)
            assert a.flags == b.flags


def test_hot_pixels_do_not_show_and_do_not_dim_the_rest(exposures):
    random = np.random.default_rng(2)
    calm, hot = ready(), ready()
    x, y = random.integers(0, SIZE[0], 60), random.integers(0, SIZE[1], 60)
    for each in exposures[:15]:
        window = each.window
        (clean,) = calm.infer(window)
        n = 60 * 400  # 20 kHz each
        t = np.sort(random.integers(window.t_start, window.t_end, n))
        which = random.integers(0, 60, n)
        own = unpack(window.events)
        columns = [np.concatenate(pair) for pair in ((own.t, t), (own.x, x[which]), (own.y, y[which]))]
        columns.append(np.concatenate([own.p, np.ones(n, np.uint8)]))
        order = np.argsort(columns[0], kind="stable")
        events = Events(*(column[order] for column in columns))
        (burnt,) = hot.infer(replace(window, events=pack(events), n_events=len(events)))
    assert hot.contrast == pytest.approx(calm.contrast, rel=0.05)
    off = np.abs(burnt.image.astype(int) - clean.image)
    assert off.mean() < 4
    assert (off > 60).mean() < 0.004


@pytest.mark.parametrize("by", [{"by": "time", "length_us": 7000}, {"by": "mixed", "length_us": 9000, "events": 3000}])
def test_pictures_do_not_depend_on_how_packets_were_cut(exposures, by):
    events = Events.concatenate([unpack(each.window.events) for each in exposures[:6]])
    runs = []
    for seed in (0, 1):
        cuts = np.sort(np.random.default_rng(seed).integers(0, len(events), 40))
        runs.append(replay(events, [0, *cuts.tolist(), len(events)], by))
    assert len(runs[0]) == len(runs[1]) > 10
    for a, b in zip(*runs, strict=True):
        assert a.t == b.t
        assert np.array_equal(a.image, b.image)


def replay(events, cuts, by):
    engine = Engine()
    windows, stage = WindowStage(WindowSettings(**by), engine.spec), EngineStage(engine)
    stage.open(windows.open([StreamInfo("camera/events", SIZE)]))
    made = []
    for seq, (i, j) in enumerate(itertools.pairwise(cuts)):
        body = events[i:j]
        if not len(body):
            continue
        packet = Packet("camera/events", seq, int(body.t[0]), int(body.t[-1]), 0, body)
        for window in windows.process(packet):
            made += [each.body for each in stage.process(window) if isinstance(each.body, Frame)]
    return made


def test_a_window_of_another_size_is_refused_and_the_next_is_taken(exposures):
    engine = ready()
    before = [engine.infer(each.window)[0].image for each in exposures[:3]]
    outside = Window(60_000, 61_000, 1, events=pack(Events([60_500], [SIZE[0]], [0], [1])))
    with pytest.raises(InputError, match="160x128"):
        engine.infer(outside)
    assert engine.infer(exposures[3].window)[0].image.shape == before[0].shape


@pytest.mark.parametrize("image", [np.zeros((128, 160), np.float32), np.zeros((64, 80), np.uint8)])
def test_a_frame_that_does_not_fit_is_refused(image):
    with pytest.raises(InputError, match="160x128"):
        ready(Settings(frames=True)).infer(empty(0, 1000, Frame(image, 1000)))


def test_frames_are_asked_for_only_where_they_are_used():
    assert not Engine().spec.needs_frame
    assert Engine(Settings(frames=True)).spec.needs_frame
    assert Engine().spec.representation == Leaky().spec.representation == "events"
