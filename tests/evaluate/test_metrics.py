"""Metrics agree with scikit-image's and with their definitions."""

import math

import numpy as np
import pytest

from rtpipe.evaluate import metrics


def pair(shape, seed=0, noise=20):
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    smooth = 128 + 90 * np.sin(x / 7) * np.cos(y / 11)
    a = smooth[..., None] if len(shape) == 3 else smooth
    a = np.broadcast_to(a, shape)
    b = a + random.normal(0, noise, shape)
    return np.clip(a, 0, 255).astype(np.uint8), np.clip(b, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("shape", [(60, 80), (11, 11), (37, 52, 3)])
@pytest.mark.parametrize("noise", [2, 40])
def test_ssim_and_psnr_are_scikit_images(shape, noise):
    peer = pytest.importorskip("skimage.metrics")
    a, b = pair(shape, noise=noise)
    theirs = peer.structural_similarity(
        a,
        b,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        channel_axis=2 if len(shape) == 3 else None,
    )
    assert metrics.ssim(a, b) == pytest.approx(theirs, abs=1e-9)
    assert metrics.psnr(a, b) == pytest.approx(peer.peak_signal_noise_ratio(a, b, data_range=255), abs=1e-9)
    assert metrics.mse(a, b) == pytest.approx(peer.mean_squared_error(a, b))


def test_equal_pictures_are_perfect():
    a, _ = pair((40, 40))
    assert metrics.psnr(a, a) == math.inf
    assert metrics.ssim(a, a) == pytest.approx(1)
    assert metrics.mse(a, a) == 0


def test_psnr_of_a_known_error():
    a = np.full((8, 8), 100, np.uint8)
    assert metrics.psnr(a, a + 10) == pytest.approx(20 * math.log10(25.5))
    assert metrics.psnr(a / 255, (a + 10) / 255, peak=1) == pytest.approx(20 * math.log10(25.5))
    assert metrics.mse(a, a - 100) == 10_000  # no uint8 wraps around


def test_gradient_energy_of_a_ramp_is_its_slope_squared_and_blur_lowers_it():
    y, x = np.mgrid[:30, :40]
    assert metrics.gradient_energy(3 * x + 4 * y) == pytest.approx(25)
    assert metrics.gradient_energy(np.repeat((3 * x + 4 * y)[..., None], 3, axis=2)) == pytest.approx(25)
    a, noisy = pair((60, 80))
    blurred = (a[:, 4:].astype(float) + a[:, :-4]) / 2
    assert metrics.gradient_energy(blurred) < metrics.gradient_energy(a) < metrics.gradient_energy(noisy)
    assert metrics.gradient_energy(np.full((9, 9), 200, np.uint8)) == 0


def test_pictures_that_cannot_be_compared_are_refused():
    a = np.zeros((20, 20), np.uint8)
    for function in (metrics.mse, metrics.psnr, metrics.ssim):
        with pytest.raises(ValueError, match="one shape"):
            function(a, np.zeros((20, 21), np.uint8))
    with pytest.raises(ValueError, match="at least 11"):
        metrics.ssim(a[:10], a[:10])
    with pytest.raises(ValueError, match="at least 3"):
        metrics.gradient_energy(a[:2])
