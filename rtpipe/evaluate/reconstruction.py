"""Scores of pictures made from events against the camera's own frames of the same instants.

Both pictures are made grey and scaled to 0..1 by the largest value of their dtype, nothing else; then three pairs of
numbers are taken, SSIM (:func:`rtpipe.evaluate.metrics.ssim`, peak 1) and mean squared error:

- as they are: the picture as it came against the frame as it was stored;
- matched: after the straight line a * picture + b that brings the picture nearest to the frame (least squares over the
  picture), cut to 0..1. Events do not tell absolute light: this takes exposure and contrast out of the comparison;
- equalised: both after local histogram equalisation (CLAHE, 8x8 tiles, clip limit 2, on 8 bits), as E2VID's authors
  compare. SSIM alone.

Every frame with an output within the tolerance counts, from the very first on; frames that the engine passed through
do not.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import msgspec
import numpy as np

from rtpipe.errors import InputError
from rtpipe.evaluate import metrics
from rtpipe.evaluate.truth import TOLERANCE_US, grey, triples
from rtpipe.types import Array, Frame, FrameFlag


class Agreement(msgspec.Struct, frozen=True):
    """How alike one picture and its frame are, or means over many. Squared errors are of values in 0..1."""

    ssim: float
    mse: float
    ssim_matched: float
    mse_matched: float
    ssim_equalised: float


class Agreements(msgspec.Struct, frozen=True):
    """The scores of a recording."""

    mean: Agreement
    instants: tuple[int, ...]
    """Times (µs) of the frames that were scored."""
    frames: tuple[Agreement, ...]
    missing: int
    """Frames for which no output came, or one that was passed through: not in the mean."""


def score(recording: str | Path, outputs: Iterable[Frame], tolerance_us: int = TOLERANCE_US) -> Agreements:
    """Score ``outputs`` (in order of time, else ``ValueError``; consumed one by one) against the camera's frames of
    ``recording``. Raises ``InputError`` where none meets a frame or their sizes differ."""
    instants: list[int] = []
    scored: list[Agreement] = []
    missing = 0
    for frame, output, _ in triples(recording, outputs, tolerance_us):
        if output is None or output.flags & FrameFlag.PASSED_THROUGH:
            missing += 1
            continue
        if output.resolution != frame.resolution:
            sizes = f"{output.resolution} and {frame.resolution}"
            raise InputError(f"{recording}: at {frame.t} µs output and frame differ in size: {sizes}")
        instants.append(frame.t)
        scored.append(agreement(output.image, frame.image))
    if not scored:
        raise InputError(f"{recording}: none of the outputs shows an instant ({tolerance_us} µs) of its frames")
    means = np.mean([msgspec.structs.astuple(each) for each in scored], axis=0)
    return Agreements(Agreement(*(float(mean) for mean in means)), tuple(instants), tuple(scored), missing)


def agreement(picture: Array, frame: Array) -> Agreement:
    """The scores of one picture against one frame, uint8 or uint16, grey or BGR, of one height and width
    (``ValueError`` otherwise), at least 11 pixels on each side."""
    made, stored = _unit(picture), _unit(frame)
    direct = metrics.ssim(made, stored, 1.0), metrics.mse(made, stored)
    matched = _matched(made, stored)
    clahe = cv2.createCLAHE(2.0, (8, 8))
    equal_made, equal_stored = (clahe.apply(np.rint(each * 255).astype(np.uint8)) for each in (made, stored))
    return Agreement(
        *direct,
        metrics.ssim(matched, stored, 1.0),
        metrics.mse(matched, stored),
        metrics.ssim(equal_made, equal_stored, 255.0),
    )


def _unit(picture: Array) -> Array:
    scaled: Array = grey(picture) / np.float64(np.iinfo(picture.dtype).max)
    return scaled


def _matched(picture: Array, frame: Array) -> Array:
    spread = float(np.var(picture))
    slope = float(np.mean((picture - picture.mean()) * (frame - frame.mean()))) / spread if spread else 0.0
    matched: Array = np.clip(frame.mean() + slope * (picture - picture.mean()), 0, 1)
    return matched
