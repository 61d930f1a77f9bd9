"""E2VID's post-processing against golden vectors, and what a user may choose of it."""

import numpy as np
import pytest

from engines.e2vid.finish import Finisher, blur
from engines.e2vid.prepare import margins
from rtpipe.errors import WorldError
from tests.engines.e2vid_golden import case, cases, resolution


def finisher(golden, padding="zeros", **chosen):
    width, height = resolution(golden)
    return Finisher((width, height), margins(height, padding)[0], margins(width, padding)[0], **chosen)


def off(picture, golden, slack):
    """Pixels that differ where no rounding of a float's last bit explains it."""
    return int(((picture != golden) & ~slack).sum())


@pytest.mark.parametrize("name", ["autohdr", "fixed", "fixed-nosharp-range"])
def test_pictures_and_bounds_are_the_golden_ones(shared, name):
    golden = case(shared, f"post-e2vid-{name}")
    black, white = map(float, golden["out_bounds"][0])
    tones = {"tones": "follow"} if golden["auto_hdr"] else {"tones": "fixed", "black": black, "white": white}
    made = finisher(golden, sharpen=float(golden["unsharp_amount"]), **tones)
    for k, image in enumerate(golden["in_images"]):
        picture = made.finish(image[None, None])
        assert np.abs(np.array(made.bounds) - golden["out_bounds"][k]).max() <= 1e-6
        assert off(picture, golden["out_u8"][k], golden["out_u8_slack"][k]) == 0
    assert golden["out_u8_slack"].mean() < 0.05, "else this test means little"


@pytest.mark.parametrize("pattern", ["e2vid-*", "firenet-[ab]"])
def test_the_golden_chains_end_in_the_golden_pictures(shared, pattern):
    for name, golden in cases(shared, pattern).items():
        made = finisher(golden, "none" if name.startswith("firenet") else "reflect")
        for k in range(3):
            picture = made.finish(golden[f"out_image{k}"])
            assert off(picture, golden[f"out_u8_{k}"], golden[f"out_u8_slack{k}"]) == 0, name
            assert np.abs(np.array(made.bounds) - golden[f"out_bounds{k}"]).max() <= 1e-6


def test_the_blur_is_the_published_kernel_and_flatter_than_a_gaussian(shared):
    golden = case(shared, "post-e2vid-fixed")["kernel"]
    assert np.abs(np.outer(blur(), blur()) - golden).max() < 1e-7
    gaussian = np.exp(-(np.arange(-2, 3) ** 2) / 2)
    assert blur()[0] > 2 * (gaussian / gaussian.sum())[0]


def test_an_image_is_not_changed_and_a_picture_is_the_callers_own():
    image = np.random.default_rng(0).random((24, 32)).astype(np.float32)
    before, made = image.copy(), Finisher((27, 20), 2, 3)
    first = made.finish(image)
    kept = first.copy()
    made.finish(1 - image)
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(first, kept)


def test_black_and_white_follow_over_eleven_images_and_a_reset_forgets_them():
    made = Finisher((8, 8), tones="follow", sharpen=0)
    dim, bright = np.full((8, 8), 0.2, np.float32), np.full((8, 8), 0.9, np.float32)
    made.finish(dim)
    for _ in range(5):
        made.finish(bright)
    assert made.bounds == pytest.approx((0.45, 0.9))
    made.reset()
    made.finish(dim)
    assert made.bounds == pytest.approx((0.2, 0.55))
    for _ in range(10):
        made.finish(dim)
    assert made.bounds == pytest.approx((0.2, 0.55))
    for _ in range(5):
        made.finish(bright)
    assert made.bounds == pytest.approx((0.2, 0.55)), "six of eleven are still dim"
    made.finish(bright)
    assert made.bounds == pytest.approx((0.45, 0.9))


def test_percentiles_are_of_the_cropped_unsharpened_image_and_fractions_are_rounded():
    random = np.random.default_rng(1)
    image = random.normal(0.5, 0.2, (24, 32)).astype(np.float32)
    image[:2], image[:, :3] = 40, -40  # margins must not count
    shown = image[2:22, 3:30]
    low, high = np.percentile(shown, (1, 99))
    wanted = np.round(255 * np.clip((shown - low) / (high - low), 0, 1))
    made = Finisher((27, 20), 2, 3, tones="percentiles", sharpen=0.3)
    picture = made.finish(image).astype(int)
    assert np.abs(picture - wanted).max() <= 1
    assert (picture != wanted).mean() < 0.002


def test_one_grey_gives_a_picture_and_no_number_gives_an_error():
    grey = np.full((8, 8), 0.3, np.float32)
    for tones in ("follow", "fixed", "percentiles"):
        assert np.ptp(Finisher((8, 8), tones=tones, sharpen=0).finish(grey)) == 0
    for bad in (np.nan, np.inf):
        image = grey.copy()
        image[3, 3] = bad
        with pytest.raises(WorldError, match="finite"):
            Finisher((8, 8)).finish(image)
