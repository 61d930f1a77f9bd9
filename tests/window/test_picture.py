import numpy as np
import pytest

import rtpipe
from rtpipe.window.picture import Painter
from tests.window import slow


def counts(height=20, width=30):
    return np.zeros((2, height, width), np.float32)


def test_nothing_is_plain_background():
    for background, sides in (("dark", range(0, 40)), ("white", [255])):
        image = Painter(background).draw(counts())
        assert (image.dtype, image.shape) == (np.uint8, (20, 30, 3))
        assert len(np.unique(image.reshape(-1, 3), axis=0)) == 1
        assert set(np.unique(image)) <= set(sides)


@pytest.mark.parametrize("background", ["dark", "white"])
def test_on_is_warm_off_is_cold_and_more_events_are_stronger(background):
    c = counts()
    c[0, 2, 3], c[1, 4, 5], c[0, 6, 7], c[1, 8, 9] = 1, 1, 4, 4
    image = Painter(background).draw(c).astype(int)
    ground = image[0, 0]
    off, on, more_off, more_on = image[2, 3], image[4, 5], image[6, 7], image[8, 9]
    assert on[2] > on[0] + 30
    assert off[0] > off[2] + 30
    assert np.abs(more_on - ground).sum() > np.abs(on - ground).sum()
    assert np.abs(more_off - ground).sum() > np.abs(off - ground).sum()


def test_a_hot_pixel_does_not_dim_the_rest():
    c = counts(100, 100)
    c[1, :, ::4] = 3
    calm = Painter().draw(c)[1, 4].copy()
    c[1, 0, 0] = c[1, 50, 50] = 20_000
    np.testing.assert_array_equal(Painter().draw(c)[1, 4], calm)
    assert calm.max() > 230


def test_a_pixel_with_both_lies_between_the_colours():
    c = counts()
    c[0, 2, 3], c[1, 4, 5] = 4, 4
    c[:, 6, 7] = 2
    image = Painter().draw(c).astype(int)
    low, high = np.minimum(image[2, 3], image[4, 5]), np.maximum(image[2, 3], image[4, 5])
    assert (image[6, 7] >= low - 1).all()
    assert (image[6, 7] <= high + 1).all()


def test_every_picture_is_a_new_array():
    painter, c = Painter(), rtpipe.event_count(slow.extreme()["random"], resolution=slow.SMALL)
    assert painter.draw(c) is not painter.draw(c)
