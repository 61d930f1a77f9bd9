"""Real recordings, as a user would open them. Gradient energy: mean squared gradient of the picture."""

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

import rtpipe
from engines.edi import Engine
from rtpipe.packing import pack
from rtpipe.types import Array, Frame, FrameFlag, Window
from tests.engines.scene import energy


def windows(path: Path, most: int) -> Iterator[Window]:
    recording = rtpipe.open(path)
    for k, frame in enumerate(recording.frames()):
        if k == most:
            break
        assert frame.exposure_start is not None
        assert frame.exposure_end is not None
        events = recording.events(frame.exposure_start, frame.exposure_end)
        yield Window(frame.exposure_start, frame.exposure_end, len(events), events=pack(events), frame=frame)
    recording.close()


def deblurred(path: Path, most: int) -> tuple[Engine, list[tuple[Frame, Frame]]]:
    engine, pairs = Engine(), []
    for window in windows(path, most):
        (frame,) = engine.infer(window)
        assert window.frame is not None
        pairs.append((window.frame, frame))
    return engine, pairs


def specks(image: Array) -> int:
    """Pixels that stand out from every one of their eight neighbours by more than 16 grey values."""
    grey = image.astype(np.int16)
    ring = np.ones((3, 3), np.uint8)
    ring[1, 1] = 0
    return int(np.sum((grey > cv2.dilate(grey, ring) + 16) | (grey < cv2.erode(grey, ring) - 16)))


def test_camerashake_becomes_sharp_enough_to_read(shared: Callable[[str], Path]) -> None:
    path = shared("recordings/layouts/reblur_camerashake.h5")
    engine, pairs = deblurred(path, 20)
    ratios = [energy(sharp.image) / energy(blurred.image) for blurred, sharp in pairs[5:]]
    assert np.mean(ratios) > 1.5
    on, off = engine.contrast
    assert 0.18 < on < 0.33
    assert 0.18 < off < 0.33
    assert sum(specks(sharp.image) for _, sharp in pairs) < 0.5 * sum(specks(blurred.image) for blurred, _ in pairs)


def test_cups_lose_their_smear(shared: Callable[[str], Path]) -> None:
    """A highlight that the blur drew into a streak becomes a small star: brighter, on fewer pixels."""
    _, pairs = deblurred(shared("recordings/layouts/reblur_cups.h5"), 6)
    blurred, sharp = pairs[4]
    assert energy(sharp.image) > 1.2 * energy(blurred.image)
    star_before, star_after = (frame.image[158:178, 32:50].astype(int) for frame in (blurred, sharp))
    assert star_after.max() > 1.3 * star_before.max()


@pytest.mark.parametrize("name", ["davis346_ball_throw", "davis346_highway"])
def test_short_exposures_are_not_made_worse(shared: Callable[[str], Path], name: str) -> None:
    _, pairs = deblurred(shared(f"recordings/aedat4/{name}.aedat4"), 12)
    for blurred, sharp in pairs:
        if sharp.flags & FrameFlag.PASSED_THROUGH:
            assert np.array_equal(sharp.image, blurred.image)
        assert 0.95 < energy(sharp.image) / energy(blurred.image) < 1.1
        assert np.mean(np.abs(sharp.image.astype(int) - blurred.image) > 40) < 0.002
    assert any(not sharp.flags & FrameFlag.PASSED_THROUGH for _, sharp in pairs)
