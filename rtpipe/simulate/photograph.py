"""Where the picture comes from: a photograph that scikit-image ships, or any picture file, as linear light."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import cv2
import numpy as np

from rtpipe.errors import InputError
from rtpipe.types import Array

SHIPPED = {
    "astronaut": "astronaut.png",
    "camera": "camera.png",
    "chelsea": "chelsea.png",
    "coffee": "coffee.png",
    "motorcycle": "motorcycle_left.png",
    "rocket": "rocket.jpg",
}
"""Photographs in scikit-image's wheel (no download), by name."""

DEFAULT = "astronaut"
"""The demo's: a face, lettering, cloth and sky."""

SMALLEST = 32
"""A picture must have at least this many pixels on each side."""
_LARGEST_SIDE = 4096
_WHITE_PERCENTILE = 99.5


def find(source: str | Path) -> Path:
    """The file that ``source`` names: a path, or a name in :data:`SHIPPED`.

    Raises ``InputError`` where there is no such file, or scikit-image is not installed.
    """
    path = Path(source)
    if path.is_file():
        return path
    names = ", ".join(SHIPPED)
    if str(source) not in SHIPPED:
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(f"{source}: {kind}; give a picture, a video, or one of: {names}")
    package = importlib.util.find_spec("skimage")  # found without importing it, which takes a second
    if package is None or package.origin is None:
        raise InputError(f"{source}: comes with scikit-image, which is not installed: pip install 'rtpipe[demo]'")
    shipped = Path(package.origin).parent / "data" / SHIPPED[str(source)]
    if not shipped.is_file():
        raise InputError(f"{source}: this scikit-image does not ship it ({shipped}); give a picture file instead")
    return shipped


def read(path: Path) -> Array | None:
    """The picture in ``path`` as linear light, float32 (H, W), white (the 99.5th percentile) at 1.

    None where the file is no picture that OpenCV decodes. Raises ``InputError`` for one that is too small or all black.
    """
    try:
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR_BGR)
    except cv2.error as error:  # more pixels than OpenCV takes
        raise InputError(f"{path}: cannot be read as a picture: {error.err}") from error
    if picture is None:
        return None
    side = max(picture.shape)
    if side > _LARGEST_SIDE:  # far more than any sensor sees, and floats are large
        ratio = _LARGEST_SIDE / side
        picture = cv2.resize(picture, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA)
    light = linear(picture)
    check_size(path, light)
    white = float(np.percentile(light, _WHITE_PERCENTILE))
    if white <= 0:
        raise InputError(f"{path}: is all black; an event camera would see nothing")
    return light / np.float32(white)


def check_size(path: Path, light: Array) -> None:
    """Raises ``InputError`` where a picture has fewer than :data:`SMALLEST` pixels on a side."""
    height, width = light.shape[:2]
    if min(height, width) < SMALLEST:
        raise InputError(f"{path}: {width}x{height} is too small; at least {SMALLEST} pixels on each side are wanted")


def linear(picture: Array) -> Array:
    """Luminance, linear in light, 0 to 1, of an sRGB picture: uint8 (H, W, 3) BGR to float32 (H, W)."""
    code = np.arange(256) / 255
    curve = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4).astype(np.float32)
    weights = np.array([0.0722, 0.7152, 0.2126], np.float32)
    light: Array = curve[picture] @ weights
    return light
