"""PIE-Net as an engine: silence does not spoil its picture, dim pictures are lifted, state ends where time jumps."""

import msgspec
import numpy as np
import pytest

from engines.pienet import NETWORK, Settings
from engines.pienet.finish import Finisher
from engines.pienet.prepare import Preparer
from rtpipe.engine import load_engine
from rtpipe.errors import InputError, WorldError
from rtpipe.types import FrameFlag, Window

SIZE = WIDTH, HEIGHT = 64, 48
PIXELS = WIDTH * HEIGHT


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(autouse=True)
def weights(kept, monkeypatch):
    monkeypatch.setenv("RTPIPE_WEIGHTS", str(kept))
    NETWORK.import_packaged()


def made(**settings):
    engine = load_engine("pienet", **settings)
    engine.warm(SIZE)
    return engine


def window(at, seed=None, events=None, flags=FrameFlag.NONE):
    """25 ms from ``at``; without a seed nothing happened."""
    grid = np.zeros((5, HEIGHT, WIDTH), np.float32)
    if seed is not None:
        random = np.random.default_rng(seed)
        events = events or PIXELS // 4
        cells = (random.integers(0, side, events) for side in grid.shape)
        np.add.at(grid, tuple(cells), random.choice([-1, 1], events).astype(np.float32))
    return Window(at, at + 25_000, events or 0, grid, flags=flags)


def test_a_picture_for_each_window_from_the_first_events_on():
    engine = made()
    assert engine.infer(window(0)) == ()
    (first,) = engine.infer(window(25_000, 1, flags=FrameFlag.INCOMPLETE))
    (second,) = engine.infer(window(50_000, 2))
    assert (first.t, second.t) == (50_000, 75_000)
    assert first.flags is FrameFlag.INCOMPLETE
    assert first.source == "pienet"
    assert first.image.dtype == np.uint8
    assert first.image.shape == (HEIGHT, WIDTH)
    assert first.image.std() > 3
    assert not np.array_equal(first.image, second.image)


def test_pictures_are_the_engine_s_to_give_and_the_receiver_s_to_keep():
    engine = made()
    (first,) = engine.infer(window(0, 1))
    kept = first.image.copy()
    first.image[:] = 7
    (held,) = engine.infer(window(25_000))
    assert np.array_equal(held.image, kept)
    engine.infer(window(50_000, 2))
    assert np.array_equal(held.image, kept)


def test_through_silence_the_picture_stands_still_and_the_network_does_not_step():
    engine, without = made(), made()
    (shown,) = engine.infer(window(0, 1))
    without.infer(window(0, 1))
    for step in range(1, 41):
        (held,) = engine.infer(window(step * 25_000, flags=FrameFlag.INCOMPLETE))
        assert held.t == (step + 1) * 25_000
        assert held.flags is FrameFlag.INCOMPLETE
        assert np.array_equal(held.image, shown.image)
    after, never_silent = engine.image(window(2_000_000, 2)), without.image(window(25_000, 2))
    assert np.array_equal(after, never_silent)


def test_events_of_quiet_windows_are_added_to_the_next_step():
    engine, together = made(quiet=100), made(quiet=100)
    for each in (engine, together):
        each.infer(window(0, 1))
    for first in (1, 4):  # twice: what was gathered is used once
        start = first * 25_000
        parts = [window(start + 25_000 * step, first + step, events=PIXELS // 25) for step in range(3)]
        pictures = [engine.infer(part) for part in parts[:2]]
        assert np.array_equal(pictures[0][0].image, pictures[1][0].image)
        everything = Window(start, start + 75_000, 3 * (PIXELS // 25), sum(part.tensor for part in parts))
        assert np.abs(engine.image(parts[2]) - together.image(everything)).max() < 1e-6


def test_with_quiet_0_one_event_is_a_step():
    engine = made(quiet=0)
    engine.infer(window(0, 1))
    assert engine.image(window(25_000)) is None
    assert engine.image(window(50_000, 2, events=1)) is not None


def test_after_a_reset_everything_begins_anew():
    engine = made(quiet=100)
    first = [engine.infer(window(25_000 * step, step))[0].image for step in (1, 2, 3)]
    engine.infer(window(100_000, 4, events=10))  # gathered, and forgotten
    engine.reset()
    assert engine.infer(window(0)) == ()
    gathered = [window(0, 5, events=PIXELS // 15), window(0, 6, events=PIXELS // 15)]
    engine.infer(gathered[0])
    engine.reset()
    assert engine.infer(gathered[0]) == ()
    both = Window(0, 25_000, 2 * (PIXELS // 15), gathered[0].tensor + gathered[1].tensor)
    assert np.array_equal(engine.image(gathered[1]), made(quiet=100).image(both))
    engine.reset()
    again = [engine.infer(window(25_000 * step, step))[0].image for step in (1, 2, 3)]
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))


def test_an_image_that_is_no_number_is_said_once_and_the_state_begins_anew():
    engine = made()
    (fresh,) = engine.infer(window(0, 1))
    engine.infer(window(25_000, 2))
    broken = window(50_000, 3)
    broken.tensor[0, 0, 0] = np.nan
    with pytest.raises(WorldError, match="not finite"):
        engine.infer(broken)
    assert engine.infer(window(75_000)) == ()
    assert np.array_equal(engine.infer(window(0, 1))[0].image, fresh.image)


def test_what_does_not_fit_is_refused():
    engine = made()
    with pytest.raises(InputError, match="voxel grid of"):
        engine.infer(Window(0, 1, 1, np.zeros((4, HEIGHT, WIDTH), np.float32)))
    with pytest.raises(InputError, match="voxel grid of"):
        engine.infer(Window(0, 1, 1, np.zeros((5, HEIGHT, WIDTH))))
    with pytest.raises(InputError, match="64x19: too small"):
        engine.warm((64, 19))
    with pytest.raises(InputError, match="PyTorch cannot run"):
        made(runtime="torch", device="cpu")


def test_the_variant_names_the_weights_unless_they_are_named():
    assert made().facts["weights"] == "pienet-lite"
    assert made(variant="full").facts["weights"] == "pienet-full"
    assert made(variant="full", weights="pienet-lite").facts["weights"] == "pienet-lite"
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"variant": "heavy"}, Settings)


def test_grids_come_as_they_are_without_a_copy():
    preparer = Preparer(SIZE, 1.0)
    grid = window(0, 1)
    assert np.shares_memory(preparer.prepare(grid.tensor, grid.n_events), grid.tensor)


def image_of(bright, dark=0.0):
    image = np.full((1, 1, HEIGHT, WIDTH), dark, np.float32)
    image[..., : WIDTH // 2] = bright
    return image


def test_a_bright_picture_is_the_image_rounded_to_8_bits():
    for brightness, bright in ((0.6, 0.7), (0.0, 0.1)):
        image = np.linspace(0, bright, PIXELS, dtype=np.float32).reshape(1, 1, HEIGHT, WIDTH)
        image[..., -1, :] = bright
        picture = Finisher(brightness).finish(image, 0)
        assert np.array_equal(picture, np.rint(image[0, 0] * np.float32(255)).astype(np.uint8))


def test_a_dim_picture_is_lifted_and_the_scene_is_followed_slowly():
    finisher = Finisher(0.6)
    assert abs(int(finisher.finish(image_of(0.2), 25_000).max()) - 153) <= 3
    glaring = image_of(0.2)
    glaring[..., 0, :8] = 1
    assert abs(int(finisher.finish(glaring, 25_000)[5, 5]) - 153) <= 3, "a few glaring pixels do not count"
    for _ in range(30):
        finisher.finish(image_of(0.2), 25_000)
    gains = []
    for _ in range(80):
        finisher.finish(image_of(0.8), 25_000)
        gains.append(finisher.gain)
    assert gains[0] > 2.2, "no flicker"
    assert gains == sorted(gains, reverse=True)
    assert gains[-1] == 1
    finisher.reset()
    assert finisher.finish(image_of(0.01), 25_000).max() <= 11, "noise in the dark is not blown up"
