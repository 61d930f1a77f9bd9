"""How alike two pictures are, and how sharp one is."""

from __future__ import annotations

import math

import cv2
import numpy as np

from rtpipe.types import Array

WINDOW = 11
"""Side of SSIM's window: no side of a picture may be shorter."""
_SIGMA = 1.5
_K1, _K2 = 0.01, 0.03


def mse(a: Array, b: Array) -> float:
    """Mean squared difference over all pixels and channels. Any dtype, equal shapes (``ValueError`` otherwise)."""
    _same_shape(a, b)
    return float(np.mean(np.square(a.astype(np.float64) - b.astype(np.float64))))


def psnr(a: Array, b: Array, peak: float = 255.0) -> float:
    """Peak signal-to-noise ratio in dB, over all pixels and channels, no border cut; inf for equal pictures."""
    error = mse(a, b)
    return math.inf if error == 0 else 10 * math.log10(peak * peak / error)


def ssim(a: Array, b: Array, peak: float = 255.0) -> float:
    """Structural similarity (Wang et al., IEEE TIP 2004) with the paper's Gaussian window of 11x11 and sigma 1.5,
    population variances, averaged over the places where the window lies inside, per channel, then over channels.

    (H, W) or (H, W, C), equal shapes, at least 11 pixels on each side (``ValueError`` otherwise).
    """
    _same_shape(a, b)
    if a.ndim not in (2, 3) or min(a.shape[:2]) < WINDOW:
        raise ValueError(f"SSIM needs (H, W) or (H, W, C) with sides of at least {WINDOW}, got {a.shape}")
    if a.ndim == 3:
        return float(np.mean([_ssim(a[..., c], b[..., c], peak) for c in range(a.shape[2])]))
    return _ssim(a, b, peak)


def gradient_energy(image: Array) -> float:
    """Mean squared length of the brightness gradient, by central differences over two pixels, border pixels left out:
    grows as blur goes, and also with noise. Of the mean of the channels; in squared units of the picture per pixel²."""
    grey = image.astype(np.float64)
    if grey.ndim == 3:
        grey = grey.mean(axis=2)
    if grey.ndim != 2 or min(grey.shape) < 3:
        raise ValueError(f"gradient energy needs (H, W) or (H, W, C) with sides of at least 3, got {image.shape}")
    across = (grey[1:-1, 2:] - grey[1:-1, :-2]) / 2
    down = (grey[2:, 1:-1] - grey[:-2, 1:-1]) / 2
    return float(np.mean(across * across + down * down))


def _ssim(a: Array, b: Array, peak: float) -> float:
    x, y = a.astype(np.float64), b.astype(np.float64)
    mean_x, mean_y = _windowed(x), _windowed(y)
    variance_x = _windowed(x * x) - mean_x * mean_x
    variance_y = _windowed(y * y) - mean_y * mean_y
    covariance = _windowed(x * y) - mean_x * mean_y
    c1, c2 = (_K1 * peak) ** 2, (_K2 * peak) ** 2
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    below = (mean_x * mean_x + mean_y * mean_y + c1) * (variance_x + variance_y + c2)
    return float(np.mean(above / below))


def _windowed(image: Array) -> Array:
    """The Gaussian-weighted mean about each pixel whose window lies inside."""
    cut = WINDOW // 2
    blurred: Array = cv2.GaussianBlur(image, (WINDOW, WINDOW), _SIGMA)
    return blurred[cut:-cut, cut:-cut]


def _same_shape(a: Array, b: Array) -> None:
    if a.shape != b.shape or a.size == 0:
        raise ValueError(f"two pictures of one shape are wanted, got {a.shape} and {b.shape}")
